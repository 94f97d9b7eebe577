"""Who may be an answer: typed filters on facts, and in words which of them left nothing."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Attributes
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, nearest_known
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
