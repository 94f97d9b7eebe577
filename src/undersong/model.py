"""Answers of a run: open what it answers with, ask, and show or write what was found."""

import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import (
    ATTRIBUTES_FILE,
    Attributes,
    Kind,
    Match,
    Names,
    mark,
    read_attributes,
    width_of,
)
from undersong.embeddings import Embeddings
from undersong.errors import DataError, UnknownItem
from undersong.foldin import added
from undersong.io.files import replacing
from undersong.progress import Progress, silent
from undersong.ranking import context
from undersong.ranking import ranker as ranker_file
from undersong.retrieval import (
    Index,
    ItemPath,
    Precomputed,
    Query,
    TopK,
    approximate,
    fuse,
    graph,
    nothing,
    search,
    shortest_path,
)
from undersong.retrieval import precomputed as lists_file
from undersong.runs import Run

RANKER, EVIDENCE = "weights/ranking.safetensors", "evidence.safetensors"
FEW = 3  # seeds that are named of each answer


def open_index(run: Run, kind: Kind, *, paper: bool = False, long_tail: float = 0.0) -> Index:
    """Open what a run answers with, and the answers that were computed when it was published.

    Items added since stand behind the trained ones; then nothing computed before holds any more.

    Parameters
    ----------
    paper : whether to answer by the cosine of E_G alone, as the paper does
    long_tail : in [0, 1], for requests that do not say; see ``ranker.answer``

    Raises
    ------
    DataError
        If the run holds no such items, or ``long_tail`` is asked of a run without a learned order.
    ArtifactError
        If a file of the run is damaged.
    """
    if not run.has_embeddings(kind, "general"):
        raise DataError(f"{run.folder} holds no {kind}s; train on a catalogue that has them")
    embeddings = run.embeddings(kind, "general")
    learned = _learned(run, kind)
    if long_tail and (paper or not learned):
        raise DataError(
            f"the dial long_tail is {long_tail:g}, but {run.folder} orders {kind}s by cosine"
            + (" with --paper" if paper else ": no order was learned that beats it")
            + "; leave the dial out"
        )
    new = added.vectors(run.added(kind), "general")
    if learned and not paper:
        ranker = ranker_file.read(run.file(RANKER))
        ids = _weighed(run, kind, embedded=embeddings.index)
        embeddings = Embeddings(ids, embeddings.align(ids)[0])
        known = context.read(run.file(EVIDENCE), embeddings.vectors)
        known = added.extend(run, kind, known)
        index = Index(added.join(embeddings, new), ranker, known, long_tail)
    else:
        index = Index(added.join(embeddings, new))
    return index if new.ids else _with_files(index, run, kind, stored=not (paper and learned))


def open_lists(run: Run, kind: Kind) -> tuple[tuple[str, ...], Precomputed | None]:
    """List the items of the index that ``open_index`` opens, and the answers it has of them.

    Nothing else is read: by far the most questions need no more. Answers are None where there are
    none that were computed; items are none where nothing but names is known.

    Raises
    ------
    ArtifactError
        If a file of the run is damaged.
    """
    if not run.has_embeddings(kind, "general"):
        return (), None
    ids = run.embedded(kind, "general")
    if _learned(run, kind):
        ids = _weighed(run, kind, embedded=set(ids))
    new = added.vectors(run.added(kind), "general").ids
    return (*ids, *new), None if new else _lists(run, kind, n=len(ids))


def _learned(run: Run, kind: Kind) -> bool:
    return run.has(RANKER) and run.manifest["kind"] == kind


def _weighed(run: Run, kind: Kind, *, embedded: Container[str]) -> tuple[str, ...]:
    """List what a learned order weighs: trained items with an E_G or with relations."""
    rows = run.trained_items(kind).select("id", "relations").iter_rows()
    return tuple(item for item, relations in rows if relations or item in embedded)


def _lists(run: Run, kind: Kind, *, n: int) -> Precomputed | None:
    file = lists_file.file_of(kind)
    return lists_file.read(run.file(file), n=n) if run.has(file) else None


def _with_files(index: Index, run: Run, kind: Kind, *, stored: bool) -> Index:
    """Add what was computed when the run was published: its answers, if ``stored``; its cells."""
    n = len(index.embeddings.ids)
    if stored:
        index = replace(index, lists=_lists(run, kind, n=n))
    cells = approximate.file_of(kind)
    if index.ranker is None and run.has(cells) and approximate.available():
        return replace(index, approximate=approximate.read(run.file(cells), n=n))
    return index


def facts_of(run: Run, kind: Kind, index: Index) -> Attributes | None:
    """Read what filters ask for, in the order of an index; None for a run from before filters."""
    if not run.has(ATTRIBUTES_FILE):
        return None
    known = read_attributes(run.file(ATTRIBUTES_FILE), kind)
    if len(run.added(kind)):
        known = Attributes(pl.concat([known.table, added.facts(run, kind)]))
    return known.of(index.embeddings.ids)


