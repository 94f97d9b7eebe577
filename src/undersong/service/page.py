"""The page: files that ship with the package, in memory, and one page for all its addresses."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import orjson
import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Kind
from undersong.errors import UnknownItem
from undersong.model import ItemIndex
from undersong.service.middleware import address
from undersong.service.snapshot import Snapshot

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
    page: dict[str, File] = {}
    _gather(files("undersong") / "web", "", page)
    return page


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


def _gather(folder: Traversable, prefix: str, page: dict[str, File]) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            _gather(entry, f"{prefix}{entry.name}/", page)
        elif not entry.name.endswith((".py", ".pyc")):
            body = entry.read_bytes()
            ending = entry.name[entry.name.rfind(".") :]
            kind = TYPES.get(ending) or mimetypes.guess_type(entry.name)[0]
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            page[prefix + entry.name] = File(body, kind or "application/octet-stream", tag)


DIGITS = 4  # of a place in [-1, 1]: finer than a pixel of any screen


def map_reply(snapshot: Snapshot, kind: Kind) -> tuple[bytes, bytes]:
    """Return the map as JSON, plain and compressed by gzip.

    Raises
    ------
    UnknownItem
        If no map was drawn.
    """
    if kind not in snapshot.maps:
        hears = snapshot.model.audio_unavailable is None
        content = _content(snapshot.of(kind))
        plain = orjson.dumps({"generation": snapshot.generation, **content, "hears": hears})
        snapshot.maps[kind] = plain, gzip.compress(plain, 6, mtime=0)
    return snapshot.maps[kind]


def _content(index: ItemIndex) -> dict[str, object]:
    if index.places is None or index.regions is None:
        raise UnknownItem("no map was drawn of this run; serve a shelf made by `undersong publish`")
    main: list[str | None] = [None] * len(index.names.table)
    if index.attributes is not None:
        first = index.attributes.table["genres"].list.first().to_list()
        for row, genre in zip(index.name_rows.tolist(), first, strict=True):
            main[row] = genre
    table = index.names.table.with_columns(genre=pl.Series(main, dtype=pl.String))
    shown = index.places.join(table, on="id", how="inner", maintain_order="left")
    genres = sorted(shown["genre"].drop_nulls().unique())
    number = {genre: at for at, genre in enumerate(genres)}
    labels = index.regions.select(
        pl.col("genre").alias("text"), pl.col("x").round(DIGITS), pl.col("y").round(DIGITS)
    )
    return {
        "count": len(shown),
        "ids": shown["id"].to_list(),
        "names": shown["name"].to_list(),
        "x": shown["x"].cast(pl.Float64).round(DIGITS).to_list(),
        "y": shown["y"].cast(pl.Float64).round(DIGITS).to_list(),
        "long_tail": (shown["relations"] == 0).cast(pl.Int8).to_list(),
        "genre": [number.get(x, -1) for x in shown["genre"]],
        "genres": genres,
        "labels": labels.with_columns(pl.col("x", "y").cast(pl.Float64).round(DIGITS)).to_dicts(),
    }
