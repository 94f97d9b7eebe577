import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from undersong.catalogue import Catalogue, read_catalogue, write_catalogue
from undersong.embeddings import Embeddings
from undersong.errors import DataError

ARTISTS = {
    "id": ["b", "a", "c"],
    "name": ["Bo\u0308", " Ann ", None],
    "genre": ["folk", "", "jazz"],
    "country": ["NO", None, "SE"],
    "tags": [["x", "y", "x"], [], ["z"]],
    "popularity": [3, None, 1],
}
PLAYS = {"user": ["u1", "u1", "u2", "u2"], "artist": ["a", "a", "b", "c"], "plays": [2, 3, 1, 0]}
RELATIONS = {"a": ["b", "a"], "b": ["a", "b"]}
FORMS = {"polars": pl.DataFrame, "lazy": pl.LazyFrame, "pandas": pd.DataFrame, "arrow": pa.table}


@pytest.mark.parametrize("form", FORMS)
def test_frames_of_every_library_make_the_same_catalogue(form):
    make = FORMS[form]
    catalogue = Catalogue(
        artists=make(ARTISTS), plays=make(PLAYS), relations=make(RELATIONS), withheld={"tags"}
    )
    assert catalogue.ids("artist") == ("b", "a", "c")
    assert catalogue.names("artist") == ("Bö", "Ann", "c")
    assert catalogue.artists["genre"].to_list() == ["folk", None, "jazz"]
    assert catalogue.artists["tags"].to_list() == [["x", "y"], None, ["z"]]
    assert catalogue.artists["popularity"].to_list() == [3.0, None, 1.0]
    roles = [(x.name, x.type, x.role, x.withheld) for x in catalogue.fields]
    assert roles == [
        ("genre", "category", "genre", False),
        ("country", "category", "region", False),
        ("tags", "tags", "", True),
        ("popularity", "number", "popularity", False),
    ]
    played = catalogue.plays.collect().rows()
    assert played == [("artist", "u1", "a", 5.0), ("artist", "u2", "b", 1.0)]
    assert catalogue.relations.rows() == [("artist", "a", "b", "relations")]


def test_a_catalogue_of_frames_is_written_and_comes_back(tmp_path):
    catalogue = Catalogue(
        artists=pd.DataFrame({"id": [7, 8]}),
        tracks=pl.DataFrame({"id": ["t", "v"], "artist": ["7", "8"], "year": [1990, 2001]}),
        features={
            ("sound", "track"): pl.DataFrame({"id": ["v"], "vector": [[0.5, 1, 2, 3]]}),
            "mood": pd.DataFrame({"id": [7], "calm": [0.25], "loud": [1.5], "fast": [2]}),
            "own": Embeddings(("8",), np.ones((1, 5), np.float32)),
        },
    )
    write_catalogue(catalogue, tmp_path)
    back = read_catalogue(tmp_path)
    assert (back.ids("artist"), back.ids("track")) == (("7", "8"), ("t", "v"))
    assert back.fields == catalogue.fields
    assert [(x.name, x.kind, x.role) for x in back.fields] == [("year", "track", "year")]
    assert back.features["mood", "artist"].vectors.tolist() == [[0.25, 1.5, 2.0]]
    assert back.features["sound", "track"].ids == ("v",)
    assert back.features["own", "artist"].vectors.shape == (1, 5)


def test_roles_may_be_other_than_the_names_of_columns_say():
    artists = {"id": ["a"], "genre": ["x"], "style": ["y"], "country": ["NO"], "region": ["East"]}
    fields = Catalogue(pl.DataFrame(artists), roles={"style": "genre", "country": ""}).fields
    assert [(x.name, x.role) for x in fields] == [
        ("genre", ""),
        ("style", "genre"),
        ("country", ""),
        ("region", "region"),
    ]
    words = Catalogue(pl.DataFrame({"id": ["a"], "year": ["about 1990"]})).fields
    assert (words[0].type, words[0].role) == ("category", "")


def test_plays_and_relations_of_tracks_are_told_by_their_columns():
    catalogue = Catalogue(
        artists=pl.DataFrame({"id": ["a"]}),
        tracks=pl.DataFrame({"id": ["t", "v"], "artist": ["a", "a"]}),
        plays=pl.DataFrame({"user": [1, 1, 2], "track": ["t", "t", "v"]}),
        relations=pl.DataFrame({"kind": ["track"], "a": ["v"], "b": ["t"], "source": ["radio"]}),
    )
    assert catalogue.plays.collect().rows() == [("track", "1", "t", 2.0), ("track", "2", "v", 1.0)]
    assert catalogue.relations.rows() == [("track", "t", "v", "radio")]


