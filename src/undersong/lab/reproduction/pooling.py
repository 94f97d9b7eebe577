"""From tracks to an artist otherwise than by the mean of equation 1, and hub control (2.1)."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.catalogue import Catalogue
from undersong.embeddings import Embeddings, unit
from undersong.evaluation.method import Method, from_vectors
from undersong.lab.reproduction.methods import SeedRun
from undersong.losses import MultiSimilarity, cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent
from undersong.relations import block
from undersong.training import Schedule, anchors_with_partners, train

MEAN = "mean of 5"
POOLINGS = ("attention", "1 prototype", *(f"{x} prototypes" for x in (2, 3, 4)))
MOST = 20  # tracks of an artist that take part, the most popular ones
ROUNDS = 10  # of k-means
SCHEDULE = Schedule(steps=120, learning_rate=3e-3, validate_every=20, average=0.9)
LOSS = MultiSimilarity(alpha=4.0, beta=15.0, gamma=0.3, margin=0.5)


@dataclass(frozen=True)
class Bags:
    """E_C of the tracks of each artist.

    Parameters
    ----------
    tracks : (n, MOST, d) float32, zeros where an artist has fewer
    there : (n, MOST) bool
        An artist without a track, but with an E_C of its own, has that in place of one.
    """

    tracks: NDArray[np.float32]
    there: NDArray[np.bool_]


def bags_of(catalogue: Catalogue, *, tracks: Embeddings, artists: Embeddings) -> Bags:
    """Gather E_C of every artist's most popular tracks."""
    n, width = len(catalogue.artists), tracks.vectors.shape[1]
    row = {item: place for place, item in enumerate(catalogue.ids("artist"))}
    values = np.zeros((n, MOST, width), dtype=np.float32)
    count = np.zeros(n, dtype=np.int64)
    known = catalogue.tracks.select("id", "artist", "popularity").sort(
        "popularity", descending=True, nulls_last=True, maintain_order=True
    )
    for item, artist in known.select("id", "artist").iter_rows():
        place = tracks.index.get(item)
        if place is not None and count[row[artist]] < MOST:
            values[row[artist], count[row[artist]]] = tracks.vectors[place]
            count[row[artist]] += 1
    own, missing = artists.align(catalogue.ids("artist"))
    alone = (count == 0) & ~missing
    values[alone, 0], count[alone] = own[alone], 1
    return Bags(values, np.arange(MOST) < count[:, None])


def pooled(seed_run: SeedRun, name: str, progress: Progress) -> Method:
    """Compare artists by the mean of E_C of their tracks, or by one of ``POOLINGS``."""
    run, seed, task = seed_run.run, seed_run.seed, seed_run.task
    tracks, artists = (run.embeddings(x, "content") for x in ("track", "artist"))
    bags = bags_of(task.catalogue, tracks=tracks, artists=artists)
    if name == MEAN:
        return mean_pooling(bags, top=seed_run.settings.content.top)
    if name != "attention":
        return prototypes(bags, count=int(name.split()[0]), seed=seed)
    queries, truth = task.held_out
    return attention_pooling(
        bags,
        task.related("train"),
        queries=queries,
        truth=truth,
        seed=seed,
        schedule=SCHEDULE,
        progress=progress,
    )


def mean_pooling(bags: Bags, *, top: int) -> Method:
    """Equation 1: the mean of the first ``top`` tracks of each artist."""
    there = bags.there & (np.arange(MOST) < top)
    vectors = (bags.tracks * there[..., None]).sum(axis=1).astype(np.float32)
    return from_vectors(f"mean of {top}", vectors, missing=_empty(there))


def prototypes(bags: Bags, *, count: int, seed: int) -> Method:
    """Describe an artist by 1 to ``count`` prototypes; two are as similar as their best pair.

    Prototypes are the centres of spherical k-means of the artist's tracks, at most one a track.
    """
    centres, there = _k_means(bags, count, seed)
    owner, place = np.nonzero(there)
    flat = unit(centres[owner, place])  # (p, d), artist by artist
    starts = np.searchsorted(owner, np.arange(len(there)))
    missing = _empty(there)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        similarities = np.full((len(rows), len(there)), -np.inf, dtype=np.float32)
        for turn, row in enumerate(rows):
            if missing[row]:
                similarities[turn] = 0
                continue
            best = (flat[owner == row] @ flat.T).max(axis=0)
            similarities[turn, ~missing] = np.maximum.reduceat(best, starts[~missing])
        return similarities

    return Method(f"{count} prototypes", scores)


