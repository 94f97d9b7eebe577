"""Which linked items look most like those that nobody has linked.

Items whose relations are hidden stand in for the long tail when a model learns or is judged. Drawn
at random from the linked they are popular and well described, and the long tail is neither. Here
they are drawn by their odds of being unlinked, as far as popularity and what is missing tell.
"""

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue.schema import Kind
from undersong.catalogue.tables import Catalogue
from undersong.metrics import percentiles

PENALTY = 1.0  # of the squared weights: keeps them finite where the tail is told apart exactly


def tail_odds(
    catalogue: Catalogue,
    kind: Kind,
    *,
    has_link: NDArray[np.bool_],
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the log-odds of each item to be unlinked by what is known of it, (n,).

    Parameters
    ----------
    has_link : (n,) bool, items with relations
    among : (n,) bool, items that say how linked and unlinked ones differ; all by default

    Notes
    -----
    Logistic regression on how much is known: of every field that models read whether it is
    missing, the percentile of a number, how many words there are; the percentile of the plays; and
    whether feature vectors are missing. No relation is read but whether there is one. Without any
    unlinked item, or without any difference, all items have the same odds.
    """
    unlinked = ~has_link
    asking = np.ones(len(unlinked), dtype=bool) if among is None else among
    if not unlinked[asking].any() or unlinked[asking].all():
        return np.zeros(len(unlinked))
    columns = np.stack(_descriptions(catalogue, kind), axis=1)
    return fit_odds(columns, unlinked, among=asking)


def fit_odds(
    columns: NDArray[np.float64], positive: NDArray[np.bool_], *, among: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Fit log-odds of being positive by logistic regression, (n, c) columns -> (n,).

    ``among``, (n,) bool, are the rows that are fitted.
    """
    deviation = columns[among].std(axis=0)
    varied = deviation > 0
    middle = columns[among][:, varied].mean(axis=0)
    scaled = (columns[:, varied] - middle) / deviation[varied]
    whole = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)
    design, sign = whole[among], np.where(positive[among], 1.0, -1.0)

    def cost(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = sign * (design @ weights)
        slopes = design.T @ (-sign * scipy.special.expit(-margins))
        shrunk = np.append(weights[:-1], 0.0)
        loss = np.logaddexp(0, -margins).sum() + 0.5 * PENALTY * shrunk @ shrunk
        return float(loss), slopes + PENALTY * shrunk

    start = np.zeros(design.shape[1])
    best = scipy.optimize.minimize(cost, start, jac=True, method="L-BFGS-B").x
    return np.asarray(whole @ best, dtype=np.float64)


def draw_alike(
    generator: np.random.Generator,
    log_odds: NDArray[np.float64],
    among: NDArray[np.int64],
    size: int,
) -> NDArray[np.int64]:
    """Draw rows among some without replacement, each by its odds, ascending.

    Source
    ------
    Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006: the largest of
    log-weight plus Gumbel noise.
    """
    keys = log_odds[among] + generator.gumbel(size=len(among))
    return np.sort(among[np.argsort(-keys, kind="stable")[:size]])


def _descriptions(catalogue: Catalogue, kind: Kind) -> list[NDArray[np.float64]]:
    """Return columns that say how much is known of each item, (n,) each."""
    table = catalogue.items(kind)
    names = [(x.name, x.type) for x in catalogue.fields_of(kind) if not x.withheld]
    if kind == "track":
        names.append(("popularity", "number"))
    columns = []
    for name, form in names:
        column = table[name]
        if form == "number":
            values = column.to_numpy().astype(np.float64)
            columns += _measured(np.where(np.isfinite(values), values, -np.inf))
        elif form == "tags":
            words = column.list.len().fill_null(0).to_numpy().astype(np.float64)
            columns += [np.log1p(words), (words == 0).astype(np.float64)]
        else:
            columns.append(column.is_null().to_numpy().astype(np.float64))
    totals = catalogue.played(kind).group_by("item").agg(pl.col("plays").sum()).collect()
    if len(totals):
        joined = table.select(item="id").join(totals, on="item", how="left", maintain_order="left")
        columns += _measured(joined["plays"].fill_null(-np.inf).to_numpy().astype(np.float64))
    for (_, of), vectors in catalogue.features.items():
        if of == kind:
            columns.append(vectors.align(catalogue.ids(kind))[1].astype(np.float64))
    return columns or [np.zeros(len(table))]


def _measured(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the percentile of each value, its square, and whether it is missing (-inf)."""
    missing = np.isneginf(values)
    percentile = np.where(missing, 0.0, percentiles(values))
    return [percentile, percentile**2, missing.astype(np.float64)]
