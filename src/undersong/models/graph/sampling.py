"""The graph of one training step: some relations hidden, neighbours drawn (section 3.2)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


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
