"""R_P: items whose genre, region and popularity agree (section 2.4)."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Catalogue, Field, Kind, Role

META_ROLES: tuple[Role, ...] = ("genre", "region", "popularity")
QUANTILES = 5


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
    for column, present in zip(codes.T, known.T, strict=True):
        apart = column[:, None] != column[None, :]
        apart &= present[:, None]
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
