"""CSV for spreadsheets: no cell is a formula, and nothing commands a terminal that shows it.

And as spreadsheets write it: parted by comma, semicolon or tab, with a line ``sep=;`` above.
"""

import re
from pathlib import Path

import polars as pl

from undersong.io.plain import COMMANDS, harmless

# What spreadsheets take for a formula, also after spaces and in full width, and the control
# characters that let one begin in the next cell. A quote before it is doubled, so that taking one
# away gives back the text.
FORMULA = r"^'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])"
ESCAPES = {x: harmless(x) for x in map(chr, range(0x2070)) if COMMANDS.match(x) and x != "\r"}

DELIMITERS = ",;\t"
SEPARATOR = re.compile(r"(?:\ufeff)?sep=(.)\s*$", re.I)  # what Excel writes above a table
UNSEEN = "[\u00ad\u200b\u2060\ufeff]"  # they come along when text is copied from a page
SPACES = "[\u00a0\u2007\u202f]"  # that do not break a line


def delimiter_of(first_line: str) -> str:
    """Return what parts the values of a table that begins with a line."""
    named = SEPARATOR.match(first_line)
    return named[1] if named else max(DELIMITERS, key=first_line.count)


def seen(text: pl.Expr) -> pl.Expr:
    """Return text without what cannot be seen or was put before a formula (``safe``)."""
    plain = text.str.replace_all(UNSEEN, "").str.replace_all(SPACES, " ").str.strip_chars()
    return plain.str.replace(rf"^'({FORMULA[1:]})", "${1}")


def write_csv(table: pl.LazyFrame, path: Path) -> None:
    """Write a table as CSV: UTF-8 with a mark that spreadsheets look for, all text in quotes.

    Several words of one item are joined with "; ". What is not known is an empty cell. Control
    characters are escaped, but for tabs and line breaks.
    """
    schema = table.collect_schema()
    joined = [pl.col(x).list.join("; ") for x, type_ in schema.items() if type_ == pl.List]
    words = [safe(pl.col(x)) for x, type_ in schema.items() if type_ in (pl.String, pl.List)]
    table.with_columns(joined).with_columns(words).sink_csv(
        path, include_bom=True, quote_style="non_numeric", check_extension=False
    )


def safe(text: pl.Expr) -> pl.Expr:
    """Put ' before text that a spreadsheet would calculate, and escape what commands a terminal.

    Numbers in a column of numbers are no text. To read back, take the first ' off every cell that
    has one or more of them and then ``=``, ``+``, ``-``, ``@``, a tab or a line break.

    Source: OWASP, CSV Injection.
    """
    return text.str.replace_many(ESCAPES).str.replace(FORMULA, "'${0}")
