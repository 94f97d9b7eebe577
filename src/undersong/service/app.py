"""The service as one application: the API, the dialects, the page, and what stands around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undersong import __version__
from undersong.errors import ArtifactError, DataError, UndersongError, UnknownItem
from undersong.service import api, page, replies
from undersong.service.access import ShownToken, guard
from undersong.service.answers import Answers, warm
from undersong.service.dialects import audiomuse, lastfm, lidarr, listenbrainz, opensubsonic
from undersong.service.generation import NotHere
from undersong.service.limits import Limits
from undersong.service.media import read_media
from undersong.service.metrics import Log, Numbers, Watch, line, silent
from undersong.service.replies import json, refusal
from undersong.service.settings import LOOK_SECONDS, ServiceSettings
from undersong.shelf import Shelf

# Each asks for the token in the way that its clients show it.
DIALECTS: dict[str, Callable[[Shelf[Answers]], APIRouter]] = {
    "Last.fm": lastfm.router,
    "OpenSubsonic": opensubsonic.router,
    "ListenBrainz": listenbrainz.router,
    "AudioMuse": audiomuse.router,
    "Lidarr": lidarr.router,
}
STATUS = {UnknownItem: 404, DataError: 400, NotHere: 501}
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def make_app(reader: Shelf[Answers], settings: ServiceSettings, *, log: Log = silent) -> FastAPI:
    """Build the service around an open shelf.

    Parameters
    ----------
    log : takes one line of JSON a request, and one for each generation

    Raises
    ------
    DataError, ArtifactError
        If the catalogue of ``settings.media`` has no audio files, or is none.
    """
    numbers = Numbers()

    @asynccontextmanager
    async def following(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_follow(reader, numbers, log))
        yield
        looking.cancel()

    app = FastAPI(
        title="undersong",
        version=__version__,
        summary="What is similar to an artist or a track, also to those that nobody has linked.",
        docs_url=None,
        redoc_url=None,
        lifespan=following,
    )
    app.state.settings = settings
    media = read_media(settings.media) if settings.media else None
    guarded = [Depends(guard)] if settings.token is not None else []
    app.include_router(api.router(reader, media=media), dependencies=guarded)
    for make in DIALECTS.values():
        app.include_router(make(reader))
    app.include_router(_state(reader), responses=api.WRONG)
    app.include_router(_numbers(numbers), dependencies=guarded)
    app.include_router(page.router(page.read_page()))
    _add_errors(app, log)
    _describe(app)
    # The last one added is the first to see a request.
    app.add_middleware(ShownToken)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Strict)
    app.add_middleware(
        Watch,
        numbers=numbers,
        generation=lambda: reader.current.generation,
        log=silent if settings.quiet else log,
    )
    return app


def first_line(answers: Answers, address: str) -> str:
    """Say where the service is, with what it answers, and in which dialects."""
    items = " and ".join(f"{len(x.table):,} {kind}s" for kind, x in answers.kinds.items())
    spoken = ", ".join(DIALECTS) or "none"
    page_at = f"; page at {address}/" if page.read_page() else ""
    return (
        f"undersong at {address}: generation {answers.generation}, {items}; dialects: {spoken}"
        f"{page_at}; API at {address}/openapi.json"
    )


class Strict:
    """Middleware: headers that forbid a browser what no page of ours needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self._app(scope, receive, strict)


async def _follow(reader: Shelf[Answers], numbers: Numbers, log: Log) -> None:
    """Move to what is published, for as long as the service runs."""
    while True:
        answers = reader.current
        await run_in_threadpool(warm, answers)
        numbers.generation.set(answers.generation)
        for kind, items in answers.kinds.items():
            numbers.items.labels(kind).set(len(items.table))
        log(line(event="generation", generation=answers.generation))
        while reader.current is answers:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await run_in_threadpool(reader.refresh)
            except ArtifactError as error:
                numbers.refused.inc()
                log(line(event="refused", error=str(error)))


def _state(reader: Shelf[Answers]) -> APIRouter:
    """Routes for whoever watches the process; they need no token and tell nothing else."""
    routes = APIRouter()

    @routes.get("/health", responses={200: {"model": replies.Health}})
    async def health() -> Response:
        """Say that the process is up."""
        return json({"status": "up"})

    @routes.get("/ready", responses={200: {"model": replies.Ready}})
    async def ready() -> Response:
        """Say that a generation is open, and which."""
        return json({"status": "ready", "generation": reader.current.generation})

    return routes


def _numbers(numbers: Numbers) -> APIRouter:
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """Give the numbers of this service to Prometheus."""
        return Response(numbers.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _add_errors(app: FastAPI, log: Log) -> None:
    """Answer every error in one line; only what undersong says itself reaches the client."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refusal(400, _in_words(error))

    @app.exception_handler(UndersongError)
    async def known(request: Request, error: UndersongError) -> Response:
        return refusal(STATUS.get(type(error), 400), str(error))

    @app.exception_handler(ArtifactError)
    async def damaged(request: Request, error: ArtifactError) -> Response:
        log(line(event="damaged", error=str(error)))
        return refusal(503, "a file of this generation cannot be read; publish it again")

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        return refusal(500, "this is a fault of undersong; its log says more")


def _in_words(error: RequestValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(x) for x in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"there is no parameter {name[:60]!r} here; /openapi.json lists those that are"
    given = first.get("input")
    found = f", found {str(given)[:60]!r}" if isinstance(given, str | int | float) else ""
    return f"{name}: {first['msg']}{found}"


def _describe(app: FastAPI) -> None:
    """Make the OpenAPI say what holds here: errors are 400, never 422."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            for operations in made["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                made["components"]["schemas"].pop(name, None)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
