"""OpenSubsonic: similar artists and songs for players, with the extension ``sonicSimilarity``.

Every endpoint is below ``/rest``, with and without ``.view``, and takes queries and forms. The
password of every user is the service's token; without a token none is needed. The whole catalogue
counts as present in the library, so ``includeNotPresent`` changes nothing.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong import __version__
from undersong.catalogue import Item, Kind
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query
from undersong.runs import RunReader
from undersong.service import middleware
from undersong.service.dialects import messages
from undersong.service.dialects.messages import Parameters, integer, read_parameters, xml
from undersong.service.middleware import SHOWN, address, fits
from undersong.service.snapshot import Snapshot

if TYPE_CHECKING:
    from undersong.service.dialects.upstream import Upstream

VERSION = "1.16.1"  # of the Subsonic API
NAMESPACE = "http://subsonic.org/restapi"
MOST = 500  # songs or artists of one reply
GENERIC, MISSING, WRONG, CONFLICT, KEY, NOT_FOUND = 0, 10, 40, 43, 44, 70
SONIC = "sonicSimilarity"
# In XML the values of these are elements of their own; all others are attributes.
WITH_ELEMENTS = ("artistInfo", "artistInfo2")
Content = dict[str, Any]
# What is answered here where a media server is behind; it answers all else.
OURS = frozenset(
    (
        *("getSimilarSongs", "getSimilarSongs2", "getArtistInfo", "getArtistInfo2"),
        *("getSonicSimilarTracks", "findSonicPath", "getOpenSubsonicExtensions"),
    )
)


class RequestRefused(Exception):
    """A request that is answered with an error code of Subsonic."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Return the endpoints below ``/rest``."""

    async def answer(request: Request) -> Response:
        name: str = request.path_params["name"]
        parameters = await read_parameters(request)
        if upstream := request.app.state.upstream:
            return await _beside(upstream, reader.current, request, name, parameters)
        token, bearer = request.app.state.settings.token, request.scope.get(SHOWN)
        try:
            if token is not None and name != "getOpenSubsonicExtensions":
                _check(token, parameters, bearer)
            content = await run_in_threadpool(_answer, reader.current, name, parameters)
        except RequestRefused as error:
            return _failure(parameters, error.code, str(error))
        except (DataError, UnknownItem) as error:
            code = GENERIC if isinstance(error, DataError) else NOT_FOUND
            return _failure(parameters, code, str(error))
        if content is None:
            text = f"this service has no {name[:40]!r} for this catalogue"
            return _failure(parameters, GENERIC, text, status=404)
        return _reply(parameters, content)

    paths = ("/rest/{name}.view", "/rest/{name}")
    return [address(x, answer, methods=("GET", "POST"), guarded=False) for x in paths]


async def _beside(
    upstream: "Upstream",
    snapshot: Snapshot,
    request: Request,
    name: str,
    parameters: dict[str, str],
) -> Response:
    """Answer what only undersong knows, for whom the server lets in; it answers all else."""
    if not name.isalnum():
        return _failure(parameters, GENERIC, "there is no such request", status=404)
    open_to_all = name == "getOpenSubsonicExtensions"
    if name in OURS and (open_to_all or await upstream.admits(parameters)):
        with suppress(RequestRefused, DataError, UnknownItem):  # the server may know what we do not
            meant = parameters | await _meant(upstream, snapshot, parameters)
            content = await run_in_threadpool(_answer, snapshot, name, meant)
            if content is not None:
                return _reply(parameters, await upstream.complete(content, parameters))
    return await upstream.pass_on(request)


async def _meant(
    upstream: "Upstream", snapshot: Snapshot, parameters: Parameters
) -> dict[str, str]:
    """Find what we know in the place of an id that only the server knows.

    A copy of a song, or one that came today, is the song of that title and artist; an album is the
    first of its songs that we know.
    """
    item_id = parameters.get("id", "")
    if not item_id or any(messages.by_id(snapshot, kind, item_id) for kind in snapshot.kinds):
        return {}
    for title, artist, song in await upstream.songs_of(item_id, parameters):
        item = messages.by_id(snapshot, "track", song)
        if item := item or messages.by_title(snapshot, title, artist=artist):
            return {"id": item.id}
    return {}


