"""The order of the answers: evidence weighed by a small learned network, in NumPy.

Relation-aware ranking (beyond the paper). A query that nobody has linked is answered by what its
sources tell, and by where the relations of the items nearest to it lead; one with relations of
its own by those, too. The network is trained in ``undersong.ranking.training``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.errors import ArtifactError
from undersong.io.tensors import read_tensors
from undersong.ranking.candidates import Candidates, gather_candidates, one_thread
from undersong.ranking.context import ON_RELATIONS, RankingContext

Line = tuple[float, float]  # slope and offset of log-odds

FORMAT = 1
CACHED = 4096  # candidates weighed at once: what lies between the layers stays near the processor
BELOW = 1.0  # how far behind the last candidate the first of the others stands
KNOWN = 50.0  # added to the score of an item whose relation to the query is known


@dataclass(frozen=True)
class Ranker:
    """A trained network and how sure its answers are.

    Parameters
    ----------
    names : columns of the features that it reads, in order
    weights : name -> array, as in ``undersong.ranking.network.RankingModel``
    calibration : slope and offset of the log-odds of being relevant
    candidates : likeliest items of each query that are weighed
    calibration_unlinked : the same of candidates without any relation; None: as of all others
    listed : 0 or below, added to the score of a candidate without any relation to order as lists do
        Lists name hardly anybody whom no list names.
    """

    names: tuple[str, ...]
    weights: dict[str, NDArray[np.float32]]
    calibration: Line
    candidates: int
    calibration_unlinked: Line | None = None
    listed: float = 0.0

    @property
    def on_relations(self) -> NDArray[np.bool_]:
        """Which columns read relations, (f,)."""
        return np.array([name in ON_RELATIONS for name in self.names])

    @one_thread
    def weigh(
        self, features: NDArray[np.float32], hidden: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Weigh candidates, (q, c, f) -> (q, c); ``hidden`` columns, (f,), are not read."""
        w = self.weights
        hidden = np.zeros(len(self.names), dtype=bool) if hidden is None else hidden
        # The rule and the first layer read the same: one product does both. Mean and deviation are
        # taken into its weights, so that no column is scaled.
        reading = np.concatenate([w["rule.weight"], w["first.weight"]]).T.astype(np.float64)
        offset = np.append(w["rule.bias"], w["first.bias"]) + hidden.any() * reading[-1]
        reading = np.where(hidden, 0, 1 / w["deviation"])[:, None] * reading[:-1]
        offset = (offset - w["mean"] @ reading).astype(np.float32)
        reading, flat = reading.astype(np.float32), features.reshape(-1, features.shape[-1])
        scores = np.empty(len(flat), dtype=np.float32)
        for start in range(0, len(flat), CACHED):
            some = slice(start, start + CACHED)
            read = flat[some] @ reading
            read += offset
            inner = np.maximum(read[:, 1:], 0) @ w["second.weight"].T
            inner += w["second.bias"]
            np.maximum(inner, 0, out=inner)
            scores[some] = read[:, 0] + inner @ w["last.weight"][0]
        return scores.reshape(features.shape[:-1])

    def confidence(
        self, scores: NDArray[np.float32], unlinked: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Chance that each answer is right, (q, c) in [0, 1], from the scores of a whole list.

        Calibrated on validation items, apart for candidates that are ``unlinked``, (q, c): of the
        answers with confidence .3 about 30 % are relations that somebody who looked at both wrote
        down (``reliability`` in the manifest).
        """
        share = scores - log_sum(scores)[:, None]
        confidence = sure(share, self.calibration)
        if unlinked is None or self.calibration_unlinked is None:
            return confidence
        return np.where(unlinked, sure(share, self.calibration_unlinked), confidence)


def sure(share: NDArray[np.float32], line: Line) -> NDArray[np.float32]:
    """Return the chance of being right, by the logarithm of a share and a calibration."""
    slope, offset = line
    return np.asarray(scipy.special.expit(slope * share + offset), dtype=np.float32)


@dataclass(frozen=True)
class Reranked:
    """Candidates of some queries, best first: rows (q, c), scores and confidence (q, c).

    A row is -1, with score -inf, where there are fewer candidates.
    """

    candidates: NDArray[np.int64]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]
    gathered: Candidates


def rerank(
    ranker: Ranker,
    evidence: RankingContext,
    rows: NDArray[np.int64],
    *,
    among: NDArray[np.bool_] | None = None,
    long_tail: float = 0.0,
    also: Sequence[int] = (),
) -> Reranked:
    """Order the candidates of each query, best first.

    Parameters
    ----------
    among : (n,) bool, who may be an answer
    long_tail : in [-1, 1]
        0 weighs all evidence: an item without relations is unlabelled, not wrong. 1 forgets every
        relation, so that well-linked items have no advantage over those that nobody has linked.
        -1 orders as lists do, which name hardly anybody whom nobody has linked. Between, the
        scores are mixed.
    also : rows that are candidates whatever speaks for them

    Raises
    ------
    ArtifactError
        If the ranker was trained on other columns.

    Notes
    -----
    Items whose relation to the query is known stand first, with any ``long_tail``: somebody said
    so.
    """
    columns = _columns(ranker, evidence)
    gathered = gather_candidates(
        evidence,
        rows,
        count=ranker.candidates,
        among=among,
        also=also,
        long_tail=max(long_tail, 0.0),
        fair="own walks to its nearest" in ranker.names,
        both="walks of both" in ranker.names,
    )
    if not np.array_equal(columns, np.arange(len(evidence.names))):
        gathered = replace(gathered, features=gathered.features[..., columns])
    unlinked = evidence.degree[gathered.candidates] == 0
    scores = _mixed(ranker, gathered, long_tail) + max(-long_tail, 0.0) * ranker.listed * unlinked
    scores = np.where(gathered.candidates < 0, -np.inf, scores).astype(np.float32)
    confidence = ranker.confidence(scores, unlinked)
    known = _known(evidence, gathered)
    confidence[known] = 1
    scores[known] += KNOWN
    turn = np.argsort(-scores, axis=1, kind="stable")
    candidates = np.take_along_axis(gathered.candidates, turn, axis=1)
    features = np.take_along_axis(gathered.features, turn[..., None], axis=1)
    return Reranked(
        candidates,
        np.take_along_axis(scores, turn, axis=1),
        np.take_along_axis(confidence, turn, axis=1),
        replace(gathered, candidates=candidates, features=features),
    )


def scorer(
    ranker: Ranker, evidence: RankingContext, *, long_tail: float = 0.0, pool: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Return a function from queries, (q,), to scores of all n items, (q, n), for evaluation.

    Items that are not among the likeliest candidates stand behind them, by the rule of thumb
    that chose those. ``pool`` holds the rows that may be answers.
    """
    among = np.zeros(len(evidence.vectors), dtype=bool)
    among[pool] = True

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        reranked = rerank(ranker, evidence, rows, among=among, long_tail=long_tail)
        last = np.where(np.isfinite(reranked.scores), reranked.scores, np.inf).min(axis=1)[:, None]
        everything = reranked.gathered.everything(evidence, among=among)
        there = reranked.candidates >= 0
        for place, row in enumerate(everything):  # one by one stays near the processor
            present = there[place]
            best = row.max()
            if np.isfinite(best):
                np.subtract(best, row, out=row)
                np.subtract(last[place] - BELOW, row, out=row)
            row[reranked.candidates[place, present]] = reranked.scores[place, present]
        nothing = ~evidence.known[rows] | ~there.any(axis=1)
        everything[nothing] = 0
        return everything

    return scores


def read(path: Path) -> Ranker:
    """Read what ``undersong.ranking.training.save`` wrote.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    about, weights = read_tensors(path, version=FORMAT)
    slope, offset = json.loads(about["calibration"])
    names = tuple(json.loads(about["names"]))
    unlinked = json.loads(about.get("calibration of unlinked", "null"))
    apart = (float(unlinked[0]), float(unlinked[1])) if unlinked else None
    listed = float(about.get("listed", 0))
    return Ranker(names, weights, (slope, offset), int(about["candidates"]), apart, listed)


def log_sum(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of the sum of the exponentials of each row; 0 for a row of -inf alone."""
    top = scores.max(axis=1)
    top = np.where(np.isfinite(top), top, 0)
    total = np.exp(scores - top[:, None]).sum(axis=1)
    return np.asarray(top + np.log(np.where(total > 0, total, 1)), dtype=np.float32)


def _columns(ranker: Ranker, evidence: RankingContext) -> NDArray[np.int64]:
    """Places of the columns that a network reads among those of the evidence, (f,).

    A network of an older version reads some of them.
    """
    place = {name: number for number, name in enumerate(evidence.names)}
    strange = sorted(set(ranker.names) - set(place))
    sources = {x.name for x in evidence.sources} - {x.removeprefix("same ") for x in ranker.names}
    if strange or sources:
        raise ArtifactError(
            "the order of answers was learned from other columns than are known here: "
            f"{strange or sorted(sources)}; train again"
        )
    return np.array([place[name] for name in ranker.names], dtype=np.int64)


def _mixed(ranker: Ranker, gathered: Candidates, long_tail: float) -> NDArray[np.float32]:
    if long_tail <= 0:
        return ranker.weigh(gathered.features)
    blind = ranker.weigh(gathered.features, ranker.on_relations)
    if long_tail == 1:
        return blind
    return (1 - long_tail) * ranker.weigh(gathered.features) + long_tail * blind


def _known(evidence: RankingContext, gathered: Candidates) -> NDArray[np.bool_]:
    relations = evidence.relations
    known = [
        np.isin(own, relations.indices[relations.indptr[row] : relations.indptr[row + 1]])
        for row, own in zip(gathered.rows, gathered.candidates, strict=True)
    ]
    return np.array(known, dtype=bool).reshape(gathered.candidates.shape)
