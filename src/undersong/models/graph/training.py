"""From E_X and relations to X_G: RdRM_G, UiRM_G, CbRM_G and GRM_G (section 3.2)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.embeddings import unit
from undersong.errors import DataError
from undersong.metrics import cold_ndcg
from undersong.models.graph.network import GraphModel, GraphSettings, connect
from undersong.models.graph.sampling import hide, list_pairs, neighbourhood, with_duplicates
from undersong.training import Compute, History, mixed_precision, train

LARGEST_BATCH = 0.2  # of all pairs: those of a batch are hidden, others must remain


def random_vectors(n: int, width: int, *, seed: int) -> NDArray[np.float32]:
    """Draw RdRM: a Gaussian vector of length 1 for each of n items, (n, width)."""
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
    compute: Compute,
    name: str = "graph",
) -> tuple[NDArray[np.float32], History]:
    """Train the graph network on relations of training items; embed all items by the visible ones.

    Parameters
    ----------
    vectors : (n, d) E_X of any model; zeros for an item without one
    training : (n, n) bool, symmetric, relations between two training items
    visible : (n, n) bool, symmetric
        Relations that the result may read, such as ``visible_edges`` of protocol ``linked``.
    queries : (q,) rows of the validation items, which look for each other
        Their relations to other items in ``truth`` or ``visible`` are shown to the network.
    truth : (n, n) bool, symmetric, relations of validation items, as by ``relations.held_out``
    name : of the checkpoint in ``compute.work``

    Returns
    -------
    X_G : (n, out) float32, rows of length 1
        Zeros for an item of which nothing is known: neither it nor any item within as many visible
        relations as there are layers has a vector.
    the history of training

    Raises
    ------
    DataError
        If no training item has a relation, or no two validation items are related.
    """
    answers = truth[queries][:, queries].tocsr()
    if not training.nnz:
        raise DataError("no two training items are related, so the graph network learns nothing")
    if not answers.nnz:
        raise DataError(
            f"no two of the {len(queries)} validation items are related, so nothing can say when "
            "to stop training the graph network; give more relations, or a larger validation share "
            "under [split] in the settings"
        )
    torch.manual_seed(compute.seed)
    model = GraphModel(vectors.shape[1], settings).to(compute.device)
    inputs = torch.from_numpy(np.ascontiguousarray(vectors)).to(compute.device)
    shown = (training + leaving(truth + visible, queries)).tocsr()

    def validate(current: nn.Module) -> float:
        embedded = _embed(current, inputs, shown, settings)[queries]
        return cold_ndcg(embedded, np.arange(len(queries)), answers)

    history = train(
        model,
        loss=_loss(model, inputs, training),
        validate=validate,
        schedule=settings.training,
        seed=compute.seed,
        checkpoint=compute.work / f"{name}.safetensors",
        stage="graph",
        progress=compute.progress,
    )
    embedded = _embed(model, inputs, visible, settings)
    embedded[~_reached(vectors, visible, settings.layers)] = 0
    return embedded, history


def _loss(
    model: GraphModel, inputs: Tensor, training: sparse.csr_matrix
) -> Callable[[np.random.Generator], Tensor]:
    """Triplet loss of a batch of related pairs of training items, as ``train`` calls it."""
    settings, device = model.settings, inputs.device
    pairs = list_pairs(training)
    linked = np.flatnonzero(np.diff(training.indptr))
    count = min(settings.pairs, math.ceil(LARGEST_BATCH * len(pairs.a)))

    def loss(generator: np.random.Generator) -> Tensor:
        batch = generator.choice(len(pairs.a), count, replace=False)
        turned = generator.random(len(batch)) < 0.5
        anchor = np.where(turned, pairs.b[batch], pairs.a[batch])
        positive = np.where(turned, pairs.a[batch], pairs.b[batch])
        others = generator.choice(linked, min(settings.others, len(linked)), replace=False)
        rows = np.unique(np.concatenate([anchor, positive, others]))
        cut_off = rows[generator.random(len(rows)) < settings.connection_dropout]
        hidden = batch if settings.hide_asked else batch[:0]
        items, hops = neighbourhood(
            _with_loops(hide(training, pairs, hidden=hidden, cut_off=cut_off), settings),
            rows,
            layers=settings.layers,
            neighbours=settings.neighbours,
            generator=generator,
        )
        with mixed_precision(settings.training, str(device)):
            embedded = model(
                inputs[torch.from_numpy(items).to(device)],
                [connect(hop, device=str(device)) for hop in hops],
            )
        related = np.asarray(training[anchor][:, others].toarray(), dtype=bool)
        related |= anchor[:, None] == others[None, :]
        positives, negatives, anchors = (
            embedded[torch.from_numpy(np.searchsorted(rows, x)).to(device)]
            for x in (positive, others, anchor)
        )
        drawn, possible = draw_negatives(
            anchors, negatives, torch.from_numpy(related).to(device), nearest=settings.nearest
        )
        cost = triplet(anchors, positives, negatives[drawn], margin=settings.margin)
        return (cost * possible).sum() / possible.sum().clamp(min=1)

    return loss


@torch.no_grad()
def _embed(
    model: nn.Module, inputs: Tensor, edges: sparse.csr_matrix, settings: GraphSettings
) -> NDArray[np.float32]:
    """Embed all items at once, each from all its neighbours, (n, out)."""
    connections = connect(_with_loops(edges, settings), device=str(inputs.device))
    embedded: Tensor = model(inputs, [connections] * settings.layers)
    return embedded.cpu().numpy()


def _with_loops(edges: sparse.csr_matrix, settings: GraphSettings) -> sparse.csr_matrix:
    return with_duplicates(edges) if settings.node_dup else edges


def leaving(edges: sparse.csr_matrix, rows: NDArray[np.int64]) -> sparse.csr_matrix:
    """Keep the relations that have exactly one item in ``rows``, (n, n) bool."""
    inside = np.zeros(edges.shape[0], dtype=bool)
    inside[rows] = True
    cells = edges.tocoo()
    leaves = inside[cells.row] != inside[cells.col]
    places = (cells.row[leaves], cells.col[leaves])
    return sparse.csr_matrix((cells.data[leaves], places), shape=edges.shape, dtype=bool)


def _reached(
    vectors: NDArray[np.float32], edges: sparse.csr_matrix, hops: int
) -> NDArray[np.bool_]:
    """Return which items have a vector within so many hops, (n,)."""
    reached = np.asarray(vectors.any(axis=1))
    for _ in range(hops):
        reached = reached | (edges.astype(np.float32) @ reached.astype(np.float32) > 0)
    return reached


def draw_negatives(
    anchors: Tensor, items: Tensor, related: Tensor, *, nearest: float
) -> tuple[Tensor, Tensor]:
    """Draw a negative for each anchor, near ones as often as far ones.

    Unit vectors of many dimensions are nearly all the root of 2 apart, so a uniform draw holds next
    to nothing else. The chance of an item is 1 over the density of its distance among random unit
    vectors. Distances below ``nearest`` or above the root of 2 count as these; otherwise only the
    nearest items, often mistakes in the data, and the farthest would be drawn.

    Parameters
    ----------
    anchors, items : (m, d) and (n, d) unit vectors; below 3 dimensions d counts as 3
    related : (m, n) bool, never drawn

    Returns
    -------
    (m,) int, item of each anchor, and (m,) bool, whether there was one to draw

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
    """Return log(1 / density) of squared distances among unit vectors, up to a constant.

    The density is ``x ** (d - 2) * (1 - x ** 2 / 4) ** ((d - 3) / 2)`` at a distance x.
    """
    d = max(d, 3)
    squared = squared.clamp(nearest**2, 2)
    return (2 - d) / 2 * squared.log() - (d - 3) / 2 * (1 - squared / 4).log()


def triplet(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """Return how far each negative is from ``margin`` beyond the positive, (m, d) each -> (m,).

    ``max(0, margin + distance(anchor, positive) - distance(anchor, negative))``, Euclidean.
    """
    return torch.relu(margin + _distance(anchors, positives) - _distance(anchors, negatives))


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # The root has no derivative at 0.
    return (a - b).square().sum(dim=1).clamp(min=1e-6).sqrt()
