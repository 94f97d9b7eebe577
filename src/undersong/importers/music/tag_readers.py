"""Tags read in child processes, so that a hostile or broken file costs one file and nothing else.

A child reads one line of JSON, a list of paths, and answers with one line of JSON for each in
turn. It can do nothing but read (``sandbox``), and ends itself when a file takes too long; its
death then tells which file it was, and another child goes on behind it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from undersong.importers.music.tags import Tags, Unreadable, read
from undersong.sandbox import GONE, Child, close_standard_streams, confine, receive, send

SECONDS = 20  # of wall time for one file; a disk that wakes up takes about 10
MEMORY = 1 << 30  # bytes of address space of a child
CHILD = "from undersong.importers.music.tag_readers import run_child; run_child()"
REMEDY = "remove its tags, or the file"

Read = Callable[[Sequence[Path]], list[Tags | Unreadable]]


@contextmanager
def tag_readers(workers: int, *, seconds: int = SECONDS, memory: int = MEMORY) -> Iterator[Read]:
    """Return a function that reads the tags of many files, with ``workers`` processes at a time.

    It answers in the order of the paths, with the reason in place of a file that cannot be read.
    """
    children = [_Reader(memory, seconds) for _ in range(workers)]

    def read_all(paths: Sequence[Path]) -> list[Tags | Unreadable]:
        answers: list[Tags | Unreadable] = [Unreadable("", "")] * len(paths)

        def share(number: int) -> None:
            answers[number::workers] = children[number].read(paths[number::workers])

        list(pool.map(share, range(workers)))
        return answers

    with ThreadPoolExecutor(workers, thread_name_prefix="tags") as pool:
        try:
            yield read_all
        finally:
            for child in children:
                child.stop()


class _Reader:
    """One child process, which goes on behind a file that it died of."""

    def __init__(self, memory: int, seconds: int):
        self._seconds = seconds
        self._child = Child(CHILD, str(memory), str(seconds))
        self._stopped = False

    def read(self, paths: Sequence[Path]) -> list[Tags | Unreadable]:
        """Read files in turn; one of which a child dies is passed over."""
        answers: list[Tags | Unreadable] = []
        while len(answers) < len(paths) and not self._stopped:
            answers += self._read_until_death(paths[len(answers) :])
        return answers

    def stop(self) -> None:
        """End the child, if one runs, and begin no other."""
        self._stopped = True
        self._child.end()

    def _read_until_death(self, paths: Sequence[Path]) -> list[Tags | Unreadable]:
        process = self._child.process or self._child.begin()
        results: list[Tags | Unreadable] = []
        try:
            send(process, [os.fspath(x) for x in paths])
            for _ in paths:
                results.append(_answer(receive(process)))
        except GONE:
            self._child.end()
            results.append(_death(process.wait(), self._seconds))
        return results


def _answer(about: dict[str, Any]) -> Tags | Unreadable:
    if "reason" in about:
        return Unreadable(about["reason"], about["remedy"], damaged=about["damaged"])
    typed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
    return Tags(**typed)


def _death(code: int, seconds: int) -> Unreadable:
    """Return why a child ended without an answer, by its exit code."""
    if sys.platform != "win32" and code == -signal.SIGALRM:
        return Unreadable(f"its tags were not read within {seconds} s", REMEDY)
    return Unreadable(f"the reader died of it (exit code {code})", REMEDY)


def run_child() -> None:
    """Be the child: answer each line of paths until the parent closes the pipe."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    inbound, outbound = close_standard_streams()
    confine(memory=memory)
    with os.fdopen(inbound, "rb") as requests, os.fdopen(outbound, "wb") as answers:
        _serve(requests, answers, seconds=seconds)


def _serve(requests: IO[bytes], answers: IO[bytes], *, seconds: int) -> None:
    for line in requests:
        for path in json.loads(line):
            if sys.platform != "win32":
                signal.alarm(seconds)  # ends this process
            try:
                about = vars(read(Path(path)))
            except Unreadable as error:
                about = vars(error)
            answers.write(json.dumps(about).encode() + b"\n")
            answers.flush()
        if sys.platform != "win32":
            signal.alarm(0)
