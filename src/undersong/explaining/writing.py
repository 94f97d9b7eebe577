"""Write all that reasons are told from into a generation that is about to be published."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from undersong import inputs
from undersong.catalogue.tables import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.explaining import background, removal
from undersong.inputs import Source
from undersong.progress import Progress, silent


def write(
    home: Path,
    catalogue: Catalogue,
    kind: Kind,
    *,
    sources: Sequence[Source],
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
