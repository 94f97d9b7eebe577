"""The service's own API: questions as addresses, answers as JSON, each with its generation."""

from dataclasses import asdict
from threading import BoundedSemaphore

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from undersong.errors import DataError
from undersong.explanation import reasons
from undersong.explanation.reasons import Reasons
from undersong.retrieval import Query
from undersong.retrieval.filters import NO_FACTS
from undersong.runs import RunReader
from undersong.service import questions
from undersong.service.lookup import known, suggest
from undersong.service.media import Media
from undersong.service.middleware import address
from undersong.service.options import UPLOADS
from undersong.service.page import picture
from undersong.service.questions import Found, Ranked
from undersong.service.responses import json
from undersong.service.schemas import (
    ExplainQuery,
    OfKind,
    OneQuery,
    PathQuery,
    SimilarQuery,
    SoundQuery,
    SuggestQuery,
    read,
)
from undersong.service.snapshot import Snapshot


def routes(reader: RunReader[Snapshot], *, media: Media | None) -> list[Route]:
    """Make the routes of the API; each reads the current generation once.

    What they take and give is described for clients in ``service.description``.
    """
    return [
        *_similar_routes(reader),
        *_item_routes(reader, media),
        *_pair_routes(reader),
        *_catalogue_routes(reader),
        *_sound_routes(reader, media),
    ]


def _similar_routes(reader: RunReader[Snapshot]) -> list[Route]:
    async def similar(request: HttpRequest) -> Response:
        """List what is similar to an item, or to several by agreement; filters keep the order."""
        answers, query = reader.current, read(SimilarQuery, request)
        wish = query.request()
        found = None
        if not query.reasons and not query.also:
            found = questions.look_up(answers, query.kind, query.id, wish)
        if found is None:
            found = await run_in_threadpool(_similar, answers, query, wish)
        content: dict[str, object] = {
            "generation": answers.generation,
            "item": found.item,
            "answers": [_answer(x) for x in found.answers],
        }
        if query.also:
            content["also"] = found.also
        return json({**content, "note": found.note} if found.note else content)

    return [address("/api/items/{kind}/{id:path}/similar", similar)]


def _similar(answers: Snapshot, query: SimilarQuery, wish: Query) -> Found:
    if wish.asks_facts and answers.of(query.kind).facts is None:
        raise DataError(NO_FACTS)
    if query.also and query.reasons:
        raise DataError(
            "reasons are told of two items; leave reasons or also out, or ask /api/explain for an "
            "answer and one of its seeds"
        )
    if query.also:
        return questions.agreed(answers, query.kind, (query.id, *query.also), wish)
    return questions.similar(answers, query.kind, query.id, wish, reasons=query.reasons)


def _item_routes(reader: RunReader[Snapshot], media: Media | None) -> list[Route]:
    def item(request: HttpRequest) -> Response:
        """Say all that is known of an item."""
        answers, query = reader.current, read(OneQuery, request)
        details = asdict(questions.item(answers, query.kind, query.id))
        heard = media is not None and media.has(query.kind, query.id)
        shown = {**details.pop("item"), **details, "media": heard}
        return json({"generation": answers.generation, "item": shown})

    def search(request: HttpRequest) -> Response:
        """List items that somebody may mean who has typed this much."""
        answers, query = reader.current, read(SuggestQuery, request)
        found = suggest(answers, query.q, kind=query.kind, limit=query.limit)
        return json({"generation": answers.generation, "items": found})

    return [address("/api/items/{kind}/{id:path}", item), address("/api/search", search)]


def _pair_routes(reader: RunReader[Snapshot]) -> list[Route]:
    def explain(request: HttpRequest) -> Response:
        """Say why one item is similar to another."""
        answers, query = reader.current, read(ExplainQuery, request)
        kind, ends = query.kind, (query.a, query.b)
        why = questions.explain(answers, kind, *ends, long_tail=query.long_tail)
        asked, answered = (known(answers, kind, x) for x in ends)
        content = {"asked": asked, "answered": answered, "reasons": _why(why)}
        return json({"generation": answers.generation, **content})

    def path(request: HttpRequest) -> Response:
        """Find a chain between two items in which each step is near."""
        answers, query = reader.current, read(PathQuery, request)
        steps, note = questions.path(answers, query.kind, query.a, query.b, steps=query.steps)
        content = {"generation": answers.generation, "steps": steps}
        return json({**content, "note": note} if note else content)

    return [address("/api/explain", explain), address("/api/path", path)]


