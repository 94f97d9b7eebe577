"""What evaluation judges: anything that scores all items for some queries; and how scores rank.

Equal scores are ordered by chance: one fixed random permutation of the items, turned by a
random amount for each query. So a constant scorer is as good, and spreads its answers as
widely, as a random one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.embeddings import Embeddings, unit
from undersong.errors import ArtifactError

TURNED = 1 << 18  # scores that are laid out anew together: 1 MB

Scorer = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class Method:
    """A way to find similar items.

    Parameters
    ----------
    name : str
    scores : from rows of queries, (q,) int, to the scores of all n items, (q, n) float
        Higher is more similar; -inf for what cannot be scored, never NaN. Equal scores are
        ordered by chance, so a row of zeros means "no idea".
    sees_edges : bool
        Whether it reads relations of the very items that ask. Such a method only takes part in
        the protocol ``linked``.
    note : str
        What a reader of the table should know, in a few words.
    among : from the candidates of a pool, (c,) rows, to the scorer to use there
        For a method whose order depends on who may be an answer, or that is faster for few; others
        may score anything. ``scores`` serves all items.
    turn : from rows of queries, (q,), to their places in the order in which they are scored fastest
    """

    name: str
    scores: Scorer
    sees_edges: bool = False
    note: str = ""
    among: Callable[[NDArray[np.int64]], Scorer] | None = None
    turn: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None


def from_embeddings(
    name: str,
    embeddings: Embeddings,
    ids: tuple[str, ...],
    *,
    sees_edges: bool = False,
    note: str = "",
) -> Method:
    """Find neighbours by cosine. For items without a vector see ``from_vectors``."""
    vectors, missing = embeddings.align(ids)
    return from_vectors(name, vectors, missing=missing, sees_edges=sees_edges, note=note)


def from_vectors(
    name: str,
    vectors: NDArray[np.float32] | sparse.csr_matrix,
    *,
    missing: NDArray[np.bool_],
    sees_edges: bool = False,
    note: str = "",
) -> Method:
    """Find neighbours by cosine of dense or sparse vectors of any length, (n, d).

    An item without a vector (``missing``, or all zeros) comes last in every other item's
    answers, and its own answers are in random order: it has no idea, and it is nobody's.
    """
    units = unit_rows(vectors)
    empty = missing | (np.asarray(abs(units).sum(axis=1)).ravel() == 0)
    n = len(empty)

    def among(pool: NDArray[np.int64]) -> Scorer:
        whole = len(pool) == n
        out = np.flatnonzero(empty) if whole else np.flatnonzero(empty[pool])
        products = _products(units, units if whole else units[pool])

        def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            cosines = products(rows)
            cosines[:, out] = -np.inf
            if not whole:
                every = np.full((len(rows), n), -np.inf, dtype=np.float32)
                for row, own in zip(every, cosines, strict=True):
                    row[pool] = own
                cosines = every
            cosines[empty[rows]] = 0
            return np.asarray(cosines, dtype=np.float32)

        return scores

    return Method(name, among(np.arange(n)), sees_edges=sees_edges, note=note, among=among)


def _products(
    vectors: NDArray[np.float32] | sparse.csr_matrix,
    others: NDArray[np.float32] | sparse.csr_matrix,
) -> Scorer:
    """Return a function from some rows, (q,), to their products with all others, (q, m)."""
    if isinstance(vectors, np.ndarray) or isinstance(others, np.ndarray):
        return lambda rows: vectors[rows] @ others.T
    by_column = others.T.tocsr()  # so that only those are looked at that share a column
    return lambda rows: np.asarray((vectors[rows] @ by_column).toarray())


def by_query(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn scores of items by queries, (n, q), into (q, n), in parts that stay in a cache."""
    n, q = scores.shape
    turned = np.empty((q, n), dtype=np.float32)
    size = max(1, TURNED // max(q, 1))
    for start in range(0, n, size):
        turned[:, start : start + size] = scores[start : start + size].T
    return turned


def unit_rows(
    vectors: NDArray[np.float32] | sparse.csr_matrix,
) -> NDArray[np.float32] | sparse.csr_matrix:
    """Bring rows to length 1; zeros stay."""
    if isinstance(vectors, np.ndarray):
        return unit(vectors)
    length = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return (sparse.diags(scale) @ vectors).tocsr().astype(np.float32)


CELLS = 1 << 24  # scores held at once: fewer queries would read all items for hardly any product


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
    shown: sparse.csr_matrix | None = None,
    asking: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Rank all candidates for a block of queries, one after the other.

    Parameters
    ----------
    scores : (q, n) float, higher is more similar; -inf is allowed, NaN is not
    rows : (q,) int, which of the n items ask
    candidates : (c,) int, which of the n items may be an answer, ascending
    groups : (n,) int
        A candidate of the query's own group is no candidate. With ``arange(n)`` that is the
        query itself; with the artists of tracks it is every track of the query's artist.
    relevant : (n, n) bool, or None where only ``top`` is wanted
        Relevant items that are no candidates are ignored.
    shown : (n, n) bool, pairs of which the query scores -inf
    asking : (q,) bool, the queries to rank for; all if None

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
    chosen = np.arange(len(rows)) if asking is None else np.flatnonzero(asking)
    top = np.full((len(chosen), k), -1, dtype=np.int64)
    ranks, items = [], []
    of_candidates, whole = groups[candidates], len(candidates) == len(groups)
    for place, query in enumerate(chosen):
        row = int(rows[query])
        if np.isnan(scores[query].max(initial=-np.inf)):
            raise ArtifactError(
                f"the scores of item {row} hold a NaN; give -inf to what cannot be scored"
            )
        values = scores[query].copy() if whole else scores[query].take(candidates)
        if shown is not None:
            values[_places(shown, row, candidates)] = -np.inf
        out = np.flatnonzero(of_candidates == groups[row])
        values[out] = -np.inf
        order = _Order(values, out, candidates, ties, int(ties.turn[row]))
        best = order.first(k)
        top[place, : len(best)] = candidates[best]
        if relevant is not None:
            right = _places(relevant, row, candidates)
            right = right[of_candidates[right] != groups[row]]
            above = order.above(right)
            turn = np.argsort(above, kind="stable")
            ranks.append(above[turn] + 1)
            items.append(candidates[right[turn]])
    return Ranking(top, tuple(ranks), tuple(items))


def _places(
    matrix: sparse.csr_matrix, row: int, candidates: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places among the candidates of the columns that a row of a sparse matrix names."""
    own = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
    place = np.minimum(np.searchsorted(candidates, own), len(candidates) - 1)
    return np.asarray(place[candidates[place] == own])


@dataclass(frozen=True)
class _Order:
    """Order of the candidates of one query: by score, and among equal ones by ``ties``.

    Parameters
    ----------
    values : (c,) float32, their scores; -inf for those that are ``out``
    out : places of those of the query's own group, which have no rank
    turn : how far the query turns the order among ties
    """

    values: NDArray[np.float32]
    out: NDArray[np.int64]
    candidates: NDArray[np.int64]
    ties: Ties
    turn: int

    def first(self, k: int) -> NDArray[np.int64]:
        """Places of the k best, best first; fewer if there are fewer."""
        wanted = min(k, len(self.values) - len(self.out))
        if wanted <= 0:
            return np.zeros(0, dtype=np.int64)
        # Of some groups the best of the k-th is no better than the k-th of all: few are as high.
        # Among very many equal scores, such as zeros, looking for the k-th takes a hundred times.
        groups = min(4 * wanted, len(self.values))
        whole = len(self.values) // groups * groups
        peaks = self.values[:whole].reshape(-1, groups).max(axis=0)
        few = self.values[self.values >= np.partition(peaks, groups - wanted)[groups - wanted]]
        least = np.partition(few, len(few) - wanted)[len(few) - wanted]
        high = np.flatnonzero(self.values > least)
        tied = self._equal(least)
        lucky = self._luck(tied)
        if len(tied) > wanted - len(high):
            some = np.argpartition(-lucky, wanted - len(high) - 1)[: wanted - len(high)]
            tied, lucky = tied[some], lucky[some]
        best = np.append(high, tied)
        luck = np.append(self._luck(high), lucky)
        return best[np.lexsort((-luck, -self.values[best]))]

    def above(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many candidates stand above each of some."""
        if not len(places):
            return np.zeros(0, dtype=np.int64)
        ascending, wanted = np.sort(self.values), self.values[places]
        ends = np.searchsorted(ascending, wanted, side="right")
        above = len(ascending) - ends
        several = ends - np.searchsorted(ascending, wanted, side="left") > 1
        for value in np.unique(wanted[several]):
            here = np.flatnonzero(wanted == value)
            luck = self._luck(self._equal(value))
            above[here] += [np.count_nonzero(luck > own) for own in self._luck(places[here])]
        return np.asarray(above, dtype=np.int64)

    def _equal(self, value: np.float32) -> NDArray[np.int64]:
        """Places of the candidates that score so."""
        equal = self.values == value
        if value == -np.inf:
            equal[self.out] = False
        return np.flatnonzero(equal)

    def _luck(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what puts candidates of equal scores in their order, the highest first."""
        luck = self.ties.place[self.candidates[places]] + self.turn
        luck[luck >= len(self.ties.place)] -= len(self.ties.place)
        return luck
