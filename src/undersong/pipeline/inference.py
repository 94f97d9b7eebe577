"""E_G of every item of a catalogue by a run that was trained, perhaps on a part of it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from undersong import features
from undersong.catalogue import KINDS, Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.features import CONTENT, KNOWN_OF_EACH, Modality, read_sources
from undersong.foldin.added import read_encoders
from undersong.models.content.inputs import Clips, read_clips
from undersong.models.content.network import load_content
from undersong.models.content.training import of_items
from undersong.models.general.training import embed as embed_general, load_general
from undersong.progress import Progress, silent
from undersong.runs import Run

ITEMS = 1024  # items embedded at a time, and clips of sound or features
Vectors = Iterator[NDArray[np.float32]]
Each = Callable[[Callable[[int], NDArray[np.float32]], Iterable[int]], Vectors]


def embed_catalogue(
    run: Run,
    catalogue: Catalogue,
    kind: Kind,
    *,
    work: Path,
    each: Each = map,
    progress: Progress = silent,
) -> Embeddings:
    """Embed all items of one kind of which any source says something.

    E_C is computed from the sound or the features of this catalogue. E_U is known of trained
    items alone.

    Parameters
    ----------
    work : folder where log-mel chunks go that are not yet extracted
    each : applies a function to each block, in order; a cluster may do that

    Raises
    ------
    DataError
        If nothing that the run reads is known of any item.
    """
    known = {
        (of, name): run.embeddings(of, name)
        for of in KINDS
        for name in KNOWN_OF_EACH
        if run.has_embeddings(of, name)
    }
    _check_ears(run, catalogue)
    if run.has(f"weights/{CONTENT}.safetensors"):
        known |= _content_embeddings(run, catalogue, work=work, each=each, progress=progress)
    sources = read_sources(catalogue, kind, read_encoders(run), known)
    rows = np.flatnonzero(~np.all([x.missing for x in sources], axis=0))
    if not len(rows):
        raise DataError(
            f"nothing that {run.folder} reads is known of the {len(sources[0].missing)} {kind}s: "
            f"{', '.join(x.name for x in sources)}; map those columns, features or files"
        )
    model = load_general(run.file("weights/general.safetensors"))
    embed = partial(_general, model, features.rows_of(sources, rows))
    vectors = _joined(embed, len(rows), each=each, stage="E_G", progress=progress)
    ids = catalogue.ids(kind)
    return Embeddings(tuple(ids[row] for row in rows), vectors)


def _check_ears(run: Run, catalogue: Catalogue) -> None:
    """Refuse a catalogue that other pretrained ears have heard than those that the run reads."""
    there = {x.key for x in catalogue.heard}
    for ears in run.manifest.get("ears", ()):
        if f"{ears['name']} {ears['sha256']}" not in there:
            raise DataError(
                f"{run.folder} heard its tracks with the ears {ears['name']!r} (sha256 "
                f"{ears['sha256'][:16]}), and nothing of this catalogue was heard by these; run "
                "`undersong extract` on it with them"
            )


def _content_embeddings(
    run: Run, catalogue: Catalogue, *, work: Path, each: Each, progress: Progress
) -> dict[tuple[Kind, str], Embeddings]:
    """E_C of tracks and artists."""
    models = load_content(run.file(f"weights/{CONTENT}.safetensors"))
    heard = []
    for model in models:
        clips = read_clips(catalogue, model, work=work, progress=progress)
        vectors = np.empty((0, model.settings.width), dtype=np.float32)
        if len(clips.artist):
            embed = partial(_content, clips, model)
            vectors = _joined(embed, len(clips.artist), each=each, stage="E_C", progress=progress)
        heard.append((clips, vectors))
    if not any(len(vectors) for _, vectors in heard):
        return {}
    tracks, artists = of_items(catalogue, heard, top=models[0].settings.top)
    return {("track", CONTENT): tracks, ("artist", CONTENT): artists}


def _joined(
    embed: Callable[[int], NDArray[np.float32]],
    n: int,
    *,
    each: Each,
    stage: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """Vectors of all blocks, (n, d)."""
    blocks = []
    for vectors in each(embed, range(0, n, ITEMS)):
        blocks.append(vectors)
        progress(stage, sum(map(len, blocks)), n)
    return np.concatenate(blocks)


@torch.no_grad()
def _content(clips: Clips, model: nn.Module, start: int) -> NDArray[np.float32]:
    return clips.embed(model, np.arange(start, min(start + ITEMS, len(clips.artist))))


def _general(model: nn.Module, sources: tuple[Modality, ...], start: int) -> NDArray[np.float32]:
    rows = np.arange(start, min(start + ITEMS, len(sources[0].missing)))
    return embed_general(model, features.rows_of(sources, rows), device="cpu")
