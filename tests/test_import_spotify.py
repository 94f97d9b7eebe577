import json
import zipfile

import polars as pl
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli

NAME = "Spotify Extended Streaming History/Streaming_History_Audio_2026_3.json"
END = 1_786_968_900


def stream(title, *, artist="Ann", seconds=200.0, **others):
    return {
        "ts": "2026-08-17T12:15:00Z",
        "platform": "linux",
        "ms_played": int(seconds * 1000),
        "conn_country": "NO",
        "ip_addr": "192.0.2.7",
        "master_metadata_track_name": title,
        "master_metadata_album_artist_name": artist,
        "master_metadata_album_album_name": "First",
        "spotify_track_uri": f"spotify:track:{title}",
        "episode_name": None,
        "episode_show_name": None,
        "spotify_episode_uri": None,
        "reason_start": "trackdone",
        "reason_end": "trackdone",
        "shuffle": False,
        "skipped": False,
        "offline": False,
        "offline_timestamp": None,
        "incognito_mode": False,
        **others,
    }


def run(tmp_path, files, *words):
    path = tmp_path / "my_spotify_data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, streams in files.items():
            archive.writestr(name, streams if isinstance(streams, str) else json.dumps(streams))
    home = tmp_path / "home"
    return CliRunner().invoke(cli, ["import", "spotify", str(path), str(home), *words]), home


def test_streams_become_plays_and_skips_do_not(tmp_path):
    streams = [
        stream("One"),
        stream("One", skipped=None, ts="2026-08-17T12:19:00Z"),
        stream("Two", seconds=29.9),
        stream("Two", skipped=True, reason_end="fwdbtn"),
        stream(None, artist=None, episode_name="Talk"),
        stream("Six", incognito_mode=True),
    ]
    result, home = run(tmp_path, {NAME: streams, "ReadMeFirst.pdf": "x"}, "--user", "pia")
    assert result.exit_code == 0, result.output
    assert "2 of them skipped" in result.output
    assert "1 others name no artist" in result.output
    catalogue = tables.read_catalogue(home)
    assert check_catalogue(home) == ()
    tracks = catalogue.plays.collect().filter(pl.col("kind") == "track")
    assert tracks.select("user", "item", "plays").rows() == [("pia", "ann/one", 2)]
    assert catalogue.ids("track") == ("ann/one", "ann/two")


def test_a_listen_begins_when_the_stream_did_and_keeps_how_long_it_was(tmp_path):
    _, home = run(tmp_path, {NAME: [stream("One", seconds=200.5)]})
    [row] = pl.read_parquet(home / "listens" / "part-000000.parquet").to_dicts()
    assert (row["user"], row["listened_at"], row["seconds"]) == (
        "my_spotify_data",
        END - 201,
        200.5,
    )
    assert row["skipped"] is False


def test_the_ids_of_spotify_lead_to_the_track(tmp_path):
    _, home = run(
        tmp_path, {NAME: [stream("One"), stream("One", spotify_track_uri="spotify:track:b")]}
    )
    rows = pl.read_parquet(home / "identities.parquet").filter(pl.col("source") == "spotify")
    assert rows.select("id", "source_id").rows() == [
        ("ann/one", "spotify:track:One"),
        ("ann/one", "spotify:track:b"),
    ]


def test_the_short_history_is_read_too(tmp_path):
    short = {
        "endTime": "2026-08-17 12:15",
        "artistName": "Ann",
        "trackName": "One",
        "msPlayed": 40_000,
    }
    result, home = run(tmp_path, {"MyData/StreamingHistory_music_0.json": [short]})
    assert result.exit_code == 0, result.output
    [row] = pl.read_parquet(home / "listens" / "part-000000.parquet").to_dicts()
    assert row["listened_at"] == END - 40


def test_a_damaged_entry_costs_itself(tmp_path):
    whole = json.dumps([stream("One"), stream("Two"), stream("Six")])
    bad = [stream("A", ms_played="long"), stream("B", ts="soon"), stream("C", ts=None)]
    cut = whole.replace('"Two"', '"Two', 1)
    result, home = run(tmp_path, {NAME: cut, NAME.replace("3", "4"): bad + [stream("One")]})
    assert result.exit_code == 0, result.output
    assert pl.read_csv(home / "failures.csv")["line"].to_list() == [2, 1, 2, 3]
    assert tables.read_catalogue(home).ids("track") == ("ann/one", "ann/six")


def test_an_archive_without_a_history_is_refused(tmp_path):
    result, _ = run(tmp_path, {"MyData/Playlist1.json": []})
    assert result.exit_code == 1
    assert "has no file Streaming_History_Audio" in result.output


def test_a_stream_counts_once_in_overlapping_files_and_in_both_histories(tmp_path):
    def short(title, minute, seconds=200.0):
        return {
            "endTime": f"2026-08-17 12:{minute}",
            "artistName": "Ann",
            "trackName": title,
            "msPlayed": int(seconds * 1000),
        }

    one, two, three = (
        stream(title, ts=f"2026-08-17T12:{minute}:07Z")
        for title, minute in (("One", 15), ("Two", 19), ("Three", 23))
    )
    files = {
        "StreamingHistory_music_0.json": [short("One", 15), short("Two", 19), short("Six", 47)],
        "Streaming_History_Audio_2026_0.json": [one, two, two],
        "Streaming_History_Audio_2026_1.json": [two, three],
    }
    result, home = run(tmp_path, files, "--user", "pia")
    assert "4 listens\n2 others stood there twice" in result.output
    tracks = tables.read_catalogue(home).plays.collect().filter(pl.col("kind") == "track")
    assert tracks["plays"].to_list() == [1, 1, 1, 1]
