import dataclasses

import numpy as np
import polars as pl
import pytest

from planted import wide_world
from undersong.catalogue.splits import draw_alike, fit_odds, linked, tail_odds
from undersong.catalogue.tables import Catalogue, Field
from undersong.metrics import percentiles


def catalogue_of(popularity, links):
    """Artists of whom popularity is known, and those at some rows linked in a chain."""
    ids = [f"a{x:03}" for x in range(len(popularity))]
    chain = pl.DataFrame(
        {
            "kind": "artist",
            "a": [ids[x] for x in links[:-1]],
            "b": [ids[x] for x in links[1:]],
            "source": "list",
        }
    )
    artists = pl.DataFrame({"id": ids, "name": ids, "split": None, "fame": popularity})
    return Catalogue(
        artists.with_columns(pl.col("split").cast(pl.String), pl.col("fame").cast(pl.Float64)),
        relations=chain,
        fields=(Field("fame", "artist", "number", "popularity"),),
    )


def odds_of(catalogue):
    return tail_odds(catalogue, "artist", has_link=linked(catalogue, "artist"))


def test_the_odds_follow_the_logit_that_chance_followed():
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(4000, 3)) * [1, 5, 0.2] + 3
    true = 1.5 * (columns[:, 0] - 3) - 0.2 * (columns[:, 1] - 3) - 0.5
    positive = generator.random(4000) < 1 / (1 + np.exp(-true))
    odds = fit_odds(columns, positive, among=np.arange(4000) % 7 != 2)
    assert np.abs(odds - true).max() < 0.7
    assert np.corrcoef(odds, true)[0, 1] > 0.99


def test_where_the_least_popular_are_unlinked_the_least_popular_linked_look_like_them():
    fame = np.random.default_rng(1).permutation(130).astype(float)
    links = np.flatnonzero(fame >= 48)
    odds = odds_of(catalogue_of(fame, links))
    assert np.isfinite(odds).all()
    drawn = draw_alike(np.random.default_rng(2), odds, links, 23)
    others = np.setdiff1d(links, drawn)
    assert percentiles(fame)[drawn].max() < 0.7
    assert fame[drawn].mean() + 20 < fame[others].mean()


def test_missing_values_make_an_item_look_unlinked_where_the_unlinked_lack_them():
    generator = np.random.default_rng(3)
    links = np.arange(0, 150, 2)
    fame = generator.permutation(151).astype(float)
    lacking = generator.random(151) < np.where(np.arange(151) % 2, 0.8, 0.2)
    fame[lacking] = np.nan
    odds = odds_of(catalogue_of(fame, links))
    assert odds[lacking].min() > odds[~lacking].max()


@pytest.mark.parametrize("links", [np.arange(57), np.arange(0)], ids=["all", "none"])
def test_where_all_are_linked_or_none_everybody_is_as_likely(links):
    assert not odds_of(catalogue_of(np.arange(57.0), links)).any()


def test_draws_are_by_the_odds_without_replacement():
    odds, counts = np.log([1.0, 2.0, 4.0, 0.5]), np.zeros(4)
    for seed in range(3000):
        drawn = draw_alike(np.random.default_rng(seed), odds, np.arange(4), 1)
        counts[drawn] += 1
    np.testing.assert_allclose(counts / 3000, np.exp(odds) / np.exp(odds).sum(), atol=0.03)
    several = draw_alike(np.random.default_rng(5), odds, np.array([3, 1, 0]), 3)
    np.testing.assert_array_equal(several, [0, 1, 3])


def test_nothing_but_whether_an_item_is_linked_is_read_of_relations():
    world = wide_world()
    turned = world.relations.with_columns(a="b", b="a").reverse()
    other = dataclasses.replace(world, relations=turned)
    np.testing.assert_array_equal(linked(world, "artist"), linked(other, "artist"))
    np.testing.assert_array_equal(odds_of(world), odds_of(other))