def _catalogue_routes(reader: RunReader[Snapshot]) -> list[Route]:
    def show_map(request: HttpRequest) -> Response:
        """Give every item its place on the map; compressed where the client takes gzip."""
        answers, kind = reader.current, read(OfKind, request).kind
        hears = "deaf" if answers.hindrance else "hears"  # changes with what is installed
        tag = f'"{answers.generation}-{answers.run.content[:12]}-{kind}-{hears}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        plain, small = picture(answers, kind)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"], plain = "gzip", small
        return Response(plain, headers=headers, media_type="application/json")

    def genres(request: HttpRequest) -> Response:
        """List what the filter genre may say."""
        answers = reader.current
        facts = answers.of(read(OfKind, request).kind).facts
        return json({"generation": answers.generation, "genres": facts.genres if facts else ()})

    def regions(request: HttpRequest) -> Response:
        """List what the filter region may say."""
        answers = reader.current
        facts = answers.of(read(OfKind, request).kind).facts
        return json({"generation": answers.generation, "regions": facts.regions if facts else ()})

    async def report(request: HttpRequest) -> Response:
        """Give the report on how good this model is."""
        found = reader.current.report
        if found is None:
            raise HTTPException(404, "this run was not evaluated; run `undersong evaluate` on it")
        return Response(found, media_type="application/json")

    return [
        address("/api/map", show_map),
        address("/api/genres", genres),
        address("/api/regions", regions),
        address("/api/report", report),
    ]


def _sound_routes(reader: RunReader[Snapshot], media: Media | None) -> list[Route]:
    free = BoundedSemaphore(UPLOADS)

    async def hear(request: HttpRequest) -> Response:
        """List what sounds most like an audio file; nothing of it is kept."""
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise DataError("file is missing; send an audio file in a multipart form")
            return await run_in_threadpool(_hear, reader.current, request, file, free)

    async def without_file(request: HttpRequest) -> Response:
        """Say so, where the page would else say that there is nothing here."""
        raise HTTPException(405, "send an audio file by POST", headers={"Allow": "POST"})

    def play(request: HttpRequest) -> Response:
        """Play a local audio file; a player may ask for parts of it."""
        query = read(OneQuery, request)
        path = media.find(query.kind, query.id) if media else None
        if path is None:
            what = f"{query.kind} {query.id[:80]!r}"
            raise HTTPException(404, f"no audio file of the {what} can be played here")
        return FileResponse(path)

    return [
        address("/api/sounds-like", hear, methods=["POST"]),
        address("/api/sounds-like", without_file),
        address("/media/{kind}/{id:path}", play),
    ]


def _hear(
    answers: Snapshot, request: HttpRequest, file: UploadFile, free: BoundedSemaphore
) -> Response:
    # Imported when first needed: it would double the time that the service takes to start.
    from undersong.audio.waveform import Undecodable
    from undersong.service.upload import sounds_like

    query = read(SoundQuery, request)
    if not free.acquire(blocking=False):
        raise HTTPException(503, "other files are being heard; try again in a moment")
    try:
        found = sounds_like(answers, file.file, kind=query.kind or answers.kind, k=query.k)
    except Undecodable as error:
        raise HTTPException(415, f"{error.reason}; {error.remedy}") from error
    finally:
        free.release()
    heard = {"item": None, "answers": [_answer(x) for x in found]}
    return json({"generation": answers.generation, **heard})


def _answer(one: Ranked) -> dict[str, object]:
    content: dict[str, object] = {
        "rank": one.rank,
        "item": one.item,
        "score": one.score,
        "confidence": one.confidence,
    }
    if one.seeds:
        content["seeds"] = one.seeds
    return {**content, "reasons": _why(one.reasons)} if one.reasons else content


def _why(why: Reasons) -> dict[str, object]:
    return {
        "score": why.score,
        "confidence": why.confidence,
        "candidate": why.candidate,
        "start": why.start,
        "contributions": why.contributions,
        "sentences": reasons.shared(why),
        "unknown": why.unknown,
    }
