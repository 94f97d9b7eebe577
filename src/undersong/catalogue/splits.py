"""Train, validation and test, by item, and who is long tail (section 3.1).

The long tail is the items without a single known relation. They are split too, so that each
part has its share of them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue.schema import SPLITS, Kind
from undersong.catalogue.tables import Catalogue
from undersong.errors import DataError


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the items without a given split. The paper takes 80 / 10 / 10."""

    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} must be above 0 and leave "
                "a share to train on"
            )


def linked(catalogue: Catalogue, kind: Kind) -> NDArray[np.bool_]:
    """Say of each item whether any relation of it is known; the others are the long tail."""
    pairs = catalogue.pairs(kind)
    return (
        catalogue.items(kind)["id"].is_in(pl.concat([pairs["a"], pairs["b"]]).implode()).to_numpy()
    )


def split(
    catalogue: Catalogue, kind: Kind, settings: SplitSettings, *, seed: int
) -> NDArray[np.str_]:
    """Say of each item whether it is ``train``, ``validation`` or ``test``.

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
        given = catalogue.items(kind)["split"].fill_null("").to_numpy().astype("<U10")
        has_link = linked(catalogue, kind)
        parts = given.copy()
        for group in (~has_link,) if (given != "").any() else (has_link, ~has_link):
            free = np.flatnonzero(group & (given == ""))
            parts[free] = _shares(len(free), settings, generator)
        parts[parts == ""] = "train"
    for part in SPLITS:
        if not (parts == part).any():
            raise DataError(
                f"the {part} split of {len(parts)} {kind}s is empty; give a `split` column in the "
                "mapping, or larger shares under [split] in the settings"
            )
    return parts


def _split_tracks(catalogue: Catalogue, settings: SplitSettings, seed: int) -> NDArray[np.str_]:
    artists = dict(
        zip(catalogue.ids("artist"), split(catalogue, "artist", settings, seed=seed), strict=True)
    )
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
    """Shuffle n labels in the asked shares, rounded so that small groups get at least one."""
    validation, test = (
        min(max(round(n * share), 1), n // 3) for share in (settings.validation, settings.test)
    )
    labels = np.array(
        ["validation"] * validation + ["test"] * test + ["train"] * (n - validation - test),
        dtype="<U10",
    )
    generator.shuffle(labels)
    return labels
