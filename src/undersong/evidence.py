"""What speaks for two items being similar: E_G, each source, and the relations around them.

The paper answers with the cosine of E_G alone. A long-tail item has no relations, but the items
nearest to it may have: where those lead is evidence, too. This module gathers it, for a few
candidates of each query, as numbers that ``undersong.ranker`` weighs. No torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse

from undersong.errors import ArtifactError
from undersong.files import replacing
from undersong.inputs import Source

FORMAT = 1
NEAR = 30  # nearest linked items that a narrow walk begins from
FAR = 100  # and a wide one
WARMTH = 0.05  # temperature of the softmax over their cosines; twice that for the wide walk
FLOOR = 1e-4  # added before a logarithm: about one of FAR items with FAR relations
OWN_STEPS = 5  # longest walk from the relations of the query itself
ONWARD = 0.8  # chance that such a walk goes on after each step
SHOWN = 32  # relations of a candidate that are looked at one by one
HUB = 10  # nearest items that tell how crowded it is around one
BLOCK = 1024  # rows of similarities held at once

EDGE_FREE = ("cosine", "rank of cosine", "crowd of candidate", "crowd of query")
ON_RELATIONS = (
    "narrow walk",
    "wide walk",
    "long walk",
    "rank of walk",
    "relations of candidate",
    "mean cosine to its relations",
    "best cosine to its relations",
    "own walk",
    "own long walk",
    "relations in common",
    "relations of query",
)


@dataclass(frozen=True)
class Evidence:
    """All that answers about n items may use.

    Parameters
    ----------
    vectors : (n, d) float32, E_G, unit length; zeros where missing
    sources : what GRM read of each item
    relations : (n, n) bool, symmetric, those that may be seen
    """

    vectors: NDArray[np.float32]
    sources: Sequence[Source]
    relations: sparse.csr_matrix

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of ``features``, in order."""
        shared = [f"same {x.name}" for x in self.sources]
        lacking = [f"no {x.name}" for x in self.sources]
        return (*EDGE_FREE, *shared, *lacking, *ON_RELATIONS)

    @property
    def on_relations(self) -> NDArray[np.bool_]:
        """Say which columns of ``features`` read relations."""
        return np.array([name in ON_RELATIONS for name in self.names])

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """Relations of each item, (n,)."""
        return np.asarray(np.diff(self.relations.indptr), dtype=np.int64)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Say which items have an E_G, (n,)."""
        return np.asarray(np.abs(self.vectors).sum(axis=1) > 0)

    @cached_property
    def linked(self) -> NDArray[np.int64]:
        """Rows of the items that have relations and an E_G."""
        return np.flatnonzero((self.degree > 0) & self.known)

    @cached_property
    def step(self) -> sparse.csr_matrix:
        """Where a walk goes from each item, (n, n); a row sums to 1, or to 0 without relations."""
        scale = sparse.diags(1 / np.maximum(self.degree, 1))
        return (scale @ self.relations.astype(np.float32)).tocsr().astype(np.float32)

    @cached_property
    def arrivals(self) -> sparse.csr_matrix:
        """Where a walk comes from, (n, n): ``step`` turned over."""
        return self.step.T.tocsr()

    @cached_property
    def crowd(self) -> NDArray[np.float32]:
        """Mean cosine of each item to its 10 nearest, (n,): high for a hub (CSLS)."""
        n = len(self.vectors)
        k = min(HUB, n - 1)
        found = np.empty(n, dtype=np.float32)
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            cosines = self.cosines(rows)
            found[rows] = np.partition(cosines, n - k, axis=1)[:, n - k :].mean(axis=1)
        return found

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Up to 32 related items of each, (n, 32), -1 where there are no more."""
        n = len(self.degree)
        place = np.arange(SHOWN)[None, :]
        table = np.full((n, SHOWN), -1, dtype=np.int64)
        kept = place < self.degree[:, None]
        at = self.relations.indptr[:-1, None] + place
        table[kept] = self.relations.indices[at[kept]]
        return table

    @cached_property
    def common_weight(self) -> NDArray[np.float32]:
        """Weight of an item that two others have in common: 1 / ln(relations) (Adamic-Adar)."""
        several = self.degree > 1
        return np.where(several, 1 / np.log(np.maximum(self.degree, 2)), 0).astype(np.float32)

    def cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine of E_G to every item, (q, n); -1 to itself."""
        found = self.vectors[rows] @ self.vectors.T
        found[np.arange(len(rows)), rows] = -1
        return np.asarray(found, dtype=np.float32)


@dataclass(frozen=True)
class Gathered:
    """Evidence of some queries for their candidates.

    Parameters
    ----------
    rows : (q,) who asks
    candidates : (q, c) rows, in order of ``prior``; -1 where there are fewer
    features : (q, c, f) float32, columns as in ``Evidence.names``; 0 where nothing is known
    prior : (q, n) float32, a rule of thumb that puts every item in an order
        It chooses the candidates and orders the others behind them.
    """

    rows: NDArray[np.int64]
    candidates: NDArray[np.int64]
    features: NDArray[np.float32]
    prior: NDArray[np.float32]


def gather(
    evidence: Evidence,
    rows: NDArray[np.int64],
    *,
    count: int,
    among: NDArray[np.bool_] | None = None,
    excluded: sparse.csr_matrix | None = None,
) -> Gathered:
    """Choose the likeliest candidates of each query and gather what speaks for them.

    Parameters
    ----------
    rows : (q,) who asks
    count : candidates of each
    among : (n,) bool, who may be a candidate; everybody if None
    excluded : (n, n) bool, pairs that are no candidates, such as relations known already
    """
    cosines = evidence.cosines(rows)
    walks = _walks(evidence, cosines, rows)
    prior = cosines + 3 * walks["narrow walk"] + 3 * walks["own walk"]
    prior += 0.02 * np.log1p(evidence.degree)[None, :]
    out = ~evidence.known if among is None else ~(among & evidence.known)
    prior[:, out] = -np.inf
    prior[np.arange(len(rows)), rows] = -np.inf
    if excluded is not None:
        prior[excluded[rows].toarray()] = -np.inf
    likeliest = _likeliest(prior, cosines, count)
    columns = _columns(evidence, rows, likeliest, cosines, walks)
    features = np.stack([columns[name] for name in evidence.names], axis=-1).astype(np.float32)
    features[likeliest < 0] = 0
    return Gathered(rows, likeliest, features, prior)


def _likeliest(
    prior: NDArray[np.float32], cosines: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Rows of the candidates, (q, count): a third by cosine alone, the others by the prior."""
    q, n = prior.shape
    count = min(count, n)
    near = np.where(np.isfinite(prior), cosines, -np.inf)
    third = max(1, count // 3)
    order = np.argpartition(-near, third - 1, axis=1)[:, :third]
    wanted = prior.copy()
    chosen = np.take_along_axis(prior, order, axis=1)
    np.put_along_axis(wanted, order, np.where(np.isfinite(chosen), chosen + 1e3, -np.inf), axis=1)
    best = np.argpartition(-wanted, count - 1, axis=1)[:, :count]
    score = np.take_along_axis(prior, best, axis=1)
    turn = np.argsort(-score, axis=1, kind="stable")
    best = np.take_along_axis(best, turn, axis=1)
    return np.where(np.isfinite(np.take_along_axis(prior, best, axis=1)), best, -1)


def _walks(
    evidence: Evidence, cosines: NDArray[np.float32], rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Where walks along the relations end, (q, n) each: from the nearest, and from one's own."""
    narrow = _onward(evidence, _start(evidence, cosines, NEAR, WARMTH))
    own, own_long = _own_walks(evidence, rows)
    common = evidence.relations[rows].astype(np.float32) @ sparse.diags(evidence.common_weight)
    return {
        "narrow walk": narrow,
        "wide walk": _onward(evidence, _start(evidence, cosines, FAR, 2 * WARMTH)),
        "long walk": _onward(evidence, narrow),
        "own walk": own,
        "own long walk": own_long,
        "relations in common": _dense(common @ evidence.relations.astype(np.float32)),
    }


def _own_walks(
    evidence: Evidence, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Walks of one and two steps, and of three to five, from the query's own relations, (q, n)."""
    short = np.zeros((len(rows), len(evidence.degree)), dtype=np.float32)
    long = short.copy()
    some = np.flatnonzero(evidence.degree[rows])
    if not len(some):
        return short, long
    walk = np.zeros((len(some), short.shape[1]), dtype=np.float32)
    walk[np.arange(len(some)), rows[some]] = 1
    for turn in range(OWN_STEPS):
        walk = ONWARD * _onward(evidence, walk)
        (short if turn < 2 else long)[some] += walk
    return short, long


def _onward(
    evidence: Evidence, walk: NDArray[np.float32] | sparse.csr_matrix
) -> NDArray[np.float32]:
    """Go one step along the relations, (q, n) -> (q, n)."""
    if isinstance(walk, np.ndarray):
        return np.ascontiguousarray((evidence.arrivals @ walk.T).T)
    return _dense(walk @ evidence.step)


def _start(
    evidence: Evidence, cosines: NDArray[np.float32], count: int, warmth: float
) -> sparse.csr_matrix:
    """Softmax over the cosines of the nearest linked items, (q, n); zeros if nobody is linked."""
    q, n = cosines.shape
    count = min(count, len(evidence.linked))
    if not count:
        return sparse.csr_matrix((q, n), dtype=np.float32)
    near = cosines[:, evidence.linked]
    best = np.argpartition(-near, count - 1, axis=1)[:, :count]
    weight = np.take_along_axis(near, best, axis=1)
    weight = np.exp((weight - weight.max(axis=1, keepdims=True)) / warmth)
    weight /= weight.sum(axis=1, keepdims=True)
    places = np.arange(0, q * count + 1, count)
    cells = (weight.ravel(), evidence.linked[best].ravel(), places)
    return sparse.csr_matrix(cells, shape=(q, n))


def _columns(
    evidence: Evidence,
    rows: NDArray[np.int64],
    likeliest: NDArray[np.int64],
    cosines: NDArray[np.float32],
    walks: dict[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float32]]:
    """Every column of the features, (q, c) each, by name."""

    def of(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.take_along_axis(values, likeliest, axis=1)

    cosine = of(cosines)
    columns = {name: np.log(of(walk) + FLOOR) for name, walk in walks.items()}
    columns["relations in common"] = np.log1p(of(walks["relations in common"]))
    crowd, degree = evidence.crowd, np.log1p(evidence.degree).astype(np.float32)
    shape = likeliest.shape
    related = evidence.shown[likeliest]  # (q, c, 32)
    seen = related >= 0
    to_related = cosines[np.arange(len(rows))[:, None, None], related]
    best = np.where(seen, to_related, -1).max(axis=2)
    mean = np.where(seen, to_related, 0).sum(axis=2) / np.maximum(seen.sum(axis=2), 1)
    columns |= {
        "cosine": cosine,
        "rank of cosine": _rank(cosine),
        "crowd of candidate": crowd[likeliest],
        "crowd of query": np.broadcast_to(crowd[rows][:, None], shape),
        "rank of walk": _rank(of(walks["narrow walk"] + walks["own walk"])),
        "relations of candidate": degree[likeliest],
        "relations of query": np.broadcast_to(degree[rows][:, None], shape),
        "mean cosine to its relations": mean,
        "best cosine to its relations": np.where(seen.any(axis=2), best, 0),
    }
    for source in evidence.sources:
        lacking = source.missing[rows][:, None] | source.missing[likeliest]
        columns[f"no {source.name}"] = lacking.astype(np.float32)
        columns[f"same {source.name}"] = np.where(lacking, 0, _alike(source, rows, likeliest))
    return columns


def _alike(
    source: Source, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Products of what a source says of each query and of its candidates, (q, c)."""
    asked, values = source.values[rows], source.values
    if isinstance(values, np.ndarray):
        pairs = [
            values[row] @ mine for row, mine in zip(candidates, np.asarray(asked), strict=True)
        ]
        return np.stack(pairs)
    whole = _dense(asked @ values.T) if len(rows) > 8 else None
    if whole is not None:
        return np.take_along_axis(whole, candidates, axis=1)
    some = [_dense(values[row] @ asked[at].T)[:, 0] for at, row in enumerate(candidates)]
    return np.stack(some)


def _rank(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of the place of each candidate, best first, (q, c)."""
    place = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)
    return np.log1p(place).astype(np.float32)


def _dense(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    return np.asarray(matrix.toarray(), dtype=np.float32)


def write(path: Path, sources: Sequence[Source], relations: sparse.csr_matrix) -> None:
    """Write sources and relations of n items; their vectors have a file of their own."""
    arrays = {"relations.indptr": relations.indptr, "relations.indices": relations.indices}
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
    with replacing(path) as temporary:
        save_file(arrays, temporary, {"format": str(FORMAT), "sources": json.dumps(about)})


def read(path: Path, vectors: NDArray[np.float32]) -> Evidence:
    """Read what ``write`` wrote, for items with these vectors.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format, or of other items.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); train again") from error
    if about.get("format") != str(FORMAT):
        raise ArtifactError(
            f"{path}: format {about.get('format')}, but this version reads {FORMAT}; train again"
        )
    n = len(arrays["relations.indptr"]) - 1
    if n != len(vectors):
        raise ArtifactError(f"{path} is about {n} items, but {len(vectors)} have a vector")
    sources = [_source(arrays, number, x) for number, x in enumerate(json.loads(about["sources"]))]
    cells = (
        np.ones(len(arrays["relations.indices"]), dtype=bool),
        arrays["relations.indices"],
        arrays["relations.indptr"],
    )
    return Evidence(vectors, tuple(sources), sparse.csr_matrix(cells, shape=(n, n)))


def _source(arrays: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Source:
    missing = arrays[f"{number}.missing"].astype(bool)
    if f"{number}.values" in arrays:
        values: NDArray[np.float32] | sparse.csr_matrix = arrays[f"{number}.values"]
    else:
        cells = tuple(arrays[f"{number}.{name}"] for name in ("data", "indices", "indptr"))
        values = sparse.csr_matrix(cells, shape=(len(missing), about["width"]))
    return Source(about["name"], values, missing, about["weight"])
