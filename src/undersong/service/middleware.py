"""Who may ask and how much, before any route sees it; and how replies and refusals are written.

A browser sends what any page that it shows wants sent, from inside the network of whoever looks at
it. ``Host`` is the name that it believes to ask: one that is not ours was pointed here by somebody
else (DNS rebinding), whose page could then read every reply. ``Sec-Fetch-Site`` and ``Origin`` say
whose page asks; no page can write them.

What is refused gets the status of HTTP for it and one line that says why.
"""

import asyncio
import os
import re
import secrets
import stat
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import iscoroutinefunction
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from time import monotonic
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undersong.errors import DataError
from undersong.io.files import flush
from undersong.service.options import (
    ADDRESSES,
    BODY,
    BODY_SECONDS,
    BURST,
    HOSTS,
    LINGER_SECONDS,
    QUERY,
    QUESTION,
    UPLOAD,
    ServiceSettings,
)


def json(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a reply of JSON."""
    body = orjson.dumps(content)
    return Response(body, status, headers=headers, media_type="application/json")


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Make an error reply; ``Retry-After`` where waiting helps."""
    content: dict[str, Any] = {"error": " ".join(text.split()), "status": status}
    waiting = {"Retry-After": "1"} if status in (429, 503) else {}
    return json(content, status=status, headers={**waiting, **(headers or {})})


HOST = re.compile(r"(\[[0-9a-f:.]{2,50}\]|[a-z0-9_.-]{1,255})(?::[0-9]{1,5})?")
NAME = re.compile(r"[a-z0-9_.-]{1,255}|[0-9a-f:.]{2,50}")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[a-z0-9_.\[\]:-]{1,255}")
USUAL_PORT = re.compile(r"^(http://.*):80$|^(https://.*):443$")
READING = ("GET", "HEAD", "OPTIONS")
WITH_IDS = ("/api/items/", "/media/")  # what follows is an id, in which every slash counts
ASKED = b"access-control-request-method"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match, Range",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "600",
}


class Callers:
    """Middleware: refuse foreign names and foreign sites, and let the sites read that are named."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._origins = frozenset(x.encode() for x in settings.origins)
        hosts = settings.hosts

        @lru_cache(maxsize=HOSTS)
        def is_ours(host: bytes) -> bool:
            return hosts is None or is_one_of(host.decode("latin-1"), hosts)

        self._is_ours = is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").lower()
        listed = origin in self._origins
        scope["path"] = tidy(scope["path"])
        if headers.get(b"x-forwarded-proto") in (b"http", b"https"):
            scope["scheme"] = headers[b"x-forwarded-proto"].decode()
        if self._origins:
            send = _readable(send, origin if listed else None)
        if refused := self._refused(scope) or (not listed and _foreign(scope, headers, origin)):
            await refusal(*refused)(scope, receive, send)
        elif listed and scope["method"] == "OPTIONS" and ASKED in headers:
            await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return 400, f"the request has {len(hosts)} headers Host; send one"
        if self._is_ours(hosts[0]):
            return None
        name = hosts[0].decode("latin-1")[:80]
        return 421, (
            f"this service does not go by the name {name!r}; ask by its address, or start it with "
            "--host-name NAME"
        )


def _foreign(scope: Scope, headers: dict[bytes, bytes], origin: bytes) -> tuple[int, str] | None:
    """Refuse what sends or plays something, if a page of another site asks for it."""
    if scope["method"] in READING and not scope["path"].startswith("/media/"):
        return None
    site = headers.get(b"sec-fetch-site")
    if site in (b"same-origin", b"none") or (site is None and not origin):
        return None
    # The scheme does not count, which proxies change.
    if site is None and origin.partition(b"://")[2] == headers[b"host"].lower():
        return None
    page = f"a page of {origin.decode('latin-1')[:80]!r}" if origin else "a page of another site"
    return 403, f"{page} may not ask for this; start the service with --cors ORIGIN to allow it"


def tidy(path: str) -> str:
    """Return a path without the slashes that sloppy clients put too many; ids keep theirs."""
    if "//" not in path and not (path.endswith("/") and len(path) > 1):
        return path
    path = "/" + path.lstrip("/")
    return path if path.startswith(WITH_IDS) else re.sub("/+", "/", path).rstrip("/") or "/"


def is_one_of(host: str, names: Iterable[str]) -> bool:
    """Whether a header ``Host`` is a name of this machine's loopback, or one of ours.

    Parameters
    ----------
    names : names and addresses; ``0.0.0.0`` or ``::`` stands for every address, none for a name
    """
    parts = HOST.fullmatch(host.lower())
    if parts is None:
        return False
    name = parts[1].strip("[]").rstrip(".")
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(x in ("0.0.0.0", "::") for x in names)


def read_names(names: Iterable[str]) -> frozenset[str]:
    """Read the names that the service goes by.

    Raises
    ------
    DataError
        If one is no name of a host.
    """
    read = frozenset(x.lower().strip("[]").rstrip(".") for x in names)
    for name in read:
        if not NAME.fullmatch(name):
            raise DataError(
                f"{name!r} is no name of a host; give --host-name as in music.example, with no "
                "scheme, port or path"
            )
    return read


def read_origins(origins: Iterable[str]) -> frozenset[str]:
    """Read the origins of pages that may read what the service replies, as browsers send them.

    Raises
    ------
    DataError
        If one is no origin. ``*`` and ``null`` are none: they would let any page in.
    """
    read = frozenset(x.lower().rstrip("/") for x in origins)
    for origin in read:
        if not ORIGIN.fullmatch(origin):
            raise DataError(
                f"{origin!r} is no origin; give --cors as in https://player.example, with scheme, "
                "host and no path"
            )
    return frozenset(USUAL_PORT.sub(r"\1\2", x) for x in read)


def network(address: str) -> str:
    """Return whom an address belongs to: of version 6, where each has many, its first 64 bits."""
    if ":" not in address:
        return address
    try:
        number = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    assert isinstance(number, IPv6Address)
    return str(number.ipv4_mapped or int(number) >> 64)


def _readable(send: Send, origin: bytes | None) -> Send:
    """Let a page of an origin read the reply."""
    headers = [(b"vary", b"Origin")]
    if origin is not None:
        headers.append((b"access-control-allow-origin", origin))

    async def readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return readable


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
