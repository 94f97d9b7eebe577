import dataclasses

import numpy as np
import polars as pl
import pytest

from undersong.catalogue.splits import SplitSettings, linked, split
from undersong.catalogue.tables import ITEMS, RELATIONS, Catalogue, Field
from undersong.errors import DataError


def made(given: list[str | None], pairs: list[tuple[int, int]], tracks_each: int = 0) -> Catalogue:
    ids = [f"a{x:03}" for x in range(len(given))]
    artists = pl.DataFrame({"id": ids, "name": None, "split": given}, schema=ITEMS["artist"])
    rows = [("artist", ids[a], ids[b], "s") for a, b in pairs]
    tracks = [{"id": f"{x}-{y}", "artist": x} for x in ids for y in range(tracks_each)]
    return Catalogue(
        artists,
        tracks=pl.DataFrame(tracks, schema=ITEMS["track"]),
        relations=pl.DataFrame(rows, schema=RELATIONS, orient="row"),
        fields=(),
    )


def chain(count: int) -> list[tuple[int, int]]:
    return [(x, x + 1) for x in range(count - 1)]


def shares(parts: np.ndarray) -> dict[str, int]:
    return {
        str(name): int(n) for name, n in zip(*np.unique(parts, return_counts=True), strict=True)
    }


def test_the_long_tail_is_the_items_in_no_pair():
    assert linked(made([None] * 5, [(0, 3), (3, 1)]), "artist").tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_linked_and_long_tail_items_are_shared_out_apart():
    catalogue = made([None] * 90, chain(60))
    parts = split(catalogue, "artist", SplitSettings(0.1, 0.2), seed=7)
    assert shares(parts[:60]) == {"test": 12, "train": 42, "validation": 6}
    assert shares(parts[60:]) == {"test": 6, "train": 21, "validation": 3}


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    catalogue = made([None] * 90, chain(60))
    first, again, other = (
        split(catalogue, "artist", SplitSettings(), seed=seed) for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_a_given_split_is_kept_and_only_the_long_tail_is_shared_out():
    given = ["test", "validation", "train", *([None] * 7), *([None] * 40), "test"]
    parts = split(made(given, chain(10)), "artist", SplitSettings(), seed=1)
    assert parts[:10].tolist() == ["test", "validation", *(["train"] * 8)]
    assert shares(parts[10:50]) == {"test": 4, "train": 32, "validation": 4}
    assert parts[50] == "test"


def test_a_tenth_of_a_few_is_one():
    parts = split(made([None] * 12, chain(8)), "artist", SplitSettings(), seed=2)
    assert shares(parts[8:]) == {"test": 1, "train": 2, "validation": 1}


def test_tracks_follow_their_artist():
    catalogue = made([None] * 30, chain(20), tracks_each=3)
    parts = split(catalogue, "artist", SplitSettings(), seed=5)
    of_tracks = split(catalogue, "track", SplitSettings(), seed=5)
    assert of_tracks.tolist() == np.repeat(parts, 3).tolist()


def test_a_split_given_to_a_track_is_its_own():
    catalogue = made([None] * 30, chain(20), tracks_each=1)
    given = catalogue.tracks.with_columns(split=pl.lit("test"))
    parts = split(
        Catalogue(
            catalogue.artists, tracks=pl.concat([catalogue.tracks[1:], given[:1]]), fields=()
        ),
        "track",
        SplitSettings(),
        seed=5,
    )
    assert parts[-1] == "test"


@pytest.mark.parametrize(
    ("given", "part"),
    [(["train", "test"], "validation"), (["train", "validation"], "test"), (["test"], "train")],
)
def test_an_empty_part_is_refused(given, part):
    catalogue = made(given, chain(len(given)))
    message = f"the {part} split of {len(given)} artists is empty; give a `split` column"
    with pytest.raises(DataError, match=message):
        split(catalogue, "artist", SplitSettings(), seed=0)


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.1), (0.1, -0.1), (0.4, 0.6)])
def test_shares_that_leave_nothing_are_refused(validation, test):
    with pytest.raises(ValueError, match="leave a share to train on"):
        SplitSettings(validation, test)


def test_an_artist_with_tracks_in_two_splits_is_refused():
    artists = pl.DataFrame(
        {"id": [f"a{x}" for x in range(9)], "name": [None] * 9, "split": [None] * 9},
        schema=ITEMS["artist"],
    )
    tracks = pl.DataFrame(
        [("t1", "a4", "One", None, None, "train"), ("t2", "a4", "Two", None, None, "test")],
        schema=ITEMS["track"],
        orient="row",
    )
    with pytest.raises(DataError, match="artist 'a4' has tracks in the splits test and train"):
        split(Catalogue(artists, tracks=tracks, fields=()), "track", SplitSettings(), seed=0)


def popular(links, n=160):
    """Artists in no order of popularity, of whom the most popular are linked in a chain."""
    fame = np.random.default_rng(4).permutation(n).astype(float)
    order = np.argsort(-fame)[:links]
    rows = [("artist", f"a{a}", f"a{b}", "s") for a, b in zip(order, order[1:], strict=False)]
    ids = [f"a{x}" for x in range(n)]
    artists = pl.DataFrame({"id": ids, "name": ids, "split": [None] * n, "fame": fame})
    return fame, Catalogue(
        artists.with_columns(pl.col("split").cast(pl.String)),
        relations=pl.DataFrame(rows, schema=RELATIONS, orient="row"),
        fields=(Field("fame", "artist", "number", "popularity"),),
    )


def test_a_split_like_the_unlinked_holds_the_least_popular_linked_items():
    fame, catalogue = popular(100)
    has_link = linked(catalogue, "artist")
    settings = SplitSettings(0.12, 0.17, tail="like the unlinked")
    parts = split(catalogue, "artist", settings, seed=3)
    counts = [((parts == x) & has_link).sum() for x in ("validation", "test")]
    assert counts == [12, 17]
    asking = has_link & (parts != "train")
    assert fame[asking].mean() + 25 < fame[has_link & ~asking].mean()
    plain = split(catalogue, "artist", SplitSettings(0.12, 0.17), seed=3)
    np.testing.assert_array_equal(parts[~has_link], plain[~has_link])
    np.testing.assert_array_equal(parts, split(catalogue, "artist", settings, seed=3))


def test_tracks_split_like_the_unlinked_follow_their_artists():
    fame, catalogue = popular(90)
    ids = [f"t{x}" for x in range(320)]
    tracks = pl.DataFrame(
        [(x, f"a{n // 2}", x, None, float(fame[n // 2]), None) for n, x in enumerate(ids)],
        schema=ITEMS["track"],
        orient="row",
    )
    order = np.argsort(-fame)[:90]
    rows = [
        ("track", f"t{2 * a}", f"t{2 * b + 1}", "s") for a, b in zip(order, order[1:], strict=False)
    ]
    catalogue = dataclasses.replace(
        catalogue, tracks=tracks, relations=pl.DataFrame(rows, schema=RELATIONS, orient="row")
    )
    parts = split(catalogue, "track", SplitSettings(tail="like the unlinked"), seed=1)
    assert (parts[::2] == parts[1::2]).all()
    asking = linked(catalogue, "track") & (parts == "test")
    popularity = tracks["popularity"].to_numpy()
    assert asking.sum() >= 9
    assert popularity[asking].mean() + 15 < popularity[linked(catalogue, "track")].mean()


def test_another_word_for_how_to_draw_is_refused():
    with pytest.raises(ValueError, match="tail 'odd' must be 'at random' or 'like the unlinked'"):
        SplitSettings(tail="odd")
