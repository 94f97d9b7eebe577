"""Find the reasons of answers: where each part of ``Reasons`` comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undersong.errors import DataError
from undersong.explanation import attribution
from undersong.explanation.attribution import Attribution, effects_in_order, of_cosines, share
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
from undersong.ranking.ranker import KNOWN, rerank
from undersong.retrieval import Index

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
    stored = None if long_tail else attribution.look_up(background.first, first[0], rows)
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
    stated_by = background.said_by.of(a)[np.flatnonzero(related.of(a) == b)]
    played = background.listeners
    return Reasons(
        asked=query,
        answered=answer,
        score=float(split.scores[at]),
        confidence=None if np.isnan(confidence) else confidence,
        candidate=bool(scored.candidates[at]),
        start=float(split.start[at]),
        contributions=_contributions(split, at, query, answer),
        related_by=str(stated_by[0]) if len(stated_by) else None,
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
        sources=background.sources[row],
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
