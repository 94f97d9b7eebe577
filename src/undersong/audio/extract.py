"""Audio files -> log-mel chunks on disk, resumable, with every failed file listed (section 2.1).

    00000.npy        (chunks, 128, 172) float16, log-mel of up to 64 tracks
    00000.parquet    track, path, size, modified, first, chunks, seconds: one row a track
    00001.npy ...
    failures.csv     track, file, reason, remedy

A shard counts once its Parquet file stands, which is written last. A later shard that holds a
track again (its file has changed) takes the place of the earlier one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from undersong.audio.decode import decode
from undersong.audio.logmel import BANDS, log_mel
from undersong.audio.waveform import FRAMES, Sound, Undecodable
from undersong.catalogue.tables import Catalogue
from undersong.errors import ArtifactError, DataError
from undersong.files import replacing
from undersong.progress import Progress, silent

SHARD = 64  # tracks; 22 MB of 8 chunks each, which is what an interruption costs at most
STAGE = "extract"
INDEX: dict[str, pl.DataType] = {
    "track": pl.String(),
    "path": pl.String(),
    "size": pl.Int64(),
    "modified": pl.Int64(),
    "first": pl.Int64(),
    "chunks": pl.Int64(),
    "seconds": pl.Float64(),
}
FAILURES: dict[str, pl.DataType] = dict.fromkeys(("track", "file", "reason", "remedy"), pl.String())


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
        return np.asarray(self._maps[self.shard[row]][first : first + self.chunks[row]])

    def read_one_each(
        self, rows: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.float16]:
        """Give a random chunk of each track, (len(rows), 128, 172)."""
        place = self.first[rows] + generator.integers(self.chunks[rows])
        return np.stack(
            [self._maps[shard][at] for shard, at in zip(self.shard[rows], place, strict=True)]
        )

    @cached_property
    def _maps(self) -> dict[int, NDArray[np.float16]]:
        return {
            int(number): _open(self.folder / f"{number:05d}.npy")
            for number in np.unique(self.shard)
        }


@dataclass(frozen=True)
class Extraction:
    """What became of the tracks with a file: analysed, or failed (track, file, reason, remedy)."""

    done: LogMels
    failed: pl.DataFrame


def extract(
    catalogue: Catalogue,
    folder: Path,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Analyse every track that has a path; what was analysed before is not done again.

    A track counts as analysed while path, size and time of change of its file are the same.
    Failed files are tried again each time. Memory is bounded by one shard of 64 tracks.

    Parameters
    ----------
    folder : made if absent; killed at any moment, the next call goes on
    workers : child processes that decode; as many as there are processors unless given

    Raises
    ------
    DataError
        If tracks have files and not one of them could be analysed.
    ArtifactError
        If a shard in ``folder`` is damaged.
    """
    files = _files(catalogue)
    index = _index(folder)
    pending = files.join(index, on=["track", "path", "size", "modified"], how="anti")
    progress(STAGE, len(files) - len(pending), len(files))
    failures: list[tuple[str, str, str, str]] = []
    sounds = decode(map(Path, pending["path"]), workers=workers or os.cpu_count() or 1)
    number = _next_shard(folder)
    for start in range(0, len(pending), SHARD):
        part = pending[start : start + SHARD]
        rows = []
        for row, _ in enumerate(part.iter_rows()):
            found = next(sounds)
            if isinstance(found, Undecodable):
                track, path = part["track"][row], part["path"][row]
                failures.append((track, path, found.reason, found.remedy))
            else:
                rows.append((row, found.seconds, _picture(found)))
            done = len(files) - len(pending) + start + row + 1
            progress(STAGE, done, len(files), f"{len(failures)} failed" if failures else "")
        if rows:
            _write_shard(folder, number, part, rows)
            number += 1
    failed = pl.DataFrame(failures, schema=FAILURES, orient="row")
    write_failures(folder / "failures.csv", failed)
    done_tracks = files.filter(~pl.col("track").is_in(failed["track"].implode()))
    if len(files) and not len(done_tracks):
        raise DataError(_nothing(failed))
    return Extraction(_log_mels(folder, done_tracks), failed)


