"""Navidrome and beets: databases that belong to a running program."""

import json
import sqlite3
import unicodedata

import polars as pl
import pytest
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli
from undersong.importers.players import collection

ANN, BOB = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "ab")
ONE, TWO = (f"{x}c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1" for x in "12")

NAVIDROME = """
CREATE TABLE user (id varchar(255) primary key, user_name varchar(255));
CREATE TABLE library (id integer primary key, name text, path text);
CREATE TABLE media_file (id varchar(255) primary key, path varchar(255), title varchar(255),
    album varchar(255), artist varchar(255), artist_id varchar(255), album_artist varchar(255),
    year integer, duration real, genre varchar(255) default '', compilation bool,
    mbz_recording_id varchar(255), mbz_artist_id varchar(255), tags jsonb, missing boolean,
    library_id integer);
CREATE TABLE artist (id varchar(255) primary key, name varchar(255), mbz_artist_id varchar(255));
CREATE TABLE media_file_artists (media_file_id varchar, artist_id varchar, role varchar,
    sub_role varchar);
CREATE TABLE annotation (user_id varchar(255), item_id varchar(255), item_type varchar(255),
    play_count integer, play_date datetime, rating integer, starred bool);
"""
BEETS = """
CREATE TABLE items (id INTEGER PRIMARY KEY, path BLOB, title TEXT, album TEXT, artist TEXT,
    artists TEXT, albumartist TEXT, mb_artistid TEXT, mb_artistids TEXT, mb_trackid TEXT,
    genre TEXT, country TEXT, year INTEGER, original_year INTEGER, length REAL, comp INTEGER);
CREATE TABLE item_attributes (id INTEGER PRIMARY KEY, entity_id INTEGER, key TEXT, value TEXT);
"""


def insert(opened, table, **values):
    marks = ", ".join("?" * len(values))
    opened.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", [*values.values()]
    )


def song(opened, number, title, *artists, **others):
    """A file of Navidrome with its artists, as pairs of id in Navidrome and name."""
    tags = {"genre": [{"id": "g", "value": "Dream Pop"}]}
    insert(
        opened,
        "media_file",
        id=f"f{number}",
        path=f"{number}.flac",
        title=title,
        artist=" & ".join(artists),
        album="First",
        duration=100.0 + 7 * number,
        year=1994,
        tags=json.dumps(tags),
        missing=False,
        library_id=1,
        **others,
    )
    for artist in artists:
        insert(
            opened,
            "media_file_artists",
            media_file_id=f"f{number}",
            artist_id=artist,
            role="artist",
        )


@pytest.fixture
def navidrome(tmp_path):
    """A database as Navidrome leaves it: write-ahead log, opened, and three files."""
    path = tmp_path / "server" / "navidrome.db"
    path.parent.mkdir()
    opened = sqlite3.connect(path)
    opened.execute("PRAGMA journal_mode=WAL")
    opened.executescript(NAVIDROME)
    insert(opened, "user", id="u1", user_name="pia")
    insert(opened, "library", id=1, name="Music", path=str(tmp_path / "music"))
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "1.flac").write_bytes(b"fLaC")
    for name, mbid in (("Ann", ANN), ("Bob", ""), ("Tina Og Tom", None)):
        insert(opened, "artist", id=name, name=name, mbz_artist_id=mbid)
    song(opened, 1, "Öne", "Ann", "Bob", mbz_recording_id=ONE)
    song(opened, 2, "Öne", "Ann")
    song(opened, 3, "Six", "Tina Og Tom")
    for item, plays in (("f1", 4), ("f2", 3), ("f3", 1)):
        insert(
            opened,
            "annotation",
            user_id="u1",
            item_id=item,
            item_type="media_file",
            play_count=plays,
        )
    insert(opened, "annotation", user_id="u1", item_id="al", item_type="album", play_count=99)
    opened.commit()
    yield path, opened
    opened.close()


def run(command, path, home, *words):
    return CliRunner().invoke(cli, ["import", command, str(path), str(home), *words])


def imported(command, path, home):
    result = run(command, path, home)
    assert result.exit_code == 0, result.output
    assert check_catalogue(home) == ()
    return tables.read_catalogue(home)


def test_navidrome_is_read_while_the_server_writes(navidrome, tmp_path):
    path, opened = navidrome
    assert path.with_name("navidrome.db-wal").stat().st_size > 0
    insert(opened, "artist", id="Late", name="Late")
    catalogue = imported("navidrome", path, tmp_path / "home")
    assert catalogue.artists.select("id", "name").rows() == [
        (ANN, "Ann"),
        ("tina-og-tom", "Tina Og Tom"),
    ]
    assert catalogue.tracks.select("id", "artist", "title", "path").rows() == [
        (ONE, ANN, "Öne", str(tmp_path / "music" / "1.flac")),
        ("tina-og-tom/six", "tina-og-tom", "Six", None),
    ]
    opened.commit()


