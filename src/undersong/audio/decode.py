"""Decoding in child processes, so that a hostile or broken file costs one file and nothing else.

A child reads one path a line from its standard input, and answers on its standard output with
one line of JSON, then the raw samples. Nothing it sends is ever run or unpickled. It has limits
on memory and may write no file; a clock in the parent ends it when a file takes too long.

    python -m undersong.audio.decode MEMORY      the child, started by ``decode``
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from undersong.audio.waveform import CHUNK_SAMPLES, CHUNKS, Sound, Undecodable

SECONDS = 60.0  # of wall time for one file
MEMORY = 1 << 30  # bytes of address space of one child; 8 channels of 4 s at 192 kHz need 25 MB
AHEAD = 4  # files a worker that may wait decoded for the caller, 3 MB each
PACKAGES = Path(__file__).parents[2]
CHILD = ("-m", "undersong.audio.decode")


def decode(
    paths: Iterable[Path], *, workers: int, seconds: float = SECONDS, memory: int = MEMORY
) -> Iterator[Sound | Undecodable]:
    """Decode files in the order given, ``workers`` at a time; a failed one gives its reason.

    Memory is bounded whatever the number of paths: at most ``AHEAD`` decoded files a worker.
    """
    children = [_Child(memory) for _ in range(workers)]
    free = deque(children)

    def one(path: Path) -> Sound | Undecodable:
        child = free.popleft()
        try:
            return child.decode(path, seconds)
        finally:
            free.append(child)

    waiting: deque[Future[Sound | Undecodable]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(one, path))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.stop()  # frees a thread that waits for an answer nobody wants any more
            pool.shutdown(wait=True)
            for child in children:
                child.stop()


class _Child:
    """One child process, begun when first needed and again after its death."""

    def __init__(self, memory: int):
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, path: Path, seconds: float) -> Sound | Undecodable:
        """Ask the child for one file; end it if it has not answered within ``seconds``."""
        process = self._process = self._process or self._start()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(seconds, end)
        clock.start()
        try:
            answer: Sound | None = _ask(process, path)
        except Undecodable as error:
            return error
        except (EOFError, BrokenPipeError, ValueError):  # ValueError: a pipe closed by ``stop``
            answer = None
        finally:
            clock.cancel()
            clock.join()
            if late.is_set():
                self.stop()  # also when the answer came just in time: the child is dead now
        if answer is None:
            self.stop()
            return _death(process, seconds if late.is_set() else None)
        return answer

    def stop(self) -> None:
        """End the child, if one runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # a request that nobody read
                if pipe:
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, *CHILD, str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders grumble there about every damaged file
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )


def _ask(process: "subprocess.Popen[bytes]", path: Path) -> Sound:
    """Send one path and wait for the answer.

    Raises
    ------
    Undecodable
        If the child says so.
    EOFError, BrokenPipeError, ValueError
        If the child is gone, or answers what cannot be an answer.
    """
    requests, answers = cast(BinaryIO, process.stdin), cast(BufferedReader, process.stdout)
    requests.write(json.dumps(os.fspath(path)).encode() + b"\n")
    requests.flush()
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    about = json.loads(line)
    if "reason" in about:
        raise Undecodable(about["reason"], about["remedy"])
    samples = np.empty((min(int(about["chunks"]), CHUNKS), CHUNK_SAMPLES), dtype=np.float32)
    room = memoryview(samples.data).cast("B")
    while room:
        got = answers.readinto(room)
        if not got:
            raise EOFError
        room = room[got:]
    return Sound(samples, float(about["seconds"]))


def _death(process: "subprocess.Popen[bytes]", seconds: float | None) -> Undecodable:
    """Say why a child ended without an answer: too slow (``seconds``), or by itself."""
    remedy = "convert it to FLAC, OGG, MP3 or WAV, or remove the track"
    if seconds is not None:
        return Undecodable(f"not decoded within {seconds:g} s", remedy)
    return Undecodable(f"the decoder died of it (exit code {process.returncode})", remedy)


def _limit(memory: int) -> None:
    if sys.platform == "win32":
        return  # no such limits there; the clock still holds
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each requested path until the parent closes the pipe."""
    read = _reader()
    for line in requests:
        try:
            sound = read(Path(json.loads(line)))
        except Undecodable as error:
            answers.write(_header({"reason": error.reason, "remedy": error.remedy}))
        else:
            answers.write(_header({"chunks": len(sound.chunks), "seconds": sound.seconds}))
            answers.write(sound.chunks.tobytes())
        answers.flush()


def _reader() -> Callable[[Path], Sound]:
    """Load the audio libraries, here in the child alone; without them every file says so."""
    try:
        from undersong.audio.file import read
    except (ImportError, OSError) as error:
        reason = f"the audio libraries do not load ({error})"

        def refuse(path: Path) -> Sound:
            raise Undecodable(reason, "pip install 'undersong[audio]'")

        return refuse
    return read


def _header(content: dict[str, str | int | float]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _main() -> None:
    _limit(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a C library that prints must not garble the answers
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
