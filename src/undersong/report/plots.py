"""The figures of the report page as SVG: each function turns numbers into one picture.

Pictures take their colours from ``templates/report.css``, so they follow light and dark, and no
text in them can become markup.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from undersong.evaluation.results import Slice
from undersong.report.contents import ItemMap
from undersong.report.layout import digits, in_words

Child = str | Iterable[str] | None


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return one element: ``tag("text", "1 < 2", class_="note")``.

    Text is escaped, ``Markup`` is not, and None is left out. In the name of an attribute a
    trailing ``_`` is dropped and any other means ``-``; numbers get up to two decimals.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{pairs}>{_join(children)}</{name}>")


def _join(children: Iterable[Child]) -> str:
    parts = (escape(x) if isinstance(x, str) else _join(x) for x in children if x is not None)
    return "".join(parts)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


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


WIDTH, HEIGHT = 420, 260
BINS = {  # how many lists an item occurs in, both ends included
    "0": (0, 0),
    "1–2": (1, 2),
    "3–5": (3, 5),
    "6–10": (6, 10),
    "11–20": (11, 20),
    "21–50": (21, 50),
    "51+": (51, math.inf),
}


def long_tail(relations: NDArray[np.int64]) -> Markup:
    """Draw figure 1: relations of each item, most first, until the long tail begins."""
    ranked = np.sort(relations)[::-1]
    n, linked, most = len(ranked), int((ranked > 0).sum()), int(ranked[0])
    field = frame(WIDTH, HEIGHT, x=(0, 1), y=(0, max(most, 1)), transform_y=math.log1p)
    counts = [0, *(10**k for k in range(7) if 10**k <= max(most, 1))]
    counts += [most] if most > 2 * counts[-1] else []
    behind = grid(
        field,
        x_label="share of the items, the best linked first",
        y_label="known links",
        x_ticks=[(x, percent(x)) for x in (0, 0.25, 0.5, 0.75, 1)],
        y_ticks=[(x, f"{x:,}") for x in counts],
    )
    rows = np.unique(np.linspace(0, max(linked - 1, 0), 240).astype(int))
    points = [(field.x((row + 1) / n), field.y(float(ranked[row]))) for row in rows if linked]
    start, bottom = field.x(linked / n), field.y.start
    width = max(field.x.end - start, 0)
    bar = tag("rect", x=start, y=bottom - 5, width=width, height=5, class_="tailbar")
    share = percent(1 - linked / n)
    label = f"long tail: {share}"
    fits = width > len(label) * CHARACTER
    x, anchor = (start + width / 2, "middle") if fits else (field.x.end, "end")
    text = tag("text", label, x=x, y=bottom - 12, class_="tail", text_anchor=anchor)
    alt = f"{linked:,} of {n:,} items have a link, the first {most:,}; {share} none."
    return picture(field, behind, _line(points, "line"), bar, text, alt=alt)


def bars(rows: Sequence[tuple[str, float, float | None]]) -> Markup:
    """Draw horizontal bars of coverage: (name, share of all items, share of the long tail) each."""
    step, left = 30, 132
    height = step * len(rows) + 4
    field = Frame(WIDTH, height, Scale(0, 1, left, WIDTH - 48), Scale(0, 1, height, 0))
    parts = []
    for k, (name, share, tail) in enumerate(rows):
        y = k * step + 2
        short = name if len(name) <= 20 else f"{name[:19]}…"
        parts.append(tag("text", short, x=left - 8, y=y + 16, text_anchor="end"))
        both = ((y + 2, share, "bar", "tick"), (y + 14, tail, "tailbar", "tail"))
        for top, value, bar, label in both:
            if value is not None:
                width = field.x(value) - left
                parts.append(tag("rect", x=left, y=top, width=width, height=10, class_=bar))
                x, text = left + width + 5, percent(value)
                parts.append(tag("text", text, x=x, y=top + 9, class_=label))
    shares = "; ".join(f"{name} {percent(share)}" for name, share, _ in rows)
    return picture(field, *parts, alt=f"Coverage: {shares}.")


def by_slice(
    slices: Sequence[Slice], metric: str, methods: Sequence[tuple[str, str]], *, x_label: str
) -> Markup:
    """Draw one metric in slices, side by side: a mark and an interval for each method.

    Parameters
    ----------
    methods : name and kind of ``mark`` of each, at most four
    """
    numbers = {
        (part.name, name): part.numbers[name][metric].mean
        for part in slices
        for name, _ in methods
        if metric in part.numbers.get(name, {})
    }
    high = max((x.high or x.value for x in numbers.values()), default=1.0)
    field = frame(WIDTH, HEIGHT, x=(0, len(slices)), y=(0, high))
    behind = grid(
        field,
        x_label=x_label,
        y_label=in_words(metric),
        x_ticks=[(k + 0.5, _range_of(x.name)) for k, x in enumerate(slices)],
        y_ticks=[(x, plain(x)) for x in ticks(0, high)],
    )
    parts = []
    for m, (name, kind) in enumerate(methods):
        for k, part in enumerate(slices):
            interval = numbers.get((part.name, name))
            if interval is None:
                continue
            x = field.x(k + 0.5 + 0.17 * (m - (len(methods) - 1) / 2))
            if interval.low is not None and interval.high is not None:
                low, high = field.y(interval.low), field.y(interval.high)
                parts.append(tag("line", x1=x, x2=x, y1=low, y2=high, class_="whisker"))
            label = f"{name}, {part.name}: {digits(interval.value)}"
            parts.append(mark(kind, x, field.y(interval.value), title=label))
    alt = f"{in_words(metric)} of {', '.join(x for x, _ in methods)} by {x_label}; see the table."
    return picture(field, behind, *parts, alt=alt)


def mark(kind: str, x: float, y: float, *, title: str = "") -> Markup:
    """Return one of four marks: "strong" and "hollow" discs, a "square" and a "cross"."""
    hint = tag("title", title) if title else None
    if kind == "square":
        return tag("rect", hint, x=x - 4, y=y - 4, width=8, height=8, class_="dot")
    if kind == "cross":
        path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"
        return tag("path", hint, d=path, class_="whisker")
    return tag("circle", hint, cx=x, cy=y, r=4, class_=kind)


def reliability(rows: Sequence[Sequence[float]]) -> Markup:
    """Draw how often answers of a confidence are right: (confidence, share right, answers) each."""
    high = max(max(row[0], row[1]) for row in rows) * 1.08
    ends, root = (0.0, high), math.sqrt
    field = frame(WIDTH, HEIGHT, x=ends, y=ends, transform_x=root, transform_y=root)
    ticks = [(x, percent(x)) for x in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1) if x <= high]
    behind = grid(
        field,
        x_label="confidence (root scale)",
        y_label="share of answers that are known links",
        x_ticks=ticks,
        y_ticks=ticks,
    )
    diagonal = _line([(field.x(x), field.y(x)) for x in ends], "guide")
    most = max(row[2] for row in rows)
    marks = [
        tag(
            "circle",
            tag("title", f"{int(n):,} answers: confidence {percent(sure)}, right {percent(right)}"),
            cx=field.x(sure),
            cy=field.y(right),
            r=3 + 6 * math.sqrt(n / most),
            class_="hollow",
        )
        for sure, right, n in rows
    ]
    shares = "; ".join(f"{percent(sure)}: {percent(right)}" for sure, right, _ in rows)
    alt = f"Share of right answers by confidence: {shares}. On the dashed line both are equal."
    return picture(field, behind, diagonal, *marks, alt=alt)


def appearances(counts: NDArray[np.int64], tail: NDArray[np.bool_], *, title: str) -> Markup:
    """Draw a histogram of the lists that items occur in, the long tail at the foot of each bar."""
    inside = [(counts >= low) & (counts <= high) for low, high in BINS.values()]
    shares = [float(x.mean()) for x in inside]
    tail_shares = [float((x & tail).mean()) for x in inside]
    most = max(shares)
    field = frame(WIDTH, HEIGHT, x=(0, len(BINS)), y=(0, most * 1.08))
    behind = grid(
        field,
        x_label="lists that an item occurs in",
        y_label="share of the items",
        x_ticks=[(k + 0.5, name) for k, name in enumerate(BINS)],
        y_ticks=[(x, percent(x)) for x in ticks(0, most, 4)],
    )
    parts = []
    for k, (share, tail_share) in enumerate(zip(shares, tail_shares, strict=True)):
        x, width = field.x(k + 0.12), field.x(k + 0.88) - field.x(k + 0.12)
        for low, high, kind in ((0.0, tail_share, "tailbar"), (tail_share, share, "bar")):
            if high > low:
                y, height = field.y(high), field.y(low) - field.y(high)
                parts.append(tag("rect", x=x, y=y, width=width, height=height, class_=kind))
    words = ", ".join(f"{name}: {percent(x)}" for name, x in zip(BINS, shares, strict=True))
    return picture(field, behind, *parts, alt=f"{title}, share of items by lists: {words}.")


def trade_off(
    rows: Sequence[tuple[str, float, float]], *, joined: Sequence[str], share: float, metric: str
) -> Markup:
    """Draw accuracy against exposure: (method, long-tail share of the answers, accuracy) each.

    Parameters
    ----------
    joined : methods that differ in ``--long-tail`` alone, in its order
    share : of the long tail among all items
    """
    far = max([share, *(x for _, x, _ in rows)]) * 1.05
    best = max(y for _, _, y in rows) * 1.05
    right = 14 + CHARACTER * max(len(name) for name, _, _ in rows)
    field = frame(WIDTH + 60, HEIGHT + 60, x=(0, far), y=(0, best), right=right)
    behind = grid(
        field,
        x_label="share of long-tail items among the answers",
        y_label=in_words(metric),
        x_ticks=[(x, percent(x)) for x in ticks(0, far, 4)],
        y_ticks=[(x, plain(x)) for x in ticks(0, best)],
    )
    x, top = field.x(share), field.y.end
    label = "its share of the items"
    points = {name: (field.x(x), field.y(y)) for name, x, y in rows}
    parts = [
        _line([(x, field.y.start), (x, top)], "guide-tail"),
        tag("text", label, x=x - 4, y=top + 2, class_="tail", text_anchor="end"),
        _line([points[x] for x in joined if x in points], "line"),
    ]
    heights = apart([y for _, y in points.values()], gap=13, low=top, high=field.y.start)
    edge = field.x.end + 8
    for (name, x, y), height in zip(rows, heights, strict=True):
        left, middle = points[name]
        parts.append(_line([(left + 5, middle), (edge - 2, height)], "lead"))
        title = f"{name}: {metric} {digits(y)}, long tail {percent(x)}"
        parts.append(mark("strong" if name in joined else "hollow", left, middle, title=title))
        style = None if name in joined else "quiet"
        parts.append(tag("text", name, x=edge, y=height + 4, class_=style))
    words = "; ".join(f"{name} {digits(y)} at {percent(x)}" for name, x, y in rows)
    return picture(
        field, behind, *parts, alt=f"{in_words(metric)} and share of the long tail: {words}."
    )


def item_map(item_map: ItemMap) -> Markup:
    """Draw a dot for each item, the long tail in its colour, and the genres of the regions."""
    size, tail = WIDTH, item_map.long_tail
    field = Frame(size, size, Scale(-1, 1, 6, size - 6), Scale(-1, 1, size - 6, 6))
    parts = []
    for rows, kind in ((~tail, "points"), (tail, "points-tail")):
        dots = "".join(f"M{field.x(x):.0f} {field.y(y):.0f}h0" for x, y in item_map.points[rows])
        parts.append(tag("path", d=dots or None, class_=kind))
    labels: list[tuple[float, float, float]] = []
    for genre, left, top, items in item_map.regions:
        half = len(genre) * CHARACTER / 2
        x, y = min(max(field.x(left), half), size - half), field.y(top)
        if all(abs(y - b) > 13 or abs(x - a) > half + c for a, b, c in labels):
            labels.append((x, y, half))
            hint = tag("title", f"{genre}: {items:,} items")
            style = {"class_": "region", "text_anchor": "middle"}
            parts.append(tag("text", genre, hint, x=x, y=y + 4, **style))
    alt = f"Map of {len(tail):,} items; {int(tail.sum()):,} of them long tail."
    return picture(field, *parts, alt=alt)


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _range_of(name: str) -> str:
    """Return "1–2" of "1-2 relations" and of "visible degree 1-2"."""
    return next((x.replace("-", "–") for x in name.split(" ") if x[0].isdigit()), name)
