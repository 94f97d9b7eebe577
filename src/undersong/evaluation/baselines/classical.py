"""Baselines without a network: by chance, fame, tags, plays, and known relations."""

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Catalogue, Kind
from undersong.errors import DataError
from undersong.evaluation.method import Method, by_query, from_vectors, unit_rows
from undersong.features import Modality, latent, side_by_side
from undersong.relations import Task, known, listeners


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


USERS = 512  # compared with all others at a time


def co_listening(catalogue: Catalogue, kind: Kind) -> Method:
    """Cosine between the columns of users by items, of ln(1 + plays).

    Raises
    ------
    DataError
        If the catalogue has no plays of this kind.
    """
    plays = _plays(catalogue, kind)
    plays.data = np.log1p(plays.data)
    heard = plays.T.tocsr()
    missing = np.diff(heard.indptr) == 0
    return from_vectors("co-listening", heard, missing=missing, note="item-item cosine of plays")


def user_based(
    catalogue: Catalogue, kind: Kind, *, neighbours: int = 20, most: int = 10_000
) -> Method:
    """Cosine of items by what user-based collaborative filtering predicts of every user.

    A user is predicted the ln(1 + plays) of the users most alike, each by the cosine of the two.

    Parameters
    ----------
    neighbours : users most alike, the user not among them, whose own plays count as of cosine 1
    most : users; of more a random part, so that memory is bounded

    Raises
    ------
    DataError
        If the catalogue has no plays of this kind.

    Source
    ------
    The user-based half of Sunitha and Adilakshmi, Music Recommendation System with User-Based and
    Item-Based Collaborative Filtering Technique, 2018, who recommend to users. Here two items are
    as similar as their predictions.
    """
    plays = _plays(catalogue, kind)
    missing = np.diff(plays.tocsc().indptr) == 0
    if plays.shape[0] > most:
        plays = plays[np.sort(np.random.default_rng(0).choice(plays.shape[0], most, replace=False))]
    plays.data = np.log1p(plays.data)
    users = unit_rows(plays)
    predicted = [
        _alike(users, start, neighbours) @ plays for start in range(0, plays.shape[0], USERS)
    ]
    note = f"{neighbours} users most alike"
    return from_vectors(
        "user-based CF", sparse.vstack(predicted).T.tocsr(), missing=missing, note=note
    )


def _alike(users: sparse.csr_matrix, start: int, neighbours: int) -> sparse.csr_matrix:
    """Cosines of a block of users with themselves and those most alike, (b, users)."""
    cosines = (users[start : start + USERS] @ users.T).toarray()
    if neighbours + 1 < cosines.shape[1]:
        least = np.partition(cosines, -neighbours - 1, axis=1)[:, -neighbours - 1]
        cosines[cosines < least[:, None]] = 0
    return sparse.csr_matrix(cosines)


def als(
    catalogue: Catalogue,
    kind: Kind,
    *,
    seed: int,
    factors: int = 64,
    regularization: float = 0.05,
    confidence: float = 2.0,
    iterations: int = 15,
) -> Method:
    """Cosine of item factors from implicit-feedback ALS (``implicit``) of ln(1 + plays).

    Parameters
    ----------
    factors, regularization, iterations : of the factorisation
    confidence : weight of one unit of ln(1 + plays) against an absent play

    Raises
    ------
    DataError
        If the catalogue has no plays of this kind.

    Source
    ------
    Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook its progress bar asks for widgets
        from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    plays = _plays(catalogue, kind)
    plays.data = (confidence * np.log1p(plays.data)).astype(np.float32)
    missing = np.diff(plays.tocsc().indptr) == 0
    # One thread keeps the result the same from run to run, and a threaded BLAS below implicit's
    # own threads would be slower (implicit warns of it).
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=min(factors, *plays.shape),
            regularization=regularization,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
            use_gpu=False,
        )
        model.fit(plays, show_progress=False)
    vectors = np.asarray(model.item_factors, dtype=np.float32)
    return from_vectors("ALS", vectors, missing=missing, note=f"{vectors.shape[1]} factors")


def _plays(catalogue: Catalogue, kind: Kind) -> sparse.csr_matrix:
    plays = listeners(catalogue, kind)
    if plays.nnz == 0:
        raise DataError(f"the catalogue has no plays of {kind}s; leave the baselines of plays out")
    return plays


def visible_edges(task: Task, split: str) -> sparse.csr_matrix:
    """Relations that protocol ``linked`` shows, (n, n) bool, symmetric.

    Those between two training items, and between a training item and one of ``split``. A
    relation between two items that are not for training is never visible.
    """
    train = task.within("train")
    shown = known(task.catalogue, task.kind, train | task.within(split)).tocoo()
    touches = train[shown.row] | train[shown.col]
    cells = (shown.data[touches], (shown.row[touches], shown.col[touches]))
    return sparse.csr_matrix(cells, shape=shown.shape, dtype=bool)


def personalised_pagerank(
    edges: sparse.csr_matrix, *, restart: float = 0.3, steps: int = 20
) -> Method:
    """Probability that a walk from the query, which starts again at any step, is at an item.

    Parameters
    ----------
    edges : (n, n) bool, symmetric
    restart : probability of going back to the query, in (0, 1)
    steps : longest walk that counts

    A query without edges has no idea: all its scores are 0.
    """
    degree = np.asarray(edges.sum(axis=1)).ravel()
    spread = (edges.astype(np.float32) @ sparse.diags(1 / np.maximum(degree, 1))).tocsr()
    spread = spread.astype(np.float32)  # column j holds where a walk goes from j

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        itself = rows, np.arange(len(rows))
        walk = np.zeros((edges.shape[0], len(rows)), dtype=np.float32)
        walk[itself] = restart
        for _ in range(steps):
            walk = spread @ walk
            walk *= 1 - restart
            walk[itself] += restart
        return by_query(walk)

    return Method("PageRank", scores, sees_edges=True, note=f"personalised, restart {restart:g}")


def adamic_adar(edges: sparse.csr_matrix) -> Method:
    """Sum over the items related to both of 1 / ln(how many relations those have).

    Source
    ------
    Adamic and Adar, Friends and neighbors on the Web, Social Networks 25, 2003.
    """
    degree = np.asarray(edges.sum(axis=1)).ravel()
    # A neighbour of two items has two relations, so the log of 1 never weighs anything.
    weight = np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0).astype(np.float32)
    links = edges.astype(np.float32).tocsr()
    weighted = (links @ sparse.diags(weight)).tocsr().astype(np.float32)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.asarray((weighted[rows] @ links).toarray(), dtype=np.float32)
        return scores

    return Method("Adamic-Adar", scores, sees_edges=True, note="common relations")


def common_neighbours(edges: sparse.csr_matrix) -> Method:
    """Count the items that are related to both.

    Source
    ------
    Liben-Nowell and Kleinberg, The Link Prediction Problem for Social Networks, CIKM 2003.
    """
    links = edges.astype(np.float32).tocsr()

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.asarray((links[rows] @ links).toarray(), dtype=np.float32)
        return scores

    return Method("common neighbours", scores, sees_edges=True, note="items related to both")
