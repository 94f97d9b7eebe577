"""What several items, or several runs, agree on: answers fused by rank, never a mean of vectors.

A mean of unlike vectors may lie where nobody lives, and vectors of two trainings lie in two spaces.
So each item of each run answers for itself, and who is named by several comes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Attributes
from undersong.errors import DataError
from undersong.retrieval import filters
from undersong.retrieval.index import Index, TopK
from undersong.retrieval.neighbours import search
from undersong.retrieval.query import Query

OFFSET = 60  # of Cormack et al.: how little the first ranks stand out
DEEP = 100  # answers of each seed that are fused, or k if that is more
DEEPER = 4  # times as many, where caps leave fewer than k of them


@dataclass(frozen=True)
class Fused:
    """Answers to several seeds, or of several runs, best first.

    Parameters
    ----------
    ids : of the k answers
    scores : (k,), sum of 1 / (60 + rank) over the lists that name the answer
    confidence : (k,), mean of the lists that name it and know how sure they are, else NaN
    seeds : of each answer the ids of those that led to it, the one that ranks it highest first
    note : why there is none, if filters left none
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    seeds: tuple[tuple[str, ...], ...]
    note: str = ""


def fuse(
    indexes: Sequence[Index],
    seeds: Sequence[str],
    *,
    query: Query,
    attributes: Sequence[Attributes | None] | None = None,
    weights: Mapping[str, float] | None = None,
    seeds_too: bool = False,
) -> Fused:
    """List what is similar to several items, given by their ids, as one or several runs find it.

    Each seed of each run lists its own answers, in its own order; an answer's score is the sum of
    1 / (60 + rank) over the lists, 100 long or more. So one in the first 62 of two lists stands
    before the first of a single one. Of equal ones that which the first seed ranks higher comes
    first: seeds that have nothing in common take turns. No seed is an answer.

    Parameters
    ----------
    indexes : of runs of one kind of item; the first one's items may be answers
    attributes : of each run, or None without filters; caps and diversity go by those of the first
    weights : above 0, by which what a seed's list gives is multiplied; 1 where there is none
    seeds_too : whether one of several seeds may be an answer to the others

    Raises
    ------
    DataError
        If a run knows nothing of a seed, with the run's place in the list; or as ``retrieve``.
    ArtifactError
        As ``retrieve``.

    Source
    ------
    Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009.
    """
    distinct = tuple(dict.fromkeys(seeds))
    known = attributes if attributes is not None else [None] * len(indexes)
    filters.check(query, known[0])
    others = frozenset(distinct) if len(distinct) > 1 and not seeds_too else frozenset()
    worth = np.array([(weights or {}).get(x, 1.0) for x in distinct])
    alone = replace(
        query, exclude=query.exclude | others, per_artist=None, per_album=None, diversity=0.0
    )
    depth, deepest = (
        max(filters.reach(query), DEEP),
        max(len(x.embeddings.ids) for x in indexes),
    )
    while True:
        deep = replace(alone, k=depth)
        lists = list(_lists(indexes, distinct, query=deep, attributes=known, weights=worth))
        fused = _fused([table for table, _ in lists])
        spread = _spread(fused, indexes[0], query=query, attributes=known[0])
        if len(spread) >= query.k or not query.caps or depth >= deepest:
            break
        depth *= DEEPER
    note = "" if len(spread) else next((x for _, x in lists if x), "")
    return Fused(
        tuple(indexes[0].embeddings.ids[x] for x in spread["item"]),
        spread["score"].to_numpy(),
        spread["confidence"].fill_null(float("nan")).to_numpy(),
        tuple(tuple(distinct[x] for x in own) for own in spread["seeds"]),
        note,
    )


def _lists(
    indexes: Sequence[Index],
    seeds: Sequence[str],
    *,
    query: Query,
    attributes: Sequence[Attributes | None],
    weights: NDArray[np.float64],
) -> Iterator[tuple[pl.DataFrame, str]]:
    """What each run's seeds list, seed by seed: item (a row of the first run), seed, worth, chance.

    With each, in a sentence, why it is empty, if filters left nothing.
    """
    for place, (index, known) in enumerate(zip(indexes, attributes, strict=True), start=1):
        for seed in seeds:
            if seed not in index.embeddings.index:
                raise DataError(
                    f"run {place} of {len(indexes)} has nothing about {seed!r}; leave the run out"
                )
        rows, before = np.array([index.embeddings.index[x] for x in seeds]), 0
        for block in search(index, rows, query=query, attributes=known):
            listed, rank = np.nonzero(block.neighbours >= 0)
            table = pl.DataFrame(
                {
                    "item": _in_first(indexes[0], index, block.neighbours[listed, rank]),
                    "seed": before + listed,
                    "worth": weights[before + listed] / (OFFSET + 1.0 + rank),
                    "chance": block.confidence[listed, rank].astype(np.float64),
                }
            )
            before += len(block.rows)
            yield table.filter(pl.col("item") >= 0), block.note


def _in_first(first: Index, index: Index, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in the first run of items that another one names, -1 for those it does not know."""
    if index is first:
        return rows
    ids, row = index.embeddings.ids, first.embeddings.index
    return np.array([row.get(ids[x], -1) for x in rows.tolist()], dtype=np.int64)


def _fused(lists: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Join lists to one, best first: item, score, confidence, seeds."""
    return (
        pl.concat(lists)
        .group_by("item", maintain_order=True)
        .agg(
            score=pl.sum("worth"),
            confidence=pl.col("chance").fill_nan(None).mean(),
            seeds=pl.col("seed").sort_by("worth", descending=True).unique(maintain_order=True),
        )
        .sort("score", descending=True, maintain_order=True)
    )


def _spread(
    fused: pl.DataFrame, index: Index, *, query: Query, attributes: Attributes | None
) -> pl.DataFrame:
    """Keep k answers, within the caps and as unlike as is wished."""
    if query.caps and attributes is not None:
        fused = fused.filter(filters.cap(_block(fused), query, attributes)[0])
    if query.diversity and len(fused):
        pool, vectors = _block(fused.head(filters.reach(query))), index.embeddings.vectors
        places = filters.diversify(pool, vectors, k=query.k, diversity=query.diversity)[0]
        return fused.select(pl.all().gather(places))
    return fused.head(query.k)


def _block(fused: pl.DataFrame) -> TopK:
    """The same as the answers to one query, which is no item."""
    scores = fused["score"].to_numpy().astype(np.float32)[None]
    return TopK(np.array([-1]), fused["item"].to_numpy()[None], scores, scores)
