"""Protocol ``directed``: relations that point one way and have a weight, as Deezer publishes them.

The cold start protocol of Salha-Galvan et al., "Cold Start Similar Artists Ranking with
Gravity-Inspired Graph Autoencoders", RecSys 2021, https://arxiv.org/abs/2108.01053: items that
nobody pointed at or from while training ask the whole catalogue, and right is whoever they point
to. A catalogue has such relations where ``directed.parquet`` lies beside it (``import deezer``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import rows_of
from undersong.errors import ArtifactError
from undersong.evaluation.method import Method, blocks, make_ties, rank
from undersong.evaluation.protocols import EvaluationSettings
from undersong.evaluation.results import DEPTHS, Protocol, Slice
from undersong.evaluation.scoring import Judged, summarise
from undersong.io.table_files import read_table

FILE = "directed.parquet"
MEANING = (
    "Each {split} {kind} is a query, the whole catalogue the candidates; right are those it points "
    "to, and the more similar, the better. All its links were hidden. The published protocol of "
    "Deezer's similar artists."
)


def read_directed(folder: Path, ids: Sequence[str]) -> sparse.csr_matrix | None:
    """Read who points to whom, (n, n) float64 similarity above 0; None where nobody said.

    Raises
    ------
    ArtifactError
        If the file cannot be read or names an item that the catalogue has not.
    """
    path = folder / FILE
    if not path.exists():
        return None
    remedy = "make the catalogue again with `undersong import`"
    table = read_table(path, hint=remedy, columns=["a", "b", "similarity"])
    table = table.filter(pl.col("similarity") > 0, pl.col("a") != pl.col("b"))
    known, n = pl.Series(ids, dtype=pl.String), len(ids)
    a, b = (rows_of(table[name], known) for name in ("a", "b"))
    for name, rows in (("a", a), ("b", b)):
        if (rows < 0).any():
            strange = table[name][int(np.argmin(rows))]
            raise ArtifactError(
                f"{path} names {strange!r}, which is not in the catalogue; {remedy}"
            )
    return sparse.csr_matrix((table["similarity"].to_numpy(), (a, b)), shape=(n, n))


def judge_directed(
    methods: Sequence[Method],
    pointing: sparse.csr_matrix,
    *,
    kind: str,
    splits: NDArray[np.str_],
    split: str,
    reference: str,
    settings: EvaluationSettings,
) -> Protocol:
    """Judge methods by whom the items of a split point to.

    Parameters
    ----------
    methods : those that read relations of the very items that ask take no part
    pointing : (n, n) similarity of those that an item points to, 0 for others
        When validation items ask, test items are no right answers.
    splits : (n,) of each item; the rest as in ``protocols.evaluate``; ``k`` is not read
    """
    queries = np.flatnonzero(splits == split)
    if split == "validation":
        pointing = pointing @ sparse.diags((splits != "test").astype(float))
    right = pointing.tocsr()[queries]
    right.eliminate_zeros()
    judged = {
        method.name: Judged(_ask(method, right, queries, settings), answers={}, whole={})
        for method in methods
        if not method.sees_edges
    }
    answerable = np.diff(right.indptr) > 0
    nobody = np.zeros(len(queries), dtype=bool)
    numbers = summarise(
        judged,
        reference=reference,
        asking=nobody,
        answerable=answerable,
        whole=False,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Protocol(
        name="directed",
        meaning=MEANING.format(split=split, kind=kind),
        candidates=len(splits),
        skipped=int((~answerable).sum()),
        hub_queries=len(splits),
        slices=(
            Slice("all", len(queries), int(answerable.sum()), numbers),
            Slice("long tail", int((~answerable).sum()), 0, {}),
        ),
    )


def directed_accuracy(
    similarity: NDArray[np.float64], right: sparse.csr_matrix
) -> dict[str, NDArray[np.float64]]:
    """Score answers by how similar the query says they are, each (q,); NaN where none is right.

    Parameters
    ----------
    similarity : (q, 200) of the best answers, best first; 0 for one that the query points not to
    right : (q, n) similarity of all that it points to

    Returns
    -------
    ``recall@k`` : right ones among the first k / all right ones, R
    ``map@k`` : for each right one at rank r <= k, right ones up to there / min(r, R); summed, / R
    ``ndcg@k`` : gain similarity / log2(rank + 1), over that of the best possible order

    Source
    ------
    Salha-Galvan et al. 2021, section 4.1, as their published code computes it (``map@k`` of
    trec_eval divides by r instead; with R = 20 theirs is the larger below rank 20).
    """
    hit = similarity > 0  # (q, 200)
    rank_of = np.arange(1, similarity.shape[1] + 1)
    total = np.diff(right.indptr)[:, None]  # (q, 1)
    precision = hit.cumsum(axis=1) / np.minimum(rank_of, np.maximum(total, 1))
    ideal = _ideal(right, similarity.shape[1])
    accuracy = {}
    with np.errstate(invalid="ignore"):
        for k in DEPTHS:
            first = hit[:, :k]
            gain, best = ((x[:, :k] / np.log2(rank_of[:k] + 1)).sum(1) for x in (similarity, ideal))
            accuracy[f"recall@{k}"] = first.sum(axis=1) / total[:, 0]
            accuracy[f"map@{k}"] = (precision[:, :k] * first).sum(axis=1) / total[:, 0]
            accuracy[f"ndcg@{k}"] = gain / best
    return accuracy


def _ask(
    method: Method,
    right: sparse.csr_matrix,
    queries: NDArray[np.int64],
    settings: EvaluationSettings,
) -> Mapping[str, NDArray[np.float64]]:
    """Ask a method all questions, and score what it answers."""
    n = right.shape[1]
    everything, deepest = np.arange(n), max(DEPTHS)
    ties = make_ties(n, seed=settings.seed)
    scores = method.among(everything) if method.among else method.scores
    similarity = np.zeros((len(queries), deepest))
    done = 0
    for rows in blocks(queries, n=n, block=settings.block):
        try:
            top = rank(
                scores(rows),
                rows,
                candidates=everything,
                groups=everything,
                relevant=None,
                ties=ties,
                k=deepest,
            ).top
        except ArtifactError as error:
            raise ArtifactError(f"method {method.name!r}: {error}") from error
        similarities = right[done : done + len(rows)].toarray()  # (block, n)
        values = np.take_along_axis(similarities, np.maximum(top, 0), axis=1)
        similarity[done : done + len(rows)] = np.where(top >= 0, values, 0)
        done += len(rows)
    return directed_accuracy(similarity, right)


def _ideal(right: sparse.csr_matrix, depth: int) -> NDArray[np.float64]:
    """Similarities in the best possible order, (q, depth); 0 behind the last."""
    ideal = np.zeros((right.shape[0], depth))
    for query in range(right.shape[0]):
        own = np.sort(right.data[right.indptr[query] : right.indptr[query + 1]])[::-1][:depth]
        ideal[query, : len(own)] = own
    return ideal
