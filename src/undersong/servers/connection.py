"""Requests to a media server, within limits, what it answers, and what goes wrong as a sentence.

No secret ever stands in an address: it goes in the body or in a header, so no log has it. Nothing
is followed to another address, and no reply may be longer than a limit.
"""

import ipaddress
import json
import logging
import math
import os
import re
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from undersong import __version__
from undersong.errors import DataError
from undersong.io.display import one_line

LARGEST_REPLY = 64 << 20  # bytes of JSON; a page of 500 songs has half a megabyte
SECONDS = 60.0  # that a server may be silent
LOGIN = "UNDERSONG_LOGIN"
AGENT = f"undersong/{__version__}"
Value = str | int | list[str]
Form = Mapping[str, Value]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Login:
    """Who asks a server.

    Parameters
    ----------
    user : name; empty where the secret is an API key
    secret : password or API key
    """

    user: str
    secret: str = field(repr=False)


class Refused(DataError):
    """A server that answers with an error.

    Parameters
    ----------
    code : HTTP's, or Subsonic's where that is what it sends
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def read_logins(path: Path | None) -> tuple[Login, ...]:
    """Read who asks a server from a file, or else from the variable UNDERSONG_LOGIN.

    A line is NAME:PASSWORD, or an API key.

    Returns
    -------
    the logins, none if there is neither a file nor the variable

    Raises
    ------
    DataError
        If the file cannot be read, names nobody, or others may read it.
    """
    if path is None:
        lines = os.environ.get(LOGIN, "").splitlines()
    else:
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise DataError(f"others can read the passwords in {path}; run: chmod 600 {path}")
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise DataError(f"{path} cannot be read ({reason}); give another --login") from error
    logins = tuple(login_of(x) for x in lines if x.strip())
    if path is not None and not logins:
        raise DataError(f"{path} names nobody; write NAME:PASSWORD or an API key into it")
    return logins


def login_of(line: str) -> Login:
    """Return who a line NAME:PASSWORD names, or an API key alone."""
    user, colon, secret = line.strip().partition(":")
    return Login(user, secret) if colon else Login("", user)


class Connection:
    """A server at an address, asked one request after the other.

    Parameters
    ----------
    url : of the server, http or https
    longest : bytes of a reply

    Raises
    ------
    DataError
        If the address is none, or has a password in it.
    """

    def __init__(self, url: str, *, longest: int = LARGEST_REPLY) -> None:
        self.place = place_of(url)
        self.headers: dict[str, str] = {"User-Agent": AGENT}
        self._longest = longest
        # Neither proxies nor .netrc of the environment: passwords go where the user says.
        self._client = httpx.Client(
            verify=ssl.create_default_context(), timeout=SECONDS, trust_env=False
        )

    def close(self) -> None:
        """Close what is open to the server."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Form | None = None,
        form: Form | None = None,
        body: object = None,
    ) -> Any:
        """Return what the server answers, JSON; None for an empty answer.

        Raises
        ------
        Refused
            If it answers with an error of HTTP.
        DataError
            If it cannot be reached, or answers with something else than JSON or with too much.
        """
        with self._open(method, path, query=query, form=form, body=body) as reply:
            content = b"".join(self._bounded(reply, self._longest))
        if not content.strip():
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            kind = one_line(reply.headers.get("content-type", "something")[:40])
            raise DataError(
                f"{self.place} answers {path} with {kind}, no JSON; is it this kind of server, and "
                "the address whole?"
            ) from error

    def fetch(
        self, method: str, path: str, file: BinaryIO, *, form: Form | None = None, largest: int
    ) -> str:
        """Write what the server sends into a file; return its content type.

        Raises
        ------
        Refused, DataError
            As ``ask``, or if it sends more than ``largest`` bytes.
        """
        with self._open(method, path, form=form) as reply:
            for block in self._bounded(reply, largest):
                file.write(block)
        return str(reply.headers.get("content-type", ""))

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        query: Form | None = None,
        form: Form | None = None,
        body: object = None,
    ) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(
                method,
                f"{self.place}/{path}",
                params=dict(query) if query else None,
                data=dict(form) if form else None,
                json=body,
                headers=self.headers,
            ) as reply:
                if reply.is_redirect:
                    there = one_line(reply.headers.get("location", "")[:200])
                    raise Refused(
                        f"{self.place} sends on to {there!r}; give that address, if you trust it",
                        reply.status_code,
                    )
                if reply.is_error:
                    raise Refused(self._refusal(reply, path), reply.status_code)
                yield reply
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise DataError(self._unreachable(error)) from error

    def _bounded(self, reply: httpx.Response, largest: int) -> Iterator[bytes]:
        size, started = 0, time.monotonic()
        for block in reply.iter_bytes():
            size += len(block)
            # A server that sends a byte at a time never falls silent.
            if size > largest or time.monotonic() - started > 10 * SECONDS:
                raise Refused(
                    f"{self.place} sends more than {largest >> 20} MB, or for longer than "
                    f"{10 * SECONDS:.0f} s; is it this kind of server?",
                    413,
                )
            yield block

    def _refusal(self, reply: httpx.Response, path: str) -> str:
        code = reply.status_code
        remedy = "is it this kind of server, and the address whole?"
        if code in (401, 403):
            remedy = "see that name and password, or the API key, are right, and that it may do so"
        elif code == 429 or code >= 500:
            remedy = "look into its log, and try again later"
        return f"{self.place} answers {path} with {code} {one_line(reply.reason_phrase)}; {remedy}"

    def _unreachable(self, error: Exception) -> str:
        reason = one_line(str(error) or type(error).__name__)[:200]
        if certificate := re.search(r"certificate verify failed: (.*?)(?: \(_ssl|$)", reason):
            return (
                f"the certificate of {self.place} is not trusted ({certificate[1]}); if it is your "
                "own, name it: SSL_CERT_FILE=certificate.pem"
            )
        if isinstance(error, httpx.TimeoutException):
            reason = f"no answer within {SECONDS:.0f} s"
        return f"{self.place} cannot be reached ({reason}); is it on, and the address right?"