def _files(catalogue: Catalogue) -> pl.DataFrame:
    """Every track with a path: track, path, size and time of change (-1 where there is no file)."""
    root = catalogue.audio_root or Path()
    with_path = catalogue.tracks.filter(pl.col("path").is_not_null())
    rows = []
    for track, path in with_path.select("id", "path").iter_rows():
        whole = root / path
        try:
            found = whole.stat()
            rows.append((track, str(whole), found.st_size, found.st_mtime_ns))
        except (OSError, ValueError):  # the decoder says which; ValueError: a zero byte within
            rows.append((track, str(whole), -1, -1))
    schema = {name: INDEX[name] for name in ("track", "path", "size", "modified")}
    return pl.DataFrame(rows, schema=schema, orient="row")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Leave the processors to the decoders: two threads here waited for each other, 5 x as long."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _picture(sound: Sound) -> NDArray[np.float16]:
    with torch.inference_mode(), _one_thread():
        return log_mel(torch.from_numpy(sound.chunks)).to(torch.float16).numpy()


def _index(folder: Path) -> pl.DataFrame:
    """Where each track analysed so far lies; the latest where it stands twice."""
    tables = [
        _read_index(path).with_columns(shard=pl.lit(int(path.stem), dtype=pl.Int64))
        for path in sorted(folder.glob("*.parquet"))
    ]
    if not tables:
        return pl.DataFrame(schema=INDEX | {"shard": pl.Int64()})
    return pl.concat(tables).unique("track", keep="last", maintain_order=True)


def _read_index(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path).select(pl.col(x).cast(kind) for x, kind in INDEX.items())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); delete it to analyse its tracks again"
        ) from error


def _next_shard(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("*.parquet")), default=-1) + 1


def _write_shard(
    folder: Path,
    number: int,
    part: pl.DataFrame,
    rows: Sequence[tuple[int, float, NDArray[np.float16]]],
) -> None:
    pictures = [picture for _, _, picture in rows]
    chunks = np.array([len(x) for x in pictures])
    with replacing(folder / f"{number:05d}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(pictures), allow_pickle=False)
    table = part[[row for row, _, _ in rows]].with_columns(
        first=pl.Series(np.cumsum(chunks) - chunks, dtype=pl.Int64),
        chunks=pl.Series(chunks, dtype=pl.Int64),
        seconds=pl.Series([seconds for _, seconds, _ in rows], dtype=pl.Float64),
    )
    with replacing(folder / f"{number:05d}.parquet") as temporary:
        table.write_parquet(temporary)


def _log_mels(folder: Path, tracks: pl.DataFrame) -> LogMels:
    found = tracks.select("track").join(_index(folder), on="track", maintain_order="left")
    shard, first, chunks = (found[x].to_numpy() for x in ("shard", "first", "chunks"))
    return LogMels(folder, tuple(found["track"]), shard, first, chunks)


def _open(path: Path) -> NDArray[np.float16]:
    remedy = f"delete {path.with_suffix('.parquet').name} beside it to analyse its tracks again"
    try:
        found: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); {remedy}") from error
    if found.dtype != np.float16 or found.shape[1:] != (BANDS, FRAMES):
        raise ArtifactError(
            f"{path} holds {found.dtype} of shape {found.shape}, expected float16 of "
            f"(chunks, {BANDS}, {FRAMES}); {remedy}"
        )
    return found


def write_failures(path: Path, failed: pl.DataFrame) -> None:
    """Write the failures so that no spreadsheet takes a file name for a formula."""
    formula = r"^([=+\-@\t\r])"
    safe = failed.with_columns(pl.all().str.replace(formula, "'$1"))
    with replacing(path) as temporary:
        safe.write_csv(temporary)


def _nothing(failed: pl.DataFrame) -> str:
    """Say why nothing was analysed, by the first file."""
    _, file, reason, remedy = failed.row(0)
    return (
        f"none of {len(failed)} audio files could be analysed; "
        f"the first, {file}: {reason}; {remedy}"
    )