def test_navidrome_gives_plays_of_each_user_and_of_copies(navidrome, tmp_path):
    catalogue = imported("navidrome", navidrome[0], tmp_path / "home")
    assert catalogue.plays.collect().filter(pl.col("kind") == "track").rows() == [
        ("track", "pia", ONE, 7),
        ("track", "pia", "tina-og-tom/six", 1),
    ]
    known = pl.read_parquet(tmp_path / "home" / "identities.parquet")
    assert known.select("id", "source_id").rows() == [
        (ONE, "f1"),
        (ONE, "f2"),
        ("tina-og-tom/six", "f3"),
    ]


def test_navidrome_gives_fields_and_guests(navidrome, tmp_path):
    catalogue = imported("navidrome", navidrome[0], tmp_path / "home")
    first = catalogue.artists.to_dicts()[0]
    assert (first["genre"], first["year"], first["decade"]) == (["dream pop"], 1994, "1990s")
    assert first["credited"] == ["Ann", "Bob"]


def test_nothing_is_written_beside_a_database_that_nobody_writes(navidrome, tmp_path):
    path, opened = navidrome
    opened.close()
    before = {x.name: x.read_bytes() for x in path.parent.iterdir()}
    assert set(before) == {"navidrome.db"}
    imported("navidrome", path, tmp_path / "home")
    assert {x.name: x.read_bytes() for x in path.parent.iterdir()} == before


def test_files_that_lie_elsewhere_are_found_below_the_folder_given(navidrome, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "3.flac").write_bytes(b"fLaC")
    result = run("navidrome", navidrome[0], tmp_path / "home", "--music", str(other))
    assert f"1 tracks are no file below {other}" in result.output
    catalogue = tables.read_catalogue(tmp_path / "home")
    assert check_catalogue(tmp_path / "home") == ()
    assert catalogue.tracks["path"].to_list() == [None, "3.flac"]
    assert catalogue.audio_root == other


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_files_of_a_mac_are_found_whichever_way_their_accents_are_written(
    beets, navidrome, tmp_path, form
):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    path = "Björk/Début/Vénus.flac"
    file = tmp_path / "mac" / unicodedata.normalize(form, path)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"fLaC")
    written = unicodedata.normalize(other, path)
    navidrome[1].execute("UPDATE media_file SET path = ? WHERE id = 'f3'", (written,))
    navidrome[1].commit()
    opened = sqlite3.connect(beets)
    opened.execute("UPDATE items SET path = ? WHERE id = 2", (written.encode(),))
    opened.commit()
    opened.close()
    for command, database in (("navidrome", navidrome[0]), ("beets", beets)):
        result = run(command, database, tmp_path / command, "--music", str(tmp_path / "mac"))
        assert "1 tracks are no file below" in result.output
        paths = tables.read_catalogue(tmp_path / command).tracks["path"].drop_nulls().to_list()
        assert [tmp_path / "mac" / x for x in paths] == [file]


def test_files_that_are_gone_are_left_out_and_nameless_ones_listed(navidrome, tmp_path):
    path, opened = navidrome
    opened.execute("UPDATE media_file SET missing = 1 WHERE id = 'f3'")
    insert(opened, "media_file", id="f9", path="9.flac", title="", artist="[Unknown Artist]")
    opened.commit()
    catalogue = imported("navidrome", path, tmp_path / "home")
    assert catalogue.ids("track") == (ONE,)
    assert pl.read_csv(tmp_path / "home" / "failures.csv")["file"].to_list() == ["9.flac"]


@pytest.fixture
def beets(tmp_path):
    path = tmp_path / "library.db"
    opened = sqlite3.connect(path)
    opened.executescript(BEETS)
    common = {"album": "First", "genre": "Dream Pop, Folk", "original_year": 1994, "year": 2019}
    insert(
        opened,
        "items",
        id=1,
        path="/m/\xf6ne.flac".encode("latin-1"),
        title="Öne",
        artist="Ann & Bob",
        artists="Ann\\␀Bob",
        mb_artistids=f"{ANN}\\␀{BOB}",
        mb_trackid=ONE,
        length=201.5,
        comp=0,
        **common,
    )
    insert(
        opened, "items", id=2, path=b"/m/2.flac", title="Two", artist="Cas", country="NO", **common
    )
    insert(opened, "items", id=3, path=b"/m/3.flac", title="", artist="Cas", **common)
    insert(opened, "item_attributes", entity_id=2, key="play_count", value="5")
    opened.commit()
    opened.close()
    return path


def test_beets_gives_tracks_artists_and_counted_plays(beets, tmp_path):
    before = beets.read_bytes()
    catalogue = imported("beets", beets, tmp_path / "home")
    assert catalogue.artists.select("id", "name").rows() == [(ANN, "Ann"), ("cas", "Cas")]
    assert sorted(catalogue.ids("track")) == [ONE, "cas/two"]
    assert catalogue.plays.collect().rows() == [
        ("artist", "beets", "cas", 5),
        ("track", "beets", "cas/two", 5),
    ]
    row = catalogue.tracks.filter(pl.col("id") == ONE).to_dicts()[0]
    assert (row["genre"], row["year"], row["credited"]) == (
        ["dream pop", "folk"],
        1994,
        ["Ann", "Bob"],
    )
    assert pl.read_csv(tmp_path / "home" / "failures.csv")["file"].to_list() == ["/m/3.flac"]
    assert beets.read_bytes() == before


