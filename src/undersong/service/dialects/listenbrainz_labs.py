"""ListenBrainz: similar artists and recordings as its labs return them, and radio by artist.

All ids are MusicBrainz ids, so an answer without one is left out. ``algorithm`` names a data set of
ListenBrainz there; here it may be ``undersong`` or any ``session_based_...``, of which only
``limit_N`` is used.
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
from undersong.retrieval import Query
from undersong.runs import RunReader
from undersong.service.dialects import messages
from undersong.service.dialects.messages import Parameters, integer
from undersong.service.middleware import address, json
from undersong.service.snapshot import Snapshot

MOST = 100  # answers about one id
SEARCHED = 200  # answers searched for that many with a MusicBrainz id
MOST_IDS = 100  # in one request
MOST_LINES = 1000  # of one reply
DEFAULT_LINES = 100  # of a reply to POST without a count
HIGHEST_SCORE = 10_000  # scores there are whole numbers
MODES = {"easy": (0, 2), "medium": (3, 4), "hard": (10, 10)}  # first similar artist, step
REQUIRED = ("mode", "max_similar_artists", "max_recordings_per_artist", "pop_begin", "pop_end")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
ALGORITHM = re.compile(r"undersong|session_based_\w{1,200}", re.ASCII)
Line = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Return the addresses of labs.api.listenbrainz.org and api.listenbrainz.org."""

    def labs(name: str, ids: str, lines: Callable[[Snapshot, str, int], list[Line]]) -> Route:
        async def answer(request: Request) -> Response:
            queries, first, end = await _queries(request, ids)
            replies = await run_in_threadpool(_all, reader.current, queries, lines)
            return json(replies[first:end])

        return address(f"/{name}/json", answer, methods=("GET", "POST"))

    def radio(request: Request) -> Response:
        try:
            mbid: str = request.path_params["mbid"]
            return json(_radio(reader.current, mbid, request.query_params))
        except DataError as error:
            return json({"code": 400, "error": str(error)}, status=400)

    return [
        labs("similar-artists", "artist_mbids", _artists),
        labs("similar-recordings", "recording_mbids", _recordings),
        address("/1/lb-radio/artist/{mbid}", radio),
    ]


async def _queries(request: Request, ids: str) -> tuple[list[tuple[str, int]], int, int]:
    """Read the ids with the number of answers for each, and the first and last line to return."""
    query = request.query_params
    if request.method == "GET":
        if "count" in query or "offset" in query:
            raise HTTPException(400, "count and offset are for POST; leave them out")
        mbids = [x for text in query.getlist(ids) for x in text.split(",")]
        body = [{ids: mbids, "algorithm": query.get("algorithm")}]
        return _checked(body, ids), 0, MOST_LINES
    try:
        count = integer(query, "count", default=DEFAULT_LINES, most=MOST_LINES)
        first = integer(query, "offset", default=0, most=MOST_LINES, least=0)
        return _checked(orjson.loads(await request.body()), ids), first, first + count
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is no JSON: {error}") from error


def _checked(body: object, ids: str) -> list[tuple[str, int]]:
    queries: list[tuple[str, int]] = []
    for value in body if isinstance(body, list) else [None]:
        parameters = value if isinstance(value, dict) else {}
        mbids = parameters.get(ids)
        mbids = [mbids] if isinstance(mbids, str) else mbids
        if not isinstance(mbids, list) or not mbids:
            raise HTTPException(400, f"send {ids}, a list of MusicBrainz ids")
        limit = _limit(parameters.get("algorithm"))
        for mbid in mbids:
            if not isinstance(mbid, str) or not UUID.fullmatch(mbid):
                raise HTTPException(400, f"{str(mbid)[:40]!r} in {ids} is no MusicBrainz id")
            queries.append((mbid, limit))
    if len(queries) > MOST_IDS:
        raise HTTPException(400, f"{len(queries)} ids; ask for {MOST_IDS} or fewer at a time")
    return queries


def _limit(algorithm: object) -> int:
    """Return the number of answers in the name of an algorithm."""
    if not isinstance(algorithm, str) or not ALGORITHM.fullmatch(algorithm):
        raise HTTPException(
            400, f"algorithm is {str(algorithm)[:40]!r}; send 'undersong' or one session_based_..."
        )
    limit = re.search(r"_limit_([0-9]{1,9})(?=_|$)", algorithm)
    return min(int(limit[1]), MOST) if limit else MOST


