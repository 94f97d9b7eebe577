"""Find the reasons of answers: where each part of ``Reasons`` comes from.

Why a score is what it is: what each source adds to it, adding up to the whole. The effect of a
source is how far the score falls when both items stay silent about it. Sources say much the same
twice, so the effects alone do not add up: what goes only when several are gone is shared out by
the effects.

Source: separable costs and remaining benefits, the old rule for what several dams are worth
together (Young, Okada and Hashimoto, Water Resources Research 18, 1982), with the effect in place
of the benefit. The Shapley value would ask for all 2^g embeddings, and for those of items of which
nearly nothing is known: their cosines are high with anybody, which says nothing about the pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undersong.errors import DataError
from undersong.explanation.data import RELATIONS, Background
from undersong.explanation.reasons import (
    Contribution,
    KnownOfItem,
    Reasons,
    SharedTag,
    TrackPair,
    Whose,
    unknown,
)
from undersong.io.files import replacing
from undersong.progress import Progress, silent
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import KNOWN, Ranker, Reranked, rerank
from undersong.retrieval import Index

SMALL = 0.01  # added to each effect before the rest is shared, lest noise decide between nothings


@dataclass(frozen=True)
class Attribution:
    """Scores of p pairs taken apart into m sources.

    Parameters
    ----------
    names : (m,) of the sources
    scores, start : (p,) float64, ``start`` being the score of a pair of which nothing is known
        and whatever no source can be credited with
    effects : (p, m), how far the score falls without the source; negative where it rises
    shares : (p, m), with ``start`` they add up to the score
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    start: NDArray[np.float64]
    effects: NDArray[np.float64]
    shares: NDArray[np.float64]


def of_cosines(
    cosines: NDArray[np.float32],
    without: NDArray[np.float32],
    names: Sequence[str],
    *,
    informed: NDArray[np.bool_],
) -> Attribution:
    """Take cosines of E_G apart.

    Parameters
    ----------
    cosines, without : (p,) with all sources, (p, g) without each group of sources
    informed : (p, g), whether anything of the group is known of either item
    """
    scores = cosines.astype(np.float64)
    effects = np.where(informed, scores[:, None] - without, 0)
    return share(tuple(names), scores, np.zeros_like(scores), effects)


def share(
    names: tuple[str, ...],
    scores: NDArray[np.float64],
    start: NDArray[np.float64],
    effects: NDArray[np.float64],
    *,
    relation: NDArray[np.floating] | float = 0.0,
) -> Attribution:
    """Share what the effects leave over by those that have its sign; else it stays in the start.

    Parameters
    ----------
    scores, start, effects : as in ``Attribution``, before anything is shared
    relation : what a known relation added to the score; it is the last source's alone
    """
    rest = scores - relation - start - effects.sum(axis=1)
    weight = np.maximum(np.sign(rest)[:, None] * effects + SMALL, 0)
    weight[effects == 0] = 0  # nothing is known, so there is nothing to credit
    total = weight.sum(axis=1, keepdims=True)
    shares = effects + rest[:, None] * weight / np.where(total > 0, total, 1)
    effects = effects.copy()
    effects[:, -1] += relation
    shares[:, -1] += relation
    return Attribution(names, scores, scores - shares.sum(axis=1), effects, shares)


