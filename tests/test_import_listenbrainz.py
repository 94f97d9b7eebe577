import io
import json
import tarfile
import zipfile
from collections import Counter

import numpy as np
import polars as pl
import pytest
import zstandard
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.catalogue.names import name_key
from undersong.cli.main import cli
from undersong.importers import archives
from undersong.importers.listens import listenbrainz as source
from undersong.importers.listens.history import keys

ANN, BOB = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "ab")
ONE, TWO = (f"{x}c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1" for x in "12")
MONTH = "listens/2026/8.listens"


def listen(user, artist, title, *, when=1_600_000_000, sent=None, mapped=None, **others):
    """One line of a dump; an export has no user, and calls the time listened_at."""
    track = {
        "artist_name": artist,
        "track_name": title,
        "release_name": "First",
        "additional_info": {"media_player": "mpd", "tags": [], **(sent or {})},
    }
    if mapped:
        track["mbid_mapping"] = {"caa_id": 7, "recording_name": title, **mapped}
    named = {"user_id": 5, "user_name": user, "timestamp": when} if user else {"listened_at": when}
    return {**named, "recording_msid": TWO, "track_metadata": track, **others}


def lines(*listens):
    return b"".join(json.dumps(x).encode() + b"\n" for x in listens)


def dump(path, files):
    """A dump as it comes: a tar packed by Zstandard, all below one folder."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"listenbrainz-listens-dump-2105-full/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path.write_bytes(zstandard.compress(tar.getvalue()))
    return path


def export(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def run(path, home):
    return CliRunner().invoke(cli, ["import", "listenbrainz", str(path), str(home)])


def imported(path, home):
    result = run(path, home)
    assert result.exit_code == 0, result.output
    assert check_catalogue(home) == ()
    return tables.read_catalogue(home)


def plays_of(catalogue, kind):
    rows = catalogue.plays.collect().filter(pl.col("kind") == kind)
    return {(user, item): plays for _, user, item, plays in rows.rows()}


def test_a_dump_becomes_artists_tracks_and_plays(tmp_path):
    data = lines(
        listen("pia", "Ann", "Öne", sent={"artist_mbids": [ANN], "recording_mbid": ONE}),
        listen("pia", "Ann", "Öne", when=1_600_000_300, mapped={"recording_mbid": ONE}),
        listen("quo", "Bob", "Two Too"),
    )
    path = dump(tmp_path / "dump.tar.zst", {"COPYING": b"CC0", MONTH: data})
    catalogue = imported(path, tmp_path / "home")
    assert catalogue.artists.select("id", "name").rows() == [(ANN, "Ann"), ("bob", "Bob")]
    assert catalogue.tracks.select("id", "artist", "title").rows() == [
        (ONE, ANN, "Öne"),
        ("bob/two-too", "bob", "Two Too"),
    ]
    assert plays_of(catalogue, "artist") == {("pia", ANN): 2, ("quo", "bob"): 1}
    assert plays_of(catalogue, "track") == {("pia", ONE): 2, ("quo", "bob/two-too"): 1}
    assert catalogue.origins[0].licence == "CC0"


def test_every_listen_is_kept_with_its_time(tmp_path):
    data = lines(*(listen("pia", "Ann", x, when=70 + x.count("o")) for x in ("One", "Too", "Two")))
    imported(dump(tmp_path / "dump.tar.zst", {MONTH: data}), tmp_path / "home")
    items = pl.read_parquet(tmp_path / "home" / "listens" / "items.parquet")
    kept = pl.concat(map(pl.read_parquet, (tmp_path / "home" / "listens").glob("part-*.parquet")))
    assert kept.join(items, on="item").sort("track_id").select(
        "user", "track_id", "listened_at"
    ).rows() == [("pia", "ann/one", 70), ("pia", "ann/too", 72), ("pia", "ann/two", 71)]


def test_ids_that_the_user_sent_come_before_mapped_ones(tmp_path):
    ids = {"sent": {"artist_mbids": [ANN]}, "mapped": {"artist_mbids": [BOB]}}
    data = lines(
        listen("pia", "Ann", "One", **ids), listen("pia", "Bob", "Two", mapped=ids["mapped"])
    )
    catalogue = imported(dump(tmp_path / "dump.tar.zst", {MONTH: data}), tmp_path / "home")
    assert catalogue.ids("artist") == (ANN, BOB)


def test_the_main_artist_of_a_mapped_credit_is_the_first(tmp_path):
    artists = [
        {"artist_mbid": BOB, "artist_credit_name": "Bob", "join_phrase": " og "},
        {"artist_mbid": ANN, "artist_credit_name": "Ann", "join_phrase": ""},
    ]
    mapped = {"artist_mbids": [BOB, ANN], "artists": artists}
    data = lines(listen("pia", "Bob og Ann", "One", mapped=mapped))
    catalogue = imported(dump(tmp_path / "dump.tar.zst", {MONTH: data}), tmp_path / "home")
    assert catalogue.artists.select("id", "name").rows() == [(BOB, "Bob")]


def test_an_export_belongs_to_its_user(tmp_path):
    files = {
        "user.json": b'{"user_id": 3, "username": "pia"}',
        "listens/2025/12.jsonl": lines(listen(None, "Ann", "One")),
        "listens/2026/1.jsonl": lines(
            listen(None, "Ann", "One", when=1_600_000_300), listen(None, "Bob", "Two")
        ),
        "feedback.jsonl": b'{"score": 1}\n',
    }
    catalogue = imported(export(tmp_path / "my.zip", files), tmp_path / "home")
    assert plays_of(catalogue, "artist") == {("pia", "ann"): 2, ("pia", "bob"): 1}


def test_the_spark_dump_gives_the_same_catalogue(tmp_path):
    ids = {"artist_mbids": [ANN], "recording_mbid": ONE}
    data = lines(
        listen(None, "Ann", "One", sent=ids, user_id=5), listen(None, "Bob", "Two", user_id=6)
    )
    table = io.BytesIO()
    pl.DataFrame(
        {
            "listened_at": [1_600_000_000, 1_600_000_000],
            "user_id": [5, 6],
            "artist_name": ["Ann", "Bob"],
            "artist_credit_id": [9, 8],
            "recording_name": ["One", "Two"],
            "recording_mbid": [ONE, None],
            "artist_credit_mbids": [[ANN], None],
        }
    ).with_columns(pl.from_epoch("listened_at")).write_parquet(table)
    spark = imported(dump(tmp_path / "s.tar", {"0.parquet": table.getvalue()}), tmp_path / "s")
    plain = imported(dump(tmp_path / "d.tar.zst", {MONTH: data}), tmp_path / "d")
    assert spark.artists.equals(plain.artists)
    assert spark.tracks.equals(plain.tracks)
    assert spark.plays.collect().equals(plain.plays.collect())


def test_a_malformed_line_costs_itself_and_is_listed_with_its_number(tmp_path):
    good = lines(listen("pia", "Ann", "One"))
    bad = [b'{"user_id":', b"[1]", b'{"track_metadata": 5}', b'{"user_name": "\xff"}', b"x" * 30]
    negative = lines(listen("pia", "Ann", "One", when=-4))
    data = good + b"\n".join(bad) + b"\n\n" + negative
    data += lines(listen("pia", "Ann", "One", when=1_600_000_300))
    home = tmp_path / "home"
    result = run(dump(tmp_path / "dump.tar.zst", {MONTH: data}), home)
    assert result.exit_code == 0
    assert "6 were left out" in result.output
    assert pl.read_csv(home / "failures.csv")["line"].to_list() == [2, 3, 4, 5, 6, 8]
    assert plays_of(tables.read_catalogue(home), "artist") == {("pia", "ann"): 2}


EXTRAS = [
    {"artist_mbids": ANN},
    {"artist_mbids": f"{ANN};{BOB}"},
    {"artist_mbid": ANN},
    {"artist_mbids": [ANN], "recording_mbid": [ONE]},
    {"artist_mbids": [None, 7], "recording_mbid": []},
    {"artist_mbids": {}, "duration_ms": "abc"},
    {"artist_mbids": ""},
    [],
    "",
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_odd_optional_values_cost_no_listen(tmp_path, extra):
    odd = listen("pia", "Ann", "One", when=1_600_000_000.0)
    odd["track_metadata"]["additional_info"] = extra
    data = lines(odd, listen("pia", 1999, 311, when="1600000600"))
    catalogue = imported(dump(tmp_path / "dump.tar.zst", {MONTH: data}), tmp_path / "home")
    assert catalogue.names("artist") == ("1999", "Ann")
    known = ANN in json.dumps(extra)
    assert (ANN in catalogue.ids("artist")) == known
    times = pl.read_parquet(tmp_path / "home" / "listens" / "part-*.parquet")["listened_at"]
    assert sorted(times) == [1_600_000_000, 1_600_000_600]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("page", [False, True])
def test_the_older_export_and_a_page_of_the_api_are_read(tmp_path, page, indent):
    listens = [listen("pia", "Ann", f"T{x}", when=1_600_000_000 + 60 * x) for x in range(5)]
    content = {"payload": {"count": 5, "user_id": "pia", "listens": listens}} if page else listens
    path = tmp_path / "pia_lb-2023-01-05.json"
    path.write_text(json.dumps(content, indent=indent))
    catalogue = imported(path, tmp_path / "home")
    assert catalogue.tracks["title"].sort().to_list() == [f"T{x}" for x in range(5)]


def test_an_archive_without_listens_is_refused(tmp_path):
    result = run(export(tmp_path / "my.zip", {"feedback.jsonl": b"{}"}), tmp_path / "home")
    assert result.exit_code == 1
    assert "has no listens in it" in result.output


def test_names_are_folded_all_at_once_as_they_are_one_by_one():
    names = [
        "Öne",
        "AC/DC",
        "!!!",
        " (a)  B_c ",
        "ﬁn",
        "İ",
        "Straße",
        "",
        "...",
        "ünï",
        "x-y",
        "\x7f",
    ]
    assert keys(pl.Series(names)).to_list() == [name_key(x) for x in names]
    assert keys(pl.Series([], dtype=pl.String)).to_list() == []


@pytest.mark.parametrize("data", [b"", b"{}\n", lines(listen("pia", "", "One"))])
def test_listens_that_name_nobody_make_no_catalogue(tmp_path, data):
    result = run(dump(tmp_path / "dump.tar.zst", {MONTH: data}), tmp_path / "home")
    assert result.exit_code == 1
    assert "no listen that names an artist" in result.output
    assert not (tmp_path / "home" / "catalogue.json").exists()
    assert not (tmp_path / "home" / ".listens.partial").exists()


def some_lines(generator, count):
    """Lines, good and bad: tracks told in several ways, users with and without names."""
    for number in range(count):
        artist, title = (int(x) for x in generator.integers(1, [7, 5]))
        ids = {"artist_mbids": [ANN, BOB][: artist % 3], "recording_mbid": ONE}
        one = listen(
            ["pia", "quo", None][generator.integers(3)],
            ["", " Ann ", "Bob & Ann"][artist % 3],
            None if title == 1 else f" Title {title}",
            when=90 * number + int(generator.integers(90)),  # none stands there twice
            sent=ids if artist == 2 else None,
            mapped=ids if artist == 4 else None,
        )
        if title == 3:
            one["user_id"] = artist
        line = json.dumps(one).encode()
        place = int(generator.integers(len(line)))
        yield [line, line, line, b"", b"  ", line[:place], line + line, b"[7]"][
            int(generator.integers(8))
        ]


def told(lines, owner):
    """Each listen, and the numbers of lines that are none, read one by one with json."""
    heard, wrong = Counter(), []
    for number, line in enumerate(lines, start=1):
        try:
            one = json.loads(line)
            track = one["track_metadata"]
        except (ValueError, TypeError):
            wrong += [number] if line.strip() else []
            continue
        user = one.get("user_name") or str(one.get("user_id", owner))
        when = one.get("listened_at", one.get("timestamp"))
        sent, mapped = track["additional_info"], track.get("mbid_mapping", {})
        ids = sent.get("artist_mbids") or mapped.get("artist_mbids") or []
        recording = sent.get("recording_mbid") or mapped.get("recording_mbid")
        title = track["track_name"] and track["track_name"].strip()
        if track["artist_name"]:
            artist = track["artist_name"].strip()
            heard[user, artist, " ".join(ids) or None, title, recording, when] += 1
    return heard, wrong


@pytest.mark.parametrize("size", [3, 17, 1000])
def test_lines_read_many_at_a_time_are_those_read_one_by_one(tmp_path, monkeypatch, size):
    monkeypatch.setattr(source, "LISTENS_OF_BLOCK", size)
    monkeypatch.setattr(source, "ITEMS_OF_BLOCK", size + 2)
    monkeypatch.setattr(archives, "CHUNK", 500 * size)
    lines = list(some_lines(np.random.default_rng(size), 411))
    heard, wrong = told(lines, "dump.tar")
    home = tmp_path / "home"
    path = dump(
        tmp_path / "dump.tar.zst",
        {MONTH: b"\n".join(lines[:203]), "listens/2026/9.listens": b"\n".join(lines[203:])},
    )
    catalogue = imported(path, home)
    items = pl.read_parquet(home / "listens" / "items.parquet")
    rows = pl.concat(map(pl.read_parquet, (home / "listens").glob("part-*.parquet")))
    names = ("user", "artist", "artist_ids", "title", "recording", "listened_at")
    assert Counter(rows.join(items, on="item").select(names).rows()) == heard
    failed = pl.read_csv(home / "failures.csv")
    first = failed["file"].str.contains("8.listens")
    numbers = failed["line"] + pl.Series([0 if x else 203 for x in first])
    assert numbers.to_list() == wrong
    assert sum(plays_of(catalogue, "artist").values()) == heard.total()
    assert sum(plays_of(catalogue, "track").values()) == sum(
        count for row, count in heard.items() if row[3] or row[4]
    )
