import httpx
import pytest

from spoken import (
    ARTISTS,
    NAMES,
    TOKEN,
    artist_of,
    by_other_python,
    make_certificate,
    mbid,
    served,
)

NAVIDROME = "session_based_days_9000_session_300_contribution_5_threshold_15_limit_3_skip_30"
HOSTS = ("labs.api.listenbrainz.org", "api.listenbrainz.org")
RADIO = {
    "mode": "easy",
    "max_similar_artists": 2,
    "max_recordings_per_artist": 3,
    "pop_begin": 0,
    "pop_end": 100,
}
# The client's addresses are fixed, so its names of hosts lead to our port.
CLIENT = """
import json, random, socket, sys
from troi.content_resolver.artist_search import LocalRecordingSearchByArtistService
from troi.recording_search_service import RecordingSearchByArtistService

port, token, artist, stranger = sys.argv[1:]
found = socket.getaddrinfo
here = ("labs.api.listenbrainz.org", "api.listenbrainz.org")
socket.getaddrinfo = lambda host, _, *more, **named: found("127.0.0.1", int(port), *more, **named)
random.seed(3)
if token:
    radio = RecordingSearchByArtistService(auth_token=token)
    recordings, notes = radio.search("easy", artist, 0, 100, 3, 2)
    nobody, _ = radio.search("hard", stranger, 0, 100, 3, 2)
    print(json.dumps({
        "recordings": {
            key: [[x.mbid, x.artist_credit.name] for x in value]
            for key, value in recordings.items()
        },
        "nobody": nobody,
    }))
else:
    local = LocalRecordingSearchByArtistService()
    print(json.dumps([local.get_similar_artists(x) for x in (artist, stranger)]))
"""


@pytest.fixture(scope="module")
def address(port):
    return f"http://127.0.0.1:{port}"


def test_troi_finds_similar_artists_and_radio_over_tls(shelf, tmp_path):
    certificate = make_certificate(tmp_path, *HOSTS)
    ids = mbid("artist", 1), mbid("artist", 999)
    trusted = {"REQUESTS_CA_BUNDLE": str(certificate)}
    # The client shows a token to the radio alone.
    with served(shelf, certificate=certificate) as port:
        near, nobody = by_other_python(CLIENT, port, "", *ids, **trusted)
    with served(shelf, token=TOKEN, certificate=certificate) as port:
        radio = by_other_python(CLIENT, port, TOKEN, *ids, **trusted)
    numbers = [int(x["artist_mbid"][-12:]) for x in near]
    assert {x % 4 for x in numbers[:3]} == {1}
    scores = [x["score"] for x in near]
    assert scores == sorted(scores, reverse=True)
    assert nobody == []
    assert len(radio["recordings"]) == 3
    assert [x[1] for x in radio["recordings"][ids[0]]] == ["Artist 1"] * 3
    assert radio["nobody"] == {}


def test_similar_artists_have_the_published_fields_and_whole_scores(address):
    sent = {"artist_mbids": mbid("artist", 1).upper(), "algorithm": NAVIDROME}
    lines = httpx.get(f"{address}/similar-artists/json", params=sent).json()
    assert len(lines) == 3
    fields = {"artist_mbid", "name", "comment", "type", "gender", "score", "reference_mbid"}
    assert {frozenset(x) for x in lines} == {frozenset(fields)}
    assert all(type(x["score"]) is int and 0 < x["score"] <= 10_000 for x in lines)
    assert {x["reference_mbid"] for x in lines} == {sent["artist_mbids"]}
    assert {x["name"] for x in lines} <= {NAMES[x] for x in range(5, ARTISTS, 4)}


def test_answers_without_an_mbid_are_left_out(address):
    sent = {"artist_mbids": mbid("artist", 1), "algorithm": "undersong"}
    lines = httpx.get(f"{address}/similar-artists/json", params=sent).json()
    # A third has none, the artist itself is no answer, and of one only the name is known.
    assert len(lines) == len([x for x in range(ARTISTS) if x % 3 and x not in (1, 21)])


