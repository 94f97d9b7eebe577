"""Neighbours of very many items: the same search, block by block on the cluster."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from undersong.cluster.connection import in_order
from undersong.retrieval.facts import Facts
from undersong.retrieval.nearest import BLOCK, Block, Index
from undersong.retrieval.request import Request
from undersong.retrieval.retrieve import retrieve


def retrieve_there(
    index: Index, rows: NDArray[np.int64], *, request: Request, facts: Facts | None = None
) -> Iterator[Block]:
    """Answer as ``retrieve`` does, in the same blocks; the index goes to each node once."""
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    return in_order(partial(_answer, index, request, facts), blocks)


def _answer(index: Index, request: Request, facts: Facts | None, rows: NDArray[np.int64]) -> Block:
    return next(retrieve(index, rows, request=request, facts=facts))
