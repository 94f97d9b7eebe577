"""The library of a media server: Supysonic itself, and Jellyfin as it is published."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import libsonic
import numpy as np
import pexpect
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st
from jellyfin_apiclient_python import JellyfinClient

from media_servers import PASSWORD, Jellyfin, answering, as_json, supysonic, write_song
from spoken import make_certificate
from undersong import embeddings
from undersong.audio.extract import extract
from undersong.catalogue import (
    Catalogue,
    check_catalogue,
    fingerprint,
    read_catalogue,
    write_catalogue,
)
from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.importers.players.media_server import read as read_server
from undersong.importers.result import Failures
from undersong.models.content.inputs import choose_sources
from undersong.models.content.network import ContentSettings
from undersong.servers.connection import Login, place_of
from undersong.servers.jellyfin import Jellyfin as JellyfinServer
from undersong.servers.subsonic import Subsonic

ANN, BOB = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "ab")
ONE, TWO = (f"{x}c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1" for x in "12")
SONGS = {"Zoë": 3, "Los Böröcz": 4, "Zoë; Guest": 1}
OTHER = "pass%41word of bob"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("subsonic")
    number = 0
    for artist, count in SONGS.items():
        for _ in range(count):
            number += 1
            name = artist.replace(";", "")
            write_song(home / "music" / name / f"{number}.flac", artist, number)
    return home


@pytest.fixture(scope="module")
def url(home):
    users = (f"ann:{PASSWORD}", f"bob:{OTHER}")
    with supysonic(home / "server", home / "music", users) as url:
        port = int(url.rpartition(":")[2])
        for user, password, starred in (("ann", PASSWORD, 2), ("bob", OTHER, 5)):
            other = libsonic.Connection(
                "http://127.0.0.1", user, password, port=port, legacyAuth=True
            )
            songs = other.search3("Song")["searchResult3"]["song"]
            other.star([x["id"] for x in songs if x["title"] in ("Song 2", f"Song {starred}")])
        artists = other.search3("Zoë")["searchResult3"]["artist"]
        other.star(artistIds=[x["id"] for x in artists if x["name"] == "Zoë"])
        yield url


@pytest.fixture
def login(tmp_path):
    path = tmp_path / "login.txt"
    path.write_text(f"ann:{PASSWORD}\nbob:{OTHER}\n")
    path.chmod(0o600)
    return path


def run(*arguments, code=0, env=None):
    result = CliRunner().invoke(cli, ["import", *map(str, arguments)], env=env)
    assert result.exit_code == code, result.output + result.stderr
    assert PASSWORD not in result.output
    assert OTHER not in result.output
    return result


def test_a_real_server_gives_its_library_with_its_ids_and_stars(url, home, login, tmp_path):
    folder = tmp_path / "catalogue"
    output = run("subsonic", url, folder, "--login", login, "--music", home / "music").output
    assert "2 artists, 8 tracks" in output
    made = read_catalogue(folder)
    assert not check_catalogue(folder)
    other = libsonic.Connection(
        "http://127.0.0.1", "ann", PASSWORD, port=int(url.rpartition(":")[2]), legacyAuth=True
    )
    theirs = other.search3("")["searchResult3"]
    assert set(made.ids("track")) == {x["id"] for x in theirs["song"]}
    assert set(made.ids("artist")) < {x["id"] for x in theirs["artist"]}
    assert sorted(made.names("artist")) == ["Los Böröcz", "Zoë"]
    song = made.tracks.filter(pl.col("title") == "Song 2")
    assert song["path"].item() == "Zoë/2.flac"
    assert song["year"].item() == 1994
    assert song["genre"].to_list() == [["dream pop"]]
    assert made.audio_root == home / "music"
    guest = made.tracks.filter(pl.col("title") == "Song 8")
    assert guest["credited"].to_list() == [["Zoë", "Guest"]]
    title = dict(made.tracks.select("id", "title").iter_rows())
    plays = {
        (user, title[x]): n
        for user, x, n in made.played("track").collect().sort("user").iter_rows()
    }
    assert plays == {("ann", "Song 2"): 1, ("bob", "Song 2"): 1, ("bob", "Song 5"): 1}
    assert len(made.played("artist").collect()) == 3


def test_what_was_joined_to_a_library_stays_and_what_left_the_server_goes(
    url, home, login, tmp_path
):
    folder = tmp_path / "catalogue"
    run("subsonic", url, folder, "--login", login)
    made = read_catalogue(folder)
    before = fingerprint(folder)
    assert "8 still there" in run("subsonic", url, folder, "--login", login).output
    again = read_catalogue(folder)
    assert again.tracks.equals(made.tracks)
    assert fingerprint(folder) == before
    gone = made.tracks[:1].with_columns(pl.lit("gone").alias("id"))
    ids = (*made.ids("track"), "gone")
    mood = embeddings.Embeddings(ids, np.eye(len(ids), 3, dtype=np.float32))
    more = replace(again, tracks=pl.concat([made.tracks, gone]), features={("mood", "track"): mood})
    write_catalogue(more, folder, source="subsonic")
    run("subsonic", url, folder, "--login", login)
    again = read_catalogue(folder)
    assert again.ids("track") == made.ids("track")
    assert again.features["mood", "track"].ids == made.ids("track")
    assert not check_catalogue(folder)


def item(number, artist, title, **others):
    names = {"art1": "Ann", "art2": "Bob"}
    return {
        "Id": f"{number:032x}",
        "Type": "Audio",
        "Name": title,
        "Album": "First",
        "Artists": [names[artist]],
        "ArtistItems": [{"Name": names[artist], "Id": artist}],
        "Genres": ["Dream Pop", "Shoegaze"],
        "ProductionYear": 1991,
        "RunTimeTicks": (100 + number) * 10_000_000,
        "Path": f"/media/{title}.flac",
        "ProviderIds": {},
    } | others


@pytest.fixture
def kept():
    songs = [
        item(21, "art1", "One", ProviderIds={"MusicBrainzTrack": ONE}),
        item(22, "art1", "Two", ProviderIds={"MusicBrainzTrack": ONE, "MusicBrainzRecording": TWO}),
        item(23, "art2", "Three"),
        item(24, "art1", "Two", ProviderIds={"MusicBrainzRecording": TWO}, Album="Best of"),
        item(25, "art2", "Four", Genres=[], ProductionYear=None),
    ]
    played = {
        ("ann", songs[0]["Id"]): {"PlayCount": 7, "IsFavorite": True},
        ("ann", songs[3]["Id"]): {"PlayCount": 2, "IsFavorite": False},
        ("bob", songs[1]["Id"]): {"PlayCount": 3, "IsFavorite": False},
        ("bob", songs[4]["Id"]): {"PlayCount": 0, "IsFavorite": True},
    }
    artists = [
        {"Id": "art1", "Name": "Ann", "ProviderIds": {"MusicBrainzArtist": ANN.upper()}},
        {"Id": "art2", "Name": "Bob", "UserData": {"IsFavorite": True}},
    ]
    return Jellyfin(songs, {"ann": PASSWORD, "bob": OTHER}, played=played, artists=artists, page=2)


def test_jellyfin_gives_all_that_the_api_names_of_every_user_of_a_key(kept, tmp_path):
    folder = tmp_path / "catalogue"
    with answering(kept) as url:
        run("jellyfin", url, folder, env={"UNDERSONG_LOGIN": Jellyfin.KEY})
    made = read_catalogue(folder)
    songs = kept.songs
    assert made.artists.select("id", "name", "mbid").rows() == [
        ("art1", "Ann", ANN),
        ("art2", "Bob", None),
    ]
    rows = made.tracks.select("id", "artist", "title", "mbid", "seconds").rows()
    assert rows == [
        (songs[0]["Id"], "art1", "One", ONE, 121),
        (songs[1]["Id"], "art1", "Two", TWO, 122),
        (songs[2]["Id"], "art2", "Three", None, 123),
        (songs[4]["Id"], "art2", "Four", None, 125),
    ]
    assert made.played("track").collect().sort("user", "item").rows() == [
        ("ann", songs[0]["Id"], 7),
        ("ann", songs[1]["Id"], 2),  # of the copy
        ("bob", songs[1]["Id"], 3),
        ("bob", songs[4]["Id"], 1),  # of the star
    ]
    assert made.played("artist").collect().sort("user", "item").rows() == [
        ("ann", "art1", 9),
        ("ann", "art2", 1),
        ("bob", "art1", 3),
        ("bob", "art2", 1),
    ]
    known = pl.read_parquet(folder / "identities.parquet")
    assert ("track", songs[1]["Id"], "jellyfin", songs[3]["Id"]) in known.rows()
    assert not check_catalogue(folder)


def test_the_server_of_the_tests_answers_its_own_client_as_jellyfin_does(kept):
    with answering(kept) as url:
        client = JellyfinClient()
        client.config.app("undersong", "1", "tests", "tests")
        client.config.data["auth.ssl"] = False
        client.auth.connect_to_address(url)
        client.auth.login(url, "ann", PASSWORD)
        client.config.data.update({"auth.server": url})
        client.http.start_session()
        try:
            listed = client.jellyfin.user_items(
                params={"IncludeItemTypes": "Audio", "Recursive": True, "Fields": "Path"}
            )
            assert listed["TotalRecordCount"] == 5
            assert [x["Name"] for x in listed["Items"]] == ["One", "Two"]
            assert listed["Items"][0]["UserData"] == {"PlayCount": 7, "IsFavorite": True}
            made = client.jellyfin.new_playlist("Mix", [kept.songs[2]["Id"]], "Audio")
            client.jellyfin.update_playlist(made["Id"], item_ids=[kept.songs[4]["Id"]])
            there = client.jellyfin.get_playlist_items(made["Id"])
            assert [x["Id"] for x in there["Items"]] == [kept.songs[4]["Id"]]
            assert there["Items"][0]["PlaylistItemId"]
        finally:
            client.http.stop_session()


def test_an_api_that_lies_about_its_total_changes_nothing(kept, tmp_path):
    folder = tmp_path / "catalogue"
    with answering(kept) as url:
        run("jellyfin", url, folder, env={"UNDERSONG_LOGIN": f"ann:{PASSWORD}"})
        before = (folder / "catalogue.json").read_bytes()
        kept.overstated = 3
        result = run("jellyfin", url, folder, code=1, env={"UNDERSONG_LOGIN": Jellyfin.KEY})
    assert "says that it has 8 songs, and gives 5; nothing was written" in result.stderr
    assert (folder / "catalogue.json").read_bytes() == before


def test_a_server_that_lost_its_music_or_its_ids_is_told_of(kept, tmp_path):
    folder, env = tmp_path / "catalogue", {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
    with answering(kept) as url:
        run("jellyfin", url, folder, env=env)
        whole, kept.songs = kept.songs, kept.songs[:2]
        result = run("jellyfin", url, folder, code=1, env=env)
        assert "has 2 songs, of 5 last time; is its music there?" in result.stderr
        assert len(read_catalogue(folder).tracks) == 4
        run("jellyfin", url, folder, "--forget", env=env)
        assert len(read_catalogue(folder).tracks) == 2
        kept.songs = [x | {"Id": "f" + x["Id"][1:]} for x in whole]
        assert "most ids are new" in run("jellyfin", url, folder, env=env).output


def test_a_server_that_goes_away_in_the_middle_leaves_what_is_known(kept, tmp_path):
    folder, env = tmp_path / "catalogue", {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
    with answering(kept) as url:
        run("jellyfin", url, folder, env=env)
    before = (folder / "catalogue.json").read_bytes()

    def failing(method, path, query, body, headers):
        late = path == "/Items" and int(query.get("startindex", 0)) > 2
        return (503, {}, b"") if late else kept(method, path, query, body, headers)

    with answering(failing) as url:
        result = run("jellyfin", url, folder, code=1, env=env)
    assert "answers Items with 503 Service Unavailable; look into its log" in result.stderr
    assert (folder / "catalogue.json").read_bytes() == before
    gone = run("jellyfin", url, folder, code=1, env=env)
    assert "cannot be reached (" in gone.stderr
    assert len(gone.stderr.strip().splitlines()) == 1


HTML = (200, {"content-type": "text/html"}, b"<html>hello</html>")
ELSEWHERE = (302, {"location": "https://evil.example/rest"}, b"")
HUGE = (200, {"content-type": "application/json"}, b" " * ((64 << 20) + 1))
TOKENS = as_json(
    {"subsonic-response": {"status": "failed", "error": {"code": 40, "message": "Wrong\x1b[2J."}}}
)


@pytest.mark.parametrize(
    ("kind", "reply", "fault"),
    [
        ("subsonic", HTML, "answers rest/ping.view with text/html, no JSON; is it this kind"),
        ("jellyfin", HTML, "answers System/Info/Public with text/html, no JSON"),
        ("subsonic", as_json({"a": 1}), "is no Subsonic server; is the address whole?"),
        ("jellyfin", as_json(["a"]), "is no Jellyfin or Emby server"),
        ("subsonic", ELSEWHERE, "sends on to 'https://evil.example/rest'; give that address"),
        ("subsonic", (404, {}, b""), "answers rest/ping.view with 404 Not Found"),
        ("subsonic", HUGE, "sends more than 64 MB"),
        ("subsonic", TOKENS, r"refuses 'ann' (Wrong\x1b[2J); see that name and password are right"),
    ],
)
def test_another_kind_of_server_is_one_line(kind, reply, fault, tmp_path):
    with answering(lambda *_: reply) as url:
        env = {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
        result = run(kind, url, tmp_path / "catalogue", code=1, env=env)
    assert fault in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "catalogue").exists()


def test_a_wrong_password_is_one_line_that_does_not_show_it(url, kept, tmp_path):
    env = {"UNDERSONG_LOGIN": "ann:another-secret"}
    result = run("subsonic", url, tmp_path / "catalogue", code=1, env=env)
    assert "refuses 'ann' (" in result.stderr
    assert "another-secret" not in result.stderr
    with answering(kept) as other:
        result = run("jellyfin", other, tmp_path / "catalogue", code=1, env=env)
    assert "refuses 'ann'; see" in result.stderr
    assert "another-secret" not in result.stderr
    assert all("another-secret" not in str(x) for x in kept.asked)


def test_who_asks_comes_from_no_command_line(url, login, tmp_path):
    folder = tmp_path / "catalogue"
    named = url.replace("//", f"//ann:{PASSWORD[:7]}@")
    result = run("subsonic", named, folder, code=1, env={"UNDERSONG_LOGIN": "ann:x"})
    assert "has a name or password in it" in result.stderr
    assert PASSWORD[:7] not in result.stderr
    login.chmod(0o640)
    result = run("subsonic", url, folder, "--login", login, code=1)
    assert f"others can read the passwords in {login}; run: chmod 600" in result.stderr
    result = run("subsonic", url, folder, code=1, env={"UNDERSONG_LOGIN": ""})
    assert "the server needs a login; give --login FILE" in result.stderr
    assert "UNDERSONG_LOGIN" not in os.environ


def test_a_server_that_gives_one_page_for_ever_is_left(tmp_path):
    page = {"searchResult3": {"song": [{"id": "7", "title": "One", "artist": "Ann"}]}}
    reply = as_json({"subsonic-response": {"status": "ok", **page}})
    with answering(lambda *_: reply) as url:
        env = {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
        result = run("subsonic", url, tmp_path / "catalogue", code=1, env=env)
    assert "gives the same songs on every page" in result.stderr


def test_subsonic_whose_search_finds_nothing_without_a_word_is_read_by_albums(tmp_path):
    albums = [{"id": "a1", "name": "First"}, {"id": "a2", "name": "Second"}]
    songs = {
        "a1": [{"id": "s1", "title": "One", "artist": "Ann", "artistId": "p1", "playCount": 3}],
        "a2": [{"id": "s2", "title": "Two", "artist": "Bob", "artistId": "p2"}],
    }

    def answer(method, path, query, body, headers):
        form = dict(x.split("=") for x in body.decode().split("&"))
        name = path.rpartition("/")[2].removesuffix(".view")
        assert form["t"]
        assert "p" not in form
        content = {
            "getAlbumList2": {"albumList2": {"album": albums[int(form.get("offset", 0)) :]}},
            "getAlbum": {"album": {"song": songs.get(form.get("id"), [])}},
        }.get(name, {})
        return as_json({"subsonic-response": {"status": "ok", **content}})

    with answering(answer) as url:
        env = {"UNDERSONG_LOGIN": "ann:secret"}
        run("subsonic", url, tmp_path / "catalogue", env=env)
    made = read_catalogue(tmp_path / "catalogue")
    assert made.tracks.select("id", "artist").rows() == [("s1", "p1"), ("s2", "p2")]
    assert made.played("track").collect().rows() == [("ann", "s1", 3)]


def heard(catalogue, folder):
    """What was heard of each track, by its title."""
    mels = extract(catalogue, folder).done
    titles = dict(zip(catalogue.ids("track"), catalogue.names("track"), strict=True))
    return {titles[x]: mels.read(row) for row, x in enumerate(mels.ids)}


def test_sound_that_is_no_file_here_is_fetched_once_and_heard_alike(
    url, home, login, tmp_path, monkeypatch
):
    folder, near = tmp_path / "catalogue", tmp_path / "near"
    run("subsonic", url, folder, "--login", login)
    run("subsonic", url, near, "--login", login, "--music", f"={home / 'music'}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    arguments = ["extract", str(folder), "--server", url, "--login", str(login), "--rate", "99"]
    result = CliRunner().invoke(cli, arguments)
    assert "8 of 8 audio files analysed (8 of them now)" in result.output, result.output
    assert list(temporary.iterdir()) == []
    theirs = heard(read_catalogue(folder), folder / "audio")
    ours = heard(read_catalogue(near), near / "audio")
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[x], ours[x]) for x in ours)
    assert choose_sources(read_catalogue(folder), ContentSettings()) == ("audio",)
    result = CliRunner().invoke(cli, arguments)
    assert "8 of 8 audio files analysed (0 of them now)" in result.output
    strange = tmp_path / "strange"
    tracks = pl.DataFrame({"id": ["t1", "t2"], "artist": ["a", "a"]})
    write_catalogue(Catalogue(artists=pl.DataFrame({"id": ["a"]}), tracks=tracks), strange)
    result = CliRunner().invoke(cli, ["extract", str(strange), *arguments[2:]])
    assert result.exit_code == 1
    assert "has none of the tracks, such as 't1'" in result.output


def test_a_song_that_the_server_cannot_send_costs_that_song_alone(kept, tmp_path):
    folder, env = tmp_path / "catalogue", {"UNDERSONG_LOGIN": Jellyfin.KEY}
    path = tmp_path / "song.flac"
    write_song(path, "Ann", 3)
    kept.sounds = {x["Id"]: path.read_bytes() for x in kept.songs[1:]}
    arguments = ["extract", str(folder), "--rate", "99", "--server"]
    with answering(kept) as url:
        run("jellyfin", url, folder, env=env)
        result = CliRunner().invoke(cli, [*arguments, url], env=env)
        assert result.exit_code == 1
        assert "3 of 4 audio files analysed (3 of them now)" in result.output
        listed = pl.read_csv(folder / "audio" / "failures.csv", infer_schema=False)
        assert listed["track"].to_list() == [kept.songs[0]["Id"]]
        assert "with 404 Not Found" in listed["reason"].item()
        kept.sounds[kept.songs[0]["Id"]] = path.read_bytes()
        result = CliRunner().invoke(cli, [*arguments, url], env=env)
        assert "4 of 4 audio files analysed (1 of them now)" in result.output
    result = CliRunner().invoke(cli, [*arguments, url], env=env)
    assert result.exit_code == 1
    assert "cannot be reached" in result.output


def test_more_sound_than_a_song_can_have_is_not_read(kept, tmp_path, monkeypatch):
    folder, env = tmp_path / "catalogue", {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
    monkeypatch.setattr("undersong.importers.players.media_server.LARGEST_SOUND", 3 << 20)
    kept.sounds = {x["Id"]: b"0" * (4 << 20) for x in kept.songs}
    with answering(kept) as url:
        run("jellyfin", url, folder, env=env)
        arguments = ["extract", str(folder), "--rate", "99", "--server", url]
        result = CliRunner().invoke(cli, arguments, env=env)
    assert result.exit_code == 1
    assert "sends more than 3 MB" in result.output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=9,
)
NAMES = (
    *("id", "title", "artists", "artist", "genres", "genre", "year", "duration", "playCount"),
    *("starred", "Id", "Name", "ArtistItems", "UserData", "ProviderIds", "Genres"),
    *("RunTimeTicks", "TotalRecordCount", "Items", "path", "musicBrainzId", "name"),
)


class Strange:
    """A connection to a server that answers whatever it likes, in the right places."""

    place, headers = "https://strange.example", {}

    def __init__(self, item, whole):
        self.item, self.whole = item, whole

    def ask(self, method, path, **_):
        name = path.rpartition("/")[2].removesuffix(".view")
        inside = {
            "search3": {"searchResult3": {"song": [self.item]}},
            "getArtists": {"artists": {"index": {"artist": self.item}}},
            "getPlaylists": {"playlists": {"playlist": [self.item, self.item]}},
            "Items": {"Items": [self.item], **self.whole},
            "Artists": {"Items": [self.item, self.item]},
            "Users": [{"Id": "u", **self.item}],
            "Public": {"ServerName": "x"},
        }
        content = inside.get(name, self.whole)
        if method == "GET":
            return content
        return {"subsonic-response": {**content, "status": "ok"}}

    def close(self):
        pass


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=9),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
)
def test_whatever_a_server_answers_is_read_or_refused(item, whole):
    for kind, login in ((Subsonic, Login("ann", "x")), (JellyfinServer, Login("", "key"))):
        with suppress(DataError):
            server = kind(Strange(item, whole), login)
            server.playlists()
            read_server([server], Failures(), folder=Path("/nowhere"))


def test_a_certificate_that_nobody_vouches_for_is_one_line(kept, tmp_path, monkeypatch):
    certificate = make_certificate(tmp_path, "localhost")
    env = {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
    with answering(kept, certificate=certificate) as url:
        result = run("jellyfin", url, tmp_path / "catalogue", code=1, env=env)
        assert f"the certificate of {url} is not trusted (self-signed certificate)" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        named = url.replace("127.0.0.1", "localhost")
        run("jellyfin", named, tmp_path / "catalogue", env=env)
    assert len(read_catalogue(tmp_path / "catalogue").tracks) == 4


def test_files_that_a_path_leads_to_are_heard_here_and_no_others(kept, tmp_path):
    music = tmp_path / "music"
    for song, path in zip(kept.songs, ("a/1", "../2", "a/../3", "4", "5"), strict=True):
        song["Path"] = f"/media/{path}.flac"
    kept.songs[4]["Path"] = "/elsewhere/5.flac"
    for name in ("a/1", "../2", "3", "4", "5"):
        write_song(music / f"{name}.flac", "Ann", 3)
    folder, env = tmp_path / "catalogue", {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
    with answering(kept) as url:
        output = run("jellyfin", url, folder, "--music", f"/media={music}", env=env).output
    assert f"3 tracks are no files in {music}" in output
    known = dict(read_catalogue(folder).tracks.select("title", "path").iter_rows())
    assert known == {"One": "a/1.flac", "Two": None, "Three": None, "Four": None}


def test_at_a_terminal_who_asks_is_asked_and_the_password_is_not_shown(kept, tmp_path):
    with answering(kept) as url:
        command = ["-m", "undersong", "import", "jellyfin", url, str(tmp_path / "catalogue")]
        environment = {x: y for x, y in os.environ.items() if x != "UNDERSONG_LOGIN"}
        child = pexpect.spawn(sys.executable, command, env=environment, timeout=60)
        child.expect("User")
        child.sendline("ann")
        child.expect("Password")
        child.sendline(PASSWORD)
        child.expect(pexpect.EOF)
    shown = child.before.decode()
    assert "2 artists, 4 tracks" in shown
    assert PASSWORD not in shown


def test_a_server_that_finds_all_by_two_quotes_is_asked_so(tmp_path):
    asked = []

    def answer(method, path, query, body, headers):
        form = {x: y[0] for x, y in parse_qs(body.decode(), keep_blank_values=True).items()}
        name = path.rpartition("/")[2].removesuffix(".view")
        asked.append((name, form.get("query")))
        there = form.get("query") == '""' and form["songOffset"] == "0"
        songs = [{"id": "s1", "title": "One", "artist": "Ann", "artistId": "p1"}] if there else []
        return as_json({"subsonic-response": {"status": "ok", "searchResult3": {"song": songs}}})

    with answering(answer) as url:
        run("subsonic", url, tmp_path / "catalogue", env={"UNDERSONG_LOGIN": "ann:secret"})
    assert read_catalogue(tmp_path / "catalogue").ids("track") == ("s1",)
    assert [x for x in asked if x[0] == "search3"] == [
        ("search3", ""),
        ("search3", '""'),
        ("search3", '""'),
    ]


def test_an_api_key_says_whose_it_is_and_goes_without_a_name(tmp_path):
    def answer(method, path, query, body, headers):
        form = {x: y[0] for x, y in parse_qs(body.decode(), keep_blank_values=True).items()}
        assert "u" not in form
        if form.get("apiKey") != "a-key":
            error = {"code": 44, "message": "Invalid API key"}
            return as_json({"subsonic-response": {"status": "failed", "error": error}})
        song = {"id": "s1", "title": "One", "artist": "Ann", "starred": "2026-01-02T03:04:05Z"}
        first = form.get("songOffset") == "0"
        content = {
            "tokenInfo": {"tokenInfo": {"username": "bob"}},
            "search3": {"searchResult3": {"song": [song] if first else []}},
        }.get(path.rpartition("/")[2].removesuffix(".view"), {})
        return as_json({"subsonic-response": {"status": "ok", **content}})

    folder = tmp_path / "catalogue"
    with answering(answer) as url:
        run("subsonic", url, folder, env={"UNDERSONG_LOGIN": "a-key\n"})
        result = run("subsonic", url, folder, code=1, env={"UNDERSONG_LOGIN": "another-key"})
    assert read_catalogue(folder).played("track").collect().rows() == [("bob", "s1", 1)]
    assert "refuses 'the API key' (Invalid API key)" in result.stderr
    assert "another-key" not in result.stderr


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://music.example/", "https://music.example"),
        ("https://music.example:8443/navidrome/", "https://music.example:8443/navidrome"),
        ("http://[::1]:4533", "http://[::1]:4533"),
    ],
)
def test_an_address_may_have_a_port_and_a_path(url, place, caplog):
    assert place_of(url) == place
    assert not caplog.records


@pytest.mark.parametrize(
    "url", ["music.example", "ftp://music.example", "https://", "https://a?b=c", "https://a:b"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(DataError, match=r"address"):
        place_of(url)


def test_an_address_that_others_can_listen_to_gets_a_warning(caplog):
    place_of("http://music.example")
    assert "music.example is not encrypted" in caplog.text