def test_similar_recordings_of_a_form_come_in_pages(address):
    body = [{"recording_mbids": [mbid("track", 3), mbid("track", 7)], "algorithm": NAVIDROME}]
    url = f"{address}/similar-recordings/json"
    lines = httpx.post(url, json=body).json()
    assert [x["reference_mbid"] for x in lines] == [mbid("track", 3)] * 3 + [mbid("track", 7)] * 3
    number = int(lines[0]["recording_mbid"][-12:])
    artist = artist_of(number)
    assert lines[0]["recording_name"] == f"Song {number} <&>"
    assert lines[0]["artist_credit_name"] == NAMES[artist]
    assert lines[0]["artist_credit_mbids"] == ([mbid("artist", artist)] if artist % 3 else None)
    assert lines[0]["release_name"] in (f"Album {artist}", "Greatest Hits")
    assert lines[0]["caa_id"] is None
    page = httpx.post(url, json=body, params={"count": 2, "offset": 1}).json()
    assert page == lines[1:3]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "send artist_mbids"),
        ({"artist_mbids": "nobody", "algorithm": NAVIDROME}, "no MusicBrainz id"),
        ({"artist_mbids": mbid("artist", 1)}, "algorithm is 'None'"),
        ({"artist_mbids": mbid("artist", 1), "algorithm": "session_based_é"}, "algorithm is"),
        ({"artist_mbids": mbid("artist", 1), "algorithm": NAVIDROME, "count": 5}, "for POST"),
        ({"artist_mbids": [mbid("artist", 1)] * 101, "algorithm": NAVIDROME}, "101 ids"),
    ],
)
def test_wrong_questions_are_400(address, sent, text):
    reply = httpx.get(f"{address}/similar-artists/json", params=sent)
    assert reply.status_code == 400
    assert text in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"[{}]",
        b'[{"artist_mbids": [1], "algorithm": "undersong"}]',
        b'[{"artist_mbids": ["\\ud800"], "algorithm": "undersong"}]',
        b'[{"artist_mbids": {"a": 1}, "algorithm": ["undersong"]}]',
        b"[" * 60_000,
    ],
)
def test_a_body_that_is_no_question_is_400(address, body):
    reply = httpx.post(f"{address}/similar-artists/json", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]


@pytest.mark.parametrize("page", [{"count": "-1"}, {"offset": "-1"}, {"count": "many"}])
def test_a_page_that_cannot_be_is_400(address, page):
    body = [{"artist_mbids": [mbid("artist", 1)], "algorithm": "undersong"}]
    reply = httpx.post(f"{address}/similar-artists/json", json=body, params=page)
    assert reply.status_code == 400
    huge = httpx.post(f"{address}/similar-artists/json", json=body, params={"count": 10**9})
    assert len(huge.json()) > 3


def ask_radio(address, number, **sent):
    return httpx.get(
        f"{address}/1/lb-radio/artist/{mbid('artist', number)}", params=RADIO | sent
    ).json()


def test_radio_goes_further_down_the_list_in_harder_modes(address):
    listed = httpx.get(
        f"{address}/similar-artists/json",
        params={"artist_mbids": mbid("artist", 1), "algorithm": "undersong"},
    ).json()
    near = [x["artist_mbid"] for x in listed]
    with_songs = {mbid("artist", x) for x in range(ARTISTS - 6)}
    for mode, first, step in (("easy", 0, 2), ("medium", 3, 4), ("hard", 10, 10)):
        wanted = [x for x in near[first::step] if x in with_songs][:2]
        assert list(ask_radio(address, 1, mode=mode)) == [mbid("artist", 1), *wanted], mode


def test_radio_knows_how_well_known_each_song_of_an_artist_is(address):
    (own, *_) = ask_radio(address, 2, max_recordings_per_artist=9).values()
    assert len(own) == 4
    counts = [x["total_listen_count"] for x in own]
    assert counts == sorted(counts, reverse=True)
    assert set(own[0]) == {
        "recording_mbid",
        "similar_artist_mbid",
        "similar_artist_name",
        "total_listen_count",
    }
    (least, *_) = ask_radio(address, 2, max_recordings_per_artist=9, pop_end=40).values()
    assert least == own[2:]
    (most, *_) = ask_radio(address, 2, pop_begin=90).values()
    assert most == own[:1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": ""},
        {"mode": "loud"},
        {"pop_begin": "nan"},
        {"pop_begin": 101},
        {"pop_begin": 60, "pop_end": 50},
        {"max_similar_artists": -1},
        {"max_recordings_per_artist": "x"},
    ],
)
def test_a_radio_that_cannot_be_is_400_in_the_words_of_listenbrainz(address, wrong):
    reply = ask_radio(address, 1, **wrong)
    assert reply["code"] == 400
    assert reply["error"]


def test_nobody_is_nobody(address):
    assert ask_radio(address, 999) == {}
    sent = {"artist_mbids": mbid("artist", 999), "algorithm": "undersong"}
    assert httpx.get(f"{address}/similar-artists/json", params=sent).json() == []
    assert httpx.get(f"{address}/1/lb-radio/artist/zoe", params=RADIO).json()["code"] == 400


def test_the_token_is_shown_as_listenbrainz_clients_do(shelf):
    with served(shelf, token=TOKEN) as port:
        url = f"http://127.0.0.1:{port}/1/lb-radio/artist/{mbid('artist', 1)}"
        assert httpx.get(url, params=RADIO).status_code == 401
        shown = {"Authorization": f"Token {TOKEN}"}
        assert httpx.get(url, params=RADIO, headers=shown).status_code == 200
