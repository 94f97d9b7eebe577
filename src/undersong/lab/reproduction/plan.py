"""What is to be done, piece by piece: what waits for what, side by side, and how long it takes."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from undersong.errors import ArtifactError, UndersongError
from undersong.progress import Progress

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Piece:
    """Some work that ends in one file or folder, which appears at once or not at all.

    Parameters
    ----------
    name : what a person is told, and what other pieces call it
    cost : rough seconds; only their proportion matters
    done : whether the file is there already
    work : makes it, and tells of its progress; both can be sent to a child process
    needs : names of pieces that must be done before
    """

    name: str
    cost: float
    done: Callable[[], bool]
    work: Callable[[Progress], None]
    needs: tuple[str, ...] = ()


def usual_processes() -> int:
    """Give every processor a piece of its own; trainings on a GPU take turns."""
    import torch

    return 1 if torch.cuda.is_available() else _processors()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def carry_out(pieces: Sequence[Piece], *, progress: Progress, processes: int = 1) -> None:
    """Do every piece that is not done yet, in order, and say how much time is left.

    The time left is that of this session's pieces so far, by cost; before the first one it is
    the costs themselves.

    Parameters
    ----------
    processes : pieces at a time, each in a child process of its own; with 1 all are done here
        Two side by side with a thread each take less time than one after the other with two: a
        transformer layer, forward and backward, about two thirds.

    Raises
    ------
    UndersongError
        What a piece raised. The others of that moment are stopped; nothing done is lost.
    """
    left = [piece for piece in pieces if not piece.done()]
    clock = _RunClock(left, len(pieces), progress)
    if processes > 1 and len(left) > 1:
        _side_by_side(left, clock, processes, progress)
    else:
        for piece in left:
            clock.begins(piece)
            if not piece.done():  # an earlier piece may have made it on its way
                piece.work(progress)
            clock.ends(piece)
    progress("reproduce", len(pieces), len(pieces))


class _RunClock:
    """Says how many pieces are done and how long the rest takes."""

    def __init__(self, left: Sequence[Piece], whole: int, progress: Progress) -> None:
        self._cost = sum(x.cost for x in left)
        self._done, self._whole, self._spent = whole - len(left), whole, 0.0
        self._begun, self._progress = time.monotonic(), progress

    def begins(self, piece: Piece) -> None:
        pace = (time.monotonic() - self._begun) / self._spent if self._spent else 1.0
        minutes = (self._cost - self._spent) * pace / 60
        note = f"{piece.name}; about {minutes:.0f} min left"
        self._progress("reproduce", self._done, self._whole, note)

    def ends(self, piece: Piece) -> None:
        self._spent += piece.cost
        self._done += 1


def _side_by_side(
    left: Sequence[Piece], clock: _RunClock, processes: int, progress: Progress
) -> None:
    """Keep so many pieces going, the first ones that wait for nothing."""
    waiting, going = list(left), dict[Connection, tuple[Piece, SpawnProcess]]()
    try:
        while waiting or going:
            undone = {x.name for x in waiting} | {piece.name for piece, _ in going.values()}
            ready = [x for x in waiting if not undone.intersection(x.needs)]
            if not (ready or going):
                names = ", ".join(x.name for x in waiting)
                raise ValueError(f"these pieces wait for each other: {names}")
            for piece in ready[: processes - len(going)]:
                waiting.remove(piece)
                clock.begins(piece)
                going.update([_begin(piece, processes)])
            for ready_end in wait(list(going)):
                assert isinstance(ready_end, Connection)
                _hear(ready_end, going, clock, progress)
    finally:
        for _, child in going.values():
            child.kill()
            child.join()


def _begin(piece: Piece, processes: int) -> tuple[Connection, tuple[Piece, SpawnProcess]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(piece, there), name=piece.name)
    with _share_of_processors(processes):
        child.start()
    there.close()  # so that the end of the child is the end of the pipe
    return here, (piece, child)


@contextmanager
def _share_of_processors(processes: int) -> Iterator[None]:
    """Let libraries that read these when they are loaded start so few threads in a child."""
    threads = str(max(1, _processors() // processes))
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, threads))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _hear(
    end: Connection,
    going: dict[Connection, tuple[Piece, SpawnProcess]],
    clock: _RunClock,
    progress: Progress,
) -> None:
    """Pass on one word of a child; its last word is that it is done, or why it is not."""
    piece, child = going[end]
    try:
        said = end.recv()
    except EOFError:
        child.join()
        raise ArtifactError(
            f"{piece.name}: its process ended with code {child.exitcode} without a word; if memory "
            "ran out, do fewer at a time (--processes 1); what is done is kept"
        ) from None
    if said is None:
        child.join()
        del going[end]
        clock.ends(piece)
    elif isinstance(said, UndersongError):
        raise said
    elif isinstance(said, str):
        raise RuntimeError(f"{piece.name} failed in its process:\n{said}")
    else:
        stage, done, total, note = said
        # Several of the same name run side by side: the name of the piece tells them apart.
        progress(f"{piece.name}: {stage}", done, total, note)


def _work(piece: Piece, end: Connection) -> None:
    """Do one piece in a child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and stops its children
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        if not piece.done():
            piece.work(lambda stage, done, total, note="": end.send((stage, done, total, note)))
        end.send(None)
    except UndersongError as error:
        end.send(error)
    except BaseException:  # whatever it is, the parent raises it with the child's traceback
        end.send(traceback.format_exc())


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its children, who would write into the same folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
