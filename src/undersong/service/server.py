"""The process: an open socket, uvicorn with patience that ends, and a graceful stop."""

import logging
import os
import signal
import socket
import sys
from asyncio import BaseTransport, TimerHandle
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from undersong.errors import DataError
from undersong.service.middleware import network, refusal
from undersong.service.options import (
    CONNECTIONS,
    HEAD,
    HEAD_SECONDS,
    IDLE_SECONDS,
    OF_ADDRESS,
    STOP_SECONDS,
    UNREAD,
    UNREAD_SECONDS,
)

LONG = f"The head of a request may have {HEAD} bytes."
CLOSE = {"Connection": "close"}


class Impatient(HttpToolsProtocol):
    """HTTP of a client that must do its part in time: send a head, read the reply, or ask again.

    Only what a client completes stops the clock: single bytes do not. Where there are too many
    connections, of one address or of all, the one that waited for its client for longest is closed,
    so that no number of them keeps others out.
    """

    _clock: TimerHandle | None = None  # until the next head
    _reading: TimerHandle | None = None  # until some of the reply is read
    _since: float | None = None  # when it began to wait for its client; None: it is our turn
    _head = 0  # bytes of reads that did not end a head

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for the first head, and make room."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head(HEAD_SECONDS)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop_clock()
        self._stop_reading()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._await_head(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Stop the clock; the time that a body may take is watched where it is read."""
        self._stop_clock()
        self._since = self.loop.time()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self.app = self.config.loaded_app if size <= HEAD else refusal(400, LONG, CLOSE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that it is our turn, unless the reply was sent before the body had ended."""
        super().on_message_complete()
        if not self.cycle.response_complete:
            self._since = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for what was sent to be read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reading()
        elif not self.pipeline and self._clock is None:
            self._await_head(IDLE_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head does not end."""
        super().data_received(data)
        if self._clock is None:
            self._head = 0
        elif self._head > HEAD and not self.transport.is_closing():
            self.send_400_response(LONG)
        else:
            self._head += len(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, and wait for that to be read."""
        super().send_400_response(msg)
        self._await_reading()

    def pause_writing(self) -> None:
        """Begin to wait for the reply to be read."""
        super().pause_writing()
        self._since = self._since or self.loop.time()
        self._await_reading()

    def resume_writing(self) -> None:
        """Go on with the reply."""
        super().resume_writing()
        self._stop_reading()
        if self.cycle is not None and not self.cycle.response_complete:
            self._since = None

    def _await_head(self, seconds: float) -> None:
        self._stop_clock()
        self._since = self.loop.time()
        self._clock = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        self.transport.close()
        self._await_reading()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None

    def _await_reading(self) -> None:
        """Grant a client time to read what waits for it; one that goes on reading gets more."""
        self._stop_reading()
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            self._reading = self.loop.call_later(UNREAD_SECONDS, self._check_reading, waiting)

    def _check_reading(self, before: int) -> None:
        if self.transport.get_write_buffer_size() > before - UNREAD:
            self.transport.abort()
        else:
            self._await_reading()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = None

    def _make_room(self) -> None:
        """Close the connection that waited for its client for longest, if there are too many."""
        if len(self.connections) <= min(OF_ADDRESS, CONNECTIONS):
            return
        everyone = [x for x in self.connections if isinstance(x, Impatient)]
        mine = self._network()
        same = [x for x in everyone if x._network() == mine]
        crowd = same if len(same) > OF_ADDRESS else everyone
        waiting = [(x._since, x) for x in crowd if x is not self and x._since is not None]
        if waiting and (crowd is same or len(everyone) >= CONNECTIONS):
            min(waiting, key=lambda pair: pair[0])[1].transport.abort()

    def _network(self) -> str:
        return network(self.client[0]) if self.client else ""


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
    """Answer until SIGTERM, SIGINT or SIGHUP; then finish what has begun and return.

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
        # Whoever asks may name any address in X-Forwarded-For.
        proxy_headers=False,
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
    # Requests have threads already. Products with threads of their own wait for each other: of a
    # million artists, 100 requests a second had a p99 of 14 s instead of 11 ms.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for libraries that are loaded by the first question
    with threadpool_limits(1, "blas"):
        uvicorn.Server(config).run(sockets=[listening])


def heed_signals() -> None:
    """Stop gracefully and with exit code 0 at SIGTERM, SIGINT and SIGHUP, from now on."""
    # uvicorn gives the signal back once it has stopped, which must not look like a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # A terminal that closes stops it as gracefully; under nohup it goes on.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
