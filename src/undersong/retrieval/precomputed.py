"""Answers of every item, computed once and looked up: one file, read by memory map.

An .npy file of records (neighbour int32, score float32, confidence float32), (n, m), best first,
in the order of the index; a neighbour is -1 where there are fewer than m.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undersong.errors import ArtifactError, DataError
from undersong.io.tensors import map_array, write_array
from undersong.progress import Progress, silent
from undersong.retrieval.hubness import raise_unreached
from undersong.retrieval.index import BLOCK, RECORD, Index, Precomputed
from undersong.retrieval.neighbours import order
from undersong.retrieval.query import Query

LENGTH = 200
CHECKED = 1 << 18  # records that are checked at once
REMEDY = "publish the run again with `undersong publish`"


@dataclass(frozen=True)
class Made:
    """What was written: n items, m answers of each, and shares of items in nobody's first ten.

    ``unreached_before`` is without hub control (``undersong.retrieval.hubness``).
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
