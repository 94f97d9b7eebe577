"""R_U: items that many users have in common, or that are heard in one sitting (section 2.2).

Who plays two artists a year apart says less of them than who plays them in one evening. Sessions
are made of the listens that importers keep beside the plays
(``undersong.importers.listens.history``).
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Catalogue, Kind, numbered
from undersong.errors import DataError
from undersong.progress import Progress, silent, watched
from undersong.relations.similarity import Rows, symmetric

POPULAR, POPULAR_PAIRS = 512, 2**25  # items, and their pairs with all, that are counted densely
USERS_AT_ONCE, ITEMS_AT_ONCE = 2**12, 64  # whose plays are a dense matrix: 512 KiB, near any core
SPARSE = 8  # an item that meets fewer than n / 8 is counted by sorting what it meets

BLOCK = 100_000  # listens of the users that are read together
ROWS = 4096  # items whose partners are weighed together
HEARD = ("user", "listened_at", "seconds", "skipped", "row")


@dataclass(frozen=True)
class SessionSettings:
    """What a session is, and how many make two items related.

    Parameters
    ----------
    gap : seconds without music that end a session
        From the end of a listen where its length is known, else from its beginning.
    longest : listens after which a session is taken for two, so that music that plays all day
        does not relate everything with everything
    shortest : seconds; what was heard for less is skipped, where the length is known
    contribution : most sessions of one user that count for two items
    threshold : sessions that two related items have in common, at least
    """

    gap: float = 1800.0
    longest: int = 100
    shortest: float = 30.0
    contribution: int = 5
    threshold: int = 2

    def __post_init__(self) -> None:
        if min(self.longest, self.contribution, self.threshold) < 1:
            raise ValueError("longest, contribution and threshold must be 1 or more")
        if self.gap <= 0 or self.shortest < 0:
            raise ValueError(f"gap {self.gap} must be above 0, shortest {self.shortest} 0 or more")


def shared_sessions(
    listens: Path, kind: Kind, ids: Sequence[str], *, settings: SessionSettings, top: int
) -> sparse.csr_matrix:
    """R_U: items that many sessions have in common, (n, n) bool; n is the number of ``ids``.

    Of two items the sessions in which both are heard are counted, of each user at most
    ``contribution``. Related are those with ``threshold`` or more, of each item the ``top`` ones
    (0: all) with most sessions over the root of the product of the two items' own, so that the
    best known are not everybody's neighbours. Symmetric by union; nothing is related to itself.

    Memory is bounded by ``BLOCK`` listens (or those of the busiest user) times ``longest``, and by
    the partners of ``ROWS`` items; what is in between lies in a temporary folder.

    Raises
    ------
    DataError
        If the catalogue keeps no listens with times.

    Source
    ------
    The session-based similarity of ListenBrainz (listenbrainz-server, pull requests 2226 and
    2253), from whose description gap, contribution, threshold and limit are taken. It counts each
    pair of listens and takes the raw number; here a session counts once, and fame is divided out.
    """
    parts = sorted(listens.glob("part-*.parquet"))
    if not parts:
        raise DataError(
            f"{listens} holds no listens, so there are no sessions; import listens with their "
            "times, or set [interaction] sessions = false"
        )
    with tempfile.TemporaryDirectory(prefix="undersong-sessions-") as folder:
        home = Path(folder)
        buckets = _share_out(parts, _rows(listens, kind, ids), home)
        for number in range(buckets):
            heard = pl.read_parquet(home / f"{number}.*.parquet")
            _pairs(heard, settings).write_parquet(home / f"pairs.{number}.parquet")
        return _related(home, len(ids), settings=settings, top=top)


def _rows(listens: Path, kind: Kind, ids: Sequence[str]) -> pl.DataFrame:
    """Row of each thing heard: item, row."""
    known = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)}).with_row_index("row")
    items = pl.read_parquet(listens / "items.parquet").select("item", id=f"{kind}_id")
    return items.join(known, on="id").select("item", pl.col("row").cast(pl.Int64))


def _share_out(parts: list[Path], rows: pl.DataFrame, home: Path) -> int:
    """Put all listens of a user in one bucket, so that each can be looked at apart."""
    total = int(pl.scan_parquet(parts).select(pl.len()).collect().item())
    buckets = max(1, round(total / BLOCK))
    for number, part in enumerate(parts):
        heard = pl.read_parquet(part).filter(pl.col("listened_at").is_not_null())
        heard = heard.join(rows, on="item", how="left").select(*HEARD)
        bucket = (pl.col("user").hash(seed=0) % buckets).alias("bucket")
        for (which,), own in heard.with_columns(bucket).group_by("bucket"):
            own.drop("bucket").write_parquet(home / f"{which}.{number}.parquet")
    for number in range(buckets):
        empty = {name: heard.schema[name] for name in HEARD}
        pl.DataFrame(schema=empty).write_parquet(home / f"{number}.none.parquet")
    return buckets


def _pairs(heard: pl.DataFrame, settings: SessionSettings) -> pl.DataFrame:
    """Sessions of every two items among some users: a, b, sessions, sorted; a = b for one alone.

    What was skipped goes on with a session, but is no part of it.
    """
    order = heard.sort("user", "listened_at", "row", nulls_last=True)
    end = pl.col("listened_at") + pl.col("seconds").fill_null(0.0)
    pause = pl.col("listened_at") - end.shift(1)
    begins = (pl.col("user") != pl.col("user").shift(1)) | (pause > settings.gap)
    short = pl.col("seconds").fill_null(settings.shortest) < settings.shortest
    items_heard = (
        order.with_columns(session=begins.fill_null(value=True).cum_sum())
        .filter(pl.col("row").is_not_null(), ~pl.col("skipped").fill_null(value=False), ~short)
        .with_columns(part=pl.int_range(pl.len()).over("session") // settings.longest)
        .select("user", "session", "part", "row")
        .unique()
    )
    return (
        items_heard.join(items_heard, on=["user", "session", "part"], suffix="_b")
        .group_by("user", a="row", b="row_b")
        .agg(pl.len().clip(upper_bound=settings.contribution).alias("sessions"))
        .group_by("a", "b")
        .agg(pl.col("sessions").cast(pl.Int64).sum())
        .sort("a", "b")
    )


def _related(home: Path, n: int, *, settings: SessionSettings, top: int) -> sparse.csr_matrix:
    """Weigh the partners of each item and keep the best."""
    pairs = pl.scan_parquet(home / "pairs.*.parquet")
    alone = pairs.filter(pl.col("a") == pl.col("b")).group_by("a").agg(pl.sum("sessions")).collect()
    own = np.ones(n)
    own[alone["a"].to_numpy()] = alone["sessions"].to_numpy()
    blocks = list(_best(pairs, own, settings=settings, top=top))
    a = np.concatenate([np.empty(0, np.int64), *(x["a"].to_numpy() for x in blocks)])
    b = np.concatenate([np.empty(0, np.int64), *(x["b"].to_numpy() for x in blocks)])
    one_way = sparse.csr_matrix((np.ones(len(a), dtype=bool), (a, b)), shape=(n, n))
    return one_way.maximum(one_way.T).tocsr()


def _best(
    pairs: pl.LazyFrame, own: np.ndarray, *, settings: SessionSettings, top: int
) -> Iterator[pl.DataFrame]:
    for start in range(0, len(own), ROWS):
        mine = pl.col("a").is_between(start, start + ROWS - 1) & (pl.col("a") != pl.col("b"))
        block = pairs.filter(mine).group_by("a", "b").agg(pl.sum("sessions")).collect()
        block = block.filter(pl.col("sessions") >= settings.threshold)
        weight = block["sessions"].to_numpy() / np.sqrt(own[block["b"].to_numpy()])
        block = block.with_columns(weight=weight).sort(
            "a", "weight", "b", descending=[False, True, False]
        )
        yield block.group_by("a", maintain_order=True).head(top) if top else block


def listeners(
    catalogue: Catalogue, kind: Kind, *, progress: Progress = silent
) -> sparse.csr_matrix:
    """Who plays what: (users, n) float32, plays of every user and item."""
    heard = numbered(catalogue, kind, progress=progress)
    cells = (heard.plays, (heard.user, heard.item))
    return sparse.coo_matrix(cells, shape=(heard.users, len(catalogue.items(kind)))).tocsr()


def shared_listeners(
    plays: sparse.csr_matrix,
    *,
    threshold: int,
    top: int,
    block: int = 1024,
    each: Callable[[Callable[[int], list[Rows]], Iterable[int]], Iterable[list[Rows]]] = map,
    progress: Progress = silent,
) -> sparse.csr_matrix:
    """R_U: items that many users have in common, (n, n) bool (section 2.2).

    The paper's three ways: ``top=0`` relates all items that share at least ``threshold`` users;
    ``threshold=1`` with ``top`` above 0 relates each item to the ``top`` items with which it
    shares most; both together ask for both. "Most" is by shared users over the root of the
    product of the two items' numbers of users, so that the best known are not everybody's
    neighbours; the paper does not say. Symmetric by union. Memory is bounded by ``block`` rows.
    ``each`` applies a function to every block, in order; a cluster may do that.
    """
    progress("R_U", 0, -(-plays.shape[1] // block))
    heard = (plays > 0).astype(np.int16)  # counts the users of a block
    n, users = heard.shape[1], heard.getnnz(axis=0)
    scale = 1 / np.sqrt(np.maximum(users, 1).astype(np.float32))
    # Most pairs that users share hold one of a few popular items: those are counted as a dense
    # matrix, several times as fast as one by one.
    popular = np.argsort(-users, kind="stable")[: min(POPULAR, POPULAR_PAIRS // max(n, 1))]
    with_popular = _users_shared(heard, popular, progress)  # (n, popular)
    relate = partial(_most_shared, scale=scale, threshold=threshold, top=top)
    neighbours = [np.empty(0, dtype=np.int64)] * n
    for item, count in zip(popular, np.ascontiguousarray(with_popular.T), strict=True):
        neighbours[item] = relate(item, np.arange(n), count)
    heard = _without(heard, popular)
    rest = np.setdiff1d(np.arange(n), popular)
    one = partial(
        _of_block, heard, heard.T.tocsr(), rest, popular, with_popular, relate=relate, block=block
    )
    starts = range(0, len(rest), block)
    for start, some in zip(watched(starts, progress, "R_U"), each(one, starts), strict=True):
        for item, others in zip(rest[start : start + block], some, strict=True):
            neighbours[item] = others
    rows = np.repeat(np.arange(n), [len(x) for x in neighbours])
    return symmetric(rows, np.concatenate([np.empty(0, dtype=np.int64), *neighbours]), n)


def listening_scores(
    related: sparse.csr_matrix, plays: sparse.csr_matrix, *, threshold: int
) -> sparse.csr_matrix:
    """R_U by degrees: a score for each of its pairs, (n, n) float32 in (0, 1), else 0.

    It joins both ways of section 2.2. Of c users in common the threshold gives c / (c + threshold),
    the top K the cosine that ranks, over the highest cosine of either item: of the two items' ranks
    the better one counts. The score is the product.

    Parameters
    ----------
    related : (n, n) bool, R_U, whose items share one user at least
    plays : (users, n), as for ``shared_listeners``
    """
    users_of = (plays > 0).astype(np.float32).T.tocsr()
    pairs = sparse.triu(related, 1).tocoo()
    a, b = pairs.row, pairs.col
    shared = np.zeros(len(a))
    for start in range(0, len(a), ROWS):
        some = slice(start, start + ROWS)
        shared[some] = np.ravel(users_of[a[some]].multiply(users_of[b[some]]).sum(axis=1))
    users = users_of.getnnz(axis=1)
    cosine = shared / np.sqrt(users[a] * users[b])
    highest = np.zeros(len(users))
    np.maximum.at(highest, np.concatenate([a, b]), np.concatenate([cosine, cosine]))
    near = cosine / np.minimum(highest[a], highest[b])
    scores = (near * shared / (shared + threshold)).astype(np.float32)
    one_way = sparse.csr_matrix((scores, (a, b)), shape=related.shape)
    return (one_way + one_way.T).tocsr()


def _without(heard: sparse.csr_matrix, items: Rows) -> sparse.csr_matrix:
    """Empty the columns of some items, (users, n) -> (users, n)."""
    left = np.ones(heard.shape[1], dtype=bool)
    left[items] = False
    remaining = left[heard.indices]
    starts = np.append(0, np.cumsum(remaining, dtype=np.int64))[heard.indptr]
    cells = (np.ones(starts[-1], dtype=heard.dtype), heard.indices[remaining], starts)
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
    neighbours = []
    for item in rest[start : start + block]:
        users = users_of.indices[users_of.indptr[item] : users_of.indptr[item + 1]]
        others, count = _counted(heard, users)
        if len(others) == heard.shape[1]:
            count[popular] = with_popular[item]
        else:
            others = np.append(popular, others)
            count = np.append(with_popular[item], count)
        neighbours.append(relate(item, others, count))
    return neighbours


def _counted(heard: sparse.csr_matrix, users: Rows) -> tuple[Rows, NDArray[np.int32]]:
    """Count who of some users heard each item: of all items, or where few are met of those."""
    n = heard.shape[1]
    met = int((heard.indptr[users + 1] - heard.indptr[users]).sum())
    if met * SPARSE < n:
        others, few = np.unique(heard[users].indices, return_counts=True)
        return others.astype(np.int64), few.astype(np.int32)
    # As a product with ones: it reads 6 bytes a pair and counts in 2 bytes an item, which stay in
    # the nearest cache; numpy.bincount would widen both to 8 first.
    count = np.zeros(n, dtype=np.int32)
    for start in range(0, len(users), USERS_AT_ONCE):
        some = heard[users[start : start + USERS_AT_ONCE]]
        count += some.T @ np.ones(some.shape[0], dtype=np.int16)
    return np.arange(n), count


def _users_shared(
    heard: sparse.csr_matrix, items: Rows, progress: Progress = silent
) -> NDArray[np.int32]:
    """Count the users that each of n items shares with some, (n, m), by blocks of users."""
    total = np.zeros((heard.shape[1], len(items)), dtype=np.int32)
    chosen = heard[:, items]
    starts = range(0, heard.shape[0], USERS_AT_ONCE)
    for start in watched(starts, progress, "R_U, best known"):
        some = slice(start, start + USERS_AT_ONCE)
        by_item, dense = heard[some].T.tocsr(), chosen[some].toarray()
        for first in range(0, len(items), ITEMS_AT_ONCE):
            columns = slice(first, first + ITEMS_AT_ONCE)
            total[:, columns] += by_item @ dense[:, columns]
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
