"""From evidence to numbers: the likeliest candidates of a query, and what speaks for each.

A query looks at the items nearest to it, at where walks along the relations end, at the unlinked
items around those ends and at its own relations: at some thousands of items, however many there
are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import scipy
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from undersong.features import Modality
from undersong.ranking.context import SHOWN, WARMTH, RankingContext, softmax

NEAREST = 400  # by cosine that are looked at, and more if more candidates are wanted
FAR = 100  # nearest linked items that a wide walk begins from, at twice the temperature
FLOOR = 1e-4  # added before a logarithm: about one of FAR items with FAR relations
LOW = 1e-6  # the same for walks from the query's own relations, which spread further
LIKE = 1e-2  # the same for the cosine of where walks lead
OWN = ("own walk", "own walks", "own walks to its nearest")
OWN_STEPS = 5  # longest walk from the relations of the query itself
ONWARD = 0.8  # chance that such a walk goes on after each step
ENDS = 512  # heaviest ends of a walk, from which it goes on
LEADING = 128  # heaviest ends around which unlinked items are looked at
HUB = 256  # relations of an item that a walk may take: of more, those that stand first
CELLS = 1 << 22  # numbers of a dense block of what sources say
WALKS = (
    "narrow walk",
    "own walks",
    "walk from candidate",
    "wide walk",
    "long walk",
    "own walk",
    "relations in common",
)
TO_NEAREST = ("narrow walk to its nearest", "own walks to its nearest", "walk from candidate")

Walk = tuple[NDArray[np.int64], NDArray[np.float32]]  # items where walks end, and how many do
Function = TypeVar("Function", bound=Callable[..., Any])


class _Scratch(threading.local):
    """Two tables of zeros, (n,) int32, of the thread's last query: a million take .3 ms to make."""

    tables = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32))


SCRATCH = _Scratch()


def one_thread(function: Function) -> Function:
    """Multiply with one thread of NumPy's in a function whose products are so small that a second
    only waits for the first."""
    wrap = ThreadpoolController().wrap(limits=1, user_api="blas")
    return cast(Function, wrap(function))


