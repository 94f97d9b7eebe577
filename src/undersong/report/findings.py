"""What a report page shows beside the evaluation: how often items are shown, and some answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import model
from undersong.catalogue import (
    Catalogue,
    Kind,
    KindDescription,
    describe_catalogue,
    fingerprint,
    read_catalogue,
)
from undersong.errors import ArtifactError
from undersong.progress import Progress, silent
from undersong.retrieval import Index, Query, projection, search
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
    kind = cast(Kind, run.manifest["kind"])
    items = run.items(kind)
    index = model.open_index(run, kind)
    relations = dict(items.select("id", "relations").iter_rows())
    tail = np.array([not relations.get(x, 0) for x in index.embeddings.ids], dtype=bool)
    generator = np.random.default_rng(seed)
    n = len(tail)
    drawn = np.arange(n)
    if n > LARGEST:
        drawn = np.sort(generator.choice(n, LARGEST, replace=False))
    catalogue = _catalogue(run, catalogue_folder)
    return Findings(
        kind=kind,
        relations=items["relations"].to_numpy(),
        shown=_shown(index, drawn, progress=progress),
        shown_tail=tail[drawn],
        asked=len(drawn),
        samples=_samples(index, items, tail, generator),
        map=_map(run, items, kind, generator),
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
    index: Index, items: pl.DataFrame, tail: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Some of the best-known twentieth and some of the long tail, with their answers."""
    ids = index.embeddings.ids
    table = pl.DataFrame({"id": ids}).join(items, on="id", how="left", maintain_order="left")
    fame = "popularity" if table["popularity"].count() else "relations"
    order = np.argsort(-table[fame].fill_null(-1).to_numpy(), kind="stable")
    known = order[~tail[order]][: max(len(ids) // 20, SAMPLES)]
    groups = []
    for group in (known, np.flatnonzero(tail & index.embeddings.vectors.any(axis=1))):
        rows = generator.permutation(group)[:SAMPLES]
        groups.append(tuple(_sample(index, table, int(row)) for row in np.sort(rows)))
    return groups[0], groups[1]


def _sample(index: Index, table: pl.DataFrame, row: int) -> Sample:
    found = next(search(index, np.array([row]), request=Query(k=ANSWERS)))
    answers = []
    for other, sure in zip(found.neighbours[0], found.confidence[0], strict=True):
        if other >= 0:
            name, about, relations = table.select("name", "about", "relations").row(int(other))
            confidence = None if np.isnan(sure) else float(sure)
            answers.append((name, about or "", confidence, not relations))
    name, about, relations = table.select("name", "about", "relations").row(row)
    return Sample(name, about or "", relations or 0, tuple(answers))


def _map(run: Run, items: pl.DataFrame, kind: Kind, generator: np.random.Generator) -> Map | None:
    if not run.has(projection.FILE):
        return None
    places = pl.read_parquet(run.file(projection.FILE)).filter(pl.col("kind") == kind)
    places = places.join(items.select("id", "relations"), on="id", how="left")
    if len(places) > POINTS:
        places = places[np.sort(generator.choice(len(places), POINTS, replace=False))]
    regions = pl.read_parquet(run.file(projection.REGIONS_FILE)).rows()
    tail = (places["relations"].fill_null(0) == 0).to_numpy()
    return Map(places.select("x", "y").to_numpy(), tail, tuple(regions))
