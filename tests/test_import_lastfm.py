import json

import polars as pl
import pytest
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli

ANN = "0383dadf-2a4e-4d10-a46a-e9e041da8eb3"
ONE = "9c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1"
NOON = 1_786_968_840  # 17 August 2026, 12:14
SHA = "00000c289a1829a808ac09c00daf10bc3c4e223b"

SHAPES = {
    "scrobbles.csv": "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
    f'"{NOON}","17 Aug 2026, 12:14","Ann, Queen",{ANN},"First","","Öne",{ONE}\n',
    "ben.csv": '"Ann, Queen",First,Öne,"17 Aug 2026 12:14"\n',
    "backup.csv": '2026-08-17,12:14:00,"Ann, Queen",Öne\n',
    "headed.csv": 'date,time,artist,title\n2026-08-17,12:14:00,"Ann, Queen",Öne\n',
    "stats.csv": "\ufeffArtist;Album;AlbumId;Track;Date#pia\n"
    f'"Ann, Queen";"First";"7";"Öne";"{NOON}000"\n',
    "libre.csv": "Listens of pia at libre.fm\n\nTime,Artist,Track,Album\n"
    f'{NOON},"Ann, Queen",Öne,First\n',
    ".scrobbler.log": "#AUDIOSCROBBLER/1.1\n#TZ/UTC\n#CLIENT/Rockbox\n"
    f"Ann, Queen\tFirst\tÖne\t3\t240\tL\t{NOON}\t{ONE}\n",
    "maloja.json": json.dumps(
        {
            "maloja": {"export_time": 5},
            "scrobbles": [
                {
                    "time": NOON,
                    "track": {
                        "artists": ["Ann, Queen"],
                        "title": "Öne",
                        "album": {"artists": [], "albumtitle": "First"},
                        "length": 240,
                    },
                    "duration": None,
                    "origin": "client:x",
                }
            ],
        },
        indent=4,
        ensure_ascii=False,
    ),
    "pano.jsonl": json.dumps({"timeMs": NOON * 1000, "track": "Öne", "artist": "Ann, Queen"})
    + "\n"
    + json.dumps({"timeMs": NOON * 1000, "track": "X", "artist": "Y", "event": "love"}),
    "stats.json": json.dumps(
        {
            "username": "pia",
            "scrobbles": [
                {"track": "Öne", "artist": "Ann, Queen", "albumId": "7", "date": NOON * 1000}
            ],
        }
    ),
    "pages.json": json.dumps(
        [
            {
                "track": [
                    {"artist": {"mbid": "", "#text": "Z"}, "name": "N", "@attr": {"nowplaying": 1}},
                    {
                        "artist": {"mbid": ANN, "#text": "Ann, Queen"},
                        "name": "Öne",
                        "mbid": ONE,
                        "date": {"uts": str(NOON), "#text": "17 Aug 2026, 12:14"},
                    },
                ]
            }
        ]
    ),
    "1k.tsv": f"pia\t2026-08-17T12:14:00Z\t{ANN}\tAnn, Queen\t{ONE}\tÖne\n",
}


def run(path, home, *words):
    return CliRunner().invoke(cli, ["import", "lastfm", str(path), str(home), *words])


def imported(path, home, *words):
    result = run(path, home, *words)
    assert result.exit_code == 0, result.output
    assert check_catalogue(home) == ()
    return tables.read_catalogue(home)


def kept(home):
    items = pl.read_parquet(home / "listens" / "items.parquet")
    parts = pl.concat(map(pl.read_parquet, (home / "listens").glob("part-*.parquet")))
    return parts.join(items, on="item")


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_says_the_same(tmp_path, name):
    path = tmp_path / name
    path.write_text(SHAPES[name], encoding="utf-8")
    catalogue = imported(path, tmp_path / "home", "--user", "pia")
    [artist] = catalogue.artists.select("id", "name").rows()
    known = ANN in SHAPES[name]
    assert artist == (ANN if known else "ann-queen", "Ann, Queen")
    [track] = catalogue.tracks.select("id", "title").rows()
    assert track == (ONE if ONE in SHAPES[name] else f"{artist[0]}/öne", "Öne")
    assert kept(tmp_path / "home").select("user", "listened_at").rows() == [("pia", NOON)]


