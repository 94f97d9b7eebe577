"""Tables in Parquet files, whose metadata names their format.

A format is the metadata that marks a file: ``{"undersong.embeddings": "1"}``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from undersong.errors import ArtifactError, UndersongError
from undersong.io.files import check_format, reading, replacing

PolarsError = pl.exceptions.PolarsError


def write_table(
    path: Path, table: pl.DataFrame, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a table, and the metadata that names its format."""
    with replacing(path) as temporary:
        table.write_parquet(temporary, metadata=dict(metadata or {}))


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
    with reading(path, PolarsError, hint=hint, fault=fault, error=error):
        return pl.read_parquet(path, columns=list(columns) if columns else None)


def scan_table(
    path: Path,
    *,
    hint: str,
    fault: str = "cannot be read",
    error: type[UndersongError] = ArtifactError,
) -> pl.LazyFrame:
    """Open a table without reading its rows; arguments and errors as for ``read_table``."""
    with reading(path, PolarsError, hint=hint, fault=fault, error=error):
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
    with reading(path, PolarsError, hint=hint, fault=fault, error=error):
        return pl.read_parquet_metadata(path)


def read_user_table(path: Path) -> pl.DataFrame:
    """Read a table of the user's own: Parquet, or else CSV with every value as text.

    Raises what polars raises; the caller says what the table was to be (``reading``).
    """
    if path.suffix.lower() == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, infer_schema=False)
