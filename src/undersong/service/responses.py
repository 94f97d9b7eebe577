"""Replies: JSON as bytes, and errors in one line."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


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
