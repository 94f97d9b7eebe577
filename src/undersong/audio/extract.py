"""Audio files -> log-mel chunks on disk, resumable, with every failed file listed (section 2.1).

The shards of ``undersong.audio.shards``, ``failures.csv``: track, file, reason, remedy, and what
pretrained ears heard of each track (``undersong.catalogue.heard``).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.audio import shards
from undersong.audio.decode import Decoded, Decoder, decode
from undersong.audio.ears import Contract, Ears
from undersong.audio.logmel import Undecodable
from undersong.audio.shards import LogMels
from undersong.catalogue import Catalogue, Heard, write_failures, write_heard
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.io.files import locked
from undersong.processors import usable_processors
from undersong.progress import Progress, silent

SHARD = 64  # files; 22 MB of 8 chunks each, which is what an interruption costs at most
STAGE = "extract"
WORDS, LIKELY = 3, 0.2  # of a track at most, and how probable each must be
FETCHED = "server:"  # and its id: the path of a track without a file, whose sound a server sent
Fetch = Callable[[str], AbstractContextManager[Path]]
DecodeFiles = Callable[[Iterable[Path], Sequence[Ears]], Iterator[Decoded | Undecodable]]
FAILURES: dict[str, pl.DataType] = dict.fromkeys(("track", "file", "reason", "remedy"), pl.String())


@dataclass(frozen=True)
class Extraction:
    """What became of the tracks with a file.

    Parameters
    ----------
    done : those analysed, now or before
    failed : track, file, reason, remedy
    damaged : the same of files of which not all could be heard
    new : files analysed now
    seconds : sound of all analysed files
    """

    done: LogMels
    failed: pl.DataFrame
    damaged: pl.DataFrame
    new: int
    seconds: float


def extract(
    catalogue: Catalogue,
    folder: Path,
    *,
    workers: int | None = None,
    ears: Sequence[Ears] | None = None,
    words: bool | None = None,
    retry: bool = True,
    decode_files: DecodeFiles | None = None,
    fetch: Fetch | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Analyse every track that has a path, unless that was done before.

    A file counts as analysed while its path in the catalogue, its size and its time of change are
    the same, and all ears have heard it. Failed files are tried again by each run, but not by one
    that goes on after it was killed. Memory is bounded by one shard of 64 files.

    Parameters
    ----------
    folder : made if absent; after a kill at any moment, the next call goes on
    workers : child processes that decode; by default one a processor
    ears : that hear beside the log-mel chunks; None leaves alone what was heard before
    words : whether those that ears hear are a field of the tracks; None leaves that as it is
    retry : try files again that failed in the last run
    decode_files : decodes files in their order in place of child processes, such as on a cluster
    fetch : gets a file of the sound of a track without a path, one after the other, and deletes it
        It raises ``Undecodable`` where there is none. Sounds that came so before count without it.

    Raises
    ------
    DataError
        If no track has a file, or not one file could be analysed.
    ArtifactError
        If ``folder`` cannot be written, is of another format, or a shard in it is damaged; if
        ears cannot be opened.
    """
    root = catalogue.audio_root or Path()
    files = pl.concat([_files(catalogue.tracks, root), _without_files(catalogue, folder, fetch)])
    if not len(files):
        raise DataError(
            "no track of the catalogue has a path; map the column of audio files, or fetch sound "
            "from a media server with --server"
        )
    with locked(folder):
        for remnant in folder.glob(".*.partial"):  # of an extraction that was killed
            remnant.unlink()
        run = shards.current_run(folder, retry=retry)
        index = shards.index(folder)
        files = _as_analysed(files, index)
        hear = [x.contract for x in ears or ()]
        heard = pl.col("chunks") > 0
        for key in (shards.EARS + x.key for x in hear):
            heard &= pl.col(key).is_not_null() if key in index.columns else pl.lit(False)
        tried = index.filter(heard | (pl.col("chunks") == 0) & (pl.col("run") == run))
        pending = files.join(tried, on=list(shards.FILE), how="anti").unique(
            "path", maintain_order=True
        )
        remote = pl.col("path").str.starts_with(FETCHED)
        here, there = pending.filter(~remote), pending.filter(remote & (fetch is not None))
        decode_files = decode_files or partial(_decode, workers=workers or usable_processors())
        new = _analyse(
            pl.concat([here, there]),
            folder,
            run=run,
            hear=hear,
            decoded=chain(
                decode_files((root / x for x in here["path"]), ears or ()),
                _decode_fetched(there["track"], fetch, ears=ears or ()),
            ),
            before=len(files) - len(here) - len(there),
            progress=progress,
        )
        files = files.join(
            shards.index(folder), on=list(shards.FILE), how="left", maintain_order="left"
        ).with_columns(file=pl.Series([str(root / x) for x in files["path"]], dtype=pl.String))
        reasons = files.filter(pl.col("reason").is_not_null())
        failed, damaged = (
            reasons.filter((pl.col("chunks") > 0) == heard).select(list(FAILURES))
            for heard in (False, True)
        )
        write_failures(folder / "failures.csv", reasons.select(list(FAILURES)))
        if ears is not None:
            write_heard(folder, [_heard(files, x) for x in hear], words=words)
            shards.remove_superseded(folder)
        shards.finish(folder, run)
    done = files.filter(pl.col("chunks") > 0)
    if not len(done):
        _, file, reason, remedy = failed.row(0)
        raise DataError(
            f"none of {len(failed)} audio files could be analysed; "
            f"the first, {file}: {reason}; {remedy}"
        )
    places = (done[x].to_numpy() for x in ("shard", "first", "chunks"))
    return Extraction(
        LogMels(folder, tuple(done["track"]), *places),
        failed,
        damaged,
        new,
        float(done["seconds"].sum()),
    )


