"""OpenSubsonic: similar artists and songs for players, with the extension ``sonicSimilarity``.

Every endpoint stands below ``/rest``, with and without ``.view``, for queries and forms. The
password of every user is the service's token; without a token nobody is asked for one. The whole
catalogue counts as present in the library, so ``includeNotPresent`` changes nothing.
"""

import hashlib
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong import __version__
from undersong.catalogue import Item, Kind
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query as Wish
from undersong.runs import RunReader
from undersong.service import responses
from undersong.service.dialects import vocabulary
from undersong.service.dialects.vocabulary import parameters, whole, xml
from undersong.service.middleware import SHOWN, address, fits
from undersong.service.snapshot import Snapshot

VERSION = "1.16.1"  # of the Subsonic API
NAMESPACE = "http://subsonic.org/restapi"
MOST = 500  # songs or artists of one reply
GENERIC, MISSING, WRONG, CONFLICT, KEY, NOT_FOUND = 0, 10, 40, 43, 44, 70
SONIC = "sonicSimilarity"
# In XML what these hold stands in elements of its own, else in attributes.
SPELT_OUT = ("artistInfo", "artistInfo2")
Content = dict[str, Any]
Sent = dict[str, str]


class Refused(Exception):
    """A request that is answered with an error code of Subsonic."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Answer below ``/rest``."""

    async def answer(request: Request) -> Response:
        name: str = request.path_params["name"]
        sent = await parameters(request)
        token, shown = request.app.state.settings.token, request.scope.get(SHOWN)
        try:
            if token is not None and name != "getOpenSubsonicExtensions":
                _check(token, sent, shown)
            content = await run_in_threadpool(_answer, reader.current, name, sent)
        except Refused as error:
            return _failure(sent, error.code, str(error))
        except (DataError, UnknownItem) as error:
            return _failure(
                sent, GENERIC if isinstance(error, DataError) else NOT_FOUND, str(error)
            )
        if content is None:
            text = f"this service has no {name[:40]!r} for this catalogue"
            return _failure(sent, GENERIC, text, status=404)
        return _reply(sent, "ok", content)

    paths = ("/rest/{name}.view", "/rest/{name}")
    return [address(x, answer, methods=("GET", "POST"), guarded=False) for x in paths]


def _check(token: str, sent: Sent, shown: str | None) -> None:
    """See that a client knows the token: as key, as salted hash, as password, or as it is."""
    if "apiKey" in sent and "u" in sent:
        raise Refused(CONFLICT, "send either apiKey or u, not both")
    if "apiKey" in sent:
        known, code = fits(token, sent["apiKey"]), KEY
    elif "t" in sent and "s" in sent:
        # The protocol wants md5; the token is long and random, so its hash gives nothing away.
        salted = hashlib.md5((token + sent["s"]).encode(), usedforsecurity=False)
        known, code = fits(salted.hexdigest(), sent["t"].lower()), WRONG
    elif "p" in sent:
        known, code = fits(token, _password(sent["p"])), WRONG
    else:
        known, code = fits(token, shown), MISSING
    if not known:
        raise Refused(code, "send the service's token: as apiKey, or as the password of any user")


def _password(given: str) -> str | None:
    if not given.startswith("enc:"):
        return given
    try:
        return bytes.fromhex(given[4:]).decode()
    except ValueError:
        return None


def _answer(answers: Snapshot, name: str, sent: Sent) -> Content | None:
    """Answer one endpoint; None for one that this service or catalogue does not have."""
    endpoints: dict[str, Callable[[Snapshot, Sent], Content | None]] = {
        "ping": lambda answers, sent: {},
        "getLicense": lambda answers, sent: {"license": {"valid": True}},
        "getOpenSubsonicExtensions": _extensions,
        "getSimilarSongs": _similar_songs,
        "getSimilarSongs2": _similar_songs2,
        "getArtistInfo": lambda answers, sent: {"artistInfo": _info(answers, sent)},
        "getArtistInfo2": lambda answers, sent: {"artistInfo2": _info(answers, sent)},
        "getTopSongs": _top_songs,
        "getSonicSimilarTracks": _sonic_similar,
        "findSonicPath": _sonic_path,
    }
    if sent.get("f", "xml") not in ("xml", "json"):
        raise Refused(GENERIC, "this service speaks f=xml and f=json")
    return endpoints[name](answers, sent) if name in endpoints else None


def _extensions(answers: Snapshot, sent: Sent) -> Content:
    names = ["apiKeyAuthentication", "formPost", "topSongsByArtistId"]
    names += [SONIC] if _hears(answers) else []
    return {"openSubsonicExtensions": [{"name": x, "versions": [1]} for x in names]}


def _similar_songs(answers: Snapshot, sent: Sent) -> Content:
    """Songs like the one, or the album's best known, or of the artist and similar ones."""
    given, count = _id(sent), whole(sent, "count", default=50, most=MOST)
    artist = vocabulary.identified(answers, "artist", given)
    if artist is not None:
        return {"similarSongs": {"song": _songs(answers, artist, count)}}
    track = vocabulary.identified(answers, "track", given) or vocabulary.album(answers, given)
    if track is None:
        raise Refused(NOT_FOUND, f"no artist, album or song has the id {given[:80]!r}")
    found = answers.similar("track", track.id, Wish(k=count))
    return {"similarSongs": {"song": [_child(answers, x.item) for x in found]}}


