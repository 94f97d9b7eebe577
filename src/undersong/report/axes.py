"""Axes of the figures: from a number to a position, and the lines and labels around it.

Pictures take their colours from ``templates/report.css``, so they follow light and dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from undersong.report.svg import tag

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40  # margins, in the picture's own units
CHARACTER = 6.1  # width of one at the size of labels


@dataclass(frozen=True)
class Scale:
    """A range of numbers along one side of a picture.

    Parameters
    ----------
    low, high : first and last number
    start, end : their positions
    transform : what is drawn in place of a number, such as its root; increasing
    """

    low: float
    high: float
    start: float
    end: float
    transform: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Return the position of a number; of one outside, the nearest end."""
        low, high = self.transform(self.low), self.transform(self.high)
        share = (self.transform(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Frame:
    """The area that numbers are drawn in."""

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
    transform_x: Callable[[float], float] = float,
    transform_y: Callable[[float], float] = float,
    right: float = RIGHT,
) -> Frame:
    """Return a frame for these ranges; an empty range is widened."""
    x, y = _wide(x), _wide(y)
    return Frame(
        width,
        height,
        Scale(*x, LEFT, width - right, transform_x),
        Scale(*y, height - BOTTOM, TOP, transform_y),
    )


def ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Return about ``count`` round numbers from ``low`` to ``high``."""
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(x * power for x in (1, 2, 5, 10) if x * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(k * step, 10) for k in range(first, last + 1))


def percent(value: float) -> str:
    """Return a share as a percentage."""
    digits = 1 if abs(value) < 0.0995 and (1000 * value) % 10 > 1e-6 else 0
    return f"{100 * value:.{digits}f} %"


def plain(value: float) -> str:
    """Return a number without needless zeros."""
    return f"{value:,.6g}"


def grid(
    field: Frame,
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
) -> Markup:
    """Return the grid lines with their labels, and the labels of the axes."""
    bottom, left = field.y.start, field.x.start
    middle = (left + field.x.end) / 2
    lines = [
        tag("line", x1=left, x2=field.x.end, y1=y, y2=y, class_="grid")
        for y in (field.y(value) for value, _ in y_ticks)
    ]
    labels = [
        tag("text", label, x=left - 6, y=field.y(value) + 4, class_="tick", text_anchor="end")
        for value, label in y_ticks
    ]
    labels += [
        tag("text", label, x=field.x(value), y=bottom + 15, class_="tick", text_anchor="middle")
        for value, label in x_ticks
    ]
    labels += [
        tag("text", x_label, x=middle, y=field.height - 6, class_="axis", text_anchor="middle"),
        tag("text", y_label, x=2, y=10, class_="axis"),
    ]
    base = tag("line", x1=left, x2=field.x.end, y1=bottom, y2=bottom, class_="base")
    return tag("g", lines, base, labels)


def picture(field: Frame, *parts: Markup, alt: str) -> Markup:
    """Return a picture; ``alt`` describes in words what it shows."""
    return tag(
        "svg",
        parts,
        viewBox=f"0 0 {field.width:g} {field.height:g}",
        role="img",
        aria_label=alt,
        xmlns="http://www.w3.org/2000/svg",
    )


def apart(positions: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Return positions moved until none is closer than ``gap`` to the next, in their order."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    moved = [positions[i] for i in order]
    for k in range(len(moved)):
        moved[k] = max(moved[k], low if k == 0 else moved[k - 1] + gap)
    for k in reversed(range(len(moved))):
        moved[k] = min(moved[k], high if k == len(moved) - 1 else moved[k + 1] - gap)
    by_row = dict(zip(order, moved, strict=True))
    return [by_row[i] for i in range(len(positions))]


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return (low, high) if high > low else (low, low + 1)
