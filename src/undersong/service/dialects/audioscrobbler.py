"""Last.fm 2.0, its read part: ``artist.getSimilar`` and ``track.getSimilar``, in XML and JSON.

One address takes a query, a form, or both. Clients show the service's token as ``api_key``. Names
are found whatever their case and accents, with ``autocorrect`` or without; nothing is guessed.
"""

from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query as Wish
from undersong.runs import RunReader
from undersong.service import responses
from undersong.service.dialects import vocabulary
from undersong.service.dialects.vocabulary import parameters, whole, xml
from undersong.service.middleware import SHOWN, address, fits
from undersong.service.snapshot import Snapshot

MOST = 100  # answers, as Last.fm gives; without a limit as many tracks
FEW = 30  # artists without a limit
SIZES = ("small", "medium", "large", "extralarge", "mega", "")
FAILED, METHOD, FORMAT, KEY = 6, 3, 5, 10  # codes of errors
STATUSES = {FAILED: 200, METHOD: 400, FORMAT: 400, KEY: 403}
Content = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Answer at ``/2.0`` and ``/2.0/``."""

    async def answer(request: Request) -> Response:
        sent = await parameters(request)
        token = request.app.state.settings.token
        shown = (sent.get("api_key"), request.scope.get(SHOWN))
        if token is not None and not any(fits(token, x) for x in shown):
            return _failure(sent, KEY, "Invalid API key: send the service's token as api_key")
        home = str(request.base_url)
        return await run_in_threadpool(_answer, reader.current, sent, home=home)

    paths = ("/2.0", "/2.0/")
    return [address(x, answer, methods=("GET", "POST"), guarded=False) for x in paths]


def _answer(answers: Snapshot, sent: dict[str, str], *, home: str) -> Response:
    method = sent.get("method", "").lower()
    if sent.get("format", "xml").lower() not in ("xml", "json"):
        return _failure({}, FORMAT, "Invalid format: ask for json, or for XML without format")
    try:
        if method == "artist.getsimilar":
            return _success(sent, "similarartists", _artists(answers, sent, home=home))
        if method == "track.getsimilar":
            return _success(sent, "similartracks", _tracks(answers, sent, home=home))
    except (DataError, UnknownItem) as error:
        return _failure(sent, FAILED, str(error))
    return _failure(sent, METHOD, "Invalid method: artist.getSimilar and track.getSimilar are here")


def _artists(answers: Snapshot, sent: dict[str, str], *, home: str) -> Content:
    limit = whole(sent, "limit", default=FEW, most=MOST)
    if not sent.get("artist") and not sent.get("mbid"):
        raise DataError("Invalid parameters: send artist or mbid")
    asked = vocabulary.identified(answers, "artist", sent.get("mbid", ""))
    asked = asked or vocabulary.named(answers, "artist", sent.get("artist", ""))
    if asked is None:
        raise UnknownItem("The artist you supplied could not be found")
    found = answers.similar("artist", asked.id, Wish(k=limit))
    artists = []
    for one, match in zip(found, _matches(vocabulary.strengths(found)), strict=True):
        artists.append(
            {
                "name": one.item.name,
                **_identity(vocabulary.mbid(answers, one.item)),
                "match": f"{match:.6g}",
                "url": _address(home, "artist", one.item.id),
                "image": _images(),
                "streamable": "0",
            }
        )
    return {"artist": artists, "@attr": {"artist": asked.name}}


def _tracks(answers: Snapshot, sent: dict[str, str], *, home: str) -> Content:
    limit = whole(sent, "limit", default=MOST, most=MOST)
    artist, title = sent.get("artist", ""), sent.get("track", "")
    if not (artist and title) and not sent.get("mbid"):
        raise DataError("Invalid parameters: send artist and track, or mbid")
    asked = vocabulary.identified(answers, "track", sent.get("mbid", ""))
    asked = asked or vocabulary.titled(answers, title, artist=artist)
    if asked is None:
        return {"track": [], "@attr": {"artist": artist, "track": title}}
    found = answers.similar("track", asked.id, Wish(k=limit))
    matches = _matches(vocabulary.strengths(found))
    return {
        "track": [
            _track(vocabulary.song(answers, one.item), match, home=home)
            for one, match in zip(found, matches, strict=True)
        ],
        "@attr": {"artist": vocabulary.song(answers, asked).artist, "track": asked.name},
    }


def _track(song: vocabulary.Song, match: float, *, home: str) -> Content:
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


def _matches(strengths: list[float]) -> list[float]:
    """Scale how similar answers are so that the first is 1, as Last.fm does."""
    most = strengths[0] if strengths else 0.0
    return [round(x / most, 6) if most else 0.0 for x in strengths]


def _identity(mbid: str | None) -> dict[str, str]:
    return {"mbid": mbid} if mbid else {}


def _address(home: str, kind: str, item: str | None) -> str:
    """Where the page shows an item."""
    return f"{home}?{kind}={quote(item, safe='')}" if item else ""


def _images() -> list[dict[str, str]]:
    """Pictures in all sizes that clients look for: no address, since there are none here."""
    return [{"#text": "", "size": size} for size in SIZES]


def _success(sent: dict[str, str], name: str, content: Content) -> Response:
    if _wants_json(sent):
        return responses.json({name: content})
    root = Element("lfm", status="ok")
    _append(root, name, content)
    return xml(root)


def _failure(sent: dict[str, str], code: int, text: str) -> Response:
    status = STATUSES[code]
    if _wants_json(sent):
        return responses.json({"error": code, "message": text, "links": []}, status=status)
    root = Element("lfm", status="failed")
    SubElement(root, "error", code=str(code)).text = text
    return xml(root, status=status)


def _wants_json(sent: dict[str, str]) -> bool:
    return sent.get("format", "").lower() == "json"


def _append(parent: Element, name: str, content: object) -> None:
    """Say in XML what Last.fm says in JSON: beside a text, and in ``@attr``, stand attributes."""
    if isinstance(content, list):
        for one in content:
            _append(parent, name, one)
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