def _all(
    snapshot: Snapshot,
    queries: list[tuple[str, int]],
    lines: Callable[[Snapshot, str, int], list[Line]],
) -> list[Line]:
    return [line for mbid, limit in queries for line in lines(snapshot, mbid, limit)]


def _artists(snapshot: Snapshot, query: str, limit: int) -> list[Line]:
    return [
        {
            "artist_mbid": mbid,
            "name": item.name,
            "comment": item.about,
            "type": None,
            "gender": None,
            "score": score,
            "reference_mbid": query,
        }
        for item, mbid, score in _similar(snapshot, "artist", query, limit)
    ]


def _recordings(snapshot: Snapshot, query: str, limit: int) -> list[Line]:
    lines = []
    for item, mbid, score in _similar(snapshot, "track", query, limit):
        song = messages.song(snapshot, item)
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
                "reference_mbid": query,
            }
        )
    return lines


def _similar(snapshot: Snapshot, kind: Kind, query: str, limit: int) -> list[tuple[Item, str, int]]:
    """Return similar items that have a MusicBrainz id, with that id and a whole score."""
    items = snapshot.of(kind).with_mbid(query) if kind in snapshot.kinds else ()
    if not items:
        return []
    neighbours = snapshot.similar(kind, items[0].id, Query(k=SEARCHED))
    answers = (
        (x, messages.mbid(snapshot, x), round(HIGHEST_SCORE * similarity))
        for x, similarity in messages.scored(neighbours)
    )
    return [(x, mbid, score) for x, mbid, score in answers if mbid][:limit]


def _radio(snapshot: Snapshot, query: str, parameters: Parameters) -> dict[str, list[Line]]:
    """Return songs of an artist and of similar ones, by artist; the mode chooses the artists.

    An artist without songs that have a MusicBrainz id is left out, and is not counted.
    """
    first, step = _mode(query, parameters)
    window = _percentile(parameters, "pop_begin"), _percentile(parameters, "pop_end")
    if window[0] > window[1]:
        raise DataError("pop_begin is above pop_end; swap them")
    most = integer(parameters, "max_recordings_per_artist", default=MOST, most=MOST)
    others = integer(parameters, "max_similar_artists", default=MOST, most=MOST)
    similar = [(item, mbid) for item, mbid, _ in _similar(snapshot, "artist", query, MOST)]
    named = snapshot.of("artist").with_mbid(query)[:1] if "artist" in snapshot.kinds else ()
    artists = [*((x, query) for x in named), *similar[first::step]]
    songs = messages.songs(snapshot, [x.id for x, _ in artists])
    lines = {mbid: _songs(snapshot, item, mbid, songs[item.id], window) for item, mbid in artists}
    stations = {mbid: recordings[:most] for mbid, recordings in lines.items() if recordings}
    return dict(islice(stations.items(), others + (query in stations)))


def _mode(query: str, parameters: Parameters) -> tuple[int, int]:
    """Return the first of the similar artists that a mode takes, and its step."""
    if not UUID.fullmatch(query):
        raise DataError(f"{query[:40]!r} is no MusicBrainz id")
    for name in REQUIRED:
        if not parameters.get(name):
            raise DataError(f"{name} is missing; send {', '.join(REQUIRED)}")
    if parameters["mode"] not in MODES:
        raise DataError(f"mode is {parameters['mode'][:20]!r}; send {', '.join(MODES)}")
    return MODES[parameters["mode"]]


def _songs(
    snapshot: Snapshot, artist: Item, mbid: str, songs: list[Item], window: tuple[float, float]
) -> list[Line]:
    """Return an artist's songs between two percentiles of their popularity among them.

    The best known is at 100, the least known at 0; a single song is within any window.
    """
    lines = []
    for rank, song in enumerate(songs):
        percentile = 100 - 100 * rank / max(len(songs) - 1, 1)
        recording = messages.mbid(snapshot, song)
        if recording and (len(songs) == 1 or window[0] <= percentile <= window[1]):
            lines.append(
                {
                    "recording_mbid": recording,
                    "similar_artist_mbid": mbid,
                    "similar_artist_name": artist.name,
                    "total_listen_count": int(song.popularity or 0),
                }
            )
    return lines


def _percentile(parameters: Parameters, name: str) -> float:
    try:
        percentile = float(parameters[name])
    except ValueError:
        percentile = -1.0
    if not 0 <= percentile <= 100:
        raise DataError(f"{name} is {parameters[name][:20]!r}; send a number from 0 to 100")
    return percentile
