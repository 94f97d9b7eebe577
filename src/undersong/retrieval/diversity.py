"""How far apart answers lie: caps on one artist or album, and diversity by marginal relevance."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Attributes
from undersong.retrieval.index import TopK
from undersong.retrieval.query import Query

POOL = 5  # answers for each one wanted that diversity chooses from
LEAST = 50  # and at least so many


def reach(query: Query) -> int:
    """How many answers of the order are looked at to give k of them."""
    return max(POOL * query.k, LEAST) if query.diversity else query.k


def cap(answers: TopK, query: Query, attributes: Attributes) -> NDArray[np.bool_]:
    """Return which answers stay, (q, k), when an artist or album may have only so many.

    From the best on, an answer goes whose artist or album has its share already. One whose artist
    or album is not known stays.
    """
    staying = answers.neighbours >= 0
    for column, most in (("artist", query.per_artist), ("album", query.per_album)):
        if most is not None:
            staying &= _within(answers.neighbours, staying, _codes(attributes.table[column]), most)
    return staying


def diversify(
    answers: TopK, vectors: NDArray[np.float32], *, k: int, diversity: float
) -> NDArray[np.int64]:
    """Choose k of the answers by maximal marginal relevance, as places in the list, (q, k).

    The best answer comes first; each further one is the highest in

        (1 - diversity) relevance - diversity (greatest cosine of E_G to one chosen before)

    Relevance is the place in the list, from 1 for the first down to 0 behind the last: the scores
    of a learned order and cosines have no scale in common.

    Source
    ------
    Carbonell and Goldstein, The use of MMR, SIGIR 1998.
    """
    q, pool = answers.neighbours.shape
    there = answers.neighbours >= 0
    counts = there.sum(axis=1, keepdims=True)
    relevance = 1 - np.arange(pool) / np.maximum(counts, 1)
    units = vectors[answers.neighbours]  # (q, pool, d)
    nearest = np.zeros((q, pool), dtype=np.float32)
    chosen = np.full((q, min(k, pool)), -1, dtype=np.int64)
    left, every = there.copy(), np.arange(q)
    for turn in range(chosen.shape[1]):
        value = (1 - diversity) * relevance - diversity * nearest
        best = np.where(left, value, -np.inf).argmax(axis=1) if turn else np.zeros(q, np.int64)
        chosen[:, turn] = np.where(left[every, best], best, -1)
        left[every, best] = False
        similar = np.einsum("qpd,qd->qp", units, units[every, best])
        nearest = np.maximum(nearest, similar) if turn else similar
    return chosen


def _within(
    rows: NDArray[np.int64], staying: NDArray[np.bool_], codes: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Whether fewer than ``most`` staying answers before each have its code, (q, k)."""
    within = staying.copy()
    for at, row in enumerate(rows):
        seen: dict[int, int] = {}
        for place, code in enumerate(codes[row].tolist()):
            if staying[at, place] and code >= 0:
                seen[code] = seen.get(code, 0) + 1
                within[at, place] = seen[code] <= most
    return within


def _codes(words: pl.Series) -> NDArray[np.int64]:
    """A number for each word, -1 where there is none, (n,)."""
    return words.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