def test_a_name_without_an_id_is_the_artist_who_has_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "uts,artist,artist_mbid,track,track_mbid\n"
        f"5,Ann,{ANN},One,{ONE}\n6,ANN,,one,\n7,ann,,Other,\n8,Bob,,One,\n"
    )
    catalogue = imported(path, tmp_path / "home")
    assert catalogue.ids("artist") == (ANN, "bob")
    assert catalogue.ids("track") == (f"{ANN}/other", ONE, "bob/one")
    plays = catalogue.plays.collect().filter(pl.col("item") == ONE)
    assert plays["plays"].to_list() == [2]


def test_the_research_set_of_totals_gives_plays_without_times(tmp_path):
    path = tmp_path / "360k.tsv"
    path.write_text(f"{SHA}\t{ANN}\tAnn\t2137\n{SHA}\t\tBob\t13\n{SHA}\t{ANN}\tann\t0\n")
    catalogue = imported(path, tmp_path / "home")
    assert catalogue.plays.collect().select("user", "item", "plays").rows() == [
        (SHA, ANN, 2137),
        (SHA, "bob", 13),
    ]
    assert catalogue.tracks.is_empty()


def test_a_skipped_track_of_a_player_is_no_play_but_stays_a_listen(tmp_path):
    path = tmp_path / "player.log"
    path.write_text(
        "#AUDIOSCROBBLER/1.1\n#TZ/UNKNOWN\n"
        "Ann\t\tOne\t1\t240\tL\t50\t\nAnn\t\tTwo\t2\t240\tS\t60\n<Untagged>\t\tX\t\t9\tL\t70\t\n"
    )
    catalogue = imported(path, tmp_path / "home")
    assert catalogue.plays.collect()["plays"].to_list() == [1, 1]
    assert kept(tmp_path / "home").sort("listened_at")["skipped"].to_list() == [False, True]


def test_one_file_a_user_makes_many_users(tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    for name in ("pia", "quo", "rex"):
        (folder / f"{name}.csv").write_text("Ann,First,One,17 Aug 2026 12:14\n")
    catalogue = imported(folder, tmp_path / "home")
    assert catalogue.plays.collect().filter(pl.col("kind") == "track")["user"].to_list() == [
        "pia",
        "quo",
        "rex",
    ]


def test_a_malformed_line_costs_itself(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"uts,artist,track\n5,Ann,One\nyesterday,Ann,One\n6\n-4,Ann,One\n\n"
        b"99999999999999999999,Ann,One\n7,\xff\xfe,Two\n8,Ann,One\n"
    )
    home = tmp_path / "home"
    result = run(path, home)
    assert result.exit_code == 0, result.output
    assert pl.read_csv(home / "failures.csv")["line"].to_list() == [3, 4, 5, 7]


def test_a_damaged_entry_of_an_array_costs_itself(tmp_path):
    path = tmp_path / "a.json"
    good = '{"track": "One", "artist": "Ann", "date": 5000}'
    path.write_text(f'{{"scrobbles": [{good}, {{"track": "x}}, {good}, 7, {good}')
    result = run(path, tmp_path / "home")
    assert result.exit_code == 0, result.output
    assert "2 were left out" in result.output
    plays = tables.read_catalogue(tmp_path / "home").plays.collect()["plays"].to_list()
    assert plays in ([2, 2], [3, 3])


@pytest.mark.parametrize("data", [b"", b"no table at all\n", b"[]", b"{}", b'{"scrobbles": 5}'])
def test_a_file_without_listens_is_refused(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "no listen that names an artist" in result.output
