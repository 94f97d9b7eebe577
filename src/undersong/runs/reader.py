"""A reader of a run that stays open, and how it moves to a new generation.

A shelf is a folder that ``undersong publish`` writes to; a run folder serves as well.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import polars as pl

from undersong.errors import ArtifactError, UndersongError
from undersong.io.files import Stamp, stamp
from undersong.runs import run as runs
from undersong.runs.run import Run

T = TypeVar("T")
Files = dict[Path, Stamp | None]
# What reading may raise of a file that has the right hash but was written by something else.
FOREIGN = (UndersongError, OSError, ValueError, LookupError, TypeError, pl.exceptions.PolarsError)


class RunReader(Generic[T]):
    """The current generation of a shelf, opened whole; ``refresh`` moves to the next.

    Parameters
    ----------
    folder : Path
    opening : from a generation to what the reader needs of it
        Files are checked beside it, each before it is read and all before the reader has it.
    readying : takes into memory what ``opening`` left for later, before a next generation is used
        The first one is used as soon as it is open; whoever opens a shelf then sees to the rest.
        All must be in memory in time: the files go once two newer generations are published.

    Attributes
    ----------
    current : what ``opening`` gave of the generation in use
        Read it once for each request, so that one request sees one generation.

    Raises
    ------
    ArtifactError
        If there is no generation yet, or it is refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        opening: Callable[[Run], T],
        readying: Callable[[T], None] = lambda opened: None,
    ) -> None:
        self.folder = folder
        self._opening, self._readying = opening, readying
        self._turn = threading.Lock()
        self._seen = self._stamp()
        self._refused: Files | None = None  # of a refused generation, as it was then
        self._last: Files = {}  # and when it was looked at last
        self.current = self._open()

    def refresh(self) -> bool:
        """Move to what the pointer names, if that changed; return whether anything is new.

        Costs one look at the pointer when nothing changed. The new generation is checked and
        opened beside the old one, which answers until one assignment puts the new in its place.
        Any thread may call it; while one opens, the others go on with what there is.

        Raises
        ------
        ArtifactError
            If the new generation is refused. The old one stays in use, and the refusal is raised
            once: the next look is taken when the pointer changes again, or the files of the refused
            generation, which a copy of a shelf may bring after the pointer, have come to rest.
        """
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if self._stamp() == self._seen and not self._arrived():
                return False
            while True:
                self._seen, self._refused = self._stamp(), None
                try:
                    self.current = self._open(ready=True)
                except ArtifactError:
                    # A publisher may have moved on while the files were read: look again.
                    if self._stamp() == self._seen:
                        self._refused = self._last = self._files()
                        raise
                if self._stamp() == self._seen:
                    return True
        finally:
            self._turn.release()

    def _arrived(self) -> bool:
        """Whether a refused generation changed since, and does so no more."""
        if self._refused is None:
            return False
        before, self._last = self._last, self._files()
        return self._last == before != self._refused

    def _files(self) -> Files:
        """Return the stamps of all files of generations."""
        return {x: stamp(x) for x in (self.folder / "generations").rglob("*")}

    def _open(self, *, ready: bool = False) -> T:
        run = runs.read(self.folder)
        try:
            with run.checking():
                opened = self._opening(run)
                if ready:
                    self._readying(opened)
            return opened
        except FOREIGN as error:
            raise ArtifactError(
                f"generation {run.generation} of {self.folder} is refused: {error or repr(error)}"
            ) from error

    def _stamp(self) -> Stamp | None:
        """What changes whenever the pointer is replaced; None where there is none."""
        return stamp(self.folder / "current.json")
