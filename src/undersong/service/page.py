"""The page: files that ship with the package, in memory, and one page for all its addresses."""

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.service.addresses import address

INDEX = "index.html"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    body: bytes
    type: str
    tag: str


def read_page() -> dict[str, File]:
    """Read the files of the page by their path; none where the package has no page."""
    found: dict[str, File] = {}
    _gather(files("undersong") / "web", "", found)
    return found


def route(page: dict[str, File]) -> Route:
    """Answer behind all other addresses: with a file of the page, else the page for browsers."""

    async def show(request: Request) -> Response:
        path: str = request.path_params["path"]
        wanted = page.get(path or INDEX)
        browsing = "text/html" in request.headers.get("accept", "")
        if wanted is None and browsing and not path.startswith(("api/", "media/")):
            wanted = page.get(INDEX)
        if wanted is None:
            raise HTTPException(404, f"there is nothing at /{path[:80]}; see /openapi.json")
        headers = {"ETag": wanted.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == wanted.tag:
            return Response(status_code=304, headers=headers)
        return Response(wanted.body, headers=headers, media_type=wanted.type)

    return address("/{path:path}", show, guarded=False)


def _gather(folder: Traversable, prefix: str, found: dict[str, File]) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            _gather(entry, f"{prefix}{entry.name}/", found)
        elif not entry.name.endswith((".py", ".pyc")):
            body = entry.read_bytes()
            ending = entry.name[entry.name.rfind(".") :]
            kind = TYPES.get(ending) or mimetypes.guess_type(entry.name)[0]
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[prefix + entry.name] = File(body, kind or "application/octet-stream", tag)
