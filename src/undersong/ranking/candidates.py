"""From evidence to numbers: the likeliest candidates of a query, and what speaks for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.features import Modality
from undersong.ranking.context import NEAR, WARMTH, RankingContext, softmax

FAR = 100  # nearest linked items that a wide walk begins from, at twice the temperature
FLOOR = 1e-4  # added before a logarithm: about one of FAR items with FAR relations
LOW = 1e-6  # the same for walks from the query's own relations, which spread further
OWN = ("own walk", "own walks", "own walks to its nearest")
OWN_STEPS = 5  # longest walk from the relations of the query itself
ONWARD = 0.8  # chance that such a walk goes on after each step


@dataclass(frozen=True)
class Candidates:
    """Evidence of some queries for their candidates.

    Parameters
    ----------
    rows : (q,) who asks
    candidates : (q, c) rows, in order of ``prior``; -1 where there are fewer
    features : (q, c, f) float32, columns as in ``Evidence.names``; 0 where nothing is known
    prior : (q, n) float32, a rule of thumb that puts every item in an order
        It chooses the candidates and orders the others behind them.
    """

    rows: NDArray[np.int64]
    candidates: NDArray[np.int64]
    features: NDArray[np.float32]
    prior: NDArray[np.float32]


def gather_candidates(
    evidence: RankingContext,
    rows: NDArray[np.int64],
    *,
    count: int,
    among: NDArray[np.bool_] | None = None,
    excluded: scipy.sparse.csr_matrix | None = None,
    long_tail: float = 0.0,
    fair: bool = True,
) -> Candidates:
    """Choose the likeliest candidates of each query and gather what speaks for them.

    Parameters
    ----------
    rows : (q,) who asks
    count : candidates of each
    among : (n,) bool, who may be a candidate; everybody if None
    excluded : (n, n) bool, pairs that are no candidates, such as relations known already
    long_tail : in [0, 1], how far the choice forgets what relations tell; with 1 it is by cosine
    fair : count for an item without relations what walks find at its nearest linked items, and
        rank candidates among those whose relation to the query is not known
        Orders that an older version learned did neither.

    Notes
    -----
    Items whose relation to the query is known are candidates whatever else speaks for them. A
    query without E_G and without relations has no candidates.
    """
    cosines = evidence.cosines(rows)
    walks = _walks(evidence, cosines, rows)
    prior = cosines + (1 - long_tail) * _told(walks, (evidence.degree > 0) | (not fair))
    out = ~evidence.known if among is None else ~(among & evidence.known)
    prior[:, out] = -np.inf
    prior[~evidence.known[rows]] = -np.inf
    prior[np.arange(len(rows)), rows] = -np.inf
    if excluded is not None:
        prior[excluded[rows].toarray()] = -np.inf
    related = evidence.relations[rows].toarray().astype(bool)
    compared = evidence.embedded[rows][:, None] & evidence.embedded & np.isfinite(prior)
    near = np.where(compared, cosines, -np.inf)
    likeliest = _likeliest(prior, near, related, count=count)
    new = (likeliest >= 0) & ~(fair & np.take_along_axis(related, likeliest, axis=1))
    columns = _columns(evidence, rows, likeliest, cosines, walks, new=new)
    features = np.stack([columns[name] for name in evidence.names], axis=-1).astype(np.float32)
    features[likeliest < 0] = 0
    return Candidates(rows, likeliest, features, prior)


def _told(walks: dict[str, NDArray[np.float32]], linked: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What walks add to the cosine in the rule of thumb, (q, n); 0 where none arrives.

    No walk ends at an item without relations: for it counts what ends at its nearest linked items.
    """
    near = np.where(linked, walks["narrow walk"], walks["narrow walk to its nearest"])
    own = np.where(linked, walks["own walks"], walks["own walks to its nearest"])
    weight = 0.04 * np.log1p(near / FLOOR) + 0.15 * np.log1p(own / LOW)
    return np.asarray(weight, dtype=np.float32)