def _decode(
    paths: Iterable[Path], ears: Sequence[Ears], *, workers: int
) -> Iterator[Decoded | Undecodable]:
    return decode(paths, workers=workers, ears=ears)


def _heard(files: pl.DataFrame, contract: Contract) -> Heard:
    """Return the vectors of all tracks that ears have heard."""
    key = shards.EARS + contract.key
    rows = files.filter(pl.col(key).is_not_null()) if key in files.columns else files.head(0)
    lists = rows[key].to_list() if len(rows) else []
    values = np.array(lists, dtype=np.float32).reshape(len(lists), contract.numbers)
    there = np.isfinite(values).all(axis=1)
    ids = tuple(rows["track"].filter(pl.Series(there, dtype=pl.Boolean)))
    vectors = Embeddings(ids, np.ascontiguousarray(values[there, : contract.width]))
    words = tuple(_words(x, contract) for x in values[there, contract.width :])
    about = contract.name, contract.digest, contract.licence, contract.training
    return Heard(*about, vectors, words)


def _words(probabilities: NDArray[np.float32], contract: Contract) -> tuple[str, ...]:
    """Return the likeliest words of a track, if they are likely at all."""
    best = np.argsort(-probabilities)[:WORDS]
    return tuple(contract.words[x] for x in best if probabilities[x] >= LIKELY)


def text(extraction: Extraction, folder: Path) -> str:
    """Return a line that sums an extraction up, and a second one if files have failed."""
    files, failed = len(extraction.done.ids), len(extraction.failed)
    line = (
        f"{files} of {files + failed} audio files analysed ({extraction.new} of them now), "
        f"{extraction.seconds / 3600:.1f} h of sound: {folder}"
    )
    listed = folder / "failures.csv"
    lines = [f"{failed} failed: {listed} says why"] if failed else []
    if damaged := len(extraction.damaged):
        lines.append(f"{damaged} are damaged, and heard as far as they go: {listed} says where")
    return "\n".join([line, *lines])


