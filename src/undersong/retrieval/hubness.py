"""Hub control: an item that nobody's list names gets a place where it costs least.

With a learned order a quarter of the items may be in nobody's first ten answers, while some are in
hundreds. Taking hubs down in every list (CSLS, local scaling, a penalty on how often an item is
shown) costs accuracy everywhere; giving each forgotten item the last place of one list costs next
to none (docs/retrieval.md has the numbers).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHOWN = 10  # answers of a list that people see
COST = 0.005  # expected loss of DCG that a list may bear; chosen on validation artists of set B


@dataclass(frozen=True)
class Raised:
    """What hub control did: lists of rows (n, m) in their new order, and shares of the n items.

    Parameters
    ----------
    places : (n, m) where each answer stood before
    unreached_before, unreached : items in nobody's first 10, in [0, 1]
    """

    places: NDArray[np.int64]
    unreached_before: float
    unreached: float


def raise_unreached(rows: NDArray[np.int32], confidence: NDArray[np.float32]) -> Raised:
    """Move items that are in nobody's first 10 answers to the tenth place of one list each.

    Cheapest first, by the expected loss of DCG: the answers from the tenth on are one place later,
    each as likely right as its confidence says. A list gives up one place at most, and none for
    more than ``COST`` or where the tenth answer is a known relation. Without confidence nothing
    moves.

    Parameters
    ----------
    rows : (n, m) lists of all n items, best first, -1 where there are fewer
    confidence : (n, m) in [0, 1], NaN without a learned order
    """
    n, m = rows.shape
    places = np.tile(np.arange(m), (n, 1))
    before = _unreached(rows)
    if m > SHOWN and n:
        queries, chosen = _cheapest(rows, confidence, before)
        for query, place in zip(queries.tolist(), chosen.tolist(), strict=True):
            places[query, SHOWN - 1 : place + 1] = [place, *range(SHOWN - 1, place)]
    after = _unreached(np.take_along_axis(rows, places, axis=1))
    return Raised(places, float(before.mean()), float(after.mean()))


def _cheapest(
    rows: NDArray[np.int32], confidence: NDArray[np.float32], unreached: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which list gives its tenth place to the answer at which place, one a list and an item."""
    behind = rows[:, SHOWN:]
    cost = _expected_loss(confidence)
    unsure = confidence[:, SHOWN - 1 : SHOWN] < 1
    query, place = np.nonzero((behind >= 0) & unreached[behind] & unsure & (cost <= COST))
    turn = np.argsort(cost[query, place], kind="stable")
    query, place = query[turn], place[turn]
    item = behind[query, place]
    givers, raised, taken = set(), set(), []
    for at, (asks, named) in enumerate(zip(query.tolist(), item.tolist(), strict=True)):
        if asks not in givers and named not in raised:
            givers.add(asks)
            raised.add(named)
            taken.append(at)
    return query[taken], place[taken] + SHOWN


def _expected_loss(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Expected DCG that a list loses when its answer at each place behind the tenth becomes the
    tenth, (n, m) -> (n, m - 10)."""
    discount = 1 / np.log2(np.arange(2, confidence.shape[1] + 2))
    fall = discount[SHOWN - 1 : -1] - discount[SHOWN:]
    others = np.cumsum(confidence[:, SHOWN - 1 : -1] * fall, axis=1)
    return np.asarray(others - confidence[:, SHOWN:] * np.cumsum(fall), dtype=np.float32)


def _unreached(rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which items are in nobody's first answers, (n,)."""
    first = rows[:, :SHOWN]
    return np.asarray(np.bincount(first[first >= 0], minlength=len(rows)) == 0)
