"""Answers of every item, computed once and looked up: one file, read by memory map.

An .npy file of records (neighbour int32, score float32, confidence float32), (n, m), best first,
in the order of the index; a neighbour is -1 where there are fewer than m.

Hub control gives an item that nobody's list names a place where it costs least. With a learned
order a quarter of the items may be in nobody's first ten answers, while some are in hundreds.
Taking hubs down in every list (CSLS, local scaling, a penalty on how often an item is shown) costs
accuracy everywhere; giving each forgotten item the last place of one list costs next to none
(docs/retrieval.md has the numbers).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undersong.errors import ArtifactError, DataError
from undersong.io.tensors import map_array, write_array
from undersong.progress import Progress, silent
from undersong.retrieval.index import BLOCK, RECORD, Index, Precomputed
from undersong.retrieval.neighbours import order
from undersong.retrieval.query import Query

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


LENGTH = 200
CHECKED = 1 << 18  # records that are checked at once
REMEDY = "publish the run again with `undersong publish`"


@dataclass(frozen=True)
class Made:
    """What was written: n items, m answers of each, and shares of items in nobody's first ten.

    ``unreached_before`` is without hub control.
    """

    items: int
    length: int
    unreached_before: float
    unreached: float


def file_of(kind: str) -> str:
    """Name of the file of lists of one kind of item within a generation."""
    return f"lists/{kind}.npy"


def make_lists(
    index: Index, folder: Path, *, kind: str, length: int = LENGTH, progress: Progress = silent
) -> Made:
    """Compute the answers of every item of an index and write them below a generation's folder.

    No more of each than the candidates that a learned order weighs: what stands behind those
    depends on who is asked for. Memory is bounded by a block of queries and the lists themselves.
    The file appears whole or not at all.
    """
    if length < 1:
        raise DataError(f"length is {length}; keep 1 answer of each item or more")
    n = len(index.embeddings.ids)
    weighed = index.ranker.candidates if index.ranker else length
    lists = np.zeros((n, min(length, weighed, max(n - 1, 1))), dtype=RECORD)
    everyone = np.ones(n, dtype=bool)
    turn = index.in_turn(np.arange(n))
    for start in range(0, n, BLOCK):
        rows = turn[start : start + BLOCK]
        block = order(index, rows, allowed=everyone, k=lists.shape[1], query=Query())
        lists[rows] = block.records(lists.shape[1])
        progress("lists", start + len(rows), n)
    raised = raise_unreached(lists["neighbour"], lists["confidence"])
    lists = np.take_along_axis(lists, raised.places, axis=1)
    write_array(folder / file_of(kind), lists)
    return Made(n, lists.shape[1], raised.unreached_before, raised.unreached)


def read(path: Path, *, n: int) -> Precomputed:
    """Open lists of n items by memory map.

    Raises
    ------
    ArtifactError
        If the file is absent, holds anything else (a pickle, too), or is of other items.
    """
    records = map_array(path, hint=REMEDY, fault="is no file of answers")
    if records.dtype != RECORD or records.ndim != 2:
        raise ArtifactError(f"{path} holds other records than {RECORD.names}; {REMEDY}")
    if len(records) != n or not _within(path, records, n=n):
        raise ArtifactError(f"{path} is of {len(records)} items, the run of {n}; {REMEDY}")
    plain = np.asarray(records)  # over the same map; a column of it is looked up in half the time
    return Precomputed(plain["neighbour"], plain["score"], plain["confidence"])


def _within(path: Path, mapped: np.memmap[Any, Any], *, n: int) -> bool:
    """Whether all neighbours are among n items.

    Read beside the map, in blocks: what is read through it stays in the memory of the process.
    """
    with path.open("rb") as file:
        file.seek(mapped.offset)
        while len(block := np.fromfile(file, dtype=RECORD, count=CHECKED)):
            rows = block["neighbour"]
            if not -1 <= rows.min() <= rows.max() < n:
                return False
    return True
