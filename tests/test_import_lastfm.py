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
        b"99999999999999999999,Ann,One\n7,\xc3\x84nn,Two\n8,\xff\xfe,Two\n9,Ann,One\n"
    )
    home = tmp_path / "home"
    result = run(path, home)
    assert result.exit_code == 0, result.output
    assert pl.read_csv(home / "failures.csv")["line"].to_list() == [3, 4, 5, 7, 9]


def test_a_damaged_entry_of_an_array_costs_itself(tmp_path):
    path = tmp_path / "a.json"
    good = '{"track": "One", "artist": "Ann", "date": 5000}'
    path.write_text(f'{{"scrobbles": [{good}, {{"track": "x}}, {good.replace("5", "6")}, 7, {good}')
    result = run(path, tmp_path / "home")
    assert result.exit_code == 0, result.output
    assert "2 were left out" in result.output
    plays = tables.read_catalogue(tmp_path / "home").plays.collect()["plays"].to_list()
    assert plays in ([1, 1], [2, 2])


@pytest.mark.parametrize("data", [b"", b"no table at all\n", b"[]", b"{}", b'{"scrobbles": 5}'])
def test_a_file_without_listens_is_refused(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "no listen that names an artist" in result.output


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251"])
def test_a_history_in_another_encoding_is_refused_with_the_remedy(tmp_path, encoding):
    path = tmp_path / "a.csv"
    name = "Öland" if encoding == "latin-1" else "Берег"
    path.write_bytes(f"uts,artist,track\n5,Ann,One\n6,{name},Two\n".encode(encoding))
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "a.csv line 3 is not UTF-8 near" in result.output
    assert "iconv -f latin1 -t utf-8" in result.output
    assert not (tmp_path / "home" / "catalogue.json").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_history_in_utf_16_is_read(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("uts,artist,track\n5,Öland,Ä\n6,Берег,Два\n7,春,夏\n".encode(encoding))
    catalogue = imported(path, tmp_path / "home")
    assert set(catalogue.names("artist")) == {"Öland", "Берег", "春"}


def test_a_listen_of_one_user_item_and_second_counts_once(tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    head = "uts,artist,track,track_mbid\n"
    (folder / "some.csv").write_text(f"{head}5,Ann,One,\n65,Ann,Two,\n")
    (folder / "whole.csv").write_text(
        f"{head}5,ann,ONE,\n65,Ann,Two,{ONE}\n125,Ann,One,\n125,Ann,One,\n"
    )
    result = run(folder, tmp_path / "home", "--user", "pia")
    assert "3 others stood there twice, and count once" in result.output
    plays = tables.read_catalogue(tmp_path / "home").plays.collect()
    by_kind = plays.group_by("kind").agg(pl.sum("plays")).sort("kind")
    assert by_kind.rows() == [("artist", 3), ("track", 3)]
    assert len(kept(tmp_path / "home")) == 3


def test_many_listens_are_compared_some_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("undersong.importers.listens.history.AT_ONCE", 7)
    path = tmp_path / "a.csv"
    rows = [f"{60 * n},Ann,T{n}\n" for n in range(41)]
    path.write_text("uts,artist,track\n" + "".join(rows + rows[3:20]))
    result = run(path, tmp_path / "home")
    assert "41 listens\n17 others stood there twice" in result.output


@pytest.mark.parametrize(
    "name",
    ["Various Artists", "[unknown]", "<unknown>", "Verschiedene Interpreten", "[traditional]"],
)
def test_nobody_is_no_artist_and_how_often_is_said(tmp_path, name):
    path = tmp_path / "a.csv"
    path.write_text(f"uts,artist,track\n5,Ann,One\n65,{name},Two\n125,{name},Three\n")
    result = run(path, tmp_path / "home")
    assert "1 listens\n2 others are of nobody" in result.output
    assert tables.read_catalogue(tmp_path / "home").names("artist") == ("Ann",)


def api_track(number):
    return {"artist": {"mbid": "", "#text": "Ann"}, "mbid": "", "name": f"T{number}",
            "date": {"uts": str(5 + 60 * number), "#text": "1 Jan 1970, 00:00"}}  # fmt: skip


def reply(*tracks):
    return {"recenttracks": {"track": list(tracks), "@attr": {"user": "pia", "page": "1"}}}


NOW = {key: value for key, value in api_track(9).items() if key != "date"} | {
    "@attr": {"nowplaying": "true"}
}
ONE_REPLY, OTHER_REPLY = reply(NOW, api_track(0), api_track(1)), reply(api_track(2))
REPLIES = {
    "reply": ONE_REPLY,
    "replies": [ONE_REPLY, OTHER_REPLY],
    "pages": [ONE_REPLY["recenttracks"], OTHER_REPLY["recenttracks"]],
    "lists": [ONE_REPLY["recenttracks"]["track"], OTHER_REPLY["recenttracks"]["track"]],
    "one track": reply() | {"recenttracks": {"track": api_track(0), "@attr": {"user": "pia"}}},
    "flat": [{"artist": "Ann", "name": "T0", "album": "", "date": "5"}],
}


@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("name", REPLIES)
def test_replies_of_the_api_are_read_as_people_save_them(tmp_path, name, indent):
    path = tmp_path / "pia.json"
    path.write_text(json.dumps(REPLIES[name], indent=indent))
    catalogue = imported(path, tmp_path / "home")
    count = {"reply": 2, "one track": 1, "flat": 1}.get(name, 3)
    assert catalogue.tracks["title"].sort().to_list() == [f"T{x}" for x in range(count)]
    assert set(kept(tmp_path / "home")["user"]) == {"pia"}


def test_dates_of_a_spreadsheet_are_read_or_the_commonest_reason_is_the_message(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nArtist;Album;Track;Date\nAnn;A;One;05.11.2023 22:13\n")
    imported(path, tmp_path / "home")
    assert kept(tmp_path / "home")["listened_at"].to_list() == [1699222380]
    path.write_text("Artist;Album;Track;Date\n;;;x\n" + "Ann;A;One;05/11/2023 22:13\n" * 3)
    result = run(path, tmp_path / "other")
    assert result.exit_code == 1
    assert "3 of 4" in result.output
    assert "has a date whose day and month are not sure; write it as 2023-11-05" in result.output


def test_whose_it_is_says_the_user_before_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Artist;Album;AlbumId;Track;Date#quo\nAnn;A;x;One;1700000000000\n")
    imported(path, tmp_path / "home", "--user", "pia")
    assert kept(tmp_path / "home")["user"].to_list() == ["pia"]
    imported(path, tmp_path / "other")
    assert kept(tmp_path / "other")["user"].to_list() == ["quo"]


def test_one_listener_alone_is_told_what_to_merge_with(tmp_path):
    path = tmp_path / "pia.csv"
    path.write_text("uts,artist,track\n" + "".join(f"{60 * x},A{x % 5},T{x}\n" for x in range(31)))
    imported(path, tmp_path / "home")
    words = ["train", str(tmp_path / "home"), str(tmp_path / "run")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    assert "plays of one listener, 'pia', and nothing else" in result.output
    assert "`undersong merge`" in result.output
    assert CliRunner().invoke(cli, ["describe", str(tmp_path / "home")]).exit_code == 0
