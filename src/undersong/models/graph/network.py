"""Graph backend: GraphSAGE on any embedding, section 3.2 (the rows ``_G`` of tables 1 and 2).

Flow:
    E_X (n, d) -> layers of (own vector + mean of the neighbours' vectors), ELU, length 1
    -> two linear layers -> X_G (m, out), length 1
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong.settings import LATER
from undersong.training import Schedule


@dataclass(frozen=True)
class GraphSettings:
    """What the paper leaves open about its graph network; see docs/choices.md.

    Parameters
    ----------
    enabled : whether a run trains one behind GRM; what the rest says is read then alone
    layers : hops that an item sees; 0 for its own vector alone
    width, out : of the layers, and of X_G
    neighbours : related items that a training step draws for each item and layer; 0 takes all
        An embedding is always computed from all of them.
    connection_dropout : chance that a step hides all relations of an item in its batch, so that
        the network learns to do without (TISMIR 2022)
    node_dup : an item without relations is its own neighbour (NodeDup)
    hide_asked : hide the related pairs of a batch from the network in that step
        Otherwise it reads off the answer, which it cannot do for an unknown relation.
    pairs : related pairs a step, at most a fifth of them all
    others : linked training items a step, of which negatives are drawn
    margin : of the triplet loss, Euclidean distance of unit vectors, in [0, 2]
    nearest : distance, above 0, at which nearer negatives count when they are drawn
    """

    enabled: bool = field(default=False, metadata=LATER)
    layers: int = 3
    width: int = 256
    out: int = 100
    neighbours: int = 25
    connection_dropout: float = 0.0
    node_dup: bool = False
    hide_asked: bool = True
    pairs: int = 2048
    others: int = 1024
    margin: float = 0.2
    nearest: float = 0.5
    training: Schedule = field(
        default=Schedule(
            steps=150, learning_rate=3e-3, weight_decay=0.0, validate_every=15, patience=4
        )
    )

    def __post_init__(self) -> None:
        if min(self.width, self.out, self.pairs, self.others) < 1:
            raise ValueError("width, out, pairs and others must be 1 or more")
        if min(self.layers, self.neighbours) < 0:
            raise ValueError("layers and neighbours must be 0 or more")
        if not 0 <= self.connection_dropout <= 1:
            raise ValueError(f"connection_dropout {self.connection_dropout} must be in [0, 1]")
        if not (0 <= self.margin <= 2 and 0 < self.nearest < 2**0.5):
            raise ValueError(
                f"margin {self.margin} must be in [0, 2] and nearest {self.nearest} above 0 and "
                "below the root of 2, the distance of two unlike vectors"
            )


@dataclass(frozen=True)
class Connections:
    """Which of n items each of m items reads, m <= n; the m are the first of the n.

    Parameters
    ----------
    senders, starts : (e,) items read, reader by reader, and where each reader begins, (m + 1,)
    readers, begins : the same the other way, by item read, (e,) and (n + 1,)
    share : (m, 1) float, 1 / number of items read; 1 for none
    """

    senders: Tensor
    starts: Tensor
    readers: Tensor
    begins: Tensor
    share: Tensor


def connect(edges: sparse.csr_matrix, *, device: str) -> Connections:
    """Move edges, (m, n), to the device; row i holds the items that item i reads."""
    other_way = edges.T.tocsr()
    degree = np.maximum(np.diff(edges.indptr), 1).astype(np.float32)

    def on_device(values: Any) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return Connections(
        senders=on_device(edges.indices),
        starts=on_device(edges.indptr),
        readers=on_device(other_way.indices),
        begins=on_device(other_way.indptr),
        share=torch.from_numpy(1 / degree[:, None]).to(device),
    )


def mean_of_neighbours(vectors: Tensor, connections: Connections) -> Tensor:
    """Average what each item reads, (n, d) -> (m, d) float32; zeros for an item that reads none."""
    means: Tensor = _Mean.apply(vectors.float(), connections)  # type: ignore[no-untyped-call]
    return means


class _Mean(torch.autograd.Function):
    """Sums over lists of rows both ways: half the time of PyTorch's own derivative."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, connections: Connections) -> Tensor:
        ctx.connections = connections
        return _sums(connections.senders, vectors, connections.starts) * connections.share

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        connections: Connections = ctx.connections
        weighted = gradients[0].float() * connections.share
        return _sums(connections.readers, weighted, connections.begins), None


def _sums(rows: Tensor, vectors: Tensor, starts: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):
        return F.embedding_bag(
            rows, vectors.contiguous(), starts, mode="sum", include_last_offset=True
        )


