"""Lidarr, the custom list: artists to acquire, as their MusicBrainz ids."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query
from undersong.runs import RunReader
from undersong.service.dialects import messages
from undersong.service.dialects.messages import integer
from undersong.service.middleware import address, json
from undersong.service.snapshot import Snapshot

MOST = 200  # artists


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Return ``/lidarr/similar?artist=...``, which takes an id, a MusicBrainz id, or a name.

    Raises
    ------
    UnknownItem
        If there is no such artist: Lidarr then keeps its list, which an empty reply would clear.
    """

    def answer(request: Request) -> Response:
        snapshot, parameters = reader.current, request.query_params
        text = parameters.get("artist", "")
        limit = integer(parameters, "limit", default=20, most=MOST)
        if not text:
            raise DataError("artist is missing; send its name, its id or its MusicBrainz id")
        artist = messages.by_id(snapshot, "artist", text) or messages.by_name(
            snapshot, "artist", text
        )
        if artist is None:
            raise UnknownItem(f"no artist is {text[:80]!r}; search for its name")
        neighbours = snapshot.similar("artist", artist.id, Query(k=MOST))
        ids = (messages.mbid(snapshot, x.item) for x in neighbours)
        return json([{"MusicBrainzId": x} for x in ids if x][:limit])

    return [address("/lidarr/similar", answer)]
