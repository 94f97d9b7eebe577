"""The service's own API, asked in process: shapes, limits, filters, errors, uploads, media."""

import gzip
import io
import json
import pickle
import re
import zipfile
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from adding_worlds import write_sound
from spoken import ARTISTS, NAMES, TOKEN, TRACKS, make_shelf, mbid
from undersong import runs
from undersong.catalogue import tables
from undersong.foldin import encoders
from undersong.model import load
from undersong.pipeline.publish import publish
from undersong.report import formats
from undersong.retrieval.fusion import fuse
from undersong.retrieval.neighbours import search
from undersong.retrieval.playlists import Rules
from undersong.retrieval.query import Query
from undersong.retrieval.run_index import attributes_of, open_index
from undersong.runs import RunReader
from undersong.service import routes, schemas
from undersong.service.app import make_app
from undersong.service.options import QUERY, UPLOAD, ServiceSettings
from undersong.service.page import read_page
from undersong.service.snapshot import open_answers


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A shelf of 23 artists and 58 tracks without lists, reasons or a map."""
    return make_shelf(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def home(hearing_home):
    """A trained run that hears audio, its catalogue, and the shelf it is published on."""
    publish(hearing_home / "run", hearing_home / "shelf")
    heard = tables.read_catalogue(hearing_home / "catalogue")
    played = replace(heard, audio_root=hearing_home / "music")
    tables.write_catalogue(played, hearing_home / "played")
    return hearing_home


@pytest.fixture(scope="module")
def client(small):
    with TestClient(make_app(small, ServiceSettings())) as found:
        yield found


@pytest.fixture(scope="module")
def whole(home):
    reader = RunReader(home / "shelf", opening=open_answers)
    settings = ServiceSettings(media=home / "played")
    with TestClient(make_app(reader, settings)) as found:
        yield found


def ask(client, path, **asked):
    """A reply that must be good."""
    found = client.get(path, params=asked or None)
    assert found.status_code == 200, found.text
    return found.json()


def refused(client, path, status, **asked):
    """The one line of a reply that must be an error."""
    found = client.get(path, params=asked or None)
    assert found.status_code == status, found.text
    assert set(found.json()) == {"error", "status"}
    assert found.json()["status"] == status
    line = found.json()["error"]
    assert "\n" not in line
    assert "Traceback" not in line
    return line


QUESTIONS = [
    ("/api/search?q=artist&kind=artist", schemas.Suggestions),
    ("/api/items/artist/a03", schemas.OneItem),
    ("/api/items/track/a03-0", schemas.OneItem),
    ("/api/items/artist/a03/similar?k=4", schemas.Similar),
    ("/api/items/artist/a03/similar?k=4&reasons=true", schemas.Similar),
    ("/api/items/track/a03-0/similar?paper=true", schemas.Similar),
    ("/api/items/artist/a03/similar?also=a08&also=a41&k=4", schemas.Similar),
    ("/api/items?kind=artist&genre=g3&k=4", schemas.Listed),
    ("/api/explain?kind=artist&a=a03&b=a08", schemas.Explanation),
    ("/api/path?kind=artist&a=a03&b=a41", schemas.Chain),
    ("/api/map?kind=track", schemas.MapShape),
    ("/api/genres?kind=artist", schemas.Genres),
    ("/api/regions?kind=artist", schemas.Regions),
    ("/api/described?kind=artist&words=genre=g3&words=region=x&k=5", schemas.Similar),
    ("/api/items/artist/a03/similar?unlike=a08&k=4", schemas.Similar),
]
POSTED = [
    ("/api/recommend", {"kind": "artist", "plays": {"a03": 4, "Artist 08": 2}, "tastes": 2}),
    ("/api/playlist", {"like": ["Artist 03", "a08-0"], "k": 7, "apart": 2}),
    ("/api/playlist", {"path": ["a03", "a41"], "k": 6, "kind": "artist"}),
    ("/api/playlist", {"plays": {"a03": 4}, "unlike": ["a08"], "unlinked": 0.5, "shuffle": 3}),
]


@pytest.mark.parametrize(("path", "shape"), QUESTIONS)
def test_every_reply_has_the_shape_that_the_openapi_promises(whole, path, shape):
    found = ask(whole, path)
    assert shape.model_validate(found, strict=True).generation == 1
    assert set(found) <= set(shape.model_fields)


@pytest.mark.parametrize(("path", "body"), POSTED)
def test_what_is_posted_is_answered_as_the_library_does(whole, home, path, body):
    found = whole.post(path, json=body)
    assert found.status_code == 200, found.text
    shape = schemas.Similar.model_validate(found.json(), strict=True)
    model, options = load(home / "shelf"), dict(body)
    if path == "/api/recommend":
        expected = model.recommend(options.pop("plays"), k=10, **options)
        assert [x.taste for x in shape.answers] == [x.taste for x in expected]
    else:
        rules = Rules(**{x: options.pop(x) for x in Rules.__annotations__ if x in options})
        expected = model.playlist(rules=rules, **{"k": 50} | options)
        assert [x.id for x in shape.also] == [x.id for x in expected.queries]
    assert [x.item.id for x in shape.answers] == list(expected.ids)
    assert (shape.note or "") == expected.note


def test_the_described_and_the_unlike_are_answered_as_the_library_does(whole, home):
    model = load(home / "shelf")
    found = ask(whole, "/api/described?kind=artist&words=genre=g3&words=from zz&k=5")
    expected = model.described_as("genre=g3", "from zz", k=5)
    assert [x["item"]["id"] for x in found["answers"]] == list(expected.ids)
    assert found["note"] == expected.note
    assert found["note"].endswith("not known here: 'zz'")
    found = ask(whole, "/api/items/artist/a03/similar?unlike=a08&unlike=a41&also=a07&k=9")
    expected = model.similar(["a03", "a07"], unlike=["a08", "a41"], k=9)
    assert [x["item"]["id"] for x in found["answers"]] == list(expected.ids)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("recommend", b"{", 400, "the body is no JSON"),
        ("recommend", b"[]", 400, "should be a valid dictionary"),
        ("recommend", {"kind": "artist", "plays": {}}, 400, "plays: Dictionary should have at"),
        ("recommend", {"kind": "artist", "plays": {"a03": -1}}, 400, "greater than or equal to 0"),
        ("recommend", {"kind": "artist", "plays": {"nobody": 1}}, 404, "none of 1 words is an id"),
        ("playlist", {}, 400, "a playlist begins with nothing"),
        ("playlist", {"like": ["a03"], "lik": 1}, 400, "there is no parameter 'lik' here"),
        ("playlist", {"like": ["a03"], "apart": 0}, 400, "apart: Input should be greater than"),
        ("playlist", {"like": ["Artits 3"]}, 404, "no item 'Artits 3'"),
        ("playlist", {"like": ["x"] * 10_001}, 400, "like: List should have at most 10000 items"),
        ("playlist", b" " * 1_000_001, 413, "the body has more than 1,000,000 bytes"),
    ],
)
def test_what_is_posted_wrong_is_one_line(whole, path, body, status, message):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = whole.post(f"/api/{path}", content=content)
    assert found.status_code == status
    assert message in found.json()["error"]


def test_of_ten_thousand_seeds_some_are_asked_about(whole):
    seeds = [f"a{x % 20:02}-0" for x in range(10_000)]
    found = whole.post("/api/playlist", json={"like": seeds, "k": 4, "apart": 1})
    assert found.status_code == 200, found.text


def test_every_operation_has_its_name_the_scheme_of_the_token_and_meanings(client):
    told = client.get("/openapi.json").json()
    operations = [y for x in told["paths"].values() for y in x.values()]
    names = {x["operationId"] for x in operations}
    assert len(names) == len(operations)
    assert {"similar", "described", "recommend", "playlist", "sounds_like", "listed"} <= names
    assert all(y["description"] for x in operations for y in x["parameters"])
    bodies = [x["requestBody"]["content"] for x in operations if "requestBody" in x]
    posted = [x["application/json"]["schema"] for x in bodies if "application/json" in x]
    assert len(posted) == 2
    assert all(y["description"] for x in posted for y in x["properties"].values())
    schemes = told["components"]["securitySchemes"]
    assert told["security"] == [{"bearer": []}, {"token": []}, {}]
    assert set(schemes) == {"bearer", "token"}
    unguarded = [x["operationId"] for x in operations if x.get("security") == []]
    assert sorted(unguarded) == ["health", "ready"]


@pytest.mark.parametrize("more", [{}, {"paper": True}, {"diversity": 0.5}, {"genre": "g3"}])
def test_several_items_are_answered_by_agreement_as_the_library_does(whole, home, more):
    run = runs.read(home / "shelf")
    index = open_index(run, "artist", paper="paper" in more)
    seeds, genres = ["a03", "a08", "a41"], frozenset({"g3"} if "genre" in more else ())
    wish = Query(k=6, genres=genres, diversity=more.get("diversity", 0.0))
    facts = [attributes_of(run, "artist", index.embeddings.ids)]
    expected = fuse([index], seeds, query=wish, attributes=facts)
    path = "/api/items/artist/a03/similar?also=a08&also=a41&also=a03"
    asked = "&".join(f"{x}={y}" for x, y in more.items())
    found = ask(whole, f"{path}&k=6&{asked}")
    assert [x["item"]["id"] for x in found["answers"]] == list(expected.ids)
    assert [x["seeds"] for x in found["answers"]] == [list(x) for x in expected.seeds]
    assert [found["item"]["id"], *(x["id"] for x in found["also"])] == seeds


def test_several_items_are_refused_as_one_is(whole, client):
    path = "/api/items/artist/a03/similar"
    assert "no artist has the id 'a99'" in refused(whole, f"{path}?also=a99", 404)
    line = refused(whole, f"{path}?also=a08&reasons=true", 400)
    assert line.startswith("reasons are between two items; leave reasons or also out")
    many = "&".join(f"also=a{x:02}" for x in range(21))
    assert "at most 20 items" in refused(whole, f"{path}?{many}", 400)
    line = refused(client, "/api/items/artist/artist 3/similar?also=artist 21", 400)
    assert line == (
        "nothing is known about 'Artist 21' (artist 21) but its name: no audio, plays or metadata"
    )


def test_neighbours_are_those_of_the_library_with_what_is_known_of_them(whole, home):
    answers = RunReader(home / "shelf", opening=open_answers).current
    for query in ({"k": 7}, {"k": 7, "genre": "g3"}, {"k": 7, "diversity": 0.4}):
        found = ask(whole, "/api/items/artist/a03/similar", **query)
        genres = frozenset({query["genre"]} if "genre" in query else ())
        wish = Query(k=7, genres=genres, diversity=query.get("diversity", 0.0))
        expected = answers.similar("artist", "a03", wish)
        assert [x["item"]["id"] for x in found["answers"]] == list(expected.ids)
        assert [x["rank"] for x in found["answers"]] == [1, 2, 3, 4, 5, 6, 7]
        assert found["item"]["name"] == "Artist 03"
    assert all(
        ask(whole, f"/api/items/artist/{x['item']['id']}")["item"]["genres"] == ["g3"]
        for x in ask(whole, "/api/items/artist/a03/similar", genre="g3")["answers"]
    )


def test_how_well_known_an_item_is_stands_among_all_that_are_counted(whole, home):
    fame = dict(tables.read_catalogue(home / "catalogue").artists.select("id", "fame").iter_rows())
    counted = [x for x in fame.values() if x is not None]
    for item in ("a03", "a41", "a70"):
        below = sum(x < fame[item] for x in counted) + counted.count(fame[item]) / 2
        found = ask(whole, f"/api/items/artist/{item}")["item"]["percentile"]
        assert found == pytest.approx(below / len(counted))
    nobody = next(x for x, value in fame.items() if value is None)
    assert ask(whole, f"/api/items/artist/{nobody}")["item"]["percentile"] is None


def test_what_is_looked_up_is_what_would_be_found(home):
    answers = RunReader(home / "shelf", opening=open_answers).current
    for kind, item in (("artist", "a00"), ("artist", "a33"), ("track", "a12-0")):
        quick = answers.look_up(kind, item, Query(k=11))
        index = answers.of(kind)
        rows = np.array([index.row[item]])
        block = next(search(index.index, rows, query=Query(k=11)))
        assert list(quick.ids) == [index.ids[x] for x in block.neighbours[0]]
        np.testing.assert_allclose(quick.scores, block.scores[0], atol=1e-4)
        assert answers.similar(kind, item, Query(k=11)) == quick
    assert answers.look_up("artist", "a00", Query(k=11, diversity=0.1)) is None
    assert answers.look_up("artist", "a00", Query(k=900)) is None


def test_the_reasons_of_an_answer_add_up_to_its_score(whole):
    found = ask(whole, "/api/items/artist/a03/similar", k=5, reasons=True)["answers"]
    for one in found:
        why = one["reasons"]
        total = why["start"] + sum(x["share"] for x in why["contributions"])
        assert total == pytest.approx(why["score"], abs=1e-5)
        assert why["score"] == pytest.approx(one["score"], abs=1e-3)
    assert any("in common" in y for x in found for y in x["reasons"]["sentences"])
    other = ask(whole, "/api/explain", kind="artist", a="a03", b=found[0]["item"]["id"])
    for name in ("contributions", "sentences", "unknown"):
        assert len(other["reasons"][name]) == len(found[0]["reasons"][name])
    assert other["reasons"]["score"] == pytest.approx(found[0]["score"], abs=1e-3)


def test_an_item_of_which_only_the_name_is_known_has_no_answers_and_a_sentence(client):
    found = ask(client, "/api/items/artist/artist 21/similar")
    assert found["answers"] == []
    assert "but its name" in found["note"]
    assert "but its name" in ask(client, "/api/items/artist/artist 21")["item"]["unknown"]
    assert "but its name" in refused(
        client, "/api/explain", 400, kind="artist", a="artist 21", b="artist 2"
    )


def test_filters_that_leave_nobody_say_which_of_them_it_was(client):
    found = ask(client, "/api/items/artist/artist 3/similar", genre="genre 1", pop_begin=0.9)
    assert found["answers"] == []
    assert "pop_begin: 22 are left out" in found["note"]


def test_suggestions_stand_in_the_order_in_which_people_mean_them(client):
    names = [x["name"] for x in ask(client, "/api/search", kind="artist", q="artist 1")["items"]]
    assert names[0] == "Artist 1"
    assert names[1:3] == ["Artist 10", "Artist 11"]
    assert [x["name"] for x in ask(client, "/api/search", kind="artist", q="zoe")["items"]] == [
        "Zoë"
    ]
    assert ask(client, "/api/search", kind="artist", q="atrist 13")["items"][0]["id"] == "artist 13"
    for nobody in ("  ", "°", "q", "x" * 500):
        assert ask(client, "/api/search", kind="artist", q=nobody)["items"] == []
    assert len(ask(client, "/api/search", kind="track", q="song", limit=3)["items"]) == 3


def test_a_whole_first_word_goes_before_the_beginning_of_a_longer_one(tmp_path):
    # By popularity alone they stand in the order in which they are listed here.
    names = ["Bobaflex", "Not Bob", "Bobby V", "Bob Marley & The Wailers", "Kebob", "Bob Dylan"]
    with runs.publishing(tmp_path, {"kind": "artist"}) as home:
        items = pl.DataFrame({"id": [f"artist {x}" for x in range(1, 7)], "name": names})
        items.with_columns(
            kind=pl.lit("artist"),
            about=pl.lit(""),
            part=pl.lit("train"),
            relations=pl.lit(1, pl.Int64),
            popularity=pl.Series(range(9, 3, -1), dtype=pl.Float64),
        ).write_parquet(home / "items.parquet")
    answers = RunReader(tmp_path, opening=open_answers).current
    found = [x.name for x in answers.of("artist").names.suggest("bob", limit=9)]
    assert found == [names[x] for x in (3, 5, 0, 2, 1, 4)]
    found = [x.name for x in answers.of("artist").names.suggest("bobb", limit=9)]
    assert found == ["Bobby V"]


def test_without_a_kind_the_name_that_fits_best_comes_first_and_artists_before_tracks(client):
    def found(q, **more):
        return [(x["kind"], x["name"]) for x in ask(client, "/api/search", q=q, **more)["items"]]

    assert found("song 3 <&>")[0] == ("track", "Song 3 <&>")
    assert found("artist 1")[0] == ("artist", "Artist 1")
    both = found("o", limit=TRACKS)
    assert both[:2] == [("artist", NAMES[4]), ("artist", "Zoë")]
    assert {x for x, _ in both[2:]} == {"track"}
    assert len(both) == TRACKS
    assert found("sonng 31") == found("sonng 31", kind="track")
    assert found("atrist 13") == found("atrist 13", kind="artist")


def test_a_musicbrainz_id_and_a_name_find_all_they_fit(small):
    artists, tracks = small.current.of("artist"), small.current.of("track")
    assert [x.id for x in artists.with_mbid(mbid("artist", 4).upper())] == ["artist 4"]
    assert artists.with_mbid(mbid("artist", 3)) == ()
    assert [x.id for x in artists.names.named("ZOE")] == ["artist 12"]
    assert tracks.names.named("Song 1") == tracks.names.named("Song 1 <&>") != ()


def test_names_arrive_as_they_are(client):
    for number in (0, 4, 8):
        assert ask(client, f"/api/items/artist/artist {number}")["item"]["name"] == NAMES[number]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/items/artist/nobody", 404, "no artist has the id 'nobody'"),
        ("/api/items/artist/Artist 7", 404, "did you mean 'Artist 7' .artist 7."),
        ("/api/items/artist/artist 1/similar?k=0", 400, "k: .*greater than or equal to 1"),
        ("/api/items/artist/artist 1/similar?k=-1", 400, "k: .*greater than or equal to 1"),
        ("/api/items/artist/artist 1/similar?k=1000000000", 400, "k: .*less than or equal"),
        ("/api/items/artist/artist 1/similar?k=ten", 400, "k: .*valid integer.*'ten'"),
        ("/api/items/artist/artist 1/similar?kk=3", 400, "no parameter 'kk'"),
        ("/api/items/artist/artist 1/similar?long_tail=nan", 400, "long_tail: .*finite"),
        ("/api/items/artist/artist 1/similar?long_tail=0.5", 400, "leave long_tail out"),
        (
            "/api/items/artist/artist 1/similar?paper=1&long_tail=.5",
            400,
            "leave long_tail or paper out",
        ),
        (
            "/api/items/artist/artist 1/similar?pop_begin=.9&max_popularity=.1",
            400,
            "nothing lies between",
        ),
        (
            "/api/items/artist/artist 1/similar?decade_from=1990&decade_to=1950",
            400,
            "turn them round",
        ),
        ("/api/items/artist/artist 1/similar?genre=genre 9", 400, "did you mean 'genre 3'"),
        ("/api/items/artist/artist 1/similar?region=x", 400, "no region is known"),
        ("/api/items/album/artist 1", 400, "kind: .*'artist' or 'track'"),
        ("/api/search?kind=artist&q=", 400, "q: .*at least 1 character"),
        ("/api/search?kind=artist&q=" + "x" * 501, 400, "q: .*at most 500"),
        ("/api/search?kind=artist&q=" + "x" * 10_000, 414, f"ask with {QUERY} or fewer"),
        ("/api/items/artist/" + "x" * 10_000, 414, f"ask with {QUERY} or fewer"),
        ("/api/search?kind=artist&q=a%00b", 400, "control characters"),
        ("/api/items/artist/a%0Ab", 400, "control characters"),
        ("/api/search?kind=artist", 400, "q: Field required"),
        ("/api/search?q=x&kind=album", 400, "kind: .*'artist' or 'track'"),
        ("/api/path?kind=artist&a=artist 1&b=artist 2&steps=0", 400, "steps"),
        ("/api/explain?kind=artist&a=artist 1&b=artist 1", 400, "not compared with itself"),
        ("/api/explain?kind=artist&a=artist 1&b=artist 2", 400, "has no reasons"),
        ("/api/map?kind=artist", 404, "undersong publish"),
        ("/api/report", 404, "undersong evaluate"),
        ("/media/artist/artist 1", 404, "no audio file"),
        ("/api/nothing", 404, "nothing at /api/nothing"),
        ("/../../etc/passwd", 404, "nothing at"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "nothing at"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(client, path, status, says):
    assert re.search(says, refused(client, path, status))


def test_another_method_is_405_and_says_which_there_is(client):
    found = client.put("/api/report")
    assert found.status_code == 405
    assert set(found.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert found.json()["status"] == 405
    found = client.head("/ready")
    assert (found.status_code, found.content) == (200, b"")
    found = client.get("/api/sounds-like", headers={"Accept": "text/html"})
    assert (found.status_code, found.headers["allow"]) == (405, "POST")


def test_a_fault_of_ours_shows_the_client_nothing_of_it(small, monkeypatch):
    def fails(*given, **named):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(routes, "suggest", fails)
    with TestClient(make_app(small, ServiceSettings()), raise_server_exceptions=False) as client:
        assert "secret" not in refused(client, "/api/search?kind=artist&q=a", 500)


def test_no_page_of_another_site_may_frame_script_or_guess(client):
    for path in ("/api/report", "/health", "/nothing", "/api/search?kind=artist&q=zoe"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_map_has_a_place_for_every_item_and_is_sent_once(whole):
    found = whole.get("/api/map", params={"kind": "artist"})
    assert found.headers["content-encoding"] == "gzip"
    drawn = found.json()
    columns = ("ids", "names", "x", "y", "long_tail", "genre")
    assert {len(drawn[x]) for x in columns} == {drawn["count"]} == {84}
    assert drawn["names"][drawn["ids"].index("a07")] == "Artist 07"
    assert drawn["genres"] == [f"g{x}" for x in range(5)]
    assert set(drawn["genre"]) == {-1, 0, 1, 2, 3, 4}
    place = ask(whole, "/api/items/artist/a07")["item"]
    assert drawn["x"][drawn["ids"].index("a07")] == pytest.approx(place["x"], abs=1e-4)
    plain = whole.get("/api/map", params={"kind": "artist"}, headers={"Accept-Encoding": ""})
    assert "content-encoding" not in plain.headers
    assert plain.json() == drawn
    again = whole.get(
        "/api/map", params={"kind": "artist"}, headers={"If-None-Match": found.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_a_list_holds_what_has_something_in_common_the_best_known_first(whole):
    every = ask(whole, "/api/items", kind="artist", k=200)
    assert every["total"] == len(every["items"]) == 84
    drawn = ask(whole, "/api/map", kind="artist")
    assert [x["item"]["id"] for x in every["items"]] == drawn["ids"]
    genre = ask(whole, "/api/items", kind="artist", genre="g3", k=5)
    assert len(genre["items"]) == 5 < genre["total"] < 84
    for listed in genre["items"]:
        details = ask(whole, f"/api/items/artist/{listed['item']['id']}")["item"]
        assert "g3" in details["genres"]
        assert listed["media"] == details["media"]
    nobody = ask(whole, "/api/items", kind="artist", only_unlinked=True, k=200)
    assert 0 < nobody["total"] == sum(x["item"]["long_tail"] for x in every["items"])
    assert "did you mean 'g3'" in refused(whole, "/api/items", 400, kind="artist", genre="g33")


def test_a_tag_leads_to_those_who_have_it(whole):
    details = ask(whole, "/api/items/artist/a07")["item"]
    assert details["tags"]
    assert {*details["sources"]}.isdisjoint(details["silent"])
    listed = ask(whole, "/api/items", kind="artist", tag=details["tags"][0], k=200)
    ids = [x["item"]["id"] for x in listed["items"]]
    assert "a07" in ids
    assert len(ids) == listed["total"] < 84
    for item in ids[:3]:
        tags = ask(whole, f"/api/items/artist/{item}")["item"]["tags"]
        assert details["tags"][0] in tags
    assert "no artist has the tag" in refused(whole, "/api/items", 400, kind="artist", tag="polka")


def test_an_answer_says_whether_it_can_be_played(whole):
    for x in ask(whole, "/api/items/track/a03-0/similar", k=7)["answers"]:
        status = whole.get(f"/media/track/{x['item']['id']}").status_code
        assert x["media"] is (status == 200)


def test_the_report_is_sent_with_its_generation(home, monkeypatch):
    report = home / "report.json"
    report.write_bytes(b'{"kept": "as it is"}')
    monkeypatch.setattr(formats, "path_of", lambda run: report)
    reader = RunReader(home / "shelf", opening=open_answers)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        expected = {"generation": 1, "kept": "as it is", "reliability": {}}
        assert ask(client, "/api/report") == expected


def test_an_item_that_was_added_since_answers_without_reasons(home, tmp_path):
    from adding_worlds import fresh
    from undersong import runs
    from undersong.foldin import add
    from undersong.foldin.new_items import NewItem

    write_sound(tmp_path / "new.wav", seed=2)
    beside = fresh(runs.read(home / "run"), tmp_path)
    given = NewItem("track", "new", "New song", "a03", "Artist 03", path=tmp_path / "new.wav")
    assert [x.what for x in add.add(beside, [given])] == ["added"]
    reader = RunReader(tmp_path, opening=open_answers)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        found = ask(client, "/api/items/track/new/similar", k=3, reasons=True)
        assert len(found["answers"]) == 3
        assert found["note"] == "Reasons are available for artists only."
        assert ask(client, "/api/search", kind="track", q="new so")["items"][0]["id"] == "new"


def upload(client, content, **asked):
    return client.post("/api/sounds-like", params=asked, files={"file": ("x.wav", content)})


def test_a_file_of_a_track_sounds_most_like_that_track(whole, home):
    content = (home / "music" / "a04-0.wav").read_bytes()
    found = upload(whole, content, kind="track", k=5).json()
    assert schemas.Similar.model_validate(found, strict=True).item is None
    assert found["answers"][0]["item"]["id"] == "a04-0"
    assert found["answers"][0]["score"] > 0.99
    assert found["answers"][4]["score"] < found["answers"][0]["score"]
    artists = upload(whole, content).json()["answers"]
    assert {x["item"]["kind"] for x in artists} == {"artist"}


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.wav", b"RIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (archive(), "no audio"),
        (pickle.dumps(print), "no audio"),
        (b"just words\n", "text, not audio"),
    ],
    ids=["zip", "pickle", "text"],
)
def test_what_is_no_audio_is_415_with_a_reason(whole, content, says):
    found = upload(whole, content)
    assert found.status_code == 415, found.text
    assert says in found.json()["error"]


def test_an_upload_needs_a_file_that_is_not_too_large(whole, client):
    assert whole.post("/api/sounds-like").status_code == 400
    large = upload(whole, bytes(UPLOAD + 70_000))
    assert large.status_code == 413
    assert large.headers["connection"] == "close"
    assert upload(client, b"x").status_code == 501


@pytest.mark.parametrize(
    ("lacking", "says"), [(("soundfile", "soxr"), "[audio]"), (("onnxruntime", "torch"), "[onnx]")]
)
def test_without_what_decodes_or_embeds_audio_the_line_names_the_extra(
    whole, home, monkeypatch, lacking, says
):
    hearing = whole.get("/api/map", params={"kind": "artist"})
    assert hearing.json()["hears"] is True
    monkeypatch.setattr(
        encoders, "find_spec", lambda name: None if name in lacking else find_spec(name)
    )
    reader = RunReader(home / "shelf", opening=open_answers)
    with TestClient(make_app(reader, ServiceSettings())) as deaf:
        found = upload(deaf, b"x")
        assert found.status_code == 501
        assert says in found.json()["error"]
        # A browser that kept the map must not go on offering it.
        kept = {"If-None-Match": hearing.headers["etag"]}
        said = deaf.get("/api/map", params={"kind": "artist"}, headers=kept)
        assert said.json()["hears"] is False


def test_audio_is_played_in_parts_and_never_from_outside_of_its_folder(whole, home, tmp_path):
    path = "/media/track/a04-0"
    content = (home / "music" / "a04-0.wav").read_bytes()
    assert ask(whole, "/api/items/track/a04-0")["item"]["media"]
    assert not ask(whole, "/api/items/artist/a70")["item"]["media"]
    found = whole.get(path)
    assert (found.content, found.headers["content-type"]) == (content, "audio/x-wav")
    part = whole.get(path, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, content[100:300])
    assert whole.get("/media/artist/a04").content == content
    outside = home / "music" / "a05-0.wav"
    kept = outside.read_bytes()
    outside.unlink()
    outside.symlink_to("/etc/hostname")
    try:
        refused(whole, "/media/track/a05-0", 404)
    finally:
        outside.unlink()
        outside.write_bytes(kept)


def test_a_token_is_wanted_and_no_other_one_will_do(small):
    lines = []
    app = make_app(small, ServiceSettings(token=TOKEN), log=lines.append)
    with TestClient(app) as client:
        path = "/api/items/artist/artist 2"
        assert "its token" in refused(client, path, 401)
        assert "another token" in refused(client, path, 401, token=TOKEN[:-1] + "x")
        assert client.get(path).headers["www-authenticate"] == "Bearer"
        for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Token {TOKEN}"}):
            assert client.get(path, headers=headers).status_code == 200
        assert client.get(path, headers={"Authorization": b"Bearer \xe4"}).status_code == 401
        assert client.get(path, params={"token": TOKEN}).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").json() == {"status": "up"}
        assert client.get("/ready").json() == {"status": "ready", "generation": 1}
        assert client.get("/openapi.json").status_code == 200
    assert lines
    assert TOKEN not in "".join(lines)


def test_the_log_has_a_line_of_json_for_each_request_and_not_what_was_asked(small):
    lines = []
    with TestClient(make_app(small, ServiceSettings(), log=lines.append)) as client:
        ask(client, "/api/items/artist/artist 2/similar", k=3)
        refused(client, "/api/items/artist/somebody", 404)
    told = [json.loads(x) for x in lines]
    asked = [x for x in told if "route" in x]
    assert [set(x) for x in asked] == [{"method", "route", "status", "ms", "generation"}] * 2
    assert [x["status"] for x in asked] == [200, 404]
    assert asked[0]["route"] == "/api/items/{kind}/{id:path}/similar"
    assert {"event": "generation", "generation": 1} in told


def test_metrics_count_requests_by_route_and_status(small):
    with TestClient(make_app(small, ServiceSettings())) as client:
        for _ in range(3):
            ask(client, "/api/items/artist/artist 2/similar")
        refused(client, "/api/items/artist/somebody", 404)
        text = client.get("/metrics").text
    route = 'route="/api/items/{kind}/{id:path}/similar"'
    assert f'undersong_requests_total{{method="GET",{route},status="200"}} 3.0' in text
    assert f"undersong_request_seconds_count{{{route}}} 3.0" in text
    assert "undersong_generation 1.0" in text
    assert f'undersong_items{{kind="artist"}} {ARTISTS}.0' in text
    assert f'undersong_items{{kind="track"}} {TRACKS}.0' in text
    assert "somebody" not in text


def test_the_openapi_lists_every_parameter_and_never_422(client):
    told = client.get("/openapi.json").json()
    similar = told["paths"]["/api/items/{kind}/{id}/similar"]["get"]
    names = {x["name"] for x in similar["parameters"]}
    wishes = {"genre", "region", "diversity", "long_tail", "per_album", "reasons"}
    assert names >= {"kind", "id", "k", *wishes}
    statuses = {x for path in told["paths"].values() for y in path.values() for x in y["responses"]}
    assert "400" in statuses
    assert "422" not in statuses


def test_a_compressed_map_is_the_plain_one(whole, home):
    from undersong.service.page import map_reply

    answers = RunReader(home / "shelf", opening=open_answers).current
    plain, small = map_reply(answers, "track")
    assert gzip.decompress(small) == plain
    assert np.isfinite(json.loads(plain)["x"]).all()


def test_the_page_is_small_compressed_and_asked_for_once_in_a_version(client):
    index = client.get("/", headers={"Accept": "text/html"})
    paths = re.findall(r'(?:href|src)="([0-9a-f]{16}/[^"]+)"', index.text)
    assert {x.partition("/")[2] for x in paths} == {"icon.svg", "style.css", "app.js"}
    lazy = {
        "texts-de.js",
        "report.js",
        "report.css",
        "plots.js",
        "mixtape.js",
        "shader.js",
        "why.js",
    }
    digest, wire = paths[0].partition("/")[0], 0
    for name, file in read_page().items():
        if "/" in name:
            continue
        wire += 0 if name in lazy else len(file.compressed)
        assert gzip.decompress(file.compressed) == file.body
        plain = client.get(f"/{name}", headers={"Accept-Encoding": ""})
        assert (plain.content, plain.headers["cache-control"]) == (file.body, "no-cache")
        if name != "index.html":
            lasting = client.get(f"/{digest}/{name}")
            assert lasting.content == file.body
            assert lasting.headers["content-encoding"] == "gzip"
            assert "immutable" in lasting.headers["cache-control"]
    assert wire <= 40_000
    old = client.get(f"/{'0' * 16}/report.js")
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")
    assert client.get(f"/{'0' * 16}/nothing.js").status_code == 404
