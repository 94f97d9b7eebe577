"""What evaluation judges: anything that scores all items for some queries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.embeddings import Embeddings, unit

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
