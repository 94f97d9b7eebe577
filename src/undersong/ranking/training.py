"""From evidence to an order of answers: a network learns on items whose relations are hidden.

A model fits its training items better than any others, so their own E_G cannot show what evidence
is worth for an item that nobody has linked. Therefore some training items take turns as
strangers: a GRM that never saw their relations embeds them, and the network learns to find
those relations again (beyond the paper).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, sparse
from torch import Tensor, nn

from undersong.catalogue import draw_alike
from undersong.io.tensors import write_tensors
from undersong.metrics import DEEP, accuracy
from undersong.progress import Progress, silent, watched
from undersong.ranking.candidates import gather_candidates
from undersong.ranking.context import RankingContext
from undersong.ranking.network import RankingModel, RankingSettings, listwise
from undersong.ranking.ranker import FORMAT, Line, Ranker, log_sum, sure
from undersong.training import Compute, History, train

Reliability = tuple[tuple[float, float, int], ...]

BLOCK = 256  # lists read at a time
AT_ONCE = 64  # lists gathered at a time: of a million items they take .8 s
FEWEST = 40  # lists to learn from, and as many to judge by; with fewer nothing is learned
COLD_ITEMS = 2048  # of a fold at most: more lists teach hardly more and take memory
ASKERS = 0.25  # share of the linked items that ask while a fold's strangers are to be found
FORGOTTEN = 0.2  # share of their other relations that they hide, too
VISIBLE = 0.7  # share of the hidden relations that a stranger who is half known shows
RARE = 0.3  # smallest deviation of a column of yes and no: that of a tenth
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)  # of confidence, for the reliability table


@dataclass(frozen=True)
class StoredFeatures:
    """Features of q lists in a file of many, read as they are used.

    Parameters
    ----------
    starts : (q,) byte at which each list begins
    shape : (c, f) of each, float32
    """

    file: IO[bytes]
    starts: NDArray[np.int64]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, some: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        starts = self.starts[some]
        features = np.empty((len(starts), *self.shape), dtype=np.float32)
        for start, own in zip(starts.tolist(), features, strict=True):
            self.file.seek(start)
            own[:] = np.frombuffer(self.file.read(own.nbytes), np.float32).reshape(self.shape)
        return features


@dataclass(frozen=True)
class RankingLists:
    """Candidates of some queries, what speaks for each, and which are right.

    Parameters
    ----------
    features : (q, c, f) float32, in memory or in a file
    relevant : (q, c) bool
    present : (q, c) bool, False for an empty place
    total : (q,) relevant items of each query, among the candidates or not
    judged : (q, c) bool, candidates that some list mentions
        Nobody can tell whether another one is right or wrong: it teaches nothing and counts for
        nothing.
    unlinked : (q, c) bool, candidates of which no relation could be seen
    """

    features: NDArray[np.float32] | StoredFeatures
    relevant: NDArray[np.bool_]
    present: NDArray[np.bool_]
    total: NDArray[np.int64]
    judged: NDArray[np.bool_]
    unlinked: NDArray[np.bool_]

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the features of some lists after the other: which, and (b, c, f)."""
        for start in range(0, max(len(self.total), 1), BLOCK):
            some = slice(start, start + BLOCK)
            yield some, self.features[some]

    def column(self, place: int) -> NDArray[np.float32]:
        """Return one column of the features, (q, c)."""
        return np.concatenate([x[..., place] for _, x in self.blocks()])


@dataclass(frozen=True)
class Fitted:
    """A trained ranking, how well it orders lists that taught it nothing, and how honest it is.

    Parameters
    ----------
    scores, cosine : name of a kind of lists -> NDCG@200 of the ranking, and of the cosine of E_G
    reliability, reliability_unlinked : rows of (mean confidence, share that was right, answers)
        Of validation items that did not calibrate it; apart for candidates that have relations and
        for those that have none.
    """

    ranker: Ranker
    model: RankingModel
    outcome: History
    scores: Mapping[str, float]
    cosine: Mapping[str, float]
    reliability: Reliability
    reliability_unlinked: Reliability


