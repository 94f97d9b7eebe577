"""Metrics of a ranking (section 3.1): arrays in, one number per query or per list out.

Relevance is yes or no. Means over queries and intervals are made in ``undersong.evaluation``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

DEEP = 200  # the depth of OLGA's ndcg@200


def accuracy(ranks: Sequence[NDArray[np.int64]], *, k: int) -> dict[str, NDArray[np.float64]]:
    """Score where the relevant items stand, each (q,) in [0, 1]; NaN for a query without any.

    Parameters
    ----------
    ranks : for each query the ranks, from 1, of *all* its relevant items, ascending
    k : length of the short list

    Returns
    -------
    ``hit@k`` : 1 if any of the first k is relevant
    ``recall@k`` : relevant items among the first k / min(relevant items, k)
    ``map``, ``map@k`` : average precision, over the whole ranking and over the first k; the sum
        of precisions is divided by the number of relevant items, as trec_eval does
    ``ndcg``, ``ndcg@k``, ``ndcg@200`` : gain 1 / log2(rank + 1), divided by that of the best
        possible ranking, cut at the same depth

    Source
    ------
    Section 3.1 prints "HR@10", MAP and NDCG without formulas. Its random row fits ``recall@10``,
    ``map`` and ``ndcg`` among the test items (docs/evaluation.md).
    """
    relevant = np.array([len(x) for x in ranks], dtype=np.int64)
    query = np.repeat(np.arange(len(ranks)), relevant)
    rank = np.concatenate([np.empty(0, dtype=np.int64), *ranks])
    first = np.concatenate([[0], np.cumsum(relevant)])[query]
    hits = np.arange(len(rank)) - first + 1  # relevant items up to this rank

    def add(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(query, weights=values, minlength=len(ranks)).astype(np.float64)

    precision, gain, near = hits / rank, 1 / np.log2(rank + 1), rank <= k
    ideal = np.concatenate(
        [[0.0], np.cumsum(1 / np.log2(np.arange(2, relevant.max(initial=1) + 2)))]
    )
    with np.errstate(invalid="ignore"):
        return {
            f"hit@{k}": np.where(relevant > 0, add(near) > 0, np.nan),
            f"recall@{k}": add(near) / np.minimum(relevant, k),
            "map": add(precision) / relevant,
            "ndcg": add(gain) / ideal[relevant],
            f"map@{k}": add(precision * near) / relevant,
            f"ndcg@{k}": add(gain * near) / ideal[np.minimum(relevant, k)],
            f"ndcg@{DEEP}": add(gain * (rank <= DEEP)) / ideal[np.minimum(relevant, DEEP)],
        }


def weighted_ndcg(
    ranks: Sequence[NDArray[np.int64]], weights: Sequence[NDArray[np.float64]], *, depth: int = DEEP
) -> NDArray[np.float64]:
    """Score where the relevant items stand, some counting more, (q,) in [0, 1]; NaN without any.

    Parameters
    ----------
    ranks : for each query the ranks, from 1, of all its relevant items
    weights : how much each of them counts, such as 1 / the chance that a list names it

    Source
    ------
    Yang et al., Unbiased Offline Recommender Evaluation for Missing-Not-At-Random Implicit
    Feedback, RecSys 2018: gains weighed by inverse propensities, over those of the best order.
    """
    scores = np.full(len(ranks), np.nan)
    for query, (places, gains) in enumerate(zip(ranks, weights, strict=True)):
        if len(places):
            ideal = np.sort(gains)[::-1][:depth] / np.log2(np.arange(2, len(gains) + 2)[:depth])
            near = places <= depth
            scores[query] = (gains[near] / np.log2(places[near] + 1)).sum() / ideal.sum()
    return scores


def consistency(
    codes: NDArray[np.int32], rows: NDArray[np.int64], top: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare the metadata of each query and its answers: Consistent@k (section 3.1).

    Parameters
    ----------
    codes : (n, fields) int, -1 where missing
        A field that is missing on either side counts as different.
    rows : (q,) int, the items that ask
    top : (q, k) int, their answers; -1 for none

    Returns
    -------
    share of equal fields, share of answers with all fields equal : each (q,) in [0, 1]
        Means over the answers; 0 for a query without answers.
    """
    of_query = codes[rows][:, None, :]  # (q, 1, fields)
    equal = (of_query == codes[top]) & (of_query >= 0)  # (q, k, fields)
    return _over_answers(equal.mean(axis=2), top), _over_answers(equal.all(axis=2), top)


