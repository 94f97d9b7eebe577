"""The first answers of some queries, by the fastest way that gives what the exact one gives."""

import numpy as np
from numpy.typing import NDArray

from undersong.retrieval.nearest import Block, Index, by_cosine, by_rank, join, pick
from undersong.retrieval.request import Request


def order(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    request: Request,
) -> Block:
    """List the k best of the items ``allowed``, (n,), for each query.

    Answers that were computed once are looked up where enough of them are allowed; else the
    others follow behind them.
    """
    listed = _listed(index, rows, allowed=allowed, k=k, request=request)
    if listed is None:
        return _searched(index, rows, allowed=allowed, k=k, request=request)
    short = (listed.neighbours >= 0).sum(axis=1) < np.minimum(k, allowed.sum() - allowed[rows])
    if short.any():
        found = _searched(index, rows, allowed=allowed, k=k, request=request)
        listed = join(listed, found)
    return listed.first(k)


def dial(index: Index, request: Request) -> float:
    """How far a request forgets what relations tell, in [0, 1]."""
    return index.long_tail if request.long_tail is None else request.long_tail


def _listed(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    request: Request,
) -> Block | None:
    """Look up stored answers, those that are allowed; None where the order is another one."""
    other = dial(index, request) > 0 or (request.paper and index.ranker is not None)
    if index.lists is None or other or request.closed:
        return None
    width = k if allowed.all() else index.lists.rows.shape[1]
    found = Block(
        rows,
        index.lists.rows[rows, :width].astype(np.int64),
        index.lists.scores[rows, :width],
        index.lists.confidence[rows, :width],
    )
    return found if allowed.all() else pick(found, allowed[found.neighbours])


def _searched(
    index: Index,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    request: Request,
) -> Block:
    if index.ranker is not None and index.evidence is not None and not request.paper:
        return by_rank(
            index.ranker,
            index.evidence,
            rows,
            allowed=allowed,
            k=k,
            long_tail=dial(index, request),
            closed=request.closed,
        )
    if index.approximate is not None:
        near = index.approximate
        return near.search(index.embeddings, rows, allowed=allowed, k=k)
    return by_cosine(index.embeddings, rows, among=np.flatnonzero(allowed), k=k)
