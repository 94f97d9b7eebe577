"""Who may be an answer, by filters on attributes, and how far apart answers lie."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Attributes
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, nearest_known
from undersong.retrieval.index import TopK
from undersong.retrieval.query import Query

NO_FACTS = (
    "this run was trained before filters were known and holds no facts of its items; "
    "train again with `undersong train`, or ask without filters"
)


def check(request: Query, facts: Attributes | None) -> None:
    """See that a request can be asked of a run: its facts are there, its words are known.

    Raises
    ------
    ArtifactError
        If a filter asks for facts and there are none.
    DataError
        For a genre or region that no item has, with the nearest one that some have.
    """
    if not request.asks_facts:
        return
    if facts is None:
        raise ArtifactError(NO_FACTS)
    _check_words("genre", request.genres, facts.genres)
    _check_words("region", request.regions, facts.regions)


def passing(request: Query, facts: Attributes) -> NDArray[np.bool_]:
    """Return which of some items may be answers, (n,), for a request that ``check`` let through."""
    filters = [passes.fill_null(False) for _, passes in _filters(request, facts)]
    if not filters:
        return np.ones(len(facts.table), dtype=bool)
    return facts.table.select(pl.all_horizontal(filters)).to_series().to_numpy().astype(bool)


def nearer(embeddings: Embeddings, one: Sequence[str], other: Sequence[str]) -> frozenset[str]:
    """Return the ids of items nearer to one of ``other`` than to any of ``one``, and ``other``.

    By the cosine of E_G; both name items by their ids.
    """
    vectors, index = embeddings.vectors, embeddings.index
    first, second = (
        (vectors @ vectors[[index[x] for x in ids]].T).max(axis=1) for ids in (one, other)
    )
    rows = np.flatnonzero(second > first).tolist()
    return frozenset(other).union(embeddings.ids[x] for x in rows)


def why_nothing(request: Query, facts: Attributes) -> str:
    """Write in a sentence how many items each filter leaves on its own."""
    n = len(facts.table)
    filters = {name: passes.fill_null(False).sum() for name, passes in _filters(request, facts)}
    left = facts.table.select(**filters).row(0, named=True)
    effects = "; ".join(f"{name}: {n - count:,} are left out" for name, count in left.items())
    if request.only_unlinked:
        effects = "; ".join(
            filter(None, [effects, "only unlinked: those with a relation are left out"])
        )
    return f"no item passes all filters (of {n:,} items, by each filter alone: {effects})"


def _filters(request: Query, facts: Attributes) -> Iterator[tuple[str, pl.Expr]]:
    """Each filter of a request: what to call it, and who passes; null where not known."""
    genres = pl.col("genres").list.set_intersection(sorted(request.genres)).list.len()
    decade, percentile = pl.col("decade"), pl.col("percentile")
    first = (request.decade_from or 0) // 10 * 10
    everybody: frozenset[str] = frozenset()
    filters = (
        (request.genres, "genre", genres >= (len(request.genres) if request.all_genres else 1)),
        (request.regions, "region", pl.col("region").is_in(request.regions)),
        (request.decade_from is not None, "first decade", decade >= first),
        (request.decade_to is not None, "last decade", decade <= (request.decade_to or 0)),
        (request.pop_begin > 0, "pop_begin", percentile >= request.pop_begin),
        (request.most_popular < 1, "most popular", percentile <= request.most_popular),
        (request.library is not None, "library", _among(request.library or everybody, facts)),
        (request.exclude, "exclude", ~_among(request.exclude, facts)),
    )
    return ((name, passes) for applies, name, passes in filters if applies)


def _among(ids: Iterable[str], facts: Attributes) -> pl.Expr:
    """Return which items are of a set. By rows: polars is far slower for a million ids."""
    there = np.zeros(len(facts.table), dtype=bool)
    there[[facts.index[item] for item in ids if item in facts.index]] = True
    return pl.lit(pl.Series(there))


def _check_words(what: str, words: Iterable[str], known: tuple[str, ...]) -> None:
    strange = sorted(set(words) - set(known))
    if strange and not known:
        raise DataError(f"no {what} is known of any item, so none is {strange[0]!r}")
    if strange:
        hint = nearest_known(strange[0], known)
        if not hint.startswith("did"):
            hint = f"{len(known)} are known, such as {', '.join(map(repr, known[:5]))}"
        raise DataError(f"no item has the {what} {strange[0]!r}; {hint}")


POOL = 5  # answers for each one wanted that diversity chooses from
LEAST = 50  # and at least so many


def reach(query: Query) -> int:
    """How many answers of the order are looked at to give k of them."""
    return max(POOL * query.k, LEAST) if query.diversity else query.k


def cap(answers: TopK, query: Query, attributes: Attributes) -> NDArray[np.bool_]:
    """Return which answers stay, (q, k), when an artist or album may have only so many.

    From the best on, an answer goes whose artist or album has its share already. One whose artist
    or album is not known stays.
    """
    staying = answers.neighbours >= 0
    for column, most in (("artist", query.per_artist), ("album", query.per_album)):
        if most is not None:
            staying &= _within(answers.neighbours, staying, _codes(attributes.table[column]), most)
    return staying


def diversify(
    answers: TopK, vectors: NDArray[np.float32], *, k: int, diversity: float
) -> NDArray[np.int64]:
    """Choose k of the answers by maximal marginal relevance, as places in the list, (q, k).

    The best answer comes first; each further one is the highest in

        (1 - diversity) relevance - diversity (greatest cosine of E_G to one chosen before)

    Relevance is the place in the list, from 1 for the first down to 0 behind the last: the scores
    of a learned order and cosines have no scale in common.

    Source
    ------
    Carbonell and Goldstein, The use of MMR, SIGIR 1998.
    """
    q, pool = answers.neighbours.shape
    there = answers.neighbours >= 0
    counts = there.sum(axis=1, keepdims=True)
    relevance = 1 - np.arange(pool) / np.maximum(counts, 1)
    units = vectors[answers.neighbours]  # (q, pool, d)
    nearest = np.zeros((q, pool), dtype=np.float32)
    chosen = np.full((q, min(k, pool)), -1, dtype=np.int64)
    left, every = there.copy(), np.arange(q)
    for turn in range(chosen.shape[1]):
        value = (1 - diversity) * relevance - diversity * nearest
        best = np.where(left, value, -np.inf).argmax(axis=1) if turn else np.zeros(q, np.int64)
        chosen[:, turn] = np.where(left[every, best], best, -1)
        left[every, best] = False
        similar = np.einsum("qpd,qd->qp", units, units[every, best])
        nearest = np.maximum(nearest, similar) if turn else similar
    return chosen


def _within(
    rows: NDArray[np.int64], staying: NDArray[np.bool_], codes: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Whether fewer than ``most`` staying answers before each have its code, (q, k)."""
    within = staying.copy()
    for at, row in enumerate(rows):
        seen: dict[int, int] = {}
        for place, code in enumerate(codes[row].tolist()):
            if staying[at, place] and code >= 0:
                seen[code] = seen.get(code, 0) + 1
                within[at, place] = seen[code] <= most
    return within


def _codes(words: pl.Series) -> NDArray[np.int64]:
    """A number for each word, -1 where there is none, (n,)."""
    return words.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
