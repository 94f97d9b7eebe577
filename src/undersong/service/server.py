"""The process: an open socket, uvicorn with patience that ends, and a graceful stop."""

import logging
import signal
import socket
import sys
from asyncio import BaseTransport, TimerHandle
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from undersong.errors import DataError
from undersong.service.options import CONNECTIONS, HEAD, HEAD_SECONDS, IDLE_SECONDS, STOP_SECONDS


class Impatient(HttpToolsProtocol):
    """HTTP of a client that must send the head of a request in time, and no endless one."""

    _waiting: TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head grows too long."""
        if self._waiting is not None:
            if self._head > HEAD:
                self.send_400_response(f"The head of a request may have {HEAD} bytes.")
                return
            self._head += len(data)
        super().data_received(data)

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting, self._head = None, 0


def bind(host: str, port: int) -> socket.socket:
    """Open the socket to listen at; port 0 takes any free one.

    Raises
    ------
    DataError
        If the address is not of this machine, or in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise DataError(
            f"cannot listen at {host} port {port}: {error}; choose another --host or --port"
        ) from error


def run(
    app: Starlette,
    listening: socket.socket,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT; then finish what has begun and return.

    Raises
    ------
    DataError
        If the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=Impatient,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(STOP_SECONDS),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise DataError(f"{certificate} or {key} cannot be used for TLS: {error}") from error
    # What a client sends wrongly is answered; the log is for what goes wrong here.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # uvicorn gives the signal back once it has stopped, which must not look like a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    uvicorn.Server(config).run(sockets=[listening])


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
