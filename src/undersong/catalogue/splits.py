"""Train, validation and test, by item; who is long tail, and which linked items look like it.

The long tail is the items without a single known relation (section 3.1). They are split too, so
that each part has its share of them. Items whose relations are hidden stand in for it when a model
learns or is judged. Drawn at random from the linked they are popular and well described, and the
long tail is neither. Here they are drawn by their odds of being unlinked, as far as popularity and
what is missing tell.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue.schema import SPLITS, Kind
from undersong.catalogue.tables import Catalogue
from undersong.errors import DataError
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


AT_RANDOM, ALIKE = "at random", "like the unlinked"


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the items without a given split. The paper takes 80 / 10 / 10.

    Parameters
    ----------
    tail : how linked items are drawn for validation and test
        "at random", as in the paper. "like the unlinked" draws each by its odds of being unlinked
        (``tail_odds``), and draws linked items anew that were given a split: they then stand
        for the long tail as it is, less popular and described by less.
    """

    validation: float = 0.1
    test: float = 0.1
    tail: str = AT_RANDOM

    def __post_init__(self) -> None:
        if self.tail not in (AT_RANDOM, ALIKE):
            raise ValueError(f"tail {self.tail!r} must be {AT_RANDOM!r} or {ALIKE!r}")
        if min(self.validation, self.test) <= 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} must be above 0 and leave "
                "a share to train on"
            )


def linked(catalogue: Catalogue, kind: Kind) -> NDArray[np.bool_]:
    """Return whether any relation of each item is known, (n,); the others are the long tail."""
    pairs = catalogue.pairs(kind)
    return (
        catalogue.items(kind)["id"].is_in(pl.concat([pairs["a"], pairs["b"]]).implode()).to_numpy()
    )


def split(
    catalogue: Catalogue, kind: Kind, settings: SplitSettings, *, seed: int
) -> NDArray[np.str_]:
    """Return the part of each item, (n,): ``train``, ``validation`` or ``test``.

    A split that the catalogue gives is kept. Where it gives one to some items, the other linked
    items are for training and only the other long-tail items are shared out; where it gives
    none, linked and long-tail items are shared out apart, so that the parts are alike. Tracks
    without a given split follow their artist: no artist is in two parts.

    Raises
    ------
    DataError
        If validation or test comes out empty.
    """
    generator = np.random.default_rng([seed, len(kind)])
    if kind == "track":
        parts = _split_tracks(catalogue, settings, seed)
    else:
        fixed = catalogue.items(kind)["split"].fill_null("").to_numpy().astype("<U10")
        has_link = linked(catalogue, kind)
        parts = fixed.copy()
        for group in (~has_link,) if (fixed != "").any() else (has_link, ~has_link):
            free = np.flatnonzero(group & (fixed == ""))
            parts[free] = _shares(len(free), settings, generator)
        parts[parts == ""] = "train"
        if settings.tail == ALIKE:
            odds = tail_odds(catalogue, kind, has_link=has_link)
            parts = _drawn_alike(parts, has_link, odds, settings, generator)
    for part in SPLITS:
        if not (parts == part).any():
            raise DataError(
                f"the {part} split of {len(parts)} {kind}s is empty; give a `split` column in the "
                "mapping, or larger shares under [split] in the settings"
            )
    return parts


def _drawn_alike(
    parts: NDArray[np.str_],
    has_link: NDArray[np.bool_],
    log_odds: NDArray[np.float64],
    settings: SplitSettings,
    generator: np.random.Generator,
) -> NDArray[np.str_]:
    """Draw the linked items of validation and test anew, by their odds of being unlinked."""
    rows = np.flatnonzero(has_link)
    sizes = [round(x * len(rows)) for x in (settings.validation, settings.test)]
    drawn = generator.permutation(draw_alike(generator, log_odds, rows, sum(sizes)))
    parts = parts.copy()
    parts[rows] = "train"
    parts[drawn[: sizes[0]]], parts[drawn[sizes[0] :]] = "validation", "test"
    return parts


def _artists_of_tracks(catalogue: Catalogue, settings: SplitSettings, seed: int) -> dict[str, str]:
    """Part of each artist; for a split like the unlinked by the mean odds of its linked tracks."""
    parts = split(catalogue, "artist", replace(settings, tail=AT_RANDOM), seed=seed)
    ids = catalogue.ids("artist")
    if settings.tail == ALIKE:
        has_link = linked(catalogue, "track")
        odds = tail_odds(catalogue, "track", has_link=has_link)
        place = {artist: row for row, artist in enumerate(ids)}
        owner = np.array([place.get(x, -1) for x in catalogue.tracks["artist"]], dtype=np.int64)
        some = has_link & (owner >= 0)
        count = np.bincount(owner[some], minlength=len(ids))
        mean = np.bincount(owner[some], weights=odds[some], minlength=len(ids)) / np.maximum(
            count, 1
        )
        generator = np.random.default_rng([seed, len(ids)])
        parts = _drawn_alike(parts, count > 0, mean, settings, generator)
    return dict(zip(ids, parts.tolist(), strict=True))


def _split_tracks(catalogue: Catalogue, settings: SplitSettings, seed: int) -> NDArray[np.str_]:
    artists = _artists_of_tracks(catalogue, settings, seed)
    parts = [
        own or artists[artist]
        for own, artist in catalogue.tracks.select("split", "artist").iter_rows()
    ]
    torn = catalogue.tracks.select("artist", pl.Series("part", parts, dtype=pl.String)).unique()
    twice = torn.filter(torn["artist"].is_duplicated()).sort("artist", "part")
    if len(twice):
        raise DataError(
            f"artist {twice['artist'][0]!r} has tracks in the splits {twice['part'][0]} and "
            f"{twice['part'][1]}; put all tracks of an artist into one"
        )
    return np.array(parts, dtype="<U10")


def _shares(n: int, settings: SplitSettings, generator: np.random.Generator) -> NDArray[np.str_]:
    """Shuffle n labels in these shares, rounded so that small groups get at least one."""
    validation, test = (
        min(max(round(n * share), 1), n // 3) for share in (settings.validation, settings.test)
    )
    labels = np.array(
        ["validation"] * validation + ["test"] * test + ["train"] * (n - validation - test),
        dtype="<U10",
    )
    generator.shuffle(labels)
    return labels
