import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import httpx
import pytest

from spoken import ARTISTS, NAMES, TOKEN, make_certificate, make_shelf, mbid, served

CLIENT = """
import json, sys
import pylast

port, key, artist = sys.argv[1:]
network = pylast.LastFMNetwork(api_key=key, api_secret="any")
network.ws_server = (f"localhost:{port}", "/2.0/")


def failure(of):
    try:
        of.get_similar()
    except pylast.WSError as error:
        return [str(error.status), str(error)]


artists = network.get_artist(artist).get_similar(limit=5)
tracks = network.get_track("Artist 1", "Song 1 <&>").get_similar(limit=3)
print(json.dumps({
    "artists": [[x.item.get_name(), x.match] for x in artists],
    "tracks": [[x.item.get_title(), x.item.get_artist().get_name(), x.match] for x in tracks],
    "unknown": failure(network.get_artist("Nobody")),
    "unknown track": len(network.get_track("Artist 1", "Nothing").get_similar()),
}))
"""


@pytest.fixture(scope="module")
def address(port):
    return f"http://127.0.0.1:{port}/2.0/"


def ask(address, method, **sent):
    return httpx.get(address, params={"method": method, "format": "json", **sent})


def by_pylast(certificate, *words):
    environment = os.environ | {"SSL_CERT_FILE": str(certificate)}
    command = [sys.executable, "-c", CLIENT, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_pylast_finds_artists_and_tracks_over_tls(shelf, tmp_path):
    certificate = make_certificate(tmp_path, "localhost")
    with served(shelf, token=TOKEN, certificate=certificate) as port:
        found = by_pylast(certificate, port, TOKEN, "zoe")
        refused = by_pylast(certificate, port, "another", "zoe")
    # Artist 8 is named with characters that XML cannot hold.
    near = {NAMES[x] for x in range(0, ARTISTS, 4)} - {"Zoë", NAMES[8]} | {
        "nul\ufffdbell\ufffd\ufffd"
    }
    assert {name for name, _ in found["artists"]} == near
    matches = [match for _, match in found["artists"]]
    assert matches == sorted(matches, reverse=True)
    assert matches[0] == 1
    assert 0 < matches[-1] < 1
    assert len(found["tracks"]) == 3
    title, artist, match = found["tracks"][0]
    assert title.startswith("Song ")
    assert title.endswith(" <&>")
    assert (artist in NAMES, match) == (True, 1)
    assert found["unknown"] == ["6", "The artist you supplied could not be found"]
    assert found["unknown track"] == 0
    assert "Invalid API key" in refused


def test_json_of_artists_has_the_shape_that_navidrome_reads(address):
    found = ask(address, "artist.getSimilar", artist="Artist 1", limit=2).json()["similarartists"]
    assert found["@attr"] == {"artist": "Artist 1"}
    first, second = found["artist"]
    assert first["match"] == "1"
    assert isinstance(second["match"], str)
    assert 0 < float(second["match"]) < 1
    assert {"name", "url", "image", "streamable"} <= set(first)
    ids = {name: x for x, name in enumerate(NAMES)}
    assert first["url"] == address.replace("2.0/", f"?artist=artist%20{ids[first['name']]}")
    assert first["image"][0] == {"#text": "", "size": "small"}


def test_json_of_tracks_has_numbers_where_go_decodes_numbers(address):
    sent = {"artist": "ARTIST 2", "track": "song 2"}
    found = ask(address, "track.getsimilar", **sent).json()["similartracks"]
    assert found["@attr"] == {"artist": "Artist 2", "track": "Song 2 <&>"}
    types = {name: type(found["track"][1][name]) for name in ("match", "playcount", "duration")}
    assert types == {"match": float, "playcount": int, "duration": int}
    assert found["track"][0]["artist"]["name"] in NAMES


def test_an_mbid_is_understood_and_given_where_it_is_known(address):
    found = ask(address, "artist.getsimilar", mbid=mbid("artist", 1).upper(), limit=100).json()
    assert found["similarartists"]["@attr"] == {"artist": "Artist 1"}
    given = {x["name"]: x.get("mbid") for x in found["similarartists"]["artist"]}
    assert given["Artist 5"] == mbid("artist", 5)
    assert given["Artist 9"] is None


def test_xml_is_whole_whatever_names_hold(address):
    reply = httpx.post(address, data={"method": "artist.getSimilar", "artist": NAMES[0]})
    assert reply.headers["content-type"].startswith("text/xml")
    root = ElementTree.fromstring(reply.content)
    assert root.get("status") == "ok"
    assert root[0].get("artist") == NAMES[0]
    assert NAMES[4] in [x.text for x in root.iter("name")]
    assert [x.tag for x in root[0][0]][:2] == ["name", "mbid"]
    # Clients pair all names of a document with all matches.
    assert len(list(root.iter("name"))) == len(list(root.iter("match")))


def test_xml_of_a_track_names_the_title_before_the_artist(address):
    sent = {"method": "track.getSimilar", "mbid": mbid("track", 6), "limit": "4"}
    root = ElementTree.fromstring(httpx.get(address, params=sent).content)
    track = root.find("similartracks/track")
    assert [x.text for x in track.iter("name")][0].startswith("Song ")
    assert track.find("streamable").attrib == {"fulltrack": "0"}
    assert track.find("artist/name").text in NAMES


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"method": "artist.getSimilar", "artist": "Nobody"}, 200, 6),
        ({"method": "artist.getSimilar", "mbid": mbid("artist", 999)}, 200, 6),
        ({"method": "artist.getSimilar"}, 200, 6),
        ({"method": "track.getSimilar", "artist": "Artist 1"}, 200, 6),
        ({"method": "artist.getSimilar", "artist": "Artist 1", "limit": "-1"}, 200, 6),
        ({"method": "artist.getSimilar", "artist": "Artist 1", "limit": "ten"}, 200, 6),
        ({"method": "artist.getInfo", "artist": "Artist 1"}, 400, 3),
        ({}, 400, 3),
    ],
)
def test_what_cannot_be_answered_is_said_in_the_codes_of_last_fm(address, sent, status, code):
    reply = httpx.post(address, data={"format": "json", **sent})
    assert (reply.status_code, reply.json()["error"]) == (status, code)
    root = ElementTree.fromstring(httpx.post(address, data=sent).content)
    assert (root.get("status"), root[0].get("code")) == ("failed", str(code))


