"""Baselines from listening alone: item-item cosine, user-based, and matrix factorisation."""

import warnings

import numpy as np
from scipy import sparse

from undersong.catalogue import Catalogue, Kind
from undersong.errors import DataError
from undersong.evaluation.method import Method, from_vectors, unit_rows
from undersong.relations import listeners

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
