"""The service's own API: questions as addresses, answers as JSON, each with its generation."""

from collections.abc import Mapping
from dataclasses import asdict
from threading import BoundedSemaphore
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Path, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response

from undersong.audio.waveform import Undecodable
from undersong.catalogue.tables import Kind
from undersong.errors import DataError
from undersong.explaining import wording
from undersong.explaining.reasons import Reasons
from undersong.retrieval.filters import NO_FACTS
from undersong.retrieval.request import Request
from undersong.service import answers as questions
from undersong.service import replies
from undersong.service.answers import Answers, Ranked
from undersong.service.media import Media
from undersong.service.picture import picture
from undersong.service.replies import json
from undersong.service.settings import MOST, TEXT, UPLOAD, UPLOADS
from undersong.service.upload import sounds_like
from undersong.shelf import Shelf

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
WORDS = 20  # genres or regions of one request
STEPS = 100  # of a chain
Text = Annotated[str, Field(min_length=1, max_length=TEXT, pattern=PRINTABLE)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Year = Annotated[int, Field(ge=0, le=9999)]
Cap = Annotated[int, Field(ge=1, le=MOST)]
ItemId = Annotated[
    str, Path(alias="id", min_length=1, max_length=TEXT, pattern=PRINTABLE, description="An id.")
]

WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": replies.Error, "description": "A parameter is wrong; the line says which."},
    401: {"model": replies.Error, "description": "The token is missing or another one."},
    404: {"model": replies.Error, "description": "There is no such item, with those like it."},
    414: {"model": replies.Error, "description": "The address is too long."},
    429: {"model": replies.Error, "description": "Too many requests in too short a time."},
    503: {"model": replies.Error, "description": "Not now; try again."},
}


def answering(
    model: type[BaseModel], more: Mapping[int, str] = MappingProxyType({})
) -> dict[int | str, dict[str, Any]]:
    """Document the replies of a route: its own, and what can go wrong; ``more`` by status."""
    told: dict[int | str, dict[str, Any]] = {
        status: {"model": replies.Error, "description": x} for status, x in more.items()
    }
    return {200: {"model": model, "description": "The answer."}, **WRONG, **told}


class Asked(BaseModel):
    """Parameters of a question; unknown ones are refused, since a typing error would be silent."""

    model_config = ConfigDict(extra="forbid")


class OfKind(Asked):
    """Which items are meant."""

    kind: Kind


class SuggestQuery(OfKind):
    """What somebody has typed so far."""

    q: Text
    limit: int = Field(10, ge=1, le=100)


class PairQuery(OfKind):
    """Two items by their ids."""

    a: Text
    b: Text


class PathQuery(PairQuery):
    """Two items, and how many steps may lie between them."""

    steps: int | None = Field(None, ge=1, le=STEPS)


class SoundQuery(Asked):
    """What to compare an upload with: artists or tracks, else what the run was trained for."""

    kind: Kind | None = None
    k: int = Field(10, ge=1, le=MOST)


class SimilarQuery(Asked):
    """A wish about answers, as ``retrieval.request.Request`` explains it."""

    k: int = Field(10, ge=1, le=MOST)
    genre: list[Text] = Field([], max_length=WORDS)
    all_genres: bool = False
    region: list[Text] = Field([], max_length=WORDS)
    decade_from: Year | None = None
    decade_to: Year | None = None
    max_popularity: Share = 1.0
    pop_begin: Share = 0.0
    pop_end: Share = 1.0
    per_artist: Cap | None = None
    per_album: Cap | None = None
    diversity: Share = 0.0
    long_tail: Share = 0.0
    paper: bool = False
    reasons: bool = False

    def request(self) -> Request:
        """The same as a ``Request``; DataError for wishes that no item can fulfil together."""
        return Request(
            k=self.k,
            genres=frozenset(self.genre),
            all_genres=self.all_genres,
            regions=frozenset(self.region),
            decade_from=self.decade_from,
            decade_to=self.decade_to,
            max_popularity=self.max_popularity,
            pop_begin=self.pop_begin,
            pop_end=self.pop_end,
            per_artist=self.per_artist,
            per_album=self.per_album,
            diversity=self.diversity,
            long_tail=self.long_tail or None,
            paper=self.paper,
        )


def router(reader: Shelf[Answers], *, media: Media | None) -> APIRouter:
    """Make the routes of the API; each reads the current generation once."""
    routes = APIRouter()
    _add_similar(routes, reader)
    _add_items(routes, reader, media)
    _add_pairs(routes, reader)
    _add_catalogue(routes, reader)
    _add_sound(routes, reader, media)
    return routes


def _add_similar(routes: APIRouter, reader: Shelf[Answers]) -> None:
    @routes.get("/api/items/{kind}/{id:path}/similar", responses=answering(replies.Similar))
    async def similar(
        kind: Kind, item: ItemId, query: Annotated[SimilarQuery, Query()]
    ) -> Response:
        """List what is similar to an item, best first; filters keep the order."""
        answers, request = reader.current, query.request()
        if not query.reasons and questions.listed(answers, kind, request):
            return _similar(answers, kind, item, request)
        return await run_in_threadpool(
            _similar, answers, kind, item, request, reasons=query.reasons
        )


def _similar(
    answers: Answers, kind: Kind, item: str, request: Request, *, reasons: bool = False
) -> Response:
    if request.asks_facts and answers.of(kind).facts is None:
        raise DataError(NO_FACTS)
    found = questions.similar(answers, kind, item, request, reasons=reasons)
    content = {
        "generation": answers.generation,
        "item": found.item,
        "answers": [_answer(x) for x in found.answers],
    }
    return json({**content, "note": found.note} if found.note else content)


