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

from undersong.baselines.untrained import side_by_side
from undersong.batches import anchors_with_partners
from undersong.errors import DataError
from undersong.inputs import Source
from undersong.methods import Method, from_vectors
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent
from undersong.relations import block
from undersong.training import Schedule, mixed_precision, train

_ENCODED = 1024  # items encoded at once


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network, its loss and how it learns (values: docs/evaluation.md).

    Parameters
    ----------
    hidden, width : neurons of the first and of the second layer
    dropout : share of the inputs and of the hidden neurons left out in training, in [0, 1)
    temperature : of InfoNCE, cosine
    anchors, partners : training items a step, and related items that each brings
    """

    scale: float = 1.0
    hidden: int = 512
    width: int = 128
    dropout: float = 0.3
    temperature: float = 0.07
    anchors: int = 512
    partners: int = 1
    schedule: Schedule = Schedule(steps=400, validate_every=25, average=0.98)


class Network(nn.Module):
    """Linear, ReLU, linear; vectors of length 1."""

    def __init__(self, inputs: int, settings: NetworkSettings) -> None:
        super().__init__()
        # Rows hold a few numbers and many zeros, of length about the root of the number of
        # sources; without this the first layer would start with next to nothing but its bias.
        self.scale = settings.scale
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(inputs, settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, settings.width),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed items, (b, inputs) -> (b, width)."""
        return F.normalize(self.layers(inputs * self.scale).float(), dim=1)


def info_nce(vectors: Tensor, related: Tensor, *, temperature: float) -> Tensor:
    """Tell each item's related items from all others in the batch.

    Mean, over the items with something related, of -ln of the share that their related items
    have in the softmax, averaged over the related items. 0 without any.

    Parameters
    ----------
    vectors : (b, d) float, unit length
    related : (b, b) bool, diagonal ignored
    temperature : cosine, above 0

    Source
    ------
    van den Oord et al. 2018, with several positives as in Khosla et al., Supervised Contrastive
    Learning, NeurIPS 2020, equation 2.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    positive = related & ~itself
    logits = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    share = torch.log_softmax(logits, dim=1).masked_fill(~positive, 0)
    count = positive.sum(dim=1)
    return -(share.sum(dim=1) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


def mlp(
    sources: Sequence[Source],
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
    sources : what the models read, too
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

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(
            generator, relations, anchors=settings.anchors, partners=settings.partners
        )
        with mixed_precision(settings.schedule, device):
            vectors = network(_dense(inputs[rows], device))
        related = torch.from_numpy(block(relations, rows)).to(device)
        return info_nce(vectors, related, temperature=settings.temperature)

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
def _encode(model: nn.Module, inputs: sparse.csr_matrix, device: str) -> NDArray[np.float32]:
    training = model.training
    model.eval()
    n = inputs.shape[0]
    parts = [
        model(_dense(inputs[start : start + _ENCODED], device)).cpu().numpy()
        for start in range(0, n, _ENCODED)
    ]
    model.train(training)
    return np.concatenate(parts).astype(np.float32)


def _dense(rows: sparse.csr_matrix, device: str) -> Tensor:
    return torch.from_numpy(rows.toarray()).to(device)
