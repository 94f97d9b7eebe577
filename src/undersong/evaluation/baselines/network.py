"""The baseline that learns: a two-layer network with InfoNCE on the sources side by side."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.errors import DataError
from undersong.evaluation.method import Method, from_vectors
from undersong.features import Modality, side_by_side
from undersong.losses import cosine, info_nce
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent
from undersong.relations import block
from undersong.training import Schedule, anchors_with_partners, train

_ENCODED = 1024  # items encoded at once


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
    """Linear, ReLU, linear; vectors of length 1.

    The input is sparse, because it is mostly words that an item does not have.
    """

    def __init__(self, inputs: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, settings.hidden) / settings.hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(settings.hidden))
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.Linear(settings.hidden, settings.width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed items, (b, inputs) sparse -> (b, width)."""
        hidden = torch.relu(torch.sparse.mm(inputs, self.weight) + self.bias)
        return F.normalize(self.last(self.dropout(hidden)), dim=1)


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
        related = torch.from_numpy(block(relations, rows)).to(device)
        return info_nce(cosine(vectors), related, ~related, temperature=settings.temperature)

    def validate(model: nn.Module) -> float:
        return cold_ndcg(_encode(model, inputs, device), queries, truth)

    with tempfile.TemporaryDirectory() as folder:
        train(
            network,
            loss=loss,
            validate=validate,
            schedule=settings.schedule,
            seed=seed,
            checkpoint=Path(folder) / "network.safetensors",
            stage="baseline network",
            progress=progress,
        )
    vectors = _encode(network, inputs, device)
    missing = np.diff(inputs.indptr) == 0
    return from_vectors("MLP", vectors, missing=missing, note="two layers, InfoNCE")


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
