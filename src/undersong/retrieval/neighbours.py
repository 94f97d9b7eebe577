"""Search: what is similar to some items of an index, all of it as a table, and paths."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue import Attributes
from undersong.errors import ArtifactError, DataError
from undersong.io.files import replacing, writing
from undersong.progress import Progress, silent
from undersong.retrieval import filters
from undersong.retrieval.index import (
    BLOCK,
    RECORD,
    Index,
    TopK,
    behind_graph,
    by_cosine,
    join,
    nothing,
    pick,
    rerank_all,
)
from undersong.retrieval.query import Query


def search(
    index: Index, rows: NDArray[np.int64], *, query: Query, attributes: Attributes | None = None
) -> Iterator[TopK]:
    """Answer what is similar to some items, in blocks of them.

    Parameters
    ----------
    rows : (q,) rows of ``index.embeddings`` that ask; no item is an answer to itself
    attributes : of the items of the index, in its order (``attributes_of``); None where the run has
        none, which is enough for a query that asks for none

    Raises
    ------
    ArtifactError
        If filters ask for attributes that the run does not have.
    DataError
        For a word that no item has, or the dial of a run without a learned order.
    """
    filters.check(query, attributes)
    if query.long_tail and index.ranker is None:
        raise DataError(
            f"long_tail is {query.long_tail:g}, but this run has no learned order and ranks by "
            "plain cosine; leave long_tail out"
        )
    n = len(index.embeddings.ids)
    if attributes is not None and len(attributes.table) != n:
        raise ArtifactError(f"facts of {len(attributes.table)} items for an index of {n}")
    allowed, note = np.ones(n, dtype=bool), ""
    if query.filters:
        known = attributes if attributes is not None else Attributes.bare(index.embeddings.ids)
        allowed = filters.passing(query, known)
        if query.only_unlinked:
            allowed &= unlinked(index)
        note = "" if allowed.any() else filters.why_nothing(query, known)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        block = _answer(index, some, query=query, attributes=attributes, allowed=allowed)
        yield replace(block, note=note) if note else block


def unlinked(index: Index) -> NDArray[np.bool_]:
    """Return which items have no known relation, (n,)."""
    if index.linked is not None:
        return ~index.linked
    if index.evidence is None:
        raise DataError(
            "this run orders answers by cosine and does not keep who is linked; leave "
            "only_unlinked out"
        )
    return np.asarray(index.evidence.degree == 0)


def _answer(
    index: Index,
    rows: NDArray[np.int64],
    *,
    query: Query,
    attributes: Attributes | None,
    allowed: NDArray[np.bool_],
) -> TopK:
    left = int(np.count_nonzero(allowed))
    k, wanted = min(query.k, left), min(filters.reach(query), left)
    if not left:
        return nothing(rows)
    answers = order(index, rows, allowed=allowed, k=wanted, query=query)
    if query.caps and attributes is not None:
        answers = _capped(index, rows, answers, query=query, attributes=attributes, allowed=allowed)
        answers = answers.first(wanted)
    if not query.diversity:
        return answers.first(k)
    vectors = index.embeddings.vectors
    return answers.take(filters.diversify(answers, vectors, k=k, diversity=query.diversity))


def _capped(
    index: Index,
    rows: NDArray[np.int64],
    answers: TopK,
    *,
    query: Query,
    attributes: Attributes,
    allowed: NDArray[np.bool_],
) -> TopK:
    """Take out what is over a cap, and look as far down the order as it needs to fill the list."""
    wanted = depth = answers.neighbours.shape[1]
    left = int(np.count_nonzero(allowed))
    capped = pick(answers, filters.cap(answers, query, attributes))
    while depth < left and ((capped.neighbours >= 0).sum(axis=1) < wanted).any():
        depth = min(4 * depth, left)
        answers = order(index, rows, allowed=allowed, k=depth, query=query)
        capped = pick(answers, filters.cap(answers, query, attributes))
    return capped


def order(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    query: Query,
) -> TopK:
    """List the k best of the items ``allowed``, (n,), for each query.

    Answers that were computed once are looked up where enough of them are allowed; else the
    others follow behind them.
    """
    listed = _listed(index, rows, allowed=allowed, k=k, query=query)
    if listed is None:
        return _searched(index, rows, allowed=allowed, k=k, query=query)
    short = (listed.neighbours >= 0).sum(axis=1) < np.minimum(
        k, np.count_nonzero(allowed) - allowed[rows]
    )
    if short.any():
        searched = _searched(index, rows, allowed=allowed, k=k, query=query)
        listed = join(listed, searched)
    return listed.first(k)


def _listed(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    query: Query,
) -> TopK | None:
    """Look up stored answers, those that are allowed; None where the order is another one."""
    other = query.long_tail or (query.paper and index.ranker is not None)
    if index.lists is None or other or query.closed:
        return None
    width = k if allowed.all() else index.lists.rows.shape[1]
    answers = TopK(
        rows,
        index.lists.rows[rows, :width].astype(np.int64),
        index.lists.scores[rows, :width],
        index.lists.confidence[rows, :width],
    )
    return answers if allowed.all() else pick(answers, allowed[answers.neighbours])


def _searched(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    query: Query,
) -> TopK:
    if index.ranker is not None and index.evidence is not None and not query.paper:
        return rerank_all(
            index.ranker,
            index.evidence,
            rows,
            allowed=allowed,
            k=k,
            long_tail=query.long_tail or 0.0,
            closed=query.closed,
        )
    if index.approximate is not None:
        near = index.approximate
        return near.search(index.embeddings, rows, allowed=allowed, k=k)
    among = np.flatnonzero(allowed)
    if index.unlinked_ask is not None and index.linked is not None:
        plain, linked = index.unlinked_ask, index.linked
        return behind_graph(index.embeddings, rows, plain=plain, linked=linked, among=among, k=k)
    return by_cosine(index.embeddings, rows, among=among, k=k, asking=index.asking)


def write_neighbours(
    index: Index,
    out: Path,
    *,
    queries: NDArray[np.int64],
    query: Query,
    attributes: Attributes | None = None,
    search: Callable[..., Iterator[TopK]] = search,
    progress: Progress = silent,
) -> tuple[int, str]:
    """Write the answers of many items as one table: item, rank from 1, neighbour, score.

    With a learned order there is also a column confidence. Items are asked in the order in which
    that is fastest and stand in the table in their own. What is answered lies in a file meanwhile,
    so memory is bounded by a block. Returns the number of rows, and in a sentence why there is
    none, if filters left none. ``out`` appears whole or not at all. ``search`` may be another one
    that answers alike, such as on a cluster.
    """
    ids = np.array(index.embeddings.ids, dtype=object)
    learned = index.ranker is not None and not query.paper
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    turn, width = index.in_turn(queries), max(min(query.k, len(ids)), 1)
    done, note = 0, ""
    with (
        writing(out),
        tempfile.TemporaryDirectory(prefix=".neighbours-", dir=out.parent) as folder,
        (Path(folder) / "answers").open("w+b") as answers,
    ):
        empty = nothing(np.zeros(0, dtype=np.int64))
        _table(ids, empty, learned=learned).write_parquet(Path(folder) / "empty.parquet")
        progress("neighbours", 0, len(queries))
        for block in search(index, queries[turn], query=query, attributes=attributes):
            for record in block.records(width):
                answers.seek(int(turn[done]) * record.nbytes)
                answers.write(record.tobytes())
                done += 1
            note = block.note
            progress("neighbours", done, len(queries))
        answers.seek(0)
        for start in range(0, len(queries), BLOCK):
            rows = queries[start : start + BLOCK]
            records = np.fromfile(answers, dtype=RECORD, count=len(rows) * width)
            neighbours, *values = (records[x].reshape(-1, width) for x in RECORD.names or ())
            block = TopK(rows, neighbours.astype(np.int64), values[0], values[1])
            table = _table(ids, block, learned=learned)
            table.write_parquet(Path(folder) / f"{start:012}.parquet")
        with replacing(out) as temporary:
            blocks = pl.scan_parquet(Path(folder) / "*.parquet")
            blocks.sink_parquet(temporary)
            return int(pl.scan_parquet(temporary).select(pl.len()).collect().item()), note


def _table(ids: NDArray[np.object_], block: TopK, *, learned: bool) -> pl.DataFrame:
    there = block.neighbours >= 0
    rank = np.broadcast_to(np.arange(1, there.shape[1] + 1, dtype=np.int32), there.shape)
    table = pl.DataFrame(
        {
            "item": pl.Series(ids[np.repeat(block.rows, there.sum(axis=1))], dtype=pl.String),
            "rank": rank[there],
            "neighbour": pl.Series(ids[block.neighbours[there]], dtype=pl.String),
            "score": block.scores[there],
            "confidence": block.confidence[there],
        }
    )
    return table if learned else table.drop("confidence")


NEAR = 20  # neighbours of each item that a step may lead to
LEAST = 1e-6  # cost of a step between two items of one vector: no step is free, so none is idle


@dataclass(frozen=True)
class RowPath:
    """A way from one item to another.

    Parameters
    ----------
    rows : from the first to the last, each once; empty where there is no way
    similarity : (steps,) cosine of E_G of each step
    """

    rows: tuple[int, ...]
    similarity: NDArray[np.float32]


def graph(index: Index, *, k: int = NEAR, progress: Progress = silent) -> scipy.sparse.csr_matrix:
    """Link each item with its k nearest, (n, n): cost 1 - cosine, the same in both directions.

    Who is nearest is looked up where it was computed when the run was published, else found by
    cosine. An item without E_G is not linked then. Memory is bounded by a block and the links.
    """
    vectors, n = index.embeddings.vectors, len(index.embeddings.ids)
    embedded = np.abs(vectors).sum(axis=1) > 0
    nearest = Query(paper=index.lists is None)
    starts, ends, costs = [], [], []
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        allowed = np.ones(n, dtype=bool) if index.lists else embedded
        near = order(index, rows, allowed=allowed, k=k, query=nearest).neighbours
        linked = (near >= 0) & (embedded[rows][:, None] if index.lists is None else True)
        asks = np.broadcast_to(rows[:, None], near.shape)[linked]
        cosine = np.einsum("ed,ed->e", vectors[asks], vectors[near[linked]])
        starts.append(asks)
        ends.append(near[linked])
        costs.append(np.maximum(1 - cosine, LEAST))
        progress("graph", int(rows[-1]) + 1, n)
    cells = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends)))
    one_way = scipy.sparse.csr_matrix(cells, shape=(n, n))
    return one_way.maximum(one_way.T).tocsr()


def shortest_path(
    links: scipy.sparse.csr_matrix, start: int, end: int, *, steps: int | None = None
) -> RowPath:
    """Find the chain of least cost between two items, of at most so many steps.

    Parameters
    ----------
    links : as ``graph`` makes them
    steps : 1 or more; None for any number

    Raises
    ------
    DataError
        If ``steps`` is less than 1.

    Notes
    -----
    The cheapest ways of at most 1, 2, 3, ... steps, each from the ones before (Bellman and Ford),
    until nothing gets cheaper. Every step costs something, so no item stands in a chain twice.
    """
    if steps is not None and steps < 1:
        raise DataError(f"steps is {steps}; allow 1 or more")
    n = links.shape[0]
    cost = np.full(n, np.inf)
    cost[start] = 0
    came: list[NDArray[np.int64]] = []
    arrivals = links.T.tocsr()
    filled = np.flatnonzero(np.diff(arrivals.indptr))
    while len(came) < min(n, n if steps is None else steps):
        through = cost[arrivals.indices] + arrivals.data
        cheapest = np.full(n, np.inf)
        cheapest[filled] = np.minimum.reduceat(through, arrivals.indptr[filled])
        better = cheapest < cost
        if not better.any():
            break
        came.append(_origins(arrivals, through, cheapest, better))
        cost = np.minimum(cost, cheapest)
    return _read_back(came, start, end, links, reached=bool(np.isfinite(cost[end])))


def _origins(
    arrivals: scipy.sparse.csr_matrix,
    through: NDArray[np.float64],
    cheapest: NDArray[np.float64],
    better: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """From where the cheapest step comes to each item that it made better, (n,); else -1."""
    ends = np.repeat(np.arange(len(better)), np.diff(arrivals.indptr))
    used = better[ends] & (through == cheapest[ends])
    origin = np.full(len(better), -1, dtype=np.int64)
    origin[ends[used]] = arrivals.indices[used]
    return origin


def _read_back(
    came: list[NDArray[np.int64]],
    start: int,
    end: int,
    links: scipy.sparse.csr_matrix,
    *,
    reached: bool,
) -> RowPath:
    if not reached:
        return RowPath((), np.zeros(0, dtype=np.float32))
    rows, at = [end], end
    for origin in reversed(came):
        if origin[at] >= 0:
            at = int(origin[at])
            rows.append(at)
    rows.reverse()
    costs = [links[a, b] for a, b in zip(rows[:-1], rows[1:], strict=True)]
    return RowPath(tuple(rows), 1 - np.array(costs, dtype=np.float32))
