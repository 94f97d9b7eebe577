"""From E_X and relations to X_G: RdRM_G, UiRM_G, CbRM_G and GRM_G (section 3.2)."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.embeddings import unit
from undersong.errors import DataError
from undersong.io.tensors import read_tensors, write_tensors
from undersong.metrics import cold_ndcg
from undersong.models.graph.network import (
    GraphModel,
    GraphSettings,
    connect,
    hide,
    list_pairs,
    neighbourhood,
    with_duplicates,
)
from undersong.settings import build
from undersong.training import Compute, History, mixed_precision, train

FORMAT = 1
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
    """Train the graph network, as ``train_graph``, and embed all items, as ``embed_by``."""
    asked = queries, truth + visible
    model, history = train_graph(
        vectors, training=training, asked=asked, settings=settings, compute=compute, name=name
    )
    return embed_by(model, vectors, visible), history


def train_graph(
    vectors: NDArray[np.float32],
    *,
    training: sparse.csr_matrix,
    asked: tuple[NDArray[np.int64], sparse.csr_matrix] | None,
    settings: GraphSettings,
    compute: Compute,
    name: str = "graph",
    stage: str = "graph",
) -> tuple[GraphModel, History]:
    """Train the graph network on relations of training items.

    Parameters
    ----------
    vectors : (n, d) E_X of any model; zeros for an item without one
    training : (n, n) bool, symmetric, relations between two training items
    asked : rows of the validation items, (q,), which look for each other, and their relations,
        (n, n) bool, symmetric, as by ``relations.held_out``
        Those to other items are shown to the network. None where every item trains: then all steps
        are taken.
    name : of the checkpoint in ``compute.work``

    Raises
    ------
    DataError
        As ``check_asked``.
    """
    check_asked(training, asked)
    torch.manual_seed(compute.seed)
    model = GraphModel(vectors.shape[1], settings).to(compute.device)
    # Copied: they may lie in a file that is read only.
    inputs = torch.tensor(vectors).to(compute.device)
    history = train(
        model,
        loss=_loss(model, inputs, training),
        validate=_judge(inputs, training, *asked) if asked else None,
        schedule=settings.training,
        seed=compute.seed,
        checkpoint=compute.work / f"{name}.safetensors",
        stage=stage,
        progress=compute.progress,
    )
    return model, history


def check_asked(
    training: sparse.csr_matrix, asked: tuple[NDArray[np.int64], sparse.csr_matrix] | None
) -> None:
    """Refuse relations that nothing can be learned from, or that cannot say when to stop.

    Raises
    ------
    DataError
        If no training item has a relation, or no two validation items are related.
    """
    if not training.nnz:
        raise DataError("no two training items are related, so the graph network learns nothing")
    if asked and not asked[1][asked[0]][:, asked[0]].nnz:
        raise DataError(
            f"no two of the {len(asked[0])} validation items are related, so nothing can say when "
            "to stop training the graph network; give more relations, or a larger validation share "
            "under [split] in the settings"
        )


def _judge(
    inputs: Tensor,
    training: sparse.csr_matrix,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
) -> Callable[[nn.Module], float]:
    answers = truth[queries][:, queries].tocsr()
    shown = (training + leaving(truth, queries)).tocsr()

    def validate(model: nn.Module) -> float:
        return cold_ndcg(_embed(model, inputs, shown)[queries], np.arange(len(queries)), answers)

    return validate


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


def embed_by(
    model: GraphModel, vectors: NDArray[np.float32], visible: sparse.csr_matrix
) -> NDArray[np.float32]:
    """X_G of all items by the relations that it may read, (n, out) float32, rows of length 1.

    Zeros for an item of which nothing is known: neither it nor any item within as many visible
    relations as there are layers has a vector.
    """
    device = next(model.parameters()).device
    inputs = torch.tensor(vectors).to(device)
    embedded = _embed(model, inputs, visible)
    embedded[~_reached(vectors, visible, model.settings.layers)] = 0
    return embedded


def save_graph(model: GraphModel, path: Path) -> None:
    """Write weights, size and settings as safetensors."""
    about = {"settings": json.dumps(asdict(model.settings)), "size": str(model.size)}
    write_tensors(path, model.state_dict(), version=FORMAT, about=about)


def load_graph(path: Path) -> GraphModel:
    """Read what ``save_graph`` wrote, ready to embed.

    Raises
    ------
    ArtifactError
        If the file is damaged or has another format.
    """
    about, tensors = read_tensors(path, version=FORMAT, framework="pt")
    settings = build(GraphSettings, json.loads(about["settings"]), f"{path}:")
    model = GraphModel(int(about["size"]), cast(GraphSettings, settings))
    model.load_state_dict(tensors)
    return model.eval()


@torch.no_grad()
def _embed(model: nn.Module, inputs: Tensor, edges: sparse.csr_matrix) -> NDArray[np.float32]:
    """Embed all items at once, each from all its neighbours, (n, out)."""
    settings = cast(GraphModel, model).settings
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
