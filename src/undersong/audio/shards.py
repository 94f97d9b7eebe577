"""Log-mel chunks on disk, in shards that are there whole or not at all (section 2.1).

    audio.json       format, run, finished
    00000.npy        (chunks, 128, 172) float16, log-mel of up to 64 files
    00000.parquet    path, size, modified, run, first, chunks, seconds, reason, remedy: one row a
                     file; no chunks and a reason where it failed, a reason where it is damaged;
                     its metadata holds the sums. A column ``ears NAME SHA256`` holds what those
                     ears heard, lists of numbers
    00001.npy ...

A shard counts once its Parquet file is there, which is written last. A later row of a path replaces
an earlier one. A run goes once over all files; after its process was killed, the next one goes on
with the same run.
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
from undersong.audio.logmel import BANDS, FRAMES, Undecodable
from undersong.errors import ArtifactError
from undersong.io.files import read_json, reading, sha256, write_json
from undersong.io.table_files import (
    DAMAGE,
    content_sum,
    read_metadata,
    read_table,
    write_table,
)
from undersong.io.tensors import map_array, write_array

FORMAT = 1  # of the folder, and of what the chunks hold: raise it when rate, bands or levels change
ROWS_SUM, SOUND_SUM = "undersong.rows", "undersong.sound"  # sha256s; earlier versions wrote none
HEARD = pl.List(pl.Float32)
EARS = "ears "  # how the columns of pretrained ears begin
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
    folder : of the shards
    ids : (n,) tracks
    shard, first, chunks : (n,) int
        Where the chunks of each track lie, and how many (1 to 8).
    """

    folder: Path
    ids: tuple[str, ...]
    shard: NDArray[np.int64]
    first: NDArray[np.int64]
    chunks: NDArray[np.int64]

    def read(self, row: int) -> NDArray[np.float16]:
        """Read all chunks of one track, (chunks, 128, 172)."""
        first = self.first[row]
        return np.asarray(self._map(self.shard[row])[first : first + self.chunks[row]])

    def read_one_each(
        self, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.float16]:
        """Read a random chunk of each track, (len(rows), 128, 172)."""
        drawn = self.first[rows] + generator.integers(self.chunks[rows])
        chunks = np.empty((len(rows), BANDS, FRAMES), dtype=np.float16)
        for row, (shard, place) in enumerate(zip(self.shard[rows], drawn, strict=True)):
            chunks[row] = self._map(shard)[place]  # a copy: a view would keep its map open
        return chunks

    @cached_property
    def _map(self) -> Callable[[int], NDArray[np.float16]]:
        """Open a shard, and verify it the first time; only the latest stay open, for systems limit
        open files.
        """
        verify = lru_cache(None)(_verify)

        def open_shard(shard: int) -> NDArray[np.float16]:
            path = self.folder / f"{shard:05d}.npy"
            verify(path)
            return _open(path)

        return lru_cache(OPEN)(open_shard)


def current_run(folder: Path, *, retry: bool = True) -> int:
    """Return the run that goes on in a folder, or begin the next where the last has finished.

    Without ``retry`` the last goes on, so that files which it found to fail are not tried again.

    Raises
    ------
    ArtifactError
        If the folder is of another format.
    """
    path = folder / "audio.json"
    run = 0
    if path.exists():
        about = read_json(path, version=FORMAT, hint=f"delete {folder} to analyse all files again")
        run = int(about["run"])
        if not (about["finished"] and retry):
            return run
        run += 1
    write_json(path, {"format": FORMAT, "run": run, "finished": False}, summed=True)
    return run


def finish(folder: Path, run: int) -> None:
    """Record that a run has gone over every file."""
    write_json(folder / "audio.json", {"format": FORMAT, "run": run, "finished": True}, summed=True)


def index(folder: Path) -> pl.DataFrame:
    """Read the latest row of each file, with the number of its shard.

    Raises
    ------
    ArtifactError
        If a Parquet file is damaged.
    """
    tables = [
        _read_index(path).with_columns(shard=pl.lit(int(path.stem), dtype=pl.Int64))
        for path in sorted(folder.glob("*.parquet"))
    ]
    empty = pl.DataFrame(schema=INDEX | {"shard": pl.Int64()})
    every = pl.concat([empty, *tables], how="diagonal")
    return every.unique("path", keep="last", maintain_order=True)


