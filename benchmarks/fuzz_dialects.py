"""Ask every dialect thousands of hostile questions: no reply is a fault of ours or not whole.

    python benchmarks/fuzz_dialects.py my/run [--requests 20000] [--seed 0]

Each question is for an endpoint with some of its parameters and some of others, their values drawn
from real ids and names and from what no client should send. A reply has a status below 500, and is
JSON or XML that a parser reads.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import httpx
import orjson

from undersong.runs import RunReader
from undersong.service.app import make_app
from undersong.service.dialects.listenbrainz_labs import UUID
from undersong.service.options import ServiceSettings
from undersong.service.snapshot import open_answers

# What each endpoint reads; a question has most of it, and at times something of another.
LASTFM = "method format artist track mbid limit autocorrect"
RADIO = "mode max_similar_artists max_recordings_per_artist pop_begin pop_end"
READ = {
    "/2.0": LASTFM,
    "/2.0/": LASTFM,
    "/rest/ping": "f u p t s apiKey",
    "/rest/getOpenSubsonicExtensions": "f",
    "/rest/getSimilarSongs": "f id count",
    "/rest/getSimilarSongs2.view": "f id count",
    "/rest/getArtistInfo": "f id count includeNotPresent",
    "/rest/getArtistInfo2.view": "f id count includeNotPresent",
    "/rest/getTopSongs": "f artist count",
    "/rest/getSonicSimilarTracks": "f id count",
    "/rest/findSonicPath.view": "f startSongId endSongId count",
    "/rest/getNothing": "f id",
    "/similar-artists/json": "algorithm artist_mbids",
    "/similar-recordings/json": "algorithm recording_mbids",
    "/1/lb-radio/artist/{}": RADIO,
    "/api/similar_tracks": "item_id title artist n eliminate_duplicates",
    "/api/similar_artists": "artist artist_id n include_component_matches",
    "/api/find_path": "start_song_id end_song_id max_steps",
    "/api/search_artists": "query start end",
    "/lidarr/similar": "artist limit",
}
COUNTS = {"limit", "count", "offset", "n", "max_steps", "start", "end"} | set(RADIO.split()[1:])
FITTING = {
    "method": ("artist.getSimilar", "track.getsimilar", "artist.getInfo"),
    "format": ("json", "xml", "yaml"),
    "f": ("json", "xml", "jsonp"),
    "algorithm": ("undersong", "session_based_days_9_limit_7_skip_3"),
    "mode": ("easy", "medium", "hard"),
}
NUMBERS = ("0", "-1", "1000000000", "9" * 40, "1e3", "nan", "inf", "0x1", "٣", "")
HOSTILE = (
    "\0",
    "\x1b[31m",
    "a\r\nSet-Cookie: x=1",
    "<script>alert(1)</script>",
    "]]>&lt;",
    "'; DROP TABLE items; --",
    "../../../../etc/passwd",
    "%00%ff",
    "\u202e\ufffe\ufeff",
    "🎷" * 30,
    "x" * 3000,
    "{{7*7}}${7*7}",
)
BODIES = (b"", b"[", b"null", b"[[]]", b'[{"artist_mbids":["\\udfff"]}]', b"\xff\xfe", b"[" * 9000)


def fuzz(
    client: httpx.Client, *, known: Sequence[str], requests: int, seed: int
) -> Counter[tuple[str, int]]:
    """Ask so many questions and count the replies by the first part of the path and the status.

    Raises
    ------
    AssertionError
        With the question, if a reply is a fault or not whole.
    """
    random, counted = Random(seed), Counter[tuple[str, int]]()
    for _ in range(requests):
        path = random.choice(list(READ))
        names = [x for x in READ[path].split() if random.random() < 0.9]
        names += random.choice(list(READ.values())).split()[: random.choice([0, 0, 0, 2])]
        path = path.format(_filled(random, known))
        sent = {x: _value(random, x, known) for x in names}
        if random.random() < 0.7:
            reply = client.request(random.choice(["GET", "POST"]), path, params=sent)
        elif random.random() < 0.5:
            reply = client.post(path, data=sent)
        else:
            one = {x: random.choice([y, y, [y], [y], {y: y}, None]) for x, y in sent.items()}
            body = random.choice([orjson.dumps([one]), orjson.dumps(one), random.choice(BODIES)])
            reply = client.post(path, content=body)
        assert reply.status_code < 500, (path, sent, reply.text)
        assert _whole(reply), (path, sent, reply.text)
        counted[path.split("/")[1][:8], reply.status_code] += 1
    return counted


def _filled(random: Random, known: Sequence[str]) -> str:
    """What may stand in a path: an id, or words without what cuts a path."""
    word = _value(random, "mbid", known)
    return "".join(x for x in word if x.isalnum() or x in "-_") or "none"


def _value(random: Random, name: str, known: Sequence[str]) -> str:
    draw = random.random()
    if draw < 0.1:
        return random.choice(HOSTILE)
    if draw < 0.2:
        return random.choice(NUMBERS)
    if name in COUNTS:
        return str(random.randrange(1, 120))
    ids = [x for x in known if UUID.fullmatch(x)] if "mbid" in name else []
    return random.choice(FITTING.get(name, ids or known))


def _whole(reply: httpx.Response) -> bool:
    try:
        if reply.headers["content-type"].startswith("text/xml"):
            ElementTree.fromstring(reply.content)
        else:
            orjson.loads(reply.content)
    except (ElementTree.ParseError, orjson.JSONDecodeError):
        return False
    return True


def main() -> None:
    """Ask, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    wished = parser.parse_args()
    from starlette.testclient import TestClient

    reader = RunReader(wished.folder, opening=open_answers)
    known = [
        word
        for items in reader.current.kinds.values()
        for column in ("id", "name")
        for word in items.table[column].head(500)
        if word
    ]
    known += [x for items in reader.current.kinds.values() for x in list(items.by_mbid)[:500]]
    start = time.perf_counter()
    with TestClient(make_app(reader, ServiceSettings())) as client:
        counted = fuzz(client, known=known, requests=wished.requests, seed=wished.seed)
    print(f"{wished.requests:,} requests in {time.perf_counter() - start:.0f} s, no fault")
    for (path, status), count in sorted(counted.items()):
        print(f"{path:<12} {status}  {count:>7,}")


if __name__ == "__main__":
    main()
