"""From E_X and relations to X_G: RdRM_G, UiRM_G, CbRM_G and GRM_G (section 3.2)."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.embeddings import unit
from undersong.errors import DataError
from undersong.metrics import cold_ndcg
from undersong.models.graph.network import GraphModel, GraphSettings, connect
from undersong.models.graph.sampling import Pairs, hide, list_pairs, neighbourhood, with_duplicates
from undersong.progress import Progress, silent
from undersong.training.loop import History, mixed_precision, train

MOST_ASKED = 0.2  # of all pairs in one step: those asked about are hidden, others must remain


def random_vectors(n: int, width: int, *, seed: int) -> NDArray[np.float32]:
    """RdRM: a fixed Gaussian vector of length 1 for each of n items, (n, width)."""
    generator = np.random.default_rng([seed, n, width])
    return unit(generator.standard_normal((n, width), dtype=np.float32))


def embed_graph(
    vectors: NDArray[np.float32],
    *,
    training: sparse.csr_matrix,
    visible: sparse.csr_matrix,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    settings: GraphSettings,
    seed: int,
    device: str,
    checkpoint: Path,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], History]:
    """Train the graph network on relations of training items, and embed all items by the visible.

    Parameters
    ----------
    vectors : (n, d) E_X of any model; zeros for an item without one
    training : (n, n) bool, symmetric, relations between two training items
    visible : (n, n) bool, symmetric
        Relations that may be read when the result is asked: protocol ``linked`` shows those of
        ``baselines.graph.visible_edges``.
    queries : (q,) rows of the validation items, which ask each other (protocol ``linked``)
        While they do, their relations to other items in ``truth`` or ``visible`` are shown.
    truth : (n, n) bool, symmetric, relations of validation items: ``relations.held_out`` gives it
    checkpoint : file to resume from if it fits

    Returns
    -------
    X_G : (n, out) float32, rows of length 1
        Zeros for an item of which nothing is known: it has no vector of its own, and none is
        within reach by as many visible relations as there are layers.
    how training went

    Raises
    ------
    DataError
        If no training item has a relation, or no two validation items are related.
    """
    asked = truth[queries][:, queries].tocsr()
    _check(training, asked)
    torch.manual_seed(seed)
    model = GraphModel(vectors.shape[1], settings).to(device)
    given = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
    while_asking = (training + leaving(truth + visible, queries)).tocsr()

    def validate(now: nn.Module) -> float:
        found = _embed(now, given, while_asking, settings, device)[queries]
        return cold_ndcg(found, np.arange(len(queries)), asked)

    outcome = train(
        model,
        loss=_loss(model, given, training, settings, device),
        validate=validate,
        schedule=settings.training,
        seed=seed,
        checkpoint=checkpoint,
        stage="graph",
        progress=progress,
    )
    embedded = _embed(model, given, visible, settings, device)
    embedded[~_reached(vectors, visible, settings.layers)] = 0
    return embedded, outcome


def _check(training: sparse.csr_matrix, asked: sparse.csr_matrix) -> None:
    if not training.nnz:
        raise DataError("no two training items are related, so the graph network learns nothing")
    if not asked.nnz:
        raise DataError(
            f"no two of the {asked.shape[0]} validation items are related, so nothing can say when "
            "to stop training the graph network; give more relations, or a larger validation share "
            "under [split] in the settings"
        )


def _loss(
    model: GraphModel,
    given: Tensor,
    training: sparse.csr_matrix,
    settings: GraphSettings,
    device: str,
) -> Callable[[np.random.Generator], Tensor]:
    """Ask about some related pairs of training items a step."""
    pairs = list_pairs(training)
    linked = np.flatnonzero(np.diff(training.indptr))
    count = min(settings.pairs, math.ceil(MOST_ASKED * len(pairs.a)))

    def loss(generator: np.random.Generator) -> Tensor:
        asked = generator.choice(len(pairs.a), count, replace=False)
        turn = generator.random(len(asked)) < 0.5
        anchor = np.where(turn, pairs.b[asked], pairs.a[asked])
        positive = np.where(turn, pairs.a[asked], pairs.b[asked])
        others = generator.choice(linked, min(settings.others, len(linked)), replace=False)
        rows = np.unique(np.concatenate([anchor, positive, others]))
        shown = _shown(generator, training, pairs, asked, rows, settings)
        items, hops = neighbourhood(
            shown,
            rows,
            layers=settings.layers,
            neighbours=settings.neighbours,
            generator=generator,
        )
        read = given[torch.from_numpy(items).to(device)]
        with mixed_precision(settings.training, device):
            embedded = model(read, [connect(hop, device=device) for hop in hops])
        known = np.asarray(training[anchor][:, others].toarray(), dtype=bool)
        known |= anchor[:, None] == others[None, :]
        right, wrong, asking = (
            embedded[torch.from_numpy(np.searchsorted(rows, x)).to(device)]
            for x in (positive, others, anchor)
        )
        drawn, possible = draw_negatives(
            asking, wrong, torch.from_numpy(known).to(device), nearest=settings.nearest
        )
        cost = triplet(asking, right, wrong[drawn], margin=settings.margin)
        return (cost * possible).sum() / possible.sum().clamp(min=1)

    return loss


def _shown(
    generator: np.random.Generator,
    training: sparse.csr_matrix,
    pairs: Pairs,
    asked: NDArray[np.int64],
    rows: NDArray[np.int64],
    settings: GraphSettings,
) -> sparse.csr_matrix:
    """Hide the pairs that the step asks about, and all relations of some of its items."""
    cut_off = rows[generator.random(len(rows)) < settings.connection_dropout]
    hidden = asked if settings.hide_asked else asked[:0]
    shown = hide(training, pairs, asked=hidden, cut_off=cut_off)
    return with_duplicates(shown) if settings.node_dup else shown


@torch.no_grad()
def _embed(
    model: nn.Module,
    given: Tensor,
    edges: sparse.csr_matrix,
    settings: GraphSettings,
    device: str,
) -> NDArray[np.float32]:
    """Embed all items at once, each from all its neighbours, (n, out)."""
    shown = with_duplicates(edges) if settings.node_dup else edges
    embedded: Tensor = model(given, [connect(shown, device=device)] * settings.layers)
    return embedded.cpu().numpy()


def leaving(edges: sparse.csr_matrix, rows: NDArray[np.int64]) -> sparse.csr_matrix:
    """Keep the relations that have exactly one item in ``rows``, (n, n) bool."""
    inside = np.zeros(edges.shape[0], dtype=bool)
    inside[rows] = True
    cells = edges.tocoo()
    kept = inside[cells.row] != inside[cells.col]
    places = (cells.row[kept], cells.col[kept])
    return sparse.csr_matrix((cells.data[kept], places), shape=edges.shape, dtype=bool)


def _reached(
    vectors: NDArray[np.float32], edges: sparse.csr_matrix, hops: int
) -> NDArray[np.bool_]:
    """Say which items have a vector within so many hops, (n,)."""
    reached = np.asarray(vectors.any(axis=1))
    for _ in range(hops):
        reached = reached | (edges.astype(np.float32) @ reached.astype(np.float32) > 0)
    return reached


def draw_negatives(
    anchors: Tensor, items: Tensor, related: Tensor, *, nearest: float
) -> tuple[Tensor, Tensor]:
    """Draw a wrong answer for each anchor, so that near and far ones come as often.

    Unit vectors of many dimensions are nearly all the root of 2 apart: a uniform draw shows next
    to nothing else. The chance of an item is 1 over the density of its distance among random unit
    vectors. Items nearer than ``nearest`` or farther than the root of 2 count as so far; without
    that the nearest, often mistakes in the data, and the farthest would be all that is drawn.

    Parameters
    ----------
    anchors, items : (m, d) and (n, d) unit vectors; below 3 dimensions d counts as 3
    related : (m, n) bool, never drawn

    Returns
    -------
    (m,) int, item of each anchor, and (m,) bool, whether there was any to draw

    Source
    ------
    Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, section 3.
    """
    rarity = log_rarity(
        2 - 2 * anchors.detach().float() @ items.detach().float().T,
        d=anchors.shape[1],
        nearest=nearest,
    )
    rarity = rarity.masked_fill_(related, -torch.inf)
    # The largest of log weights plus Gumbel noise is a draw by weight.
    noise = -torch.empty_like(rarity).exponential_().log_()
    return (rarity + noise).argmax(dim=1), ~related.all(dim=1)


def log_rarity(squared: Tensor, *, d: int, nearest: float) -> Tensor:
    """Logarithm of 1 over the density of squared distances among unit vectors, but for a constant.

    The density is ``x ** (d - 2) * (1 - x ** 2 / 4) ** ((d - 3) / 2)`` at a distance x.
    """
    d = max(d, 3)
    squared = squared.clamp(nearest**2, 2)
    return (2 - d) / 2 * squared.log() - (d - 3) / 2 * (1 - squared / 4).log()


def triplet(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """Ask of each wrong answer to be ``margin`` farther than the right one, (m, d) each -> (m,).

    ``max(0, margin + distance(anchor, positive) - distance(anchor, negative))``, Euclidean.
    """
    return torch.relu(margin + _distance(anchors, positives) - _distance(anchors, negatives))


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # The root has no derivative at 0.
    return (a - b).square().sum(dim=1).clamp(min=1e-6).sqrt()