def effects_in_order(
    ranker: Ranker,
    evidence: RankingContext,
    reranked: Reranked,
    places: tuple[int, NDArray[np.int64]],
    *,
    groups: Mapping[str, Sequence[str]],
    without: NDArray[np.float32],
    informed: NDArray[np.bool_],
    bare: NDArray[np.bool_],
    long_tail: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a score of the learned order starts, (p,), and the effect of each source, (p, g + 1).

    The last source is the relations; that two are known to be similar is not counted.

    Parameters
    ----------
    places : which query of ``found``, and the (p,) places of the answers to explain in its list
    without, informed : (p, g), cosine of E_G without each group; whether any of it is known
    bare : (p, g, 2) bool, whether the query and the answer have no E_G left without the group

    Notes
    -----
    Without a group, the columns of its sources say that both lack it, and the cosine, with its
    place in the list, is the one that is left. The list, the crowds and the walks, which begin at
    other items, stay. Without relations is the order that knows none (``long_tail`` = 1).
    """
    query, answers = places
    features = reranked.gathered.features[query]
    column = {name: at for at, name in enumerate(ranker.names)}
    near = (features[:, [column["no E_G of query"], column["no E_G of candidate"]]] == 0).all(
        axis=1
    )
    near &= reranked.candidates[query] >= 0
    listed = np.sort(features[near, column["cosine"]])
    scored = features[answers]
    changed = np.repeat(scored[None], len(groups) + 1, axis=0)  # (g + 1, p, f)
    for at, names in enumerate(groups.values()):
        _silence(changed[at], column, names)
        _compare(changed[at], column, without[:, at], gone=bare[:, at], listed=listed)
    for names in groups.values():
        _silence(changed[-1], column, names)
    nothing = np.zeros(len(answers), dtype=np.float32)
    _compare(changed[-1], column, nothing, gone=np.ones((len(answers), 2), bool), listed=listed)

    hidden = ranker.on_relations
    stack = np.concatenate([scored[None], changed])
    blind = ranker.weigh(np.stack([scored, changed[-1]]), hidden).astype(np.float64)
    seen = ranker.weigh(stack).astype(np.float64)
    if long_tail > 0:
        seen = (1 - long_tail) * seen + long_tail * ranker.weigh(stack, hidden)
    effects = np.where(informed, (seen[0] - seen[1:-1]).T, 0)
    unlinked = evidence.degree[reranked.candidates[query][answers]] == 0
    lowered = max(-long_tail, 0.0) * ranker.listed * unlinked
    return blind[1], np.column_stack([effects, seen[0] - blind[0] + lowered])


def _silence(
    features: NDArray[np.float32], column: Mapping[str, int], names: Sequence[str]
) -> None:
    """Mark some sources as lacking of both items, in their columns."""
    for name in names:
        features[:, column[f"same {name}"]] = 0
        features[:, column[f"no {name}"]] = 1


def _compare(
    features: NDArray[np.float32],
    column: Mapping[str, int],
    cosine: NDArray[np.float32],
    *,
    gone: NDArray[np.bool_],
    listed: NDArray[np.float32],
) -> None:
    """Put another cosine, and the place it has among those ``listed``, into the columns of E_G."""
    before = features[:, column["cosine"]]
    compared = (
        features[:, column["no E_G of query"]] + features[:, column["no E_G of candidate"]] == 0
    )
    better = len(listed) - np.searchsorted(listed, cosine, side="right")
    itself = compared & (before > cosine)
    lost = gone.any(axis=1)
    place = np.where(compared & ~lost, better - itself, len(listed) - compared)
    features[:, column["rank of cosine"]] = np.log1p(place)
    features[:, column["cosine"]] = np.where(lost, 0, cosine)
    for at, item in enumerate(("query", "candidate")):
        features[gone[:, at], column[f"no E_G of {item}"]] = 1
        features[gone[:, at], column[f"crowd of {item}"]] = 0


LENGTH = 20
BLOCK = 256


def write(
    path: Path,
    ranker: Ranker,
    evidence: RankingContext,
    *,
    background: Background,
    rows: NDArray[np.int64],
    progress: Progress = silent,
) -> None:
    """Write the effects behind the first answers of n items, block by block.

    Parameters
    ----------
    rows : (n,) row in ``background`` of each item of ``evidence``
    """
    n = len(rows)
    single = "<f4"
    record = np.dtype(
        [("answered", "<i4"), ("score", single), ("confidence", single), ("start", single)]
        + [("effects", single, (len(background.groups) + 1,))]
    )
    with replacing(path) as temporary:
        out = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=record, shape=(n, min(LENGTH, ranker.candidates))
        )
        for begin in range(0, n, BLOCK):
            queries = np.arange(begin, min(begin + BLOCK, n))
            reranked = rerank(ranker, evidence, queries)
            out["answered"][queries] = -1
            for at, row in enumerate(queries):
                places = np.flatnonzero(reranked.candidates[at, : out.shape[1]] >= 0)
                others = reranked.candidates[at, places]
                without, bare = background.compare(rows[row], rows[others])
                start, effects = effects_in_order(
                    ranker,
                    evidence,
                    reranked,
                    (at, places),
                    groups=background.groups,
                    without=without,
                    informed=background.informed(rows[row], rows[others]),
                    bare=bare,
                )
                listed = out[row, : len(places)]
                listed["answered"], listed["start"], listed["effects"] = others, start, effects
                listed["score"] = reranked.scores[at, places]
                listed["confidence"] = reranked.confidence[at, places]
            progress("reasons of first answers", int(queries[-1]) + 1, n)
        out.flush()


def look_up(
    first: NDArray[np.void] | None, query: int, others: NDArray[np.int64]
) -> NDArray[np.void] | None:
    """Return the records of some answers of one item, (p,); None unless all were computed."""
    if first is None:
        return None
    listed = first[query]
    same = listed["answered"] == others[:, None]  # (p, m)
    if not same.any(axis=1).all():
        return None
    return np.asarray(listed[same.argmax(axis=1)])


FEW = 5  # tags and common relations that are named


def explain_pairs(
    index: Index,
    background: Background,
    query: int,
    others: NDArray[np.int64],
    *,
    long_tail: float = 0.0,
) -> tuple[Reasons, ...]:
    """Return why each of some items is an answer, in their order.

    Parameters
    ----------
    asked, others : row and (p,) rows of ``index.embeddings``
    long_tail : in [-1, 1], as in ``ranker.rerank``

    Raises
    ------
    DataError
        If an item was added after the training, or for ``long_tail`` of an index without a learned
        order.
    """
    ids = index.embeddings.ids
    _check_trained([ids[query], *(ids[x] for x in others)], background)
    a = background.index[ids[query]]
    b = np.array([background.index[ids[x]] for x in others], dtype=np.int64)
    if index.ranker is not None and index.evidence is not None:
        scored = _learned(index, background, (query, a), (others, b), long_tail=long_tail)
    elif long_tail:
        raise DataError(
            f"long_tail is {long_tail:g}, but these answers are ordered by plain cosine; leave "
            "long_tail out"
        )
    else:
        scored = _by_cosine(index, background, (query, a), (others, b))
    return tuple(_reasons(background, (a, int(row)), scored, at) for at, row in enumerate(b))


def _check_trained(items: Sequence[str], background: Background) -> None:
    strange = [x for x in items if x not in background.index]
    if strange:
        raise DataError(
            f"{strange[0]!r} was added after the training, and reasons are told of trained items; "
            "train again with it in the catalogue"
        )


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of p pairs taken apart, how sure each is (NaN: no telling), who was a candidate."""

    split: Attribution
    confidence: NDArray[np.float32]
    candidates: NDArray[np.bool_]


def _by_cosine(
    index: Index,
    background: Background,
    query: tuple[int, int],
    others: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> ScoredPairs:
    """Take cosines apart; ``asked`` and ``others`` are rows of the index and of the background."""
    vectors = index.embeddings.vectors
    cosines = vectors[others[0]] @ vectors[query[0]]
    without, _ = background.compare(query[1], others[1])
    informed = background.informed(query[1], others[1])
    split = of_cosines(cosines, without, tuple(background.groups), informed=informed)
    nobody = np.full(len(cosines), np.nan, dtype=np.float32)
    return ScoredPairs(split, nobody, np.ones(len(cosines), dtype=bool))


def _learned(
    index: Index,
    background: Background,
    first: tuple[int, int],
    others: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    long_tail: float,
) -> ScoredPairs:
    """The same of the learned order: looked up where it was computed before, else computed.

    Where one of the others is no candidate, it is made one: it then has a score, but would not be
    an answer.
    """
    ranker, evidence = index.ranker, index.evidence
    if ranker is None or evidence is None:
        raise TypeError("only a learned order has candidates")
    rows = others[0]
    links = evidence.relations
    mine = links.indices[links.indptr[first[0]] : links.indptr[first[0] + 1]]
    stated = np.where(np.isin(rows, mine), KNOWN, 0.0)
    names = (*background.groups, RELATIONS)
    stored = None if long_tail else look_up(background.first, first[0], rows)
    if stored is not None:
        scores = stored["score"].astype(np.float64)
        start, effects = stored["start"].astype(np.float64), stored["effects"].astype(np.float64)
        split = share(names, scores, start, effects, relation=stated)
        return ScoredPairs(split, stored["confidence"], np.ones(len(rows), dtype=bool))
    query = np.array([first[0]])
    reranked = rerank(ranker, evidence, query, long_tail=long_tail)
    candidates = np.isin(rows, reranked.candidates[0])
    if not candidates.all():
        reranked = rerank(ranker, evidence, query, long_tail=long_tail, also=rows.tolist())
    turn = np.argsort(reranked.candidates[0], kind="stable")
    places = turn[np.searchsorted(reranked.candidates[0], rows, sorter=turn)]
    without, bare = background.compare(first[1], others[1])
    start, effects = effects_in_order(
        ranker,
        evidence,
        reranked,
        (0, places),
        groups=background.groups,
        without=without,
        informed=background.informed(first[1], others[1]),
        bare=bare,
        long_tail=long_tail,
    )
    scores = reranked.scores[0][places].astype(np.float64)
    split = share(names, scores, start, effects, relation=stated)
    return ScoredPairs(split, reranked.confidence[0][places], candidates)


def _reasons(
    background: Background,
    pair: tuple[int, int],
    scored: ScoredPairs,
    at: int,
) -> Reasons:
    a, b = pair
    split, confidence = scored.split, float(scored.confidence[at])
    query, answer = known(background, a), known(background, b)
    words = _shared(background.tags.of(a), background.tags.of(b))
    rarest = words[np.argsort(background.having[words], kind="stable")][:FEW]
    related = background.related
    through = _shared(related.of(a), related.of(b))
    links = related.starts[through + 1] - related.starts[through]
    first = through[np.argsort(links, kind="stable")][:FEW]
    played = background.listeners
    return Reasons(
        asked=query,
        answered=answer,
        score=float(split.scores[at]),
        confidence=None if np.isnan(confidence) else confidence,
        candidate=bool(scored.candidates[at]),
        start=float(split.start[at]),
        contributions=_contributions(split, at, query, answer),
        related_by=background.stated_by(a, b),
        tags=tuple(SharedTag(background.words[x], int(background.having[x])) for x in rarest),
        tags_shared=len(words),
        listeners_shared=(len(_shared(played.of(a), played.of(b))) if len(played.values) else None),
        relations_shared=len(through),
        through=tuple(background.names[x] for x in first),
        tracks=_closest(background, a, b),
        unknown=tuple(x for one in (query, answer) if (x := unknown(one, background.groups))),
    )


def known(background: Background, row: int) -> KnownOfItem:
    """Count what is known of one item."""
    played = background.listeners
    return KnownOfItem(
        item=str(background.ids[row]),
        name=background.names[row],
        sources=tuple(background.table["sources"][row]),
        tags=background.tags.length(row),
        relations=background.related.length(row),
        listeners=played.length(row) if len(played.values) else None,
    )


def _contributions(
    split: Attribution, at: int, query: KnownOfItem, answer: KnownOfItem
) -> tuple[Contribution, ...]:
    """Every source that says something of either, the one with the largest effect first.

    Relations are always named where they count: that nobody has linked an item counts, too.
    """
    contributions = []
    for turn in np.argsort(-np.abs(split.effects[at]), kind="stable"):
        name = split.names[turn]
        informed = [
            bool(x.relations) if name == RELATIONS else name in x.sources for x in (query, answer)
        ]
        if name == RELATIONS or any(informed):
            share, effect = float(split.shares[at, turn]), float(split.effects[at, turn])
            contributions.append(Contribution(name, share, effect, _whose(*informed)))
    return tuple(contributions)


def _whose(query: bool, answer: bool) -> Whose:
    if query and answer:
        return "both"
    if query or answer:
        return "asked" if query else "answered"
    return "neither"


def _closest(background: Background, a: int, b: int) -> TrackPair | None:
    """Find the pair of tracks with the highest cosine of E_C."""
    mine, theirs = background.tracks_of.of(a), background.tracks_of.of(b)
    if background.tracks is None or not len(mine) or not len(theirs):
        return None
    cosines = background.tracks.vectors[mine] @ background.tracks.vectors[theirs].T
    at, other = divmod(int(cosines.argmax()), len(theirs))
    first, second = background.tracks.ids[mine[at]], background.tracks.ids[theirs[other]]
    titles = background.titles
    return TrackPair(first, titles[first], second, titles[second], float(cosines[at, other]))


def _shared(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.intersect1d(a, b, assume_unique=True).astype(np.int64)
