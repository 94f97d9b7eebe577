"""Points to a Qdrant server: a collection of their own, then one alias that moves to it."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from undersong.errors import SettingsError, UndersongError
from undersong.exports.place import FORMAT, note
from undersong.exports.qdrant import POINTS
from undersong.files import read_json
from undersong.progress import Progress, silent

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
    about = read_json(note(out), form=FORMAT, remedy="export again")
    name = f"{alias}-{about['generation']}-{about['files'][out.name]['sha256'][:12]}"
    place = f"{server}/collections/{quote(name, safe='')}"
    if not _ask(f"{place}/exists", "GET")["exists"]:
        _ask(place, "PUT", about["collection"])
    done = 0
    with out.open("rb") as lines:
        for line in lines:
            _ask(f"{place}/points?wait=true", "PUT", line)
            done = min(done + POINTS, about["items"])
            progress("qdrant upload", done, about["items"])
    found = _ask(f"{place}/points/count", "POST", {"exact": True})["count"]
    if found != about["items"]:
        raise UndersongError(
            f"{server} counts {found} points in {name}, but {about['items']} were sent; delete the "
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
        said = error.read(400).decode(errors="replace")
        raise UndersongError(f"{method} {address}: {error.code} {error.reason}: {said}") from error
    except OSError as error:
        raise UndersongError(
            f"{method} {address}: no answer ({error}); see that the server runs, then send again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UndersongError(f"{address} does not answer as Qdrant does ({error!r})") from error
