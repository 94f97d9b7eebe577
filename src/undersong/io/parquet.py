"""Tables in Parquet files, whose metadata names their format.

A format is the metadata that marks a file: ``{"undersong.embeddings": "1"}``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from undersong.errors import ArtifactError, UndersongError
from undersong.io.csv_files import SEPARATOR, delimiter_of, seen
from undersong.io.files import check_format, reading, replacing

PolarsError = pl.exceptions.PolarsError
# What polars raises of a damaged file, which ends some of its readers.
DAMAGE = (PolarsError, pl.exceptions.PanicException)


def write_table(
    path: Path, table: pl.DataFrame, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a table, and the metadata that names its format."""
    with writing_tables({path: table}, metadata=metadata):
        pass


@contextmanager
def writing_tables(
    tables: Mapping[Path, pl.DataFrame], *, metadata: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Write tables that take their places at the end of the block; not if it raises."""
    with ExitStack() as stack:
        for path, table in tables.items():
            temporary = stack.enter_context(replacing(path))
            table.write_parquet(temporary, metadata=dict(metadata or {}))
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
