"""Which items are similar: R_A, the reliable pairs, R_C, of tracks, and R_P, by metadata.

Sections 2.1 and 2.4.

Every relation is a symmetric matrix of pairs, never a class label: "similar artist" is not
transitive, and one connected component would hold almost every artist. An item is never related
to itself. What a matrix does not hold is unrelated or unknown; each function says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Catalogue, Field, Kind, Role, rows_of
from undersong.errors import DataError, nearest_known
from undersong.progress import Progress, silent, watched

Rows = NDArray[np.int64]
WALKS = 512  # items whose walks of two steps are held at once
ASKING = 4096  # validation items at most that say when to stop
META_ROLES: tuple[Role, ...] = ("genre", "region", "popularity")
QUANTILES = 5
EQUAL, LEARNED = "equal", "learned"  # reliability of the sources of relations
FEW = 30  # pairs of which a source is half as good as it looks, half as good as all are
SHUFFLES = 5
AMONG = 65_536  # items that they are asked among: of more, their answers and a random part


def known(
    catalogue: Catalogue, kind: Kind, visible: NDArray[np.bool_] | None = None
) -> sparse.csr_matrix:
    """R_A: the reliable relations between visible items, (n, n) bool, symmetric.

    A relation is left out as soon as one of its two items is not ``visible``; so validation and
    test items never enter training. Without ``visible`` all relations are given.
    """
    ids, pairs = catalogue.items(kind)["id"], catalogue.pairs(kind)
    a, b = (rows_of(pairs[name], ids) for name in ("a", "b"))
    if visible is not None:
        both_visible = visible[a] & visible[b]
        a, b = a[both_visible], b[both_visible]
    return symmetric(a, b, len(ids))


def at_one_remove(
    related: sparse.csr_matrix, *, top: int, progress: Progress = silent
) -> sparse.csr_matrix:
    """Pairs that are not related but best joined by items related to both, (n, n) bool.

    Each item has the ``top`` items that a random walk of two steps along the relations reaches
    most often; symmetric by union. A list of similar artists is never complete: these are what
    it most likely left out. Beyond the paper, which knows R_A alone (docs/choices.md).
    """
    n = related.shape[0]
    degree = np.diff(related.indptr)
    step = (sparse.diags(1 / np.maximum(degree, 1)) @ related.astype(np.float32)).tocsr()
    near = related.astype(np.float32) + sparse.identity(n, dtype=np.float32, format="csr")
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for start in watched(range(0, n, WALKS), progress, "at one remove"):
        some = slice(start, start + WALKS)
        # No walk arrives with a chance above 1: what is near comes out below 0.
        walk = step[some] @ step - 2 * near[some]
        walk.sort_indices()
        cells = walk.tocoo()
        apart = cells.data > 0
        row, item, reached = cells.row[apart], cells.col[apart], cells.data[apart]
        order = np.argsort(row - reached, kind="stable")  # by row, the likeliest first
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        pairs.append(np.stack([start + row, item])[:, place < top].astype(np.int64))
    a, b = np.concatenate(pairs, axis=1)
    return symmetric(a, b, n)


def held_out(
    catalogue: Catalogue, kind: Kind, splits: NDArray[np.str_]
) -> tuple[NDArray[np.int64], sparse.csr_matrix]:
    """Questions that validation asks: its linked items, and their relations as the answers.

    Returns rows of the validation items with relations, (q,), and those relations, (n, n) bool.
    Relations to test items are no answers here: the test split is read by evaluation alone. Of very
    many items a random 4,096 ask, always the same ones.

    Raises
    ------
    DataError
        If no validation item has a relation, so that nothing says when to stop.
    """
    truth = known(catalogue, kind, splits != "test")
    queries = np.flatnonzero((splits == "validation") & (truth.getnnz(axis=1) > 0))
    if not len(queries):
        raise DataError(
            f"none of the {(splits == 'validation').sum()} validation {kind}s has a relation to a "
            "training or validation item, so nothing can say when to stop training; give more "
            "relations, or a `split` column that puts linked items into validation"
        )
    if len(queries) > ASKING:
        queries = np.sort(np.random.default_rng(0).choice(queries, ASKING, replace=False))
    return queries, truth


def among_some(
    queries: Rows, truth: sparse.csr_matrix, *, most: int = AMONG
) -> tuple[Rows, Rows, sparse.csr_matrix]:
    """Choose at most so many items to be asked among, so that an answer costs no more with more.

    Parameters
    ----------
    queries : (q,) rows that ask, and ``truth``, (n, n) bool, what is right

    Returns
    -------
    rows of the chosen items, (m,) ascending: those that ask, what is right, and others at random,
    always the same; and both parameters as they are among those
    """
    n = truth.shape[0]
    chosen = np.ones(n, dtype=bool)
    if n > most:
        chosen[:] = False
        chosen[queries] = chosen[truth[queries].indices] = True
        others = np.flatnonzero(~chosen)
        left = min(max(most - int(chosen.sum()), 0), len(others))
        chosen[np.random.default_rng(0).choice(others, left, replace=False)] = True
    rows = np.flatnonzero(chosen)
    return rows, np.searchsorted(rows, queries), truth[rows][:, rows].tocsr()


def same_or_similar_artist(
    artist: NDArray[np.int64], similar: sparse.csr_matrix
) -> sparse.csr_matrix:
    """R_C: tracks of the same artist or of two similar artists, (n, n) bool.

    Parameters
    ----------
    artist : (n,) int
        Row of each track's artist.
    similar : (artists, artists) bool
        Visible relations R_A of artists. An artist without any still relates its own tracks:
        that is how the long tail is trained "without labels" (section 2.1).
    """
    n = len(artist)
    membership = sparse.csr_matrix(
        (np.ones(n, dtype=np.float32), (np.arange(n), artist)), shape=(n, similar.shape[0])
    )
    reach = similar.astype(np.float32) + sparse.identity(similar.shape[0], dtype=np.float32)
    related = (membership @ reach @ membership.T).tocoo()
    return symmetric(related.row, related.col, n)


def block(matrix: sparse.csr_matrix, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
    """Pairs among some items as a dense matrix, (len(rows), len(rows)) of the same type."""
    return np.asarray(matrix[rows][:, rows].toarray())


def symmetric(a: NDArray[np.int64], b: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    """Return pairs and their mirrors as an (n, n) bool matrix, without the diagonal."""
    apart = a != b
    a, b = a[apart], b[apart]
    ones = np.ones(2 * len(a), dtype=bool)
    both = (np.concatenate([a, b]), np.concatenate([b, a]))
    matrix = sparse.csr_matrix((ones, both), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = True
    return matrix


def meta_codes(catalogue: Catalogue, kind: Kind, train: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Code genre, region and popularity of each item, (n, fields) int32, -1 where missing.

    Only roles that the catalogue has get a column. Genre is the first of several tags;
    popularity is cut in fifths whose borders come from the items in ``train`` (n,) bool.
    """
    fields = [f for role in META_ROLES if (f := catalogue.role(kind, role))]
    columns = [codes(catalogue.items(kind), field, train) for field in fields]
    if not columns:
        return np.empty((len(catalogue.items(kind)), 0), dtype=np.int32)
    return np.stack(columns, axis=1)


