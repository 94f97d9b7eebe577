"""E_G of every item without each group of sources, for reasons (GRM, section 2.3).

GRM learned with sources hidden (``hide_source``), so it can embed an item without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.explanation import data
from undersong.features import Modality, rows_of
from undersong.io.files import replacing
from undersong.models.general.training import embed
from undersong.progress import Progress, silent

BLOCK = 2048
SIZE = 256  # items of which E_G is computed: so many, or a multiple


def write_without(
    path: Path,
    model: nn.Module,
    sources: Sequence[Modality],
    *,
    vectors: NDArray[np.float32],
    groups: Mapping[str, Sequence[str]],
    device: str,
    progress: Progress = silent,
) -> None:
    """Write E_G of n items without each of g groups, (n, g, d) float16, block by block.

    Parameters
    ----------
    vectors : (n, d) float32, E_G with all sources
        Where a group has nothing of an item, its vector without the group is the same.
    """
    n, d = vectors.shape
    about = {"descr": "<f2", "fortran_order": False, "shape": (n, len(groups), d)}
    # A file that is written takes no memory; one that is mapped took 3 GiB of a million items.
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            block = np.repeat(vectors[rows].astype(np.float16)[:, None], len(groups), axis=1)
            for column, hidden in enumerate(groups.values()):
                present = np.any([~x.missing[rows] for x in sources if x.name in hidden], axis=0)
                if some := int(present.sum()):
                    # Of few sizes: for each new one kernels are prepared, and memory taken.
                    whole = np.resize(rows[present], -(-some // SIZE) * SIZE)
                    left = without(model, rows_of(sources, whole), hidden, device=device)
                    block[present, column] = left[:some]
            file.write(block.astype("<f2").tobytes())
            progress("reasons", int(rows[-1]) + 1, n)


def without(
    model: nn.Module, sources: Sequence[Modality], hidden: Sequence[str], *, device: str
) -> NDArray[np.float32]:
    """Embed n items with some sources hidden, (n, d); zeros where nothing is left."""
    visible = tuple(
        replace(x, missing=np.ones_like(x.missing)) if x.name in hidden else x for x in sources
    )
    vectors = embed(model, visible, device=device)
    vectors[np.all([x.missing for x in visible], axis=0)] = 0
    return vectors


def write(
    home: Path,
    catalogue: Catalogue,
    kind: Kind,
    *,
    sources: Sequence[Modality],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    model: nn.Module,
    progress: Progress = silent,
) -> None:
    """Write what items share, and E_G without each group of sources.

    Parameters
    ----------
    sources : inputs of GRM, of each item of the catalogue
    model : GRM that made ``embeddings[kind, "general"]``
    """
    groups = data.groups_of([x.name for x in sources], catalogue.fields_of(kind))
    tracks = embeddings.get(("track", "content")) if kind == "artist" else None
    heard = tracks.ids if tracks else ()
    shared = data.make(catalogue, kind, sources, groups=groups, heard=heard, progress=progress)
    data.write(home / data.ITEMS, shared, groups)
    del shared
    general, ids = embeddings[(kind, "general")], catalogue.ids(kind)
    embedded = np.isin(ids, general.ids)
    write_without(
        home / data.WITHOUT,
        model,
        sources if embedded.all() else rows_of(sources, np.flatnonzero(embedded)),
        vectors=general.vectors,
        groups=groups,
        device=str(next(model.parameters()).device),
        progress=progress,
    )
