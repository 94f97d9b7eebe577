"""What CbRM reads of a catalogue: log-mel chunks of files, or rows of a feature matrix (2.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from undersong.audio.extract import FAILURES, extract, fetched
from undersong.audio.logmel import augment
from undersong.audio.shards import LogMels
from undersong.catalogue import Catalogue, Kind
from undersong.errors import SettingsError, nearest_known
from undersong.features import AUDIO
from undersong.models.content.network import (
    SUMMARY,
    AudioEncoder,
    ContentModel,
    ContentSettings,
    VectorEncoder,
    of_track,
)
from undersong.progress import Progress, silent

AUTO, NONE = "auto", "none"
TRACKS_BLOCK = 16  # of up to 8 chunks, embedded at a time
VECTOR_BLOCK = 8192
WHITENED = 20_000  # tracks at most by which an encoder is whitened


def choose_sources(catalogue: Catalogue, settings: ContentSettings) -> tuple[str, ...]:
    """Return what CbRM reads: "audio" where tracks have files, and names of feature matrices.

    Raises
    ------
    SettingsError
        If ``input`` names no feature matrix, or audio where no track has a file.
    """
    has_paths = catalogue.tracks["path"].count() > 0 or fetched(catalogue.extracted)
    matrices = sorted({name for name, _ in catalogue.vectors()})
    present = ([AUDIO] if has_paths else []) + matrices
    if settings.input in (AUTO, NONE):
        return tuple(present) if settings.input == AUTO else ()
    chosen = tuple(dict.fromkeys(x.strip() for x in settings.input.split(",")))
    if AUDIO in chosen and not has_paths:
        raise SettingsError(
            "[content] input is 'audio', but no track has a path; map one, or 'auto'"
        )
    for name in chosen:
        if name not in present:
            raise SettingsError(
                f"[content] input {name!r} is no feature matrix of the catalogue; "
                f"{nearest_known(name, [*matrices, AUDIO, AUTO, NONE])}"
            )
    return chosen


def new_encoder(catalogue: Catalogue, source: str, settings: ContentSettings) -> ContentModel:
    """Make an untrained encoder of one source."""
    if source == AUDIO:
        return AudioEncoder(settings)
    matrices = (x for (name, _), x in catalogue.vectors().items() if name == source)
    return VectorEncoder(source, next(matrices).vectors.shape[1], settings)


@dataclass(frozen=True)
class Clips:
    """What an encoder reads: one clip per track, and one per artist with a vector of its own.

    Parameters
    ----------
    track : (n,) int, row of the track, -1 for an artist's own vector
    artist : (n,) int, row of the artist
    draw : clips as one training step sees them: (m,) rows -> (m, ...)
    embed : E_C of clips: (m,) rows -> (m, width)
    whiten : makes an encoder learn from clips, (m,) rows, what is usual and how artists vary
    repeats : whether a clip drawn twice is seen in two ways
    failed : audio files that gave no sound: track, file, reason, remedy
    """

    track: NDArray[np.int64]
    artist: NDArray[np.int64]
    draw: Callable[[NDArray[np.int64], np.random.Generator], Tensor]
    embed: Callable[[nn.Module, NDArray[np.int64]], NDArray[np.float32]]
    whiten: Callable[[ContentModel, NDArray[np.int64]], None]
    repeats: bool
    failed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FAILURES))


def read_clips(
    catalogue: Catalogue,
    model: ContentModel,
    *,
    trains: NDArray[np.bool_] | None = None,
    work: Path,
    progress: Progress = silent,
) -> Clips:
    """Read what an encoder embeds, on the device of the encoder.

    Parameters
    ----------
    trains : (artists,) bool, from whose clips a new encoder learns the usual level and spread
        None leaves an encoder as it is.
    work : folder for log-mel chunks that are not extracted beside the catalogue

    Raises
    ------
    DataError
        If no audio file can be decoded.
    """
    clips = (
        _read_vectors(catalogue, model)
        if isinstance(model, VectorEncoder)
        else _read_audio(catalogue, model, work=work, progress=progress)
    )
    if trains is not None:
        clips.whiten(model, np.flatnonzero(trains[clips.artist]))
    return clips


def _read_audio(
    catalogue: Catalogue,
    model: AudioEncoder,
    *,
    work: Path,
    progress: Progress,
) -> Clips:
    settings, device = model.settings, model.usual.device
    folder = catalogue.extracted or work / "log-mel"
    extraction = extract(
        catalogue, folder, workers=settings.workers or None, retry=False, progress=progress
    )
    mels = extraction.done
    track = _rows(catalogue.ids("track"), mels.ids)
    artist = _rows(catalogue.ids("artist"), tuple(catalogue.tracks["artist"]))[track]

    def whiten(model: ContentModel, rows: NDArray[np.int64]) -> None:
        if isinstance(model, AudioEncoder) and len(rows := _some(rows)):
            model.whiten(_summaries(model, mels, rows), torch.from_numpy(artist[rows]).to(device))

    def draw(rows: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        chunks = augment(
            mels.read_one_each(rows, generator),
            generator,
            frames=settings.frames,
            gain=settings.gain,
            shift=settings.shift,
            mask=settings.mask,
        )
        return torch.from_numpy(chunks).to(device)

    def embed(model: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        blocks = (rows[x : x + TRACKS_BLOCK] for x in range(0, len(rows), TRACKS_BLOCK))
        vectors = [_embed_tracks(model, mels, block, device) for block in blocks]
        return torch.cat(vectors).cpu().numpy()

    return Clips(track, artist, draw, embed, whiten, repeats=True, failed=extraction.failed)


def _read_vectors(catalogue: Catalogue, model: VectorEncoder) -> Clips:
    """Features of tracks, then those of artists."""
    device = model.mean.device
    track, of_tracks = _features(catalogue, model, "track")
    own, of_artists = _features(catalogue, model, "artist")
    artist_of = _rows(catalogue.ids("artist"), tuple(catalogue.tracks["artist"]))
    artist = np.concatenate([artist_of[track], own])
    values = torch.from_numpy(np.concatenate([of_tracks, of_artists])).to(device)

    def whiten(model: ContentModel, rows: NDArray[np.int64]) -> None:
        if len(rows := _some(rows)):
            of_artist = torch.from_numpy(artist[rows]).to(device)
            model.whiten(values[torch.from_numpy(rows).to(device)], of_artist)

    def draw(rows: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        return values[torch.from_numpy(rows).to(device)]

    def embed(model: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        blocks = torch.split(torch.from_numpy(rows).to(device), VECTOR_BLOCK)
        return torch.cat([model(values[block]) for block in blocks]).cpu().numpy()

    of_track = np.concatenate([track, np.full(len(own), -1)])
    return Clips(of_track, artist, draw, embed, whiten, repeats=False)


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows at even distances, as many as an encoder is whitened by at most."""
    if len(rows) <= WHITENED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, WHITENED).astype(np.int64)]


