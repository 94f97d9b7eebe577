"""Export to Qdrant: requests that add the points, one a line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen
from uuid import NAMESPACE_URL, uuid5

import polars as pl

from undersong.catalogue import Kind
from undersong.errors import SettingsError, UndersongError
from undersong.export.rows import FORMAT, Rows, note, placing
from undersong.io.files import read_json
from undersong.progress import Progress, silent

POINTS = 256  # of one request: 128 numbers each are half a megabyte; a server takes 32 MB


def write_requests(
    rows: Rows, out: Path, *, force: bool = False, progress: Progress = silent
) -> None:
    """Write a JSON Lines file of which each line is the body of one "upsert points" request.

    A point has the UUID of ``point``, the vector, and as payload the item's id and what is known
    of it. The note beside it says under ``collection`` which body makes the collection.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.

    Source: Qdrant REST API, PUT /collections/{name}/points.
    """
    about = rows.origin | {
        "target": "qdrant",
        "collection": {"vectors": {"size": rows.width, "distance": "Cosine"}},
    }
    with placing(out, about, force=force) as (temporary,), temporary.open("wb") as file:
        for block in rows.blocks("qdrant", progress):
            for body in _bodies(block, rows.origin["kind"]):
                file.write(body.encode() + b"\n")


def point(kind: Kind, item: str) -> str:
    """Id of an item's point, the same in every generation; Qdrant takes numbers and UUIDs only."""
    return str(uuid5(NAMESPACE_URL, f"undersong:{kind}:{item}"))


def _bodies(block: pl.DataFrame, kind: Kind) -> Iterator[str]:
    points = block.select(
        pl.Series("id", [point(kind, item) for item in block["id"]], dtype=pl.String),
        "vector",
        pl.struct(pl.exclude("vector")).alias("payload"),
    )
    for part in points.iter_slices(POINTS):
        lines = part.write_ndjson().rstrip("\n").split("\n")
        yield f'{{"points":[{",".join(lines)}]}}'


KEY = "QDRANT_API_KEY"
SECONDS = 60  # that one request may take


def send(out: Path, url: str, *, alias: str, progress: Progress = silent) -> str:
    """Send what ``qdrant.write_requests`` wrote and return the name of the new collection.

    Readers ask the alias. It moves when every point has arrived, so they see all of the old
    points or all of the new. A transfer that broke off is continued by the same call; the old
    collection stays until somebody deletes it. The environment variable QDRANT_API_KEY, where
    set, is sent as the key.

    Raises
    ------
    SettingsError
        If ``url`` is no http or https address.
    UndersongError
        If the server cannot be reached, refuses, or counts other points than were sent.

    Source: Qdrant REST API: collections, points, aliases.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise SettingsError(f"{url!r} is no address; write it as http://localhost:6333")
    server = url.rstrip("/")
    about = read_json(note(out), version=FORMAT, hint="export again")
    name = f"{alias}-{about['generation']}-{about['files'][out.name]['sha256'][:12]}"
    collection = f"{server}/collections/{quote(name, safe='')}"
    if not _ask(f"{collection}/exists", "GET")["exists"]:
        _ask(collection, "PUT", about["collection"])
    done = 0
    with out.open("rb") as lines:
        for line in lines:
            _ask(f"{collection}/points?wait=true", "PUT", line)
            done = min(done + POINTS, about["items"])
            progress("qdrant upload", done, about["items"])
    count = _ask(f"{collection}/points/count", "POST", {"exact": True})["count"]
    if count != about["items"]:
        raise UndersongError(
            f"{server} counts {count} points in {name}, but {about['items']} were sent; delete the "
            "collection and send again"
        )
    _move(server, alias, name)
    return name


def _move(server: str, alias: str, name: str) -> None:
    """Let the alias name the new collection, in one step also where it named another."""
    known = [x["alias_name"] for x in _ask(f"{server}/aliases", "GET")["aliases"]]
    actions: list[dict[str, Any]] = [{"delete_alias": {"alias_name": alias}}]
    actions = actions if alias in known else []
    actions += [{"create_alias": {"collection_name": name, "alias_name": alias}}]
    _ask(f"{server}/collections/aliases", "POST", {"actions": actions})


def _ask(address: str, method: str, body: bytes | dict[str, Any] | None = None) -> Any:
    """Send one request and give the ``result`` of the reply."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": "application/json"}
    request = Request(address, data=content, headers=headers, method=method)
    if KEY in os.environ:
        # Not sent on to where a server may redirect to.
        request.add_unredirected_header("api-key", os.environ[KEY])
    try:
        with urlopen(request, timeout=SECONDS) as reply:
            return json.load(reply)["result"]
    except HTTPError as error:
        message = error.read(400).decode(errors="replace")
        raise UndersongError(
            f"{method} {address}: {error.code} {error.reason}: {message}"
        ) from error
    except OSError as error:
        raise UndersongError(
            f"{method} {address}: no answer ({error}); see that the server runs, then send again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UndersongError(f"{address} does not answer as Qdrant does ({error!r})") from error