def codes(table: pl.DataFrame, field: Field, train: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Code one field of each item as a small whole number, -1 where missing."""
    column = table[field.name]
    if field.type == "number":
        values = column.to_numpy().astype(np.float64)
        seen = values[train & np.isfinite(values)]
        if not len(seen):
            return np.full(len(values), -1, dtype=np.int32)
        borders = np.quantile(seen, np.linspace(0, 1, QUANTILES + 1)[1:-1])
        cut = np.searchsorted(borders, values, side="right").astype(np.int32)
        return np.where(np.isfinite(values), cut, -1).astype(np.int32)
    words = column.list.first() if field.type == "tags" else column
    number = {word: code for code, word in enumerate(words.drop_nulls().unique().sort())}
    return np.array([number.get(word, -1) for word in words], dtype=np.int32)


def meta_consistent(
    codes: NDArray[np.int32],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """R_P among n items: pairs that agree in every field, and pairs known to differ in one.

    Both are (n, n) bool. A missing field leaves a pair unknown, neither consistent nor not,
    unless another field differs. Without any field every pair is unknown. The diagonal is False.
    """
    n, fields = codes.shape
    known = codes >= 0
    differ = np.zeros((n, n), dtype=bool)
    small = codes.max(initial=0) <= np.iinfo(np.int16).max  # twice as many at once
    for column, present in zip(codes.astype("i2" if small else "i4").T, known.T, strict=True):
        apart = column[:, None] != column[None, :]
        apart[~present] = False
        apart &= present
        differ |= apart
    whole: NDArray[np.bool_] = np.all(known, axis=1) & (fields > 0)
    agree = ~differ
    agree &= whole[:, None]
    agree &= whole
    np.fill_diagonal(agree, False)
    return agree, differ


def meta_agreement(
    codes: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """R_P by degrees: the share of equal fields of each pair, and whether any can be compared.

    Both are (n, n), over the fields that both items have; 0 and False on the diagonal and where
    they have none in common. Beyond the paper, which asks for all fields at once.
    """
    n = len(codes)
    equal, compared = np.zeros((n, n), dtype=np.float32), np.zeros((n, n), dtype=np.float32)
    for column in codes.T:
        both = (column[:, None] >= 0) & (column[None, :] >= 0)
        equal += both & (column[:, None] == column[None, :])
        compared += both
    np.fill_diagonal(compared, 0)
    np.fill_diagonal(equal, 0)
    return (equal / np.maximum(compared, 1)).astype(np.float32), compared > 0


def read_reliability(words: str) -> dict[str, float]:
    """Read how far sources of relations are trusted, as settings have it: "NAME .7, NAME .2".

    Raises
    ------
    ValueError
        For a part that is no name and a number in [0, 1].
    """
    shares: dict[str, float] = {}
    for part in words.split(","):
        name, _, share = part.strip().rpartition(" ")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            shares[""] = -1.0
        if not name.strip() or not 0 <= shares[name.strip()] <= 1:
            raise ValueError(
                f"reliability {words!r} must be 'equal', 'learned', or names of sources with "
                "numbers from 0 to 1, such as 'editors 1, readers 0.4'"
            )
    return shares


def reliability(task: "Task", words: str) -> dict[str, float]:
    """Return how far each source of relations is trusted, from 0 to 1; ``words`` as in settings.

    "learned" compares how often two related training items agree in the fields of R_P, over those
    that both have, with how often the same items do when they are paired at random (Cohen's kappa).
    A source that was as the best one in part, and chance in the rest, has that part of the best
    one's kappa: so much it is trusted, and the best fully. One of few pairs is drawn to the mean.

    Raises
    ------
    DataError
        If a source is named that the relations do not have.
    """
    pairs = task.catalogue.pairs(task.kind).with_columns(pl.col("source").fill_null(""))
    names = pairs["source"].unique().sort().to_list()
    if words == EQUAL:
        return dict.fromkeys(names, 1.0)
    if words != LEARNED:
        shares = read_reliability(words)
        if unknown := shares.keys() - set(names):
            raise DataError(
                f"reliability names the source {min(unknown)!r}, which no relation has; "
                f"{nearest_known(min(unknown), names)}"
            )
        return dict.fromkeys(names, 1.0) | shares
    ids, train = task.catalogue.items(task.kind)["id"], task.within("train")
    a, b = (rows_of(pairs[x], ids) for x in ("a", "b"))
    source, inside = pairs["source"].to_numpy(), train[a] & train[b]
    gains, counts = np.zeros(len(names)), np.zeros(len(names))
    for place, name in enumerate(names):
        own = inside & (source == name)
        counts[place] = own.sum()
        gains[place] = _above_chance(task.codes, a[own], b[own])
    mean = float(gains @ counts) / max(counts.sum(), 1)
    gains = (gains * counts + mean * FEW) / (counts + FEW)
    if gains.max(initial=0) <= 0:  # nothing that is known of the items says anything of pairs
        return dict.fromkeys(names, 1.0)
    return dict(zip(names, np.clip(gains / gains.max(), 0, 1).round(4).tolist(), strict=True))


@dataclass(frozen=True)
class RelationSource:
    """What one of several sources of relations is worth.

    Parameters
    ----------
    pairs : that it states
    both_known : of these, whose two items another source relates to something, too
    confirmed : of those, which another source states as well
    reliability : as learned from all items (``reliability``)
    """

    name: str
    pairs: int
    both_known: int
    confirmed: int
    reliability: float


def relation_sources(catalogue: Catalogue, kind: Kind) -> tuple[RelationSource, ...]:
    """Compare the sources of relations of one kind of item; none where there are not several."""
    known = catalogue.relations.lazy().filter(kind=kind).drop("kind")
    known = known.with_columns(pl.col("source").fill_null(""))
    if known.select(pl.n_unique("source")).collect().item() < 2:
        return ()
    pairs = known.collect()
    everything = Task(catalogue, kind, np.full(len(catalogue.items(kind)), "train"))
    learned = reliability(everything, LEARNED)
    compared = []
    for name, share in learned.items():
        own, others = pairs.filter(source=name), pairs.filter(pl.col("source") != name)
        named = pl.concat([others["a"], others["b"]]).unique().implode()
        both = own.filter(pl.col("a").is_in(named), pl.col("b").is_in(named))
        confirmed = both.join(others, on=["a", "b"], how="semi")
        compared.append(RelationSource(name, len(own), len(both), len(confirmed), share))
    return tuple(compared)


def _above_chance(codes: NDArray[np.int32], a: Rows, b: Rows) -> float:
    """Cohen's kappa of pairs in their fields: 1 for always equal, 0 for as at random."""
    generator = np.random.default_rng(0)
    shuffled = [_agreement(codes, a, generator.permutation(b)) for _ in range(SHUFFLES)]
    chance = float(np.mean(shuffled))
    return (_agreement(codes, a, b) - chance) / (1 - chance) if chance < 1 else 0.0


def _agreement(codes: NDArray[np.int32], a: Rows, b: Rows) -> float:
    """Mean share of equal fields of some pairs, of those in which both items are known."""
    both = (codes[a] >= 0) & (codes[b] >= 0)
    compared = both.sum(axis=1)
    equal = ((codes[a] == codes[b]) & both).sum(axis=1)
    return float(np.mean((equal / np.maximum(compared, 1))[compared > 0])) if both.any() else 0.0


def weighed(task: "Task", reliability: Mapping[str, float]) -> sparse.csr_matrix:
    """R_A of training items by degrees: how likely any source of a pair is right, (n, n) float32.

    Sources err apart from each other: two of .5 give .75. 0 where nothing, or nobody who is
    trusted, relates two items.
    """
    ids, train = task.catalogue.items(task.kind)["id"], task.within("train")
    doubt = 1 - pl.col("source").fill_null("").replace_strict(dict(reliability))
    pairs = task.catalogue.pairs(task.kind).group_by("a", "b", maintain_order=True)
    table = pairs.agg(weight=1 - doubt.product())
    a, b = (rows_of(table[x], ids) for x in ("a", "b"))
    inside = train[a] & train[b] & (a != b)
    cells = table["weight"].to_numpy()[inside].astype(np.float32), (a[inside], b[inside])
    one_way = sparse.csr_matrix(cells, shape=(len(ids), len(ids)))
    return (one_way + one_way.T).tocsr()


@dataclass(frozen=True, eq=False)
class Task:
    """The items of one kind in a catalogue, and in which split each of them is.

    What is derived from them is computed once and kept with the task.

    Parameters
    ----------
    splits : (n,) "train", "validation" or "test" of each item (``undersong.catalogue.split``)
    """

    catalogue: Catalogue
    kind: Kind
    splits: NDArray[np.str_]
    _related: dict[str | None, sparse.csr_matrix] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items, in the order of all rows."""
        return self.catalogue.ids(self.kind)

    def within(self, split: str) -> NDArray[np.bool_]:
        """Return which items are in a split, (n,)."""
        return np.asarray(self.splits == split)

    def related(self, split: str | None = None) -> sparse.csr_matrix:
        """Return R_A between the items of one split, or between all, (n, n) bool, symmetric."""
        if split not in self._related:
            visible = None if split is None else self.within(split)
            self._related[split] = known(self.catalogue, self.kind, visible)
        return self._related[split]

    @cached_property
    def held_out(self) -> tuple[NDArray[np.int64], sparse.csr_matrix]:
        """What validation asks and the answers, as ``held_out``."""
        return held_out(self.catalogue, self.kind, self.splits)

    @cached_property
    def codes(self) -> NDArray[np.int32]:
        """Codes of metadata of which R_P is made, (n, fields); -1 where missing."""
        return meta_codes(self.catalogue, self.kind, self.within("train"))
