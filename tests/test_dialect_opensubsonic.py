import hashlib
from xml.etree import ElementTree

import httpx
import libsonic
import pytest

from spoken import (
    ARTISTS,
    NAMES,
    TOKEN,
    TRACKS,
    artist_of,
    by_other_python,
    make_shelf,
    mbid,
    served,
)

SPACE = "{http://subsonic.org/restapi}"
CLIENT = """
import json, sys
from libopensonic import Connection

port, key = sys.argv[1:]
client = Connection("http://127.0.0.1", port=int(port), api_key=key)
near = client.get_sonic_similar_tracks("track 3", count=6)
way = client.find_sonic_path("track 3", "track 7")
info = client.get_artist_info2("artist 4", count=2)
print(json.dumps({
    "ping": client.ping(),
    "extensions": {x.name: x.versions for x in client.get_open_subsonic_extensions()},
    "near": [[x.entry.id, x.entry.title, x.entry.is_dir, x.similarity] for x in near],
    "way": [[x.entry.id, x.similarity] for x in way],
    "info": [info.music_brainz_id, len(info.similar_artist)],
    "songs": [x.id for x in client.get_similar_songs2("artist 4", count=5)],
    "top": [x.artist for x in client.get_top_songs("zoe", count=2)],
}))
"""


@pytest.fixture(scope="module")
def guarded(shelf):
    with served(shelf, token=TOKEN) as port:
        yield port


def ask(port, name, **sent):
    """What stands in the envelope of a JSON reply; the envelope itself is checked each time."""
    reply = httpx.get(f"http://127.0.0.1:{port}/rest/{name}", params={"f": "json", **sent})
    inside = reply.json()["subsonic-response"]
    assert inside.pop("version") == "1.16.1"
    assert inside.pop("type") == "undersong"
    assert inside.pop("openSubsonic") is True
    assert inside.pop("serverVersion")
    return inside


def code(port, name, **sent):
    return ask(port, name, **sent)["error"]["code"]


def test_py_sonic_finds_artists_and_songs(guarded):
    client = libsonic.Connection("http://127.0.0.1", "anybody", TOKEN, port=guarded)
    assert client.ping()
    assert client.getLicense()["license"] == {"valid": True}
    near = client.getArtistInfo2("artist 1", count=3)["artistInfo2"]
    assert near["musicBrainzId"] == mbid("artist", 1)
    assert len(near["similarArtist"]) == 3
    assert {x["id"] for x in near["similarArtist"]} < {f"artist {x}" for x in range(5, ARTISTS, 4)}
    assert client.getArtistInfo("artist 1", count=2)["artistInfo"]["similarArtist"][0]["name"]
    songs = client.getSimilarSongs("track 3", count=4)["similarSongs"]["song"]
    assert [x["isDir"] for x in songs] == [False] * 4
    assert {artist_of(int(x["id"].split()[1])) % 4 for x in songs} == {3}
    of_artist = client.getSimilarSongs2("artist 2", count=7)["similarSongs2"]["song"]
    assert of_artist[0]["artist"] == "Artist 2"
    assert len({x["artistId"] for x in of_artist[:3]}) == 3
    top = client.getTopSongs("ARTIST 2", count=2)["topSongs"]["song"]
    assert [x["artistId"] for x in top] == ["artist 2"] * 2


def test_py_sonic_with_another_password_is_refused(guarded):
    client = libsonic.Connection("http://127.0.0.1", "anybody", "guess", port=guarded)
    with pytest.raises(libsonic.errors.CredentialError, match="service's token"):
        client.getArtistInfo2("artist 1")


def test_py_sonic_is_told_that_an_id_is_unknown(guarded):
    client = libsonic.Connection("http://127.0.0.1", "anybody", TOKEN, port=guarded)
    with pytest.raises(libsonic.errors.DataNotFoundError, match="no artist has the id 'nobody'"):
        client.getSimilarSongs2("nobody")