class SageLayer(nn.Module):
    """One hop: ``h_i = normalise(ELU(A x_i + b + B mean of x_j over neighbours j of i))``.

    Source
    ------
    Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017,
    algorithm 1 with the mean; ELU as Korzeniowski et al., Artist Similarity with Graph Neural
    Networks, ISMIR 2021.
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.own = nn.Linear(size, width)
        self.neighbours = nn.Linear(size, width, bias=False)

    def forward(self, vectors: Tensor, connections: Connections) -> Tensor:
        """Take one hop, (n, size) -> (m, width), rows of length 1."""
        read = mean_of_neighbours(vectors, connections)  # (m, size)
        both = self.own(vectors[: len(read)]) + self.neighbours(read)
        return F.normalize(F.elu(both.float()), dim=1)


class GraphModel(nn.Module):
    """GraphSAGE layers and two linear ones (Korzeniowski et al. 2021)."""

    def __init__(self, size: int, settings: GraphSettings):
        """``size`` is the width of the vectors that the items come with."""
        super().__init__()
        self.settings, self.size = settings, size
        sizes = [size] + [settings.width] * settings.layers
        self.layers = nn.ModuleList(SageLayer(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.head = nn.Sequential(
            nn.Linear(sizes[-1], settings.width), nn.ELU(), nn.Linear(settings.width, settings.out)
        )

    def forward(self, vectors: Tensor, hops: Sequence[Connections]) -> Tensor:
        """Embed items, (n, size) -> (m, out), rows of length 1.

        ``hops`` has one entry a layer. The n items are those that the first layer reads, the m
        items those that come out of the last one; with the connections of all items at every hop
        m is n.
        """
        for layer, connections in zip(self.layers, hops, strict=True):
            vectors = layer(vectors, connections)
        return F.normalize(self.head(vectors).float(), dim=1)


@dataclass(frozen=True)
class Pairs:
    """Relations, each once, and where they stand in their symmetric matrix of e entries.

    Parameters
    ----------
    a, b : (p,) rows of the two items, a < b
    cell : (e,) pair of each entry of the matrix
    row : (e,) row of each entry
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    cell: NDArray[np.int64]
    row: NDArray[np.int64]


def list_pairs(edges: sparse.csr_matrix) -> Pairs:
    """List each relation of a symmetric (n, n) matrix once; the diagonal must be empty."""
    n = edges.shape[0]
    row = np.repeat(np.arange(n), np.diff(edges.indptr))
    column = edges.indices.astype(np.int64)
    both, cell = np.unique(
        np.minimum(row, column) * n + np.maximum(row, column), return_inverse=True
    )
    return Pairs(both // n, both % n, cell, row)


def hide(
    edges: sparse.csr_matrix,
    pairs: Pairs,
    *,
    hidden: NDArray[np.int64],
    cut_off: NDArray[np.int64],
) -> sparse.csr_matrix:
    """Leave out pairs by their number, and all relations of the items in rows ``cut_off``."""
    hide_pair = np.zeros(len(pairs.a), dtype=bool)
    hide_pair[hidden] = True
    cut = np.zeros(edges.shape[0], dtype=bool)
    cut[cut_off] = True
    return _subset(edges, ~(hide_pair[pairs.cell] | cut[pairs.row] | cut[edges.indices]))


def with_duplicates(edges: sparse.csr_matrix) -> sparse.csr_matrix:
    """Make every item without relations its own neighbour.

    Source
    ------
    Guo et al., Node Duplication Improves Cold-start Link Prediction, 2024: the variant with a
    loop in place of a copy, which a mean over neighbours cannot tell apart.
    """
    alone = (np.diff(edges.indptr) == 0).astype(bool)
    return (edges + sparse.diags(alone, dtype=bool, format="csr")).tocsr()


def neighbourhood(
    edges: sparse.csr_matrix,
    rows: NDArray[np.int64],
    *,
    layers: int,
    neighbours: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], list[sparse.csr_matrix]]:
    """Collect what some items need to be embedded, from the last layer back to the first.

    Parameters
    ----------
    edges : (n, n) bool
    rows : (m,) items to embed, each once
    neighbours : at most so many, drawn anew for each item and layer; 0 for all

    Returns
    -------
    rows of the items whose vectors the first layer reads, ``rows`` first, and for each layer who
    reads whom, (readers, items read) bool, in the places of the items before and after it
    """
    place = np.full(edges.shape[0], -1, dtype=np.int64)
    items, hops = rows, list[sparse.csr_matrix]()
    place[rows] = np.arange(len(rows))
    for _ in range(layers):
        read = _draw(edges[items], neighbours, generator)
        senders = np.unique(read.indices)
        new = senders[place[senders] < 0]
        place[new] = len(items) + np.arange(len(new))
        shape = (len(items), len(items) + len(new))
        hops.append(sparse.csr_matrix((read.data, place[read.indices], read.indptr), shape=shape))
        items = np.concatenate([items, new])
    return items, hops[::-1]


def _draw(
    edges: sparse.csr_matrix, count: int, generator: np.random.Generator
) -> sparse.csr_matrix:
    """Draw ``count`` random entries of each longer row; 0 takes all."""
    degree = np.diff(edges.indptr)
    if count == 0 or degree.max(initial=0) <= count:
        return edges
    row = np.repeat(np.arange(len(degree)), degree)
    long = np.flatnonzero(degree[row] > count)
    order = long[np.lexsort((generator.random(len(long)), row[long]))]
    rank = np.empty(edges.nnz, dtype=np.int64)
    rank[long] = np.arange(len(long)) - np.searchsorted(row[long], row[long])
    drawn = np.ones(edges.nnz, dtype=bool)
    drawn[order] = rank[long] < count
    return _subset(edges, drawn)


def _subset(edges: sparse.csr_matrix, selected: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Matrix of the selected entries, (e,) bool."""
    starts = np.concatenate([[0], np.cumsum(selected)])[edges.indptr]
    entries = (edges.data[selected], edges.indices[selected], starts)
    return sparse.csr_matrix(entries, shape=edges.shape)
