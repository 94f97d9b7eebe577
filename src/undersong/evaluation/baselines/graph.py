"""Baselines on the known relations, for items that have some: no training."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.evaluation.method import Method, by_query
from undersong.relations import Task, known


def visible_edges(task: Task, split: str) -> sparse.csr_matrix:
    """Relations that protocol ``linked`` shows, (n, n) bool, symmetric.

    Those between two training items, and between a training item and one of ``split``. A
    relation between two items that are not for training is never visible.
    """
    train = task.within("train")
    shown = known(task.catalogue, task.kind, train | task.within(split)).tocoo()
    touches = train[shown.row] | train[shown.col]
    cells = (shown.data[touches], (shown.row[touches], shown.col[touches]))
    return sparse.csr_matrix(cells, shape=shown.shape, dtype=bool)


def personalised_pagerank(
    edges: sparse.csr_matrix, *, restart: float = 0.3, steps: int = 20
) -> Method:
    """Probability that a walk from the query, which starts again at any step, is at an item.

    Parameters
    ----------
    edges : (n, n) bool, symmetric
    restart : probability of going back to the query, in (0, 1)
    steps : longest walk that counts

    A query without edges has no idea: all its scores are 0.
    """
    degree = np.asarray(edges.sum(axis=1)).ravel()
    spread = (edges.astype(np.float32) @ sparse.diags(1 / np.maximum(degree, 1))).tocsr()
    spread = spread.astype(np.float32)  # column j holds where a walk goes from j

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        itself = rows, np.arange(len(rows))
        walk = np.zeros((edges.shape[0], len(rows)), dtype=np.float32)
        walk[itself] = restart
        for _ in range(steps):
            walk = spread @ walk
            walk *= 1 - restart
            walk[itself] += restart
        return by_query(walk)

    return Method("PageRank", scores, sees_edges=True, note=f"personalised, restart {restart:g}")


def adamic_adar(edges: sparse.csr_matrix) -> Method:
    """Sum over the items related to both of 1 / ln(how many relations those have).

    Source
    ------
    Adamic and Adar, Friends and neighbors on the Web, Social Networks 25, 2003.
    """
    degree = np.asarray(edges.sum(axis=1)).ravel()
    # A neighbour of two items has two relations, so the log of 1 never weighs anything.
    weight = np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0).astype(np.float32)
    links = edges.astype(np.float32).tocsr()
    weighted = (links @ sparse.diags(weight)).tocsr().astype(np.float32)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.asarray((weighted[rows] @ links).toarray(), dtype=np.float32)
        return scores

    return Method("Adamic-Adar", scores, sees_edges=True, note="common relations")


def common_neighbours(edges: sparse.csr_matrix) -> Method:
    """Count the items that are related to both.

    Source
    ------
    Liben-Nowell and Kleinberg, The Link Prediction Problem for Social Networks, CIKM 2003.
    """
    links = edges.astype(np.float32).tocsr()

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.asarray((links[rows] @ links).toarray(), dtype=np.float32)
        return scores

    return Method("common neighbours", scores, sees_edges=True, note="items related to both")