def remove_superseded(folder: Path) -> None:
    """Remove the shards of which every file was analysed again since."""
    current = set(index(folder)["shard"])
    for path in folder.glob("*.parquet"):
        if int(path.stem) not in current:
            path.unlink()
            path.with_suffix(".npy").unlink(missing_ok=True)


def next_shard(folder: Path) -> int:
    """Return the first free number of a shard."""
    return max((int(path.stem) for path in folder.glob("*.parquet")), default=-1) + 1


def write_shard(
    path: Path,
    files: pl.DataFrame,
    decoded: Sequence[Decoded | Undecodable],
    *,
    run: int,
    ears: Sequence[str] = (),
) -> None:
    """Write the chunks of files as ``path.npy``, and what became of each as ``path.parquet``.

    ``ears`` are the keys of those that heard the files, in the order of ``Decoded.ears``.
    """
    log_mels = [x.log_mel for x in decoded if isinstance(x, Decoded)]
    if log_mels:
        write_array(path.with_suffix(".npy"), np.concatenate(log_mels))
    nothing = {"chunks": 0, "seconds": None, "reason": None, "remedy": None}
    rows = [
        nothing | {"chunks": len(x.log_mel), "seconds": x.seconds} | _damage(x)
        if isinstance(x, Decoded)
        else nothing | {"reason": _plain(x.reason), "remedy": x.remedy}
        for x in decoded
    ]
    table = files.hstack(pl.DataFrame(rows, schema={x: INDEX[x] for x in nothing})).with_columns(
        run=pl.lit(run, dtype=pl.Int64), first=pl.col("chunks").cum_sum() - pl.col("chunks")
    )
    heard = [
        pl.Series(
            EARS + key,
            [x.ears[place].tolist() if isinstance(x, Decoded) else None for x in decoded],
            dtype=HEARD,
        )
        for place, key in enumerate(ears)
    ]
    columns = [*files.columns, *(x for x in INDEX if x not in FILE)]
    table = table.select(columns).hstack(heard)
    sums = {ROWS_SUM: content_sum(table)}
    if log_mels:
        sums[SOUND_SUM] = sha256(path.with_suffix(".npy"))
    write_table(path.with_suffix(".parquet"), table, metadata=sums)


def _damage(sound: Decoded) -> dict[str, str]:
    """Return the reason why not all of a file was heard, and what to do."""
    return {"reason": _plain(sound.damage), "remedy": "get the file again"} if sound.damage else {}


def _plain(text: str) -> str:
    """Replace what a table or a terminal cannot hold in a message of a decoder."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text)


def _read_index(path: Path) -> pl.DataFrame:
    hint = "delete it to analyse its files again"
    recorded = read_metadata(path, hint=hint).get(ROWS_SUM)
    with reading(path, *DAMAGE, hint=hint):
        table = read_table(path, hint=hint)
        kinds = INDEX | {x: HEARD for x in table.columns if x.startswith(EARS)}
        table = table.select(pl.col(x).cast(kind) for x, kind in kinds.items())
    if recorded is not None and recorded != content_sum(table):
        raise ArtifactError(f"{path} was changed since it was written; {hint}")
    return table


def _verify(path: Path) -> None:
    """See that the chunks of a shard are those that were written, if their sum is known."""
    index = path.with_suffix(".parquet")
    hint = f"delete {index.name} beside it to analyse its files again"
    recorded = read_metadata(index, hint=hint).get(SOUND_SUM)
    with reading(path, hint=hint):
        same = recorded is None or recorded == sha256(path)
    if not same:
        raise ArtifactError(f"{path} was changed since it was written; {hint}")


def _open(path: Path) -> NDArray[np.float16]:
    hint = f"delete {path.with_suffix('.parquet').name} beside it to analyse its files again"
    chunks = map_array(path, hint=hint)
    if chunks.dtype != np.float16 or chunks.shape[1:] != (BANDS, FRAMES):
        raise ArtifactError(
            f"{path} holds {chunks.dtype} of shape {chunks.shape}, expected float16 of "
            f"(chunks, {BANDS}, {FRAMES}); {hint}"
        )
    return chunks
