"""From evidence to an order of answers: a network learns on items whose relations are hidden.

A model fits its training items better than any others, so their own E_G cannot show what evidence
is worth for an item that nobody has linked. Therefore some training items take turns as
strangers: a GRM that never saw their relations embeds them, and the network learns to find
those relations again (beyond the paper).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, sparse
from torch import Tensor, nn

from undersong.io.tensors import write_tensors
from undersong.metrics import DEEP, accuracy
from undersong.progress import Progress, silent
from undersong.ranking.candidates import gather_candidates
from undersong.ranking.context import RankingContext
from undersong.ranking.network import RankingModel, RankingSettings, listwise
from undersong.ranking.ranker import FORMAT, Ranker, log_sum
from undersong.training.loop import History, train

BLOCK = 256
FEWEST = 40  # lists to learn from, and as many to judge by; with fewer nothing is learned
COLD_ITEMS = 2048  # of a fold at most: more lists teach hardly more and take memory
VISIBLE = 0.7  # share of the hidden relations that a stranger who is half known shows
RARE = 0.3  # smallest deviation of a column of yes and no: that of a tenth
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)  # of confidence, for the reliability table


@dataclass(frozen=True)
class RankingLists:
    """Candidates of some queries, what speaks for each, and which are right.

    Parameters
    ----------
    features : (q, c, f) float32
    relevant : (q, c) bool
    given : (q, c) bool, False for an empty place
    total : (q,) relevant items of each query, among the candidates or not
    """

    features: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    given: NDArray[np.bool_]
    total: NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A trained ranking, how well it orders the cold validation lists, and how honest it is.

    ``ndcg`` and ``cosine`` are ndcg@200 of it and of the cosine of E_G.

    ``reliability`` holds rows of (mean confidence, share that was right, answers), of validation
    items that did not calibrate it.
    """

    ranker: Ranker
    model: RankingModel
    outcome: History
    ndcg: float
    cosine: float
    reliability: tuple[tuple[float, float, int], ...]


def draw_cold_items(
    generator: np.random.Generator, train: NDArray[np.int64], *, folds: int, share: float
) -> list[NDArray[np.int64]]:
    """Choose which training items hide their relations in each fold; no item in two.

    They are a share of all, but ``STRANGERS`` at most.
    """
    size = min(int(share * len(train)), COLD_ITEMS)
    order = generator.permutation(train)
    return [np.sort(order[fold * size : (fold + 1) * size]) for fold in range(folds)]


