"""Baselines that learn from the sources side by side: a plain network, and gravity [7]."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.embeddings import unit
from undersong.errors import DataError
from undersong.evaluation.method import Method, from_vectors
from undersong.features import Modality, side_by_side
from undersong.losses import cosine, info_nce
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent
from undersong.relations import block
from undersong.training import Schedule, anchors_with_partners, train

_ENCODED = 1024  # items encoded at once
_NEAREST = 1e-2  # squared distance below which nothing is nearer, so that its log is no abyss


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network, its loss and how it learns (values: docs/evaluation.md).

    Parameters
    ----------
    hidden, width : neurons of the first and of the second layer
    source_dropout, input_dropout, dropout : share of the sources of an item, of single inputs
        such as one tag, and of the hidden neurons, left out in training, in [0, 1)
    temperature : of InfoNCE, cosine
    anchors, partners : training items a step, and related items that each brings
    """

    hidden: int = 768
    width: int = 256
    source_dropout: float = 0.1
    input_dropout: float = 0.3
    dropout: float = 0.3
    temperature: float = 0.07
    anchors: int = 1024
    partners: int = 1
    schedule: Schedule = Schedule(
        steps=200, weight_decay=0.05, validate_every=25, patience=4, average=0.99
    )


class Network(nn.Module):
    """Linear, ReLU, linear.

    The input is sparse, because it is mostly words that an item does not have.
    """

    def __init__(self, inputs: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, settings.hidden) / settings.hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(settings.hidden))
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.Linear(settings.hidden, settings.width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed items, (b, inputs) sparse -> (b, width), of any length."""
        hidden = torch.relu(torch.sparse.mm(inputs, self.weight) + self.bias)
        embedded: Tensor = self.last(self.dropout(hidden))
        return embedded


def mlp(
    sources: Sequence[Modality],
    relations: sparse.csr_matrix,
    *,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    seed: int,
    settings: NetworkSettings = NetworkSettings(),
    device: str = "cpu",
    progress: Progress = silent,
) -> Method:
    """Train the two-layer network and find neighbours by the cosine of its output.

    Parameters
    ----------
    sources : what the models read, too, each by its weight
    relations : (n, n) bool, visible in training: between items in ``train`` only
    queries : (q,) rows of the validation items that decide when to stop, by cold ndcg@200
    truth : (n, n) bool, their relations (see ``relations.held_out``)

    Raises
    ------
    DataError
        Without a source, or if no training item has a relation.
    """
    inputs = side_by_side(sources)

    def cost(vectors: Tensor, related: Tensor) -> Tensor:
        similarity = cosine(F.normalize(vectors, dim=1))
        return info_nce(similarity, related, ~related, temperature=settings.temperature)

    vectors = _learn(
        inputs,
        sources,
        relations,
        cost=cost,
        judge=lambda vectors: cold_ndcg(unit(vectors), queries, truth),
        seed=seed,
        settings=settings,
        device=device,
        progress=progress,
    )
    missing = np.diff(inputs.indptr) == 0
    return from_vectors("MLP", vectors, missing=missing, note="two layers, InfoNCE")


def gravity(
    sources: Sequence[Modality],
    relations: sparse.csr_matrix,
    *,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    seed: int,
    settings: NetworkSettings = NetworkSettings(),
    pull: float = 20.0,
    device: str = "cpu",
    progress: Progress = silent,
) -> Method:
    """Let items attract each other by learned masses, less the farther apart they are.

    Item i likes j by ``mass j - lambda * ln(distance(i, j)²)``. Vectors and masses come from what
    is known of an item and of those it is related to in training, by a two-layer network.

    Parameters
    ----------
    relations : (n, n) bool, visible in training; of those with a direction, from row to column
    pull : lambda, how much distance counts beside mass, above 0
    queries, truth, others : as of ``mlp``; it learns from half as many anchors, three times as fast

    Raises
    ------
    DataError
        Without a source, or if no training item has a relation.

    Source
    ------
    Salha-Galvan et al., Cold Start Similar Artists Ranking with Gravity-Inspired Graph
    Autoencoders, RecSys 2021. Theirs is a graph convolution of two layers, ours of one, before a
    plain layer; theirs learns of all pairs, ours of those in a batch of related items.
    """
    n = relations.shape[0]
    around = (relations + relations.T).astype(np.float32) + sparse.identity(n, dtype=np.float32)
    degree = np.asarray(around.sum(axis=1)).ravel()
    inputs = (sparse.diags(1 / degree) @ around @ side_by_side(sources)).tocsr().astype(np.float32)

    def judge(vectors: NDArray[np.float32]) -> float:
        return cold_ndcg(_falling(vectors, pull), queries, truth, asking=_asking(vectors))

    rate = 3 * settings.schedule.learning_rate
    faster = replace(settings.schedule, learning_rate=rate, patience=2)
    own = replace(
        settings, width=settings.width + 1, anchors=settings.anchors // 2, schedule=faster
    )
    vectors = _learn(
        inputs,
        sources,
        relations,
        cost=partial(attraction_loss, pull=pull),
        judge=judge,
        seed=seed,
        settings=own,
        device=device,
        progress=progress,
    )
    asking, falling = _asking(vectors), _falling(vectors, pull)
    missing = np.diff(inputs.indptr) == 0

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        liked = asking[rows] @ falling.T
        liked[:, missing] = -np.inf
        liked[missing[rows]] = 0
        return liked

    return Method("gravity", scores, note=f"learned mass and distance, lambda {pull:g}")


def attraction_loss(vectors: Tensor, related: Tensor, *, pull: float) -> Tensor:
    """Cross-entropy of who points to whom, related pairs and others in equal parts.

    Parameters
    ----------
    vectors : (b, width + 1), places and, last, masses
    related : (b, b) bool, from row to column
    """
    places, mass = vectors[:, :-1], vectors[:, -1]
    logits = mass - pull * (torch.cdist(places, places).square() + _NEAREST).log()
    others = ~related.clone().fill_diagonal_(True)
    cost = F.binary_cross_entropy_with_logits(logits, related.float(), reduction="none")
    parts = [(cost * x).sum() / x.sum().clamp(min=1) for x in (related, others)]
    return (parts[0] + parts[1]) / 2


# For one who asks, mass - lambda ln(distance²) orders as -distance² e^(-mass / lambda) does, which
# is an inner product of what the one that asks knows and of what the other does.


def _asking(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    places = vectors[:, :-1]
    square = np.square(places).sum(axis=1, keepdims=True) + _NEAREST
    return np.hstack([2 * places, -square, -np.ones_like(square)])


def _falling(vectors: NDArray[np.float32], pull: float) -> NDArray[np.float32]:
    places, mass = vectors[:, :-1], vectors[:, -1:]
    square = np.square(places).sum(axis=1, keepdims=True)
    return np.asarray(np.hstack([places, np.ones_like(square), square]) * np.exp(-mass / pull))


def _learn(
    inputs: sparse.csr_matrix,
    sources: Sequence[Modality],
    relations: sparse.csr_matrix,
    *,
    cost: Callable[[Tensor, Tensor], Tensor],
    judge: Callable[[NDArray[np.float32]], float],
    seed: int,
    settings: NetworkSettings,
    device: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """Train a network on batches of related items and embed all, (n, width).

    Parameters
    ----------
    cost : of the vectors of a batch, (b, width), and who of it is related, (b, b) bool
    judge : how good the vectors of all items are
    """
    if relations.nnz == 0:
        raise DataError("no training item has a relation, so the network has nothing to learn")
    torch.manual_seed(seed)
    network = Network(inputs.shape[1], settings).to(device)
    source_of = np.repeat(np.arange(len(sources)), [source.width for source in sources])

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(
            generator, relations, anchors=settings.anchors, partners=settings.partners
        )
        drawn = inputs[rows]
        present = generator.random((len(rows), len(sources))) >= settings.source_dropout
        single = generator.random(drawn.nnz) >= settings.input_dropout
        drawn.data *= single / np.float32(1 - settings.input_dropout)
        vectors = network(_sparse(drawn, device, present=present, source_of=source_of))
        return cost(vectors, torch.from_numpy(block(relations, rows)).to(device))

    with tempfile.TemporaryDirectory() as folder:
        train(
            network,
            loss=loss,
            validate=lambda model: judge(_encode(model, inputs, device)),
            schedule=settings.schedule,
            seed=seed,
            checkpoint=Path(folder) / "network.safetensors",
            stage="baseline network",
            progress=progress,
        )
    return _encode(network, inputs, device)


@torch.no_grad()
def _encode(network: nn.Module, inputs: sparse.csr_matrix, device: str) -> NDArray[np.float32]:
    """Embed all items, (n, width); the network must be in eval mode."""
    blocks = [
        network(_sparse(inputs[start : start + _ENCODED], device)).cpu().numpy()
        for start in range(0, inputs.shape[0], _ENCODED)
    ]
    return np.concatenate(blocks).astype(np.float32)


def _sparse(
    rows: sparse.csr_matrix,
    device: str,
    *,
    present: NDArray[np.bool_] | None = None,
    source_of: NDArray[np.int64] | None = None,
) -> Tensor:
    """Rows as a sparse tensor, without the sources that are not ``present``, (b, sources)."""
    cells = rows.tocoo()
    values = cells.data
    if present is not None and source_of is not None:
        values = values * present[cells.row, source_of[cells.col]]
    places = torch.from_numpy(np.stack([cells.row, cells.col]).astype(np.int64))
    tensor = torch.sparse_coo_tensor(
        places, torch.from_numpy(values), rows.shape, check_invariants=True
    )
    return tensor.coalesce().to(device)