@dataclass(frozen=True)
class Neighbour:
    """One answer: rank from 1, what it is, how sure, and how many relations are known of it.

    ``score`` orders the answers: the cosine, or the number that the learned order gives.
    ``confidence`` is the chance that somebody who knows both would call them similar, in [0, 1],
    calibrated on validation items; None for the cosine, which is no chance.
    """

    rank: int
    item: str
    name: str
    about: str
    score: float
    confidence: float | None
    relations: int


@dataclass(frozen=True)
class Answer:
    """What queries were taken for, their neighbours, and why there is none if filters left none.

    Parameters
    ----------
    matches : the item that was asked for, or several (``agreeing.agreed``)
    linked : whether any relation is known, so that it says something if an answer has none
    seeds : where several were asked for, of each answer the ids of those that led to it
    """

    matches: tuple[Match, ...]
    neighbours: tuple[Neighbour, ...]
    note: str
    linked: bool
    seeds: tuple[tuple[str, ...], ...] = ()


def similar(
    index: Index, query: str, *, names: Names, request: Query, facts: Attributes | None = None
) -> Answer:
    """Find what a query means and list the items most similar to it, best first.

    Raises
    ------
    UnknownItem
        If no item fits the query.
    DataError
        If nothing but its name is known of the item, so that it has no embedding; or as
        ``retrieve``.
    """
    match = names.find(query)
    row = np.array([row_of(index, match)])
    found = next(search(index, row, request=request, facts=facts))
    ids = [index.embeddings.ids[x] for x in found.neighbours[0] if x >= 0]
    scores, sure = found.scores[0].tolist(), found.confidence[0].tolist()
    return Answer((match,), name_answers(names, ids, scores, sure), found.note, names.linked)


def row_of(index: Index, match: Match) -> int:
    """Row of an item that was found by name.

    Raises
    ------
    DataError
        If nothing but its name is known of it.
    """
    if match.id not in index.embeddings.index:
        raise DataError(
            f"nothing is known about {match.name!r} ({match.id}) but its name: no audio, plays or "
            "metadata; add some to the catalogue and train again"
        )
    return index.embeddings.index[match.id]


def name_answers(
    names: Names, ids: Sequence[str], scores: Sequence[float], sure: Sequence[float]
) -> tuple[Neighbour, ...]:
    """Say of each answer what it is: name, what is known about it, how sure; NaN is not known."""
    answers = []
    for rank, (item, score, chance) in enumerate(zip(ids, scores, sure, strict=False), start=1):
        name, about, relations = names.about(item)
        confidence = None if np.isnan(chance) else round(chance, 4)
        answers.append(Neighbour(rank, item, name, about, round(score, 4), confidence, relations))
    return tuple(answers)


def text(answer: Answer) -> str:
    """Show an answer in the terminal: rank, confidence, name, id, and who is long tail.

    In place of the confidence the cosine, where no order was learned. Where nobody is linked,
    nobody is marked as long tail. Where several were asked for, each answer says whom it is near.
    """
    lines = [_heading(match) for match in dict.fromkeys(answer.matches)]
    asked = {match.id: match.name for match in answer.matches}
    near = [f"near {_few([asked[x] for x in own])}" for own in answer.seeds]
    named = [f"{one.name} ({one.item})" for one in answer.neighbours]
    width = width_of(named)
    rows = zip(answer.neighbours, named, near or [""] * len(named), strict=True)
    for one, name, seeds in rows:
        tail = mark(one.relations, linked=answer.linked)
        sure = f"{one.score:6.3f}" if one.confidence is None else f"{one.confidence:6.0%}"
        said = "  ".join(filter(None, (f"{name:<{width}}", one.about, seeds, tail)))
        lines.append(f"{one.rank:4}  {sure}  {said}".rstrip())
    return "\n".join([*lines, answer.note] if answer.note else lines)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _heading(match: Match) -> str:
    known = f"{match.relations} known relations" if match.relations else "no relation is known"
    return f"{match.name} ({match.id}): {f'{match.about}; ' if match.about else ''}{known}"


def write_neighbours(
    index: Index,
    out: Path,
    *,
    queries: NDArray[np.int64],
    request: Query,
    facts: Attributes | None = None,
    ask: Callable[..., Iterator[TopK]] = search,
    progress: Progress = silent,
) -> tuple[int, str]:
    """Write the answers of many items as one table: item, rank from 1, neighbour, score.

    With a learned order there is also a column confidence. Each block goes to a file of its own
    and they are joined by streaming, so memory is bounded by a block. Returns the number of rows,
    and in a sentence why there is none, if filters left none. ``out`` appears whole or not at all.
    ``ask`` may do what ``retrieve`` does elsewhere, such as on a cluster.
    """
    ids = np.array(index.embeddings.ids, dtype=object)
    learned = index.ranker is not None and not request.paper
    out.parent.mkdir(parents=True, exist_ok=True)
    done, note = 0, ""
    with tempfile.TemporaryDirectory(prefix=".neighbours-", dir=out.parent) as folder:
        empty = nothing(np.zeros(0, dtype=np.int64))
        _table(ids, empty, learned=learned).write_parquet(Path(folder) / "empty.parquet")
        for number, block in enumerate(ask(index, queries, request=request, facts=facts)):
            table = _table(ids, block, learned=learned)
            table.write_parquet(Path(folder) / f"{number:08}.parquet")
            done, note = done + len(block.rows), block.note
            progress("neighbours", done, len(queries))
        with replacing(out) as temporary:
            blocks = pl.scan_parquet(Path(folder) / "*.parquet")
            blocks.sink_parquet(temporary)
            return int(pl.scan_parquet(temporary).select(pl.len()).collect().item()), note


