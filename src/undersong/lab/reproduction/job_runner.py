"""Jobs: which wait for which, in order or side by side, and how much time is left."""

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
from pathlib import Path

from undersong.errors import ArtifactError, UndersongError
from undersong.processors import COUNTS, usable_processors
from undersong.progress import Progress


@dataclass(frozen=True)
class Job:
    """Work that ends in one file, which appears at once or not at all.

    Parameters
    ----------
    name : for people, and for the jobs that need this one
    cost : rough seconds; only their proportion matters
    path : the file; where it exists, the job is done
    work : makes the file and reports progress; can be sent to a child process
    needs : names of jobs that must be done before
    """

    name: str
    cost: float
    path: Path
    work: Callable[[Progress], None]
    needs: tuple[str, ...] = ()

    def run(self, progress: Progress) -> None:
        """Make the file, unless an earlier job made it on its way."""
        if not self.path.exists():
            self.work(progress)


def usual_processes() -> int:
    """Return a process for each processor; trainings on a GPU take turns."""
    import torch

    return 1 if torch.cuda.is_available() else usable_processors()


def run_jobs(jobs: Sequence[Job], *, progress: Progress, processes: int = 1) -> None:
    """Run every job that is not done yet, in order, and report how much time is left.

    The time left follows from this session's jobs so far, by cost; before the first one ends it
    is the costs themselves.

    Parameters
    ----------
    processes : jobs at a time, each in a child process of its own; with 1 all run here
        Two side by side with a thread each take less time than one after the other with two: a
        transformer layer, forward and backward, about two thirds.

    Raises
    ------
    UndersongError
        What a job raised. The others of that moment are stopped; nothing done is lost.
    """
    unfinished = [x for x in jobs if not x.path.exists()]
    clock = _Clock(unfinished, len(jobs), progress)
    if processes > 1 and len(unfinished) > 1:
        _side_by_side(unfinished, clock, processes, progress)
    else:
        for job in unfinished:
            clock.begin(job)
            job.run(progress)
            clock.end(job)
    progress("reproduce", len(jobs), len(jobs))


class _Clock:
    """Reports how many jobs are done and how long the rest takes."""

    def __init__(self, unfinished: Sequence[Job], total: int, progress: Progress) -> None:
        self._cost, self._spent = sum(x.cost for x in unfinished), 0.0
        self._done, self._total = total - len(unfinished), total
        self._started, self._progress = time.monotonic(), progress

    def begin(self, job: Job) -> None:
        rate = (time.monotonic() - self._started) / self._spent if self._spent else 1.0
        minutes = (self._cost - self._spent) * rate / 60
        note = f"{job.name}; about {minutes:.0f} min left"
        self._progress("reproduce", self._done, self._total, note)

    def end(self, job: Job) -> None:
        self._spent += job.cost
        self._done += 1


def _side_by_side(jobs: Sequence[Job], clock: _Clock, processes: int, progress: Progress) -> None:
    """Keep so many jobs going, the first ones that wait for nothing."""
    waiting, children = list(jobs), dict[Connection, tuple[Job, SpawnProcess]]()
    try:
        while waiting or children:
            unfinished = {x.name for x in waiting} | {job.name for job, _ in children.values()}
            ready = [x for x in waiting if not unfinished.intersection(x.needs)]
            if not (ready or children):
                names = ", ".join(x.name for x in waiting)
                raise ValueError(f"these jobs wait for each other: {names}")
            for job in ready[: processes - len(children)]:
                waiting.remove(job)
                clock.begin(job)
                connection, child = _start(job, processes)
                children[connection] = job, child
            for ready_end in wait(list(children)):
                assert isinstance(ready_end, Connection)
                job, child = children[ready_end]
                if _ended(ready_end, job, child, progress):
                    del children[ready_end]
                    clock.end(job)
    finally:
        for _, child in children.values():
            child.kill()
            child.join()


def _start(job: Job, processes: int) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(job, sender), name=job.name)
    with _variables_of_children(processes):
        child.start()
    sender.close()  # so that the end of the child is the end of the pipe
    return receiver, child


@contextmanager
def _variables_of_children(processes: int) -> Iterator[None]:
    """Let children import nothing from the working folder, and start so few threads each.

    Libraries read the number of threads when they are loaded.
    """
    threads = dict.fromkeys(COUNTS, str(max(1, usable_processors() // processes)))
    before = dict(os.environ)
    os.environ.update(threads | {"PYTHONSAFEPATH": "1"})
    try:
        yield
    finally:
        for name in (*threads, "PYTHONSAFEPATH"):
            del os.environ[name]
        os.environ.update(before)


def _ended(connection: Connection, job: Job, child: SpawnProcess, progress: Progress) -> bool:
    """Pass one message of a child on; return whether it was the last, and raise its error."""
    try:
        message = connection.recv()
    except EOFError:
        child.join()
        raise ArtifactError(
            f"{job.name}: its process ended with code {child.exitcode} without a message; if "
            "memory ran out, run fewer at a time (--processes 1); finished work is not lost"
        ) from None
    if message is None:
        child.join()
        return True
    if isinstance(message, UndersongError):
        raise message
    if isinstance(message, str):
        raise RuntimeError(f"{job.name} failed in its process:\n{message}")
    stage, done, total, note = message
    # Several of the same name run side by side: the name of the job tells them apart.
    progress(f"{job.name}: {stage}", done, total, note)
    return False


def _work(job: Job, sender: Connection) -> None:
    """Run one job in a child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it and stops its children
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        job.run(lambda stage, done, total, note="": sender.send((stage, done, total, note)))
        sender.send(None)
    except UndersongError as error:
        sender.send(error)
    except BaseException:  # whatever it is, the parent raises it with the child's traceback
        sender.send(traceback.format_exc())


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its children, who would write into the same folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
