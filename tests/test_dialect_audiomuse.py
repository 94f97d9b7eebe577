import httpx
import pytest

from spoken import ARTISTS, NAMES, TOKEN, TRACKS, artist_of, make_shelf, mbid, served


@pytest.fixture(scope="module")
def address(port):
    return f"http://127.0.0.1:{port}/api"


def ask(address, name, **sent):
    reply = httpx.get(f"{address}/{name}", params=sent)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_similar_tracks_have_what_plugins_decode_and_rising_distances(address):
    sent = {"item_id": "track 3", "n": "6", "radius_similarity": "true"}
    found = ask(address, "similar_tracks", **sent)
    assert len(found) == 6
    number = int(found[0]["item_id"].split()[1])
    assert found[0] == {
        "item_id": f"track {number}",
        "title": f"Song {number} <&>",
        "author": NAMES[artist_of(number)],
        "album": f"Album {artist_of(number)}" if number % 7 else "Greatest Hits",
        "distance": found[0]["distance"],
    }
    distances = [x["distance"] for x in found]
    assert distances == sorted(distances)
    assert 0 <= distances[0] < distances[-1] < 1


def test_a_track_is_found_by_title_and_artist_or_by_mbid(address):
    by_name = ask(address, "similar_tracks", title="SONG 3", artist="artist 3")
    assert by_name == ask(address, "similar_tracks", item_id="track 3")
    assert by_name == ask(address, "similar_tracks", item_id=mbid("track", 3))


def test_without_duplicates_an_artist_has_three_tracks_at_most(address):
    sent = {"item_id": "track 2", "n": 50}
    many = [x["author"] for x in ask(address, "similar_tracks", **sent)]
    few = [x["author"] for x in ask(address, "similar_tracks", eliminate_duplicates="True", **sent)]
    assert max(many.count(x) for x in many) == 4
    assert max(few.count(x) for x in few) == 3


def test_similar_artists_come_with_songs_that_stand_for_both(address):
    sent = {"artist": "zoe", "n": 4, "include_component_matches": "true"}
    found = ask(address, "similar_artists", **sent)
    assert {x["artist"] for x in found} <= {NAMES[x] for x in range(0, ARTISTS, 4)}
    assert 0 <= found[0]["divergence"] <= found[3]["divergence"] < 1
    (pair,) = found[0]["component_matches"]
    assert [artist_of(int(x["item_id"][6:])) for x in pair["artist1_representative_songs"]] == [
        12
    ] * 3
    theirs = {
        f"artist {artist_of(int(x['item_id'][6:]))}" for x in pair["artist2_representative_songs"]
    }
    assert theirs <= {found[0]["artist_id"]}
    plain = ask(address, "similar_artists", artist_id="artist 12", n=4)
    assert set(plain[0]) == {"artist", "artist_id", "divergence"}


def test_a_path_has_both_ends_and_its_length(address):
    sent = {"start_song_id": "track 3", "end_song_id": "track 7", "path_fix_size": "false"}
    found = ask(address, "find_path", **sent)
    ids = [x["item_id"] for x in found["path"]]
    assert (ids[0], ids[-1]) == ("track 3", "track 7")
    assert len(set(ids)) == len(ids)
    assert found["total_distance"] > 0
    assert set(found["path"][0]) == {"item_id", "title", "author", "album"}


def test_search_needs_two_characters_and_counts_tracks(address):
    assert ask(address, "search_artists", query="z") == []
    (found,) = ask(address, "search_artists", query="zo")
    assert found == {"artist": "Zoë", "artist_id": "artist 12", "track_count": 3}
    names = [x["artist"] for x in ask(address, "search_artists", query="artist 1", end=7)]
    assert len(names) == 7
    page = ask(address, "search_artists", query="artist 1", start=2, end=5)
    assert [x["artist"] for x in page] == names[2:5]
    assert ask(address, "search_artists", query="nobody at all") == []


@pytest.mark.parametrize(
    ("name", "sent", "status"),
    [
        ("similar_tracks", {}, 400),
        ("similar_tracks", {"title": "Song 3"}, 400),
        ("similar_tracks", {"item_id": "track 3", "n": "-1"}, 400),
        ("similar_tracks", {"item_id": "track 3", "n": "1e3"}, 400),
        ("similar_tracks", {"item_id": "nothing"}, 404),
        ("similar_tracks", {"title": "Song 3", "artist": "Artist 4"}, 404),
        ("similar_artists", {}, 400),
        ("similar_artists", {"artist": "nobody"}, 404),
        ("similar_artists", {"artist": "x" * 6000}, 404),
        ("similar_artists", {"artist": "Artist 21"}, 404),
        ("find_path", {"start_song_id": "track 3"}, 400),
        ("find_path", {"start_song_id": "track 3", "end_song_id": "nothing"}, 404),
        ("find_path", {"start_song_id": "track 3", "end_song_id": "track 7", "max_steps": 1}, 400),
        ("search_artists", {"query": "zoe", "start": "-1"}, 400),
        ("search_artists", {"query": "zo\x00e"}, 400),
    ],
)
def test_what_cannot_be_answered_has_a_status_and_a_sentence(address, name, sent, status):
    reply = httpx.get(f"{address}/{name}", params=sent)
    assert reply.status_code == status
    assert reply.json()["error"]


def test_a_huge_n_gives_what_there_is(address):
    assert len(ask(address, "similar_tracks", item_id="track 3", n=10**9)) == TRACKS - 1


def test_the_token_is_a_bearer(shelf):
    with served(shelf, token=TOKEN) as port:
        url = f"http://127.0.0.1:{port}/api/search_artists?query=zoe"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_catalogue_without_tracks_has_artists_all_the_same(tmp_path):
    with served(make_shelf(tmp_path, tracks=False)) as port:
        address = f"http://127.0.0.1:{port}/api"
        sent = {"artist": "Artist 1", "include_component_matches": "true"}
        (pair,) = ask(address, "similar_artists", **sent)[0]["component_matches"]
        assert pair["artist1_representative_songs"] == []
        reply = httpx.get(f"{address}/similar_tracks", params={"item_id": "track 3"})
        assert reply.status_code == 404
