"""A child process that reads untrusted files, so that a hostile file costs that file alone."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

PACKAGES = Path(__file__).parents[1]
GONE = (EOFError, BrokenPipeError, ValueError)  # ValueError: a pipe that ``end`` closed


class Child:
    """One process that answers lines of JSON; begun when first needed and again after its death.

    Parameters
    ----------
    arguments : of Python, such as ``("-m", "undersong.audio.decode", "1000")``
    """

    def __init__(self, arguments: Sequence[str]):
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> "subprocess.Popen[bytes]":
        """Start a process; the one before must have ended."""
        path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries grumble there about every damaged file
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent
        )
        return self.process

    def end(self) -> None:
        """Kill the process, if one runs."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # a request that nobody read
                if pipe:
                    pipe.close()


def send(process: "subprocess.Popen[bytes]", request: Any) -> None:
    """Write one line of JSON; of a child that is gone, an error of ``GONE``."""
    pipe = cast(BinaryIO, process.stdin)
    pipe.write(json.dumps(request).encode() + b"\n")
    pipe.flush()


def answers(process: "subprocess.Popen[bytes]") -> BufferedReader:
    """Return the pipe that a child answers through."""
    return cast(BufferedReader, process.stdout)


def receive(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for one line of JSON.

    Raises
    ------
    EOFError, ValueError
        If the child is gone, or answers what cannot be an answer.
    """
    line = answers(process).readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    return answer


NETWORK = 0x4000_0000  # of Linux's unshare: a network of its own, with nothing in it
USER = 0x1000_0000  # a user namespace, without which only root may ask for that


def confine(*, memory: int) -> None:
    """Forbid this process for good more than ``memory`` bytes, files, core dumps, the network.

    Memory and files hold on every system but Windows. The network goes on Linux where the
    system lets a process leave it; elsewhere nothing forbids it.
    """
    if sys.platform == "win32":
        return  # no such limits there; the clock of the parent still holds
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        # Root first without a user namespace: within one it could not read the files of others.
        if library.unshare(NETWORK):
            library.unshare(USER | NETWORK)


def allow_processor(seconds: float) -> None:
    """End this process once it has computed for so long from now, also if its parent is gone."""
    if sys.platform == "win32":
        return
    import resource

    limit = int(time.process_time() + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def close_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for us alone, at the two numbers given back.

    A library that reads or prints then meets the empty device and does not garble the answers.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    return requests, answers