def overlap(
    words: Sequence[scipy.sparse.csr_matrix], rows: NDArray[np.int64], top: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the share of words that each query and its answers have in common, (q,) in [0, 1].

    Jaccard's coefficient, shared words / words of either, as a mean over fields and answers. For
    one word an item, a category, that is 1 for equal and 0 for different. An item without words
    shares none.

    Parameters
    ----------
    words : for each field who has which word, (n, vocabulary), 1 or 0
    """
    k = top.shape[1]
    a, b = np.repeat(rows, k), top.ravel()
    total = np.zeros(len(a))
    for field in words:
        size = np.asarray(field.sum(axis=1)).ravel()
        both = np.asarray(field[a].multiply(field[b]).sum(axis=1)).ravel()
        either = size[a] + size[b] - both
        total += np.divide(both, either, out=np.zeros(len(a)), where=either > 0)
    return _over_answers(total.reshape(top.shape) / len(words), top)


def mean_of_answers(values: NDArray[np.float64], top: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average a property of items, (n,), over the answers of each query, (q,)."""
    return _over_answers(values[top], top)


def _over_answers(
    values: NDArray[np.float64] | NDArray[np.bool_], top: NDArray[np.int64]
) -> NDArray[np.float64]:
    present = top >= 0
    total = np.where(present, values, 0).sum(axis=1)
    return np.asarray(total / np.maximum(present.sum(axis=1), 1), dtype=np.float64)


def occurrences(
    top: NDArray[np.int64], candidates: NDArray[np.int64], *, n: int
) -> NDArray[np.int64]:
    """Count how often each candidate is an answer, (c,)."""
    return np.bincount(top[top >= 0], minlength=n)[candidates]


def coverage(counts: NDArray[np.int64]) -> float:
    """Share of the candidates that are an answer to any query, in [0, 1]."""
    return float(np.mean(counts > 0))


def gini(counts: NDArray[np.int64]) -> float:
    """Inequality of exposure: 0 when all candidates are shown equally often, near 1 for one.

    0 when nothing is shown at all.
    """
    n, total = len(counts), counts.sum()
    if total == 0:
        return 0.0
    return float(2 * (np.arange(1, n + 1) * np.sort(counts)).sum() / (n * total) - (n + 1) / n)


def hubness(counts: NDArray[np.int64]) -> float:
    """Skewness of the k-occurrence: 0 when symmetric, large when a few items are everywhere.

    Source
    ------
    Radovanovic et al., Hubs in Space, JMLR 2010: the third standardised moment of N_k.
    """
    centred = counts - counts.mean()
    deviation = np.sqrt((centred**2).mean())
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def unreachable(counts: NDArray[np.int64]) -> float:
    """Share of the candidates that are nobody's neighbour, in [0, 1]."""
    return float(np.mean(counts == 0))


def percentiles(popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of items that are less popular, ties counted half, (n,) in (0, 1).

    Items of unknown popularity, -inf, are the least popular.
    """
    n = len(popularity)
    return np.asarray((scipy.stats.rankdata(popularity) - 0.5) / n, dtype=np.float64)


def cold_ndcg(
    vectors: NDArray[np.float32],
    queries: NDArray[np.int64],
    truth: scipy.sparse.csr_matrix,
    *,
    k: int = DEEP,
    block: int = 256,
    asking: NDArray[np.float32] | None = None,
) -> float:
    """Fast ndcg@k of the ``cold`` protocol, for early stopping: all items are candidates.

    Equal scores count against the model: vectors that have all become the same rank as badly as
    can be.

    Parameters
    ----------
    vectors : (n, d) float32, unit length
    queries : (q,) int, rows of the items that ask
        Those without a relation are skipped; without any left the result is 0.
    truth : (n, n) bool, all known relations
    asking : (n, d), vectors of the items as they ask, where those are others; of any length
    """
    ranks = [x for x in ranks_of(vectors, queries, truth, block=block, asking=asking) if len(x)]
    return float(accuracy(ranks, k=k)[f"ndcg@{k}"].mean()) if ranks else 0.0


def average_precision(
    vectors: NDArray[np.float32],
    queries: NDArray[np.int64],
    truth: scipy.sparse.csr_matrix,
    *,
    block: int = 256,
) -> NDArray[np.float64]:
    """Fast average precision of each query, (q,), NaN without a relation; as ``cold_ndcg``."""
    return accuracy(ranks_of(vectors, queries, truth, block=block), k=1)["map"]


def ranks_of(
    vectors: NDArray[np.float32],
    queries: NDArray[np.int64],
    truth: scipy.sparse.csr_matrix,
    *,
    block: int = 256,
    asking: NDArray[np.float32] | None = None,
) -> list[NDArray[np.int64]]:
    """Ranks of what each query is related to, ascending; equal scores count against the model."""
    relations = truth[queries].tocsr()
    ranks = []
    for start in range(0, len(queries), block):
        rows = queries[start : start + block]
        scores = (vectors if asking is None else asking)[rows] @ vectors.T  # (q, n)
        scores[np.arange(len(rows)), rows] = -np.inf
        for offset, row in enumerate(scores):
            span = slice(*relations.indptr[start + offset : start + offset + 2])
            wanted = row[relations.indices[span]]
            places = np.sort([np.count_nonzero(row >= score) for score in wanted])
            ranks.append(places.astype(np.int64))
    return ranks
