"""Log-mel chunks on disk, in pieces that stand whole or not at all (section 2.1).

    audio.json       format, run, finished
    00000.npy        (chunks, 128, 172) float16, log-mel of up to 64 files
    00000.parquet    path, size, modified, run, first, chunks, seconds, reason, remedy: one row a
                     file; no chunks and a reason where it failed
    00001.npy ...

A shard counts once its Parquet file stands, which is written last. A later row of a path takes the
place of an earlier one. A run is one walk over all files; a walk that is taken up again after its
process was killed is the same run.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.audio.decode import Decoded
from undersong.audio.logmel import BANDS
from undersong.audio.waveform import FRAMES, Undecodable
from undersong.errors import ArtifactError
from undersong.io.arrays import map_array, write_array
from undersong.io.files import read_json, reading, write_json
from undersong.io.tables import PolarsError, write_table

FORMAT = 1  # of the folder, and of what the chunks hold: raise it when rate, bands or levels change
OPEN = 128  # shards of which the memory maps are kept open, 8,000 tracks
FILE: dict[str, pl.DataType] = {"path": pl.String(), "size": pl.Int64(), "modified": pl.Int64()}
INDEX: dict[str, pl.DataType] = FILE | {
    "run": pl.Int64(),
    "first": pl.Int64(),
    "chunks": pl.Int64(),
    "seconds": pl.Float64(),
    "reason": pl.String(),
    "remedy": pl.String(),
}


@dataclass(frozen=True)
class LogMels:
    """Log-mel chunks of tracks, on disk: training reads what it needs by memory map.

    Parameters
    ----------
    folder : where the shards lie
    ids : (n,) tracks, in the order asked for
    shard, first, chunks : (n,) int
        Where the chunks of each track lie, and how many (1 to 8).
    """

    folder: Path
    ids: tuple[str, ...]
    shard: NDArray[np.int64]
    first: NDArray[np.int64]
    chunks: NDArray[np.int64]

    def read(self, row: int) -> NDArray[np.float16]:
        """Give all chunks of one track, (chunks, 128, 172)."""
        first = self.first[row]
        return np.asarray(self._map(self.shard[row])[first : first + self.chunks[row]])

    def read_one_each(
        self, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.float16]:
        """Give a random chunk of each track, (len(rows), 128, 172)."""
        place = self.first[rows] + generator.integers(self.chunks[rows])
        found = np.empty((len(rows), BANDS, FRAMES), dtype=np.float16)
        for row, (shard, at) in enumerate(zip(self.shard[rows], place, strict=True)):
            found[row] = self._map(shard)[at]  # a copy: a view would keep its map open
        return found

    @cached_property
    def _map(self) -> Callable[[int], NDArray[np.float16]]:
        """Open a shard; only the latest stay open, for a system allows few open files."""
        return lru_cache(OPEN)(lambda shard: _open(self.folder / f"{shard:05d}.npy"))


def current_run(folder: Path) -> int:
    """Say which run goes on in a folder, or begin the next one where the last was finished.

    Raises
    ------
    ArtifactError
        If the folder is of another format.
    """
    place = folder / "audio.json"
    run = 0
    if place.exists():
        about = read_json(place, version=FORMAT, hint=f"delete {folder} to analyse all files again")
        run = int(about["run"])
        if not about["finished"]:
            return run
        run += 1
    write_json(place, {"format": FORMAT, "run": run, "finished": False})
    return run


def finish(folder: Path, run: int) -> None:
    """Say that a run has seen every file."""
    write_json(folder / "audio.json", {"format": FORMAT, "run": run, "finished": True})


def index(folder: Path) -> pl.DataFrame:
    """What is known of each file so far, and in which shard; the latest where it stands twice.

    Raises
    ------
    ArtifactError
        If a Parquet file is damaged.
    """
    tables = [
        _read_index(path).with_columns(shard=pl.lit(int(path.stem), dtype=pl.Int64))
        for path in sorted(folder.glob("*.parquet"))
    ]
    if not tables:
        return pl.DataFrame(schema=INDEX | {"shard": pl.Int64()})
    return pl.concat(tables).unique("path", keep="last", maintain_order=True)


def next_shard(folder: Path) -> int:
    """Give the first number that is free."""
    return max((int(path.stem) for path in folder.glob("*.parquet")), default=-1) + 1


def write_shard(
    place: Path, files: pl.DataFrame, found: Sequence[Decoded | Undecodable], *, run: int
) -> None:
    """Write what was found in some files, as ``place.npy`` and ``place.parquet``."""
    pictures = [x.log_mel for x in found if isinstance(x, Decoded)]
    if pictures:
        write_array(place.with_suffix(".npy"), np.concatenate(pictures))
    chunks = np.array([len(x.log_mel) if isinstance(x, Decoded) else 0 for x in found])
    failed = [None if isinstance(x, Decoded) else x for x in found]
    table = files.with_columns(
        run=pl.lit(run, dtype=pl.Int64),
        first=pl.Series(np.cumsum(chunks) - chunks, dtype=pl.Int64),
        chunks=pl.Series(chunks, dtype=pl.Int64),
        seconds=pl.Series(
            [x.seconds if isinstance(x, Decoded) else None for x in found], dtype=pl.Float64
        ),
        reason=pl.Series([_plain(x.reason) if x else None for x in failed], dtype=pl.String),
        remedy=pl.Series([x.remedy if x else None for x in failed], dtype=pl.String),
    )
    write_table(place.with_suffix(".parquet"), table)


def _plain(text: str) -> str:
    """Keep a line that a decoder said to what a table and a terminal can hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text)


def _read_index(path: Path) -> pl.DataFrame:
    hint = "delete it to analyse its files again"
    with reading(path, PolarsError, hint=hint):
        return pl.read_parquet(path).select(pl.col(x).cast(kind) for x, kind in INDEX.items())


def _open(path: Path) -> NDArray[np.float16]:
    hint = f"delete {path.with_suffix('.parquet').name} beside it to analyse its files again"
    pictures = map_array(path, hint=hint)
    if pictures.dtype != np.float16 or pictures.shape[1:] != (BANDS, FRAMES):
        raise ArtifactError(
            f"{path} holds {pictures.dtype} of shape {pictures.shape}, expected float16 of "
            f"(chunks, {BANDS}, {FRAMES}); {hint}"
        )
    return pictures
