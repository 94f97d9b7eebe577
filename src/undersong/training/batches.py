"""Batches with related items, of which a uniform draw would hold next to none."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def anchors_with_partners(
    generator: np.random.Generator,
    related: sparse.csr_matrix,
    *,
    anchors: int,
    partners: int,
    others: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Draw items that have relations, some related items of each, and some others.

    Parameters
    ----------
    related : (n, n) bool, symmetric
        Relations that training may see. Only items that have one are anchors, each as likely.
    anchors, partners : number of anchors, and of random related items drawn for each
        Where a partner was drawn already, one more item with relations takes its place, so that
        all batches are of one size: kernels are prepared, and memory taken, for each new size.
    others : rows to add as they are, such as a draw of the long tail; none with relations

    Returns
    -------
    (m,) rows, ascending, each once
        m is anchors * (1 + partners) + len(others), or all items with relations and the others.
    """
    degree = np.diff(related.indptr)
    linked = np.flatnonzero(degree)
    size = min(anchors * (1 + partners), len(linked))
    chosen = generator.choice(linked, size=min(anchors, len(linked)), replace=False)
    place = related.indptr[chosen, None] + (
        generator.random((len(chosen), partners)) * degree[chosen, None]
    ).astype(np.int64)
    rows = np.unique(np.concatenate([chosen, related.indices[place].ravel()]))
    left = np.setdiff1d(linked, rows, assume_unique=True)
    rows = np.concatenate([rows, generator.choice(left, size=size - len(rows), replace=False)])
    extra = np.empty(0, dtype=np.int64) if others is None else others
    return np.unique(np.concatenate([rows, extra]).astype(np.int64))
