"""Names of one artist that a person lists: what imports and merge make of them."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

import tagged
from undersong.catalogue import read_catalogue
from undersong.cli.imports import COMMANDS
from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.importers.music.credits import Credit, proposed, read_aliases, renamed
from undersong.io.table_files import read_table

ANN, BEE = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "ab")


def call(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def write(path, *rows):
    path.write_text("\n".join(("alias,name,id", *rows)) + "\n", encoding="utf-8")
    return path


def history(path, *artists):
    rows = [f"{artist},Album,Song {n},{n:02} Nov 2023 22:13" for n, artist in enumerate(artists, 1)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def plays_of(catalogue):
    rows = read_catalogue(catalogue).plays.filter(pl.col("kind") == "artist").collect()
    return dict(rows.select("item", "plays").iter_rows())


def test_a_table_of_aliases_is_read_as_people_save_it(tmp_path):
    path = tmp_path / "aliases.csv"
    path.write_text(
        "\ufeffsep=;\nAlias;Name;why;ID\nbee;Ann (Bee) Cee;a nickname;\n"
        f"www.bee.example;bee;an address;\n'+Dee;D;;{ANN.upper()}\n",
        encoding="utf-8",
    )
    ann = Credit("Ann (Bee) Cee")
    assert read_aliases(path) == {"bee": ann, "www.bee.example": ann, "+dee": Credit("D", ANN)}
    assert read_aliases(None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nAnn\n", "has no column 'alias'; write a line alias,name"),
        ("alias,name\nBee,\n", "line 2: alias 'Bee', name ''; fill in both"),
        ("alias,name\nBee,Ann\nbee,Cy\n", "line 3: 'bee' is 'Ann' above and 'Cy' here"),
        ("alias,name\nBee,Ann\nAnn,Bee\n", "is an alias of itself"),
        ("alias,name,id\nBee,Ann,17\n", "line 2: '17' is no id of MusicBrainz"),
        (b"alias,name\nB\xe9e,Ann\n", "cannot be read"),
    ],
)
def test_a_table_that_says_nothing_clear_is_refused(tmp_path, text, message):
    path = tmp_path / "aliases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_aliases(path)


def test_who_is_credited_by_two_names_is_credited_once():
    files = pl.DataFrame(
        {"artists": [["Bee", "Cy", "Ann"], ["Cy"]], "artist_ids": [["", "", ANN], [BEE]]}
    )
    named = renamed(files, {"bee": Credit("Ann")})
    assert named["artists"].to_list() == [["Ann", "Cy"], ["Cy"]]
    assert named["artist_ids"].to_list() == [[ANN, ""], [BEE]]


def test_plays_under_two_names_are_of_one_artist(tmp_path):
    aliases = write(tmp_path / "aliases.csv", "Bee,Ann Cee,", f"Dee,Dora,{ANN}")
    path = history(tmp_path / "ann.csv", "Bee", "Ann Cee", "BEE", "Dee", "Eve")
    call("import", "lastfm", path, tmp_path / "home", "--aliases", aliases)
    assert plays_of(tmp_path / "home") == {"ann-cee": 3, ANN: 1, "eve": 1}
    items = read_table(tmp_path / "home" / "listens" / "items.parquet", hint="")
    assert set(items["artist_id"]) == {"ann-cee", ANN, "eve"}


def test_spotify_takes_aliases_too(tmp_path):
    names = ("Bee", "Ann Cee")
    streams = [
        {
            "ts": f"2023-11-0{n}T22:13:00Z",
            "ms_played": 60_000 + n,
            "master_metadata_album_artist_name": name,
            "master_metadata_track_name": f"Song {n}",
        }
        for n, name in enumerate(names, 1)
    ]
    (tmp_path / "Streaming_History_Audio_2023_0.json").write_text(json.dumps(streams))
    aliases = write(tmp_path / "aliases.csv", "Bee,Ann Cee,")
    call("import", "spotify", tmp_path, tmp_path / "home", "--aliases", aliases, "--user", "u")
    assert plays_of(tmp_path / "home") == {"ann-cee": 2}


def test_a_folder_has_the_names_of_the_table_without_reading_files_again(tmp_path):
    music, home = tmp_path / "music", tmp_path / "home"
    tagged.write(music / "1.flac", title="One", artist="www.bee.example", seconds=2)
    tagged.write(music / "2.flac", title="Two", artist="Ann Cee", seconds=3)
    tagged.write(music / "3.flac", title="Two", artist="www.bee.example", seconds=3.5)
    call("import", "folder", music, home)
    assert len(read_catalogue(home).artists) == 2
    aliases = write(tmp_path / "aliases.csv", "www.bee.example,Ann Cee,")
    assert "0 changed, 0 removed, 3 unchanged" in call(
        "import", "folder", music, home, "--aliases", aliases
    )
    tracks = read_catalogue(home).tracks
    assert tracks.select("id", "path").rows() == [
        ("ann-cee/one", "1.flac"),
        ("ann-cee/two", "2.flac"),  # of which the third is a copy now
    ]


def test_merge_joins_whom_the_table_joins_whatever_their_ids_say(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    tagged.write(tmp_path / "music/1.flac", title="One", artist="Bee", artist_id=BEE)
    tagged.write(tmp_path / "music/2.flac", title="Two", artist="Ann Cee", artist_id=ANN)
    call("import", "folder", tmp_path / "music", one)
    call("import", "lastfm", history(tmp_path / "u.csv", "Bee", "bee", "Dee"), two)
    aliases = write(tmp_path / "aliases.csv", "Bee,Ann Cee,")
    call("merge", one, two, tmp_path / "plain")
    assert len(read_catalogue(tmp_path / "plain").artists) == 3
    call("merge", one, two, tmp_path / "home", "--aliases", aliases)
    artists = read_catalogue(tmp_path / "home").artists
    assert artists["name"].to_list() == ["Ann Cee", "Dee"]
    assert plays_of(tmp_path / "home")[artists["id"][0]] == 2


def test_every_import_of_ones_own_music_and_listening_takes_aliases():
    takes = {x.name for x in COMMANDS if "aliases" in {p.name for p in x.params}}
    assert {x.name for x in COMMANDS} - takes == {
        *("musicbrainz", "hetrec", "olga", "deezer", "mlhd", "groups")
    }


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Bee", "Ann (Bee) Cee"], [("Bee", "Ann (Bee) Cee")]),
        (["Ann Cee", "Ann “Bee” Cee"], [("Ann Cee", "Ann “Bee” Cee")]),
        (["https://www.bee.example/", "Ann Cee 'Bee'"], [("https://www.bee.example/", None)]),
        (
            ["www.site.example/members/bee", 'Ann "Bee" Cee'],
            [("www.site.example/members/bee", None)],
        ),
        (["beebomusic.example", "Ann (Beebop)"], [("beebomusic.example", "Ann (Beebop)")]),
        (["Ann Cee", "anncee.example"], [("anncee.example", "Ann Cee")]),
        (["Nirvana (UK)", "Nirvana", "UK"], []),  # brackets that tell two bands apart
        (["Fun.", "Will.i.am", "Rock 'n' Roll", "Mr. Ann"], []),
    ],
)
def test_nicknames_and_addresses_are_proposed(names, pairs):
    expected = [(alias, name or names[1]) for alias, name in pairs]
    assert [x[:2] for x in proposed(names)] == expected


def test_identify_proposes_a_table_that_merge_takes(tmp_path):
    one = tmp_path / "one"
    call("import", "lastfm", history(tmp_path / "u.csv", "+Bee", "Ann (+Bee) Cee", "Zoe"), one)
    two = tmp_path / "two"
    call("import", "lastfm", history(tmp_path / "v.csv", "Zoé"), two)
    call("merge", one, two, tmp_path / "home")
    path = tmp_path / "aliases.csv"
    assert "2 names may be another artist's" in call(
        "identify", tmp_path / "home", "--aliases", path
    )
    assert pl.read_csv(path)["alias"].to_list() == ["'+Bee", "Zoe"]
    call("merge", one, two, tmp_path / "home", "--aliases", path)
    names = sorted(read_catalogue(tmp_path / "home").names("artist"))
    assert names == ["Ann (+Bee) Cee", "Zoé"]