def place_of(url: str) -> str:
    """Return an address without a slash at its end, after looking at it.

    Raises
    ------
    DataError
        If it is none, or has a name or password in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port  # which is looked at only now
    except ValueError as error:
        raise DataError(f"the address is none ({error}); write https://music.example") from error
    host = parts.hostname or ""
    if parts.username or parts.password:
        raise DataError(
            f"the address of {host} has a name or password in it, which the shell's history keeps; "
            f"put them into a file or {LOGIN}, as NAME:PASSWORD"
        )
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise DataError(f"{url!r} is no address of a server; write https://music.example")
    if parts.scheme == "http" and not _is_near(host):
        _log.warning("%s is not encrypted: all between can read what is sent, passwords too", host)
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LARGEST = 1e12  # of a number that a server sends


@dataclass(frozen=True, slots=True)
class Song:
    """A song as one user sees it; None or empty where the server does not know.

    Parameters
    ----------
    artists : name and the server's id of each, the main one first
    recording : MusicBrainz id
    plays, starred : of the user
    """

    id: str
    path: str
    title: str
    album: str | None
    artists: tuple[tuple[str, str], ...]
    recording: str | None
    genres: tuple[str, ...]
    year: int | None
    seconds: float | None
    plays: int
    starred: bool


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist as one user sees them; ``mbid`` is empty where it is not known."""

    id: str
    mbid: str
    starred: bool


def rows(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list in JSON, or one alone; none of what is something else."""
    listed = value if isinstance(value, list) else [value]
    return [x for x in listed if isinstance(x, dict)]


def fields(value: object) -> dict[str, Any]:
    """Return an object of JSON; an empty one for what is something else."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return a text or whole number of JSON as text; empty for what is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    if isinstance(value, int) and abs(value) > LARGEST:
        return ""
    return str(value).encode("utf-8", "replace").decode()  # half letters are in no table


def number(value: object) -> float:
    """Return a number of JSON that is 0 or more; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    sane = 0 <= value < LARGEST  # also of NaN and of integers that no float holds
    return float(value) if sane and math.isfinite(value) else 0.0
