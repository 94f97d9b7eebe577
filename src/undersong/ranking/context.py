"""What speaks for two items being similar: E_G, each source, and the relations around them.

The paper answers with the cosine of E_G alone. A long-tail item has no relations, but the items
nearest to it may have: where those lead is evidence, too. ``undersong.ranking.candidates`` makes
numbers of it for a few candidates of each query, and ``undersong.ranking.ranker`` weighs them. No
torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.errors import ArtifactError
from undersong.features import Modality
from undersong.io.tensors import read_tensors, write_tensors

SHOWN = 32  # relations of a candidate that are looked at one by one
HUB = 10  # nearest items that tell how crowded it is around one
CROWD = 32_768  # items that are looked at for that: of more, a random part
BLOCK = 1024  # rows of similarities held at once
NEAR = 30  # nearest linked items of each that walks begin from, or end at
WARMTH = 0.05  # temperature of the softmax over their cosines

EDGE_FREE = (
    "cosine",
    "rank of cosine",
    "crowd of candidate",
    "crowd of query",
    "no E_G of candidate",
    "no E_G of query",
)
ON_RELATIONS = (
    "narrow walk",
    "wide walk",
    "long walk",
    "rank of walk",
    "relations of candidate",
    "mean cosine to its relations",
    "best cosine to its relations",
    "narrow walk to its nearest",
    "own walk",
    "own walks",
    "relations in common",
    "relations of query",
    "own walks to its nearest",
    "walk from candidate",
    "mean cosine to relations of query",
    "best cosine to relations of query",
)


@dataclass(frozen=True)
class RankingContext:
    """All that answers about n items may use.

    Parameters
    ----------
    vectors : (n, d) float32, E_G, unit length; zeros where missing
    sources : what GRM read of each item
    relations : (n, n) bool, symmetric, those that may be seen
    measured : (n,) float32, ``crowd`` of these vectors where it was computed before, as in a run
    stored : (n, n) float32, ``nearest`` where it was computed before, as in a run
    """

    vectors: NDArray[np.float32]
    sources: Sequence[Modality]
    relations: scipy.sparse.csr_matrix
    measured: NDArray[np.float32] | None = None
    stored: scipy.sparse.csr_matrix | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of ``features``, in order."""
        shared = [f"same {x.name}" for x in self.sources]
        lacking = [f"no {x.name}" for x in self.sources]
        return (*EDGE_FREE, *shared, *lacking, *ON_RELATIONS)

    @property
    def on_relations(self) -> NDArray[np.bool_]:
        """Return which columns of ``features`` read relations."""
        return np.array([name in ON_RELATIONS for name in self.names])

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """Relations of each item, (n,)."""
        return np.asarray(np.diff(self.relations.indptr), dtype=np.int64)

    @cached_property
    def embedded(self) -> NDArray[np.bool_]:
        """Return which items have an E_G, (n,)."""
        return np.asarray(np.abs(self.vectors).sum(axis=1) > 0)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Return which items can ask and be answers: those with an E_G or a relation, (n,)."""
        return self.embedded | (self.degree > 0)

    @cached_property
    def linked(self) -> NDArray[np.int64]:
        """Rows of the items that have relations and an E_G."""
        return np.flatnonzero((self.degree > 0) & self.embedded)

    @cached_property
    def step(self) -> scipy.sparse.csr_matrix:
        """Where a walk goes from each item, (n, n); a row sums to 1, or to 0 without relations."""
        scale = scipy.sparse.diags(1 / np.maximum(self.degree, 1))
        return (scale @ self.relations.astype(np.float32)).tocsr().astype(np.float32)

    @cached_property
    def arrivals(self) -> scipy.sparse.csr_matrix:
        """Where a walk comes from, (n, n): ``step`` turned over."""
        return self.step.T.tocsr()

    @cached_property
    def crowd(self) -> NDArray[np.float32]:
        """Mean cosine of each item to its 10 nearest, (n,): high for a hub (CSLS).

        Of very many items to the nearest of a random 32,768, always the same.
        """
        if self.measured is not None:
            return self.measured
        n = len(self.vectors)
        among = np.arange(n)
        if n > CROWD:
            among = np.sort(np.random.default_rng(0).choice(n, CROWD, replace=False))
        place = np.full(n, -1)
        place[among] = np.arange(len(among))
        k = min(HUB, len(among) - 1)
        others, crowd = self.vectors[among].T, np.empty(n, dtype=np.float32)
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            cosines = self.vectors[rows] @ others
            there = np.flatnonzero(place[rows] >= 0)
            cosines[there, place[rows[there]]] = -1  # to itself
            highest = np.partition(cosines, len(among) - k, axis=1)[:, len(among) - k :]
            crowd[rows] = highest.mean(axis=1)
        return crowd

    @cached_property
    def nearest(self) -> scipy.sparse.csr_matrix:
        """Softmax over the cosines of the 30 linked items nearest to each item, (n, n).

        Zeros for an item without E_G. Linked and unlinked items have it alike: where a walk cannot
        end at an item that has no relations, it can end at these. Of very many linked items
        those of a random 32,768, always the same.
        """
        if self.stored is not None:
            return self.stored
        linked = self.linked
        if len(linked) > CROWD:
            linked = np.sort(np.random.default_rng(0).choice(linked, CROWD, replace=False))
        n, count = len(self.vectors), min(NEAR, max(len(linked) - 1, 0))
        weights = np.zeros((n, count), dtype=np.float32)
        items = np.zeros((n, count), dtype=np.int64)
        place = np.full(n, -1)
        place[linked] = np.arange(len(linked))
        others = self.vectors[linked].T
        for start in range(0, n if count else 0, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            cosines = self.vectors[rows] @ others
            there = np.flatnonzero(place[rows] >= 0)
            cosines[there, place[rows[there]]] = -2  # to itself
            best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            weights[rows] = softmax(np.take_along_axis(cosines, best, axis=1), WARMTH)
            items[rows] = linked[best]
        weights[~self.embedded] = 0
        cells = (weights.ravel(), items.ravel(), np.arange(0, n * count + 1, max(count, 1)))
        if not count:
            return scipy.sparse.csr_matrix((n, n), dtype=np.float32)
        return scipy.sparse.csr_matrix(cells, shape=(n, n))

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Up to 32 related items of each, (n, 32), -1 where there are no more."""
        n = len(self.degree)
        place = np.arange(SHOWN)[None, :]
        table = np.full((n, SHOWN), -1, dtype=np.int64)
        present = place < self.degree[:, None]
        at = self.relations.indptr[:-1, None] + place
        table[present] = self.relations.indices[at[present]]
        return table

    @cached_property
    def common_weight(self) -> NDArray[np.float32]:
        """Weight of an item that two others have in common: 1 / ln(relations) (Adamic-Adar)."""
        several = self.degree > 1
        return np.where(several, 1 / np.log(np.maximum(self.degree, 2)), 0).astype(np.float32)

    def seeing(self, relations: scipy.sparse.csr_matrix) -> RankingContext:
        """Return the same items with other relations to see; ``crowd``, which costs most, stays."""
        return replace(self, relations=relations, measured=self.crowd, stored=None)

    def cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of E_G to every item, (q, n); -1 to itself."""
        cosines = self.vectors[rows] @ self.vectors.T
        cosines[np.arange(len(rows)), rows] = -1
        return np.asarray(cosines, dtype=np.float32)


def softmax(values: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of each row, (q, k) -> (q, k), at a temperature."""
    weights = np.exp((values - values.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


FORMAT = 1
CELLS = ("data", "indices", "indptr")  # of a sparse matrix


def write(path: Path, evidence: RankingContext) -> None:
    """Write sources and relations of n items, how crowded it is around each, and who is nearest.

    Their vectors have a file of their own.
    """
    relations, sources = evidence.relations, evidence.sources
    arrays = {"relations.indptr": relations.indptr, "relations.indices": relations.indices}
    arrays["crowd"] = evidence.crowd
    nearest = evidence.nearest
    arrays |= {f"nearest.{name}": getattr(nearest, name) for name in CELLS}
    about = []
    for number, source in enumerate(sources):
        values = source.values
        arrays[f"{number}.missing"] = source.missing
        if isinstance(values, np.ndarray):
            arrays[f"{number}.values"] = np.ascontiguousarray(values)
        else:
            parts = {"indptr": values.indptr, "indices": values.indices, "data": values.data}
            arrays |= {f"{number}.{name}": part for name, part in parts.items()}
        about.append({"name": source.name, "width": source.width, "weight": source.weight})
    write_tensors(path, arrays, version=FORMAT, about={"sources": json.dumps(about)})


def read(path: Path, vectors: NDArray[np.float32]) -> RankingContext:
    """Read what ``write`` wrote, for items with these vectors.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format, or of other items.
    """
    about, arrays = read_tensors(path, version=FORMAT)
    n = len(arrays["relations.indptr"]) - 1
    if n != len(vectors):
        raise ArtifactError(f"{path} is about {n} items, but {len(vectors)} have a vector")
    sources = [_source(arrays, number, x) for number, x in enumerate(json.loads(about["sources"]))]
    cells = (
        np.ones(len(arrays["relations.indices"]), dtype=bool),
        arrays["relations.indices"],
        arrays["relations.indptr"],
    )
    related = scipy.sparse.csr_matrix(cells, shape=(n, n))
    nearest = None
    if "nearest.indptr" in arrays:
        stored = tuple(arrays[f"nearest.{name}"] for name in CELLS)
        nearest = scipy.sparse.csr_matrix(stored, shape=(n, n))
    return RankingContext(vectors, tuple(sources), related, arrays.get("crowd"), nearest)


def _source(arrays: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Modality:
    missing = arrays[f"{number}.missing"].astype(bool)
    if f"{number}.values" in arrays:
        values: NDArray[np.float32] | scipy.sparse.csr_matrix = arrays[f"{number}.values"]
    else:
        cells = tuple(arrays[f"{number}.{name}"] for name in CELLS)
        values = scipy.sparse.csr_matrix(cells, shape=(len(missing), about["width"]))
    return Modality(about["name"], values, missing, about["weight"])
