"""Who may ask: one secret token, made once, kept in a file, compared in constant time.

A client shows it as ``Authorization: Bearer TOKEN`` (or ``Token TOKEN``, as ListenBrainz clients
do), or as ``?token=TOKEN``, which is taken out of the query before any route or log sees it.
Dialects whose clients show it in other ways check it themselves, with ``fits``.
"""

import os
import secrets
import stat
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from undersong.errors import DataError
from undersong.files import flush

SHOWN = "undersong.token"  # key of a request's scope: the token that a client showed
SHORTEST = 16  # characters
WANTED = (
    "this service wants its token: send the header 'Authorization: Bearer TOKEN', or ?token=TOKEN"
)


def read_token(path: Path) -> str:
    """Read the secret token, or make one at the first start: 43 random characters, mode 0600.

    Raises
    ------
    DataError
        If the file cannot be read or made, others can read it, or its content is too short.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _checked(path)
        token = secrets.token_urlsafe(32)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
        flush(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the token file {path} cannot be read or made: {error}") from error
    return token


def _checked(path: Path) -> str:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DataError(f"others can read the token in {path}; run: chmod 600 {path}")
    token = path.read_text(encoding="ascii").strip()
    if len(token) < SHORTEST:
        raise DataError(
            f"{path} holds a token of {len(token)} characters; write {SHORTEST} or more, or remove "
            "the file to have one made"
        )
    return token


def fits(token: str, given: str | None) -> bool:
    """Say whether what a client shows is the token; takes as long for any that is not."""
    return given is not None and secrets.compare_digest(token.encode(), given.encode())


def guard(request: Request) -> None:
    """Let a request pass that shows the token.

    Raises
    ------
    HTTPException
        401 without a token or with another one.
    """
    token: str | None = request.app.state.settings.token
    given: str | None = request.scope.get(SHOWN)
    if token is None or fits(token, given):
        return
    what = "another token was sent; " if given else ""
    raise HTTPException(401, what + WANTED, headers={"WWW-Authenticate": "Bearer"})


class ShownToken:
    """Middleware: note the token that a client shows, and take it out of the query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if b"token=" in scope["query_string"]:
                _take_out(scope)
            for name, value in scope["headers"]:
                if name == b"authorization":
                    scheme, _, given = value.decode("latin-1").partition(" ")
                    if scheme.lower() in ("bearer", "token"):
                        scope[SHOWN] = given.strip()
        await self._app(scope, receive, send)


def _take_out(scope: Scope) -> None:
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in pairs if name == "token"]
    if shown:
        scope[SHOWN] = shown[0]
        kept = [(name, value) for name, value in pairs if name != "token"]
        scope["query_string"] = urlencode(kept).encode("ascii")
