"""Write all that reasons are told from into a generation that is about to be published."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from undersong import inputs
from undersong.catalogue.tables import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.evidence import Evidence
from undersong.explaining import background, first, removal
from undersong.explaining.background import Background
from undersong.inputs import Source
from undersong.progress import Progress, silent
from undersong.ranker import Ranker
from undersong.relations import known


def write(
    home: Path,
    catalogue: Catalogue,
    kind: Kind,
    *,
    sources: Sequence[Source],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    model: nn.Module,
    ranker: Ranker | None,
    progress: Progress = silent,
) -> None:
    """Write what items share, E_G without each group of sources, and the first answers' effects.

    Parameters
    ----------
    sources : what GRM read of each item of the catalogue
    model : that made ``embeddings[kind, "general"]``
    """
    groups = background.groups_of([x.name for x in sources], catalogue.fields_of(kind))
    heard = embeddings.get(("track", "content")) if kind == "artist" else None
    table = background.make(
        catalogue, kind, sources, groups=groups, heard=heard.ids if heard else ()
    )
    background.write(home / background.ITEMS, table, groups)
    general, ids = embeddings[(kind, "general")], catalogue.ids(kind)
    embedded = np.isin(ids, general.ids)
    removal.write(
        home / background.WITHOUT,
        model,
        inputs.rows_of(sources, np.flatnonzero(embedded)),
        vectors=general.vectors,
        groups=groups,
        device=str(next(model.parameters()).device),
        progress=progress,
    )
    if ranker is None:
        return
    related = known(catalogue, kind)
    rows = np.flatnonzero(embedded | (related.getnnz(axis=1) > 0))
    evidence = Evidence(
        general.align([ids[x] for x in rows])[0],
        inputs.rows_of(sources, rows),
        related[rows][:, rows].tocsr(),
    )
    without = np.load(home / background.WITHOUT, mmap_mode="r", allow_pickle=False)
    told = Background(groups, without, table, None, catalogue.names(kind), {})
    first.write(
        home / background.FIRST, ranker, evidence, background=told, rows=rows, progress=progress
    )