def test_another_format_is_error_5(address):
    reply = httpx.get(address, params={"method": "artist.getSimilar", "format": "yaml"})
    assert ElementTree.fromstring(reply.content)[0].get("code") == "5"


def test_an_unknown_track_is_an_empty_list_that_echoes_the_request(address):
    hostile = "no\0such <track> & \x1b" + "x" * 10_000
    sent = {"method": "track.getSimilar", "artist": "Artist 1", "track": hostile}
    echoed = httpx.post(address, data={**sent, "format": "json"}).json()["similartracks"]
    assert echoed == {"track": [], "@attr": {"artist": "Artist 1", "track": hostile}}
    root = ElementTree.fromstring(httpx.post(address, data=sent).content)
    assert len(root[0]) == 0
    assert root[0].get("track").startswith("no\ufffdsuch <track> & \ufffd")


def test_a_huge_limit_gives_what_there_is(address):
    found = ask(address, "artist.getSimilar", artist="Artist 1", limit=10**9).json()
    # Neither the artist itself nor the one of whom only the name is known.
    assert len(found["similarartists"]["artist"]) == ARTISTS - 2


def test_an_artist_of_whom_only_the_name_is_known_has_nobody_similar(address):
    found = ask(address, "artist.getSimilar", artist="Artist 21").json()
    assert found == {"similarartists": {"artist": [], "@attr": {"artist": "Artist 21"}}}


def test_a_catalogue_without_tracks_knows_no_track(tmp_path):
    with served(make_shelf(tmp_path, tracks=False)) as port:
        address = f"http://127.0.0.1:{port}/2.0"
        sent = {"artist": "Artist 1", "track": "Song 1 <&>"}
        assert ask(address, "track.getSimilar", **sent).json()["similartracks"]["track"] == []
