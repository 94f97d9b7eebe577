import httpx
import pytest

from spoken import ARTISTS, TOKEN, mbid, served


@pytest.fixture(scope="module")
def address(port):
    return f"http://127.0.0.1:{port}/lidarr/similar"


def test_a_list_is_the_mbids_of_similar_artists_however_the_artist_is_named(address):
    found = httpx.get(address, params={"artist": "artist 1", "limit": 3}).json()
    assert [list(x) for x in found] == [["MusicBrainzId"]] * 3
    numbers = [int(x["MusicBrainzId"][-12:]) for x in found]
    assert {x % 4 for x in numbers} == {1}
    for given in (mbid("artist", 1), "ARTIST 1"):
        assert httpx.get(address, params={"artist": given, "limit": 3}).json() == found
    everyone = httpx.get(address, params={"artist": "artist 1", "limit": 10**9}).json()
    assert len(everyone) == len([x for x in range(ARTISTS) if x % 3 and x not in (1, 21)])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 400),
        ({"artist": "nobody"}, 404),
        ({"artist": "artist 1", "limit": "0"}, 400),
        ({"artist": "artist\n1"}, 400),
    ],
)
def test_no_list_is_made_of_nobody(address, sent, status):
    reply = httpx.get(address, params=sent)
    assert reply.status_code == status
    assert reply.json()["error"]


def test_the_token_stands_in_the_address_since_lidarr_sends_no_header(shelf):
    with served(shelf, token=TOKEN) as port:
        address = f"http://127.0.0.1:{port}/lidarr/similar"
        assert httpx.get(address, params={"artist": "artist 1"}).status_code == 401
        sent = {"artist": "artist 1", "token": TOKEN}
        assert httpx.get(address, params=sent).status_code == 200