def test_py_opensonic_reads_sonic_similarity_with_an_api_key(guarded):
    found = by_other_python(CLIENT, guarded, TOKEN)
    assert found["ping"] is True
    assert found["extensions"]["sonicSimilarity"] == [1]
    assert len(found["near"]) == 6
    assert all(0 < x[3] <= 1 and x[1].startswith("Song ") for x in found["near"])
    assert [x[0] for x in found["way"]][:: len(found["way"]) - 1] == ["track 3", "track 7"]
    assert found["info"] == [mbid("artist", 4), 2]
    assert len(found["songs"]) == 5
    assert found["top"] == ["Zoë"] * 2


def test_a_song_has_the_fields_that_a_child_must_have(port):
    matches = ask(port, "getSonicSimilarTracks", id="track 3", count=9)["sonicMatch"]
    songs = {int(x["entry"]["id"].split()[1]): x["entry"] for x in matches}
    assert any(x % 5 for x in songs)
    for number, song in songs.items():
        known = {"musicBrainzId": mbid("track", number)} if number % 5 else {}
        assert song == known | {
            "id": f"track {number}",
            "isDir": False,
            "title": f"Song {number} <&>",
            "type": "music",
            "album": f"Album {artist_of(number)}" if number % 7 else "Greatest Hits",
            "artist": NAMES[artist_of(number)],
            "artistId": f"artist {artist_of(number)}",
            "genre": f"genre {number % 4}",
        }


def test_a_way_has_both_ends_and_says_where_nothing_stands_before(port):
    way = ask(port, "findSonicPath", startSongId="track 3", endSongId=mbid("track", 7))
    ids = [x["entry"]["id"] for x in way["sonicMatch"]]
    assert (ids[0], ids[-1]) == ("track 3", "track 7")
    assert way["sonicMatch"][0]["similarity"] == -1
    assert all(0 <= x["similarity"] <= 1 for x in way["sonicMatch"][1:])
    assert code(port, "findSonicPath", startSongId="track 3", endSongId="track 7", count=1) == 0
    alone = ask(port, "findSonicPath", startSongId="track 3", endSongId="track 3", count=1)
    assert [x["entry"]["id"] for x in alone["sonicMatch"]] == ["track 3"]


def test_an_album_of_one_artist_is_known_and_one_that_many_have_is_not(port):
    songs = ask(port, "getSimilarSongs", id="Album 3", count=3)["similarSongs"]["song"]
    assert len(songs) == 3
    assert code(port, "getSimilarSongs", id="Greatest Hits") == 70
    assert ask(port, "getArtistInfo", id="Album 3", count=1)["artistInfo"]["similarArtist"]


@pytest.mark.parametrize("name", ["getArtistInfo", "getArtistInfo2"])
def test_xml_of_an_artist_spells_out_what_the_schema_has_as_elements(port, name):
    address = f"http://127.0.0.1:{port}/rest/{name}.view"
    root = ElementTree.fromstring(httpx.post(address, data={"id": "artist 4"}).content)
    assert (root.tag, root.get("status"), root.get("openSubsonic")) == (
        f"{SPACE}subsonic-response",
        "ok",
        "true",
    )
    assert root[0].find(f"{SPACE}musicBrainzId").text == mbid("artist", 4)
    names = {x.get("name") for x in root[0].findall(f"{SPACE}similarArtist")}
    assert NAMES[0] in names
    assert "nul\ufffdbell\ufffd\ufffd" in names


def test_xml_of_songs_and_extensions(port):
    address = f"http://127.0.0.1:{port}/rest/getSonicSimilarTracks"
    root = ElementTree.fromstring(httpx.get(address, params={"id": "track 3"}).content)
    assert len(root) == 10
    assert root[0].find(f"{SPACE}entry").get("isDir") == "false"
    address = f"http://127.0.0.1:{port}/rest/getOpenSubsonicExtensions"
    root = ElementTree.fromstring(httpx.get(address).content)
    assert {x.get("name") for x in root} >= {"sonicSimilarity", "formPost"}
    assert root[0].find(f"{SPACE}versions").text == "1"


