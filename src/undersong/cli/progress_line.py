"""How the command line shows long work: a live bar for a person, plain lines for a log file."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from undersong.io.plain import one_line

SECONDS_BETWEEN_LINES = 15.0


class ProgressDisplay:
    """Shows progress on stderr; hand the object itself to library functions."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=12),  # leaves 28 columns of 80 for the note
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> "ProgressDisplay":
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bars.stop()
        sys.stderr.flush()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` steps of a stage are finished."""
        note = one_line(note)
        if self._live:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
            return
        now = time.monotonic()
        started, before = self._begun.setdefault(stage, (now, done))
        if done < total and now - self._printed.get(stage, started) < SECONDS_BETWEEN_LINES:
            return
        if self._printed.get(stage) == float("inf"):
            return
        self._printed[stage] = float("inf") if done >= total else now
        spent, remaining = now - started, ""
        if before < done < total:
            remaining = f", {spent / (done - before) * (total - done):.0f} s left"
        self._console.print(
            f"{stage}: {done} of {total}, {spent:.0f} s{remaining}  {note}".rstrip()
        )
