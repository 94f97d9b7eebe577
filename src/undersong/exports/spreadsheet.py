"""Export to CSV that a spreadsheet may open: no cell becomes a formula."""

from pathlib import Path

import polars as pl

from undersong.exports.place import placing
from undersong.exports.rows import Rows

# What spreadsheets take for a formula, also after spaces and in full width, and the control
# characters that let one begin in the next cell. A quote before it is doubled, so that taking one
# away gives back the text.
FORMULA = r"^'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])"


def safe(text: pl.Expr) -> pl.Expr:
    """Put ' before text that a spreadsheet would calculate; other text stays as it is.

    Numbers in a column of numbers are no text. To read back, take the first ' off every cell that
    has one or more of them and then ``=``, ``+``, ``-``, ``@``, a tab or a line break.

    Source: OWASP, CSV Injection.
    """
    return text.str.replace(FORMULA, "'${0}")


def write_vectors(rows: Rows, out: Path, *, force: bool = False) -> None:
    """Write one line per item: what is known of it, then columns v0, v1, ... of its vector.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.
    """
    vector = [pl.col("vector").arr.get(x).alias(f"v{x}") for x in range(rows.width)]
    with placing(out, rows.origin | {"target": "csv"}, force=force) as (temporary,):
        write_csv(rows.frame.with_columns(vector).drop("vector"), temporary)


def write_csv(table: pl.LazyFrame, path: Path) -> None:
    """Write a table as CSV: UTF-8 with a mark that spreadsheets look for, all text in quotes.

    Several words of one item are joined with "; ". What is not known is an empty cell.
    """
    schema = table.collect_schema()
    joined = [pl.col(x).list.join("; ") for x, type_ in schema.items() if type_ == pl.List]
    words = [safe(pl.col(x)) for x, type_ in schema.items() if type_ in (pl.String, pl.List)]
    table.with_columns(joined).with_columns(words).sink_csv(
        path, include_bom=True, quote_style="non_numeric", check_extension=False
    )