def test_every_way_to_show_the_token(guarded):
    salted = hashlib.md5(f"{TOKEN}pepper".encode()).hexdigest()
    ways = [
        {"apiKey": TOKEN},
        {"u": "x", "t": salted, "s": "pepper"},
        {"u": "x", "p": TOKEN},
        {"u": "x", "p": "enc:" + TOKEN.encode().hex()},
        {"token": TOKEN},
    ]
    assert [ask(guarded, "ping.view", **way)["status"] for way in ways] == ["ok"] * 5


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ({}, 10),
        ({"u": "x"}, 10),
        ({"apiKey": "guess"}, 44),
        ({"apiKey": TOKEN, "u": "x"}, 43),
        ({"u": "x", "t": "guess", "s": "pepper"}, 40),
        ({"u": "x", "t": "é", "s": "ü"}, 40),
        ({"u": "x", "p": "enc:zz"}, 40),
        ({"u": "x", "p": "enc:ff"}, 40),
        ({"token": "guess"}, 10),
    ],
)
def test_without_the_token_only_the_extensions_are_told(guarded, sent, number):
    assert code(guarded, "ping", **sent) == number
    assert ask(guarded, "getOpenSubsonicExtensions", **sent)["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "sent", "number"),
    [
        ("getSimilarSongs", {"id": "nothing"}, 70),
        ("getSimilarSongs2", {"id": "track 3"}, 70),
        ("getSimilarSongs2", {}, 10),
        ("getArtistInfo2", {"id": "x" * 6000}, 70),
        ("getArtistInfo2", {"id": "artist 1", "count": "-1"}, 0),
        ("getArtistInfo2", {"id": "artist 1", "count": "many"}, 0),
        ("getTopSongs", {}, 10),
        ("getTopSongs", {"id": "nobody"}, 70),
        ("getSonicSimilarTracks", {"id": "nothing"}, 70),
        ("findSonicPath", {"startSongId": "track 3"}, 10),
        ("findSonicPath", {"startSongId": "track 3", "endSongId": "nothing"}, 70),
    ],
)
def test_what_cannot_be_answered_has_a_code_of_subsonic(port, name, sent, number):
    assert code(port, name, **sent) == number


def test_control_characters_in_a_form_are_answered_in_whole_xml(port):
    address = f"http://127.0.0.1:{port}/rest/getArtistInfo2.view"
    reply = httpx.post(address, data={"id": "\0<x>\x1b" + "y" * 10_000})
    error = ElementTree.fromstring(reply.content)[0]
    assert error.get("code") == "70"


def test_a_huge_count_gives_what_there_is(port):
    found = ask(port, "getSonicSimilarTracks", id="track 3", count=10**9)["sonicMatch"]
    assert len(found) == TRACKS - 1


def test_an_unknown_name_has_no_top_songs(port):
    assert ask(port, "getTopSongs", artist="Nobody") == {"status": "ok", "topSongs": {"song": []}}


def test_an_artist_of_whom_only_the_name_is_known_has_nobody_similar(port):
    assert ask(port, "getArtistInfo2", id="artist 21")["artistInfo2"] == {"similarArtist": []}


def test_a_catalogue_without_tracks_has_no_sonic_endpoints(tmp_path):
    with served(make_shelf(tmp_path, tracks=False)) as port:
        extensions = ask(port, "getOpenSubsonicExtensions")["openSubsonicExtensions"]
        assert "sonicSimilarity" not in {x["name"] for x in extensions}
        for name in ("getSonicSimilarTracks", "findSonicPath", "getAlbumList"):
            reply = httpx.get(f"http://127.0.0.1:{port}/rest/{name}", params={"id": "track 3"})
            assert reply.status_code == 404
            assert b"failed" in reply.content
        songs = ask(port, "getSimilarSongs2", id="artist 1")["similarSongs2"]
        assert songs == {"song": []}


def test_jsonp_is_refused(port):
    reply = httpx.get(f"http://127.0.0.1:{port}/rest/ping", params={"f": "jsonp", "callback": "x"})
    assert ElementTree.fromstring(reply.content)[0].get("code") == "0"
