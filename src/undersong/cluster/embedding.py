"""E_G of every item of a catalogue by a run that was trained, perhaps on a part of it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from undersong import inputs
from undersong.additions.sources import read_encoders
from undersong.catalogue.tables import KINDS, Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.inputs import Source
from undersong.models.general import GeneralModel
from undersong.progress import Progress, silent
from undersong.runs import Run
from undersong.stages import content, general
from undersong.stages.pieces import Pieces
from undersong.stages.reading import CONTENT, KNOWN_OF_EACH, read_sources

BLOCK = 1024  # items embedded at a time, and pieces of sound or features
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
        (one, name): run.embeddings(one, name)
        for one in KINDS
        for name in KNOWN_OF_EACH
        if run.has_embeddings(one, name)
    }
    if run.has(f"weights/{CONTENT}.safetensors"):
        known |= _heard(run, catalogue, work=work, each=each, progress=progress)
    sources = read_sources(catalogue, kind, read_encoders(run), known)
    rows = np.flatnonzero(~np.all([x.missing for x in sources], axis=0))
    if not len(rows):
        raise DataError(
            f"nothing that {run.folder} reads is known of the {len(sources[0].missing)} {kind}s: "
            f"{', '.join(x.name for x in sources)}; map those columns, features or files"
        )
    model = general.load(run.file("weights/general.safetensors"))
    one = partial(_general, model, inputs.rows_of(sources, rows))
    vectors = _joined(one, len(rows), each=each, stage="E_G", progress=progress)
    ids = catalogue.ids(kind)
    return Embeddings(tuple(ids[row] for row in rows), vectors)


def _heard(
    run: Run, catalogue: Catalogue, *, work: Path, each: Each, progress: Progress
) -> dict[tuple[Kind, str], Embeddings]:
    """E_C of tracks and artists."""
    model = content.load_content(run.file(f"weights/{CONTENT}.safetensors"))
    pieces = content.read_pieces(catalogue, model, work=work, progress=progress)
    if not len(pieces.artist):
        return {}
    one = partial(_content, pieces, model)
    vectors = _joined(one, len(pieces.artist), each=each, stage="E_C", progress=progress)
    tracks, artists = content.of_items(catalogue, pieces, vectors, top=model.settings.top)
    return {("track", CONTENT): tracks, ("artist", CONTENT): artists}


def _joined(
    one: Callable[[int], NDArray[np.float32]],
    n: int,
    *,
    each: Each,
    stage: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """Vectors of all blocks, (n, d)."""
    found = []
    for vectors in each(one, range(0, n, BLOCK)):
        found.append(vectors)
        progress(stage, sum(map(len, found)), n)
    return np.concatenate(found)


@torch.no_grad()
def _content(pieces: Pieces, model: nn.Module, start: int) -> NDArray[np.float32]:
    return pieces.embed(model, np.arange(start, min(start + BLOCK, len(pieces.artist))))


def _general(model: GeneralModel, sources: tuple[Source, ...], start: int) -> NDArray[np.float32]:
    rows = np.arange(start, min(start + BLOCK, len(sources[0].missing)))
    return general.embed(model, inputs.rows_of(sources, rows), device="cpu")
