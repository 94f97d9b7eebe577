import re
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from undersong.catalogue.describe import (
    describe_catalogue,
    description_text,
    plot_relations,
    related_pairs,
)
from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue, Field
from undersong.cli.catalogues import sources_text
from undersong.embeddings import Embeddings
from undersong.errors import DataError, UndersongError, install
from undersong.relations import relation_sources


@pytest.fixture
def catalogue() -> Catalogue:
    """Eight artists: a is related to b, c and d (b twice), g only judged, h without anything."""
    pairs = [("a", "b", "x"), ("a", "b", "y"), ("a", "c", "x"), ("a", "d", "x")]
    return Catalogue(
        artists=pl.DataFrame(
            {
                "id": list("abcdefgh"),
                "name": None,
                "split": None,
                "genre": ["rock", "jazz", *(6 * [None])],
                "judge": [None, None, None, None, None, None, ["tag"], None],
            },
            schema=ITEMS["artist"] | {"genre": pl.String(), "judge": pl.List(pl.String)},
        ),
        tracks=pl.DataFrame(
            {"id": ["t1", "t2", "t3"], "artist": ["c", "c", "e"], "path": [None, "x.ogg", None]},
            schema={"id": pl.String, "artist": pl.String, "path": pl.String},
        ).with_columns(
            pl.lit(None, pl.String).alias("title"),
            pl.lit(None, pl.Float64).alias("popularity"),
            pl.lit(None, pl.String).alias("split"),
        ),
        plays=pl.LazyFrame(
            {
                "kind": "artist",
                "user": ["u1", "u2", "u2"],
                "item": ["d", "d", "f"],
                "plays": [2.0, 3.0, 6.0],
            }
        ),
        relations=pl.DataFrame(
            [("artist", *pair) for pair in pairs], schema=RELATIONS, orient="row"
        ),
        fields=(
            Field("genre", "artist", "category", "genre"),
            Field("judge", "artist", "tags", withheld=True),
        ),
        features={
            ("sound", "artist"): Embeddings(("a",), np.ones((1, 5), np.float32)),
            ("sound", "track"): Embeddings(("t3",), np.ones((1, 5), np.float32)),
        },
    )


def test_a_pair_of_two_sources_is_one_relation(catalogue):
    pairs = related_pairs(catalogue, "artist")
    assert np.bincount(np.append(*pairs), minlength=8).tolist() == [3, 1, 1, 1, 0, 0, 0, 0]
    artists = describe_catalogue(catalogue).kinds[0]
    assert (artists.pairs, artists.pairs_by_source) == (3, (("x", 3), ("y", 1)))
    assert artists.relations == (3, 1, 1, 1, 0, 0, 0, 0)
    assert artists.intervals[:3] == (("0", 4), ("1-2", 3), ("3-5", 1))
    assert [name for name, _ in artists.intervals[3:]] == ["6-10", "11-20", "21+"]
    assert (artists.items, artists.long_tail) == (8, 4)


def test_several_sources_of_links_are_compared(catalogue):
    text = sources_text("artist", relation_sources(catalogue, "artist"))
    assert [x.split() for x in text.splitlines()[2:]] == [
        ["x", "3", "100.0", "%", "1.00"],  # of what y knows; nothing known tells them apart
        ["y", "1", "100.0", "%", "1.00"],
    ]
    assert sources_text("track", relation_sources(catalogue, "track")) == ""


@pytest.mark.parametrize(
    ("count", "interval"), [(2, "1-2"), (5, "3-5"), (6, "6-10"), (20, "11-20"), (21, "21+")]
)
def test_intervals_hold_their_ends(count, interval):
    ids = [f"n{x:02}" for x in range(count + 1)]
    pairs = [("artist", ids[0], x, "s") for x in ids[1:]]
    artists = pl.DataFrame({"id": ids, "name": None, "split": None}, schema=ITEMS["artist"])
    found = describe_catalogue(
        Catalogue(artists, relations=pl.DataFrame(pairs, schema=RELATIONS, orient="row"), fields=())
    )
    share = dict(found.kinds[0].intervals)
    assert share.pop(interval) == (3 if interval == "1-2" else 1)
    assert sum(share.values()) == (0 if interval == "1-2" else count)


