"""What a client of a dialect sent, however it sent it."""

import re
from urllib.parse import parse_qsl

from starlette.requests import Request

from undersong.errors import DataError

FORM = "application/x-www-form-urlencoded"
NUMBER = re.compile(r"[+-]?[0-9]{1,30}")


async def parameters(request: Request) -> dict[str, str]:
    """Read the query and the form of a request together; of a name sent twice the first counts."""
    pairs = request.query_params.multi_items()
    if request.headers.get("content-type", "").lower().startswith(FORM):
        form = (await request.body()).decode("utf-8", errors="replace")
        pairs = [*pairs, *parse_qsl(form, keep_blank_values=True)]
    return dict(reversed(pairs))


def whole(sent: dict[str, str], name: str, *, default: int, most: int, least: int = 1) -> int:
    """Read a number, such as how many are asked for; more than ``most`` are ``most``.

    Raises
    ------
    DataError
        If it is no whole number, or below ``least``.
    """
    given = sent.get(name, "").strip()
    if not given:
        return min(default, most)
    if not NUMBER.fullmatch(given) or int(given) < least:
        raise DataError(f"{name} is {given[:20]!r}; send a whole number from {least} to {most}")
    return min(int(given), most)


def true(sent: dict[str, str], name: str) -> bool:
    """Say whether a switch is on, as Python, Go and people write that."""
    return sent.get(name, "").strip().lower() in ("true", "1", "yes", "on")
