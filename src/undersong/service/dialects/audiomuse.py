"""AudioMuse: similar tracks and artists, a path, a search, for the plugins of media servers.

Distances are 1 - how similar (``meaning.strengths``), so plugins that turn them round get that.
``radius_similarity``, ``path_fix_size`` and ``mood_pct`` choose among ways to search of AudioMuse
that are not here; they change nothing.
"""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Item
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query as Wish
from undersong.runs import RunReader
from undersong.service.dialects import vocabulary
from undersong.service.dialects.vocabulary import true, whole
from undersong.service.middleware import address
from undersong.service.responses import json
from undersong.service.snapshot import Snapshot

MOST = 200  # answers
OF_ONE_ARTIST = 3  # tracks, where duplicates are to be eliminated
REPRESENTATIVE = 5  # tracks that stand for an artist
SHORTEST = 2  # characters of a search
Sent = dict[str, str]
Line = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Answer below ``/api`` where AudioMuse does; errors are those of the own API there."""

    def at(name: str, lines: Callable[[Snapshot, Sent], object]) -> Route:
        def answer(request: Request) -> Response:
            return json(lines(reader.current, dict(request.query_params)))

        return address(f"/api/{name}", answer)

    return [
        at("similar_tracks", _tracks),
        at("similar_artists", _artists),
        at("find_path", _path),
        at("search_artists", _search),
    ]


def _tracks(answers: Snapshot, sent: Sent) -> list[Line]:
    n = whole(sent, "n", default=10, most=MOST)
    asked = _track(answers, sent, "item_id") if sent.get("item_id") else _titled(answers, sent)
    facts = answers.of("track").attributes is not None
    few = OF_ONE_ARTIST if facts and true(sent, "eliminate_duplicates") else None
    found = answers.similar("track", asked.id, Wish(k=n, per_artist=few))
    if not found:
        raise UnknownItem(found.note or f"no track is similar to {asked.name!r}")
    near = zip(found, vocabulary.strengths(found), strict=True)
    return [_line(answers, one.item) | {"distance": _distance(score)} for one, score in near]


def _artists(answers: Snapshot, sent: Sent) -> list[Line]:
    n = whole(sent, "n", default=10, most=MOST)
    given = sent.get("artist_id") or sent.get("artist") or ""
    if not given:
        raise DataError("artist is missing; send its id or its name")
    asked = vocabulary.identified(answers, "artist", given) or vocabulary.named(
        answers, "artist", given
    )
    if asked is None:
        raise UnknownItem(f"no artist is {given[:80]!r}")
    found = answers.similar("artist", asked.id, Wish(k=n))
    if not found:
        raise UnknownItem(found.note or f"nobody is similar to {asked.name!r}")
    near = list(zip(found, vocabulary.strengths(found), strict=True))
    lines: list[Line] = [
        {"artist": x.item.name, "artist_id": x.item.id, "divergence": _distance(score)}
        for x, score in near
    ]
    if not true(sent, "include_component_matches"):
        return lines
    songs = vocabulary.songs(answers, [asked.id, *(x.item.id for x, _ in near)])
    shown = {
        artist: [{"item_id": x.id, "title": x.name} for x in theirs[:REPRESENTATIVE]]
        for artist, theirs in songs.items()
    }
    for line in lines:
        pair = {
            "artist1_representative_songs": shown[asked.id],
            "artist2_representative_songs": shown[line["artist_id"]],
        }
        line["component_matches"] = [pair]
    return lines


def _path(answers: Snapshot, sent: Sent) -> Line:
    most = whole(sent, "max_steps", default=25, most=MOST)
    start, end = (_track(answers, sent, x) for x in ("start_song_id", "end_song_id"))
    if most < 2:
        raise DataError(f"max_steps is {most}; a path has 2 tracks or more")
    way = answers.path("track", start.id, end.id, steps=most - 1)
    if not way:
        raise UnknownItem(way.note)
    distance = sum(1 - x.similarity for x in way if x.similarity is not None)
    return {
        "path": [_line(answers, x.item) for x in way],
        "total_distance": round(max(distance, 0.0), 6),
    }


def _search(answers: Snapshot, sent: Sent) -> list[Line]:
    query = sent.get("query", "").strip()
    if len(query) < SHORTEST or "artist" not in answers.kinds:
        return []
    start = whole(sent, "start", default=0, most=MOST, least=0)
    end = whole(sent, "end", default=20, most=MOST)
    found = answers.of("artist").names.suggest(query, limit=end)[start:]
    songs = vocabulary.songs(answers, [x.id for x in found])
    return [{"artist": x.name, "artist_id": x.id, "track_count": len(songs[x.id])} for x in found]


def _track(answers: Snapshot, sent: Sent, name: str) -> Item:
    given = sent.get(name, "")
    if not given:
        raise DataError(f"{name} is missing; send the id of a track")
    found = vocabulary.identified(answers, "track", given)
    if found is None:
        raise UnknownItem(f"no track has the id {given[:80]!r}")
    return found


def _titled(answers: Snapshot, sent: Sent) -> Item:
    title, artist = sent.get("title", ""), sent.get("artist", "")
    if not title or not artist:
        raise DataError("send item_id, or title and artist")
    found = vocabulary.titled(answers, title, artist=artist)
    if found is None:
        raise UnknownItem(f"no track is {title[:80]!r} by {artist[:80]!r}")
    return found


def _line(answers: Snapshot, track: Item) -> Line:
    song = vocabulary.song(answers, track)
    return {
        "item_id": track.id,
        "title": track.name,
        "author": song.artist,
        "album": song.album or "",
    }


def _distance(strength: float) -> float:
    return round(1 - strength, 6)
