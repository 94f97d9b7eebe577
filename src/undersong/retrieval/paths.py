"""Chains from one item to another in which each step is near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.errors import DataError
from undersong.progress import Progress, silent
from undersong.retrieval.index import BLOCK, Index
from undersong.retrieval.neighbours import order
from undersong.retrieval.query import Query

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