def test_coverage_is_of_all_and_of_the_long_tail(catalogue):
    covered = {(x.source, x.note): x for x in describe_catalogue(catalogue).kinds[0].coverage}
    found = {key: (x.items, x.share, x.long_tail_share) for key, x in covered.items()}
    assert found == {
        ("genre", "category, genre"): (2, 0.25, 0),
        ("judge", "tags, withheld"): (1, 0.125, 0.25),
        ("sound", "5 values"): (1, 0.125, 0),
        ("sound", "5 values, of a track"): (1, 0.125, 0.25),
        ("plays", ""): (2, 0.25, 0.25),
        ("audio files", "of a track"): (1, 0.125, 0),
    }


def test_an_artist_that_only_a_withheld_field_knows_has_no_source(catalogue):
    artists, tracks = describe_catalogue(catalogue).kinds
    assert artists.without_source == 2  # g and h
    assert tracks.without_source == 1  # t1
    assert (artists.users, artists.plays) == (2, 11)
    assert (tracks.users, tracks.plays) == (0, 0)


def test_plays_read_in_blocks_are_those_of_the_whole_table(catalogue, monkeypatch):
    rows = [("artist", f"u{x % 7}", "abcdf"[x % 5], float(x % 3)) for x in range(29)]
    plays = pl.concat([catalogue.plays, pl.LazyFrame(rows, schema=PLAYS, orient="row")])
    several = replace(catalogue, plays=plays)
    whole = describe_catalogue(several)
    monkeypatch.setattr("undersong.catalogue.describe.AT_ONCE", 4)
    assert describe_catalogue(several) == whole
    table = plays.collect()
    assert whole.kinds[0].users == table["user"].n_unique() == 7
    assert whole.kinds[0].plays == table["plays"].sum()
    assert whole.kinds[0].coverage[-2].items == 5


def test_a_catalogue_of_artists_alone_is_described():
    artists = pl.DataFrame({"id": ["a"], "name": None, "split": None}, schema=ITEMS["artist"])
    (found,) = describe_catalogue(Catalogue(artists, fields=())).kinds
    assert (found.items, found.long_tail, found.without_source, found.coverage) == (1, 1, 1, ())


def test_everything_linked_has_no_long_tail_to_cover(catalogue):
    linked = replace(catalogue, artists=catalogue.artists.head(4), features={})
    (genre, *_) = describe_catalogue(linked).kinds[0].coverage
    assert (genre.share, genre.long_tail_share) == (0.5, None)
    assert "50.0 %          -  ████████" in description_text(describe_catalogue(linked))


def test_the_text_fits_a_terminal_and_says_the_shares(catalogue):
    told = description_text(describe_catalogue(catalogue))
    assert max(len(line) for line in told.splitlines()) <= 80
    assert "  long tail: no known link                    4   50.0 %" in told
    assert "      1-2                                     3   37.5 %  █████████▊" in told
    assert "Tracks" in told


@pytest.mark.parametrize(
    ("name", "begin"), [("figure.png", b"\x89PNG"), ("figure.svg", b"<?xml"), ("f.pdf", b"%PDF")]
)
def test_figure_1_is_drawn(catalogue, tmp_path, name, begin):
    pytest.importorskip("matplotlib")
    plot_relations(describe_catalogue(catalogue), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert [x.name for x in tmp_path.iterdir()] == [name]


def test_a_picture_of_another_type_is_refused(catalogue, tmp_path):
    with pytest.raises(DataError, match=r"ends with .png, .svg or .pdf, not '.gif'"):
        plot_relations(describe_catalogue(catalogue), tmp_path / "figure.gif")


def test_without_relations_there_is_nothing_to_draw(catalogue, tmp_path):
    bare = replace(catalogue, relations=catalogue.relations.clear())
    with pytest.raises(DataError, match="no relation is known"):
        plot_relations(describe_catalogue(bare), tmp_path / "figure.png")


def test_without_matplotlib_the_extra_is_named(catalogue, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UndersongError, match=re.escape(install("plot"))):
        plot_relations(describe_catalogue(catalogue), tmp_path / "figure.png")
