"""Which items are similar: R_C, R_U, R_A and R_P as pairwise relations (sections 2.1 to 2.4).

Every relation is a symmetric matrix of pairs, never a class label: "similar artist" is not
transitive, and one connected component would hold almost every artist. An item is never related
to itself. What a matrix does not hold is unrelated or unknown; each function says which.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue.plays import numbered
from undersong.catalogue.tables import Catalogue, Field, Kind, Role, rows_of
from undersong.errors import DataError

Rows = NDArray[np.int64]
META_ROLES: tuple[Role, ...] = ("genre", "region", "popularity")
QUANTILES = 5
POPULAR, POPULAR_PAIRS = 512, 2**25  # items, and their pairs with all, that are counted densely
USERS_AT_ONCE = 2**12  # whose plays of popular items are a dense matrix
SPARSE = 8  # an item that meets fewer than n / 8 is counted by sorting what it meets
WALKS = 512  # items whose walks of two steps are held at once
ASKING = 4096  # validation items at most that say when to stop
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
        kept = visible[a] & visible[b]
        a, b = a[kept], b[kept]
    return _symmetric(a, b, len(ids))


def at_one_remove(related: sparse.csr_matrix, *, top: int) -> sparse.csr_matrix:
    """Pairs that are not related but best joined by items related to both, (n, n) bool.

    Each item has the ``top`` items that a random walk of two steps along the relations reaches
    most often; symmetric by union. A list of similar artists is never complete: these are what
    it most likely left out. Beyond the paper, which knows R_A alone (docs/choices.md).
    """
    n = related.shape[0]
    degree = np.diff(related.indptr)
    step = (sparse.diags(1 / np.maximum(degree, 1)) @ related.astype(np.float32)).tocsr()
    near = related.astype(np.float32) + sparse.identity(n, dtype=np.float32, format="csr")
    found = [np.empty((2, 0), dtype=np.int64)]
    for start in range(0, n, WALKS):
        some = slice(start, start + WALKS)
        # No walk arrives with a chance above 1: what is near comes out below 0.
        walk = (step[some] @ step - 2 * near[some]).tocoo()
        apart = walk.data > 0
        row, item, reached = walk.row[apart], walk.col[apart], walk.data[apart]
        order = np.lexsort((item, -reached, row))
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        found.append(np.stack([start + row, item])[:, place < top].astype(np.int64))
    a, b = np.concatenate(found, axis=1)
    return _symmetric(a, b, n)


def held_out(
    catalogue: Catalogue, kind: Kind, parts: NDArray[np.str_]
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
    truth = known(catalogue, kind, parts != "test")
    queries = np.flatnonzero((parts == "validation") & (truth.getnnz(axis=1) > 0))
    if not len(queries):
        raise DataError(
            f"none of the {(parts == 'validation').sum()} validation {kind}s has a relation to a "
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
    return _symmetric(related.row, related.col, n)


def listeners(catalogue: Catalogue, kind: Kind) -> sparse.csr_matrix:
    """Who plays what: (users, n) float32, plays of every user and item."""
    heard = numbered(catalogue, kind)
    cells = (heard.plays, (heard.user, heard.item))
    return sparse.coo_matrix(cells, shape=(heard.users, len(catalogue.items(kind)))).tocsr()


def shared_listeners(
    plays: sparse.csr_matrix,
    *,
    threshold: int,
    top: int,
    block: int = 1024,
    each: Callable[[Callable[[int], list[Rows]], Iterable[int]], Iterable[list[Rows]]] = map,
) -> sparse.csr_matrix:
    """R_U: items that many users have in common, (n, n) bool (section 2.2).

    The paper's three ways: ``top=0`` relates all items that share at least ``threshold`` users;
    ``threshold=1`` with ``top`` above 0 relates each item to the ``top`` items with which it
    shares most; both together ask for both. "Most" is by shared users over the root of the
    product of the two items' numbers of users, so that the best known are not everybody's
    neighbours; the paper does not say. Symmetric by union. Memory is bounded by ``block`` rows.
    ``each`` applies a function to every block, in order; a cluster may do that.
    """
    heard = plays > 0
    heard.data = heard.data.view(np.int8)
    n, users = heard.shape[1], heard.getnnz(axis=0)
    scale = 1 / np.sqrt(np.maximum(users, 1).astype(np.float32))
    # Most pairs that users share hold one of a few popular items: those are counted as a dense
    # matrix, several times as fast as one by one.
    popular = np.argsort(-users, kind="stable")[: min(POPULAR, POPULAR_PAIRS // max(n, 1))]
    with_popular = _users_shared(heard, popular)  # (n, popular)
    relate = partial(_most_shared, scale=scale, threshold=threshold, top=top)
    found = [np.empty(0, dtype=np.int64)] * n
    for item, count in zip(popular, np.ascontiguousarray(with_popular.T), strict=True):
        found[item] = relate(item, np.arange(n), count)
    heard = _without(heard, popular)
    rest = np.setdiff1d(np.arange(n), popular)
    one = partial(
        _of_block, heard, heard.T.tocsr(), rest, popular, with_popular, relate=relate, block=block
    )
    starts = range(0, len(rest), block)
    for start, some in zip(starts, each(one, starts), strict=True):
        for item, others in zip(rest[start : start + block], some, strict=True):
            found[item] = others
    rows = np.repeat(np.arange(n), [len(x) for x in found])
    return _symmetric(rows, np.concatenate([np.empty(0, dtype=np.int64), *found]), n)


def _without(heard: sparse.csr_matrix, items: Rows) -> sparse.csr_matrix:
    """Empty the columns of some items, (users, n) -> (users, n) int8."""
    left = np.ones(heard.shape[1], dtype=bool)
    left[items] = False
    kept = left[heard.indices]
    starts = np.append(0, np.cumsum(kept, dtype=np.int64))[heard.indptr]
    cells = (np.ones(starts[-1], dtype=np.int8), heard.indices[kept], starts)
    return sparse.csr_matrix(cells, shape=heard.shape)


def _of_block(
    heard: sparse.csr_matrix,
    users_of: sparse.csr_matrix,
    rest: Rows,
    popular: Rows,
    with_popular: NDArray[np.int32],
    start: int,
    *,
    relate: Callable[[int, Rows, NDArray[np.int32]], Rows],
    block: int,
) -> list[Rows]:
    """Relate each of a block of the items that are not popular to those it shares most with."""
    found = []
    for item in rest[start : start + block]:
        users = users_of.indices[users_of.indptr[item] : users_of.indptr[item + 1]]
        others, count = _counted(heard, users)
        if len(others) == heard.shape[1]:
            count[popular] = with_popular[item]
        else:
            others = np.append(popular, others)
            count = np.append(with_popular[item], count)
        found.append(relate(item, others, count))
    return found


def _counted(heard: sparse.csr_matrix, users: Rows) -> tuple[Rows, NDArray[np.int32]]:
    """Count who of some users heard each item: of all items, or where few are met of those."""
    n = heard.shape[1]
    met = int((heard.indptr[users + 1] - heard.indptr[users]).sum())
    if met * SPARSE < n:
        others, few = np.unique(heard[users].indices, return_counts=True)
        return others.astype(np.int64), few.astype(np.int32)
    count = np.zeros(n, dtype=np.int32)
    for start in range(0, len(users), USERS_AT_ONCE):
        count += np.bincount(heard[users[start : start + USERS_AT_ONCE]].indices, minlength=n)
    return np.arange(n), count


def _users_shared(heard: sparse.csr_matrix, items: Rows) -> NDArray[np.int32]:
    """Count the users that each of n items shares with some, (n, m), by blocks of users."""
    total = np.zeros((heard.shape[1], len(items)), dtype=np.int32)
    chosen = heard[:, items]
    for start in range(0, heard.shape[0], USERS_AT_ONCE):
        some = slice(start, start + USERS_AT_ONCE)
        # int16 counts them all, at twice the speed of float32
        total += heard[some].T.tocsr() @ chosen[some].toarray().astype(np.int16)
    return total


def _most_shared(
    item: int,
    others: Rows,
    count: NDArray[np.int32],
    *,
    scale: NDArray[np.float32],
    threshold: int,
    top: int,
) -> Rows:
    """Those of some others to relate an item to, by the users shared with each, in any order.

    Of equal ones the earlier.
    """
    weight = count.astype(np.float32)
    weight *= scale if len(others) == len(scale) else scale[others]
    if threshold > 1:
        weight[count < threshold] = 0
    # The nearest of every eighth, and so no fewer of all, lie at or above the floor.
    some, floor = weight[::8], np.float32(0)
    if 0 < top < len(some):
        floor = np.partition(some, -top - 1)[-top - 1]
    near = np.flatnonzero(weight >= floor if floor else weight)
    near = near[others[near] != item]
    if not top or len(near) <= top:
        return np.asarray(others[near])
    close, others = weight[near], others[near]
    least = np.partition(close, -top)[-top]
    above, ties = others[close > least], np.sort(others[close == least])
    return np.append(above, ties[: top - len(above)])


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
    given = codes >= 0
    differ = np.zeros((n, n), dtype=bool)
    for column, present in zip(codes.T, given.T, strict=True):
        apart = column[:, None] != column[None, :]
        apart &= present[:, None]
        apart &= present
        differ |= apart
    whole: NDArray[np.bool_] = np.all(given, axis=1) & (fields > 0)
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


def block(matrix: sparse.csr_matrix, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pairs among some items as a dense matrix, (len(rows), len(rows)) bool."""
    return np.asarray(matrix[rows][:, rows].toarray(), dtype=bool)


def _symmetric(a: NDArray[np.int64], b: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    apart = a != b
    a, b = a[apart], b[apart]
    ones = np.ones(2 * len(a), dtype=bool)
    both = (np.concatenate([a, b]), np.concatenate([b, a]))
    matrix = sparse.csr_matrix((ones, both), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = True
    return matrix