@dataclass(frozen=True)
class Candidates:
    """Evidence of some queries for their candidates.

    Parameters
    ----------
    rows : (q,) who asks
    candidates : (q, c) rows, in order of ``prior``; -1 where there are fewer
    features : (q, c, f) float32, columns as in ``Evidence.names``; 0 where nothing is known
    seen, prior : (q, p) rows of all items that were looked at, -1 where there are fewer, and a rule
        of thumb that puts them in an order; of all others it is the cosine
    """

    rows: NDArray[np.int64]
    candidates: NDArray[np.int64]
    features: NDArray[np.float32]
    seen: NDArray[np.int64]
    prior: NDArray[np.float32]

    def everything(
        self, evidence: RankingContext, *, among: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the rule of thumb for all items, (q, n); -inf for those that are no answers."""
        prior = evidence.cosines(self.rows)
        query, place = np.nonzero(self.seen >= 0)
        prior[query, self.seen[query, place]] = self.prior[query, place]
        np.copyto(prior, -np.inf, where=~(among & evidence.known))
        prior[~evidence.known[self.rows]] = -np.inf
        prior[np.arange(len(self.rows)), self.rows] = -np.inf
        return prior


@one_thread
def gather_candidates(
    evidence: RankingContext,
    rows: NDArray[np.int64],
    *,
    count: int,
    among: NDArray[np.bool_] | None = None,
    excluded: scipy.sparse.csr_matrix | None = None,
    also: Sequence[int] = (),
    long_tail: float = 0.0,
    fair: bool = True,
    both: bool = True,
) -> Candidates:
    """Choose the likeliest candidates of each query and gather what speaks for them.

    Parameters
    ----------
    rows : (q,) who asks
    count : candidates of each
    among : (n,) bool, who may be a candidate; everybody if None
    excluded : (n, n) bool, pairs that are no candidates, such as relations known already
    also : rows that are candidates whatever speaks for them
    long_tail : in [0, 1], how far the choice forgets what relations tell; with 1 it is by cosine
    fair : count for an item without relations what walks find at its nearest linked items, and
        rank candidates among those whose relation to the query is not known
        Orders that an older version learned did neither.
    both : compare where walks of candidates lead, and look at the heaviest ends of walks among
        those who may be candidates instead of among all; orders of older versions do neither

    Notes
    -----
    Items whose relation to the query is known are candidates whatever else speaks for them. A
    query without E_G and without relations has no candidates.
    """
    n = len(evidence.vectors)
    count = min(count + len(also), n)
    allowed = evidence.known if among is None else among & evidence.known
    wanted = allowed if among is not None else None
    place, slot = SCRATCH.tables
    if len(place) != n:
        place, slot = (np.zeros(n, dtype=np.int32) for _ in range(2))
    SCRATCH.tables = _Scratch.tables  # what an error leaves behind is not used again
    look = _Lookout(evidence, allowed, place, slot, excluded, long_tail, fair, both)
    near = evidence.cells.nearest(
        evidence.vectors, rows, k=min(max(NEAREST, count), n), among=wanted
    )
    seen = [
        look.at(int(row), own[own >= 0], count=count, also=also)
        for row, own in zip(rows, near, strict=True)
    ]
    SCRATCH.tables = place, slot
    likeliest = _padded([x.items[x.chosen] for x in seen], count, -1).astype(np.int64)
    related = _padded([x.related for x in seen], count, False).astype(bool)
    new = (likeliest >= 0) & ~(fair & related)
    names = seen[0].columns if seen else ()
    own = {name: _padded([x.columns[name] for x in seen], count, 0.0) for name in names}
    columns = _columns(evidence, rows, likeliest, own, new=new) if seen else {}
    features = np.zeros((*likeliest.shape, len(evidence.names)), dtype=np.float32)
    for name, values in columns.items():
        features[..., evidence.names.index(name)] = values
    features[likeliest < 0] = 0
    width = max((len(x.items) for x in seen), default=0)
    items = _padded([x.items for x in seen], width, -1).astype(np.int64)
    priors = _padded([x.prior for x in seen], width, -np.inf).astype(np.float32)
    return Candidates(rows, likeliest, features, items, priors)


def _padded(parts: Sequence[NDArray[Any]], width: int, empty: float) -> NDArray[Any]:
    """Put lists of any lengths below each other, (q, width)."""
    kind = parts[0].dtype if parts else np.dtype(np.float32)
    table = np.full((len(parts), width), empty, dtype=kind)
    for row, part in zip(table, parts, strict=True):
        row[: len(part)] = part
    return table


@dataclass(frozen=True)
class _Seen:
    """What one query looks at.

    Parameters
    ----------
    items, prior : (p,) rows and the rule of thumb
    chosen : (c,) places of the candidates among those, best first
    related : (c,) bool, candidates whose relation to the query is known
    columns : name -> (c,) of the features that only this query knows
    """

    items: NDArray[np.int64]
    prior: NDArray[np.float32]
    chosen: NDArray[np.int64]
    related: NDArray[np.bool_]
    columns: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Lookout:
    """Looks at the items around one query after the other.

    Parameters
    ----------
    allowed : (n,) bool, who may be a candidate
    place : (n,) int32, scratch: where an item stands in the list that was made last
        Whoever reads it compares with the list, so that nothing of it is ever cleared.
    slot : (n,) int32, scratch: row of the table of walks of each of their ends; 0 for all others
    excluded, long_tail, fair, both : as for ``gather_candidates``
    """

    evidence: RankingContext
    allowed: NDArray[np.bool_]
    place: NDArray[np.int32]
    slot: NDArray[np.int32]
    excluded: scipy.sparse.csr_matrix | None
    long_tail: float
    fair: bool
    both: bool

    def at(self, row: int, near: NDArray[np.int64], *, count: int, also: Sequence[int]) -> _Seen:
        """Look at what is around a query; ``near`` are the nearest of those who may answer."""
        evidence, vectors = self.evidence, self.evidence.vectors
        mine = _of(evidence.relations, row)
        walks = self._walks(row, near, mine)
        items = self._pool(row, near, mine, walks, also)
        cosine = vectors.take(items, axis=0) @ vectors[row]
        related = self._find(mine, items) < len(mine)
        ends, weights, leading = self._table(walks)
        unlinked = (evidence.degree[items] == 0) & self.fair
        at_ends = weights.take(self.slot.take(items), axis=0)
        at_ends[unlinked, :2] = self._to_nearest(leading[:, :2], items[unlinked])
        told = 0.04 * np.log1p(at_ends[:, 0] / FLOOR) + 0.15 * np.log1p(at_ends[:, 1] / LOW)
        prior = (cosine + (1 - self.long_tail) * told).astype(np.float32)
        compared = evidence.embedded[items] & evidence.embedded[row]
        asked = related | np.isin(items, also) if also else related
        chosen = _likeliest(prior, np.where(compared, cosine, -np.inf), asked, count=count)
        some = items[chosen]
        columns = dict(zip(WALKS, at_ends[chosen].T, strict=True))
        columns["narrow walk"], columns["own walks"] = leading.take(self.slot.take(some), axis=0)[
            :, :2
        ].T
        columns |= zip(TO_NEAREST, self._to_nearest(leading, some).T, strict=True)
        self.slot[ends] = 0
        if self.both:
            alike = np.zeros(len(some), dtype=np.float32)
            if len(mine):
                alike = evidence.walked.take(some, axis=0).astype(np.float32) @ evidence.walked[row]
            columns["walks of both"] = np.log(np.maximum(alike, 0) + np.float32(LIKE))
        columns |= self._cosines_to_relations(row, mine, some) | {"cosine": cosine[chosen]}
        return _Seen(items, prior, chosen, related[chosen], columns)

    def _pool(
        self,
        row: int,
        near: NDArray[np.int64],
        mine: NDArray[np.int64],
        walks: dict[str, Walk],
        also: Sequence[int],
    ) -> NDArray[np.int64]:
        """Rows of all items that are looked at, each once; of those who may be candidates."""
        parts = [near, mine]
        for name in ("narrow walk", "own walks"):
            ends, weights = walks[name]
            answers = self.allowed[ends] | (not self.both)
            parts.append(_heaviest((ends[answers], weights[answers]), ENDS)[0])
            if self.fair:
                ends = _heaviest(walks[name], LEADING)[0]
                parts.append(_entries(self.evidence.followers, ends)[1])
        items = self._once(np.concatenate([*parts, np.array(also, dtype=np.int64)]))
        items = items[self.allowed[items] & (items != row)]
        if not self.evidence.known[row]:
            items = items[:0]
        if self.excluded is not None:
            out = _of(self.excluded, row)
            items = items[self._find(out, items) == len(out)]
        return np.asarray(items)

    def _walks(self, row: int, near: NDArray[np.int64], mine: NDArray[np.int64]) -> dict[str, Walk]:
        """Where walks along the relations end: from the nearest, and from one's own."""
        evidence = self.evidence
        narrow = self._onward(_start(evidence, row))
        wide = self._onward(self._wide_start(row, near))
        walk: Walk = (np.array([row]), np.ones(1, dtype=np.float32))
        steps = []
        for _ in range(OWN_STEPS if len(mine) else 0):
            items, weights = self._onward(_heaviest(walk, ENDS))
            walk = items, np.float32(ONWARD) * weights
            steps.append(walk)
        common = self._onward((mine, evidence.common_weight[mine] * evidence.degree[mine]))
        return {
            "narrow walk": narrow,
            "own walks": self._sum(steps),
            "walk from candidate": (mine, (1 / evidence.degree[mine]).astype(np.float32)),
            "wide walk": wide,
            "long walk": self._onward(_heaviest(narrow, ENDS)),
            "own walk": self._sum(steps[:2]),
            "relations in common": common,
        }

    def _wide_start(self, row: int, near: NDArray[np.int64]) -> Walk:
        """Softmax over the cosines of the linked items among the nearest, at most 100."""
        evidence = self.evidence
        items = self._once(np.concatenate([_start(evidence, row)[0], near]))
        items = items[(evidence.degree[items] > 0) & (items != row)]
        if not evidence.embedded[row] or not len(items):
            return items[:0], np.zeros(0, dtype=np.float32)
        items, cosines = _heaviest(
            (items, evidence.vectors.take(items, axis=0) @ evidence.vectors[row]), FAR
        )
        return items, softmax(cosines[None], 2 * WARMTH)[0]

    def _onward(self, walk: Walk) -> Walk:
        """Go one step along the relations."""
        items, weights = walk
        place, ends, _ = _entries(self.evidence.relations, items, most=HUB)
        shares = (weights / np.maximum(self.evidence.degree[items], 1)).astype(np.float32)
        return self._sum([(ends, shares[place])])

    def _sum(self, walks: Sequence[Walk]) -> Walk:
        """Add walks up, so that each end stands once."""
        items = np.concatenate([np.empty(0, dtype=np.int64), *(x for x, _ in walks)])
        weights = np.concatenate([np.empty(0, dtype=np.float32), *(x for _, x in walks)])
        turn = np.arange(len(items), dtype=np.int32)
        self.place[items] = turn
        last = self.place.take(items)
        sums = np.bincount(last, weights, minlength=len(items))
        alone = last == turn
        return items[alone], sums[alone].astype(np.float32)

    def _once(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        turn = np.arange(len(items), dtype=np.int32)
        self.place[items] = turn
        return np.asarray(items[self.place[items] == turn])

    def _find(self, items: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of some items in a list of them, in which each stands once; its length if not."""
        if not len(items):
            return np.zeros(wanted.shape, dtype=np.int64)
        self.place[items] = np.arange(len(items), dtype=np.int32)
        place = np.minimum(self.place[wanted], len(items) - 1)
        return np.where(items[place] == wanted, place, len(items))

    def _table(
        self, walks: dict[str, Walk]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return every end, (e,), and how many of each walk end there, (e + 1, w), by ``slot``;
        and of the first three walks alone."""
        ends = self._once(np.concatenate([walks[name][0] for name in WALKS]))
        self.slot[ends] = np.arange(1, len(ends) + 1, dtype=np.int32)
        weights = np.zeros((len(ends) + 1, len(WALKS)), dtype=np.float32)
        for column, name in enumerate(WALKS):
            items, values = walks[name]
            weights[self.slot[items], column] = values
        return ends, weights, np.ascontiguousarray(weights[:, : len(TO_NEAREST)])

    def _to_nearest(
        self, leading: NDArray[np.float32], items: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Average over the nearest linked items of each how many walks end there, (m, w)."""
        nearest, n = self.evidence.nearest, len(self.evidence.vectors)
        slots = self.slot.take(nearest.indices.reshape(n, -1).take(items, axis=0))
        weights = nearest.data.reshape(n, -1).take(items, axis=0)
        # One column after the other: their few kilobytes stay in the first cache.
        return np.stack([np.einsum("mk,mk->m", weights, x.take(slots)) for x in leading.T], axis=1)

    def _cosines_to_relations(
        self, row: int, mine: NDArray[np.int64], items: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """Mean and highest cosine, (c,) each: of the query to 32 of the relations of candidates,
        and of candidates to 32 of the query's; 0 without any."""
        vectors = self.evidence.vectors
        place, related, _ = _entries(self.evidence.relations, items, most=SHOWN)
        distinct = self._once(related)
        cosines = np.where(distinct == row, -1, vectors.take(distinct, axis=0) @ vectors[row])
        cosines = cosines[self._find(distinct, related)]
        many = np.bincount(place, minlength=len(items))
        mean = np.bincount(place, cosines, minlength=len(items)) / np.maximum(many, 1)
        best = np.zeros(len(items), dtype=np.float32)
        if len(place):
            starts = np.flatnonzero(np.diff(place, prepend=-1))
            best[place[starts]] = np.maximum.reduceat(cosines, starts)
        own = mine[:SHOWN]
        to_own = vectors.take(items, axis=0) @ vectors[own].T
        itself = items[:, None] == own
        to_own[itself] = -1  # a relation that asks for itself
        zeros = np.zeros(len(items), dtype=np.float32)
        return {
            "mean cosine to its relations": mean.astype(np.float32),
            "best cosine to its relations": best,
            "mean cosine to relations of query": np.where(itself, 0, to_own).sum(axis=1)
            / max(len(own), 1),
            "best cosine to relations of query": to_own.max(axis=1) if len(own) else zeros,
        }


def _of(relations: scipy.sparse.csr_matrix, row: int) -> NDArray[np.int64]:
    """Columns that a row of a sparse matrix names."""
    own = relations.indices[relations.indptr[row] : relations.indptr[row + 1]]
    return np.asarray(own, dtype=np.int64)


def _entries(
    matrix: scipy.sparse.csr_matrix, rows: NDArray[np.int64], *, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return all entries of some rows: place in ``rows``, column, and where the entry stands.

    ``most`` of each row, those that stand first.
    """
    starts = matrix.indptr[rows].astype(np.int64)
    many = matrix.indptr[rows + 1] - starts
    if most is not None:
        many = np.minimum(many, most)
    place = np.repeat(np.arange(len(rows)), many)
    at = np.arange(len(place)) + np.repeat(starts - np.cumsum(many) + many, many)
    return place, matrix.indices.take(at).astype(np.int64), at


def _heaviest(walk: Walk, count: int) -> Walk:
    items, weights = walk
    if len(items) <= count:
        return walk
    best = np.argpartition(-weights, count - 1)[:count]
    return items[best], weights[best]


def _start(evidence: RankingContext, row: int) -> Walk:
    """The nearest linked items of one, with the softmax over their cosines."""
    nearest = evidence.nearest
    some = slice(nearest.indptr[row], nearest.indptr[row + 1])
    there = nearest.data[some] > 0
    return nearest.indices[some][there].astype(np.int64), nearest.data[some][there]


def _likeliest(
    prior: NDArray[np.float32],
    near: NDArray[np.float32],
    asked: NDArray[np.bool_],
    *,
    count: int,
) -> NDArray[np.int64]:
    """Places of the candidates of one query, at most ``count``, by the prior: all that are asked
    for, a third by cosine alone, the others by the prior."""
    if len(prior) > count:
        third = max(1, count // 3)
        first = np.zeros(len(prior), dtype=np.float32)
        order = np.argpartition(-near, third - 1)[:third]
        first[order] = np.isfinite(near[order])
        first[asked] = 2
        best = np.argpartition(-(prior + 1e3 * first), count - 1)[:count]
    else:
        best = np.arange(len(prior))
    return best[np.argsort(-prior[best], kind="stable")]


def _columns(
    evidence: RankingContext,
    rows: NDArray[np.int64],
    likeliest: NDArray[np.int64],
    walks: dict[str, NDArray[np.float32]],
    *,
    new: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """Every column of the features, (q, c) each, by name.

    Ranks are among the ``new`` candidates, whose relation to the query is not known: those that are
    known stand before all others whatever their rank, and were no candidates when it was learned.
    """
    cosine, columns = walks["cosine"], dict(walks)
    near = new & evidence.embedded[likeliest] & evidence.embedded[rows][:, None]
    for name in {*WALKS, *TO_NEAREST} - {"relations in common"}:
        columns[name] = np.log(walks[name] + (LOW if name in OWN else FLOOR))
    columns["relations in common"] = np.log1p(walks["relations in common"])
    crowd, degree, shape = evidence.crowd, evidence.degree, likeliest.shape
    columns |= {
        "rank of cosine": _rank(cosine, near),
        "crowd of candidate": crowd[likeliest],
        "crowd of query": np.broadcast_to(crowd[rows][:, None], shape),
        "no E_G of candidate": (~evidence.embedded[likeliest]).astype(np.float32),
        "no E_G of query": np.broadcast_to(
            (~evidence.embedded[rows][:, None]).astype(np.float32), shape
        ),
        "rank of walk": _rank(walks["narrow walk"] + walks["own walks"], new),
        "relations of candidate": np.log1p(degree[likeliest]).astype(np.float32),
        "relations of query": np.broadcast_to(
            np.log1p(degree[rows][:, None]).astype(np.float32), shape
        ),
    }
    for source in evidence.sources:
        lacking = source.missing[rows][:, None] | source.missing[likeliest]
        columns[f"no {source.name}"] = lacking.astype(np.float32)
        columns[f"same {source.name}"] = np.where(lacking, 0, _alike(source, rows, likeliest))
    return columns


def _alike(
    source: Modality, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Products of what a source says of each query and of its candidates, (q, c)."""
    values = source.values
    if isinstance(values, np.ndarray):
        pairs = [values[row] @ values[own] for row, own in zip(candidates, rows, strict=True)]
        return np.stack(pairs)
    alike = np.empty(candidates.shape, dtype=np.float32)
    block = max(1, CELLS // values.shape[1])
    for start in range(0, len(rows), block):
        some = slice(start, start + block)
        own = np.zeros((len(rows[some]), values.shape[1]), dtype=np.float32)
        asking, words, at = _entries(values, rows[some])
        own[asking, words] = values.data[at]
        place, words, at = _entries(values, np.maximum(candidates[some].ravel(), 0))
        products = own[place // candidates.shape[1], words] * values.data.take(at)
        sums = np.bincount(place, products, minlength=candidates[some].size)
        alike[some] = sums.reshape(candidates[some].shape)
    return alike


def _rank(values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logarithm of the place of each candidate, best first, (q, c); one behind if not there."""
    order = np.argsort(-np.where(present, values, -np.inf), axis=1, kind="stable")
    place = np.where(present, np.argsort(order, axis=1), present.sum(axis=1, keepdims=True))
    return np.log1p(place).astype(np.float32)
