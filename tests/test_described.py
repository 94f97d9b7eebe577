"""Somebody who exists in words alone: what words mean here, and what asks in their place."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from adding_worlds import fresh
from spoken import make_shelf
from undersong import runs
from undersong.catalogue.schema import Field
from undersong.cli.main import cli
from undersong.embeddings import unit
from undersong.errors import DataError, Unavailable
from undersong.features import QuantileEncoder, TagEncoder, dense, read_sources
from undersong.foldin.added import read_encoders
from undersong.foldin.described import (
    DescribedItem,
    Vocabulary,
    embed_description,
    read_description,
)
from undersong.foldin.embed import FoldIn
from undersong.model import Model, load

FIELDS = (
    Field("style", "artist", "category", "genre"),
    Field("land", "artist", "category", "region"),
    Field("words", "artist", "tags"),
    Field("formed", "artist", "number", "year"),
    Field("first_decade", "artist", "number"),
    Field("fame", "artist", "number", "popularity"),
    Field("judge", "artist", "tags", withheld=True),
)


def words_of(name, *words):
    parts = {f"*{x}" for word in words for x in word.split()} if name == "words" else set()
    every = tuple(sorted({*words, *parts}))
    return TagEncoder(name, every, (1.0,) * len(every))


VOCABULARY = Vocabulary(
    FIELDS,
    (
        words_of("style", "Pop/Rock", "Jazz", "Electronic"),
        words_of("land", "NO", "US", "Åland"),
        words_of("words", "dark ambient", "black metal", "norwegian", "jazz", "1990s"),
        QuantileEncoder("formed", (1950.0, 1980.0, 2020.0)),
        QuantileEncoder("first_decade", (1950.0, 1980.0, 2010.0)),
        QuantileEncoder("fame", (0.0, 9.0)),
    ),
)
NINETIES = {"formed": 1995.0, "first_decade": 1990.0}


@pytest.mark.parametrize(
    ("texts", "fields"),
    [
        (["genre=jazz", "region=NO"], {"style": "Jazz", "land": "NO"}),
        (["genre=jazz", "region=Norwegen"], {"style": "Jazz", "land": "NO"}),
        (["dark ambient from Norway"], {"words": ["dark ambient"], "land": "NO"}),
        (["jazz from the United States"], {"style": "Jazz", "words": ["jazz"], "land": "US"}),
        (["style=pop rock"], {"style": "Pop/Rock"}),
        (["genre=Dark Ambient"], {"words": ["dark ambient"]}),
        (["genre=ambient metal"], {"words": ["ambient metal"]}),
        (["words=jazz", "words=black metal", "words=jazz"], {"words": ["jazz", "black metal"]}),
        (["decade=1990"], NINETIES),
        (["decade='90s"], NINETIES),
        (["year=1993"], {"formed": 1993.0, "first_decade": 1990.0}),
        (["formed=1993"], {"formed": 1993.0}),
        (["country=aland", "fame=3.5"], {"land": "Åland", "fame": 3.5}),
        (
            ["dark ambient from NO, 1990s"],
            {"words": ["dark ambient"], "land": "NO"} | NINETIES,
        ),
        (
            ["Jazz band of the 20s"],
            {"style": "Jazz", "words": ["jazz"]} | {"formed": 2025.0, "first_decade": 2020.0},
        ),  # fmt: skip
        (["norwegian metal"], {"words": ["norwegian", "metal"]}),
    ],
)
def test_words_mean_values_that_the_run_knows(texts, fields):
    assert read_description(texts, VOCABULARY) == DescribedItem(fields, ())


@pytest.mark.parametrize(
    ("texts", "unknown"),
    [
        (["genre=jazz", "region=Norge"], ("'Norge'",)),
        (["jazz from no"], ("'no', did you mean 'NO'?",)),
        (["genre=jazz", "genre=drak ambient"], ("'drak ambient', did you mean 'dark ambient'?",)),
        (["jazz zither"], ("'zither'",)),
    ],
)
def test_unknown_words_are_listed_with_what_they_may_mean(texts, unknown):
    description = read_description(texts, VOCABULARY)
    assert description.unknown == unknown
    assert description.text.endswith(f"; not known here: {unknown[0]}")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["zither"], "nothing of the description is known here: 'zither'"),
        (["genre=jaz"], "is known here: 'jaz', did you mean 'jazz'?"),
        (["mood=calm"], "nothing here is called 'mood'; known: style, land, words, formed"),
        (["judge=t1"], "nothing here is called 'judge'"),
        (["decade=soon"], "decade is 'soon', expected a year"),
        (["fame=much"], "fame is 'much', expected a number"),
        (["fame=nan"], "fame is 'nan', expected a number"),
        (["jazz " * 101], "more than 100 words"),
        ([], "nothing of the description is known"),
    ],
)
def test_a_description_that_says_nothing_here_is_one_clear_line(texts, message):
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        read_description(texts, VOCABULARY)


@pytest.fixture(scope="module")
def run(reading_home):
    return runs.read(reading_home / "run")


def test_a_description_is_embedded_as_an_added_item_of_the_same_metadata(run, tmp_path):
    model = Model(fresh(run, tmp_path / "run").run)
    added = model.add([{"name": "Somebody", "genre": "g2", "country": "x"}])[0]
    own = model.embeddings().vectors[model.embeddings().index[added.id]]
    description = DescribedItem({"genre": "g2", "country": "x"}, ())
    np.testing.assert_allclose(embed_description(description, FoldIn(run)), own, atol=1e-6)


def test_what_asks_is_the_mean_of_those_that_fit_and_the_own_vector(run):
    fold_in, draw = FoldIn(run), np.random.default_rng(5)
    description = DescribedItem({"genre": "g2", "country": "x"}, ())
    world = Model(run).catalogue
    known = {("artist", x): run.embeddings("artist", x) for x in ("content", "interaction")}
    sources = read_sources(world, "artist", read_encoders(run), known)
    vectors = unit(draw.normal(size=(len(world.artists), 12)).astype(np.float32))
    asks = embed_description(description, fold_in, sources=sources, vectors=vectors)
    genre, country = (next(x for x in sources if x.name == y) for y in ("genre", "country"))
    row = {"genre": world.artists["genre"].to_list().index("g2")}
    row["country"] = world.artists["country"].to_list().index("x")
    shares = np.zeros(len(vectors))
    for source in (genre, country):
        values = dense(source, np.arange(len(vectors)))
        said = values[row[source.name]]
        shares += source.weight**2 * (values @ said) / sum(x.weight**2 for x in (genre, country))
    weights = np.exp(20 * (shares - shares.max()))
    own = embed_description(description, fold_in)
    expected = unit((unit((weights @ vectors)[None]) + 0.5 * own[None]).astype(np.float32))[0]
    np.testing.assert_allclose(asks, expected, atol=1e-5)


def test_the_described_have_answers_of_their_genre_and_are_written_nowhere(run):
    model = Model(run)
    before = sorted(x.name for x in run.folder.rglob("*"))
    answers = model.described_as("genre=g2", "region=x", k=9)
    facts = model.attributes(answers.ids)
    assert facts["genres"].list.contains("g2").sum() >= 6
    assert answers.queries == ()
    assert answers.note == "described by genre g2; country x"
    assert sorted(x.name for x in run.folder.rglob("*")) == before
    assert model.described_as("g2 from nowhere", k=5).note.endswith("not known here: 'nowhere'")
    only = model.described_as("genre=g2", k=6, regions="y", only_unlinked=True)
    assert {x.item.relations for x in only} == {0}
    assert set(model.attributes(only.ids)["region"]) == {"y"}
    tracks = model.described_as("genre=g2", k=7, kind="track")
    assert {x.item.kind for x in tracks} == {"track"}
    assert model.attributes(tracks.ids, kind="track")["genres"].list.contains("g2").any()


def call(*words, code=0):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


def test_the_command_line_asks_for_the_described(run):
    words = ("similar", run.folder, "--described", "genre=g2", "--described", "region=x", "-k", 4)
    listed = [json.loads(x)["item"] for x in call(*words, "--json").stdout.splitlines()]
    assert tuple(listed) == Model(run).described_as("genre=g2", "region=x", k=4).ids
    assert call(*words).stdout.splitlines()[-1] == "described by genre g2; country x"
    refused = call("similar", run.folder, "--described", "zither", code=1)
    assert "nothing of the description is known here: 'zither'" in refused.stderr
    assert "give QUERY or --described" in call("similar", run.folder, code=2).stderr
    both = call("similar", run.folder, "a01", "--described", "g2", code=2)
    assert "give QUERY or --described" in both.stderr


def test_a_run_without_encoders_says_so(tmp_path):
    make_shelf(tmp_path)
    with pytest.raises(Unavailable, match="holds nothing that embeds metadata"):
        load(tmp_path).described_as("jazz")
