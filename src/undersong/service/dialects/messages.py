"""Parameters of requests, and replies in XML, as several dialects have them."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from starlette.requests import Request
from starlette.responses import Response

from undersong.errors import DataError

Parameters = Mapping[str, str]
FORM = "application/x-www-form-urlencoded"
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
# What XML 1.0 cannot hold, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


async def read_parameters(request: Request) -> dict[str, str]:
    """Read the query and the form of a request together; of a name sent twice the first counts."""
    pairs = request.query_params.multi_items()
    if request.headers.get("content-type", "").lower().startswith(FORM):
        form = (await request.body()).decode("utf-8", errors="replace")
        pairs = [*pairs, *parse_qsl(form, keep_blank_values=True)]
    return dict(reversed(pairs))


def integer(parameters: Parameters, name: str, *, default: int, most: int, least: int = 1) -> int:
    """Read an integer, such as a number of answers; more than ``most`` are ``most``.

    Raises
    ------
    DataError
        If it is no integer, or below ``least``.
    """
    text = parameters.get(name, "").strip()
    if not text:
        return min(default, most)
    if not INTEGER.fullmatch(text) or int(text) < least:
        raise DataError(f"{name} is {text[:20]!r}; send a whole number from {least} to {most}")
    return min(int(text), most)


def switched_on(parameters: Parameters, name: str) -> bool:
    """Whether a switch is on, as Python, Go and people write that."""
    return parameters.get(name, "").strip().lower() in ("true", "1", "yes", "on")


def xml(root: Element, *, status: int = 200) -> Response:
    """Return an element as a reply; a character that XML cannot hold becomes U+FFFD."""
    for element in root.iter():
        element.text = element.text and ILLEGAL.sub("\ufffd", element.text)
        for name, value in element.items():
            element.set(name, ILLEGAL.sub("\ufffd", value))
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(body, status, media_type="text/xml")