def attention_pooling(
    bags: Bags,
    related: sparse.csr_matrix,
    *,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    seed: int,
    schedule: Schedule = SCHEDULE,
    progress: Progress = silent,
) -> Method:
    """Weigh the tracks of an artist by a learned attention (Ilse et al. 2018), then average.

    Only the weights are learned, from relations between training artists, so that nothing but
    the pooling differs from the mean. Validation artists decide when to stop.
    """
    torch.manual_seed(seed)
    model = _Attention(bags.tracks.shape[2])
    tracks, there = torch.from_numpy(bags.tracks), torch.from_numpy(bags.there)
    heard = ~_empty(bags.there)
    pairs_of = related.tocoo()
    both = heard[pairs_of.row] & heard[pairs_of.col]
    cells = (pairs_of.data[both], (pairs_of.row[both], pairs_of.col[both]))
    visible = sparse.csr_matrix(cells, shape=related.shape)

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(generator, visible, anchors=256, partners=1)
        embedded = model(tracks[torch.from_numpy(rows)], there[torch.from_numpy(rows)])
        pairs = torch.from_numpy(block(visible, rows))
        return multi_similarity(cosine(embedded), pairs, ~pairs, LOSS)

    def validate(now: nn.Module) -> float:
        return cold_ndcg(now(tracks, there).numpy(), queries, truth)

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            loss=loss,
            validate=validate,
            schedule=schedule,
            seed=seed,
            checkpoint=Path(folder) / "attention.safetensors",
            stage="attention",
            progress=progress,
        )
    with torch.no_grad():
        vectors = model(tracks, there).numpy()
    return from_vectors("attention", vectors, missing=~heard)


def without_hubs(method: Method, n: int, *, near: int = 10, size: int = 256) -> Method:
    """Cross-domain similarity local scaling (CSLS): take from each score what hubs get anyway.

    ``2 * score - r(query) - r(candidate)``, where r is the mean score of an item's ``near``
    nearest. What cannot be scored stays so.

    Source
    ------
    Conneau et al., Word Translation Without Parallel Data, ICLR 2018, section 2.3.
    """
    density = np.zeros(n, dtype=np.float32)
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        others = method.scores(rows).copy()
        others[np.arange(len(rows)), rows] = -np.inf
        best = np.partition(others, n - near, axis=1)[:, n - near :]
        density[rows] = np.where(np.isfinite(best), best, 0).mean(axis=1)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(2 * method.scores(rows) - density[rows, None] - density, dtype=np.float32)

    return replace(method, name=f"{method.name}, CSLS", scores=scores)


def _empty(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(~there.any(axis=1), dtype=bool)


class _Attention(nn.Module):
    """A weight for each track from its own vector; begins as the mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(width, 32), nn.Linear(32, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, tracks: Tensor, there: Tensor) -> Tensor:
        """Pool bags, (n, t, d) and (n, t) bool -> (n, d), length 1; zeros for an empty bag."""
        logits = self.score(torch.tanh(self.hidden(tracks)))[..., 0]
        weights = torch.softmax(logits.masked_fill(~there, -1e9), dim=1) * there
        return F.normalize((weights[..., None] * tracks).sum(dim=1), dim=1)


def _k_means(bags: Bags, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Spherical k-means of every bag at once, (n, count, d), and which centres are used.

    It begins with tracks far from each other: the first, then in turn the one least similar to
    the centres there are.
    """
    n, most, width = bags.tracks.shape
    centres = np.zeros((n, count, width), dtype=np.float32)
    used = np.zeros((n, count), dtype=bool)
    generator = np.random.default_rng([seed, count])
    best = np.where(bags.there, -generator.random((n, most)) * 1e-6, np.inf)
    for place in range(count):
        chosen = best.argmin(axis=1)
        used[:, place] = bags.there.sum(axis=1) > place
        centres[:, place] = bags.tracks[np.arange(n), chosen]
        near = np.einsum("ntd,nd->nt", bags.tracks, centres[:, place])
        best = np.where(bags.there, np.maximum(best if place else near, near), np.inf)
    for _ in range(ROUNDS):
        similarity = np.einsum("ntd,nkd->ntk", bags.tracks, centres)
        similarity[np.broadcast_to(~used[:, None], similarity.shape)] = -np.inf
        mine = np.eye(count, dtype=np.float32)[similarity.argmax(axis=2)] * bags.there[..., None]
        sums = np.einsum("ntk,ntd->nkd", mine, bags.tracks)
        filled = mine.sum(axis=1) > 0
        centres = np.where(filled[..., None], sums, centres).astype(np.float32)
        centres = unit(centres.reshape(-1, width)).reshape(centres.shape)
    return centres, used
