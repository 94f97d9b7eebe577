"""A media server behind this one: it answers what undersong does not, and says who may ask.

A player is pointed here instead of there, with the name and password that it has there. Its
requests go on as they are and the replies come back as they come, sound too; similar songs and
artists are ours, each with what the server knows of it, so that it can be played.
"""

import asyncio
import hashlib
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import httpx
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from undersong.servers.connection import AGENT, fields, place_of, rows, text
from undersong.service.dialects.messages import Parameters

SECONDS = 60.0  # that the server may be silent
KNOWN_SECONDS = 60.0  # in which who could log in need not do so again
LOGINS = 1000  # that are remembered
AT_ONCE = 8  # songs that are asked for at a time
LONGEST = 4 << 20  # bytes of a reply that is read here
SONIC = "sonicSimilarity"
LOGIN = ("u", "p", "t", "s", "apiKey", "v", "c")
SENT = ("range", "if-range", "if-none-match", "if-modified-since", "accept", "content-type")
RETURNED = (
    *("content-type", "content-length", "content-range", "content-encoding", "accept-ranges"),
    *("etag", "last-modified", "cache-control", "expires", "content-disposition"),
    "x-content-duration",
)


class Upstream:
    """The server, and who has logged in to it a moment ago.

    Parameters
    ----------
    url : its address

    Raises
    ------
    DataError
        If that is none.
    """

    def __init__(self, url: str) -> None:
        self.place = place_of(url)
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(), timeout=SECONDS, trust_env=False
        )
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        """Close what is open to the server."""
        await self._client.aclose()

    async def pass_on(self, request: Request) -> Response:
        """Return what the server replies to a request, as it comes.

        Raises
        ------
        HTTPException
            502 if the server cannot be reached, or sends on to another address.
        """
        sent = {x: request.headers[x] for x in SENT if x in request.headers}
        coding = {"accept-encoding": request.headers.get("accept-encoding", "identity")}
        name = request.url.path.rpartition("/")[2]
        outgoing = self._client.build_request(
            request.method,
            f"{self.place}/rest/{name}?{request.url.query}",
            content=await request.body(),
            headers={**sent, **coding, "user-agent": request.headers.get("user-agent", AGENT)},
        )
        try:
            reply = await self._client.send(outgoing, stream=True)
        except httpx.HTTPError as error:
            raise HTTPException(502, "the media server cannot be reached; is it on?") from error
        close = BackgroundTask(reply.aclose)
        if reply.is_redirect:
            await reply.aclose()
            raise HTTPException(502, "the media server sends on to another address")
        headers = {x: reply.headers[x] for x in RETURNED if x in reply.headers}
        return StreamingResponse(reply.aiter_raw(), reply.status_code, headers, background=close)

    async def admits(self, parameters: Parameters) -> bool:
        """Whether the server lets somebody in, now or a moment ago."""
        shown = "\n".join(f"{x}={parameters.get(x, '')}" for x in LOGIN)
        key = hashlib.sha256(shown.encode()).digest()
        if time.monotonic() < self._known.get(key, 0.0):
            return True
        if await self.ask("ping", parameters) is None:
            self._known.pop(key, None)
            return False
        self._known[key] = time.monotonic() + KNOWN_SECONDS
        if len(self._known) > LOGINS:
            self._known.popitem(last=False)
        return True

    async def ask(self, name: str, parameters: Parameters, **own: str) -> dict[str, Any] | None:
        """Return the server's reply to somebody; None if it refuses, or is no such server."""
        login = {x: parameters[x] for x in LOGIN if x in parameters}
        form = {**login, **own, "f": "json"}
        try:
            async with self._client.stream(
                "POST", f"{self.place}/rest/{name}.view", data=form
            ) as reply:
                content = b""
                async for block in reply.aiter_bytes():
                    content += block
                    if len(content) > LONGEST:
                        return None
            answer = httpx.Response(reply.status_code, content=content).json()
        except (httpx.HTTPError, ValueError, RecursionError):
            return None
        whole = fields(fields(answer).get("subsonic-response"))
        return whole if whole.get("status") == "ok" else None

    async def songs_of(self, item: str, parameters: Parameters) -> list[tuple[str, str, str]]:
        """Return title, artist and id of each song of an album, or of a song."""
        album = fields(await self.ask("getAlbum", parameters, id=item)).get("album")
        song = fields(await self.ask("getSong", parameters, id=item)).get("song")
        listed = [*rows(fields(album).get("song")), *rows(song)]
        return [(text(x.get("title")), text(x.get("artist")), text(x.get("id"))) for x in listed]

    async def complete(self, content: Mapping[str, Any], parameters: Parameters) -> dict[str, Any]:
        """Put what the server knows in the place of songs and artists that we name.

        Songs that it has no more are left out. Of an artist all but who is similar is the server's.
        """
        return {
            name: await self._complete(name, value, parameters) for name, value in content.items()
        }

    async def _complete(self, name: str, value: Any, parameters: Parameters) -> Any:
        if name.startswith("artistInfo"):
            endpoint = f"get{name[0].upper()}{name[1:]}"
            reply = await self.ask(endpoint, parameters, id=parameters["id"])
            return {**fields(fields(reply).get(name)), **value}
        if name == "openSubsonicExtensions":
            listed = rows(fields(await self.ask("getOpenSubsonicExtensions", parameters)).get(name))
            known = {x.get("name") for x in listed}
            ours = [x for x in value if x["name"] == SONIC and SONIC not in known]
            return [*listed, *ours]
        if name == "sonicMatch":
            songs = await self._songs([x["entry"] for x in value], parameters)
            pairs = zip(value, songs, strict=True)
            return [{**x, "entry": song} for x, song in pairs if song]
        songs = await self._songs(value["song"], parameters)
        return {"song": [x for x in songs if x]}

    async def _songs(self, songs: list[Any], parameters: Parameters) -> list[Any]:
        async def one(song: Any) -> Any:
            async with self._turns:
                reply = await self.ask("getSong", parameters, id=song["id"])
            return fields(fields(reply).get("song"))

        return await asyncio.gather(*map(one, songs))
