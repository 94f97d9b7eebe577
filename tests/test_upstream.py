"""A player that is pointed at undersong, with a media server behind: Supysonic itself."""

import contextlib

import httpx
import libsonic
import pytest
from click.testing import CliRunner
from libsonic.errors import CredentialError

from media_servers import PASSWORD, answering, as_json, supysonic, write_song
from spoken import served
from undersong.catalogue import read_catalogue
from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.pipeline.run_settings import make_settings
from undersong.pipeline.train import train_run
from undersong.runs import RunReader
from undersong.service.dialects.upstream import Upstream
from undersong.service.snapshot import open_answers

BANDS, SONGS = 7, 3


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A running media server, the catalogue of its library, and a run of that."""
    home = tmp_path_factory.mktemp("upstream")
    for number in range(BANDS * SONGS):
        band = number // SONGS
        path = home / "music" / f"Band {band}" / f"{number}.flac"
        write_song(path, f"Band {band}", number, genre=["ska", "folk"][band % 2])
    with supysonic(home / "server", home / "music") as url:
        environment = {"UNDERSONG_LOGIN": f"ann:{PASSWORD}"}
        words = ["import", "subsonic", url, str(home / "catalogue")]
        made = CliRunner().invoke(cli, words, env=environment)
        assert made.exit_code == 0, made.output
        settings = make_settings({"content": {"input": "none"}})
        train_run(home / "catalogue", home / "run", settings=settings)
        yield home, url


@pytest.fixture(scope="module")
def port(home):
    folder, url = home
    reader = RunReader(folder / "run", opening=open_answers)
    with served(reader, token="a-token-that-players-need-not-know", upstream=url) as port:
        yield port


def player(port, password=PASSWORD):
    return libsonic.Connection("http://127.0.0.1", "ann", password, port=port, legacyAuth=True)


def test_a_player_finds_its_library_here_and_plays_it(home, port):
    here, there = player(port), player(int(home[1].rpartition(":")[2]))
    assert here.ping()
    assert here.getArtists()["artists"] == there.getArtists()["artists"]
    songs = here.search3("Song")["searchResult3"]["song"]
    assert songs == there.search3("Song")["searchResult3"]["song"]
    with contextlib.closing(here.download(songs[0]["id"])) as ours:
        sound = ours.read()
    with contextlib.closing(there.download(songs[0]["id"])) as theirs:
        assert sound == theirs.read()
    here.createPlaylist(name="Made here", songIds=[songs[2]["id"], songs[4]["id"]])
    assert "Made here" in [x["name"] for x in there.getPlaylists()["playlists"]["playlist"]]


def test_a_part_of_a_song_is_a_part_here_too(home, port):
    song = read_catalogue(home[0] / "catalogue").ids("track")[3]
    asked = {"u": "ann", "p": PASSWORD, "v": "1.16.1", "c": "player", "id": song}
    place = f"http://127.0.0.1:{port}/rest/download.view"
    whole = httpx.get(place, params=asked)
    part = httpx.get(place, params=asked, headers={"range": "bytes=5-11"})
    assert (part.status_code, part.content) == (206, whole.content[5:12])
    assert part.headers["content-range"] == f"bytes 5-11/{len(whole.content)}"


def test_similar_songs_are_ours_with_all_that_the_server_knows(home, port):
    made = read_catalogue(home[0] / "catalogue")
    here, there = player(port), player(int(home[1].rpartition(":")[2]))
    song, artist = made.ids("track")[5], made.ids("artist")[4]
    for reply in (
        here.getSimilarSongs(song, count=6)["similarSongs"],
        here.getSimilarSongs2(artist, count=6)["similarSongs2"],
    ):
        assert len(reply["song"]) == 6
        for each in reply["song"]:
            assert each == there.getSong(each["id"])["song"]
            assert each["duration"] == 3
    info = here.getArtistInfo2(artist, count=4)["artistInfo2"]
    names = dict(zip(made.ids("artist"), made.names("artist"), strict=True))
    assert len(info["similarArtist"]) == 4
    assert all(names[x["id"]] == x["name"] for x in info["similarArtist"])


def test_an_album_or_a_copy_means_a_song_that_we_know(home, port):
    here, there = player(port), player(int(home[1].rpartition(":")[2]))
    album = there.search3("Of Band 3")["searchResult3"]["album"][0]
    first = there.getAlbum(album["id"])["album"]["song"][0]
    songs = here.getSimilarSongs(album["id"], count=5)["similarSongs"]["song"]
    assert songs == here.getSimilarSongs(first["id"], count=5)["similarSongs"]["song"]
    assert len(songs) == 5


def test_the_server_says_who_may_ask(home, port):
    with pytest.raises(CredentialError):
        player(port, "wrong").getSimilarSongs(read_catalogue(home[0] / "catalogue").ids("track")[0])
    with pytest.raises(CredentialError):
        player(port, "wrong").getArtists()
    reply = httpx.get(f"http://127.0.0.1:{port}/api/genres?kind=track")
    assert reply.status_code == 401  # all but this dialect still needs the token


def test_what_we_do_not_know_the_server_is_asked(home):
    """A server that has more than the run, such as a song that came today."""
    seen = []

    def answer(method, path, query, body, headers):
        seen.append(path)
        name = path.rpartition("/")[2]
        content = {
            "getSimilarSongs": {"similarSongs": {"song": [{"id": "theirs"}]}},
            "getOpenSubsonicExtensions": {"openSubsonicExtensions": [{"name": "songLyrics"}]},
        }.get(name.removesuffix(".view"), {})
        return as_json({"subsonic-response": {"status": "ok", **content}})

    reader = RunReader(home[0] / "run", opening=open_answers)
    pings = ["/music/rest/ping.view", "/music/rest/getAlbum.view", "/music/rest/getSong.view"]
    with answering(answer) as url, served(reader, upstream=f"{url}/music") as port:
        place = f"http://127.0.0.1:{port}/rest"
        reply = httpx.get(f"{place}/getSimilarSongs?id=new&u=a&p=b&f=json").json()
        assert reply["subsonic-response"]["similarSongs"] == {"song": [{"id": "theirs"}]}
        assert seen == [*pings, "/music/rest/getSimilarSongs"]
        listed = httpx.get(f"{place}/getOpenSubsonicExtensions?f=json").json()
        names = [x["name"] for x in listed["subsonic-response"]["openSubsonicExtensions"]]
        assert names == ["songLyrics", "sonicSimilarity"]
        assert httpx.get(f"{place}/..%2Fsecret.view?f=json").status_code == 404
        assert all("secret" not in x for x in seen)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ((302, {"location": "https://evil.example/"}, b""), "sends on to another address"),
        (None, "cannot be reached; is it on?"),
    ],
)
def test_a_server_that_is_away_or_leads_elsewhere_is_one_line(reply, fault, home):
    reader = RunReader(home[0] / "run", opening=open_answers)
    with answering(lambda *_: reply) as url:
        if reply is not None:
            with served(reader, upstream=url) as port:
                answer = httpx.get(f"http://127.0.0.1:{port}/rest/getArtists?u=a&p=b")
    if reply is None:
        with served(reader, upstream=url) as port:
            answer = httpx.get(f"http://127.0.0.1:{port}/rest/getArtists?u=a&p=b")
    assert answer.status_code == 502
    assert fault in answer.json()["error"]


def test_an_address_with_a_password_is_refused():
    with pytest.raises(DataError, match="has a name or password in it"):
        Upstream("https://ann:secret@music.example")
