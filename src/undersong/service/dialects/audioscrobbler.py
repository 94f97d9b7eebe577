"""Last.fm 2.0, its read part: ``artist.getSimilar`` and ``track.getSimilar``, in XML and JSON.

One address takes a query, a form, or both. Clients send the service's token as ``api_key``. Names
are found whatever their case and accents, with ``autocorrect`` or without; nothing is guessed.
"""

from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Item
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Neighbours, Query
from undersong.runs import RunReader
from undersong.service import middleware
from undersong.service.dialects import messages
from undersong.service.dialects.messages import Parameters, integer, read_parameters, xml
from undersong.service.middleware import SHOWN, address, fits
from undersong.service.snapshot import Snapshot

MOST = 100  # answers, as Last.fm gives; without a limit as many tracks
DEFAULT_ARTISTS = 30
SIZES = ("small", "medium", "large", "extralarge", "mega", "")
FAILED, METHOD, FORMAT, KEY = 6, 3, 5, 10  # codes of errors
STATUSES = {FAILED: 200, METHOD: 400, FORMAT: 400, KEY: 403}
Content = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Return ``/2.0`` and ``/2.0/``."""

    async def answer(request: Request) -> Response:
        parameters = await read_parameters(request)
        token = request.app.state.settings.token
        tokens = (parameters.get("api_key"), request.scope.get(SHOWN))
        if token is not None and not any(fits(token, x) for x in tokens):
            return _failure(parameters, KEY, "Invalid API key: send the service's token as api_key")
        home = str(request.base_url)
        return await run_in_threadpool(_answer, reader.current, parameters, home=home)

    paths = ("/2.0", "/2.0/")
    return [address(x, answer, methods=("GET", "POST"), guarded=False) for x in paths]


def _answer(snapshot: Snapshot, parameters: Parameters, *, home: str) -> Response:
    method = parameters.get("method", "").lower()
    if parameters.get("format", "xml").lower() not in ("xml", "json"):
        return _failure({}, FORMAT, "Invalid format: ask for json, or for XML without format")
    try:
        if method == "artist.getsimilar":
            return _success(parameters, "similarartists", _artists(snapshot, parameters, home=home))
        if method == "track.getsimilar":
            return _success(parameters, "similartracks", _tracks(snapshot, parameters, home=home))
    except (DataError, UnknownItem) as error:
        return _failure(parameters, FAILED, str(error))
    return _failure(
        parameters, METHOD, "Invalid method: artist.getSimilar and track.getSimilar are here"
    )


def _artists(snapshot: Snapshot, parameters: Parameters, *, home: str) -> Content:
    limit = integer(parameters, "limit", default=DEFAULT_ARTISTS, most=MOST)
    if not parameters.get("artist") and not parameters.get("mbid"):
        raise DataError("Invalid parameters: send artist or mbid")
    artist = messages.by_id(snapshot, "artist", parameters.get("mbid", ""))
    artist = artist or messages.by_name(snapshot, "artist", parameters.get("artist", ""))
    if artist is None:
        raise UnknownItem("The artist you supplied could not be found")
    neighbours = snapshot.similar("artist", artist.id, Query(k=limit))
    artists = [
        {
            "name": x.name,
            **_identity(messages.mbid(snapshot, x)),
            "match": f"{match:.6g}",
            "url": _address(home, "artist", x.id),
            "image": _images(),
            "streamable": "0",
        }
        for x, match in _matches(neighbours)
    ]
    return {"artist": artists, "@attr": {"artist": artist.name}}


def _tracks(snapshot: Snapshot, parameters: Parameters, *, home: str) -> Content:
    limit = integer(parameters, "limit", default=MOST, most=MOST)
    artist, title = parameters.get("artist", ""), parameters.get("track", "")
    if not (artist and title) and not parameters.get("mbid"):
        raise DataError("Invalid parameters: send artist and track, or mbid")
    track = messages.by_id(snapshot, "track", parameters.get("mbid", ""))
    track = track or messages.by_title(snapshot, title, artist=artist)
    if track is None:
        return {"track": [], "@attr": {"artist": artist, "track": title}}
    neighbours = snapshot.similar("track", track.id, Query(k=limit))
    return {
        "track": [
            _track(messages.song(snapshot, x), match, home=home)
            for x, match in _matches(neighbours)
        ],
        "@attr": {"artist": messages.song(snapshot, track).artist, "track": track.name},
    }


def _track(song: messages.ServedSong, match: float, *, home: str) -> Content:
    # Clients read the first name as the title and the second as the artist: the order counts.
    return {
        "name": song.item.name,
        "playcount": int(song.item.popularity or 0),
        **_identity(song.mbid),
        "match": match,
        "url": _address(home, "track", song.item.id),
        "streamable": {"#text": "0", "fulltrack": "0"},
        "duration": 0,
        "artist": {
            "name": song.artist,
            **_identity(song.artist_mbid),
            "url": _address(home, "artist", song.artist_id),
        },
        "image": _images(),
    }


def _matches(neighbours: Neighbours) -> list[tuple[Item, float]]:
    """Return answers with similarities scaled so that the first is 1, as Last.fm does."""
    scored = messages.scored(neighbours)
    return [(x, round(y / scored[0][1], 6) if scored[0][1] else 0.0) for x, y in scored]


def _identity(mbid: str | None) -> dict[str, str]:
    return {"mbid": mbid} if mbid else {}


def _address(home: str, kind: str, item: str | None) -> str:
    """Return where the page shows an item."""
    return f"{home}?{kind}={quote(item, safe='')}" if item else ""


def _images() -> list[dict[str, str]]:
    """Return all sizes that clients look for, without an address: there are no pictures here."""
    return [{"#text": "", "size": size} for size in SIZES]


def _success(parameters: Parameters, name: str, content: Content) -> Response:
    if _wants_json(parameters):
        return middleware.json({name: content})
    root = Element("lfm", status="ok")
    _append(root, name, content)
    return xml(root)


def _failure(parameters: Parameters, code: int, text: str) -> Response:
    status = STATUSES[code]
    if _wants_json(parameters):
        return middleware.json({"error": code, "message": text, "links": []}, status=status)
    root = Element("lfm", status="failed")
    SubElement(root, "error", code=str(code)).text = text
    return xml(root, status=status)


def _wants_json(parameters: Parameters) -> bool:
    return parameters.get("format", "").lower() == "json"


def _append(parent: Element, name: str, content: object) -> None:
    """Append Last.fm's JSON as XML: values beside ``#text``, and in ``@attr``, are attributes."""
    if isinstance(content, list):
        for value in content:
            _append(parent, name, value)
        return
    child = SubElement(parent, name)
    if not isinstance(content, dict):
        child.text = str(content)
        return
    texts = {k: v for k, v in content.items() if k != "#text"} if "#text" in content else {}
    child.attrib.update(texts or content.get("@attr", {}))
    child.text = content.get("#text")
    for key, value in content.items():
        if key not in texts and key not in ("#text", "@attr"):
            _append(child, key, value)