def draw_cold_items(
    generator: np.random.Generator,
    linked: NDArray[np.int64],
    *,
    log_odds: NDArray[np.float64],
    folds: int,
    share: float,
) -> list[NDArray[np.int64]]:
    """Choose which linked training items hide their relations in each fold; no item in two.

    They are a share of all, but ``COLD_ITEMS`` at most. One half of every fold is drawn to look
    like the items that nobody has linked, by ``log_odds``, (n,), and the other half at random. The
    last group, one more than ``folds``, looks like them altogether: nothing is learned from it.
    """
    size = min(int(share * len(linked)), COLD_ITEMS, len(linked) // (folds + 1))
    like = size + folds * (size // 2)
    alike = generator.permutation(draw_alike(generator, log_odds, linked, like))
    others = generator.permutation(np.setdiff1d(linked, alike))
    judging, alike = alike[:size], alike[size:]
    groups = [
        np.concatenate([alike[fold::folds], others[fold::folds][: size - size // 2]])
        for fold in range(folds)
    ]
    return [np.sort(group) for group in (*groups, judging)]


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

    def symmetric(chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
        a, b = hidden.row[chosen], hidden.col[chosen]
        cells = (np.ones(2 * len(a), dtype=bool), (np.append(a, b), np.append(b, a)))
        return sparse.csr_matrix(cells, shape=seen.shape)

    return (seen + symmetric(shown)).astype(bool), symmetric(~shown)


def known_askers(
    generator: np.random.Generator, seen: sparse.csr_matrix, all_relations: sparse.csr_matrix
) -> tuple[NDArray[np.int64], sparse.csr_matrix, sparse.csr_matrix]:
    """Choose linked items that ask, and hide some of their relations: (rows, visible, hidden).

    What is hidden of those that ask are ``FORGOTTEN`` of the relations that may be ``seen``, and
    all that may not, which lead to strangers. Both matrices are (n, n) bool, symmetric.

    Notes
    -----
    A list that lacks an item with relations speaks a little against it: whoever wrote the list may
    have looked. One that lacks an item that nobody has linked does not. ``FORGOTTEN`` says how
    many of the former are right all the same, for each that the list names.
    """
    linked = np.flatnonzero(seen.getnnz(axis=1) > 0)
    size = min(int(ASKERS * len(linked)), COLD_ITEMS)
    rows = np.sort(generator.choice(linked, size=size, replace=False))
    asks = np.zeros(seen.shape[0], dtype=bool)
    asks[rows] = True
    pairs = sparse.triu(seen, format="coo")
    forgotten = (asks[pairs.row] | asks[pairs.col]) & (generator.random(pairs.nnz) < FORGOTTEN)
    a, b = pairs.row[~forgotten], pairs.col[~forgotten]
    cells = (np.ones(2 * len(a), dtype=bool), (np.append(a, b), np.append(b, a)))
    visible = sparse.csr_matrix(cells, shape=seen.shape)
    return rows, visible, less(all_relations, visible)


def less(relations: sparse.csr_matrix, some: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the relations that are not among some of them, (n, n) bool."""
    left = (relations.astype(np.int8) - some.astype(np.int8)).tocsr()
    left.eliminate_zeros()
    return left.astype(bool)


def make_lists(
    evidence: RankingContext,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    *,
    labelled: NDArray[np.bool_],
    count: int,
    among: NDArray[np.bool_] | None = None,
    progress: Progress = silent,
    file: IO[bytes] | None = None,
) -> RankingLists:
    """Gather the candidates of every query; relations that may be seen are no candidates.

    Of all queries those that have something right to be found, ``among`` whom they ask.
    ``labelled``, (n,) bool, are the items that any list mentions. Features are added to a ``file``,
    or stay in memory.
    """
    if among is not None:
        truth = truth.multiply(among[None, :]).tocsr()
        truth.eliminate_zeros()
    queries = queries[truth[queries].getnnz(axis=1) > 0]
    shape = count, len(evidence.names)
    first: NDArray[Any] = np.empty((0, *shape), dtype=np.float32) if file is None else np.empty(0)
    blocks = [(first, *[np.empty((0, count), dtype=bool)] * 4)]
    for start in watched(range(0, len(queries), AT_ONCE), progress, "lists"):
        rows = queries[start : start + AT_ONCE]
        block = gather_candidates(
            evidence, rows, count=count, among=among, excluded=evidence.relations
        )
        present = block.candidates >= 0
        right = [truth.indices[truth.indptr[x] : truth.indptr[x + 1]] for x in rows]
        hits = [np.isin(own, some) for own, some in zip(block.candidates, right, strict=True)]
        relevant = np.array(hits, dtype=bool).reshape(present.shape) & present
        judged = present & labelled[block.candidates]
        unlinked = present & (evidence.degree[block.candidates] == 0)
        columns = block.features, relevant, present, judged, unlinked
        features, *others = (_filled(x, count) for x in columns)
        blocks.append((features if file is None else _append(file, features), *others))
    features, relevant, present, judged, unlinked = map(np.concatenate, zip(*blocks, strict=True))
    kept = features if file is None else StoredFeatures(file, features.astype(np.int64), shape)
    total = np.diff(truth[queries].indptr).astype(np.int64)
    return RankingLists(kept, relevant, present, total, judged, unlinked)


def _filled(part: NDArray[Any], count: int) -> NDArray[Any]:
    """Fill lists up to one length, with zeros."""
    return np.pad(part, [(0, 0), (0, count - part.shape[1]), *[(0, 0)] * (part.ndim - 2)])


def _append(file: IO[bytes], features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Add lists to a file: the byte at which each begins."""
    start = file.seek(0, os.SEEK_END)
    file.write(np.ascontiguousarray(features).data)
    return np.linspace(start, file.tell(), len(features), endpoint=False, dtype=np.int64)


def join(lists: Sequence[RankingLists]) -> RankingLists:
    """Put lists of the same columns and length one after another, without those to learn nothing
    from: lists in which nothing is right."""
    useful = [x.relevant.any(axis=1) for x in lists]

    def joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([x[chosen] for x, chosen in zip(parts, useful, strict=True)])

    stored = [x.features for x in lists if isinstance(x.features, StoredFeatures)]
    features: NDArray[np.float32] | StoredFeatures
    if stored:
        features = replace(stored[0], starts=joined(x.starts for x in stored))
    else:
        features = joined(x.features[:] for x in lists)
    rest = [joined(getattr(x, column.name) for x in lists) for column in fields(RankingLists)[1:]]
    return RankingLists(features, *rest)


def train_ranking(
    lists: RankingLists,
    validation: Mapping[str, RankingLists],
    judging: Mapping[str, RankingLists],
    *,
    names: tuple[str, ...],
    on_relations: NDArray[np.bool_],
    settings: RankingSettings,
    compute: Compute,
) -> Fitted | None:
    """Learn to order candidates; None if E_G's cosine is better for anybody who is judged by.

    Parameters
    ----------
    lists : of strangers among the training items
    validation : lists of validation items by name, which say when to stop and how sure answers are
    judging : lists of items that look like those that nobody has linked, by name
        In each of them the order must be no worse than the cosine, or else it is not used.
    names : of the features' columns
    on_relations : (f,) bool, columns that some lists are learned without
    """
    if min(len(x.total) for x in (lists, *validation.values())) < FEWEST:
        return None
    torch.manual_seed(compute.seed)
    device = compute.device
    model = RankingModel(len(names), settings).to(device)
    _scale(model, lists, names.index("cosine"))
    blind = torch.from_numpy(on_relations).to(device)
    nothing = torch.zeros_like(blind)

    def loss(generator: np.random.Generator) -> Tensor:
        size = min(settings.queries, len(lists.total))
        rows = generator.choice(len(lists.total), size=size, replace=False)
        columns = lists.features, lists.relevant, lists.judged
        features, relevant, judged = (torch.from_numpy(x[rows]).to(device) for x in columns)
        without = torch.from_numpy(generator.random((size, 1, 1)) < settings.blind).to(device)
        scores = model(features, without & blind)
        return listwise(scores.masked_fill(~judged, -torch.inf), relevant)

    @torch.no_grad()
    def score(now: nn.Module, some: RankingLists) -> NDArray[np.float32]:
        blocks = (torch.from_numpy(x).to(device) for _, x in some.blocks())
        scores = torch.cat([now(x, nothing) for x in blocks]).cpu().numpy()
        return np.where(some.present, scores, -np.inf).astype(np.float32)

    outcome = train(
        model,
        loss=loss,
        validate=lambda now: float(np.mean([ndcg(score(now, x), x) for x in validation.values()])),
        schedule=settings.training,
        seed=compute.seed,
        checkpoint=compute.work / "ranking.safetensors",
        stage="ranking",
        progress=compute.progress,
    )
    every = {**validation, **judging}
    reached = {name: ndcg(score(model, x), x) for name, x in every.items()}
    cosine = {name: ndcg(x.column(names.index("cosine")), x) for name, x in every.items()}
    guards = [name for name in every if not judging or name in judging]
    ahead = any(reached[name] > cosine[name] for name in every)
    if not ahead or any(reached[name] < cosine[name] for name in guards):
        return None
    arrays = {name: x.cpu().numpy() for name, x in model.state_dict().items()}
    some = list(validation.values())
    scores = [score(model, x) for x in some]
    lines, tables = _calibrated(scores, some)
    listed = as_listed(scores, some)
    ranker = Ranker(names, arrays, lines[0], settings.candidates, lines[1], listed)
    return Fitted(ranker, model, outcome, reached, cosine, *tables)


def as_listed(scores: Sequence[NDArray[np.float32]], lists: Sequence[RankingLists]) -> float:
    """Return what lists take from the score of an unlinked candidate, 0 or below.

    It makes the loss smallest when whom no list names counts as wrong, as known lists have it.
    """

    def cost(lower: float) -> float:
        losses = []
        for one, values in zip(lists, scores, strict=True):
            useful = one.relevant.any(axis=1)
            shifted = values[useful] + lower * one.unlinked[useful]
            share = shifted - log_sum(shifted)[:, None]
            right = one.relevant[useful]
            losses.append(-np.where(right, share, 0).sum(axis=1) / right.sum(axis=1))
        return float(np.concatenate(losses).mean())

    lowest = optimize.minimize_scalar(cost, bounds=(-10, 0), method="bounded").x
    return min(float(lowest), 0.0)


def _calibrated(
    scores: Sequence[NDArray[np.float32]], lists: Sequence[RankingLists]
) -> tuple[tuple[Line, Line], tuple[Reliability, Reliability]]:
    """Fit how sure answers are, apart for linked and for unlinked candidates, and compare.

    Half of the lists calibrate what the other half is compared with; all calibrate what is
    returned. Where too few unlinked candidates are right, they have the line of the others.
    """
    share = np.concatenate([x - log_sum(x)[:, None] for x in scores])
    relevant, judged, unlinked = (
        np.concatenate([getattr(x, name) for x in lists])
        for name in ("relevant", "judged", "unlinked")
    )
    even = np.arange(len(share))[:, None] % 2 == 0
    lines: list[Line] = []
    tables: list[Reliability] = []
    for group in (judged & ~unlinked, judged & unlinked):
        first, second = group & even, group & ~even
        fitted = [lines[0]] * 2 if lines else []
        if not lines or (relevant & first).sum() >= FEWEST:
            fitted = [calibrate(share[x], relevant[x]) for x in (first, group)]
        tables.append(reliability_of(sure(share[second], fitted[0]), relevant[second]))
        lines.append(fitted[1])
    return (lines[0], lines[1]), (tables[0], tables[1])


def ndcg(scores: NDArray[np.float32], lists: RankingLists) -> float:
    """Mean ndcg@200 of lists ordered by scores, without candidates that nobody could judge.

    What is right but no candidate counts as missed.
    """
    scores = np.where(lists.judged, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    right = np.take_along_axis(lists.relevant, order, axis=1)
    missed = np.iinfo(np.int32).max  # a rank beyond every list
    ranks = [
        np.append(np.flatnonzero(row) + 1, np.full(total - row.sum(), missed)).astype(np.int64)
        for row, total in zip(right, lists.total, strict=True)
    ]
    return float(accuracy(ranks, k=10)[f"ndcg@{DEEP}"].mean())


def calibrate(share: NDArray[np.float32], relevant: NDArray[np.bool_]) -> Line:
    """Fit the log-odds of being right, slope and offset, to logarithms of shares, (m,) each.

    A share is that of the candidate in the softmax over its list.
    """
    x, y = share.astype(np.float64), relevant

    def cost(line: NDArray[np.float64]) -> float:
        odds = line[0] * x + line[1]
        return float(np.mean(np.logaddexp(0, odds) - y * odds))

    best = optimize.minimize(cost, np.array([1.0, 1.0]), method="Nelder-Mead").x
    return float(best[0]), float(best[1])


def reliability_of(confidence: NDArray[np.float32], relevant: NDArray[np.bool_]) -> Reliability:
    """Compare confidence with what was right, (m,) each, bin by bin.

    Rows of mean confidence, share that was right, and number of answers.
    """
    place = np.searchsorted(BINS[1:-1], confidence, side="right")
    table = []
    for number in range(len(BINS) - 1):
        inside = place == number
        if inside.any():
            values = float(confidence[inside].mean()), float(relevant[inside].mean())
            table.append((*values, int(inside.sum())))
    return tuple(table)


def save(fitted: Fitted, path: Path) -> None:
    """Write the network, the names of what it reads and its calibration, as safetensors."""
    about = {
        "names": json.dumps(fitted.ranker.names),
        "calibration": json.dumps(fitted.ranker.calibration),
        "listed": str(fitted.ranker.listed),
        "calibration of unlinked": json.dumps(fitted.ranker.calibration_unlinked),
        "candidates": str(fitted.ranker.candidates),
    }
    write_tensors(path, fitted.model.state_dict(), version=FORMAT, about=about)


@torch.no_grad()
def _scale(model: RankingModel, lists: RankingLists, cosine: int) -> None:
    """Bring columns to mean 0 and deviation 1, and start as the cosine alone.

    A column of yes and no is never stretched over more than 1 / RARE: the few items that lack what
    nearly all have would lie far outside of anything that was learned.
    """
    count, sums = lists.present.sum(), np.zeros((2, lists.features.shape[-1]))
    answers = np.ones(sums.shape[1], dtype=bool)
    for some, features in lists.blocks():
        seen = features[lists.present[some]].astype(np.float64)
        sums += seen.sum(axis=0), (seen**2).sum(axis=0)
        answers &= np.all((seen == 0) | (seen == 1), axis=0)
    mean = sums[0] / count
    deviation = np.sqrt(np.maximum(sums[1] / count - mean**2, 0))
    deviation = np.where(deviation > 1e-6, deviation, 1)
    deviation[answers] = np.maximum(deviation[answers], RARE)
    model.mean.copy_(torch.from_numpy(mean.astype(np.float32)))
    model.deviation.copy_(torch.from_numpy(deviation.astype(np.float32)))
    model.rule.weight[0, cosine] = 1.0
