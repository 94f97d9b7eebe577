"""AudioMuse: similar tracks and artists, a path, a search, for the plugins of media servers.

A distance is 1 - similarity (``lookup.scored``), so plugins that convert it back get that.
``radius_similarity``, ``path_fix_size`` and ``mood_pct`` choose among search methods of AudioMuse
that do not exist here; they change nothing.
"""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Item
from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query
from undersong.runs import RunReader
from undersong.service.dialects import messages
from undersong.service.dialects.messages import Parameters, integer, switched_on
from undersong.service.middleware import address, json
from undersong.service.snapshot import Snapshot

MOST = 200  # answers
TRACKS_PER_ARTIST = 3  # where duplicates are to be eliminated
REPRESENTATIVE = 5  # tracks that stand for an artist
SHORTEST = 2  # characters of a search
Line = dict[str, Any]


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Return the addresses of AudioMuse below ``/api``; errors are those of the own API there."""

    def route(name: str, lines: Callable[[Snapshot, Parameters], object]) -> Route:
        def answer(request: Request) -> Response:
            return json(lines(reader.current, request.query_params))

        return address(f"/api/{name}", answer)

    return [
        route("similar_tracks", _tracks),
        route("similar_artists", _artists),
        route("find_path", _path),
        route("search_artists", _search),
    ]


def _tracks(snapshot: Snapshot, parameters: Parameters) -> list[Line]:
    n = integer(parameters, "n", default=10, most=MOST)
    by_id = bool(parameters.get("item_id"))
    track = _track(snapshot, parameters, "item_id") if by_id else _titled(snapshot, parameters)
    artists_known = snapshot.of("track").attributes is not None
    unique = artists_known and switched_on(parameters, "eliminate_duplicates")
    query = Query(k=n, per_artist=TRACKS_PER_ARTIST if unique else None)
    neighbours = snapshot.similar("track", track.id, query)
    if not neighbours:
        raise UnknownItem(neighbours.note or f"no track is similar to {track.name!r}")
    return [
        _line(snapshot, x) | {"distance": _distance(similarity)}
        for x, similarity in messages.scored(neighbours)
    ]


def _artists(snapshot: Snapshot, parameters: Parameters) -> list[Line]:
    n = integer(parameters, "n", default=10, most=MOST)
    text = parameters.get("artist_id") or parameters.get("artist") or ""
    if not text:
        raise DataError("artist is missing; send its id or its name")
    artist = messages.by_id(snapshot, "artist", text) or messages.by_name(snapshot, "artist", text)
    if artist is None:
        raise UnknownItem(f"no artist is {text[:80]!r}")
    neighbours = snapshot.similar("artist", artist.id, Query(k=n))
    if not neighbours:
        raise UnknownItem(neighbours.note or f"nobody is similar to {artist.name!r}")
    lines: list[Line] = [
        {"artist": x.name, "artist_id": x.id, "divergence": _distance(similarity)}
        for x, similarity in messages.scored(neighbours)
    ]
    if not switched_on(parameters, "include_component_matches"):
        return lines
    songs = {
        artist_id: [{"item_id": x.id, "title": x.name} for x in tracks[:REPRESENTATIVE]]
        for artist_id, tracks in messages.songs(snapshot, [artist.id, *neighbours.ids]).items()
    }
    for line in lines:
        pair = {
            "artist1_representative_songs": songs[artist.id],
            "artist2_representative_songs": songs[line["artist_id"]],
        }
        line["component_matches"] = [pair]
    return lines


def _path(snapshot: Snapshot, parameters: Parameters) -> Line:
    most = integer(parameters, "max_steps", default=25, most=MOST)
    start, end = (_track(snapshot, parameters, x) for x in ("start_song_id", "end_song_id"))
    if most < 2:
        raise DataError(f"max_steps is {most}; a path has 2 tracks or more")
    path = snapshot.path("track", start.id, end.id, steps=most - 1)
    if not path:
        raise UnknownItem(path.note)
    distance = sum(1 - x.similarity for x in path if x.similarity is not None)
    return {
        "path": [_line(snapshot, x.item) for x in path],
        "total_distance": round(max(distance, 0.0), 6),
    }


def _search(snapshot: Snapshot, parameters: Parameters) -> list[Line]:
    text = parameters.get("query", "").strip()
    if len(text) < SHORTEST or "artist" not in snapshot.kinds:
        return []
    start = integer(parameters, "start", default=0, most=MOST, least=0)
    end = integer(parameters, "end", default=20, most=MOST)
    artists = snapshot.of("artist").names.suggest(text, limit=end)[start:]
    songs = messages.songs(snapshot, [x.id for x in artists])
    return [{"artist": x.name, "artist_id": x.id, "track_count": len(songs[x.id])} for x in artists]


def _track(snapshot: Snapshot, parameters: Parameters, name: str) -> Item:
    text = parameters.get(name, "")
    if not text:
        raise DataError(f"{name} is missing; send the id of a track")
    track = messages.by_id(snapshot, "track", text)
    if track is None:
        raise UnknownItem(f"no track has the id {text[:80]!r}")
    return track


def _titled(snapshot: Snapshot, parameters: Parameters) -> Item:
    title, artist = parameters.get("title", ""), parameters.get("artist", "")
    if not title or not artist:
        raise DataError("send item_id, or title and artist")
    track = messages.by_title(snapshot, title, artist=artist)
    if track is None:
        raise UnknownItem(f"no track is {title[:80]!r} by {artist[:80]!r}")
    return track


def _line(snapshot: Snapshot, track: Item) -> Line:
    song = messages.song(snapshot, track)
    return {
        "item_id": track.id,
        "title": track.name,
        "author": song.artist,
        "album": song.album or "",
    }


def _distance(similarity: float) -> float:
    return round(1 - similarity, 6)
