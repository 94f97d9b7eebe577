"""E_G of every item had one group of sources said nothing, for reasons (GRM, section 2.3).

GRM learned with sources hidden (``hide_source``), so it can be asked for an embedding without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from undersong import features
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.explanation import data
from undersong.features import Modality, rows_of
from undersong.io.files import replacing
from undersong.models.general import training
from undersong.progress import Progress, silent

BLOCK = 2048


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
        An item of which a group says nothing keeps it.
    """
    n, d = vectors.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        out = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.float16, shape=(n, len(groups), d)
        )
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            for column, hidden in enumerate(groups.values()):
                out[rows, column] = vectors[rows]
                told = [~x.missing[rows] for x in sources if x.name in hidden]
                some = rows[np.any(told, axis=0)]
                if len(some):
                    out[some, column] = without(
                        model, rows_of(sources, some), hidden, device=device
                    )
            progress("reasons", int(rows[-1]) + 1, n)
        out.flush()


def without(
    model: nn.Module, sources: Sequence[Modality], hidden: Sequence[str], *, device: str
) -> NDArray[np.float32]:
    """E_G of n items with some sources hidden, (n, d); zeros where nothing is left."""
    left = tuple(
        replace(x, missing=np.ones_like(x.missing)) if x.name in hidden else x for x in sources
    )
    found = training.embed(model, left, device=device)
    found[np.all([x.missing for x in left], axis=0)] = 0
    return found


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
    sources : what GRM read of each item of the catalogue
    model : that made ``embeddings[kind, "general"]``
    """
    groups = data.groups_of([x.name for x in sources], catalogue.fields_of(kind))
    heard = embeddings.get(("track", "content")) if kind == "artist" else None
    table = data.make(catalogue, kind, sources, groups=groups, heard=heard.ids if heard else ())
    data.write(home / data.ITEMS, table, groups)
    general, ids = embeddings[(kind, "general")], catalogue.ids(kind)
    embedded = np.isin(ids, general.ids)
    write_without(
        home / data.WITHOUT,
        model,
        features.rows_of(sources, np.flatnonzero(embedded)),
        vectors=general.vectors,
        groups=groups,
        device=str(next(model.parameters()).device),
        progress=progress,
    )