def _files(tracks: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Every track with a path: track, path, size and time of change (-1 where there is no file)."""
    tracks = tracks.filter(pl.col("path").is_not_null())
    rows = [_size_and_time(root, x) for x in tracks["path"]]
    about = pl.DataFrame(rows, schema=["size", "modified"], orient="row")
    return tracks.select(pl.col("id").alias("track"), "path").hstack(about.cast(pl.Int64))


def fetched(folder: Path | None) -> bool:
    """Whether a media server has sent sound of tracks that have no path."""
    return folder is not None and bool(
        shards.index(folder)
        .select((pl.col("path").str.starts_with(FETCHED) & (pl.col("chunks") > 0)).any())
        .item()
    )


def _without_files(catalogue: Catalogue, folder: Path, fetch: Fetch | None) -> pl.DataFrame:
    """Tracks without a path whose sound can be fetched, or was, as ``_files`` has them."""
    track = pl.col("id").alias("track")
    path = pl.format("{}{}", pl.lit(FETCHED), "id").alias("path")
    size, modified = (pl.lit(0, pl.Int64).alias(x) for x in ("size", "modified"))
    bare = catalogue.tracks.filter(pl.col("path").is_null()).select(track, path, size, modified)
    if fetch is None:
        known = shards.index(folder).filter(pl.col("chunks") > 0)["path"]
        return bare.filter(pl.col("path").is_in(known.implode()))
    return bare


def _decode_fetched(
    tracks: Iterable[str], fetch: Fetch | None, *, ears: Sequence[Ears]
) -> Iterator[Decoded | Undecodable]:
    if fetch is None:
        return
    decoder = Decoder(ears=ears)
    try:
        for track in tracks:
            try:
                with fetch(track) as path:
                    yield decoder.decode(path)
            except Undecodable as error:
                yield error
    finally:
        decoder.stop()


def _as_analysed(files: pl.DataFrame, index: pl.DataFrame) -> pl.DataFrame:
    """Take a file that is not there now, such as on a disk that is away, for what it was."""
    analysed = index.filter(pl.col("chunks") > 0).select("path", was="size", when="modified")
    away = pl.col("size") < 0
    return files.join(analysed, on="path", how="left", maintain_order="left").select(
        "track",
        "path",
        pl.when(away).then(pl.col("was").fill_null(-1)).otherwise("size").alias("size"),
        pl.when(away).then(pl.col("when").fill_null(-1)).otherwise("modified").alias("modified"),
    )


def _size_and_time(root: Path, path: str) -> tuple[int, int]:
    try:
        status = (root / path).stat()
    except (OSError, ValueError):  # the decoder tells which; ValueError: a zero byte within
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _analyse(
    pending: pl.DataFrame,
    folder: Path,
    *,
    run: int,
    hear: Sequence[Contract],
    decoded: Iterator[Decoded | Undecodable],
    before: int,
    progress: Progress,
) -> int:
    """Write what is decoded of pending files shard by shard; return how many gave sound."""
    total, failed, seconds = before + len(pending), 0, 0.0
    started = time.monotonic()
    progress(STAGE, before, total)
    number = shards.next_shard(folder)
    for start in range(0, len(pending), SHARD):
        sounds: list[Decoded | Undecodable] = []
        for sound in islice(decoded, SHARD):
            sounds.append(sound)
            failed += isinstance(sound, Undecodable)
            # Of a long file only eight chunks are decoded, yet its whole length is real time.
            seconds += sound.seconds if isinstance(sound, Decoded) else 0
            done, elapsed = start + len(sounds), max(time.monotonic() - started, 1e-3)
            note = f"{done / elapsed:.1f} files/s, {seconds / elapsed:.0f} x real time"
            progress(STAGE, before + done, total, f"{note}, {failed} failed" if failed else note)
        batch = pending[start : start + SHARD].drop("track")
        keys = [x.key for x in hear]
        shards.write_shard(folder / f"{number:05d}", batch, sounds, run=run, ears=keys)
        number += 1
    return len(pending) - failed