A = {"artists": pl.DataFrame({"id": ["ann", "bob", "cy"]})}
FAULTS = {
    "no id": (
        {"artists": pl.DataFrame({"artist_id": ["a"]})},
        "artists frame: has no column 'id'; rename the column that holds it; .*artist_id",
    ),
    "the index of pandas": (
        {"artists": pd.DataFrame({"id": ["a"], "n": [1]}).set_index("id")},
        r"artists frame: has no column 'id'; 'id' is the index: give frame.reset_index\(\)",
    ),
    "mixed types": (
        {"artists": pd.DataFrame({"id": ["a", "b"], "genre": ["x", 3]})},
        r"column 'genre' mixes int and str; make all .* frame\['genre'\].astype\(str\)",
    ),
    "dates": (
        {"artists": pl.DataFrame({"id": ["a"]}).with_columns(born=pl.date(1990, 1, 2))},
        "column 'born' is Date; make it a number, text or a list of text, or drop the column",
    ),
    "fractional ids": (
        {"artists": pd.DataFrame({"id": [1, None]})},
        "column 'id' is Float64; make it text or whole numbers",
    ),
    "no frame": ({"artists": ["a", "b"]}, r"artists frame: is \['a', 'b'\] \(list\), no data fr"),
    "no row": ({"artists": pl.DataFrame({"id": []})}, "artists frame: has no row; fill it"),
    "the same id": (
        {"artists": pl.DataFrame({"id": ["a", "b", "a"]})},
        "artists frame row 2: id 'a' stands in 0 already; keep one of the rows",
    ),
    "an empty id": (
        {"artists": pl.DataFrame({"id": ["a", None]})},
        "artists frame row 1: has no id; fill in the id, or remove the row",
    ),
    "plays of an unknown id": (
        A | {"plays": pl.DataFrame({"user": ["u"], "artist": ["Bob"]})},
        "plays frame row 0: item 'Bob' is no artist; did you mean 'bob'[?]; correct the id, "
        "add the artist, or remove the row$",
    ),
    "plays of nobody": (
        A | {"plays": pl.DataFrame({"user": ["u"], "song": ["bob"]})},
        "plays frame: has no column 'artist' or 'track' or 'item'; rename",
    ),
    "plays that are words": (
        A | {"plays": pl.DataFrame({"user": ["u"], "artist": ["bob"], "plays": ["many"]})},
        "plays frame: column 'plays' is String; make it numbers",
    ),
    "plays below nought": (
        A | {"plays": pl.DataFrame({"user": ["u"], "artist": ["bob"], "plays": [-2]})},
        "plays frame row 0: plays is -2; plays count from 0 up",
    ),
    "plays of tracks without tracks": (
        A | {"plays": pl.DataFrame({"user": ["u"], "track": ["t"]})},
        "plays frame: is about tracks; give tracks=",
    ),
    "a relation of one": (
        A | {"relations": pl.DataFrame({"a": ["bob", "ann"], "b": ["ann", "ann"]})},
        "relations frame row 1: 'ann' is related to itself; remove the row",
    ),
    "an unknown kind": (
        A | {"relations": pl.DataFrame({"kind": ["album"], "a": ["ann"], "b": ["bob"]})},
        "relations frame: kind is 'album'; it must be 'artist' or 'track'",
    ),
    "a track of nobody": (
        A | {"tracks": pl.DataFrame({"id": ["t"], "artist": ["dan"]})},
        "tracks frame row 0: artist 'dan' is no artist",
    ),
    "an unknown split": (
        {"artists": pl.DataFrame({"id": ["a"], "split": ["val"]})},
        "artists frame row 0: split 'val' is none of train, validation, test",
    ),
    "an infinite number": (
        {"artists": pl.DataFrame({"id": ["a"], "fame": [np.inf]})},
        "artists frame row 0: fame is inf; leave the value empty",
    ),
    "an unknown field": (
        A | {"roles": {"style": "genre"}},
        "no frame of items has a field 'style'",
    ),
    "an unknown role": (
        {"artists": pl.DataFrame({"id": ["a"], "style": ["x"]}), "roles": {"style": "gender"}},
        "'style' has the role 'gender'; did you mean 'genre'[?]",
    ),
    "a role of another type": (
        {"artists": pl.DataFrame({"id": ["a"], "fame": ["x"]}), "roles": {"fame": "popularity"}},
        "column 'fame' is String; make it number, as the role 'popularity' needs",
    ),
    "vectors of two widths": (
        A
        | {"features": {"f": pl.DataFrame({"id": ["ann", "bob"], "vector": [[1.0], [2.0, 3.0]]})}},
        r"features\['f'\] frame: vectors have 1 and 2 values; give all the same number",
    ),
    "vectors of words": (
        A | {"features": {"f": pl.DataFrame({"id": ["ann"], "mood": ["calm"]})}},
        r"features\['f'\] frame: column 'mood' is String; make it numbers, or drop the column",
    ),
    "vectors of nobody": (
        A | {"features": {"f": Embeddings(("dan",), np.ones((1, 4), np.float32))}},
        r"features\['f'\] frame row 0: id 'dan' is no artist",
    ),
    "a vector with a hole": (
        A
        | {"features": {"f": pl.DataFrame({"id": ["ann", "cy"], "x": [1.0, 2.0], "y": [3, None]})}},
        r"features\['f'\] frame row 1: vector of 'cy' holds a value that is not finite",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_frame_with_a_fault_is_refused_in_one_sentence(fault):
    frames, message = FAULTS[fault]
    with pytest.raises(DataError) as raised:
        Catalogue(**frames)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)