def _similar_songs2(answers: Snapshot, sent: Sent) -> Content:
    count = whole(sent, "count", default=50, most=MOST)
    return {"similarSongs2": {"song": _songs(answers, _asked(answers, "artist", sent), count)}}


def _songs(answers: Snapshot, artist: Item, count: int) -> list[Content]:
    return [_child(answers, x) for x in vocabulary.radio(answers, artist, count=count)]


def _info(answers: Snapshot, sent: Sent) -> Content:
    """The artist, or the one of a song, and who is similar."""
    given, count = _id(sent), whole(sent, "count", default=20, most=MOST)
    artist = vocabulary.identified(answers, "artist", given)
    if artist is None:
        track = vocabulary.identified(answers, "track", given) or vocabulary.album(answers, given)
        of = vocabulary.song(answers, track).artist_id if track else None
        artist = vocabulary.identified(answers, "artist", of or "")
    if artist is None:
        raise Refused(NOT_FOUND, f"no artist, album or song has the id {given[:80]!r}")
    found = answers.similar("artist", artist.id, Wish(k=count))
    return {
        **_identity(vocabulary.mbid(answers, artist)),
        "similarArtist": [
            {"id": x.item.id, "name": x.item.name, **_identity(vocabulary.mbid(answers, x.item))}
            for x in found
        ],
    }


def _top_songs(answers: Snapshot, sent: Sent) -> Content:
    """The best known songs of an artist, by name or by id; of an unknown name none."""
    count = whole(sent, "count", default=50, most=MOST)
    if sent.get("id"):
        artist: Item | None = _asked(answers, "artist", sent)
    elif sent.get("artist"):
        artist = vocabulary.named(answers, "artist", sent["artist"])
    else:
        raise Refused(MISSING, "send artist, the name of one, or id")
    theirs = vocabulary.songs(answers, [artist.id])[artist.id] if artist else []
    return {"topSongs": {"song": [_child(answers, x) for x in theirs[:count]]}}


def _sonic_similar(answers: Snapshot, sent: Sent) -> Content | None:
    if not _hears(answers):
        return None
    count = whole(sent, "count", default=10, most=MOST)
    found = answers.similar("track", _asked(answers, "track", sent).id, Wish(k=count))
    matches = zip(found, vocabulary.strengths(found), strict=True)
    return {"sonicMatch": [_match(answers, one.item, near) for one, near in matches]}


def _sonic_path(answers: Snapshot, sent: Sent) -> Content | None:
    """A way from one song to another, both ends included; similarity is to the one before."""
    if not _hears(answers):
        return None
    count = whole(sent, "count", default=25, most=MOST)
    ends = [_asked(answers, "track", sent, name) for name in ("startSongId", "endSongId")]
    if ends[0].id != ends[1].id and count < 2:
        raise DataError(f"count is {count}; a way between two songs has 2 or more")
    way = answers.path("track", ends[0].id, ends[1].id, steps=max(count - 1, 1))
    # -1 is how the extension says that there is nothing to compare with.
    nears = [-1.0 if x.similarity is None else min(max(x.similarity, 0.0), 1.0) for x in way]
    matches = zip(way, nears, strict=True)
    return {"sonicMatch": [_match(answers, one.item, near) for one, near in matches]}


def _hears(answers: Snapshot) -> bool:
    tracks = answers.kinds.get("track")
    return tracks is not None and bool(tracks.ids)


def _asked(answers: Snapshot, kind: Kind, sent: Sent, name: str = "id") -> Item:
    given = _id(sent, name)
    found = vocabulary.identified(answers, kind, given)
    if found is None:
        thing = "song" if kind == "track" else kind
        raise Refused(NOT_FOUND, f"no {thing} has the id {given[:80]!r}")
    return found


def _id(sent: Sent, name: str = "id") -> str:
    if not sent.get(name):
        raise Refused(MISSING, f"send {name}")
    return sent[name]


def _match(answers: Snapshot, item: Item, similarity: float) -> Content:
    return {"entry": _child(answers, item), "similarity": similarity}


def _child(answers: Snapshot, track: Item) -> Content:
    song = vocabulary.song(answers, track)
    known = {
        "album": song.album,
        "artist": song.artist,
        "artistId": song.artist_id,
        "genre": song.genres[0] if song.genres else None,
        "musicBrainzId": song.mbid,
    }
    child = {"id": track.id, "isDir": False, "title": track.name, "type": "music"}
    return child | {name: value for name, value in known.items() if value}


def _identity(mbid: str | None) -> dict[str, str]:
    return {"musicBrainzId": mbid} if mbid else {}


def _failure(sent: Sent, code: int, text: str, *, status: int = 200) -> Response:
    return _reply(sent, "failed", {"error": {"code": code, "message": text}}, status=status)


def _reply(sent: Sent, word: str, content: Content, *, status: int = 200) -> Response:
    envelope = {
        "status": word,
        "version": VERSION,
        "type": "undersong",
        "serverVersion": __version__,
        "openSubsonic": True,
    }
    if sent.get("f") == "json":
        return responses.json({"subsonic-response": envelope | content}, status=status)
    root = Element("subsonic-response", xmlns=NAMESPACE)
    _fill(root, envelope | content)
    return xml(root, status=status)


def _fill(element: Element, content: Content) -> None:
    """Say in XML what Subsonic says in JSON: lists as elements, one a line; words as attributes."""
    for name, value in content.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                _fill(SubElement(element, name), one)
            elif isinstance(value, list) or element.tag in SPELT_OUT:
                SubElement(element, name).text = _word(one)
            else:
                element.set(name, _word(one))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
