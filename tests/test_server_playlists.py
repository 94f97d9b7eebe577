"""Playlists of media servers: Supysonic itself, and Jellyfin and Emby as they are published."""

import uuid

import libsonic
import numpy as np
import pytest
import soundfile

from media_servers import PASSWORD, Jellyfin, answering, as_json, supysonic
from undersong.errors import DataError
from undersong.servers import open_server, write_playlist
from undersong.servers.connection import Login

NAME = "Rádio & Söhne"
SONGS = 7


@pytest.fixture(scope="module")
def subsonic(tmp_path_factory):
    home = tmp_path_factory.mktemp("subsonic")
    (home / "music" / "Band").mkdir(parents=True)
    for number in range(SONGS):
        sound = 0.1 * np.sin(np.arange(800) * (number + 1) / 9)
        soundfile.write(home / "music" / "Band" / f"{number} Song {number}.flac", sound, 8000)
    with supysonic(home / "server", home / "music") as url:
        yield url


@pytest.fixture(params=["subsonic", "jellyfin", "emby"])
def server(request):
    """A server with songs: what we open, its ids, and what another program sees of a playlist."""
    login = Login("ann", PASSWORD)
    if request.param == "subsonic":
        url = request.getfixturevalue("subsonic")
        other = libsonic.Connection(
            "http://127.0.0.1", "ann", PASSWORD, port=int(url.rpartition(":")[2]), legacyAuth=True
        )
        for x in other.getPlaylists()["playlists"].get("playlist", []):
            other.deletePlaylist(x["id"])

        def contents():
            named = other.getPlaylists()["playlists"].get("playlist", [])
            lists = [other.getPlaylist(x["id"])["playlist"] for x in named if x["name"] == NAME]
            return [[y["id"] for y in x.get("entry", [])] for x in lists]

        with_all = open_server(url, login)
        ids = [x.id for page in with_all.songs("ann") for x in page]
        yield with_all, sorted(ids), contents, lambda: str(uuid.uuid4())
        with_all.close()
        return
    songs = [{"Id": f"{x:032x}", "Name": f"Song {x}"} for x in range(1, 1 + SONGS)]
    kept = Jellyfin(songs, {"ann": PASSWORD}, emby=request.param == "emby")
    with answering(kept) as url:
        opened = open_server(url, login)
        ids = [x["Id"] for x in songs]
        yield opened, ids, lambda: kept.contents(NAME), lambda: uuid.uuid4().hex
        opened.close()


def test_a_playlist_is_made_replaced_in_place_and_appended_to(server):
    opened, ids, contents, _ = server
    made = write_playlist(opened, NAME, ids[:3])
    assert (made.made, made.songs, made.new) == (True, 3, 3)
    assert contents() == [ids[:3]]
    replaced = write_playlist(opened, NAME, [ids[4], ids[2], ids[4]])
    assert (replaced.made, replaced.songs, replaced.new) == (False, 2, 1)
    assert contents() == [[ids[4], ids[2]]]
    appended = write_playlist(opened, NAME, [ids[2], ids[0]], mode="append")
    assert (appended.made, appended.songs, appended.new) == (False, 3, 1)
    assert contents() == [[ids[4], ids[2], ids[0]]]


def test_songs_that_the_server_lacks_are_left_out_and_named(server):
    opened, ids, contents, strange = server
    lost = strange()
    written = write_playlist(opened, NAME, [ids[1], lost, ids[5]])
    assert written.unknown == (lost,)
    assert contents() == [[ids[1], ids[5]]]
    with pytest.raises(DataError, match=f"has none of 1 songs, such as '{lost}'; import"):
        write_playlist(opened, NAME, [lost])
    assert contents() == [[ids[1], ids[5]]]


def test_a_playlist_that_was_deleted_meanwhile_is_made_anew(server, monkeypatch):
    opened, ids, contents, strange = server
    stale = {strange(): NAME}
    lists = iter([stale])
    real = opened.playlists
    monkeypatch.setattr(opened, "playlists", lambda: next(lists, None) or real())
    assert write_playlist(opened, NAME, ids[:4]).made
    assert contents() == [ids[:4]]


def test_one_that_is_there_is_not_created_again(server):
    opened, ids, contents, _ = server
    write_playlist(opened, NAME, ids[:2], mode="create")
    with pytest.raises(DataError, match="has a playlist 'Rádio & Söhne'; replace it"):
        write_playlist(opened, NAME, ids[3:], mode="create")
    with pytest.raises(DataError, match="playlist ' ' of 1 songs cannot be written"):
        write_playlist(opened, " ", ids[:1])
    assert contents() == [ids[:2]]


def test_a_server_that_fails_meanwhile_is_not_one_without_the_songs():
    asked = []

    def answer(method, path, query, body, headers):
        name = path.rpartition("/")[2].removesuffix(".view")
        asked.append(name)
        if asked.count("getSong") > 2:
            return 503, {}, b""
        return as_json({"subsonic-response": {"status": "ok", "song": {"id": "x"}}})

    with answering(answer) as url:
        opened = open_server(url, Login("ann", PASSWORD), kind="subsonic")
        with pytest.raises(DataError, match="getSong.view with 503"):
            write_playlist(opened, NAME, ["a", "b", "c", "d"])
        opened.close()
    assert "createPlaylist" not in asked


def test_an_api_key_of_several_users_says_nobody_whose_playlist_it_is():
    kept = Jellyfin([{"Id": "a1", "Name": "One"}], {"ann": PASSWORD, "bob": "x"})
    with answering(kept) as url:
        opened = open_server(url, Login("", Jellyfin.KEY))
        with pytest.raises(DataError, match="is valid for 2 users; log in as the one"):
            write_playlist(opened, NAME, ["a1"])
        opened.close()
    assert not kept.playlists
