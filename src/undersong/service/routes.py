"""The service's own API as one table: each address, its parameters, its reply, what answers it.

Starlette's routes and the OpenAPI document (``service.openapi``) both come from ``OPERATIONS``.
Each handler reads the current snapshot once, so no reply mixes two versions.
"""

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from undersong.catalogue import Item, suggest
from undersong.errors import ArtifactError, DataError
from undersong.explanation.reasons import Reasons, shared
from undersong.io.files import read_json
from undersong.model import make_query
from undersong.retrieval import Neighbour, Neighbours, Query
from undersong.retrieval.filters import NO_FACTS
from undersong.runs import RunReader
from undersong.service.middleware import Answer, address, json
from undersong.service.options import BODY, QUESTION, UPLOAD, UPLOADS
from undersong.service.page import Media, map_reply
from undersong.service.schemas import (
    Chain,
    CommonShape,
    DescribedQuery,
    ExplainQuery,
    Explanation,
    Genres,
    Health,
    Listed,
    ListQuery,
    MapShape,
    OfKind,
    OneItem,
    OneQuery,
    Parameters,
    PathQuery,
    PlaylistQuery,
    Ready,
    RecommendQuery,
    RefreshShape,
    Regions,
    Similar,
    SimilarQuery,
    SoundQuery,
    Status,
    Suggestions,
    SuggestQuery,
    read,
    read_body,
)
from undersong.service.snapshot import Snapshot

# A file is written once, where it is heard; until then so much of it is in memory.
REFRESHED = "refresh.json"  # on a shelf that `undersong refresh` publishes to
MultiPartParser.spool_max_size = UPLOAD + BODY


@dataclass(frozen=True)
class Service:
    """What handlers answer with: the current snapshot, media, and turns to hear an upload."""

    reader: RunReader[Snapshot]
    media: Media | None
    uploads: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(UPLOADS))

    @property
    def snapshot(self) -> Snapshot:
        """The version in use."""
        return self.reader.current


@dataclass(frozen=True)
class Operation:
    """One question of the API.

    Parameters
    ----------
    path : as Starlette reads it
    parameters : of the address and the query; None where none are read
    reply : shape of a good reply in JSON; or the media type of another one
    handler : takes the service, the request and its parameters; one that is no coroutine may take
        its time, and does so in a thread
    errors : further statuses and what they mean
    file : whether an audio file is sent by POST
    body : whether the parameters are sent by POST, as JSON
    guarded : whether a client must show the service's token, if it has one
    """

    path: str
    parameters: type[Parameters] | None
    reply: type[BaseModel] | str
    handler: Callable[[Service, Request, Any], Response | Awaitable[Response]]
    summary: str
    errors: Mapping[int, str] = field(default_factory=dict)
    file: bool = False
    body: bool = False
    guarded: bool = True


def routes(reader: RunReader[Snapshot], *, media: Media | None) -> list[Route]:
    """Make the routes of the API."""
    service = Service(reader, media)
    table = [
        address(
            x.path,
            _answer(x, service),
            methods=["POST"] if x.file or x.body else ["GET"],
            guarded=x.guarded,
        )
        for x in OPERATIONS
    ]
    return [*table, address(SOUNDS_LIKE, _without_file)]


def _answer(operation: Operation, service: Service) -> Answer:
    handler: Any = operation.handler

    def parameters(request: Request) -> Parameters | None:
        return read(operation.parameters, request) if operation.parameters else None

    async def quick(request: Request) -> Response:
        response: Response = await handler(service, request, parameters(request))
        return response

    def slow(request: Request) -> Response:
        response: Response = handler(service, request, parameters(request))
        return response

    async def posted(request: Request) -> Response:
        asked = read_body(operation.parameters or Parameters, await request.body())
        response: Response = await run_in_threadpool(handler, service, request, asked)
        return response

    if operation.body:
        return posted
    return quick if iscoroutinefunction(handler) else slow


async def _similar(service: Service, request: Request, query: SimilarQuery) -> Response:
    snapshot, wanted = service.snapshot, query.query()
    if not query.reasons and not query.also and not query.unlike:
        listed = snapshot.look_up(query.kind, query.id, wanted)
        if listed is not None:
            return _neighbours(snapshot, listed.queries[0], listed, media=service.media)
    return await run_in_threadpool(_searched, snapshot, query, wanted, service.media)