@torch.no_grad()
def _summaries(model: AudioEncoder, mels: LogMels, rows: NDArray[np.int64]) -> Tensor:
    """Plain summaries of tracks, the mean over the chunks of each, (m,) rows -> (m, 237)."""
    device = model.usual.device
    summaries = torch.empty(len(rows), SUMMARY, device=device)
    for place, row in enumerate(rows):
        chunks = torch.from_numpy(mels.read(row).astype(np.float32)).to(device)
        summaries[place] = model.summary(chunks).mean(dim=0)
    return summaries


def _embed_tracks(
    model: nn.Module, mels: LogMels, rows: NDArray[np.int64], device: torch.device
) -> Tensor:
    """E_C of a few tracks, from all chunks of each."""
    chunks = [mels.read(row) for row in rows]
    vectors = model(torch.from_numpy(np.concatenate(chunks)).to(device).float())
    return torch.stack([of_track(x) for x in torch.split(vectors, [len(x) for x in chunks])])


def _features(
    catalogue: Catalogue, model: VectorEncoder, kind: Kind
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the items of one kind that have features, and those, (n,) and (n, columns)."""
    matrix = catalogue.vectors().get((model.source, kind))
    if matrix is None:
        return np.empty(0, dtype=np.int64), np.empty((0, len(model.mean)), dtype=np.float32)
    values, missing = matrix.align(catalogue.ids(kind))
    return np.flatnonzero(~missing), values[~missing]


def _rows(ids: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    row = {item: index for index, item in enumerate(ids)}
    return np.array([row[x] for x in wanted], dtype=np.int64)
