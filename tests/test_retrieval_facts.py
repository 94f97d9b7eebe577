from dataclasses import replace

import polars as pl
import pytest

from planted import small_world
from undersong.catalogue import attributes
from undersong.catalogue.tables import ITEMS, Catalogue, Field
from undersong.errors import ArtifactError

MBID = "b10bbbfc-cf9e-42e0-be17-e2c3e1d2600d"


def catalogue():
    """Three artists and five tracks of which different things are known."""
    fields = {
        "style": pl.List(pl.String),
        "place": pl.String,
        "fame": pl.Float64,
        "since": pl.Float64,
    }
    artists = [
        ("a", "A", None, ["soul", "jazz"], "NO", 7.0, 1987.0),
        (MBID.upper(), "B", None, [], None, 2.0, 1960.0),
        ("c", "C", None, None, "SE", None, None),
    ]
    tracks = [
        ("t1", "a", "T1", None, 5.0, None, "One", None),
        ("t2", "a", "T2", None, 3.0, None, None, None),
        ("t3", "c", "T3", None, None, None, "Two", MBID),
        ("t4", None, "T4", None, 3.0, None, "Two", None),
        ("t5", MBID.upper(), "T5", None, 9.0, None, "Two", None),
    ]
    return Catalogue(
        artists=pl.DataFrame(artists, schema=ITEMS["artist"] | fields, orient="row"),
        tracks=pl.DataFrame(
            tracks, schema=ITEMS["track"] | {"record": pl.String, "mbid": pl.String}, orient="row"
        ),
        fields=(
            Field("style", "artist", "tags", "genre"),
            Field("place", "artist", "category", "region"),
            Field("fame", "artist", "number", "popularity"),
            Field("since", "artist", "number", "year"),
            Field("record", "track", "category", "album"),
            Field("mbid", "track", "category"),
        ),
    )


def test_facts_come_from_the_roles():
    found = (
        attributes.make_attributes(catalogue())
        .filter(pl.col("kind") == "artist")
        .drop("kind", "popularity")
    )
    assert found.rows() == [
        ("a", ["soul", "jazz"], "NO", 1980, 0.75, "a", None, None),
        (MBID.upper(), [], None, 1960, 0.25, MBID.upper(), None, MBID),
        ("c", [], "SE", None, None, "c", None, None),
    ]


def test_a_track_has_the_genre_and_region_of_its_artist():
    found = attributes.make_attributes(catalogue()).filter(pl.col("kind") == "track")
    assert found.select("id", "genres", "region", "artist", "album", "mbid").rows() == [
        ("t1", ["soul", "jazz"], "NO", "a", "One", None),
        ("t2", ["soul", "jazz"], "NO", "a", None, None),
        ("t3", [], "SE", "c", "Two", MBID),
        ("t4", [], None, None, "Two", None),
        ("t5", [], None, MBID.upper(), "Two", None),
    ]
    assert found["percentile"].to_list() == [0.625, 0.25, None, 0.25, 0.875]
    assert found["decade"].null_count() == 5


def test_a_genre_of_one_word_is_a_list_too():
    made = attributes.make_attributes(small_world())
    assert made.filter(pl.col("id") == "a01")["genres"].to_list() in ([["g1"]], [[]])
    assert made.schema["genres"] == pl.List(pl.String)
    assert len(made) == 85 + 168


def test_nothing_is_known_of_a_catalogue_without_fields():
    bare = replace(catalogue(), fields=())
    found = attributes.make_attributes(bare).drop(
        "id", "kind", "artist", "mbid", "popularity", "percentile"
    )
    assert found["genres"].list.len().sum() == 0
    assert found.drop("genres").null_count().row(0) == (8, 8, 8)


def test_facts_are_read_back_in_the_order_that_is_asked_for(tmp_path):
    attributes.write_attributes(tmp_path / "facts.parquet", attributes.make_attributes(catalogue()))
    found = attributes.read_attributes(tmp_path / "facts.parquet", "artist")
    assert found.genres == ("jazz", "soul")
    assert found.regions == ("NO", "SE")
    turned = found.of(("c", "nobody", "a"))
    assert turned.table["region"].to_list() == ["SE", None, "NO"]
    assert turned.table["genres"].to_list() == [[], [], ["soul", "jazz"]]


def test_a_file_that_is_not_of_facts_is_refused(tmp_path):
    path = tmp_path / "facts.parquet"
    with pytest.raises(ArtifactError, match="is no file of facts"):
        attributes.read_attributes(path, "artist")
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ArtifactError, match="is no file of facts"):
        attributes.read_attributes(path, "artist")
    pl.DataFrame({"id": ["a"]}).write_parquet(path)
    with pytest.raises(ArtifactError, match="format None, but this version reads 1; train again"):
        attributes.read_attributes(path, "artist")
