"""Judge a run by relations that it never saw: a later list, another platform's, an expert's.

The answers of the run are judged as they are given, with E_G and all relations that it was trained
on. Right is what the file knows and the catalogue does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Kind, rows_of
from undersong.errors import DataError
from undersong.evaluation.method import Method, make_ties
from undersong.evaluation.protocols import (
    About,
    EvaluationSettings,
    by_degree,
    degree_of,
    found_pool,
    judge_all,
    protocol_of,
    with_combined,
)
from undersong.evaluation.results import Protocol
from undersong.evaluation.scoring import Pool, Traits
from undersong.io.files import reading
from undersong.io.table_files import DAMAGE
from undersong.progress import Progress, silent

COLUMNS = ("a", "b")


@dataclass(frozen=True)
class Truth:
    """Relations that a run never saw, and what of a file was left out.

    Parameters
    ----------
    relations : (n, n) bool, symmetric
    pairs : how many there are
    unknown : pairs with an id that the catalogue has not
    shown : pairs that the run was trained on
    twice : pairs that the file holds more than once, or of an item with itself
    """

    relations: sparse.csr_matrix
    pairs: int
    unknown: int
    shown: int
    twice: int

    @property
    def note(self) -> str:
        """One line on what was read and what was left out."""
        return (
            f"{self.pairs:,} pairs that the run never saw; left out: {self.shown:,} that it was "
            f"trained on, {self.unknown:,} with an unknown id, {self.twice:,} twice or of an item "
            "with itself."
        )


def read_truth(path: Path, ids: Sequence[str], visible: sparse.csr_matrix) -> Truth:
    """Read pairs of ids from the columns ``a`` and ``b`` of a CSV file.

    Parameters
    ----------
    ids : of the n items
    visible : (n, n) bool, relations that the run was trained on

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or holds no pair that the run never saw.
    """
    fault, hint = "cannot be read as CSV", "give a file in UTF-8 with the columns a and b"
    with reading(path, *DAMAGE, fault=fault, hint=hint, error=DataError):
        table = pl.read_csv(path, infer_schema=False)
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r}, only {', '.join(table.columns)}; the columns a "
            "and b hold the ids of two similar items each"
        )
    known = pl.Series(ids, dtype=pl.String)
    a, b = (rows_of(table[name].fill_null(""), known) for name in COLUMNS)
    both = (a >= 0) & (b >= 0)
    pairs = np.sort(np.stack([a[both], b[both]], axis=1), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    cells = sparse.triu(visible, format="coo")
    n = visible.shape[0]
    fresh = ~np.isin(pairs @ [n, 1], cells.row.astype(np.int64) * n + cells.col)
    a, b = pairs[fresh].T
    if not len(a):
        raise DataError(
            f"{path}: none of its {len(table):,} pairs can judge: {(~both).sum():,} name an id "
            f"that the catalogue has not, {(~fresh).sum():,} were trained on"
        )
    ones = np.ones(2 * len(a), dtype=bool)
    relations = sparse.csr_matrix((ones, (np.append(a, b), np.append(b, a))), shape=(n, n))
    return Truth(
        relations,
        pairs=len(a),
        unknown=int((~both).sum()),
        shown=int((~fresh).sum()),
        twice=int(both.sum()) - len(pairs),
    )


def judge_truth(
    methods: Sequence[Method],
    truth: sparse.csr_matrix,
    visible: sparse.csr_matrix,
    *,
    kind: Kind,
    traits: Traits,
    reference: str,
    settings: EvaluationSettings,
    progress: Progress = silent,
) -> tuple[Protocol, ...]:
    """Judge methods by relations that the run never saw, (n, n) bool: ``ask``, ``found``, ``more``.

    Parameters
    ----------
    visible : (n, n) bool, relations that the run was trained on
    """
    pools = _pools(truth, visible, seed=settings.seed)
    ties = make_ties(truth.shape[0], seed=settings.seed)
    seen = replace(traits, long_tail=degree_of(visible) == 0)
    methods = [x for x in methods if not x.sees_edges]
    answers = judge_all(
        methods, pools, traits=seen, ties=ties, settings=settings, progress=progress
    )
    protocols: dict[str, Protocol] = {}
    for name, pool in pools.items():
        judged = {x: own[name] for x, own in answers.items()}
        about = About(kind, "unlinked", pool, seen, len(pool.candidates), reference, settings)
        slices: Mapping[str, NDArray[np.bool_]] = by_degree(
            "visible degree {}", degree_of(visible)[pool.queries]
        )
        protocols[name] = protocol_of(name, judged, slices, about)
    if "found" in protocols and "ask, labelled" in protocols:
        protocols["found"] = with_combined(protocols["found"], protocols["ask, labelled"])
    progress("evaluate", 1, 1)
    return tuple(protocols.values())


def _pools(truth: sparse.csr_matrix, visible: sparse.csr_matrix, *, seed: int) -> dict[str, Pool]:
    """Who asks whom; questions that nobody asks are left out."""
    everything = np.arange(truth.shape[0])
    linked, named = degree_of(visible) > 0, degree_of(truth) > 0
    asking = np.flatnonzero(named & ~linked)
    labelled = np.flatnonzero(linked | named)
    among_linked = truth.multiply(linked[:, None]).multiply(linked[None, :]).tocsr()
    among_linked.eliminate_zeros()
    more = np.flatnonzero(degree_of(among_linked) > 0)
    pools = {
        "ask, labelled": Pool(asking, labelled, everything, truth, pool=everything),
        "ask": Pool(asking, everything, everything, truth),
        "found": found_pool(visible, truth, ~linked, everything, seed=seed),
        "more": Pool(more, everything, everything, among_linked.astype(bool), shown=visible),
    }
    return {name: pool for name, pool in pools.items() if len(pool.queries)}
