"""One way to ask, for the command line, the service and the reports: an index and a request."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from undersong.errors import ArtifactError, DataError
from undersong.retrieval import filters, spread
from undersong.retrieval.facts import Facts
from undersong.retrieval.nearest import BLOCK, Block, Index, nothing, pick
from undersong.retrieval.order import order
from undersong.retrieval.request import Request


def retrieve(
    index: Index, rows: NDArray[np.int64], *, request: Request, facts: Facts | None = None
) -> Iterator[Block]:
    """Answer what is similar to some items, in blocks of them.

    Parameters
    ----------
    rows : (q,) rows of ``index.embeddings`` that ask; no item is an answer to itself
    facts : of the items of the index, in its order (``search.facts_of``); None where the run has
        none, which is enough for a request that asks for no fact

    Raises
    ------
    ArtifactError
        If filters ask for facts that the run does not have.
    DataError
        For a word that no item has, or the dial of a run without a learned order.
    """
    filters.check(request, facts)
    if request.long_tail and index.ranker is None:
        raise DataError(
            f"the dial long_tail is {request.long_tail:g}, but this run orders answers by cosine: "
            "no order was learned that beats it; leave the dial out"
        )
    n = len(index.embeddings.ids)
    if facts is not None and len(facts.table) != n:
        raise ArtifactError(f"facts of {len(facts.table)} items for an index of {n}")
    allowed, note = np.ones(n, dtype=bool), ""
    if request.filters:
        known = facts if facts is not None else Facts.bare(index.embeddings.ids)
        allowed = filters.passing(request, known)
        note = "" if allowed.any() else filters.why_nothing(request, known)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        found = _answer(index, some, request=request, facts=facts, allowed=allowed)
        yield replace(found, note=note) if note else found


def _answer(
    index: Index,
    rows: NDArray[np.int64],
    *,
    request: Request,
    facts: Facts | None,
    allowed: NDArray[np.bool_],
) -> Block:
    left = int(allowed.sum())
    k, wanted = min(request.k, left), min(spread.reach(request), left)
    if not left:
        return nothing(rows)
    found = order(index, rows, allowed=allowed, k=wanted, request=request)
    if request.caps and facts is not None:
        found = _capped(index, rows, found, request=request, facts=facts, allowed=allowed)
        found = found.first(wanted)
    if not request.diversity:
        return found.first(k)
    vectors = index.embeddings.vectors
    return found.take(spread.diversify(found, vectors, k=k, diversity=request.diversity))


def _capped(
    index: Index,
    rows: NDArray[np.int64],
    found: Block,
    *,
    request: Request,
    facts: Facts,
    allowed: NDArray[np.bool_],
) -> Block:
    """Take out what is over a cap, and look as far down the order as it needs to fill the list."""
    wanted = depth = found.neighbours.shape[1]
    left = int(allowed.sum())
    kept = pick(found, spread.cap(found, request, facts))
    while depth < left and ((kept.neighbours >= 0).sum(axis=1) < wanted).any():
        depth = min(4 * depth, left)
        found = order(index, rows, allowed=allowed, k=depth, request=request)
        kept = pick(found, spread.cap(found, request, facts))
    return kept
