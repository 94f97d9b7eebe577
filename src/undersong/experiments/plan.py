"""What is to be done, piece by piece, and how long it still takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undersong.progress import Progress


@dataclass(frozen=True)
class Piece:
    """Some work that ends in one file or folder, which appears at once or not at all.

    Parameters
    ----------
    name : what a person is told
    cost : rough seconds; only their proportion matters
    done : whether the file is there already
    work : makes it
    """

    name: str
    cost: float
    done: Callable[[], bool]
    work: Callable[[], None]


def carry_out(pieces: Sequence[Piece], *, progress: Progress) -> None:
    """Do every piece that is not done yet, in order, and say how much time is left.

    The time left is that of this session's pieces so far, by cost; before the first one it is
    the costs themselves.
    """
    left = [piece for piece in pieces if not piece.done()]
    whole, spent, begun = sum(x.cost for x in left), 0.0, time.monotonic()
    for turn, piece in enumerate(left):
        pace = (time.monotonic() - begun) / spent if spent else 1.0
        minutes = (whole - spent) * pace / 60
        number = len(pieces) - len(left) + turn
        progress("reproduce", number, len(pieces), f"{piece.name}; about {minutes:.0f} min left")
        if not piece.done():  # an earlier piece may have made it on its way
            piece.work()
        spent += piece.cost
    progress("reproduce", len(pieces), len(pieces))
