"""Decoding in child processes, so that a hostile or broken file costs that file alone.

A child reads one path a line from its standard input. It answers on its standard output with one
line of JSON, then the log-mel chunks and what pretrained ears hear in the same sound; nothing that
it sends is run or unpickled. Its memory and
processor time are limited, and it can do nothing but read (``sandbox``), where the system can
forbid that. A timer in the parent ends it when a file takes too long.
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from undersong.audio.ears import Contract, Ears, Hear, open_ears
from undersong.audio.logmel import BANDS, CHUNKS, FRAMES, Sound, Undecodable, log_mel
from undersong.errors import ArtifactError, UndersongError, install
from undersong.sandbox import (
    GONE,
    Child,
    allow_processor,
    answers,
    close_standard_streams,
    confine,
    receive,
    send,
)

SECONDS = 60.0  # of wall time for one file
START = 300.0  # of wall time to load the audio libraries, which a busy disk may delay
MEMORY = 1 << 30  # bytes of address space of one child; 8 channels of 4 s at 192 kHz need 25 MB
AHEAD = 4  # files a worker that may wait decoded for the caller, 0.4 MB each
CHILD = "from undersong.audio.decode import run_child; run_child()"


@dataclass(frozen=True)
class Decoded:
    """Sound of one file.

    Parameters
    ----------
    log_mel : (n, 128, 172) float16, 1 <= n <= CHUNKS
    seconds : length of the whole file
    damage : what could not be heard, in words; empty for a whole file
    ears : what each of the ears heard, (numbers,) float32; not finite where it heard nothing
    """

    log_mel: NDArray[np.float16]
    seconds: float
    damage: str = ""
    ears: tuple[NDArray[np.float32], ...] = ()


def decode(
    paths: Iterable[Path],
    *,
    workers: int,
    ears: Sequence[Ears] = (),
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Iterator[Decoded | Undecodable]:
    """Decode files in their order, ``workers`` at a time; of a failed one yield the reason.

    Memory does not grow with the number of paths: at most ``AHEAD`` decoded files a worker wait.

    Raises
    ------
    ArtifactError
        If ears cannot be opened.
    """
    decoders = [Decoder(ears=ears, memory=memory, seconds=seconds) for _ in range(workers)]
    free = deque(decoders)

    def decode_one(path: Path) -> Decoded | Undecodable:
        decoder = free.popleft()
        try:
            return decoder.decode(path)
        finally:
            free.append(decoder)

    waiting: deque[Future[Decoded | Undecodable]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(decode_one, path))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for decoder in decoders:
                decoder.stop()  # frees a thread that waits for an answer nobody wants any more
            pool.shutdown(wait=True)
            for decoder in decoders:
                decoder.stop()


class Decoder:
    """One child process, and a timer that ends it when a file takes too long.

    It begins with its first file, and ends by ``stop`` or with this process. For ears it gets
    four times the size of their networks more memory.
    """

    def __init__(
        self, *, ears: Sequence[Ears] = (), memory: int = MEMORY, seconds: float = SECONDS
    ):
        self._seconds, self._ears = seconds, ears
        memory += sum(4 * x.network.stat().st_size for x in ears)
        about = [json.dumps([asdict(x.contract), str(x.path.resolve())]) for x in ears]
        self._child = Child(CHILD, str(memory), str(seconds), *about)
        self.stop = self._child.end

    def decode(self, path: Path) -> Decoded | Undecodable:
        """Decode one file in the child; end the child if it has not answered in time."""
        process = self._child.process or self._begin()
        late = threading.Event()
        timer = _timer(process, self._seconds, late)
        try:
            answer: Decoded | None = _ask(process, path, self._ears)
        except Undecodable as error:
            return error
        except GONE:
            answer = None
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():
                self.stop()  # also when the answer came just in time: the child is dead now
        if answer is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)  # for its own exit code, not that of our kill
            self.stop()
            return _death(process, self._seconds if late.is_set() else None)
        return answer

    def _begin(self) -> "subprocess.Popen[bytes]":
        process = self._child.begin()
        timer = _timer(process, START, threading.Event())
        about = {}
        with suppress(*GONE):  # stopped meanwhile; or dead, as the first file will show
            about = receive(process)
        timer.cancel()
        if "refused" in about:
            self.stop()
            raise ArtifactError(str(about["refused"]))
        return process


def _timer(
    process: "subprocess.Popen[bytes]", seconds: float, late: threading.Event
) -> threading.Timer:
    """Start a timer that ends a child and sets ``late`` once the time is over."""

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    return timer


def _ask(process: "subprocess.Popen[bytes]", path: Path, ears: Sequence[Ears]) -> Decoded:
    """Send one path to a child and read its answer.

    Raises
    ------
    Undecodable
        If the child refuses the file.
    EOFError, BrokenPipeError, ValueError
        If the child is gone, or answers what cannot be an answer.
    """
    send(process, os.fspath(path))
    about = receive(process)
    if "reason" in about:
        raise Undecodable(about["reason"], about["remedy"])
    chunks = np.empty((min(int(about["chunks"]), CHUNKS), BANDS, FRAMES), dtype=np.float16)
    heard = tuple(np.empty(x.contract.numbers, dtype=np.float32) for x in ears)
    arrays: list[NDArray[Any]] = [chunks, *heard]
    for array in arrays:
        room = memoryview(array.data).cast("B")
        while room:
            count = answers(process).readinto(room)
            if not count:
                raise EOFError
            room = room[count:]
    return Decoded(chunks, float(about["seconds"]), str(about["damage"]), heard)


def _death(process: "subprocess.Popen[bytes]", seconds: float | None) -> Undecodable:
    """Return why a child gave no answer: it was late (``seconds``), or ended by itself."""
    remedy = "convert it to FLAC, OGG, MP3 or WAV, or remove the track"
    if seconds is not None:
        return Undecodable(f"not decoded within {seconds:g} s", remedy)
    return Undecodable(f"the decoder died of it (exit code {process.returncode})", remedy)


def run_child() -> None:
    """Be the child: answer each requested path until the parent closes the pipe."""
    memory, seconds = int(sys.argv[1]), float(sys.argv[2])
    ears = [_ears(x) for x in sys.argv[3:]]
    inbound, outbound = close_standard_streams()
    read = _reader()
    if ears:
        with suppress(ImportError):  # before the process is confined; ``open_ears`` names it
            import onnxruntime  # noqa: F401
    confine(memory=memory)
    with os.fdopen(inbound, "rb") as requests, os.fdopen(outbound, "wb") as answers:
        allow_processor(START)
        try:
            hears = {x.contract: open_ears(x) for x in ears}
        except UndersongError as error:
            answers.write(_header({"refused": str(error)}))
            return
        _serve(read, hears, requests, answers, seconds)


def _ears(line: str) -> Ears:
    about, path = json.loads(line)
    return Ears(Contract(**about | {"words": tuple(about["words"])}), Path(path))


def _serve(
    read: Callable[[Path], Sound],
    hears: Mapping[Contract, Hear],
    requests: BinaryIO,
    answers: BinaryIO,
    seconds: float,
) -> None:
    answers.write(_header({"ready": 1}))
    answers.flush()
    for line in requests:
        allow_processor(seconds)
        try:
            sound = read(Path(json.loads(line)))
        except Undecodable as error:
            answers.write(_header({"reason": error.reason, "remedy": error.remedy}))
        else:
            faults, heard = [sound.damage] if sound.damage else [], list[bytes]()
            for contract, hear in hears.items():
                try:
                    heard.append(hear(sound.chunks / sound.gain).tobytes())
                except ArtifactError as error:
                    faults.append(f"{contract.name} {error}")
                    heard.append(np.full(contract.numbers, np.nan, dtype=np.float32).tobytes())
            chunks, damage = len(sound.chunks), "; ".join(faults)
            answers.write(_header({"chunks": chunks, "seconds": sound.seconds, "damage": damage}))
            answers.write(log_mel(sound.chunks).astype(np.float16).tobytes())
            answers.write(b"".join(heard))
        answers.flush()


def _reader() -> Callable[[Path], Sound]:
    """Load the audio libraries, in the child alone; without them refuse every file."""
    try:
        from undersong.audio.file import read
    except (ImportError, OSError) as error:
        reason = f"the audio libraries do not load ({error})"

        def refuse(path: Path) -> Sound:
            raise Undecodable(reason, install("audio"))

        return refuse
    return read


def _header(content: dict[str, str | int | float]) -> bytes:
    return json.dumps(content).encode() + b"\n"