@pytest.mark.parametrize("command", ["navidrome", "beets"])
def test_another_file_is_refused(command, beets, navidrome, tmp_path):
    wrong = {"navidrome": beets, "beets": navidrome[0]}[command]
    text = tmp_path / "text.db"
    text.write_text("no database at all, but long enough to have a header")
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    for path, said in (
        (wrong, "has no table"),
        (text, "file is not a database"),
        (empty, "has no table"),
    ):
        result = run(command, path, tmp_path / "home")
        assert result.exit_code == 1, result.output
        assert said in result.output
    assert not (tmp_path / "home").exists()


def test_a_damaged_database_is_refused(beets, tmp_path):
    data = bytearray(beets.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    beets.write_bytes(data)
    result = run("beets", beets, tmp_path / "home")
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def test_a_database_whose_damage_is_no_text_is_refused(beets, tmp_path):
    data = beets.read_bytes()
    damaged = data.replace(b"CREATE TABLE items", b"CREATE TABL\xc3( items", 1)
    assert damaged != data
    beets.write_bytes(damaged[: len(data)])
    result = run("beets", beets, tmp_path / "home")
    assert result.exit_code == 1
    assert "cannot be read" in result.output


def without(path, table, *statements):
    """Take a table out of a database, and put something else in its place."""
    opened = sqlite3.connect(path)
    opened.execute("PRAGMA journal_mode=DELETE")
    opened.execute(f"ALTER TABLE {table} RENAME TO real")
    for statement in statements:
        opened.execute(statement)
    opened.commit()
    opened.close()


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS id,"
HUGE = "SELECT id, hex(zeroblob(300000000)) AS title,"


@pytest.mark.parametrize("query", [f"{ENDLESS} 'a' AS path FROM n", f"{HUGE} path FROM real"])
@pytest.mark.parametrize(
    ("command", "table"),
    [
        ("beets", "items"),
        ("beets", "item_attributes"),
        ("navidrome", "media_file"),
        ("navidrome", "media_file_artists"),
        ("navidrome", "annotation"),
        ("navidrome", "user"),
    ],
)
def test_a_view_is_no_table(query, command, table, beets, navidrome, tmp_path):
    navidrome[1].close()
    path = {"beets": beets, "navidrome": navidrome[0]}[command]
    without(path, table, f"CREATE VIEW {table} AS {query}")
    result = run(command, path, tmp_path / "home")
    needed = table in ("items", "media_file", "annotation")
    assert result.exit_code == needed, result.output
    assert not needed or f"has no table {table}; give the database of" in result.output


def test_a_join_that_multiplies_rows_ends(navidrome, tmp_path, monkeypatch):
    path, opened = navidrome
    opened.executescript("DROP TABLE artist; CREATE TABLE artist (id, name, mbz_artist_id);")
    opened.executemany(
        "INSERT INTO artist VALUES ('Ann', ?, '')", [(x,) for x in "abcdefghij" * 90]
    )
    link = "INSERT INTO media_file_artists VALUES ('f1', 'Ann', 'artist', '')"
    opened.executemany(link, [()] * 700)
    opened.commit()
    monkeypatch.setattr(collection, "STEPS", 100_000)
    result = run("navidrome", path, tmp_path / "home")
    assert result.exit_code == 1
    assert "takes far longer to read than one of its size" in result.output


def test_a_value_that_is_too_long_is_refused(beets, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "LONGEST_VALUE", 3_000)
    opened = sqlite3.connect(beets)
    insert(opened, "items", id=4, path=b"/m/4.flac", title="x" * 3_100, artist="Ann")
    opened.commit()
    opened.close()
    result = run("beets", beets, tmp_path / "home")
    assert result.exit_code == 1
    assert "string or blob too big" in result.output


def test_text_in_another_encoding_is_listed_and_never_replaced(beets, tmp_path):
    opened = sqlite3.connect(beets)
    text = "CAST(x'43616de9' AS TEXT)"  # Camé in Latin-1
    opened.execute(f"UPDATE items SET album = {text} WHERE id = 1")
    opened.execute(f"UPDATE items SET title = {text} WHERE id = 2")
    opened.commit()
    opened.close()
    catalogue = imported("beets", beets, tmp_path / "home")
    assert list(catalogue.ids("track")) == [ONE]
    failures = pl.read_csv(tmp_path / "home" / "failures.csv")
    reasons = failures["reason"].to_list()
    assert reasons.count("a value is not UTF-8: 'Camé'") == 2
    assert "/m/2.flac" in failures["file"].to_list()


def test_a_path_that_is_longer_than_any_is_no_file_here(beets, tmp_path):
    opened = sqlite3.connect(beets)
    insert(opened, "items", id=4, path=b"/" + b"m" * 9_000, title="Long", artist="Ann")
    opened.commit()
    opened.close()
    assert len(imported("beets", beets, tmp_path / "home").tracks) == 3
