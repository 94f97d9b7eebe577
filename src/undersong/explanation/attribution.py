"""Why a score is what it is: what each source adds to it, adding up to the whole.

The effect of a source is how far the score falls when both items stay silent about it. Sources say
much the same twice, so the effects alone do not add up: what goes only when several are gone is
shared out by the effects.

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

from undersong.explanation.data import Background
from undersong.io.files import replacing
from undersong.progress import Progress, silent
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import Ranker, Reranked, rerank

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
