"""A child process that reads what strangers wrote, so that a hostile file costs that file alone."""

import json
import os
import subprocess
import sys
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
    """Give the pipe that a child answers through."""
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
    found: dict[str, Any] = json.loads(line)
    return found
