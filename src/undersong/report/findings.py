"""What a report page shows beside the evaluation: how often items are shown, and some answers."""

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
    describe_catalogue,
    fingerprint,
    read_catalogue,
)
from undersong.errors import ArtifactError
from undersong.model import ItemIndex, Model
from undersong.progress import Progress, silent
from undersong.retrieval import Index, Query, search
from undersong.runs import Run

LIST = 10  # answers of each item whose appearances are counted
LARGEST = 20_000  # items that ask for that; of more, a random sample asks and answers
SAMPLES = 4  # well-known items shown, and as many long-tail ones
ANSWERS = 8  # of each
POINTS = 12_000  # places of the map that are drawn


@dataclass(frozen=True)
class Sample:
    """One item and its answers: (name, about, confidence or None, long tail) each."""

    name: str
    about: str
    relations: int
    answers: tuple[tuple[str, str, float | None, bool], ...]


@dataclass(frozen=True)
class Map:
    """Places of items, (m, 2), which of them are long tail, (m,), and (genre, x, y, items)."""

    places: NDArray[np.float32]
    tail: NDArray[np.bool_]
    regions: tuple[tuple[str, float, float, int], ...]


@dataclass(frozen=True)
class Findings:
    """What was counted and drawn of one run.

    Parameters
    ----------
    kind : whose answers
    relations : (n,) known relations of every item
    shown : ways to answer -> (asked,) how many of the lists each item stands in
    shown_tail : (asked,) whether each of those items is long tail
    asked : how many items asked, and could be answers
    samples : well-known items, and long-tail items, with their answers
    map : None where the run has none
    data : what the catalogue holds, and where from; None where it is not at hand
    """

    kind: Kind
    relations: NDArray[np.int64]
    shown: Mapping[str, NDArray[np.int64]]
    shown_tail: NDArray[np.bool_]
    asked: int
    samples: tuple[tuple[Sample, ...], tuple[Sample, ...]]
    map: Map | None
    catalogue: Catalogue | None
    described: tuple[KindDescription, ...]


def find(
    run: Run, *, catalogue_folder: Path | None = None, seed: int = 0, progress: Progress = silent
) -> Findings:
    """Count and draw what the page of a run shows.

    Parameters
    ----------
    catalogue_folder : by default where the run was trained; a catalogue that is gone or has
        changed since is not described

    Raises
    ------
    ArtifactError
        If a catalogue was given that is not the one of the run.
    """
    model = Model(run)
    index, items = model.of(), model.items()
    ids = index.index.embeddings.ids
    tail = np.array([index.names.get(x).long_tail for x in ids], dtype=bool)
    generator = np.random.default_rng(seed)
    n = len(tail)
    drawn = np.arange(n)
    if n > LARGEST:
        drawn = np.sort(generator.choice(n, LARGEST, replace=False))
    catalogue = _catalogue(run, catalogue_folder)
    return Findings(
        kind=model.kind,
        relations=items["relations"].to_numpy(),
        shown=_shown(index.index, drawn, progress=progress),
        shown_tail=tail[drawn],
        asked=len(drawn),
        samples=_samples(model, tail, generator),
        map=_map(index, generator),
        catalogue=catalogue,
        described=describe_catalogue(catalogue).kinds if catalogue else (),
    )


def _catalogue(run: Run, folder: Path | None) -> Catalogue | None:
    place = folder or Path(run.manifest["catalogue_folder"])
    try:
        same = fingerprint(place) == run.manifest["catalogue"]
    except ArtifactError:
        if folder:
            raise
        return None
    if folder and not same:
        raise ArtifactError(
            f"{folder} is not the catalogue that {run.folder} was trained on, or has changed "
            "since; give the right one with --catalogue, or none"
        )
    return read_catalogue(place) if same else None


def _shown(
    index: Index, drawn: NDArray[np.int64], *, progress: Progress
) -> dict[str, NDArray[np.int64]]:
    """Count in how many lists of ``LIST`` answers each item stands, (len(drawn),) each."""
    ways = {"the default answers": False, "the cosine of E_G alone": True}
    if index.ranker is None:
        ways = {"the default answers (cosine of E_G)": False}
    library = None
    if len(drawn) < len(index.embeddings.ids):
        library = frozenset(index.embeddings.ids[x] for x in drawn)
    found = {}
    for way, paper in ways.items():
        counts = np.zeros(len(index.embeddings.ids), dtype=np.int64)
        request = Query(k=LIST, paper=paper, library=library)
        done = 0
        for block in search(index, drawn, request=request):
            np.add.at(counts, block.neighbours[block.neighbours >= 0], 1)
            done += len(block.rows)
            progress(f"answers, {way}", done, len(drawn))
        found[way] = counts[drawn]
    return found


def _samples(
    model: Model, tail: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Some of the best-known twentieth and some of the long tail, with their answers."""
    embeddings = model.of().index.embeddings
    ids = pl.DataFrame({"id": embeddings.ids})
    table = ids.join(model.items(), on="id", how="left", maintain_order="left")
    fame = "popularity" if table["popularity"].count() else "relations"
    order = np.argsort(-table[fame].fill_null(-1).to_numpy(), kind="stable")
    known = order[~tail[order]][: max(len(ids) // 20, SAMPLES)]
    groups = []
    for group in (known, np.flatnonzero(tail & embeddings.vectors.any(axis=1))):
        rows = np.sort(generator.permutation(group)[:SAMPLES])
        groups.append(tuple(_sample(model, embeddings.ids[row]) for row in rows))
    return groups[0], groups[1]


def _sample(model: Model, item_id: str) -> Sample:
    neighbours = model.similar(model.of().names.get(item_id), k=ANSWERS)
    (item,) = neighbours.queries
    answers = tuple((x.item.name, x.item.about, x.confidence, x.item.long_tail) for x in neighbours)
    return Sample(item.name, item.about, item.relations, answers)


def _map(index: ItemIndex, generator: np.random.Generator) -> Map | None:
    if index.places is None or index.regions is None:
        return None
    relations = index.names.table.select("id", "relations")
    places = index.places.join(relations, on="id", how="left")
    if len(places) > POINTS:
        places = places[np.sort(generator.choice(len(places), POINTS, replace=False))]
    tail = (places["relations"].fill_null(0) == 0).to_numpy()
    return Map(places.select("x", "y").to_numpy(), tail, tuple(index.regions.rows()))