def _check(token: str, parameters: Parameters, bearer: str | None) -> None:
    """Check that a client sends the token: as key, salted hash, password, or bearer token."""
    if "apiKey" in parameters and "u" in parameters:
        raise RequestRefused(CONFLICT, "send either apiKey or u, not both")
    if "apiKey" in parameters:
        valid, code = fits(token, parameters["apiKey"]), KEY
    elif "t" in parameters and "s" in parameters:
        # The protocol requires md5; the token is long and random, so its hash reveals nothing.
        salted = hashlib.md5((token + parameters["s"]).encode(), usedforsecurity=False)
        valid, code = fits(salted.hexdigest(), parameters["t"].lower()), WRONG
    elif "p" in parameters:
        valid, code = fits(token, _password(parameters["p"])), WRONG
    else:
        valid, code = fits(token, bearer), MISSING
    if not valid:
        raise RequestRefused(
            code, "send the service's token: as apiKey, or as the password of any user"
        )


def _password(text: str) -> str | None:
    if not text.startswith("enc:"):
        return text
    try:
        return bytes.fromhex(text[4:]).decode()
    except ValueError:
        return None


def _answer(snapshot: Snapshot, name: str, parameters: Parameters) -> Content | None:
    """Return the reply of an endpoint; None if this service or catalogue does not have it."""
    endpoints: dict[str, Callable[[Snapshot, Parameters], Content]] = {
        "ping": lambda snapshot, parameters: {},
        "getLicense": lambda snapshot, parameters: {"license": {"valid": True}},
        "getOpenSubsonicExtensions": _extensions,
        "getSimilarSongs": _similar_songs,
        "getSimilarSongs2": _similar_songs2,
        "getArtistInfo": lambda snapshot, parameters: {"artistInfo": _info(snapshot, parameters)},
        "getArtistInfo2": lambda snapshot, parameters: {"artistInfo2": _info(snapshot, parameters)},
        "getTopSongs": _top_songs,
    }
    if _has_tracks(snapshot):
        endpoints |= {"getSonicSimilarTracks": _sonic_similar, "findSonicPath": _sonic_path}
    if parameters.get("f", "xml") not in ("xml", "json"):
        raise RequestRefused(GENERIC, "this service speaks f=xml and f=json")
    return endpoints[name](snapshot, parameters) if name in endpoints else None


def _extensions(snapshot: Snapshot, parameters: Parameters) -> Content:
    names = ["apiKeyAuthentication", "formPost", "topSongsByArtistId"]
    names += [SONIC] if _has_tracks(snapshot) else []
    return {"openSubsonicExtensions": [{"name": x, "versions": [1]} for x in names]}


def _similar_songs(snapshot: Snapshot, parameters: Parameters) -> Content:
    """Return songs like the one, or the album's best known, or of the artist and similar ones."""
    item_id, count = _id(parameters), integer(parameters, "count", default=50, most=MOST)
    item = _artist_or_track(snapshot, item_id)
    if item.kind == "artist":
        return {"similarSongs": {"song": _songs(snapshot, item, count)}}
    neighbours = snapshot.similar("track", item.id, Query(k=count))
    return {"similarSongs": {"song": [_child(snapshot, x.item) for x in neighbours]}}


def _similar_songs2(snapshot: Snapshot, parameters: Parameters) -> Content:
    count = integer(parameters, "count", default=50, most=MOST)
    return {
        "similarSongs2": {"song": _songs(snapshot, _item(snapshot, "artist", parameters), count)}
    }


def _songs(snapshot: Snapshot, artist: Item, count: int) -> list[Content]:
    return [_child(snapshot, x) for x in messages.radio(snapshot, artist, count=count)]


def _info(snapshot: Snapshot, parameters: Parameters) -> Content:
    """Return the artist, or the one of a song, and who is similar."""
    item_id, count = _id(parameters), integer(parameters, "count", default=20, most=MOST)
    item = _artist_or_track(snapshot, item_id)
    artist_id = item.id if item.kind == "artist" else messages.song(snapshot, item).artist_id
    artist = messages.by_id(snapshot, "artist", artist_id or "")
    if artist is None:
        raise _unknown(item_id)
    neighbours = snapshot.similar("artist", artist.id, Query(k=count))
    return {
        **_identity(messages.mbid(snapshot, artist)),
        "similarArtist": [
            {"id": x.item.id, "name": x.item.name, **_identity(messages.mbid(snapshot, x.item))}
            for x in neighbours
        ],
    }


def _top_songs(snapshot: Snapshot, parameters: Parameters) -> Content:
    """Return the best known songs of an artist, by name or by id; of an unknown name none."""
    count = integer(parameters, "count", default=50, most=MOST)
    if parameters.get("id"):
        artist: Item | None = _item(snapshot, "artist", parameters)
    elif parameters.get("artist"):
        artist = messages.by_name(snapshot, "artist", parameters["artist"])
    else:
        raise RequestRefused(MISSING, "send artist, the name of one, or id")
    songs = messages.songs(snapshot, [artist.id])[artist.id] if artist else []
    return {"topSongs": {"song": [_child(snapshot, x) for x in songs[:count]]}}


