"""Baselines that learn nothing: chance, popularity, tags, all sources side by side."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Catalogue, Kind
from undersong.errors import DataError
from undersong.evaluation.method import Method, from_vectors, unit_rows
from undersong.features import Modality, latent, side_by_side
from undersong.relations import Task


def random(n: int, *, seed: int) -> Method:
    """Order all n items by chance, anew for each query: the chance level of every metric."""

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = [np.random.default_rng([seed, row]).random(n, dtype=np.float32) for row in rows]
        return np.stack(drawn)

    return Method("random", scores, note="chance level")


def popularity(task: Task) -> Method:
    """Answer every query with the most popular items; the note says by what measure."""
    values, measure = item_popularity(task)
    row = values.astype(np.float32)[None, :]
    return Method("popularity", lambda rows: np.repeat(row, len(rows), axis=0), note=measure)


def item_popularity(
    task: Task,
) -> tuple[NDArray[np.float64], str]:
    """Measure how popular each item is, (n,), -inf where unknown, and by what.

    The first that the catalogue has of: the field with the role of popularity, the popularity
    of tracks, the number of plays, the number of relations among training items.
    """
    catalogue, kind = task.catalogue, task.kind
    table = catalogue.items(kind)
    role = catalogue.role(kind, "popularity")
    column = role.name if role and role.type == "number" else "popularity"
    if table.schema.get(column) == pl.Float64 and table[column].count():
        values = table[column].to_numpy().astype(np.float64)
        return np.where(np.isfinite(values), values, -np.inf), f"by {column}"
    totals = catalogue.played(kind).group_by("item").agg(pl.col("plays").sum()).collect()
    if len(totals):
        joined = table.select(item="id").join(totals, on="item", how="left", maintain_order="left")
        return joined["plays"].fill_null(0).to_numpy(), "by number of plays"
    degree = np.asarray(task.related("train").sum(axis=1)).ravel()
    return degree.astype(np.float64), "by number of relations among training items"


def tags(catalogue: Catalogue, kind: Kind) -> Method:
    """Cosine of TF-IDF vectors of all words of all tags and categories that are not withheld.

    The same word in two fields is two words. An item with a word counts once: tf is 1 or 0,
    idf = ln(n / items with the word) + 1.

    Raises
    ------
    DataError
        If the catalogue has no such field.
    """
    words, note = _weighed_words(catalogue, kind)
    return from_vectors("tag kNN", words, missing=_none(words.shape[0]), note=note)


def latent_tags(catalogue: Catalogue, kind: Kind, *, width: int = 256) -> Method:
    """Cosine of the same vectors, each of length 1, in their strongest singular directions (LSI).

    Raises
    ------
    DataError
        If the catalogue has no such field.

    Source
    ------
    The space of tags in Schindler and Knees, Multi-Task Music Representation Learning from
    Multi-Label Embeddings, CBMI 2019.
    """
    words, note = _weighed_words(catalogue, kind)
    vectors = latent(unit_rows(words), width)
    return from_vectors("LSI of tags", vectors, missing=_none(len(vectors)), note=note)


def _weighed_words(catalogue: Catalogue, kind: Kind) -> tuple[sparse.csr_matrix, str]:
    """TF-IDF of every item, (n, words), and of which fields."""
    fields = [f for f in catalogue.fields_of(kind) if f.type != "number" and not f.withheld]
    if not fields:
        raise DataError(f"the {kind}s have no tags or category field; leave tag kNN out")
    words = sparse.hstack([word_matrix(catalogue.items(kind)[f.name]) for f in fields]).tocsr()
    counts = np.asarray(words.sum(axis=0)).ravel()
    weight = np.log(words.shape[0] / np.maximum(counts, 1)) + 1
    return words @ sparse.diags(weight), "TF-IDF of " + ", ".join(f.name for f in fields)


def word_matrix(column: pl.Series) -> sparse.csr_matrix:
    """Mark who has which word of a category or tags column, (n, vocabulary) float32, 1 or 0."""
    lists = column.to_list() if column.dtype == pl.List else [[x] for x in column.to_list()]
    sets = [sorted({word for word in words or () if word is not None}) for words in lists]
    number = {word: place for place, word in enumerate(sorted({w for s in sets for w in s}))}
    columns = [number[word] for words in sets for word in words]
    starts = np.concatenate([[0], np.cumsum([len(words) for words in sets], dtype=np.int64)])
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_matrix((ones, columns, starts), shape=(len(sets), max(len(number), 1)))


def concatenation(sources: Sequence[Modality]) -> Method:
    """Cosine of all sources laid side by side, each by its weight.

    Raises
    ------
    DataError
        Without any source.
    """
    matrix = side_by_side(sources)
    note = "untrained: " + ", ".join(source.name for source in sources)
    return from_vectors("all sources", matrix, missing=_none(matrix.shape[0]), note=note)


def _none(n: int) -> NDArray[np.bool_]:
    return np.zeros(n, dtype=bool)
