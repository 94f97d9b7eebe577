"""Ids and their vectors: the one type that every stage, model and answer exchanges.

KIND.NAME.parquet   ids and vectors, for any data tool
KIND.NAME.npy       the same vectors again, on a shelf alone: several readers share one map of it
"""

import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.errors import ArtifactError, DataError
from undersong.io.table_files import read_table, write_table
from undersong.io.tensors import map_array, write_array
from undersong.processors import computed_once

METADATA = {"undersong.embeddings": "1"}  # what marks a Parquet file as one of embeddings


@dataclass(frozen=True)
class Embeddings:
    """One vector per item. An item without a vector is simply absent.

    Parameters
    ----------
    ids : (n,) str, unique; also a list or an array of them
    vectors : (n, d) float32, finite; also lists of numbers
        Rows of length 1 when they come from a model; any scale when they are input features.

    Raises
    ------
    DataError
        If shapes differ, an id stands twice, or a value is not finite (with the first such id).
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not isinstance(self.ids, tuple):
            object.__setattr__(self, "ids", tuple(str(x) for x in self.ids))
        if not isinstance(self.vectors, np.ndarray):
            object.__setattr__(self, "vectors", _matrix(self.vectors))
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise DataError(
                f"{len(self.ids)} ids but vectors of shape {self.vectors.shape}; expected (n, d)"
            )
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise DataError(
                f"vector of {self.ids[row]!r} (row {row}) holds a value that is not finite"
            )
        if len(self.index) != len(self.ids):
            twice = next(x for row, x in enumerate(self.ids) if self.index[x] != row)
            raise DataError(f"id {twice!r} has two vectors; keep one of them")

    @computed_once
    def index(self) -> dict[str, int]:
        """Row of each id."""
        return {item: row for row, item in enumerate(self.ids)}

    def align(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Put the vectors in the order of ``ids``: (n, d) with zeros where absent, (n,) missing.

        Where that is their own order they are not copied: nobody may write into what is returned.
        """
        if tuple(ids) == self.ids:
            return self.vectors, np.zeros(len(self.ids), dtype=bool)
        rows = np.array([self.index.get(item, -1) for item in ids], dtype=np.int64)
        missing = rows < 0
        aligned = np.zeros((len(rows), self.vectors.shape[1]), dtype=np.float32)
        aligned[~missing] = self.vectors[rows[~missing]]
        return aligned, missing

    def write(self, path: Path, *, words: Sequence[Sequence[str]] | None = None) -> None:
        """Write a Parquet file of ``id`` and ``vector`` that any data tool opens.

        ``words`` of each item may stand beside them; ``read`` passes them over.
        """
        width = self.vectors.shape[1]
        table = pl.DataFrame(
            {
                "id": pl.Series(self.ids, dtype=pl.String),
                "vector": pl.Series(
                    np.ascontiguousarray(self.vectors), dtype=pl.Array(pl.Float32, width)
                ),
            }
        )
        if words is not None:
            lists = [list(x) for x in words]
            table = table.with_columns(pl.Series("words", lists, dtype=pl.List(pl.String)))
        write_table(path, table, metadata=METADATA)

    def write_vectors(self, path: Path) -> None:
        """Write the vectors alone as .npy, which ``read`` maps instead of decoding Parquet."""
        write_array(path, self.vectors)


def _matrix(vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    try:
        return np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"vectors are no matrix of numbers ({error}); give (n, d)") from error


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale every row to length 1; a row of zeros stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def beside(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Lay unit vectors of several sources side by side, so that their cosines add, (n, widths).

    Rows are of length 1; zeros stand for what a source does not know.
    """
    return parts[0] if len(parts) == 1 else unit(np.concatenate(parts, axis=1))


def read(path: Path, *, mapped: Path | None = None) -> Embeddings:
    """Read a file of embeddings.

    Parameters
    ----------
    mapped : what ``write_vectors`` wrote of them; vectors are read from there as they are used

    Raises
    ------
    ArtifactError
        If a file is absent, is no Parquet or .npy file, has another format, or both differ in size.
    """
    if mapped:
        return _map(mapped, read_ids(path))
    table = _read(path, columns=None)
    return Embeddings(tuple(table["id"]), table["vector"].to_numpy())


def read_ids(path: Path) -> tuple[str, ...]:
    """Read the ids of a file of embeddings alone; errors as ``read``."""
    return tuple(_read(path, columns=["id"])["id"])


def _read(path: Path, *, columns: list[str] | None) -> pl.DataFrame:
    fault, hint = "is no embedding file", "train again"
    return read_table(path, hint=hint, metadata=METADATA, columns=columns, fault=fault)


def _map(path: Path, ids: tuple[str, ...]) -> Embeddings:
    hint = "publish the run again with `undersong publish`"
    vectors = map_array(path, hint=hint, fault="holds no vectors")
    if vectors.dtype != np.float32:
        raise ArtifactError(f"{path} holds no float32 vectors; {hint}")
    try:
        embeddings = Embeddings(ids, np.asarray(vectors))
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; {hint}") from error
    if isinstance(vectors.base, mmap.mmap) and sys.platform != "win32":
        # All were looked at to check them; they need not stay in memory until they are asked for.
        vectors.base.madvise(mmap.MADV_DONTNEED)
    return embeddings
