import json

import numpy as np
import polars as pl
import pytest

from undersong import features
from undersong.catalogue.tables import ITEMS, Catalogue, Field
from undersong.embeddings import Embeddings


@pytest.fixture
def catalogue():
    artists = pl.DataFrame(
        {
            "id": list("abcdef"),
            "name": [None] * 6,
            "split": [None] * 6,
            "tags": [["x", "y"], ["x"], ["y"], None, [], ["x", "rare"]],
            "secret": ["s", "s", "t", "t", "s", "t"],
            "country": ["u", "u", None, "v", "v", "v"],
            "fame": [1.0, 2, 3, None, 5, 6],
        },
        schema=ITEMS["artist"]
        | {
            "tags": pl.List(pl.String),
            "secret": pl.String,
            "country": pl.String,
            "fame": pl.Float64,
        },
    )
    fields = (
        Field("tags", "artist", "tags", "genre"),
        Field("secret", "artist", "category", withheld=True),
        Field("country", "artist", "category", "region"),
        Field("fame", "artist", "number", "popularity"),
    )
    return Catalogue(artists, fields=fields)


ALL = np.ones(6, bool)


def read(catalogue, train=ALL, embeddings=None):
    encoders = features.fit(catalogue, "artist", train)
    return {x.name: x for x in features.read(catalogue.artists, encoders, embeddings or {})}


def test_a_withheld_field_is_never_read(catalogue):
    assert set(read(catalogue)) == {"tags", "country", "fame"}


def test_rows_have_length_one_or_are_missing(catalogue):
    for source in read(catalogue).values():
        rows = features.dense(source, np.arange(6))
        length = np.linalg.norm(rows, axis=1)
        np.testing.assert_allclose(length, np.where(source.missing, 0, 1), atol=1e-6)
        assert rows.dtype == np.float32


def test_a_missing_value_is_missing_not_a_word(catalogue):
    found = read(catalogue)
    assert found["tags"].missing.tolist() == [False, False, False, True, True, False]
    assert found["country"].missing.tolist() == [False, False, True, False, False, False]
    assert found["fame"].missing.tolist() == [False, False, False, True, False, False]


def test_words_of_a_single_training_item_are_left_out(catalogue):
    (encoder,) = [x for x in features.fit(catalogue, "artist", ALL) if x.name == "tags"]
    assert encoder.words == ("*x", "*y", "x", "y")  # neither rare nor *rare
    rows = features.dense(read(catalogue)["tags"], np.array([1, 5]))
    np.testing.assert_allclose(rows, [[0.5**0.5, 0, 0.5**0.5, 0]] * 2, atol=1e-6)


def test_a_tag_is_read_whole_and_word_by_word():
    said = list(
        features._words_of(pl.Series([["Hard rock", "rock'n'roll"], None, [], ["J-pop", None]]))
    )
    assert said == [
        {"Hard rock", "rock'n'roll", "*hard", "*rock", "*n", "*roll"},
        set(),
        set(),
        {"J-pop", "*j", "*pop"},
    ]


def test_rarer_words_weigh_more(catalogue):
    first = features.dense(read(catalogue)["tags"], np.array([0]))[0]
    assert 0 < first[2] < first[3]  # x has three items, y two


def test_numbers_between_two_knots_are_shared_between_them(catalogue):
    encoder = features.QuantileEncoder("fame", (1.0, 3.0, 5.0))
    (source,) = features.read(catalogue.artists, [encoder], {})
    np.testing.assert_allclose(source.values[1], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(source.values[5], [0, 0, 1], atol=1e-6)  # beyond the last knot


def test_only_training_items_teach_the_encoders(catalogue):
    train = np.array([False, True, True, True, True, True])
    found = read(catalogue, train)
    assert found["tags"].width == 2  # x, whole and as a word; y has one training item left


def test_given_embeddings_come_first(catalogue):
    vectors = Embeddings(("f", "b"), np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    found = read(catalogue, embeddings={"content": vectors})
    assert list(found) == ["content", "tags", "country", "fame"]
    assert found["content"].values[5].tolist() == [1, 2, 3]
    assert found["content"].missing.tolist() == [True, False, True, True, True, False]


def test_a_column_that_other_items_lack_is_missing_everywhere(catalogue):
    encoders = features.fit(catalogue, "artist", ALL)
    table = pl.DataFrame({"id": ["t1", "t2"], "country": ["v", "nowhere"]})
    found = {x.name: x for x in features.read(table, encoders, {})}
    assert found["tags"].missing.all()
    assert found["fame"].missing.all()
    assert found["country"].missing.tolist() == [False, True]


def test_encoders_survive_json(catalogue):
    encoders = features.fit(catalogue, "artist", ALL)
    assert features.from_json(json.loads(json.dumps(features.to_json(encoders)))) == encoders