def _add_items(routes: APIRouter, reader: Shelf[Answers], media: Media | None) -> None:
    @routes.get("/api/items/{kind}/{id:path}", responses=answering(replies.OneItem))
    def item(kind: Kind, item: ItemId) -> Response:
        """Say all that is known of an item."""
        answers = reader.current
        details = asdict(questions.item(answers, kind, item))
        heard = media is not None and media.has(kind, item)
        shown = {**details.pop("item"), **details, "media": heard}
        return json({"generation": answers.generation, "item": shown})

    @routes.get("/api/search", responses=answering(replies.Suggestions))
    def search(query: Annotated[SuggestQuery, Query()]) -> Response:
        """List items that somebody may mean who has typed this much."""
        answers = reader.current
        found = questions.suggest(answers, query.q, kind=query.kind, limit=query.limit)
        return json({"generation": answers.generation, "items": found})


def _add_pairs(routes: APIRouter, reader: Shelf[Answers]) -> None:
    @routes.get("/api/explain", responses=answering(replies.Explanation))
    def explain(query: Annotated[PairQuery, Query()]) -> Response:
        """Say why one item is similar to another."""
        answers, kind = reader.current, query.kind
        why = questions.explain(answers, kind, query.a, query.b)
        ends = [questions.known(answers, kind, x) for x in (query.a, query.b)]
        content = {"asked": ends[0], "answered": ends[1], "reasons": _why(why)}
        return json({"generation": answers.generation, **content})

    @routes.get("/api/path", responses=answering(replies.Chain))
    def path(query: Annotated[PathQuery, Query()]) -> Response:
        """Find a chain between two items in which each step is near."""
        answers = reader.current
        steps, note = questions.path(answers, query.kind, query.a, query.b, steps=query.steps)
        content = {"generation": answers.generation, "steps": steps}
        return json({**content, "note": note} if note else content)


def _add_catalogue(routes: APIRouter, reader: Shelf[Answers]) -> None:
    @routes.get("/api/map", responses=answering(replies.MapShape))
    def show_map(request: HttpRequest, query: Annotated[OfKind, Query()]) -> Response:
        """Give every item its place on the map; compressed where the client takes gzip."""
        answers = reader.current
        tag = f'"{answers.generation}-{answers.run.content[:12]}-{query.kind}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        plain, small = picture(answers, query.kind)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"], plain = "gzip", small
        return Response(plain, headers=headers, media_type="application/json")

    @routes.get("/api/genres", responses=answering(replies.Genres))
    def genres(query: Annotated[OfKind, Query()]) -> Response:
        """List what the filter genre may say."""
        answers = reader.current
        facts = answers.of(query.kind).facts
        return json({"generation": answers.generation, "genres": facts.genres if facts else ()})

    @routes.get("/api/regions", responses=answering(replies.Regions))
    def regions(query: Annotated[OfKind, Query()]) -> Response:
        """List what the filter region may say."""
        answers = reader.current
        facts = answers.of(query.kind).facts
        return json({"generation": answers.generation, "regions": facts.regions if facts else ()})

    @routes.get("/api/report", responses={**WRONG, 200: {"description": "report.json of the run."}})
    async def report(query: Annotated[Asked, Query()]) -> Response:
        """Give the report on how good this model is."""
        found = reader.current.report
        if found is None:
            raise HTTPException(404, "this run was not evaluated; run `undersong evaluate` on it")
        return Response(found, media_type="application/json")


def _add_sound(routes: APIRouter, reader: Shelf[Answers], media: Media | None) -> None:
    free = BoundedSemaphore(UPLOADS)
    more = {
        408: "The file came too slowly.",
        413: f"The file has more than {UPLOAD:,} bytes.",
        415: "The file gives no sound; the line says why.",
        501: "This service cannot hear; the line says what to install.",
    }

    @routes.post("/api/sounds-like", responses=answering(replies.Similar, more))
    def hear(
        file: Annotated[UploadFile, File(description="An audio file.")],
        query: Annotated[SoundQuery, Query()],
    ) -> Response:
        """List what sounds most like an audio file; nothing of it is kept."""
        answers = reader.current
        if not free.acquire(blocking=False):
            raise HTTPException(503, "other files are being heard; try again in a moment")
        try:
            kind = query.kind or answers.kind
            found = sounds_like(answers, file.file, kind=kind, k=query.k)
        except Undecodable as error:
            raise HTTPException(415, f"{error.reason}; {error.remedy}") from error
        finally:
            free.release()
        heard = {"item": None, "answers": [_answer(x) for x in found]}
        return json({"generation": answers.generation, **heard})

    @routes.get(
        "/media/{kind}/{id:path}",
        responses={**WRONG, 200: {"description": "An audio file.", "content": {"audio/*": {}}}},
    )
    def play(kind: Kind, item: ItemId) -> Response:
        """Play a local audio file; a player may ask for parts of it."""
        path = media.find(kind, item) if media else None
        if path is None:
            raise HTTPException(
                404, f"no audio file of the {kind} {item[:80]!r} can be played here"
            )
        return FileResponse(path)


def _answer(one: Ranked) -> dict[str, object]:
    content = {
        "rank": one.rank,
        "item": one.item,
        "score": one.score,
        "confidence": one.confidence,
    }
    return {**content, "reasons": _why(one.reasons)} if one.reasons else content


def _why(why: Reasons) -> dict[str, object]:
    return {
        "score": why.score,
        "confidence": why.confidence,
        "candidate": why.candidate,
        "start": why.start,
        "contributions": why.contributions,
        "sentences": wording.shared(why),
        "unknown": why.unknown,
    }