def partly_observed(
    generator: np.random.Generator,
    seen: sparse.csr_matrix,
    all_relations: sparse.csr_matrix,
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Show a random 70 % of the hidden relations, symmetric: (visible, still hidden).

    Both (n, n) bool. So the network also learns what an item's own few relations are worth.
    """
    hidden = sparse.triu(all_relations.astype(np.int8) - seen.astype(np.int8), format="coo")
    hidden.eliminate_zeros()
    shown = generator.random(len(hidden.data)) < VISIBLE

    def symmetric(kept: NDArray[np.bool_]) -> sparse.csr_matrix:
        a, b = hidden.row[kept], hidden.col[kept]
        cells = (np.ones(2 * len(a), dtype=bool), (np.append(a, b), np.append(b, a)))
        return sparse.csr_matrix(cells, shape=seen.shape)

    return (seen + symmetric(shown)).astype(bool), symmetric(~shown)


def make_lists(
    evidence: RankingContext,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    *,
    count: int,
    among: NDArray[np.bool_] | None = None,
) -> RankingLists:
    """Gather the candidates of every query; relations that may be seen are no candidates.

    Of all queries those that have something right to be found, ``among`` whom they ask.
    """
    if among is not None:
        truth = truth.multiply(among[None, :]).tocsr()
    queries = queries[truth[queries].getnnz(axis=1) > 0]
    width = len(evidence.names)
    empty = np.empty((0, count), dtype=bool)
    parts = [(np.empty((0, count, width), dtype=np.float32), empty, empty)]
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        found = gather_candidates(
            evidence, rows, count=count, among=among, excluded=evidence.relations
        )
        given = found.candidates >= 0
        right = truth[rows].toarray().astype(bool)
        relevant = np.take_along_axis(right, found.candidates, axis=1) & given
        parts.append((found.features, relevant, given))
    features, right, places = (_joined(x, count) for x in zip(*parts, strict=True))
    return RankingLists(features, right, places, np.diff(truth[queries].indptr).astype(np.int64))


def _joined(parts: Sequence[NDArray[Any]], count: int) -> NDArray[Any]:
    """Put blocks of lists one after another, each filled up to the same length."""
    short = [count - x.shape[1] for x in parts]
    filled = [
        np.pad(x, [(0, 0), (0, lacking), *[(0, 0)] * (x.ndim - 2)])
        for x, lacking in zip(parts, short, strict=True)
    ]
    return np.concatenate(filled)


def join(lists: Sequence[RankingLists]) -> RankingLists:
    """Put lists of the same columns and length one after another, without those to learn nothing
    from: lists in which nothing is right."""
    kept = [x.relevant.any(axis=1) for x in lists]
    return RankingLists(
        np.concatenate([x.features[k] for x, k in zip(lists, kept, strict=True)]),
        np.concatenate([x.relevant[k] for x, k in zip(lists, kept, strict=True)]),
        np.concatenate([x.given[k] for x, k in zip(lists, kept, strict=True)]),
        np.concatenate([x.total[k] for x, k in zip(lists, kept, strict=True)]),
    )


def train_ranking(
    lists: RankingLists,
    validation: Sequence[RankingLists],
    *,
    names: tuple[str, ...],
    on_relations: NDArray[np.bool_],
    settings: RankingSettings,
    seed: int,
    device: str,
    checkpoint: Path,
    progress: Progress = silent,
) -> Fitted | None:
    """Learn to order candidates; None if that is no better than E_G's cosine on validation items.

    Parameters
    ----------
    lists : of strangers among the training items
    validation : of cold validation items first; any others only count for when to stop
    names : of the features' columns
    on_relations : (f,) bool, columns that some lists are learned without
    """
    cold = validation[0]
    if min(len(lists.total), len(cold.total)) < FEWEST:
        return None
    torch.manual_seed(seed)
    model = RankingModel(len(names), settings).to(device)
    _scale(model, lists, names.index("cosine"))
    features = torch.from_numpy(lists.features)
    relevant, given = torch.from_numpy(lists.relevant), torch.from_numpy(lists.given)
    blind = torch.from_numpy(on_relations).to(device)
    nothing = torch.zeros_like(blind)

    def loss(generator: np.random.Generator) -> Tensor:
        size = min(settings.queries, len(features))
        rows = torch.from_numpy(generator.choice(len(features), size=size, replace=False))
        without = torch.from_numpy(generator.random((size, 1, 1)) < settings.blind).to(device)
        scores = model(features[rows].to(device), without & blind)
        scores = scores.masked_fill(~given[rows].to(device), -torch.inf)
        return listwise(scores, relevant[rows].to(device))

    def score(now: nn.Module, asked: RankingLists) -> NDArray[np.float32]:
        judged = torch.from_numpy(asked.features)
        blocks = [now(x.to(device), nothing) for x in torch.split(judged, BLOCK)]
        return np.asarray(torch.cat(blocks).cpu().numpy(), dtype=np.float32)

    outcome = train(
        model,
        loss=loss,
        validate=lambda now: float(np.mean([ndcg(score(now, x), x) for x in validation])),
        schedule=settings.training,
        seed=seed,
        checkpoint=checkpoint,
        stage="ranking",
        progress=progress,
    )
    with torch.no_grad():
        scores = np.where(cold.given, score(model, cold), -np.inf)
    reached, cosine = (ndcg(x, cold) for x in (scores, cold.features[..., names.index("cosine")]))
    if reached <= cosine:
        return None
    arrays = {name: x.cpu().numpy() for name, x in model.state_dict().items()}
    even = np.arange(len(scores)) % 2 == 0
    half = Ranker(names, arrays, calibrate(scores[even], cold.relevant[even]), 1)
    ranker = Ranker(names, arrays, calibrate(scores, cold.relevant), settings.candidates)
    reliability = reliability_of(half.confidence(scores[~even]), cold, ~even)
    return Fitted(ranker, model, outcome, reached, cosine, reliability)


def ndcg(scores: NDArray[np.float32], lists: RankingLists) -> float:
    """Mean ndcg@200 of lists ordered by scores; what is right but no candidate counts as missed."""
    scores = np.where(lists.given, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    right = np.take_along_axis(lists.relevant, order, axis=1)
    missed = np.iinfo(np.int32).max  # a rank beyond every list
    ranks = [
        np.append(np.flatnonzero(row) + 1, np.full(total - row.sum(), missed)).astype(np.int64)
        for row, total in zip(right, lists.total, strict=True)
    ]
    return float(accuracy(ranks, k=10)[f"ndcg@{DEEP}"].mean())


def calibrate(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit the log-odds of being right, slope and offset, to the share of each list's softmax."""
    share = scores - log_sum(scores)[:, None]
    kept = np.isfinite(share)
    x, y = share[kept].astype(np.float64), relevant[kept]

    def cost(line: NDArray[np.float64]) -> float:
        odds = line[0] * x + line[1]
        return float(np.mean(np.logaddexp(0, odds) - y * odds))

    found = optimize.minimize(cost, np.array([1.0, 1.0]), method="Nelder-Mead")
    return float(found.x[0]), float(found.x[1])


def reliability_of(
    confidence: NDArray[np.float32], lists: RankingLists, rows: NDArray[np.bool_]
) -> tuple[tuple[float, float, int], ...]:
    """Compare confidence with what was right, bin by bin: (mean confidence, share right, count)."""
    given, right = lists.given[rows], lists.relevant[rows]
    place = np.searchsorted(BINS[1:-1], confidence, side="right")
    table = []
    for number in range(len(BINS) - 1):
        inside = given & (place == number)
        if inside.any():
            values = float(confidence[inside].mean()), float(right[inside].mean())
            table.append((*values, int(inside.sum())))
    return tuple(table)


def save(fitted: Fitted, path: Path) -> None:
    """Write the network, the names of what it reads and its calibration, as safetensors."""
    about = {
        "names": json.dumps(fitted.ranker.names),
        "calibration": json.dumps(fitted.ranker.calibration),
        "candidates": str(fitted.ranker.candidates),
    }
    write_tensors(path, fitted.model.state_dict(), version=FORMAT, about=about)


@torch.no_grad()
def _scale(model: RankingModel, lists: RankingLists, cosine: int) -> None:
    """Bring columns to mean 0 and deviation 1, and start as the cosine alone.

    A column of yes and no is never stretched over more than 1 / RARE: the few items that lack what
    nearly all have would lie far outside of anything that was learned.
    """
    seen = lists.features[lists.given]
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1)
    answers = np.all((seen == 0) | (seen == 1), axis=0)
    deviation[answers] = np.maximum(deviation[answers], RARE)
    model.mean.copy_(torch.from_numpy(mean))
    model.deviation.copy_(torch.from_numpy(deviation.astype(np.float32)))
    model.rule.weight[0, cosine] = 1.0