def _likeliest(
    prior: NDArray[np.float32],
    near: NDArray[np.float32],
    related: NDArray[np.bool_],
    *,
    count: int,
) -> NDArray[np.int64]:
    """Rows of the candidates, (q, count): all that are related to the query, a third by cosine
    alone, the others by the prior."""
    count = min(count, prior.shape[1])
    third = max(1, count // 3)
    order = np.argpartition(-near, third - 1, axis=1)[:, :third]
    first = np.zeros(prior.shape, dtype=np.float32)
    np.put_along_axis(first, order, np.isfinite(np.take_along_axis(near, order, axis=1)), axis=1)
    first[related] = 2
    wanted = prior + 1e3 * first
    best = np.argpartition(-wanted, count - 1, axis=1)[:, :count]
    score = np.take_along_axis(prior, best, axis=1)
    best = np.take_along_axis(best, np.argsort(-score, axis=1, kind="stable"), axis=1)
    return np.where(np.isfinite(np.take_along_axis(prior, best, axis=1)), best, -1)


def _walks(
    evidence: RankingContext, cosines: NDArray[np.float32], rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Where walks along the relations end, (q, n) each: from the nearest, and from one's own."""
    asking = evidence.embedded[rows]
    narrow = _onward(evidence, _start(evidence, cosines, NEAR, WARMTH, asking=asking))
    own, own_walks = _own_walks(evidence, rows)
    common = evidence.relations[rows].astype(np.float32) @ scipy.sparse.diags(
        evidence.common_weight
    )
    nearest = evidence.nearest
    return {
        "narrow walk to its nearest": _to_nearest(nearest, narrow),
        "own walks to its nearest": _to_nearest(nearest, own_walks),
        "walk from candidate": _dense(evidence.arrivals[rows] @ nearest.T),
        "narrow walk": narrow,
        "wide walk": _onward(evidence, _start(evidence, cosines, FAR, 2 * WARMTH, asking=asking)),
        "long walk": _onward(evidence, narrow),
        "own walk": own,
        "own walks": own_walks,
        "relations in common": _dense(common @ evidence.relations.astype(np.float32)),
    }


def _to_nearest(nearest: scipy.sparse.csr_matrix, walk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average over the nearest linked items of each item how many walks end there, (q, n)."""
    return np.ascontiguousarray((nearest @ walk.T).T)


def _own_walks(
    evidence: RankingContext, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Walks from the query's own relations, of up to two steps and of up to five, (q, n) each."""
    short = np.zeros((len(rows), len(evidence.degree)), dtype=np.float32)
    whole = short.copy()
    some = np.flatnonzero(evidence.degree[rows])
    if not len(some):
        return short, whole
    walk = np.zeros((len(some), short.shape[1]), dtype=np.float32)
    walk[np.arange(len(some)), rows[some]] = 1
    for turn in range(OWN_STEPS):
        walk = ONWARD * _onward(evidence, walk)
        whole[some] += walk
        if turn < 2:
            short[some] += walk
    return short, whole


def _onward(
    evidence: RankingContext, walk: NDArray[np.float32] | scipy.sparse.csr_matrix
) -> NDArray[np.float32]:
    """Go one step along the relations, (q, n) -> (q, n)."""
    if isinstance(walk, np.ndarray):
        return np.ascontiguousarray((evidence.arrivals @ walk.T).T)
    return _dense(walk @ evidence.step)


def _start(
    evidence: RankingContext,
    cosines: NDArray[np.float32],
    count: int,
    warmth: float,
    *,
    asking: NDArray[np.bool_],
) -> scipy.sparse.csr_matrix:
    """Softmax over the cosines of the nearest linked items, (q, n).

    Zeros if nobody is linked, and for a query without E_G, not ``asking``.
    """
    q, n = cosines.shape
    count = min(count, len(evidence.linked))
    if not count:
        return scipy.sparse.csr_matrix((q, n), dtype=np.float32)
    near = cosines[:, evidence.linked]
    best = np.argpartition(-near, count - 1, axis=1)[:, :count]
    weight = softmax(np.take_along_axis(near, best, axis=1), warmth) * asking[:, None]
    places = np.arange(0, q * count + 1, count)
    cells = (weight.ravel(), evidence.linked[best].ravel(), places)
    return scipy.sparse.csr_matrix(cells, shape=(q, n))


def _columns(
    evidence: RankingContext,
    rows: NDArray[np.int64],
    likeliest: NDArray[np.int64],
    cosines: NDArray[np.float32],
    walks: dict[str, NDArray[np.float32]],
    *,
    new: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """Every column of the features, (q, c) each, by name.

    Ranks are among the ``new`` candidates, whose relation to the query is not known: those that are
    known stand before all others whatever their rank, and were no candidates when it was learned.
    """

    def of(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.take_along_axis(values, likeliest, axis=1)

    cosine = of(cosines)
    near = new & evidence.embedded[likeliest] & evidence.embedded[rows][:, None]
    columns = {
        name: np.log(of(walk) + (LOW if name in OWN else FLOOR)) for name, walk in walks.items()
    }
    columns["relations in common"] = np.log1p(of(walks["relations in common"]))
    crowd, degree = evidence.crowd, np.log1p(evidence.degree).astype(np.float32)
    shape = likeliest.shape
    related = evidence.shown[likeliest]  # (q, c, 32)
    seen = related >= 0
    to_related = cosines[np.arange(len(rows))[:, None, None], related]
    best = np.where(seen, to_related, -1).max(axis=2)
    mean = np.where(seen, to_related, 0).sum(axis=2) / np.maximum(seen.sum(axis=2), 1)
    columns |= _to_own_relations(evidence, rows, likeliest)
    columns |= {
        "cosine": cosine,
        "rank of cosine": _rank(cosine, near),
        "crowd of candidate": crowd[likeliest],
        "crowd of query": np.broadcast_to(crowd[rows][:, None], shape),
        "no E_G of candidate": ~evidence.embedded[likeliest],
        "no E_G of query": np.broadcast_to(~evidence.embedded[rows][:, None], shape),
        "rank of walk": _rank(of(walks["narrow walk"] + walks["own walks"]), new),
        "relations of candidate": degree[likeliest],
        "relations of query": np.broadcast_to(degree[rows][:, None], shape),
        "mean cosine to its relations": mean,
        "best cosine to its relations": np.where(seen.any(axis=2), best, 0),
    }
    for source in evidence.sources:
        lacking = source.missing[rows][:, None] | source.missing[likeliest]
        columns[f"no {source.name}"] = lacking.astype(np.float32)
        columns[f"same {source.name}"] = np.where(lacking, 0, _alike(source, rows, likeliest))
    return columns


def _to_own_relations(
    evidence: RankingContext, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Return mean and highest cosine of candidates to 32 of the query's relations, (q, c) each.

    0 for a query without any.
    """
    mean, best = (np.zeros(candidates.shape, dtype=np.float32) for _ in range(2))
    for place, row in enumerate(rows):
        own = evidence.shown[row]
        own = own[own >= 0]
        if len(own):
            cosines = evidence.vectors[candidates[place]] @ evidence.vectors[own].T
            itself = candidates[place][:, None] == own[None, :]
            cosines[itself] = -1  # a relation that asks for itself
            best[place] = cosines.max(axis=1)
            mean[place] = np.where(itself, 0, cosines).sum(axis=1) / len(own)
    return {
        "mean cosine to relations of query": mean,
        "best cosine to relations of query": best,
    }


def _alike(
    source: Modality, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Products of what a source says of each query and of its candidates, (q, c)."""
    own, values = source.values[rows], source.values
    if isinstance(values, np.ndarray):
        pairs = [values[row] @ mine for row, mine in zip(candidates, np.asarray(own), strict=True)]
        return np.stack(pairs)
    whole = _dense(own @ values.T) if len(rows) > 8 else None
    if whole is not None:
        return np.take_along_axis(whole, candidates, axis=1)
    some = [_dense(values[row] @ own[at].T)[:, 0] for at, row in enumerate(candidates)]
    return np.stack(some)


def _rank(values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logarithm of the place of each candidate, best first, (q, c); one behind if not there."""
    order = np.argsort(-np.where(present, values, -np.inf), axis=1, kind="stable")
    place = np.where(present, np.argsort(order, axis=1), present.sum(axis=1, keepdims=True))
    return np.log1p(place).astype(np.float32)


def _dense(matrix: scipy.sparse.csr_matrix) -> NDArray[np.float32]:
    return np.asarray(matrix.toarray(), dtype=np.float32)
