"""Tables of answers as people see them: in a notebook, and as pandas."""

from html import escape
from importlib import import_module
from typing import Any

import polars as pl

from undersong.errors import UndersongError


def html_table(frame: pl.DataFrame, *, above: str = "", below: str = "") -> str:
    """Return a table as HTML, escaped, with a line of text above and one below it."""
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(x))}</td>' for x in row)}</tr>"
        for row in frame.iter_rows()
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    before, after = (
        "".join(f"<p>{escape(line)}</p>" for line in text.splitlines()) for text in (above, below)
    )
    return f"<div>{before}{table if len(frame) else ''}{after}</div>"


def to_pandas(frame: pl.DataFrame) -> Any:
    """Return the same table as pandas, which needs no pyarrow for that.

    Raises
    ------
    UndersongError
        If pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ModuleNotFoundError as error:
        raise UndersongError(
            "to_pandas() needs pandas; pip install pandas, or use .frame(), a polars table"
        ) from error
    return pandas.DataFrame(frame.to_dict(as_series=False))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
