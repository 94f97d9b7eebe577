"""What the page shows beside the evaluation: data, answers of some items, how often items occur."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import (
    Catalogue,
    Kind,
    KindDescription,
    Origin,
    describe_catalogue,
    fingerprint,
    read_catalogue,
)
from undersong.errors import ArtifactError
from undersong.item_index import ItemIndex
from undersong.model import Model
from undersong.progress import Progress, silent
from undersong.retrieval import Index, Neighbours, Query, search
from undersong.runs import Run

LIST_LENGTH = 10  # answers of each item whose appearances are counted
MOST_QUERIES = 20_000  # of more items, a random sample are the queries and the candidates
SAMPLES = 4  # well-known items shown, and as many long-tail ones
ANSWERS = 8  # of each
MOST_POINTS = 12_000  # of the map


@dataclass(frozen=True)
class ItemMap:
    """Points of the items, (m, 2), whether each is long tail, (m,), and (genre, x, y, items)."""

    points: NDArray[np.float32]
    long_tail: NDArray[np.bool_]
    regions: tuple[tuple[str, float, float, int], ...]


@dataclass(frozen=True)
class Contents:
    """What was counted and drawn of one run.

    Parameters
    ----------
    kind : of the items
    relations : (n,) known relations of every item
    appearances : ranking method -> (queries,) in how many lists of ``LIST_LENGTH`` each item occurs
    long_tail : (queries,) whether each of those items is long tail
    samples : answers of well-known items, and of long-tail items
    map : None where the run has none
    origins, described : of the catalogue; empty where it is missing
    """

    kind: Kind
    relations: NDArray[np.int64]
    appearances: Mapping[str, NDArray[np.int64]]
    long_tail: NDArray[np.bool_]
    samples: tuple[tuple[Neighbours, ...], tuple[Neighbours, ...]]
    map: ItemMap | None
    origins: tuple[Origin, ...]
    described: tuple[KindDescription, ...]


def collect(
    run: Run, *, catalogue_folder: Path | None = None, seed: int = 0, progress: Progress = silent
) -> Contents:
    """Count and draw what the page of a run shows.

    Parameters
    ----------
    catalogue_folder : by default where the run was trained; a catalogue that is missing or has
        changed since is not described

    Raises
    ------
    ArtifactError
        If ``catalogue_folder`` holds another catalogue than the one of the run.
    """
    model = Model(run)
    items = model.of()
    ids = items.index.embeddings.ids
    tail = np.array([items.names.get(x).long_tail for x in ids], dtype=bool)
    generator = np.random.default_rng(seed)
    queries = np.arange(len(tail))
    if len(tail) > MOST_QUERIES:
        queries = np.sort(generator.choice(len(tail), MOST_QUERIES, replace=False))
    catalogue = _catalogue(run, catalogue_folder)
    return Contents(
        kind=model.kind,
        relations=model.items()["relations"].to_numpy(),
        appearances=_appearances(items.index, queries, progress=progress),
        long_tail=tail[queries],
        samples=_samples(model, tail, generator),
        map=_map(items, generator),
        origins=(*(catalogue.origins if catalogue else ()), *_ears(run)),
        described=describe_catalogue(catalogue).kinds if catalogue else (),
    )


def _ears(run: Run) -> tuple[Origin, ...]:
    """Return the pretrained ears that a run hears with, as origins of its data."""
    return tuple(
        Origin(
            f"{x['name']}, pretrained (sha256 {x['sha256'][:16]}), on {x['training']}",
            licence=x["licence"],
            gives="vectors of what tracks sound like",
        )
        for x in run.manifest.get("ears", ())
    )


def _catalogue(run: Run, folder: Path | None) -> Catalogue | None:
    path = folder or Path(run.manifest["catalogue_folder"])
    try:
        same = fingerprint(path) == run.manifest["catalogue"]
    except ArtifactError:
        if folder:
            raise
        return None
    if folder and not same:
        raise ArtifactError(
            f"{folder} is not the catalogue that {run.folder} was trained on, or has changed "
            "since; name the right one with --catalogue, or leave the option out"
        )
    return read_catalogue(path) if same else None


def _appearances(
    index: Index, queries: NDArray[np.int64], *, progress: Progress
) -> dict[str, NDArray[np.int64]]:
    methods = {"the default answers": False, "the cosine of E_G alone": True}
    if index.ranker is None:
        methods = {"the default answers (cosine of E_G)": False}
    library = None
    if len(queries) < len(index.embeddings.ids):
        library = frozenset(index.embeddings.ids[x] for x in queries)
    appearances = {}
    for method, paper in methods.items():
        counts = np.zeros(len(index.embeddings.ids), dtype=np.int64)
        done = 0
        request = Query(k=LIST_LENGTH, paper=paper, library=library)
        for block in search(index, queries[index.in_turn(queries)], query=request):
            np.add.at(counts, block.neighbours[block.neighbours >= 0], 1)
            done += len(block.rows)
            progress(f"answers, {method}", done, len(queries))
        appearances[method] = counts[queries]
    return appearances


def _samples(
    model: Model, tail: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[tuple[Neighbours, ...], tuple[Neighbours, ...]]:
    """Draw some of the best-known twentieth and some of the long tail, with their answers."""
    names, embeddings = model.of().names, model.of().index.embeddings
    ids = pl.DataFrame({"id": embeddings.ids})
    table = ids.join(model.items(), on="id", how="left", maintain_order="left")
    column = "popularity" if table["popularity"].count() else "relations"
    order = np.argsort(-table[column].fill_null(-1).to_numpy(), kind="stable")
    known = order[~tail[order]][: max(len(ids) // 20, SAMPLES)]
    groups = []
    for group in (known, np.flatnonzero(tail & embeddings.vectors.any(axis=1))):
        rows = np.sort(generator.permutation(group)[:SAMPLES])
        items = [names.get(embeddings.ids[row]) for row in rows]
        groups.append(tuple(model.similar(item, k=ANSWERS) for item in items))
    return groups[0], groups[1]


def _map(items: ItemIndex, generator: np.random.Generator) -> ItemMap | None:
    if items.places is None or items.regions is None:
        return None
    relations = items.names.table.select("id", "relations")
    points = items.places.join(relations, on="id", how="left")
    if len(points) > MOST_POINTS:
        points = points[np.sort(generator.choice(len(points), MOST_POINTS, replace=False))]
    tail = (points["relations"].fill_null(0) == 0).to_numpy()
    return ItemMap(points.select("x", "y").to_numpy(), tail, tuple(items.regions.rows()))
