"""How clients call the service: at which addresses, by which names, from pages of which sites.

A browser sends what any page that it shows wants sent, from inside the network of whoever looks at
it. ``Host`` is the name that it believes to ask: one that is not ours was pointed here by somebody
else (DNS rebinding), whose page could then read every reply. ``Sec-Fetch-Site`` and ``Origin`` say
whose page asks; no page can write them.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undersong.errors import DataError
from undersong.service.options import HOSTS, ServiceSettings
from undersong.service.responses import refusal

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
