"""Audio files -> log-mel chunks on disk, resumable, with every failed file listed (section 2.1).

The shards of ``undersong.audio.shards``, and ``failures.csv``: track, file, reason, remedy.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import polars as pl

from undersong.audio import shards
from undersong.audio.decode import Decoded, decode
from undersong.audio.shards import LogMels
from undersong.audio.waveform import Undecodable
from undersong.catalogue import Catalogue, write_failures
from undersong.errors import ArtifactError, DataError
from undersong.progress import Progress, silent

SHARD = 64  # files; 22 MB of 8 chunks each, which is what an interruption costs at most
STAGE = "extract"
Hear = Callable[[Iterable[Path]], Iterator[Decoded | Undecodable]]
FAILURES: dict[str, pl.DataType] = dict.fromkeys(("track", "file", "reason", "remedy"), pl.String())


@dataclass(frozen=True)
class Extraction:
    """What became of the tracks with a file.

    Parameters
    ----------
    done : those analysed, now or before
    failed : track, file, reason, remedy
    new : files analysed now
    seconds : sound of all analysed files
    """

    done: LogMels
    failed: pl.DataFrame
    new: int
    seconds: float


def extract(
    catalogue: Catalogue,
    folder: Path,
    *,
    workers: int | None = None,
    hear: Hear | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Analyse every track that has a path; what was analysed before is not done again.

    A file counts as analysed while its path in the catalogue, its size and its time of change are
    the same. Failed files are tried again by each run, but not by one that goes on after it was
    killed. Memory is bounded by one shard of 64 files.

    Parameters
    ----------
    folder : made if absent; killed at any moment, the next call goes on
    workers : child processes that decode; as many as there are processors unless given
    hear : what decodes files in the order given, in place of those; such as a cluster

    Raises
    ------
    DataError
        If no track has a file, or not one file could be analysed.
    ArtifactError
        If ``folder`` cannot be written, is of another format, or a shard in it is damaged.
    """
    files = _files(catalogue)
    if not len(files):
        raise DataError("no track of the catalogue has a path; map the column of audio files")
    with _alone(folder, waiting=lambda: progress(STAGE, 0, len(files), "another process extracts")):
        run = shards.current_run(folder)
        known = shards.index(folder)
        known = known.filter((pl.col("chunks") > 0) | (pl.col("run") == run))
        pending = files.join(known, on=list(shards.FILE), how="anti").unique(
            "path", maintain_order=True
        )
        new = _analyse(
            pending,
            folder,
            root=catalogue.audio_root or Path(),
            run=run,
            hear=hear or partial(decode, workers=workers or os.cpu_count() or 1),
            before=len(files) - len(pending),
            progress=progress,
        )
        found = files.join(
            shards.index(folder), on=list(shards.FILE), how="left", maintain_order="left"
        )
        failed = _failed(found, catalogue.audio_root or Path())
        write_failures(folder / "failures.csv", failed)
        shards.finish(folder, run)
    done = found.filter(pl.col("chunks") > 0)
    if not len(done):
        raise DataError(_nothing(failed))
    places = (done[x].to_numpy() for x in ("shard", "first", "chunks"))
    return Extraction(
        LogMels(folder, tuple(done["track"]), *places), failed, new, float(done["seconds"].sum())
    )


def text(found: Extraction, folder: Path) -> str:
    """Say in a line what an extraction came to."""
    files = len(found.done.ids)
    said = (
        f"{files} of {files + len(found.failed)} audio files analysed ({found.new} of them now), "
        f"{found.seconds / 3600:.1f} h of sound: {folder}"
    )
    if not len(found.failed):
        return said
    return f"{said}\n{len(found.failed)} failed: {folder / 'failures.csv'} says why"


def _files(catalogue: Catalogue) -> pl.DataFrame:
    """Every track with a path: track, path, size and time of change (-1 where there is no file)."""
    root = catalogue.audio_root or Path()
    tracks = catalogue.tracks.filter(pl.col("path").is_not_null())
    sizes, times = [], []
    for path in tracks["path"]:
        try:
            found = (root / path).stat()
            size, modified = found.st_size, found.st_mtime_ns
        except (OSError, ValueError):  # the decoder says which; ValueError: a zero byte within
            size, modified = -1, -1
        sizes.append(size)
        times.append(modified)
    return tracks.select(
        pl.col("id").alias("track"),
        "path",
        pl.Series("size", sizes, dtype=pl.Int64),
        pl.Series("modified", times, dtype=pl.Int64),
    )


def _analyse(
    pending: pl.DataFrame,
    folder: Path,
    *,
    root: Path,
    run: int,
    hear: Hear,
    before: int,
    progress: Progress,
) -> int:
    """Analyse files shard by shard; say how many gave sound."""
    total, failed, seconds = before + len(pending), 0, 0.0
    started = time.monotonic()
    progress(STAGE, before, total)
    sounds = hear(root / x for x in pending["path"])
    number = shards.next_shard(folder)
    for start in range(0, len(pending), SHARD):
        found: list[Decoded | Undecodable] = []
        for one in islice(sounds, SHARD):
            found.append(one)
            failed += isinstance(one, Undecodable)
            seconds += one.seconds if isinstance(one, Decoded) else 0
            done = start + len(found)
            note = _pace(done, seconds, elapsed=time.monotonic() - started)
            progress(STAGE, before + done, total, f"{note}, {failed} failed" if failed else note)
        part = pending[start : start + SHARD].drop("track")
        shards.write_shard(folder / f"{number:05d}", part, found, run=run)
        number += 1
    return len(pending) - failed


def _pace(done: int, seconds: float, *, elapsed: float) -> str:
    """Say how fast it goes; the length of whole files is the real time.

    Of a long file only eight chunks are decoded, which is part of the speed.
    """
    elapsed = max(elapsed, 1e-3)
    return f"{done / elapsed:.1f} files/s, {seconds / elapsed:.0f} x real time"


@contextmanager
def _alone(folder: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder, which two processes must not fill at once; what killed ones left goes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ArtifactError(
            f"{folder} cannot be written ({error.strerror}); make it writable, or link it to a "
            "folder that is"
        ) from error
    with lock:
        _hold(lock, waiting)
        for left in folder.glob(".*.partial"):
            left.unlink()
        yield


def _hold(lock: IO[str], waiting: Callable[[], None]) -> None:
    """Wait for the lock, which the system takes from a process that dies."""
    if sys.platform == "win32":
        return  # no such locks there
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(lock, fcntl.LOCK_EX)


def _failed(found: pl.DataFrame, root: Path) -> pl.DataFrame:
    failed = found.filter(pl.col("chunks") == 0)
    files = [str(root / x) for x in failed["path"]]
    return failed.with_columns(file=pl.Series(files, dtype=pl.String)).select(list(FAILURES))


def _nothing(failed: pl.DataFrame) -> str:
    """Say why nothing was analysed, by the first file."""
    _, file, reason, remedy = failed.row(0)
    return (
        f"none of {len(failed)} audio files could be analysed; "
        f"the first, {file}: {reason}; {remedy}"
    )
