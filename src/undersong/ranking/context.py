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
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from undersong.embeddings import unit
from undersong.errors import ArtifactError
from undersong.features import Modality
from undersong.io.tensors import map_tensors, write_tensors
from undersong.processors import computed_once
from undersong.progress import Progress, silent, watched
from undersong.ranking.cells import Cells, highest, make_cells

SHOWN = 32  # relations of a candidate that are looked at one by one
HUB = 10  # nearest items that tell how crowded it is around one
AROUND = 2048  # items that are looked at for that, of more than are one cell
NEAR = 30  # nearest linked items of each that walks begin from, or end at
KIN = 48  # nearest items of each that may be linked, whichever of their relations are seen
BLOCK = 1 << 16  # rows of those held at once
FOLLOWED, FOLLOWERS = 8, 16  # linked items that an unlinked one follows; such that follow a linked
WARMTH = 0.05  # temperature of the softmax over their cosines
WIDTH = 256  # of the vectors that say where walks of an item lead
PART = 64  # of that width at a time: of a million items few numbers are float32
HOPS = 6  # longest of those walks
FARTHER = 4.0  # what the next hop weighs beside the last

Kin = tuple[NDArray[np.int32], NDArray[np.float32]]  # items near to each and cosines, (n, 48)

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
    "walks of both",
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
    made : ``cells`` of these vectors where they were made before, as in a run
    linkable : (n,) bool, items that are linked in any of the relations that may be seen in turn
    near : ``kin`` of these vectors where it was computed before
    led : (n, 256) float16, ``walked`` by these relations where it was computed before, as in a run
    progress : who hears of ``nearest`` and ``walked``, of which very many items take a minute
    """

    vectors: NDArray[np.float32]
    sources: Sequence[Modality]
    relations: scipy.sparse.csr_matrix
    measured: NDArray[np.float32] | None = None
    stored: scipy.sparse.csr_matrix | None = None
    made: Cells | None = None
    linkable: NDArray[np.bool_] | None = None
    near: Kin | None = None
    led: NDArray[np.float16] | None = None
    progress: Progress = silent

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

    @computed_once
    def degree(self) -> NDArray[np.int64]:
        """Relations of each item, (n,)."""
        return np.asarray(np.diff(self.relations.indptr), dtype=np.int64)

    @computed_once
    def embedded(self) -> NDArray[np.bool_]:
        """Return which items have an E_G, (n,)."""
        return np.asarray(self.vectors.any(axis=1))

    @computed_once
    def known(self) -> NDArray[np.bool_]:
        """Return which items can ask and be answers: those with an E_G or a relation, (n,)."""
        return self.embedded | (self.degree > 0)

    @computed_once
    def linked(self) -> NDArray[np.int64]:
        """Rows of the items that have relations and an E_G."""
        return np.flatnonzero((self.degree > 0) & self.embedded)

    @computed_once
    def cells(self) -> Cells:
        """Cells of the items that have an E_G: who is near whom is looked up in them."""
        return self.made or make_cells(self.vectors, np.flatnonzero(self.embedded))

    @computed_once
    def crowd(self) -> NDArray[np.float32]:
        """Mean cosine of each item to its 10 nearest, (n,): high for a hub (CSLS)."""
        return self._around[0] if self.measured is None else self.measured

    @computed_once
    def kin(self) -> Kin:
        """The 48 items nearest to each that are ``linkable``, best first."""
        return self._around[1] if self.near is None else self.near

    @computed_once
    def _around(self) -> tuple[NDArray[np.float32], Kin]:
        return self._look_around(silent)

    def looking_around(self, progress: Progress) -> RankingContext:
        """Return the same with ``cells``, ``crowd`` and ``kin``, of which very many items take
        minutes."""
        made = self.made or make_cells(
            self.vectors, np.flatnonzero(self.embedded), progress=progress
        )
        seen = replace(self, made=made, progress=progress)
        crowd, kin = seen._look_around(progress)
        return replace(seen, measured=crowd, near=kin)

    def _look_around(self, progress: Progress) -> tuple[NDArray[np.float32], Kin]:
        """Look around every item once."""
        done, n = 0, len(self.vectors)
        progress("who is near whom", done, n)
        linkable = self.degree > 0 if self.linkable is None else self.linkable
        crowd = np.zeros(n, dtype=np.float32)
        items = np.full((n, KIN), -1, dtype=np.int32)
        nearness = np.full((n, KIN), -np.inf, dtype=np.float32)
        some = np.flatnonzero(self.embedded)
        for places, others, cosines in self.cells.compare(self.vectors, some, looked=AROUND):
            done += len(places)
            progress("who is near whom", done, n)
            rows, k = some[places], min(HUB, max(len(others) - 1, 1))
            crowd[rows] = np.partition(cosines, len(others) - k)[:, len(others) - k :].mean(axis=1)
            others, cosines = others[linkable[others]], cosines[:, linkable[others]]
            best = highest(cosines, KIN)
            values = np.take_along_axis(cosines, best, axis=1)
            turn = np.argsort(-values, axis=1, kind="stable")
            nearness[rows, : best.shape[1]] = np.take_along_axis(values, turn, axis=1)
            items[rows, : best.shape[1]] = others[np.take_along_axis(best, turn, axis=1)]
        progress("who is near whom", n, n)
        return np.where(np.isfinite(crowd), crowd, 0), (items, nearness)

    @computed_once
    def nearest(self) -> scipy.sparse.csr_matrix:
        """Softmax over the cosines of the 30 linked items nearest to each item, (n, n).

        Best first, and zeros where there are fewer. Linked and unlinked items have it alike: where
        a walk cannot end at an item that has no relations, it can end at these.
        """
        if self.stored is not None:
            return self.stored
        n, (kin, nearness) = len(self.vectors), self.kin
        items = np.zeros((n, NEAR), dtype=np.int32)
        weights = np.zeros((n, NEAR), dtype=np.float32)
        for start in watched(range(0, n, BLOCK), self.progress, "nearest linked"):
            rows = slice(start, start + BLOCK)
            there = np.isfinite(nearness[rows]) & (self.degree[kin[rows]] > 0)
            first = np.argsort(~there, axis=1, kind="stable")[:, :NEAR]
            there = np.take_along_axis(there, first, axis=1)
            items[rows] = np.where(there, np.take_along_axis(kin[rows], first, axis=1), 0)
            values = np.take_along_axis(nearness[rows], first, axis=1)
            weights[rows] = softmax(np.where(there, values, -10), WARMTH) * there
        cells = (weights.ravel(), items.ravel(), np.arange(0, n * NEAR + 1, NEAR))
        return scipy.sparse.csr_matrix(cells, shape=(n, n))

    @computed_once
    def walked(self) -> NDArray[np.float16]:
        """Where walks from each item lead: a vector of length 1, or zeros if nowhere, (n, 256).

        Every item sends a random vector along the relations. The sum of those that arrive at an
        item has length 1 before it goes on, so that many roads count for more than one broad one:
        an untrained graph network, in four parts that each have a length. An item without relations
        has the mean of its ``nearest``. The cosine of two items says how far their walks lead to
        the same places.
        """
        if self.led is not None:
            return self.led
        n, unlinked = len(self.vectors), np.flatnonzero(self.degree == 0)
        share = scipy.sparse.diags(1 / np.maximum(self.degree, 1), dtype=np.float32)
        onward = (share @ self.relations.astype(np.float32)).tocsr()
        random, parts = np.random.default_rng(0), WIDTH // PART
        walked = np.empty((n, WIDTH), np.float16)
        for done, first in enumerate(range(0, WIDTH, PART)):
            sent = onward @ (
                random.standard_normal((n, PART), dtype=np.float32) / np.float32(np.sqrt(PART))
            )
            part = unit(sent)
            for hop in range(1, HOPS):
                self.progress("walks", HOPS * done + hop, HOPS * parts)
                part = onward @ part
                part *= FARTHER
                part += sent
                length = np.sqrt(np.einsum("nw,nw->n", part, part))[:, None]
                part /= np.where(length > 0, length, 1)
            part[unlinked] = unit(self.nearest[unlinked] @ part)
            walked[:, first : first + PART] = part / np.float32(np.sqrt(parts))
        self.progress("walks", HOPS * parts, HOPS * parts)
        return walked

    @computed_once
    def followers(self) -> scipy.sparse.csr_matrix:
        """Unlinked items that are nearest to each linked one, (n, n): a walk goes on to those."""
        n = len(self.vectors)
        loose = np.flatnonzero((self.degree == 0) & self.embedded)
        width = len(self.nearest.indices) // max(n, 1)
        some = slice(0, min(FOLLOWED, width))
        leads = self.nearest.indices.reshape(n, width)[loose, some]
        weights = self.nearest.data.reshape(n, width)[loose, some]
        item, lead = np.repeat(loose, leads.shape[1]), leads.ravel()
        turn = np.lexsort((-weights.ravel(), lead))
        turn = turn[weights.ravel()[turn] > 0]
        item, lead, weights = item[turn], lead[turn], weights.ravel()[turn]
        place = np.arange(len(lead)) - np.searchsorted(lead, lead)
        chosen = place < FOLLOWERS
        cells = (weights[chosen], (lead[chosen], item[chosen]))
        return scipy.sparse.csr_matrix(cells, shape=(n, n))

    @computed_once
    def common_weight(self) -> NDArray[np.float32]:
        """Weight of an item that two others have in common: 1 / ln(relations) (Adamic-Adar)."""
        several = self.degree > 1
        return np.where(several, 1 / np.log(np.maximum(self.degree, 2)), 0).astype(np.float32)

    def seeing(self, relations: scipy.sparse.csr_matrix) -> RankingContext:
        """Return the same items with other relations to see; who is near whom, which costs most,
        stays, unless items are linked that were not ``linkable``."""
        seen = replace(
            self,
            relations=relations,
            measured=self.crowd,
            stored=None,
            made=self.cells,
            led=None,
        )
        linkable = self.degree > 0 if self.linkable is None else self.linkable
        if (linkable | (seen.degree == 0)).all():
            return replace(seen, linkable=linkable, near=self.kin)
        return replace(seen, linkable=None, near=None)

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
PARTS = ("order", "starts", "beside")  # of the cells of E_G


def write(path: Path, evidence: RankingContext) -> None:
    """Write sources and relations of n items, how crowded it is around each, and who is nearest.

    Their vectors have a file of their own.
    """
    relations, sources = evidence.relations, evidence.sources
    arrays = {"relations.indptr": relations.indptr, "relations.indices": relations.indices}
    arrays |= {"crowd": evidence.crowd, "walked": evidence.walked}
    arrays |= {f"cells.{name}": getattr(evidence.cells, name) for name in PARTS}
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
    about, arrays = map_tensors(path, version=FORMAT)
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
    made = Cells(*(arrays[f"cells.{x}"] for x in PARTS)) if "cells.order" in arrays else None
    return RankingContext(
        vectors,
        tuple(sources),
        related,
        measured=arrays.get("crowd"),
        stored=nearest,
        made=made,
        led=arrays.get("walked"),
    )


def _source(arrays: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Modality:
    missing = arrays[f"{number}.missing"].astype(bool, copy=False)
    if f"{number}.values" in arrays:
        values: NDArray[np.float32] | scipy.sparse.csr_matrix = arrays[f"{number}.values"]
    else:
        cells = tuple(arrays[f"{number}.{name}"] for name in CELLS)
        values = scipy.sparse.csr_matrix(cells, shape=(len(missing), about["width"]))
    return Modality(about["name"], values, missing, about["weight"])
