"""Axes of the figures: from a number to a place in the picture, and the lines and words around it.

Pictures take their colours from the page (``report.style``), so they follow light and dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undersong.report.markup import Markup, tag

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40  # margins, in the picture's own units
CHARACTER = 6.1  # width of one at the size of labels


@dataclass(frozen=True)
class Scale:
    """A range of numbers along one side of a picture.

    Parameters
    ----------
    low, high : first and last number
    start, end : their places
    bend : what is drawn in place of a number, such as a root; increasing
    """

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Place of a number; of one outside, the nearest end."""
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Frame:
    """The field that numbers are drawn in."""

    width: float
    height: float
    x: Scale
    y: Scale


def frame(
    width: float,
    height: float,
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    bend_x: Callable[[float], float] = float,
    bend_y: Callable[[float], float] = float,
    right: float = RIGHT,
) -> Frame:
    """Make a field for these ranges; an empty range is widened."""
    x, y = _wide(x), _wide(y)
    return Frame(
        width,
        height,
        Scale(*x, LEFT, width - right, bend_x),
        Scale(*y, height - BOTTOM, TOP, bend_y),
    )


def ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(x * power for x in (1, 2, 5, 10) if x * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(k * step, 10) for k in range(first, last + 1))


def percent(value: float) -> str:
    """A share as a percentage."""
    digits = 1 if abs(value) < 0.0995 and (1000 * value) % 10 > 1e-6 else 0
    return f"{100 * value:.{digits}f} %"


def plain(value: float) -> str:
    """A number without needless zeros."""
    return f"{value:,.6g}"


def grid(
    field: Frame,
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
) -> Markup:
    """Draw the lines behind the numbers, what they stand for, and what the axes mean."""
    bottom, left = field.y.start, field.x.start
    lines = [
        tag("line", x1=left, x2=field.x.end, y1=field.y(at), y2=field.y(at), class_="grid")
        for at, _ in y_ticks
    ]
    words = [
        tag("text", word, x=left - 6, y=field.y(at) + 4, class_="tick", text_anchor="end")
        for at, word in y_ticks
    ]
    words += [
        tag("text", word, x=field.x(at), y=bottom + 15, class_="tick", text_anchor="middle")
        for at, word in x_ticks
    ]
    middle = (field.x.start + field.x.end) / 2
    words.append(
        tag("text", x_label, x=middle, y=field.height - 6, class_="axis", text_anchor="middle")
    )
    words.append(tag("text", y_label, x=2, y=10, class_="axis"))
    base = tag("line", x1=left, x2=field.x.end, y1=bottom, y2=bottom, class_="base")
    return tag("g", lines, base, words)


def picture(field: Frame, *parts: Markup, alt: str) -> Markup:
    """Close a picture; ``alt`` says in words what it shows."""
    return tag(
        "svg",
        parts,
        viewBox=f"0 0 {field.width:g} {field.height:g}",
        role="img",
        aria_label=alt,
        xmlns="http://www.w3.org/2000/svg",
    )


def apart(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move labels along one axis until none is closer than ``gap`` to the next, in their order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [places[i] for i in order]
    for k in range(len(moved)):
        moved[k] = max(moved[k], low if k == 0 else moved[k - 1] + gap)
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], high if k == len(moved) - 1 else moved[k + 1] - gap)
    found = [0.0] * len(places)
    for k, i in enumerate(order):
        found[i] = moved[k]
    return found


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return (low, high) if high > low else (low, low + 1)
