"""The service as one application: the API, the dialects, the page, and what stands around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from undersong.errors import (
    ArtifactError,
    DataError,
    Unavailable,
    UndersongError,
    UnknownItem,
    needs,
)
from undersong.runs import FOREIGN, RunReader
from undersong.service.dialects import (
    audiomuse,
    audioscrobbler,
    lidarr,
    listenbrainz_labs,
    opensubsonic,
)
from undersong.service.middleware import Callers, Limits, ShownToken, address, json, refusal
from undersong.service.monitoring import AccessLog, Log, Metrics, line, silent
from undersong.service.options import LOOK_SECONDS, ServiceSettings
from undersong.service.page import read_media, read_page, route
from undersong.service.routes import routes
from undersong.service.snapshot import Snapshot, warm

# Each asks for the token in the way that its clients show it.
DIALECTS: dict[str, Callable[[RunReader[Snapshot]], list[Route]]] = {
    "Last.fm": audioscrobbler.routes,
    "OpenSubsonic": opensubsonic.routes,
    "ListenBrainz": listenbrainz_labs.routes,
    "AudioMuse": audiomuse.routes,
    "Lidarr": lidarr.routes,
}
STATUS = {UnknownItem: 404, DataError: 400, Unavailable: 501}
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


def make_app(
    reader: RunReader[Snapshot], settings: ServiceSettings, *, log: Log = silent
) -> Starlette:
    """Build the service around an open shelf.

    Parameters
    ----------
    log : takes one line of JSON a request, and one for each generation

    Raises
    ------
    DataError, ArtifactError
        If the catalogue of ``settings.media`` has no audio files, or is none.
    """
    metrics = Metrics()

    media = read_media(settings.media) if settings.media else None

    @asynccontextmanager
    async def following(app: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(_follow(reader, metrics, log))
        yield
        looking.cancel()
        if app.state.upstream:
            await app.state.upstream.close()

    app = Starlette(
        routes=[
            *routes(reader, media=media),
            *(x for make in DIALECTS.values() for x in make(reader)),
            address("/openapi.json", _openapi, guarded=False),
            address("/metrics", lambda request: _metrics(metrics)),
            route(read_page()),
        ],
        # The first one is the first to see a request.
        middleware=[
            Middleware(
                AccessLog,
                metrics=metrics,
                generation=lambda: reader.current.generation,
                log=silent if settings.quiet else log,
            ),
            Middleware(SecurityHeaders),
            Middleware(Callers, settings=settings),
            Middleware(Limits, settings=settings),
            Middleware(ShownToken),
        ],
        exception_handlers=_errors(log),
        lifespan=following,
    )
    app.state.settings, app.state.upstream = settings, None
    if settings.upstream:
        with needs("servers", "a media server behind the service"):
            from undersong.service.dialects.upstream import Upstream

            app.state.upstream = Upstream(settings.upstream)
    return app


def first_line(snapshot: Snapshot, address: str) -> str:
    """Return where the service is, with what it answers, and in which dialects."""
    items = " and ".join(f"{len(x.names.table):,} {kind}s" for kind, x in snapshot.kinds.items())
    spoken = ", ".join(DIALECTS) or "none"
    page_at = f"; page at {address}/" if read_page() else ""
    return (
        f"undersong at {address}: generation {snapshot.generation}, {items}; dialects: {spoken}"
        f"{page_at}; API at {address}/openapi.json"
    )


class SecurityHeaders:
    """Middleware: headers that forbid a browser what no page of ours needs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self._app(scope, receive, strict)


async def _follow(reader: RunReader[Snapshot], metrics: Metrics, log: Log) -> None:
    """Move to what is published, for as long as the service runs."""
    while True:
        snapshot = reader.current
        try:
            await run_in_threadpool(warm, snapshot)
        except FOREIGN as error:
            log(line(event="damaged", generation=snapshot.generation, error=str(error)))
        metrics.generation.set(snapshot.generation)
        for kind, index in snapshot.kinds.items():
            metrics.items.labels(kind).set(len(index.names.table))
        log(line(event="generation", generation=snapshot.generation))
        while reader.current is snapshot:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await run_in_threadpool(reader.refresh)
            except ArtifactError as error:
                metrics.refused.inc()
                log(line(event="refused", error=str(error)))


def _openapi(request: Request) -> Response:
    # Imported when first needed: few ask, and it builds the shape of every reply.
    from undersong.service.openapi import describe

    return json(describe())


def _metrics(metrics: Metrics) -> Response:
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _errors(log: Log) -> dict[type[Exception], ExceptionHandler]:
    """Answer every error in one line; only what undersong says itself reaches the client."""

    async def respond(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return refusal(error.status_code, str(error.detail), error.headers)
        if isinstance(error, ArtifactError):
            log(line(event="damaged", error=str(error)))
            return refusal(503, "a file of this generation cannot be read; publish it again")
        if isinstance(error, ModuleNotFoundError):
            package = (error.name or "a package").partition(".")[0]
            return refusal(501, f"this service is installed without {package}, which this needs")
        if isinstance(error, ClientDisconnect):
            return refusal(400, "the request ended early")
        if isinstance(error, UndersongError):
            return refusal(STATUS.get(type(error), 400), str(error))
        return refusal(500, "this is a fault of undersong; its log says more")

    known = (HTTPException, UndersongError, ModuleNotFoundError, ClientDisconnect, Exception)
    return {x: respond for x in known}
