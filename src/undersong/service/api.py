"""The service's own API: questions as addresses, answers as JSON, each with its generation."""

from collections.abc import Mapping
from dataclasses import asdict
from threading import BoundedSemaphore
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, UploadFile
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response

from undersong.audio.waveform import Undecodable
from undersong.errors import DataError
from undersong.explaining import wording
from undersong.explaining.reasons import Reasons
from undersong.retrieval.filters import NO_FACTS
from undersong.retrieval.request import Request
from undersong.service import answers as questions
from undersong.service import replies
from undersong.service.answers import Answers, Found, Ranked
from undersong.service.asking import (
    ExplainQuery,
    OfKind,
    OneQuery,
    PathQuery,
    SimilarQuery,
    SoundQuery,
    SuggestQuery,
    described,
    read,
)
from undersong.service.media import Media
from undersong.service.picture import picture
from undersong.service.replies import json
from undersong.service.settings import UPLOAD, UPLOADS
from undersong.shelf import Shelf

ITEM = ("kind", "id")  # what stands in the address of an item
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
    @routes.get(
        "/api/items/{kind}/{id:path}/similar",
        responses=answering(replies.Similar),
        openapi_extra=described(SimilarQuery, path=ITEM),
    )
    async def similar(request: HttpRequest) -> Response:
        """List what is similar to an item, best first; filters keep the order."""
        answers, query = reader.current, read(SimilarQuery, request)
        wish = query.request()
        found = None
        if not query.reasons:
            found = questions.look_up(answers, query.kind, query.id, wish)
        if found is None:
            found = await run_in_threadpool(_similar, answers, query, wish)
        content = {
            "generation": answers.generation,
            "item": found.item,
            "answers": [_answer(x) for x in found.answers],
        }
        return json({**content, "note": found.note} if found.note else content)


def _similar(answers: Answers, query: SimilarQuery, wish: Request) -> Found:
    if wish.asks_facts and answers.of(query.kind).facts is None:
        raise DataError(NO_FACTS)
    return questions.similar(answers, query.kind, query.id, wish, reasons=query.reasons)


def _add_items(routes: APIRouter, reader: Shelf[Answers], media: Media | None) -> None:
    @routes.get(
        "/api/items/{kind}/{id:path}",
        responses=answering(replies.OneItem),
        openapi_extra=described(OneQuery, path=ITEM),
    )
    def item(request: HttpRequest) -> Response:
        """Say all that is known of an item."""
        answers, query = reader.current, read(OneQuery, request)
        details = asdict(questions.item(answers, query.kind, query.id))
        heard = media is not None and media.has(query.kind, query.id)
        shown = {**details.pop("item"), **details, "media": heard}
        return json({"generation": answers.generation, "item": shown})

    @routes.get(
        "/api/search",
        responses=answering(replies.Suggestions),
        openapi_extra=described(SuggestQuery),
    )
    def search(request: HttpRequest) -> Response:
        """List items that somebody may mean who has typed this much."""
        answers, query = reader.current, read(SuggestQuery, request)
        found = questions.suggest(answers, query.q, kind=query.kind, limit=query.limit)
        return json({"generation": answers.generation, "items": found})


def _add_pairs(routes: APIRouter, reader: Shelf[Answers]) -> None:
    @routes.get(
        "/api/explain",
        responses=answering(replies.Explanation),
        openapi_extra=described(ExplainQuery),
    )
    def explain(request: HttpRequest) -> Response:
        """Say why one item is similar to another."""
        answers, query = reader.current, read(ExplainQuery, request)
        kind, ends = query.kind, (query.a, query.b)
        why = questions.explain(answers, kind, *ends, long_tail=query.long_tail)
        asked, answered = (questions.known(answers, kind, x) for x in ends)
        content = {"asked": asked, "answered": answered, "reasons": _why(why)}
        return json({"generation": answers.generation, **content})

    @routes.get("/api/path", responses=answering(replies.Chain), openapi_extra=described(PathQuery))
    def path(request: HttpRequest) -> Response:
        """Find a chain between two items in which each step is near."""
        answers, query = reader.current, read(PathQuery, request)
        steps, note = questions.path(answers, query.kind, query.a, query.b, steps=query.steps)
        content = {"generation": answers.generation, "steps": steps}
        return json({**content, "note": note} if note else content)


def _add_catalogue(routes: APIRouter, reader: Shelf[Answers]) -> None:
    of_kind = described(OfKind)

    @routes.get("/api/map", responses=answering(replies.MapShape), openapi_extra=of_kind)
    def show_map(request: HttpRequest) -> Response:
        """Give every item its place on the map; compressed where the client takes gzip."""
        answers, kind = reader.current, read(OfKind, request).kind
        tag = f'"{answers.generation}-{answers.run.content[:12]}-{kind}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        plain, small = picture(answers, kind)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"], plain = "gzip", small
        return Response(plain, headers=headers, media_type="application/json")

    @routes.get("/api/genres", responses=answering(replies.Genres), openapi_extra=of_kind)
    def genres(request: HttpRequest) -> Response:
        """List what the filter genre may say."""
        answers = reader.current
        facts = answers.of(read(OfKind, request).kind).facts
        return json({"generation": answers.generation, "genres": facts.genres if facts else ()})

    @routes.get("/api/regions", responses=answering(replies.Regions), openapi_extra=of_kind)
    def regions(request: HttpRequest) -> Response:
        """List what the filter region may say."""
        answers = reader.current
        facts = answers.of(read(OfKind, request).kind).facts
        return json({"generation": answers.generation, "regions": facts.regions if facts else ()})

    @routes.get("/api/report", responses={**WRONG, 200: {"description": "report.json of the run."}})
    async def report() -> Response:
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

    @routes.post(
        "/api/sounds-like",
        responses=answering(replies.Similar, more),
        openapi_extra=described(SoundQuery),
    )
    def hear(
        request: HttpRequest, file: Annotated[UploadFile, File(description="An audio file.")]
    ) -> Response:
        """List what sounds most like an audio file; nothing of it is kept."""
        # Imported when first needed: it would double the time that the service takes to start.
        from undersong.service.upload import sounds_like

        answers, query = reader.current, read(SoundQuery, request)
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

    @routes.get("/api/sounds-like", include_in_schema=False)
    def without_file() -> Response:
        """Say so, where the page would else say that there is nothing here."""
        raise HTTPException(405, "send an audio file by POST", headers={"Allow": "POST"})

    @routes.get(
        "/media/{kind}/{id:path}",
        responses={**WRONG, 200: {"description": "An audio file.", "content": {"audio/*": {}}}},
        openapi_extra=described(OneQuery, path=ITEM),
    )
    def play(request: HttpRequest) -> Response:
        """Play a local audio file; a player may ask for parts of it."""
        query = read(OneQuery, request)
        path = media.find(query.kind, query.id) if media else None
        if path is None:
            what = f"{query.kind} {query.id[:80]!r}"
            raise HTTPException(404, f"no audio file of the {what} can be played here")
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