def _searched(
    snapshot: Snapshot, query: SimilarQuery, wanted: Query, media: Media | None
) -> Response:
    if wanted.asks_facts and snapshot.of(query.kind).attributes is None:
        raise DataError(NO_FACTS)
    if query.also and query.reasons:
        raise DataError(
            "reasons are between two items; leave reasons or also out, or use /api/explain for an "
            "answer and one of its seeds"
        )
    if query.unlike:
        away, seeds = (
            [x.id for x in snapshot.items(query.kind, ids, wanted)]
            for ids in (query.unlike, (query.id, *query.also))
        )
        wanted = snapshot.of(query.kind).away_from(away, seeds, wanted)
    if query.also:
        neighbours = snapshot.agreed(query.kind, (query.id, *query.also), wanted)
        item, *also = neighbours.queries
        return _neighbours(snapshot, item, neighbours, also=also, media=media)
    neighbours = snapshot.similar(query.kind, query.id, wanted)
    (item,) = neighbours.queries
    if not query.reasons:
        return _neighbours(snapshot, item, neighbours, media=media)
    reasons, lacking = snapshot.reasons(query.kind, neighbours, wanted)
    return _neighbours(snapshot, item, neighbours, reasons=reasons, note=lacking, media=media)


def _neighbours(
    snapshot: Snapshot,
    item: Item | None,
    neighbours: Neighbours,
    *,
    media: Media | None,
    also: list[Item] | None = None,
    reasons: list[Reasons | None] | None = None,
    note: str = "",
) -> Response:
    why = reasons or [None] * len(neighbours)
    content: dict[str, object] = {
        "generation": snapshot.generation,
        "item": item,
        "answers": [
            _neighbour(x, y, media=_plays(media, x.item))
            for x, y in zip(neighbours, why, strict=True)
        ],
    }
    if also is not None:
        content["also"] = also
    note = neighbours.note or note
    return json({**content, "note": note} if note else content)


def _neighbour(neighbour: Neighbour, reasons: Reasons | None, *, media: bool) -> dict[str, object]:
    content: dict[str, object] = {
        "rank": neighbour.rank,
        "item": neighbour.item,
        "score": neighbour.score,
        "confidence": neighbour.confidence,
        "media": media,
    }
    if neighbour.seeds:
        content["seeds"] = neighbour.seeds
    if neighbour.taste is not None:
        content["taste"] = neighbour.taste
    return {**content, "reasons": _reasons(reasons)} if reasons else content


def _plays(media: Media | None, item: Item) -> bool:
    return media is not None and media.has(item.kind, item.id)


def _reasons(reasons: Reasons) -> dict[str, object]:
    return {
        "score": reasons.score,
        "confidence": reasons.confidence,
        "candidate": reasons.candidate,
        "start": reasons.start,
        "contributions": reasons.contributions,
        "sentences": shared(reasons),
        "unknown": reasons.unknown,
        "common": {
            **{name: getattr(reasons, name) for name in CommonShape.model_fields if name != "of"},
            "of": (reasons.asked.listeners, reasons.answered.listeners),
        },
    }


def _described(service: Service, request: Request, query: DescribedQuery) -> Response:
    snapshot = service.snapshot
    kind = snapshot.of(query.kind).kind
    neighbours = snapshot.model.described_as(*query.words, kind=kind, query=query.query())
    return _neighbours(snapshot, None, neighbours, media=service.media)


def _recommend(service: Service, request: Request, query: RecommendQuery) -> Response:
    snapshot = service.snapshot
    kind = snapshot.of(query.kind).kind
    neighbours = snapshot.model.recommend(
        query.plays, unlike=query.unlike, kind=kind, tastes=query.tastes, query=query.query()
    )
    return _neighbours(snapshot, None, neighbours, media=service.media)


def _playlist(service: Service, request: Request, query: PlaylistQuery) -> Response:
    snapshot = service.snapshot
    neighbours = snapshot.playlist(query)
    also = list(neighbours.queries)
    return _neighbours(snapshot, None, neighbours, also=also, media=service.media)


def _item(service: Service, request: Request, query: OneQuery) -> Response:
    snapshot = service.snapshot
    details = asdict(snapshot.details(query.kind, query.id))
    media = _plays(service.media, snapshot.item(query.kind, query.id))
    item = {**details.pop("item"), **details, "media": media}
    index = snapshot.of(query.kind)
    facts = index.attributes.table if index.attributes else None
    known = {x for x in ("percentile", "decade") if facts is not None and facts[x].count()}
    able = {"ranked": "percentile" in known, "dated": "decade" in known, "learned": index.learned}
    return json({"generation": snapshot.generation, "item": item, **able})


