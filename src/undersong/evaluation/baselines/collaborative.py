"""Baselines from listening alone: item-item cosine and matrix factorisation."""

import warnings

import numpy as np
from scipy import sparse

from undersong.catalogue import Catalogue, Kind
from undersong.errors import DataError
from undersong.evaluation.method import Method, from_vectors
from undersong.relations import listeners


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
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

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
