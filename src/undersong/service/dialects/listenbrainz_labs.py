"""ListenBrainz: similar artists and recordings as its labs give them, and radio by artist.

Everything goes by MusicBrainz ids, so an answer without one is left out. The word ``algorithm``
names data of ListenBrainz there; here it may be ``undersong`` or any ``session_based_...``, of
which ``limit_N`` counts.
"""

import re
from collections.abc import Callable
from itertools import islice
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Item, Kind
from undersong.errors import DataError
from undersong.retrieval import Query as Wish
from undersong.runs import RunReader
from undersong.service.dialects import vocabulary
from undersong.service.dialects.vocabulary import whole
from undersong.service.middleware import address
from undersong.service.responses import json
from undersong.service.snapshot import Snapshot

MOST = 100  # answers about one id
REACH = 200  # answers that are looked through for so many with a MusicBrainz id
TOGETHER = 100  # ids in one request
PAGE = 1000  # lines of one reply
LINES = 100  # lines of a reply to a form without a count
SCORE = 10_000  # the most similar that can be; scores there are whole numbers
EVERY = {"easy": (0, 2), "medium": (3, 4), "hard": (10, 10)}  # mode: first artist, step
NEEDED = ("mode", "max_similar_artists", "max_recordings_per_artist", "pop_begin", "pop_end")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
ALGORITHM = re.compile(r"undersong|session_based_\w{1,200}", re.ASCII)
Line = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Answer at the addresses of labs.api.listenbrainz.org and api.listenbrainz.org."""

    def labs(name: str, ids: str, lines: Callable[[Snapshot, str, int], list[Line]]) -> Route:
        async def answer(request: Request) -> Response:
            asked, first, end = await _asked(request, ids)
            found = await run_in_threadpool(_all, reader.current, asked, lines)
            return json(found[first:end])

        return address(f"/{name}/json", answer, methods=("GET", "POST"))

    def radio(request: Request) -> Response:
        asked: str = request.path_params["mbid"]
        try:
            return json(_radio(reader.current, asked, dict(request.query_params)))
        except DataError as error:
            return json({"code": 400, "error": str(error)}, status=400)

    return [
        labs("similar-artists", "artist_mbids", _artists),
        labs("similar-recordings", "recording_mbids", _recordings),
        address("/1/lb-radio/artist/{mbid}", radio),
    ]


async def _asked(request: Request, ids: str) -> tuple[list[tuple[str, int]], int, int]:
    """Read which ids are asked for and how many answers of each; and which lines are wanted."""
    query = request.query_params
    if request.method == "GET":
        if "count" in query or "offset" in query:
            raise HTTPException(400, "count and offset are for POST; leave them out")
        given = [x for part in query.getlist(ids) for x in part.split(",")]
        return _checked([{ids: given, "algorithm": query.get("algorithm")}], ids), 0, PAGE
    try:
        count = whole(dict(query), "count", default=LINES, most=PAGE)
        first = whole(dict(query), "offset", default=0, most=PAGE, least=0)
        return _checked(orjson.loads(await request.body()), ids), first, first + count
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is no JSON: {error}") from error


def _checked(body: object, ids: str) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []
    for one in body if isinstance(body, list) else [None]:
        sent = one if isinstance(one, dict) else {}
        given = [sent[ids]] if isinstance(sent.get(ids), str) else sent.get(ids)
        if not isinstance(given, list) or not given:
            raise HTTPException(400, f"send {ids}, a list of MusicBrainz ids")
        limit = _limit(sent.get("algorithm"))
        for mbid in given:
            if not isinstance(mbid, str) or not UUID.fullmatch(mbid):
                raise HTTPException(400, f"{str(mbid)[:40]!r} in {ids} is no MusicBrainz id")
            asked.append((mbid, limit))
    if len(asked) > TOGETHER:
        raise HTTPException(400, f"{len(asked)} ids; ask for {TOGETHER} or fewer at a time")
    return asked


def _limit(algorithm: object) -> int:
    """How many answers the name of an algorithm stands for."""
    if not isinstance(algorithm, str) or not ALGORITHM.fullmatch(algorithm):
        raise HTTPException(
            400, f"algorithm is {str(algorithm)[:40]!r}; send 'undersong' or one session_based_..."
        )
    found = re.search(r"_limit_([0-9]{1,9})(?=_|$)", algorithm)
    return min(int(found[1]), MOST) if found else MOST


def _all(
    answers: Snapshot,
    asked: list[tuple[str, int]],
    lines: Callable[[Snapshot, str, int], list[Line]],
) -> list[Line]:
    return [line for mbid, limit in asked for line in lines(answers, mbid, limit)]


def _artists(answers: Snapshot, asked: str, limit: int) -> list[Line]:
    return [
        {
            "artist_mbid": mbid,
            "name": item.name,
            "comment": item.about,
            "type": None,
            "gender": None,
            "score": score,
            "reference_mbid": asked,
        }
        for item, mbid, score in _near(answers, "artist", asked, limit)
    ]


def _recordings(answers: Snapshot, asked: str, limit: int) -> list[Line]:
    lines = []
    for item, mbid, score in _near(answers, "track", asked, limit):
        song = vocabulary.song(answers, item)
        lines.append(
            {
                "recording_mbid": mbid,
                "recording_name": item.name,
                "artist_credit_name": song.artist,
                "artist_credit_mbids": [song.artist_mbid] if song.artist_mbid else None,
                "release_name": song.album,
                "release_mbid": None,
                "caa_id": None,
                "caa_release_mbid": None,
                "score": score,
                "reference_mbid": asked,
            }
        )
    return lines


def _near(answers: Snapshot, kind: Kind, asked: str, limit: int) -> list[tuple[Item, str, int]]:
    """List what is similar and has a MusicBrainz id: the item, its id, and a whole score."""
    known = answers.of(kind).with_mbid(asked) if kind in answers.kinds else ()
    if not known:
        return []
    found = answers.similar(kind, known[0].id, Wish(k=REACH))
    near = zip(found, vocabulary.strengths(found), strict=True)
    rated = ((x.item, vocabulary.mbid(answers, x.item), round(SCORE * score)) for x, score in near)
    return [(item, mbid, score) for item, mbid, score in rated if mbid][:limit]


def _radio(answers: Snapshot, asked: str, sent: dict[str, str]) -> dict[str, list[Line]]:
    """Songs of an artist and of similar ones, by artist; the mode says how far down the list.

    An artist without songs that have a MusicBrainz id is no station, and does not count as one.
    """
    first, step = _places(asked, sent)
    window = _share(sent, "pop_begin"), _share(sent, "pop_end")
    if window[0] > window[1]:
        raise DataError("pop_begin is above pop_end; turn them round")
    most = whole(sent, "max_recordings_per_artist", default=MOST, most=MOST)
    others = whole(sent, "max_similar_artists", default=MOST, most=MOST)
    near = [(item, mbid) for item, mbid, _ in _near(answers, "artist", asked, MOST)]
    own = answers.of("artist").with_mbid(asked)[:1] if "artist" in answers.kinds else ()
    artists = [*((x, asked) for x in own), *near[first::step]]
    theirs = vocabulary.songs(answers, [x.id for x, _ in artists])
    listed = {mbid: _heard(answers, item, mbid, theirs[item.id], window) for item, mbid in artists}
    heard = {mbid: lines[:most] for mbid, lines in listed.items() if lines}
    return dict(islice(heard.items(), others + (asked in heard)))


def _places(asked: str, sent: dict[str, str]) -> tuple[int, int]:
    """Say which of the similar artists a mode means: the first, and every how many; or refuse."""
    if not UUID.fullmatch(asked):
        raise DataError(f"{asked[:40]!r} is no MusicBrainz id")
    for name in NEEDED:
        if not sent.get(name):
            raise DataError(f"{name} is missing; send {', '.join(NEEDED)}")
    if sent["mode"] not in EVERY:
        raise DataError(f"mode is {sent['mode'][:20]!r}; send {', '.join(EVERY)}")
    return EVERY[sent["mode"]]


def _heard(
    answers: Snapshot, artist: Item, mbid: str, songs: list[Item], window: tuple[float, float]
) -> list[Line]:
    """List songs between two percentiles of how well known an artist's songs are.

    The best known is at 100, the least known at 0; an only song is both, and within any window.
    """
    lines = []
    for place, song in enumerate(songs):
        percent = 100 - 100 * place / max(len(songs) - 1, 1)
        recording = vocabulary.mbid(answers, song)
        if recording and (len(songs) == 1 or window[0] <= percent <= window[1]):
            lines.append(
                {
                    "recording_mbid": recording,
                    "similar_artist_mbid": mbid,
                    "similar_artist_name": artist.name,
                    "total_listen_count": int(song.popularity or 0),
                }
            )
    return lines


def _share(sent: dict[str, str], name: str) -> float:
    try:
        share = float(sent[name])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise DataError(f"{name} is {sent[name][:20]!r}; send a number from 0 to 100")
    return share
