"""How long work tells of itself. The library never prints; the command line shows this."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

Block = TypeVar("Block")


class Progress(Protocol):
    """Called at every step of long work."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``stage`` names the work, ``done`` of ``total`` steps are finished, ``note`` adds a word.

        ``total`` may shrink when work ends early; the last call has ``done == total``.
        """


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Show nothing."""


def watched(
    blocks: Sequence[Block], progress: Progress, stage: str, note: str = ""
) -> Iterator[Block]:
    """Go through blocks of work, and report when it begins and each that is done."""
    for done, block in enumerate(blocks):
        progress(stage, done, len(blocks), note)
        yield block
    if blocks:
        progress(stage, len(blocks), len(blocks), note)


def part_of(
    progress: Progress, stage: str, done: int, total: int, note: str
) -> Callable[[int, int], None]:
    """Return what reports how far one of the parts of a stage is, in hundredths of a part."""

    def report(here: int, whole: int) -> None:
        progress(stage, 100 * done + 100 * here // max(whole, 1), 100 * total, note)

    return report


@dataclass
class OverallProgress:
    """Progress of several stages, reported as each and as one, in hundredths of the time of all.

    How long the rest takes follows from how long a share took since the first stage that has one;
    before that nothing is known, and 0 hundredths are reported.

    Parameters
    ----------
    progress : who is told
    name : of all stages together
    expected : stage, or how its name begins -> its share of the work, about; in order
        0 for one whose work cannot be compared with that of the others. One that is left out counts
        as done when a later one begins.
    clock : seconds
    """

    progress: Progress
    name: str
    expected: Mapping[str, float]
    clock: Callable[[], float] = time.monotonic
    _reached: int = field(default=0, init=False)
    _since: tuple[float, float] | None = field(default=None, init=False)  # time, shares done

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report a stage, and where it stands among all."""
        self.progress(stage, done, total, note)
        names, shares = list(self.expected), list(self.expected.values())
        here = max((x for x in names if stage.startswith(x)), key=len, default="")
        if not here or names.index(here) < self._reached:
            return
        self._reached, now = names.index(here), self.clock()
        ready = sum(shares[: self._reached]) + shares[self._reached] * done / max(total, 1)
        if self._since is None and shares[self._reached]:
            self._since = now, ready
        started, before = self._since or (now, ready)
        hundredths = 0
        if ready > before:
            left = (now - started) * (sum(shares) - ready) / (ready - before)
            hundredths = round(100 * (now - self._began) / max(now - self._began + left, 1e-9))
        last = self._reached == len(names) - 1 and done == total
        place = f"stage {self._reached + 1} of {len(names)}: {stage}"
        self.progress(self.name, 100 if last else min(hundredths, 99), 100, place)
