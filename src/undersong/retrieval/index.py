"""The order of the answers of one run: by cosine, or as it was learned; exact.

One order of all items belongs to each query, whoever may be an answer and however many are asked
for. Filters take items out of it and change nothing else: not the others' scores, nor how sure
they are. So a list that was computed once serves every query that it is long enough for.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.embeddings import Embeddings
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import BELOW, Ranker, rerank

BLOCK = 256
RECORD = np.dtype([("neighbour", "<i4"), ("score", "<f4"), ("confidence", "<f4")])
GROUPS = 4  # of columns, for every answer that is wanted, when the best are looked for


@dataclass(frozen=True)
class Precomputed:
    """The first neighbours of every item, computed once (``undersong.retrieval.precomputed``).

    Parameters
    ----------
    rows, scores, confidence : (n, m), best first; a row is -1 where there are fewer
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]


class Near(Protocol):
    """A faster way to the nearest by cosine (``undersong.retrieval.approximate``)."""

    def search(
        self,
        embeddings: Embeddings,
        rows: NDArray[np.int64],
        *,
        allowed: NDArray[np.bool_],
        k: int,
    ) -> "TopK":
        """List the k of the items ``allowed``, (n,), nearest to each query."""


@dataclass(frozen=True)
class Index:
    """What answers are found with: the embedding, and what orders them if that was learned.

    Parameters
    ----------
    embeddings : E_G of every item about which something is known
        Zeros where that is relations alone, which only a learned order can use.
    ranker, evidence : the learned order, of the same items; None for the cosine of E_G alone
    lists : the first answers of every item in that order, if they were computed
    approximate : a faster way to the nearest by cosine, for very many items
    linked : (n,) which items have a known relation, where no evidence says so; None: not known
    asking : (d,) unit vector that asks in place of an item, by cosine; then one row is asked, -1
    unlinked_ask : E_G of the same items, by which those without a known relation ask where
        ``embeddings`` are behind the graph network, which does not help them (docs/choices.md)
    """

    embeddings: Embeddings
    ranker: Ranker | None = None
    evidence: RankingContext | None = None
    lists: Precomputed | None = None
    approximate: Near | None = None
    linked: NDArray[np.bool_] | None = None
    asking: NDArray[np.float32] | None = None
    unlinked_ask: Embeddings | None = None

    def in_turn(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return places in ``rows``, (q,), in the order in which many are answered fastest."""
        if self.evidence is None:
            return np.arange(len(rows))
        return self.evidence.cells.in_turn(rows)


@dataclass(frozen=True)
class TopK:
    """Answers of some queries: rows (q,), neighbours (q, k) rows, scores and confidence (q, k).

    Best first. Where fewer than k are left the neighbour is -1. Confidence is NaN without a
    learned order. ``note`` says in a sentence why there is no answer, if filters left none.
    """

    rows: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]
    note: str = ""

    def first(self, k: int) -> "TopK":
        """Keep the k best."""
        if self.neighbours.shape[1] <= k:
            return self
        return TopK(self.rows, self.neighbours[:, :k], self.scores[:, :k], self.confidence[:, :k])

    def records(self, width: int) -> NDArray[np.void]:
        """Return the answers as records of ``RECORD``, (q, width); a neighbour is -1 behind all."""
        records = np.zeros((len(self.rows), width), dtype=RECORD)
        records["neighbour"] = -1
        own = records[:, : self.neighbours.shape[1]]
        own["neighbour"], own["score"] = self.neighbours, self.scores
        own["confidence"] = self.confidence
        return records

    def take(self, places: NDArray[np.int64]) -> "TopK":
        """Choose answers by their places, (q, k); -1 chooses none."""
        there = places >= 0

        def of(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.take_along_axis(values, np.maximum(places, 0), axis=1)

        neighbours = np.take_along_axis(self.neighbours, np.maximum(places, 0), axis=1)
        return TopK(
            self.rows,
            np.where(there, neighbours, -1),
            np.where(there, of(self.scores), np.float32(-np.inf)),
            np.where(there, of(self.confidence), np.float32(np.nan)),
        )


def nothing(rows: NDArray[np.int64]) -> TopK:
    """Return no answer to any query."""
    empty = np.zeros((len(rows), 0), dtype=np.float32)
    return TopK(rows, empty.astype(np.int64), empty, empty)


def by_cosine(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    *,
    among: NDArray[np.int64],
    k: int,
    asking: NDArray[np.float32] | None = None,
) -> TopK:
    """List the k of ``among`` nearest to each query by cosine; of equal ones the earlier row.

    The query itself is left out. ``asking`` is as of ``Index``.
    """
    vectors = embeddings.vectors
    everything = len(among) == len(vectors)
    asks = vectors[rows] if asking is None else asking[None]
    scores = asks @ (vectors if everything else vectors[among]).T
    if asking is None:
        place = np.full(len(vectors), -1)
        place[among] = np.arange(len(among))
        itself = place[rows]
        scores[itself >= 0, itself[itself >= 0]] = -np.inf
    best = _best(scores, min(k, len(among)))
    cosines = np.take_along_axis(scores, best, axis=1)
    neighbours = np.where(np.isfinite(cosines), among[best], -1)
    return TopK(rows, neighbours, cosines, np.full_like(cosines, np.nan))


def behind_graph(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    *,
    plain: Embeddings,
    linked: NDArray[np.bool_],
    among: NDArray[np.int64],
    k: int,
) -> TopK:
    """List the k of ``among`` nearest to each query: by X_G, by ``plain`` to one without links."""
    answers, alone = by_cosine(embeddings, rows, among=among, k=k), ~linked[rows]
    if alone.any():
        own = by_cosine(plain, rows[alone], among=among, k=k)
        answers.neighbours[alone], answers.scores[alone] = own.neighbours, own.scores
    return answers


def rerank_all(
    ranker: Ranker,
    evidence: RankingContext,
    rows: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
    long_tail: float = 0.0,
    closed: bool = False,
) -> TopK:
    """List the k best of the items ``allowed``, (n,), for each query in the learned order.

    The likeliest candidates of the whole catalogue come first, or of the allowed ones if the pool
    is ``closed``. Where too few of them are allowed, the likeliest of the allowed follow, weighed
    among themselves, and behind those all others by the rule of thumb that chooses candidates, as
    ``ranker.scorer`` has it.
    """
    allowed = allowed & evidence.known
    wanted = np.minimum(k, np.count_nonzero(allowed) - allowed[rows])
    pool = allowed if closed else None
    whole = rerank(ranker, evidence, rows, among=pool, long_tail=long_tail)
    first = TopK(rows, whole.candidates, whole.scores, whole.confidence)
    answers = pick(first, allowed[first.neighbours])
    if (_count(answers) < wanted).any():
        more = rerank(ranker, evidence, rows, among=allowed, long_tail=long_tail)
        answers = join(answers, _behind(first, more.candidates, more.scores, ranker))
        if (_count(answers) < wanted).any():
            everything = more.gathered.everything(evidence, among=allowed)
            width = min(k + answers.neighbours.shape[1], len(allowed))
            best = _best(everything, width)
            prior = np.take_along_axis(everything, best, axis=1)
            answers = join(
                answers, _behind(answers, np.where(np.isfinite(prior), best, -1), prior, ranker)
            )
    return answers.first(k)


def _count(answers: TopK) -> NDArray[np.int64]:
    return np.asarray((answers.neighbours >= 0).sum(axis=1))


def pick(answers: TopK, marked: NDArray[np.bool_]) -> TopK:
    """Keep the answers that are marked, (q, k), and close the gaps."""
    marked = marked & (answers.neighbours >= 0)
    order = np.argsort(~marked, axis=1, kind="stable")
    width = int(marked.sum(axis=1).max(initial=0))
    return answers.take(np.where(np.take_along_axis(marked, order, axis=1), order, -1)[:, :width])


def join(first: TopK, second: TopK) -> TopK:
    """Put a second list behind a first one, without what the first names already."""
    fresh = _fresh(first, second.neighbours)
    both = TopK(
        first.rows,
        np.concatenate([first.neighbours, second.neighbours], axis=1),
        np.concatenate([first.scores, second.scores], axis=1),
        np.concatenate([first.confidence, second.confidence], axis=1),
    )
    return pick(both, np.concatenate([first.neighbours >= 0, fresh], axis=1))


def _fresh(first: TopK, neighbours: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which items of a list, (q, k), another list of the same queries does not name."""
    named = [np.isin(b, a) for a, b in zip(first.neighbours, neighbours, strict=True)]
    named_already = np.array(named, dtype=bool).reshape(neighbours.shape)
    return np.asarray((neighbours >= 0) & ~named_already)


def _behind(
    first: TopK, neighbours: NDArray[np.int64], scores: NDArray[np.float32], ranker: Ranker
) -> TopK:
    """Shift what another list, (q, c), does not name, so that it stands behind the last of that.

    How sure its answers are goes down from there with the score, by the slope of the calibration.
    """
    last, sure = (
        np.where(first.neighbours >= 0, values, np.inf).min(axis=1, initial=np.inf)[:, None]
        for values in (first.scores, first.confidence)
    )
    alone = ~np.isfinite(last)
    fresh = _fresh(first, neighbours)
    priors = np.where(fresh, scores, 0)
    best = np.where(fresh, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    steps = BELOW + np.where(fresh, np.where(np.isfinite(best), best, 0) - priors, np.inf)
    shifted = np.where(alone, 0, last) - steps
    odds = scipy.special.logit(np.where(alone, 0.5, sure)) - ranker.calibration[0] * steps
    confidence = scipy.special.expit(odds).astype(np.float32)
    return TopK(first.rows, np.where(fresh, neighbours, -1), shifted.astype(np.float32), confidence)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k highest of each row, best first, ties by column.

    The row is folded into some more groups of columns than are wanted. Of k groups the best is
    at least the k-th best of these, so that the row has k columns at least as high, and few more.
    """
    best = np.empty((len(scores), k), dtype=np.int64)
    groups = min(GROUPS * k, scores.shape[1])
    whole = groups and scores.shape[1] // groups * groups
    for place, row in enumerate(scores if k else ()):
        peaks = row[:whole].reshape(-1, groups).max(axis=0)
        high = np.flatnonzero(row >= np.partition(peaks, groups - k)[groups - k])
        best[place] = high[np.argsort(-row[high], kind="stable")[:k]]
    return best