def _listed(service: Service, request: Request, query: ListQuery) -> Response:
    snapshot = service.snapshot
    wanted = make_query(
        k=query.k,
        genres=query.genre,
        regions=query.region,
        decade_from=query.decade_from,
        decade_to=query.decade_to,
        only_unlinked=query.only_unlinked,
    )
    total, items = snapshot.listed(query.kind, wanted, tag=query.tag)
    shown = [{"item": x, "media": _plays(service.media, x)} for x in items]
    return json({"generation": snapshot.generation, "total": total, "items": shown})


def _suggest(service: Service, request: Request, query: SuggestQuery) -> Response:
    snapshot = service.snapshot
    kinds = [snapshot.of(query.kind)] if query.kind else list(snapshot.kinds.values())
    items = suggest([x.names for x in kinds], query.q, limit=query.limit)
    return json({"generation": snapshot.generation, "items": items})


def _explain(service: Service, request: Request, query: ExplainQuery) -> Response:
    snapshot, kind = service.snapshot, query.kind
    reasons = snapshot.explain(kind, query.a, query.b, long_tail=query.long_tail)
    ends = {"asked": snapshot.item(kind, query.a), "answered": snapshot.item(kind, query.b)}
    return json({"generation": snapshot.generation, **ends, "reasons": _reasons(reasons)})


def _path(service: Service, request: Request, query: PathQuery) -> Response:
    snapshot = service.snapshot
    path = snapshot.path(query.kind, query.a, query.b, steps=query.steps)
    steps = [{"item": x.item, "similarity": x.similarity} for x in path]
    content = {"generation": snapshot.generation, "steps": steps}
    return json({**content, "note": path.note} if path.note else content)


def _map(service: Service, request: Request, query: OfKind) -> Response:
    snapshot, kind = service.snapshot, query.kind
    # The reply changes with what is installed here.
    hears = "deaf" if snapshot.model.audio_unavailable else "hears"
    hears += "-words" if snapshot.describes else ""
    tag = f'"{snapshot.generation}-{snapshot.model.run.content[:12]}-{kind}-{hears}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    body, compressed = map_reply(snapshot, kind)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"], body = "gzip", compressed
    return Response(body, headers=headers, media_type="application/json")


def _genres(service: Service, request: Request, query: OfKind) -> Response:
    snapshot = service.snapshot
    attributes = snapshot.of(query.kind).attributes
    genres = attributes.genres if attributes else ()
    return json({"generation": snapshot.generation, "genres": genres})


def _regions(service: Service, request: Request, query: OfKind) -> Response:
    snapshot = service.snapshot
    attributes = snapshot.of(query.kind).attributes
    regions = attributes.regions if attributes else ()
    return json({"generation": snapshot.generation, "regions": regions})


async def _report(service: Service, request: Request, query: None) -> Response:
    report = service.snapshot.report
    if report is None:
        raise HTTPException(404, "this run was not evaluated; run `undersong evaluate` on it")
    return Response(report, media_type="application/json")


def _status(service: Service, request: Request, query: None) -> Response:
    try:
        about = read_json(service.reader.folder / REFRESHED, version=1, hint="refresh again")
        refreshed: object = {name: about[name] for name in RefreshShape.model_fields}
    except (ArtifactError, KeyError):  # nobody refreshes here, or another version does
        refreshed = None
    return json({"generation": service.snapshot.generation, "refreshed": refreshed})


async def _sounds_like(service: Service, request: Request, query: SoundQuery) -> Response:
    # Before the file is received: it takes up room.
    if not service.uploads.acquire(blocking=False):
        raise HTTPException(503, "other files are being heard; try again in a moment")
    try:
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise DataError("file is missing; send an audio file in a multipart form")
            return await run_in_threadpool(_hear, service, query, file.file)
    except OSError as error:
        raise HTTPException(
            507, f"the file cannot be heard here now: {error.strerror}; try again later"
        ) from error
    finally:
        service.uploads.release()


def _hear(service: Service, query: SoundQuery, file: BinaryIO) -> Response:
    # Imported when first needed: it would double the time that the service takes to start.
    from undersong.audio.logmel import Undecodable

    snapshot = service.snapshot
    try:
        with tempfile.TemporaryDirectory(prefix="undersong-") as folder:
            path = Path(folder) / "upload"
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            file.close()
            neighbours = snapshot.model.sounds_like(path, kind=query.kind, k=query.k)
    except Undecodable as error:
        raise HTTPException(415, f"{error.reason}; {error.remedy}") from error
    return _neighbours(snapshot, None, neighbours, media=service.media)


