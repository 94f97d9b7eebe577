"""Tables in files: Parquet, whose metadata names the format, and CSV for spreadsheets.

A format is the metadata that marks a file: ``{"undersong.embeddings": "1"}``. In CSV no cell is a
formula, and nothing commands a terminal that shows it. CSV is read as spreadsheets write it:
parted by comma, semicolon or tab, with a line ``sep=;`` above.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from undersong.errors import ArtifactError, UndersongError
from undersong.io.display import COMMANDS, harmless
from undersong.io.files import check_format, reading, replacing

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


PolarsError = pl.exceptions.PolarsError
# What polars raises of a damaged file, which ends some of its readers.
DAMAGE = (PolarsError, pl.exceptions.PanicException)


def write_table(
    path: Path, table: pl.DataFrame | pl.LazyFrame, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a table, and the metadata that names its format.

    One that is still to be read, from other files, is read and written in parts.
    """
    with writing_tables({path: table}, metadata=metadata):
        pass


@contextmanager
def writing_tables(
    tables: Mapping[Path, pl.DataFrame | pl.LazyFrame], *, metadata: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Write tables that take their places at the end of the block; not if it raises."""
    with ExitStack() as stack:
        for path, table in tables.items():
            temporary = stack.enter_context(replacing(path))
            table.lazy().sink_parquet(temporary, metadata=dict(metadata or {}))
        yield


def read_table(
    path: Path,
    *,
    hint: str,
    metadata: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    fault: str = "cannot be read",
    error: type[UndersongError] = ArtifactError,
) -> pl.DataFrame:
    """Read a table.

    Parameters
    ----------
    hint : what to do about a file that is refused
    metadata : what its own must hold, the number of its format
    columns : to read, where not all are wanted
    fault, error : as for ``undersong.io.files.reading``

    Raises
    ------
    ArtifactError
        If the file is absent, damaged, of another format, or lacks a column.
    """
    if metadata:
        written = read_metadata(path, hint=hint, fault=fault, error=error)
        for key, version in metadata.items():
            check_format(path, written.get(key), version, hint=hint)
    with reading(path, *DAMAGE, hint=hint, fault=fault, error=error):
        return pl.read_parquet(path, columns=list(columns) if columns else None)


def scan_table(
    path: Path,
    *,
    hint: str,
    fault: str = "cannot be read",
    error: type[UndersongError] = ArtifactError,
) -> pl.LazyFrame:
    """Open a table without reading its rows; arguments and errors as for ``read_table``."""
    with reading(path, *DAMAGE, hint=hint, fault=fault, error=error):
        table = pl.scan_parquet(path, glob=False)
        table.collect_schema()
    return table


def read_metadata(
    path: Path,
    *,
    hint: str,
    fault: str = "cannot be read",
    error: type[UndersongError] = ArtifactError,
) -> dict[str, str]:
    """Read the metadata of a table; arguments and errors as for ``read_table``."""
    with reading(path, *DAMAGE, hint=hint, fault=fault, error=error):
        return pl.read_parquet_metadata(path)


def content_sum(table: pl.DataFrame) -> str:
    """Return the sha256 of what a table holds, whatever version of polars writes its file.

    Its columns are of text, numbers, and lists of numbers.
    """
    digest = hashlib.sha256()
    for column in table:
        digest.update(f"{column.name}\n".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        values = column
        if column.dtype == pl.List:
            digest.update(column.list.len().fill_null(0).to_numpy().tobytes())
            values = column.filter(column.list.len() > 0).explode()
        if column.dtype == pl.String:
            digest.update(json.dumps(values.to_list()).encode())
        else:
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


def read_user_table(path: Path) -> pl.DataFrame:
    """Read a table of the user's own: Parquet, or else CSV with every value as text.

    CSV may be as spreadsheets write it (``csv_files``). Raises what polars raises, and
    UnicodeDecodeError; the caller says what the table was to be (``reading``).
    """
    if path.suffix.lower() == ".parquet":
        return pl.read_parquet(path)
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    table = pl.read_csv(
        path,
        infer_schema=False,
        separator=delimiter_of(first),
        skip_lines=int(SEPARATOR.match(first) is not None),
    )
    table = table.rename(lambda x: x.strip().lstrip("\ufeff"))
    return table.with_columns(pl.when(seen(pl.all()) != "").then(seen(pl.all())))
