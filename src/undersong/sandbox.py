"""A child process that reads untrusted files, so that a hostile file costs that file alone."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from io import BufferedReader
from os.path import samestat
from pathlib import Path
from typing import Any, BinaryIO, cast

from undersong.confinement import hide_memory

PACKAGES = str(Path(__file__).parents[1])
GONE = (EOFError, BrokenPipeError, ValueError)  # ValueError: a pipe that ``end`` closed
# All that a child knows of the environment: no variable that brings code into a process.
VARIABLES = ("LANG", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
FAMILIES = ("LC_", "OPENBLAS_", "MKL_", "NPY_")  # how they begin
SEARCHED = ("PATH", "LD_LIBRARY_PATH")  # where they name folders wholly


class Child:
    """One process that answers lines of JSON; begun when first needed and again after its death.

    It imports from where this process does, apart from the working folder: what lies there may be
    a stranger's.

    Parameters
    ----------
    code : in Python
    arguments : ``sys.argv[1:]`` of the code
    """

    def __init__(self, code: str, *arguments: str):
        self._code = code
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> "subprocess.Popen[bytes]":
        """Start a process; the one before must have ended."""
        hide_memory()
        code = f"import sys; sys.path[:] = {import_path()!r}\n{self._code}"
        utf8 = f"utf8={sys.flags.utf8_mode}"  # bytes of file names mean the same on both sides
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", utf8, "-c", code, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries grumble there about every damaged file
            env=environment(),
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


def import_path() -> list[str]:
    """Return ``sys.path`` without the working folder, which Python may have put there."""
    here = os.stat(os.curdir)
    named = [x for x in sys.path if os.path.isabs(x)]
    outside = [x for x in named if not (os.path.isdir(x) and samestat(os.stat(x), here))]
    return outside if PACKAGES in outside else [PACKAGES, *outside]


def environment() -> dict[str, str]:
    """Return the variables that a child begins with."""
    from undersong.io.onnx_files import SILENCE  # NumPy comes with it, which readers of tags lack

    passed = {k: v for k, v in os.environ.items() if k in VARIABLES or k.startswith(FAMILIES)}
    for name in SEARCHED:
        folders = [x for x in os.environ.get(name, "").split(os.pathsep) if os.path.isabs(x)]
        passed |= {name: os.pathsep.join(folders)} if folders else {}
    return passed | {"OMP_NUM_THREADS": "1"} | SILENCE


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
