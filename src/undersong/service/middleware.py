"""What no request may exceed: its length, its characters, its body, its time, its rate.

Refused before any route sees it, with the status of HTTP for it and one line that says why.
"""

import asyncio
import os
import re
import secrets
import stat
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from time import monotonic
from typing import cast
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undersong.errors import DataError
from undersong.io.files import flush
from undersong.service.callers import network
from undersong.service.options import (
    ADDRESSES,
    BODY,
    BODY_SECONDS,
    BURST,
    LINGER_SECONDS,
    QUERY,
    QUESTION,
    UPLOAD,
    ServiceSettings,
)
from undersong.service.responses import refusal

CONTROL = re.compile(rb"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
LARGEST = {  # bytes of a body, where more than BODY are expected
    "/api/sounds-like": UPLOAD + BODY,
    "/api/recommend": QUESTION,
    "/api/playlist": QUESTION,
}


class Limits:
    """Middleware: the limits of ``undersong.service.options``."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._rates = Rates(settings.rate) if settings.rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        most = LARGEST.get(scope["path"], BODY)
        refused = _refused(scope) or self._too_often(scope) or _too_long(headers, most)
        bodied = b"content-length" in headers or b"transfer-encoding" in headers
        if not bodied:
            await (refusal(*refused) if refused else self._app)(scope, receive, send)
            return
        body = Body(receive, send, most=most)
        if refused:
            body.cut = True
            await refusal(*refused)(scope, receive, body.send)
        else:
            await self._app(scope, body.receive, body.send)

    def _too_often(self, scope: Scope) -> tuple[int, str] | None:
        address = network(scope["client"][0]) if scope["client"] else ""
        if self._rates is None or self._rates.allow(address):
            return None
        return 429, f"more than {self._rates.rate:g} requests a second; wait a little"


class Body:
    """The body of one request: so long at most, in so much time, and a chance to read why not.

    A client that sends too much is answered at once and may go on sending for a moment, since
    closing while it sends would take the answer from it.

    Parameters
    ----------
    most : bytes
    """

    def __init__(self, receive: Receive, send: Send, *, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._size, self._end = 0, monotonic() + BODY_SECONDS
        self._whole = self.cut = False

    async def receive(self) -> Message:
        """Wait for a piece of the body; HTTPException 408 or 413 if it is late or too much."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._end - monotonic(), 0)):
                message = await self._receive()
        except TimeoutError as error:
            self.cut = True
            raise HTTPException(
                408, f"the body did not arrive within {BODY_SECONDS:g} s; send it again"
            ) from error
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            self.cut = True
            raise HTTPException(413, _much(self._most))
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; behind the last of one that cuts a body off, close."""
        if not self.cut:
            await self._send(message)
        elif message["type"] == "http.response.start":
            headers = [*message["headers"], (b"connection", b"close")]
            await self._send({**message, "headers": headers})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while (await self._receive()).get("more_body", False):
                    pass
        except TimeoutError:
            return


class Rates:
    """Who asks how often: a bucket an address, filled at a rate, emptied by requests."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._full = max(rate * BURST, 1.0)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Count a request and say whether it may pass."""
        now = self._clock()
        left, then = self._left.pop(address, (self._full, now))
        left = min(self._full, left + (now - then) * self.rate)
        self._left[address] = (left - 1 if left >= 1 else left), now
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


def _refused(scope: Scope) -> tuple[int, str] | None:
    raw: bytes = scope.get("raw_path") or b""
    query: bytes = scope["query_string"]
    if len(raw) + len(query) > QUERY:
        return 414, f"the address has {len(raw) + len(query)} bytes; ask with {QUERY} or fewer"
    if CONTROL.search(query) or CONTROL.search(raw):
        return 400, "the address holds control characters; leave them out"
    return None


def _too_long(headers: dict[bytes, bytes], most: int) -> tuple[int, str] | None:
    length = headers.get(b"content-length", b"0")
    return (413, _much(most)) if not length.isdigit() or int(length) > most else None


def _much(most: int) -> str:
    return f"the body has more than {most:,} bytes; send less"


SHOWN = "undersong.token"  # key of a request's scope: the token that a client showed
SHORTEST = 16  # characters
WANTED = (
    "this service wants its token: send the header 'Authorization: Bearer TOKEN', or ?token=TOKEN"
)


def read_token(path: Path) -> str:
    """Read the secret token, or make one at the first start: 43 random characters, mode 0600.

    Raises
    ------
    DataError
        If the file cannot be read or made, others can read it, or its content is too short.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _checked(path)
        token = secrets.token_urlsafe(32)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
        flush(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the token file {path} cannot be read or made: {error}") from error
    return token


def _checked(path: Path) -> str:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DataError(f"others can read the token in {path}; run: chmod 600 {path}")
    token = path.read_text(encoding="ascii").strip()
    if len(token) < SHORTEST:
        raise DataError(
            f"{path} holds a token of {len(token)} characters; write {SHORTEST} or more, or remove "
            "the file to have one made"
        )
    return token


def fits(token: str, shown: str | None) -> bool:
    """Whether what a client shows is the token; takes as long for any that is not."""
    return shown is not None and secrets.compare_digest(token.encode(), shown.encode())


def guard(request: Request) -> None:
    """Let a request pass that shows the token.

    Raises
    ------
    HTTPException
        401 without a token or with another one.
    """
    token: str | None = request.app.state.settings.token
    shown: str | None = request.scope.get(SHOWN)
    if token is None or fits(token, shown):
        return
    what = "another token was sent; " if shown else ""
    raise HTTPException(401, what + WANTED, headers={"WWW-Authenticate": "Bearer"})


class ShownToken:
    """Middleware: note the token that a client shows, and take it out of the query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if b"token=" in scope["query_string"]:
                _take_out(scope)
            for name, value in scope["headers"]:
                if name == b"authorization":
                    scheme, _, token = value.decode("latin-1").partition(" ")
                    if scheme.lower() in ("bearer", "token"):
                        scope[SHOWN] = token.strip()
        await self._app(scope, receive, send)


def _take_out(scope: Scope) -> None:
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in pairs if name == "token"]
    if shown:
        scope[SHOWN] = shown[0]
        others = [(name, value) for name, value in pairs if name != "token"]
        scope["query_string"] = urlencode(others).encode("ascii")


ROUTE = "undersong.route"  # key of a request's scope: the path of the address that answers
Answer = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


def address(
    path: str, answer: Answer, *, methods: Sequence[str] = ("GET",), guarded: bool = True
) -> Route:
    """Answer at an address; what is no coroutine may take its time, and does so in a thread.

    Parameters
    ----------
    path : with what differs in braces, as Starlette reads it
    guarded : whether a client must show the service's token, if it has one
    """
    quick = iscoroutinefunction(answer)
    wait = cast(Callable[[Request], Awaitable[Response]], answer)
    reply = cast(Callable[[Request], Response], answer)

    async def asked(request: Request) -> Response:
        if guarded:
            guard(request)
        request.scope[ROUTE] = path
        return await (wait(request) if quick else run_in_threadpool(reply, request))

    return Route(path, asked, methods=list(methods))
