"""From scores to ranks: who stands where in a full ranking (section 3.1).

Equal scores are ordered by chance: one fixed random permutation of the items, turned by a
random amount for each query. So a constant scorer is as good, and spreads its answers as
widely, as a random one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.errors import ArtifactError

CELLS = 1 << 20  # scores held at once: these 4 MB, and 8 MB of keys, stay in a processor's cache


@dataclass(frozen=True)
class Ties:
    """Order among equal scores.

    Parameters
    ----------
    place : (n,) int, a permutation of the n items
    item : (n,) int, its inverse
    turn : (n,) int, how far each query turns it
    """

    place: NDArray[np.int64]
    item: NDArray[np.int64]
    turn: NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Where the candidates stand for each query of a block.

    Parameters
    ----------
    top : (q, k) int, rows of the best candidates, best first; -1 where there are fewer than k
    ranks : for each query the ranks, from 1, of its relevant candidates, ascending
    relevant : for each query the rows of those candidates, in the same order
    """

    top: NDArray[np.int64]
    ranks: tuple[NDArray[np.int64], ...]
    relevant: tuple[NDArray[np.int64], ...] = ()


def make_ties(n: int, *, seed: int) -> Ties:
    """Draw the order in which n items stand where a method cannot tell them apart."""
    generator = np.random.default_rng([seed, n])
    item = generator.permutation(n)
    place = np.empty(n, dtype=np.int64)
    place[item] = np.arange(n)
    return Ties(place, item, generator.integers(max(n, 1), size=n))


def blocks(rows: NDArray[np.int64], *, n: int, block: int) -> Sequence[NDArray[np.int64]]:
    """Cut queries into blocks of at most ``block`` that hold at most ``CELLS`` scores each."""
    size = max(1, min(block, CELLS // max(n, 1)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def rank(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    *,
    candidates: NDArray[np.int64],
    groups: NDArray[np.int64],
    relevant: sparse.csr_matrix | None,
    ties: Ties,
    k: int,
) -> Ranking:
    """Rank all candidates for a block of queries.

    Parameters
    ----------
    scores : (q, n) float, higher is more similar; -inf is allowed, NaN is not
    rows : (q,) int, which of the n items ask
    candidates : (c,) int, which of the n items may be an answer
    groups : (n,) int
        A candidate of the query's own group is no candidate. With ``arange(n)`` that is the
        query itself; with the artists of tracks it is every track of the query's artist.
    relevant : (n, n) bool, or None where only ``top`` is wanted
        Relevant items that are no candidates are ignored.

    Raises
    ------
    ArtifactError
        If ``scores`` has another shape or holds a NaN, with the row of the query.
    """
    if scores.shape != (len(rows), len(groups)):
        raise ArtifactError(
            f"scores of shape {scores.shape} for {len(rows)} queries among {len(groups)} items; "
            f"expected {(len(rows), len(groups))}"
        )
    unknown = np.isnan(scores).any(axis=1)
    if unknown.any():
        raise ArtifactError(
            f"the scores of item {rows[unknown][0]} hold a NaN; give -inf to what cannot be scored"
        )
    keys = _keys(scores[:, candidates], rows, candidates, groups, ties)
    if relevant is None:
        return Ranking(_top(keys, rows, ties, k), ())
    return Ranking(_top(keys, rows, ties, k), *_ranks(keys, rows, candidates, relevant))


def _keys(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    candidates: NDArray[np.int64],
    groups: NDArray[np.int64],
    ties: Ties,
) -> NDArray[np.uint64]:
    """One whole number per cell that sorts by score, then by the order among ties; 0 is out."""
    # Adding 0 turns -0 into 0. A float's bits sort like whole numbers once all bits of the
    # negative ones and the sign of the others are flipped.
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)
    ordered = (bits ^ ((bits >> 31) | np.int32(-(1 << 31)))).view(np.uint32)
    keys = ordered.astype(np.uint64)
    keys <<= np.uint64(32)
    n = np.uint32(len(ties.place))
    order = ties.place[candidates].astype(np.uint32) + ties.turn[rows, None].astype(np.uint32)
    keys |= np.minimum(order, order - n)  # modulo n: below n the difference wraps far above
    keys[groups[rows][:, None] == groups[candidates][None, :]] = 0
    return keys


def _top(
    keys: NDArray[np.uint64], rows: NDArray[np.int64], ties: Ties, k: int
) -> NDArray[np.int64]:
    """Rows of the k largest keys: the lower half of a key says which item it is."""
    c = keys.shape[1]
    best = np.partition(keys, c - k, axis=1)[:, c - k :] if k < c else keys
    best = np.sort(best, axis=1)[:, ::-1]
    order = (best & np.uint64(0xFFFFFFFF)).astype(np.int64)
    items = ties.item[(order - ties.turn[rows][:, None]) % len(ties.item)]
    top = np.full((len(rows), k), -1, dtype=np.int64)
    top[:, : best.shape[1]] = np.where(best == 0, -1, items)
    return top


def _ranks(
    keys: NDArray[np.uint64],
    rows: NDArray[np.int64],
    candidates: NDArray[np.int64],
    relevant: sparse.csr_matrix,
) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
    """Ranks of the relevant candidates of each query, ascending, and their rows."""
    cells = relevant[rows][:, candidates].tocsr()
    ranks, items = [], []
    for query, row in enumerate(keys):
        places = cells.indices[cells.indptr[query] : cells.indptr[query + 1]]
        places = places[row[places] > 0]
        above = np.array([np.count_nonzero(row > key) for key in row[places]], dtype=np.int64)
        order = np.argsort(above, kind="stable")
        ranks.append(above[order] + 1)
        items.append(candidates[places[order]])
    return tuple(ranks), tuple(items)
