"""The page: files that ship with the package, in memory, and one page for all its addresses.

And audio files of the catalogue that it may play: local files below its folder, no others.
"""

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import orjson
import polars as pl
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from undersong.catalogue import Kind, read_catalogue
from undersong.errors import DataError, UnknownItem
from undersong.item_index import ItemIndex
from undersong.retrieval.projection import subregions
from undersong.service.middleware import address
from undersong.service.snapshot import Snapshot, best_known

INDEX = "index.html"
# Whole lines of comments, and indents: a fifth of what would go over the wire.
SPARED = re.compile(rb"^\s*/\*.*?\*/\s*?\n|^\s*//[^\n]*\n|^[ \t]+", re.MULTILINE | re.DOTALL)
STALE = re.compile(r"[0-9a-f]{16}/")
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class File:
    """One file of the page, plain and compressed by gzip; ``tag`` is the hash of its content."""

    body: bytes
    compressed: bytes
    type: str
    tag: str


def read_page() -> dict[str, File]:
    """Read the files of the page by their path; none where the package has no page.

    Each has a second path that begins with the hash of all of them. The index names those, so a
    browser asks for a file once in a version of the page.
    """
    bodies: dict[str, bytes] = {}
    _gather(files("undersong") / "web", "", bodies)
    index = bodies.pop(INDEX, None)
    digest = hashlib.sha256(b"".join(bodies[x] for x in sorted(bodies))).hexdigest()[:16]
    page = {path: _file(path, body) for path, body in bodies.items()}
    page |= {f"{digest}/{path}": file for path, file in page.items()}
    if index is not None:
        links = re.compile(rb'(href|src)="(?=[\w-]+\.(?:js|css|svg)")')
        page[INDEX] = _file(INDEX, links.sub(rb'\1="' + digest.encode() + b"/", index))
    return page


def route(page: dict[str, File]) -> Route:
    """Answer behind all other addresses: with a file of the page, else the page for browsers."""

    async def show(request: Request) -> Response:
        path: str = request.path_params["path"]
        wanted = page.get(path or INDEX)
        if wanted is None and STALE.match(path):  # of a page that is open since the last version
            wanted = page.get(path.partition("/")[2])
        browsing = "text/html" in request.headers.get("accept", "")
        if wanted is None and browsing and not path.startswith(("api/", "media/")):
            wanted = page.get(INDEX)
        if wanted is None:
            raise HTTPException(404, f"there is nothing at /{path[:80]}; see /openapi.json")
        lasting = "/" in path and page.get(path) is wanted
        headers = {"ETag": wanted.tag, "Cache-Control": FOREVER if lasting else "no-cache"}
        headers["Vary"] = "Accept-Encoding"
        if request.headers.get("if-none-match") == wanted.tag:
            return Response(status_code=304, headers=headers)
        body = wanted.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"], body = "gzip", wanted.compressed
        return Response(body, headers=headers, media_type=wanted.type)

    return address("/{path:path}", show, guarded=False)


def _gather(folder: Traversable, prefix: str, bodies: dict[str, bytes]) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            _gather(entry, f"{prefix}{entry.name}/", bodies)
        elif not entry.name.endswith((".py", ".pyc")):
            body = entry.read_bytes()
            written = entry.name.endswith((".js", ".css"))
            bodies[prefix + entry.name] = SPARED.sub(b"", body) if written else body


def _file(path: str, body: bytes) -> File:
    kind = TYPES.get(path[path.rfind(".") :]) or mimetypes.guess_type(path)[0]
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    compressed = gzip.compress(body, 9, mtime=0)
    return File(body, compressed, kind or "application/octet-stream", tag)


DIGITS = 4  # of a place in [-1, 1]: finer than a pixel of any screen


def map_reply(snapshot: Snapshot, kind: Kind) -> tuple[bytes, bytes]:
    """Return the map as JSON, plain and compressed by gzip.

    Raises
    ------
    UnknownItem
        If no map was drawn.
    """
    if kind not in snapshot.maps:
        content = _content(snapshot.of(kind))
        able = {"hears": snapshot.model.audio_unavailable is None, "describes": snapshot.describes}
        plain = orjson.dumps({"generation": snapshot.generation, **content, **able})
        snapshot.maps[kind] = plain, gzip.compress(plain, 6, mtime=0)
    return snapshot.maps[kind]


def _content(index: ItemIndex) -> dict[str, object]:
    if index.places is None or index.regions is None:
        raise UnknownItem("no map was drawn of this run; serve a shelf made by `undersong publish`")
    genres_of: list[list[str]] = [[] for _ in index.names.table["id"]]
    if index.attributes is not None:
        known = index.attributes.table["genres"].to_list()
        for row, words in zip(index.name_rows.tolist(), known, strict=True):
            genres_of[row] = words
    table = index.names.table.with_columns(
        genres=pl.Series(genres_of, dtype=pl.List(pl.String)),
    ).with_columns(genre=pl.col("genres").list.first())
    shown = best_known(index.places.join(table, on="id", how="inner", maintain_order="left"))
    genres = sorted(shown["genre"].drop_nulls().unique())
    number = {genre: at for at, genre in enumerate(genres)}
    labels = index.regions.select(pl.col("genre").alias("text"), "x", "y", zoom=pl.lit(1.0))
    labels = pl.concat(
        [labels, subregions(_worded(index, shown), known=genres)], how="vertical_relaxed"
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


def _worded(index: ItemIndex, shown: pl.DataFrame) -> pl.DataFrame:
    """Return x, y and words of each item: its tags, or its genres where no tag is known."""
    if index.background is None:
        return shown.select("x", "y", words="genres")
    tags = index.background.table.select("id", words="tags")
    return shown.select("id", "x", "y").join(tags, on="id", how="left").drop("id")


@dataclass(frozen=True)
class Media:
    """Where each track and artist can be heard.

    Parameters
    ----------
    root : folder below which the files lie, with no links left in its path
    files : path of each item, by kind and id; of an artist its best known track
    """

    root: Path
    files: dict[tuple[str, str], str]

    def has(self, kind: str, item: str) -> bool:
        """Whether a file is named for an item."""
        return (kind, item) in self.files

    def find(self, kind: str, item: str) -> Path | None:
        """Find the file of an item; None where there is none, or it lies outside of the root."""
        named = self.files.get((kind, item))
        if named is None:
            return None
        path = (self.root / named).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None


def read_media(folder: Path) -> Media:
    """Read from a catalogue which files there are.

    Raises
    ------
    DataError
        If the catalogue does not say where its audio files are.
    ArtifactError
        If the folder holds no catalogue.
    """
    catalogue = read_catalogue(folder)
    if catalogue.audio_root is None:
        raise DataError(f"{folder} names no folder of audio files; import it with its audio")
    named = catalogue.tracks.filter(pl.col("path").is_not_null())
    known = named.sort("popularity", descending=True, nulls_last=True, maintain_order=True)
    files: dict[tuple[str, str], str] = {}
    for track, artist, path in known.select("id", "artist", "path").iter_rows():
        files[("track", track)] = path
        files.setdefault(("artist", artist), path)
    return Media(catalogue.audio_root.resolve(), files)