def _table(ids: NDArray[np.object_], block: TopK, *, learned: bool) -> pl.DataFrame:
    kept = block.neighbours >= 0
    rank = np.broadcast_to(np.arange(1, kept.shape[1] + 1, dtype=np.int32), kept.shape)
    table = pl.DataFrame(
        {
            "item": pl.Series(ids[np.repeat(block.rows, kept.sum(axis=1))], dtype=pl.String),
            "rank": rank[kept],
            "neighbour": pl.Series(ids[block.neighbours[kept]], dtype=pl.String),
            "score": block.scores[kept],
            "confidence": block.confidence[kept],
        }
    )
    return table if learned else table.drop("confidence")


def agreed(
    indexes: Sequence[Index],
    queries: Sequence[str],
    *,
    names: Names,
    request: Query,
    facts: Sequence[Attributes | None] | None = None,
) -> Answer:
    """List what is similar to some items, ids or names, by agreement (``retrieval.agreement``).

    ``names`` are those of the first run; the score is the sum of reciprocal ranks.

    Raises
    ------
    UnknownItem
        If no item fits a query; where all of them together are one name, this is said.
    DataError
        If nothing but its name is known of one; or as ``agreement``.
    """
    matches = _matches(queries, names)
    for match in matches:
        row_of(indexes[0], match)
    found = fuse(indexes, [x.id for x in matches], request=request, facts=facts)
    answers = name_answers(names, found.ids, found.scores.tolist(), found.confidence.tolist())
    seeds = found.seeds if len(queries) > 1 else ()
    return Answer(matches, answers, found.note, names.linked, seeds)


def _matches(queries: Sequence[str], names: Names) -> tuple[Match, ...]:
    try:
        return tuple(names.find(x) for x in queries)
    except UnknownItem as error:
        whole = " ".join(queries)
        if len(queries) == 1 or not names.knows(whole):
            raise
        raise UnknownItem(f"{error} Or is it {whole!r}? Put one name in quotes.") from error


@dataclass(frozen=True)
class PathStep:
    """One item of a chain: its place from 1, what it is, and the cosine to the one before."""

    place: int
    item: str
    name: str
    about: str
    similarity: float | None


@dataclass(frozen=True)
class NamedPath:
    """Items from one to another; where there are none, ``note`` says why."""

    steps: tuple[PathStep, ...]
    note: str = ""


def find_path(
    index: Index,
    first: str,
    last: str,
    *,
    names: Names,
    steps: int | None = None,
    progress: Progress = silent,
) -> NamedPath:
    """Find the chain between two items, each an id or a name (``undersong.retrieval.paths``).

    Raises
    ------
    UnknownItem
        If no item fits a name.
    DataError
        If nothing but its name is known of one, or ``steps`` is less than 1.
    """
    start, end = names.find(first), names.find(last)
    ends = row_of(index, start), row_of(index, end)
    links = graph(index, progress=progress)
    found = shortest_path(links, *ends, steps=steps)
    if found.rows:
        return NamedPath(_steps(index, found, names))
    longer = shortest_path(links, *ends) if steps is not None else found
    return NamedPath((), _why_none(start.name, end.name, steps, longer))


def path_text(found: NamedPath) -> str:
    """Show a chain in the terminal: place, cosine to the one before, name, id."""
    lines = [
        f"{one.place:4}  {'' if one.similarity is None else f'{one.similarity:6.3f}':>6}  "
        f"{one.name} ({one.item})  {one.about}".rstrip()
        for one in found.steps
    ]
    return "\n".join(lines) or found.note


def _steps(index: Index, found: ItemPath, names: Names) -> tuple[PathStep, ...]:
    cosines = [None, *np.round(found.similarity, 4).tolist()]
    steps = []
    for place, (row, cosine) in enumerate(zip(found.rows, cosines, strict=True), start=1):
        item = index.embeddings.ids[row]
        name, about, _ = names.about(item)
        steps.append(PathStep(place, item, name, about, cosine))
    return tuple(steps)


def _why_none(start: str, end: str, steps: int | None, longer: ItemPath) -> str:
    if longer.rows:
        return (
            f"no chain of {steps} steps or fewer leads from {start!r} to {end!r}; the nearest way "
            f"has {len(longer.rows) - 1}"
        )
    return f"no chain leads from {start!r} to {end!r}: nothing near the one is near the other"
