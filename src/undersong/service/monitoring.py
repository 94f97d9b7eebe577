"""What the service tells about itself: numbers for Prometheus, one JSON line a request.

A line holds the route as it is written in the code, never what was asked for, and never a token.
"""

from collections.abc import Callable
from time import perf_counter

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undersong.service.middleware import ROUTE

Log = Callable[[str], None]
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # seconds
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def silent(text: str) -> None:
    """Log nothing."""


def line(**fields: str | int | float) -> str:
    """Write one line of the log."""
    return orjson.dumps(fields).decode()


class Metrics:
    """Numbers of one service, in the words of Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "undersong_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "undersong_request_seconds",
            "Seconds until a reply was sent.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.generation = Gauge(
            "undersong_generation", "Generation in use.", registry=self.registry
        )
        self.items = Gauge(
            "undersong_items", "Items in use by kind.", ("kind",), registry=self.registry
        )
        self.refused = Counter(
            "undersong_refused_generations",
            "Generations that were published and could not be opened.",
            registry=self.registry,
        )

        # What ``labels`` returns: looking a number up takes longer than counting with it.
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = (method, route, status)
        if key not in self._labelled:
            counter = self.requests.labels(method, route, status)
            self._labelled[key] = counter, self.seconds.labels(route)
        number, time = self._labelled[key]
        number.inc()
        time.observe(seconds)

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self.registry)


class AccessLog:
    """Middleware: count and log every request."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, generation: Callable[[], int], log: Log
    ) -> None:
        self._app, self._metrics = app, metrics
        self._generation, self._log = generation, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begin = 500, perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._note(scope, status, perf_counter() - begin)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route: str = scope.get(ROUTE, "none")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.count(method, route, status, seconds)
        if self._log is not silent:
            self._log(
                line(
                    method=method,
                    route=route,
                    status=status,
                    ms=round(1000 * seconds, 2),
                    generation=self._generation(),
                )
            )