async def _without_file(request: Request) -> Response:
    raise HTTPException(405, "send an audio file by POST", headers={"Allow": "POST"})


def _play(service: Service, request: Request, query: OneQuery) -> Response:
    path = service.media.find(query.kind, query.id) if service.media else None
    if path is None:
        item = f"{query.kind} {query.id[:80]!r}"
        raise HTTPException(404, f"no audio file of the {item} can be played here")
    return FileResponse(path)


async def _health(service: Service, request: Request, query: None) -> Response:
    return json({"status": "up"})


async def _ready(service: Service, request: Request, query: None) -> Response:
    return json({"status": "ready", "generation": service.snapshot.generation})


SOUNDS_LIKE = "/api/sounds-like"
POSTED = {
    408: "The body came too slowly.",
    413: f"The body has more than {QUESTION:,} bytes.",
}
OPERATIONS = (
    Operation(
        "/api/items/{kind}/{id:path}/similar",
        SimilarQuery,
        Similar,
        _similar,
        "List what is similar to an item, best first; filters keep the order. Of several, further "
        "ones in also, each lists its own answers: those high in the lists of several come first, "
        "with the seeds that led to them.",
    ),
    Operation(
        "/api/described",
        DescribedQuery,
        Similar,
        _described,
        "List what is most like somebody described in words, by the cosine of E_G: NAME=VALUE with "
        "a field of the catalogue, genre, region or decade, or a phrase. The note says how it was "
        "understood.",
        {501: "This service cannot embed metadata; the line says what to install."},
    ),
    Operation(
        "/api/recommend",
        RecommendQuery,
        Similar,
        _recommend,
        "List what somebody may like and does not play yet, each with the played item to which it "
        "owes most. What nobody here is called is left out, and the note says so.",
        POSTED,
        body=True,
    ),
    Operation(
        "/api/playlist",
        PlaylistQuery,
        Similar,
        _playlist,
        "Make a playlist, in the order to hear it. It begins with like or after, with plays or "
        "with path; items are named by id or name, and artists stand for their tracks.",
        POSTED,
        body=True,
    ),
    Operation(
        "/api/items/{kind}/{id:path}",
        OneQuery,
        OneItem,
        _item,
        "Return all that is known of an item.",
    ),
    Operation(
        "/api/items",
        ListQuery,
        Listed,
        _listed,
        "List items that have a genre, a tag, a region or a decade in common, or that nobody has "
        "linked, the best known first.",
    ),
    Operation(
        "/api/search",
        SuggestQuery,
        Suggestions,
        _suggest,
        "List items that somebody may mean who has typed this much: those with the very name, then "
        "those whose names begin so, with it as a whole word first, then those that hold it; "
        "artists before tracks, the best known first. With kind artists or tracks alone.",
    ),
    Operation(
        "/api/explain",
        ExplainQuery,
        Explanation,
        _explain,
        "Explain why one item is similar to another.",
    ),
    Operation(
        "/api/path",
        PathQuery,
        Chain,
        _path,
        "Find a path between two items in which each step is near.",
    ),
    Operation(
        "/api/map",
        OfKind,
        MapShape,
        _map,
        "Return the place of every item on the map; compressed where the client takes gzip.",
    ),
    Operation("/api/genres", OfKind, Genres, _genres, "List the values of the filter genre."),
    Operation("/api/regions", OfKind, Regions, _regions, "List the values of the filter region."),
    Operation(
        "/api/report",
        None,
        "application/json",
        _report,
        "Return the report on how good this model is, report.json of the run.",
    ),
    Operation(
        "/api/status",
        None,
        Status,
        _status,
        "Return what became of the last `undersong refresh`, and when the next is due.",
    ),
    Operation(
        SOUNDS_LIKE,
        SoundQuery,
        Similar,
        _sounds_like,
        "List what sounds most like an audio file; nothing of it is kept.",
        {
            408: "The file came too slowly.",
            413: f"The file has more than {UPLOAD:,} bytes.",
            415: "The file gives no sound; the line says why.",
            501: "This service cannot hear; the line says what to install.",
        },
        file=True,
    ),
    Operation(
        "/media/{kind}/{id:path}",
        OneQuery,
        "audio/*",
        _play,
        "Play a local audio file; a player may ask for parts of it.",
    ),
    Operation("/health", None, Health, _health, "Whether the process is up.", guarded=False),
    Operation(
        "/ready",
        None,
        Ready,
        _ready,
        "Whether a generation is open, and which.",
        guarded=False,
    ),
)
