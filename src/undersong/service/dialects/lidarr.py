"""Lidarr, the custom list: artists to acquire, as their MusicBrainz ids."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.errors import DataError, UnknownItem
from undersong.retrieval import Query as Wish
from undersong.runs import RunReader
from undersong.service.dialects import vocabulary
from undersong.service.dialects.vocabulary import whole
from undersong.service.middleware import address
from undersong.service.responses import json
from undersong.service.snapshot import Snapshot

MOST = 200  # artists


def routes(reader: RunReader[Snapshot]) -> list[Route]:
    """Answer at ``/lidarr/similar?artist=...``: an id, a MusicBrainz id, or a name.

    Raises
    ------
    UnknownItem
        If there is no such artist: Lidarr then keeps what it had, which no empty list would do.
    """

    def listed(request: Request) -> Response:
        answers, sent = reader.current, dict(request.query_params)
        given, limit = sent.get("artist", ""), whole(sent, "limit", default=20, most=MOST)
        if not given:
            raise DataError("artist is missing; send its name, its id or its MusicBrainz id")
        artist = vocabulary.identified(answers, "artist", given)
        artist = artist or vocabulary.named(answers, "artist", given)
        if artist is None:
            raise UnknownItem(f"no artist is {given[:80]!r}; search for its name")
        found = answers.similar("artist", artist.id, Wish(k=MOST))
        ids = (vocabulary.mbid(answers, x.item) for x in found)
        return json([{"MusicBrainzId": x} for x in ids if x][:limit])

    return [address("/lidarr/similar", listed)]
