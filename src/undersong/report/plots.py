"""The figures of the report page as SVG: each function turns numbers into one picture."""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from undersong.evaluation.results import Slice
from undersong.report import axes
from undersong.report.axes import Frame, Scale, percent, plain
from undersong.report.contents import ItemMap
from undersong.report.layout import digits, in_words
from undersong.report.svg import tag

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
    field = axes.frame(WIDTH, HEIGHT, x=(0, 1), y=(0, max(most, 1)), transform_y=math.log1p)
    counts = [0, *(10**k for k in range(7) if 10**k <= max(most, 1))]
    counts += [most] if most > 2 * counts[-1] else []
    behind = axes.grid(
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
    fits = width > len(label) * axes.CHARACTER
    x, anchor = (start + width / 2, "middle") if fits else (field.x.end, "end")
    text = tag("text", label, x=x, y=bottom - 12, class_="tail", text_anchor=anchor)
    alt = f"{linked:,} of {n:,} items have a link, the first {most:,}; {share} none."
    return axes.picture(field, behind, _line(points, "line"), bar, text, alt=alt)


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
    return axes.picture(field, *parts, alt=f"Coverage: {shares}.")


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
    field = axes.frame(WIDTH, HEIGHT, x=(0, len(slices)), y=(0, high))
    behind = axes.grid(
        field,
        x_label=x_label,
        y_label=in_words(metric),
        x_ticks=[(k + 0.5, _range_of(x.name)) for k, x in enumerate(slices)],
        y_ticks=[(x, plain(x)) for x in axes.ticks(0, high)],
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
    return axes.picture(field, behind, *parts, alt=alt)


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
    field = axes.frame(WIDTH, HEIGHT, x=ends, y=ends, transform_x=root, transform_y=root)
    ticks = [(x, percent(x)) for x in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1) if x <= high]
    behind = axes.grid(
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
    return axes.picture(field, behind, diagonal, *marks, alt=alt)


def appearances(counts: NDArray[np.int64], tail: NDArray[np.bool_], *, title: str) -> Markup:
    """Draw a histogram of the lists that items occur in, the long tail at the foot of each bar."""
    inside = [(counts >= low) & (counts <= high) for low, high in BINS.values()]
    shares = [float(x.mean()) for x in inside]
    tail_shares = [float((x & tail).mean()) for x in inside]
    most = max(shares)
    field = axes.frame(WIDTH, HEIGHT, x=(0, len(BINS)), y=(0, most * 1.08))
    behind = axes.grid(
        field,
        x_label="lists that an item occurs in",
        y_label="share of the items",
        x_ticks=[(k + 0.5, name) for k, name in enumerate(BINS)],
        y_ticks=[(x, percent(x)) for x in axes.ticks(0, most, 4)],
    )
    parts = []
    for k, (share, tail_share) in enumerate(zip(shares, tail_shares, strict=True)):
        x, width = field.x(k + 0.12), field.x(k + 0.88) - field.x(k + 0.12)
        for low, high, kind in ((0.0, tail_share, "tailbar"), (tail_share, share, "bar")):
            if high > low:
                y, height = field.y(high), field.y(low) - field.y(high)
                parts.append(tag("rect", x=x, y=y, width=width, height=height, class_=kind))
    words = ", ".join(f"{name}: {percent(x)}" for name, x in zip(BINS, shares, strict=True))
    return axes.picture(field, behind, *parts, alt=f"{title}, share of items by lists: {words}.")


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
    right = 14 + axes.CHARACTER * max(len(name) for name, _, _ in rows)
    field = axes.frame(WIDTH + 60, HEIGHT + 60, x=(0, far), y=(0, best), right=right)
    behind = axes.grid(
        field,
        x_label="share of long-tail items among the answers",
        y_label=in_words(metric),
        x_ticks=[(x, percent(x)) for x in axes.ticks(0, far, 4)],
        y_ticks=[(x, plain(x)) for x in axes.ticks(0, best)],
    )
    x, top = field.x(share), field.y.end
    label = "its share of the items"
    points = {name: (field.x(x), field.y(y)) for name, x, y in rows}
    parts = [
        _line([(x, field.y.start), (x, top)], "guide-tail"),
        tag("text", label, x=x - 4, y=top + 2, class_="tail", text_anchor="end"),
        _line([points[x] for x in joined if x in points], "line"),
    ]
    heights = axes.apart([y for _, y in points.values()], gap=13, low=top, high=field.y.start)
    edge = field.x.end + 8
    for (name, x, y), height in zip(rows, heights, strict=True):
        left, middle = points[name]
        parts.append(_line([(left + 5, middle), (edge - 2, height)], "lead"))
        title = f"{name}: {metric} {digits(y)}, long tail {percent(x)}"
        parts.append(mark("strong" if name in joined else "hollow", left, middle, title=title))
        style = None if name in joined else "quiet"
        parts.append(tag("text", name, x=edge, y=height + 4, class_=style))
    words = "; ".join(f"{name} {digits(y)} at {percent(x)}" for name, x, y in rows)
    return axes.picture(
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
        half = len(genre) * axes.CHARACTER / 2
        x, y = min(max(field.x(left), half), size - half), field.y(top)
        if all(abs(y - b) > 13 or abs(x - a) > half + c for a, b, c in labels):
            labels.append((x, y, half))
            hint = tag("title", f"{genre}: {items:,} items")
            style = {"class_": "region", "text_anchor": "middle"}
            parts.append(tag("text", genre, hint, x=x, y=y + 4, **style))
    alt = f"Map of {len(tail):,} items; {int(tail.sum()):,} of them long tail."
    return axes.picture(field, *parts, alt=alt)


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _range_of(name: str) -> str:
    """Return "1–2" of "1-2 relations" and of "visible degree 1-2"."""
    return next((x.replace("-", "–") for x in name.split(" ") if x[0].isdigit()), name)
