"""What people see: text that commands no terminal or log, tables of answers, and figures."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from undersong.errors import UndersongError, needs

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def html_table(frame: "pl.DataFrame", *, above: str = "", below: str = "") -> str:
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


def to_pandas(frame: "pl.DataFrame") -> Any:
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


# What commands a terminal, breaks a line, or turns the direction of writing around; half letters.
CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
COMMANDS = re.compile(f"[{CONTROL}\ud800-\udfff]")
BREAKS = re.compile(f"[\t\n{CONTROL}\ud800-\udfff]")


def one_line(text: str) -> str:
    """Return a name or another text from a file in one line, with what commands escaped."""
    return BREAKS.sub(_escape, text)


def harmless(text: str) -> str:
    """Return lines of text with what commands escaped."""
    return COMMANDS.sub(_escape, text)


def harmless_json(text: str) -> str:
    """Return JSON with what commands escaped, so that it means the same."""
    return COMMANDS.sub(lambda x: f"\\u{ord(x[0]):04x}", text)


def text_of(lines: Iterable[str]) -> str:
    """Join lines, each with names in it from files, to a text for people."""
    return "\n".join(map(one_line, lines))


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


@contextmanager
def new_figure(width: float, height: float) -> Iterator["Figure"]:
    """Make an empty figure, in inches, to be drawn and saved within the block.

    matplotlib's own defaults hold there: otherwise a file ``matplotlibrc`` in the working folder,
    which may be a stranger's, would say how to draw, and which programs to call for it.

    Raises
    ------
    UndersongError
        If matplotlib is not installed.
    """
    with needs("plot", "drawing"):
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
