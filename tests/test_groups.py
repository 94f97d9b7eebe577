"""Albums, labels and other groups of tracks are items like any other, from import to answers."""

import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong.catalogue import Field, read_catalogue, write_catalogue
from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.importers.groups import groups
from undersong.importers.result import Failures
from undersong.model import load

GROUPS, LABELS = 5, 6  # planted groups of artists, labels of each


def world(*, linked=True):
    """Tracks with an album, a label, tags and a year; labels sign artists of one planted group."""
    base, draw = small_world(), np.random.default_rng(9)
    tracks = base.tracks
    number = np.arange(len(tracks)) // 2
    label = [f"L{x % GROUPS}-{x // GROUPS % LABELS}" if x % 14 else None for x in number]
    tracks = tracks.with_columns(
        pl.Series("album", [f"Album {x % 3}" if x != 7 else None for x in range(len(tracks))]),
        pl.Series("label", label, dtype=pl.String),
        pl.Series("mood", [["calm", f"m{x % 4}"] if x % 5 else [] for x in range(len(tracks))]),
        pl.Series("year", [1960.0 + x % 40 if x % 6 else None for x in range(len(tracks))]),
    )
    fields = (
        *base.fields,
        Field("album", "track", "category", "album", withheld=True),
        Field("label", "track", "category"),
        Field("mood", "track", "tags"),
        Field("year", "track", "number", "year"),
    )
    ids, same = tracks["id"].to_list(), number % GROUPS
    pairs = [
        ("track", *sorted((ids[a], ids[b])), "editors")
        for a, b in draw.integers(len(ids), size=(900, 2)).tolist()
        if linked and same[a] == same[b] and ids[a] != ids[b]
    ]
    plays = [("track", f"u{x % 8}", ids[x], 1.0 + x % 3) for x in range(0, 60, 2)]
    relations = pl.DataFrame(pairs, schema=base.relations.schema, orient="row").unique(
        ["a", "b"], maintain_order=True
    )
    played = pl.DataFrame(plays, schema=["kind", "user", "item", "plays"], orient="row")
    return type(base)(
        artists=base.artists,
        tracks=tracks,
        plays=pl.concat([base.plays.collect(), played]).lazy(),
        relations=pl.concat([base.relations, relations]),
        fields=fields,
        features=base.features,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    write_catalogue(world(), folder / "catalogue")
    return folder


def call(*words, code=0):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


def test_what_tracks_say_is_what_their_group_is(home):
    failures = Failures()
    grouped = groups(home / "catalogue", failures, by="label").catalogue
    tracks = world().tracks.filter(pl.col("label") == "L2-3")
    row = grouped.artists.row(by_predicate=pl.col("id") == "l2-3", named=True)
    assert row["name"] == "L2-3"
    assert row["year"] == tracks["year"].median()
    words = [x for tags in tracks["mood"] for x in tags]
    assert row["mood"] == sorted(set(words), key=lambda x: (-words.count(x), x))
    artists = world().artists.filter(pl.col("id").is_in(tracks["artist"].implode()))
    assert row["genre"] in set(artists["genre"].drop_nulls())
    own = grouped.tracks.filter(pl.col("artist") == "l2-3")["id"].to_list()
    assert own == tracks["id"].to_list()
    assert failures.count == world().tracks["label"].null_count()
    assert {x.name for x in grouped.fields_of("artist")} == {
        "genre", "country", "fame", "judge", "mood", "year", "album",
    }  # fmt: skip
    assert "label" not in grouped.tracks.columns
    assert grouped.artists["split"].null_count() == len(grouped.artists)


def test_plays_and_relations_of_tracks_are_those_of_their_groups(home):
    whole = world()
    grouped = groups(home / "catalogue", Failures(), by="label").catalogue
    group = dict(grouped.tracks.select("id", "artist").iter_rows())
    expected = {}
    for user, item, plays in whole.played("track").collect().iter_rows():
        if item in group:
            key = (user, group[item])
            expected[key] = expected.get(key, 0) + plays
    found = {(x, y): z for x, y, z in grouped.played("artist").collect().iter_rows()}
    assert found == expected
    pairs = {
        tuple(sorted((group[a], group[b])))
        for a, b, _ in whole.pairs("track").iter_rows()
        if a in group and b in group and group[a] != group[b]
    }
    assert {(a, b) for a, b, _ in grouped.pairs("artist").iter_rows()} == pairs
    assert len(grouped.pairs("artist")) == len(pairs) > 20


def test_albums_are_those_of_one_artist_and_carry_both_names(home):
    grouped = groups(home / "catalogue", Failures(), least=1).catalogue
    assert (
        len(grouped.artists)
        == world().tracks.drop_nulls("album").select("artist", "album").n_unique()
    )
    row = grouped.artists.row(by_predicate=pl.col("id") == "a04/album-2", named=True)
    assert row["name"] == "Artist 04 - Album 2"
    with pytest.raises(DataError, match="no album has 2 tracks or more"):
        groups(home / "catalogue", Failures())
    with pytest.raises(DataError, match="tracks have no field 'labl' of words; did you mean"):
        groups(home / "catalogue", Failures(), by="labl")


def test_a_track_of_several_groups_is_a_track_of_each(home, tmp_path):
    path, failures = tmp_path / "lists.csv", Failures()
    path.write_text("group,track\nMorning,a04-0\nMorning,a09-1\nNight,a04-0\nNight,a14-0\n"
                    "Night,nobody\nAlone,a20-0\nNight,a14-0\n")  # fmt: skip
    grouped = groups(home / "catalogue", failures, members=path).catalogue
    assert grouped.artists.select("id", "name").rows() == [
        ("morning", "Morning"),
        ("night", "Night"),
    ]
    assert grouped.tracks.select("id", "artist").rows() == [
        ("morning/a04-0", "morning"),
        ("a09-1", "morning"),
        ("night/a04-0", "night"),
        ("a14-0", "night"),
    ]
    vectors, before = (x.features[("descriptors", "track")] for x in (grouped, world()))
    for copy in ("morning/a04-0", "night/a04-0"):
        np.testing.assert_array_equal(
            vectors.vectors[vectors.index[copy]], before.vectors[before.index["a04-0"]]
        )
    assert [x[2] for x in failures.rows[:1]] == ["no track: 'nobody' of 'night'"]
    moods = groups(home / "catalogue", Failures(), by="mood").catalogue
    assert set(moods.artists["name"]) == {"calm", "m0", "m1", "m2", "m3"}
    path.write_text("list,track\nMorning,a04-0\n")
    with pytest.raises(DataError, match="has no column 'group', only list, track"):
        groups(home / "catalogue", Failures(), members=path)


@pytest.mark.parametrize("linked", [True, False])
def test_a_label_is_imported_trained_and_answered_like_an_artist(tmp_path, linked):
    write_catalogue(world(linked=linked), tmp_path / "catalogue")
    made = call("import", "groups", tmp_path / "catalogue", tmp_path / "labels", "--by", "label")
    assert "30 groups by label stand in the place of artists" in made.stdout
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    call("check", tmp_path / "labels")
    call("train", tmp_path / "labels", tmp_path / "run", "--settings", tmp_path / "quick.toml")
    model = load(tmp_path / "run")
    assert len(model.embeddings().ids) == 30
    content = model.run.embeddings("artist", "content")
    assert set(content.ids) == set(read_catalogue(tmp_path / "labels").ids("artist"))
    right = []
    for x in model.embeddings().ids:
        answers = call("similar", tmp_path / "run", x, "-k", 3, "--json").stdout.splitlines()
        right += [json.loads(y)["item"][:2] == x[:2] for y in answers]
    assert np.mean(right) > 0.4  # of 29 others 5 are of the same planted group
    playlist = model.playlist("L2-3", k=6)
    assert {x.item.kind for x in playlist} == {"track"}