def _sonic_similar(snapshot: Snapshot, parameters: Parameters) -> Content:
    count = integer(parameters, "count", default=10, most=MOST)
    track = _item(snapshot, "track", parameters)
    neighbours = snapshot.similar("track", track.id, Query(k=count))
    return {"sonicMatch": [_match(snapshot, *x) for x in messages.scored(neighbours)]}


def _sonic_path(snapshot: Snapshot, parameters: Parameters) -> Content:
    """Return a path between two songs, both included; similarity is to the song before."""
    count = integer(parameters, "count", default=25, most=MOST)
    start, end = (_item(snapshot, "track", parameters, x) for x in ("startSongId", "endSongId"))
    if start.id != end.id and count < 2:
        raise DataError(f"count is {count}; a path between two songs has 2 or more")
    path = snapshot.path("track", start.id, end.id, steps=max(count - 1, 1))
    # -1 is the extension's value for a song without one before it.
    scores = [-1.0 if x.similarity is None else min(max(x.similarity, 0.0), 1.0) for x in path]
    return {"sonicMatch": [_match(snapshot, x.item, y) for x, y in zip(path, scores, strict=True)]}


def _has_tracks(snapshot: Snapshot) -> bool:
    tracks = snapshot.kinds.get("track")
    return tracks is not None and bool(tracks.ids)


def _item(snapshot: Snapshot, kind: Kind, parameters: Parameters, name: str = "id") -> Item:
    item_id = _id(parameters, name)
    item = messages.by_id(snapshot, kind, item_id)
    if item is None:
        raise _unknown(item_id, "song" if kind == "track" else kind)
    return item


def _artist_or_track(snapshot: Snapshot, item_id: str) -> Item:
    """Return the artist or the track with an id, or the best known track of an album."""
    item = messages.by_id(snapshot, "artist", item_id) or messages.by_id(snapshot, "track", item_id)
    item = item or messages.by_album(snapshot, item_id)
    if item is None:
        raise _unknown(item_id)
    return item


def _unknown(item_id: str, kind: str = "artist, album or song") -> RequestRefused:
    return RequestRefused(NOT_FOUND, f"no {kind} has the id {item_id[:80]!r}")


def _id(parameters: Parameters, name: str = "id") -> str:
    if not parameters.get(name):
        raise RequestRefused(MISSING, f"send {name}")
    return parameters[name]


def _match(snapshot: Snapshot, item: Item, similarity: float) -> Content:
    return {"entry": _child(snapshot, item), "similarity": similarity}


def _child(snapshot: Snapshot, track: Item) -> Content:
    song = messages.song(snapshot, track)
    values = {
        "album": song.album,
        "artist": song.artist,
        "artistId": song.artist_id,
        "genre": song.genres[0] if song.genres else None,
        "musicBrainzId": song.mbid,
    }
    child = {"id": track.id, "isDir": False, "title": track.name, "type": "music"}
    return child | {name: value for name, value in values.items() if value}


def _identity(mbid: str | None) -> dict[str, str]:
    return {"musicBrainzId": mbid} if mbid else {}


def _failure(parameters: Parameters, code: int, text: str, *, status: int = 200) -> Response:
    error = {"code": code, "message": text}
    return _reply(parameters, {"error": error}, outcome="failed", status=status)


def _reply(
    parameters: Parameters, content: Content, *, outcome: str = "ok", status: int = 200
) -> Response:
    envelope = {
        "status": outcome,
        "version": VERSION,
        "type": "undersong",
        "serverVersion": __version__,
        "openSubsonic": True,
    }
    if parameters.get("f") == "json":
        return middleware.json({"subsonic-response": envelope | content}, status=status)
    root = Element("subsonic-response", xmlns=NAMESPACE)
    _fill(root, envelope | content)
    return xml(root, status=status)


def _fill(element: Element, content: Content) -> None:
    """Fill an element with Subsonic's JSON: lists become elements, plain values attributes."""
    for name, value in content.items():
        for x in value if isinstance(value, list) else [value]:
            if isinstance(x, dict):
                _fill(SubElement(element, name), x)
            elif isinstance(value, list) or element.tag in WITH_ELEMENTS:
                SubElement(element, name).text = _text(x)
            else:
                element.set(name, _text(x))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
