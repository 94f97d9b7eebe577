"""Questions to one opened generation, and what is said to them. No HTTP here.

Each interface reads the current generation of its ``Shelf`` once for a request and asks that one,
so no reply mixes two generations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from undersong.catalogue import Kind
from undersong.errors import DataError
from undersong.explanation import explain as finding
from undersong.explanation import reasons as wording
from undersong.explanation.reasons import Reasons
from undersong.retrieval import Index, Query, dial, fuse, search, shortest_path
from undersong.service.lookup import known
from undersong.service.snapshot import Item, ItemIndex, Snapshot

__all__ = [
    "Details",
    "Found",
    "Ranked",
    "Step",
    "agreed",
    "explain",
    "item",
    "look_up",
    "path",
    "similar",
]

LARGEST_LINKED = 20_000  # items whose chains are found without lists made by `undersong publish`


@dataclass(frozen=True)
class Details:
    """All that is known of one item; None where nothing is.

    Parameters
    ----------
    decade : first year of it
    artist, album, mbid : of a track the artist's id; a MusicBrainz id
    percentile : in (0, 1), share of the items of known popularity that are less popular
    x, y : in [-1, 1], its place on the map
    unknown : a sentence on what is not known of it; None if nothing is lacking, or no reasons are
    """

    item: Item
    genres: tuple[str, ...] = ()
    region: str | None = None
    decade: int | None = None
    artist: str | None = None
    album: str | None = None
    mbid: str | None = None
    percentile: float | None = None
    x: float | None = None
    y: float | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class Ranked:
    """One answer: rank from 1, score as in ``search.Neighbour``, reasons if they were asked for.

    ``seeds``: of several that were asked about, the ids of those that led to it.
    """

    rank: int
    item: Item
    score: float
    confidence: float | None
    reasons: Reasons | None = None
    seeds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """Answers about an item, and in a sentence why there is none, or no reason.

    ``also``: what else was asked about.
    """

    item: Item
    answers: tuple[Ranked, ...]
    note: str = ""
    also: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Step:
    """One item of a chain, and the cosine to the one before."""

    item: Item
    similarity: float | None


def item(answers: Snapshot, kind: Kind, item_id: str) -> Details:
    """Say all that is known of an item.

    Raises
    ------
    UnknownItem
        If no item has this id, with those whose names are like it.
    """
    items = answers.of(kind)
    one = known(answers, kind, item_id)
    drawn = items.position[items.place[item_id]].tolist()
    x, y = (None if z != z else z for z in drawn)
    row = items.row.get(item_id)
    if row is None:
        lacking = f"nothing is known of {one.name} but its name"
        return Details(one, x=x, y=y, unknown=lacking)
    told = items.background
    unknown = None
    if told is not None and item_id in told.index:
        unknown = wording.unknown(finding.known(told, told.index[item_id]), told.groups)
    if items.facts is None:
        return Details(one, x=x, y=y, unknown=unknown)
    fact = items.facts.table.row(row, named=True)
    genres = tuple(fact["genres"] or ())
    told_by = ("region", "decade", "artist", "album", "mbid", "percentile")
    said = {name: fact[name] for name in told_by}
    return Details(one, genres, **said, x=x, y=y, unknown=unknown)


def similar(
    answers: Snapshot, kind: Kind, item_id: str, request: Query, *, reasons: bool = False
) -> Found:
    """List what is similar to an item, best first.

    An item of which nothing but the name is known has no answers; the note says so.

    Raises
    ------
    UnknownItem
        If no item has this id.
    DataError, ArtifactError
        As ``retrieval.retrieve``.
    """
    items, asked = answers.of(kind), known(answers, kind, item_id)
    index = items.index
    if index is None or item_id not in index.embeddings.index:
        return Found(asked, (), _nothing_known(asked))
    if request.paper:
        if item_id in items.without_vector:
            return Found(asked, (), _no_cosine(asked))
        index, request = _as_paper(items, index, request)
    row = index.embeddings.index[item_id]
    block = next(search(index, np.array([row]), request=request, facts=items.facts))
    rows = block.neighbours[0][block.neighbours[0] >= 0]
    why: Sequence[Reasons | None] = ()
    note = block.note
    if reasons and len(rows):
        why, lacking = _reasons(items, index, row, rows, dial(index, request))
        note = note or lacking
    scores, chances = block.scores[0].tolist(), block.confidence[0].tolist()
    return Found(asked, _ranked(items, rows, scores, chances, why), note)


def agreed(answers: Snapshot, kind: Kind, ids: Sequence[str], request: Query) -> Found:
    """List what is similar to several items by agreement (``retrieval.agreement``).

    Raises
    ------
    UnknownItem
        If no item has one of the ids.
    DataError
        If nothing but its name is known of one, or with ``paper`` only relations.
    DataError, ArtifactError
        As ``retrieval.retrieve``.
    """
    items = answers.of(kind)
    asked = [known(answers, kind, x) for x in dict.fromkeys(ids)]
    index, _ = _rows_of(items, asked)
    if request.paper:
        unlike = next((x for x in asked if x.id in items.without_vector), None)
        if unlike is not None:
            raise DataError(_no_cosine(unlike))
        index, request = _as_paper(items, index, request)
    found = fuse([index], [x.id for x in asked], request=request, facts=[items.facts])
    rows = np.array([index.embeddings.index[x] for x in found.ids], dtype=np.int64)
    ranked = _ranked(items, rows, found.scores.tolist(), found.confidence.tolist())
    led = [replace(x, seeds=seeds) for x, seeds in zip(ranked, found.seeds, strict=True)]
    return Found(asked[0], tuple(led), found.note, tuple(asked[1:]))


def look_up(answers: Snapshot, kind: Kind, item_id: str, request: Query) -> Found | None:
    """Give the same as ``similar`` in microseconds, where it was computed before; else None.

    Raises
    ------
    UnknownItem
        If no item has this id.
    """
    items, k = answers.of(kind), request.k
    lists = items.lists
    if lists is None or request != Query(k=k) or k > lists.rows.shape[1]:
        return None
    asked, row = known(answers, kind, item_id), items.row.get(item_id)
    if row is None:
        return None
    rows = lists.rows[row, :k]
    chances = lists.confidence[row, :k].tolist()
    scores = lists.scores[row, :k].tolist()
    return Found(asked, _ranked(items, rows[rows >= 0], scores, chances))


def explain(
    answers: Snapshot, kind: Kind, asked: str, answered: str, *, long_tail: float = 0.0
) -> Reasons:
    """Say why one item is similar to another, each given by its id.

    Raises
    ------
    UnknownItem
        If there is no such item.
    DataError
        If both are the same, nothing but its name is known of one, or the run gives no reasons.
    """
    items = answers.of(kind)
    index, rows = _rows_of(items, [known(answers, kind, x) for x in (asked, answered)])
    if rows[0] == rows[1]:
        raise DataError(f"{asked[:80]!r} is asked why it is similar to itself; name two items")
    (why,), lacking = _reasons(items, index, rows[0], np.array(rows[1:]), long_tail)
    if why is None:
        raise DataError(lacking)
    return why


def path(
    answers: Snapshot, kind: Kind, first: str, last: str, *, steps: int | None = None
) -> tuple[tuple[Step, ...], str]:
    """Find a chain between two items in which each step is near, or say why there is none.

    Raises
    ------
    UnknownItem
        If there is no such item.
    DataError
        If nothing but its name is known of one, or chains of so many items need a published run.
    """
    items = answers.of(kind)
    ends = [known(answers, kind, x) for x in (first, last)]
    index, rows = _rows_of(items, ends)
    if index.lists is None and len(index.embeddings.ids) > LARGEST_LINKED:
        raise DataError(
            f"chains of {len(index.embeddings.ids):,} {kind}s need answers that "
            "`undersong publish` computes; serve a published shelf"
        )
    found = shortest_path(items.links, rows[0], rows[1], steps=steps)
    if not found.rows:
        limit = f" of {steps} steps or fewer" if steps else ""
        return (), f"no chain{limit} leads from {ends[0].name!r} to {ends[1].name!r}"
    cosines = [None, *(round(x, 4) for x in found.similarity.tolist())]
    places = items.place_of_row[list(found.rows)].tolist()
    return tuple(Step(items.item(x), y) for x, y in zip(places, cosines, strict=True)), ""


def _ranked(
    items: ItemIndex,
    rows: NDArray[np.integer],
    scores: Sequence[float],
    chances: Sequence[float],
    why: Sequence[Reasons | None] = (),
) -> tuple[Ranked, ...]:
    """Name answers, given as rows of the index; a chance that is NaN is not known."""
    places = items.place_of_row[rows].tolist()
    told = why or [None] * len(places)
    return tuple(
        Ranked(
            at + 1,
            items.item(place),
            round(scores[at], 4),
            None if chances[at] != chances[at] else round(chances[at], 4),
            told[at],
        )
        for at, place in enumerate(places)
    )


def _as_paper(items: ItemIndex, index: Index, request: Query) -> tuple[Index, Query]:
    """Leave the learned order out, and those who are known by their relations alone."""
    plain = replace(index, ranker=None, evidence=None, lists=None)
    return plain, replace(request, exclude=request.exclude | items.without_vector)


def _rows_of(items: ItemIndex, asked: Sequence[Item]) -> tuple[Index, list[int]]:
    """The index and rows of some items in it; DataError for one of which only the name is known."""
    index = items.index
    if index is None:
        raise DataError(_nothing_known(asked[0]))
    for one in asked:
        if one.id not in index.embeddings.index:
            raise DataError(_nothing_known(one))
    return index, [index.embeddings.index[x.id] for x in asked]


def _reasons(
    items: ItemIndex, index: Index, asked: int, others: NDArray[np.int64], long_tail: float
) -> tuple[Sequence[Reasons | None], str]:
    """Reasons of some answers in their order, or in a sentence why some have none."""
    nobody: list[Reasons | None] = [None] * len(others)
    told, ids = items.background, index.embeddings.ids
    if told is None:
        return nobody, f"this run tells no reasons for {items.kind}s"
    if ids[asked] not in told.index:
        return nobody, "reasons are told of trained items; this one was added since"
    kept = [at for at, row in enumerate(others) if ids[row] in told.index]
    found = finding.reasons(index, told, asked, others[kept], long_tail=long_tail) if kept else ()
    for at, why in zip(kept, found, strict=True):
        nobody[at] = why
    lacking = "" if len(kept) == len(others) else "items added since training have no reasons yet"
    return nobody, lacking


def _no_cosine(one: Item) -> str:
    return f"of {one.name} only relations are known, no cosine"


def _nothing_known(one: Item) -> str:
    return (
        f"nothing is known about {one.name!r} ({one.id}) but its name: no audio, plays or metadata"
    )
