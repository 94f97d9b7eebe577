"""Protocol ``found``: do those find an item that nobody has linked, who should?

Protocol ``cold`` lets an unknown item ask. Here known items ask, and right are items of which every
relation is hidden. It can be won by putting unlinked items first, so it is read beside ``cold`` and
the share of unlinked items among the answers, and ``combined`` stands for both.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.evaluation.bootstrap import NORMAL
from undersong.evaluation.results import Interval, Number, Protocol
from undersong.evaluation.scoring import Pool
from undersong.metrics import DEEP

ASKERS = 4096  # items that ask at most; of more, a random part
FIFTHS = 5


def pool_of(
    visible: sparse.csr_matrix,
    truth: sparse.csr_matrix,
    hidden: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    seed: int,
) -> Pool:
    """Return who asks: known items with a relation to a hidden one. What they were shown is out.

    Parameters
    ----------
    visible : (n, n) bool, relations that are shown; none of a hidden item
    truth : (n, n) bool, all relations that count
    hidden : (n,) bool, items that should be found
    groups : (n,) int, candidates of the query's own group are none
    """
    right = truth.multiply(hidden[None, :]).tocsr()
    right.eliminate_zeros()
    asks = (visible.getnnz(axis=1) > 0) & (right.getnnz(axis=1) > 0) & ~hidden
    queries, everything = askers(np.flatnonzero(asks), seed=seed), np.arange(len(hidden))
    unlinked = visible.getnnz(axis=1) == 0
    return Pool(queries, everything, groups, right.astype(bool), shown=visible, unlinked=unlinked)


def askers(rows: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Return who of some items asks: all, or of very many a random part, always the same."""
    if len(rows) <= ASKERS:
        return rows
    return np.sort(np.random.default_rng([seed, len(rows)]).choice(rows, ASKERS, replace=False))


def by_popularity(
    percentile: NDArray[np.float64], queries: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Cut queries by how popular they are, masks (q,): fifths of all items, rarest first."""
    fifth = np.minimum((percentile[queries] * FIFTHS).astype(np.int64), FIFTHS - 1)
    width = 100 // FIFTHS
    return {f"popularity {width * x}-{width * (x + 1)} %": fifth == x for x in range(FIFTHS)}


def with_combined(protocol: Protocol, cold: Protocol) -> Protocol:
    """Add to ``found`` the harmonic mean of NDCG@200 there and in ``cold``, for each method.

    The harmonic mean, because neither can be bought with the other: whoever is at 0 in one is at
    0. Its interval comes from those of both, as if they were independent.
    """
    first, *others = protocol.slices
    name, numbers = f"ndcg@{DEEP}", dict(first.numbers)
    for method, own in first.numbers.items():
        other = cold.slices[0].numbers.get(method, {})
        if name in own and name in other:
            mean = combined(own[name].mean, other[name].mean)
            numbers[method] = {**own, f"combined@{DEEP}": Number(mean)}
    return replace(protocol, slices=(replace(first, numbers=numbers), *others))


def combined(one: Interval, two: Interval) -> Interval:
    """Return the harmonic mean of two numbers with its interval, by the delta method."""
    total = one.value + two.value
    if total == 0:
        return Interval(0.0)
    value = 2 * one.value * two.value / total
    errors = [_error(x) for x in (one, two)]
    if errors[0] is None or errors[1] is None:
        return Interval(value)
    slopes = 2 * (two.value / total) ** 2, 2 * (one.value / total) ** 2
    margin = NORMAL * float(np.hypot(slopes[0] * errors[0], slopes[1] * errors[1]))
    return Interval(value, value - margin, value + margin)


def _error(number: Interval) -> float | None:
    if number.low is None or number.high is None:
        return None
    return (number.high - number.low) / (2 * NORMAL)


def of_protocols(protocols: Mapping[str, Protocol]) -> tuple[Protocol, ...]:
    """Return the protocols, ``found`` with the number that it shares with labelled ``cold``."""
    cold = protocols.get("cold, labelled")
    return tuple(
        with_combined(x, cold) if name == "found" and cold else x for name, x in protocols.items()
    )
