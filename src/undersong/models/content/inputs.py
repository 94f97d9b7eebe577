"""What CbRM reads of a catalogue: log-mel chunks of files, or rows of a feature matrix (2.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from undersong.audio.augment import augment
from undersong.audio.extract import extract
from undersong.audio.shards import LogMels
from undersong.catalogue import Catalogue, Kind
from undersong.models.content.network import SUMMARY, AudioEncoder, VectorEncoder, of_track
from undersong.progress import Progress

TRACKS_BLOCK = 16  # of up to 8 chunks, embedded at a time
VECTOR_BLOCK = 8192
WHITENED = 20_000  # tracks at most that say how tracks of one artist differ


@dataclass(frozen=True)
class Clips:
    """What the encoder reads: one piece per track, and one per artist with a vector of its own.

    Parameters
    ----------
    track : (n,) int, row of the track, -1 for an artist's own vector
    artist : (n,) int, row of the artist
    draw : pieces as one training step sees them: (m,) rows -> (m, ...)
    embed : E_C of pieces: (m,) rows -> (m, width)
    repeats : whether a piece drawn twice is seen in two ways
    """

    track: NDArray[np.int64]
    artist: NDArray[np.int64]
    draw: Callable[[NDArray[np.int64], np.random.Generator], Tensor]
    embed: Callable[[nn.Module, NDArray[np.int64]], NDArray[np.float32]]
    repeats: bool


def of_audio(
    catalogue: Catalogue,
    parts: NDArray[np.str_],
    *,
    model: AudioEncoder,
    work: Path,
    device: str,
    progress: Progress,
) -> tuple[Clips, pl.DataFrame]:
    """Extract what is not yet extracted beside the catalogue, and read it back chunk by chunk."""
    settings = model.settings
    found = extract(
        catalogue,
        catalogue.extracted or work / "log-mel",
        workers=settings.workers or None,
        progress=progress,
    )
    mels = found.done
    track = _rows(catalogue.ids("track"), mels.ids)
    artist = _rows(catalogue.ids("artist"), tuple(catalogue.tracks["artist"]))[track]

    trains = np.flatnonzero(parts[artist] == "train")
    if len(trains):
        some = trains[np.linspace(0, len(trains) - 1, min(len(trains), WHITENED)).astype(np.int64)]
        model.whiten(
            _summaries(model, mels, some, device), torch.from_numpy(artist[some]).to(device)
        )

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
        blocks = range(0, len(rows), TRACKS_BLOCK)
        vectors = [_embed_tracks(model, mels, rows[x : x + TRACKS_BLOCK], device) for x in blocks]
        return torch.cat(vectors).cpu().numpy()

    return Clips(track, artist, draw, embed, repeats=True), found.failed


def of_vectors(
    catalogue: Catalogue,
    name: str,
    parts: NDArray[np.str_],
    *,
    model: VectorEncoder,
    device: str,
) -> Clips:
    """Features of tracks, then those of artists; the model learns the scale of training ones."""
    width = len(model.mean)
    track, track_values = _features(catalogue, (name, "track"), width)
    own, own_values = _features(catalogue, (name, "artist"), width)
    artist_of = _rows(catalogue.ids("artist"), tuple(catalogue.tracks["artist"]))
    artist = np.concatenate([artist_of[track], own])
    values = torch.from_numpy(np.concatenate([track_values, own_values])).to(device)
    is_train = torch.from_numpy(parts[artist] == "train").to(device)
    if is_train.any():
        model.standardise(values[is_train])

    def draw(rows: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        return values[torch.from_numpy(rows).to(device)]

    def embed(now: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        blocks = torch.split(torch.from_numpy(rows).to(device), VECTOR_BLOCK)
        return torch.cat([now(values[block]) for block in blocks]).cpu().numpy()

    return Clips(np.concatenate([track, np.full(len(own), -1)]), artist, draw, embed, repeats=False)


@torch.no_grad()
def _summaries(model: AudioEncoder, mels: LogMels, rows: NDArray[np.int64], device: str) -> Tensor:
    """Plain summaries of tracks, the mean over the chunks of each, (m,) rows -> (m, 96)."""
    found = torch.empty(len(rows), SUMMARY, device=device)
    for place, row in enumerate(rows):
        chunks = torch.from_numpy(mels.read(row).astype(np.float32)).to(device)
        found[place] = model.summary(chunks).mean(dim=0)
    return found


def _embed_tracks(model: nn.Module, mels: LogMels, rows: NDArray[np.int64], device: str) -> Tensor:
    """E_C of a few tracks, from all chunks of each."""
    chunks = [mels.read(row) for row in rows]
    heard = model(torch.from_numpy(np.concatenate(chunks)).to(device).float())
    return torch.stack([of_track(x) for x in torch.split(heard, [len(x) for x in chunks])])


def _features(
    catalogue: Catalogue, key: tuple[str, Kind], width: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the items of one kind that have features, and those, (n,) and (n, width)."""
    found = catalogue.features.get(key)
    if found is None:
        return np.empty(0, dtype=np.int64), np.empty((0, width), dtype=np.float32)
    values, missing = found.align(catalogue.ids(key[1]))
    return np.flatnonzero(~missing), values[~missing]


def _rows(ids: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    row = {item: index for index, item in enumerate(ids)}
    return np.array([row[x] for x in wanted], dtype=np.int64)
