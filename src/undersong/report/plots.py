"""The figures of the report page, as SVG: each from numbers alone to one picture."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from undersong.evaluation.results import Protocol
from undersong.report import axes
from undersong.report.axes import Frame, percent, plain
from undersong.report.findings import Map
from undersong.report.layout import digits
from undersong.report.markup import Markup, tag

WIDTH, HEIGHT = 420, 260
OFTEN = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, None))  # times shown


def long_tail(relations: NDArray[np.int64]) -> Markup:
    """Figure 1: relations of each item, most first; where the curve ends the long tail begins."""
    ranked = np.sort(relations)[::-1]
    n, linked, most = len(ranked), int((ranked > 0).sum()), int(ranked[0])
    field = axes.frame(
        WIDTH, HEIGHT, x=(0, 1), y=(0, max(most, 1)), bend_y=lambda value: math.log1p(value)
    )
    powers = [10**k for k in range(7) if 10**k <= max(most, 1)]
    shares = [(x, percent(x)) for x in (0, 0.25, 0.5, 0.75, 1)]
    marks = [(0.0, "0"), *((float(x), f"{x:,}") for x in powers)]
    if most > 2 * powers[-1]:
        marks.append((float(most), f"{most:,}"))
    behind = axes.grid(
        field,
        x_label="share of the items, the best linked first",
        y_label="known relations",
        x_ticks=shares,
        y_ticks=marks,
    )
    rows = np.unique(np.linspace(0, max(linked - 1, 0), 240).astype(int))
    points = [(field.x((row + 1) / n), field.y(float(ranked[row]))) for row in rows if linked]
    start, bottom = field.x(linked / n), field.y.start
    width = max(field.x.end - start, 0)
    share = 1 - linked / n
    words = f"long tail: {percent(share)}"
    fits = width > len(words) * axes.CHARACTER
    tail = [
        tag("rect", x=start, y=bottom - 5, width=width, height=5, class_="tailbar"),
        tag(
            "text",
            words,
            x=start + width / 2 if fits else field.x.end,
            y=bottom - 12,
            class_="tail",
            text_anchor="middle" if fits else "end",
        ),
    ]
    alt = f"{linked:,} of {n:,} items have a relation, the first {most:,}; {percent(share)} none."
    return axes.picture(field, behind, _line(points, "line"), *tail, alt=alt)


def bars(rows: Sequence[tuple[str, float, float | None]], *, alt: str) -> Markup:
    """Bars from the left, one a row: (name, share of all items, share of the long tail)."""
    step, name_width = 30, 132
    height = step * len(rows) + 4
    field = Frame(
        WIDTH,
        height,
        axes.Scale(0, 1, name_width, WIDTH - 48),
        axes.Scale(0, 1, height, 0),
    )
    parts = []
    for place, (name, share, tail) in enumerate(rows):
        y = place * step + 2
        short = name if len(name) <= 20 else f"{name[:19]}…"
        parts.append(tag("text", short, x=name_width - 8, y=y + 16, text_anchor="end"))
        for at, value, kind, word in (
            (y + 2, share, "bar", "tick"),
            (y + 14, tail, "tailbar", "tail"),
        ):
            if value is not None:
                end = field.x(value)
                parts.append(
                    tag("rect", x=name_width, y=at, width=end - name_width, height=10, class_=kind)
                )
                parts.append(tag("text", percent(value), x=end + 5, y=at + 9, class_=word))
    return axes.picture(field, *parts, alt=alt)


def by_slice(protocol: Protocol, metric: str, methods: Sequence[tuple[str, str]]) -> Markup:
    """One metric for items with few relations and many: a mark and its interval for each method.

    Parameters
    ----------
    methods : names and the class that draws each, at most four
    """
    slices = [x for x in protocol.slices[2:] if x.answerable]
    seen = any(x.name.startswith("visible") for x in slices)
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
        x_label="relations that are visible" if seen else "relations, none of them visible",
        y_label=metric,
        x_ticks=[(k + 0.5, _range_of(x.name)) for k, x in enumerate(slices)],
        y_ticks=[(x, plain(x)) for x in axes.ticks(0, high)],
    )
    parts = []
    for turn, (name, kind) in enumerate(methods):
        for k, part in enumerate(slices):
            found = numbers.get((part.name, name))
            if found is None:
                continue
            x = field.x(k + 0.5 + 0.17 * (turn - (len(methods) - 1) / 2))
            if found.low is not None and found.high is not None:
                ends = {"y1": field.y(found.low), "y2": field.y(found.high)}
                parts.append(tag("line", x1=x, x2=x, class_="whisker", **ends))
            label = f"{name}, {part.name}: {digits(found.value)}"
            parts.append(mark(kind, x, field.y(found.value), title=label))
    alt = f"{metric} of {', '.join(x for x, _ in methods)} by number of relations; see the table."
    return axes.picture(field, behind, *parts, alt=alt)


def mark(kind: str, x: float, y: float, *, title: str = "") -> Markup:
    """One of four marks: "strong" and "hollow" discs, a "square" and a "cross"."""
    named = tag("title", title) if title else None
    if kind == "square":
        return tag("rect", named, x=x - 4, y=y - 4, width=8, height=8, class_="dot")
    if kind == "cross":
        path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"
        return tag("path", named, d=path, class_="whisker")
    return tag("circle", named, cx=x, cy=y, r=4, class_=kind)


def reliability(rows: Sequence[Sequence[float]]) -> Markup:
    """How often answers of a confidence are right: (confidence, share right, answers) each."""
    high = max(max(row[0], row[1]) for row in rows) * 1.08
    field = axes.frame(WIDTH, HEIGHT, x=(0, high), y=(0, high), bend_x=math.sqrt, bend_y=math.sqrt)
    known = [x for x in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1) if x <= high]
    behind = axes.grid(
        field,
        x_label="confidence (root scale)",
        y_label="share of answers that are known relations",
        x_ticks=[(x, percent(x)) for x in known],
        y_ticks=[(x, percent(x)) for x in known],
    )
    ends = [(field.x(x), field.y(x)) for x in (0, high)]
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
    words = "; ".join(f"{percent(sure)}: {percent(right)}" for sure, right, _ in rows)
    alt = f"Share of right answers by confidence: {words}. On the dashed line both are equal."
    return axes.picture(field, behind, _line(ends, "guide"), *marks, alt=alt)


def shown(counts: NDArray[np.int64], tail: NDArray[np.bool_], *, title: str) -> Markup:
    """How often items stand in the lists of others: a histogram, the long tail below in its bar."""
    names, whole, of_tail = [], [], []
    for low, high in OFTEN:
        inside = (counts >= low) & (counts <= (high if high is not None else np.inf))
        names.append(f"{low}" if low == high else f"{low}–{high}" if high else f"{low}+")
        whole.append(float(inside.mean()))
        of_tail.append(float((inside & tail).mean()))
    high_share = max(whole)
    field = axes.frame(WIDTH, HEIGHT, x=(0, len(OFTEN)), y=(0, high_share * 1.08))
    behind = axes.grid(
        field,
        x_label="lists that an item stands in",
        y_label="share of the items",
        x_ticks=[(k + 0.5, name) for k, name in enumerate(names)],
        y_ticks=[(x, percent(x)) for x in axes.ticks(0, high_share, 4)],
    )
    parts = []
    for k, (share, part) in enumerate(zip(whole, of_tail, strict=True)):
        left, wide = field.x(k + 0.12), field.x(k + 0.88) - field.x(k + 0.12)
        for bottom, top, kind in ((0.0, part, "tailbar"), (part, share, "bar")):
            if top > bottom:
                box = {"y": field.y(top), "height": field.y(bottom) - field.y(top)}
                parts.append(tag("rect", x=left, width=wide, class_=kind, **box))
    words = ", ".join(f"{name}: {percent(x)}" for name, x in zip(names, whole, strict=True))
    return axes.picture(field, behind, *parts, alt=f"{title}, share of items by lists: {words}.")


def dial(
    rows: Sequence[tuple[str, float, float]], *, joined: Sequence[str], share: float, metric: str
) -> Markup:
    """Accuracy against exposure of the long tail: (method, share of the answers, accuracy) each.

    Parameters
    ----------
    joined : methods along the dial, in its order
    share : of the long tail among all items
    """
    far = max([share, *(x for _, x, _ in rows)]) * 1.05
    top = max(y for _, _, y in rows) * 1.05
    right = 14 + axes.CHARACTER * max(len(name) for name, _, _ in rows)
    field = axes.frame(WIDTH + 60, HEIGHT + 60, x=(0, far), y=(0, top), right=right)
    behind = axes.grid(
        field,
        x_label="share of long-tail items among the answers",
        y_label=metric,
        x_ticks=[(x, percent(x)) for x in axes.ticks(0, far, 4)],
        y_ticks=[(x, plain(x)) for x in axes.ticks(0, top)],
    )
    fair = field.x(share)
    parts = [
        _line([(fair, field.y.start), (fair, field.y.end)], "guide-tail"),
        tag(
            "text",
            "its share of the items",
            x=fair - 4,
            y=field.y.end + 2,
            class_="tail",
            text_anchor="end",
        ),
    ]
    places = {name: (field.x(x), field.y(y)) for name, x, y in rows}
    parts.append(_line([places[x] for x in joined if x in places], "line"))
    heights = axes.apart(
        [places[name][1] for name, _, _ in rows], gap=13, low=field.y.end, high=field.y.start
    )
    edge = field.x.end + 8
    for (name, x, y), height in zip(rows, heights, strict=True):
        at = places[name]
        parts.append(_line([(at[0] + 5, at[1]), (edge - 2, height)], "lead"))
        title = f"{name}: {metric} {digits(y)}, long tail {percent(x)}"
        parts.append(mark("strong" if name in joined else "hollow", *at, title=title))
        kind = None if name in joined else "quiet"
        parts.append(tag("text", name, x=edge, y=height + 4, class_=kind))
    words = "; ".join(f"{name} {digits(y)} at {percent(x)}" for name, x, y in rows)
    return axes.picture(field, behind, *parts, alt=f"{metric} and share of the long tail: {words}.")


def places(found: Map) -> Markup:
    """The map: a dot for each item, the long tail in its colour, genres where they are densest."""
    size = WIDTH
    field = Frame(size, size, axes.Scale(-1, 1, 6, size - 6), axes.Scale(-1, 1, size - 6, 6))
    drawn = []
    for some, kind in ((~found.tail, "points"), (found.tail, "points-tail")):
        steps = "".join(f"M{field.x(x):.0f} {field.y(y):.0f}h0" for x, y in found.places[some])
        drawn.append(tag("path", d=steps or None, class_=kind))
    taken: list[tuple[float, float, float]] = []
    words = []
    for genre, x, y, items in found.regions:
        half = len(genre) * axes.CHARACTER / 2
        at = min(max(field.x(x), half), size - half), field.y(y)
        if all(abs(at[1] - b) > 13 or abs(at[0] - a) > half + c for a, b, c in taken):
            taken.append((*at, half))
            title = tag("title", f"{genre}: {items:,} items")
            words.append(
                tag(
                    "text",
                    genre,
                    title,
                    x=at[0],
                    y=at[1] + 4,
                    class_="region",
                    text_anchor="middle",
                )
            )
    alt = f"Map of {len(found.tail):,} items; {int(found.tail.sum()):,} of them long tail."
    return axes.picture(field, *drawn, *words, alt=alt)


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _range_of(name: str) -> str:
    """ "1-2" of "1-2 relations" and of "visible degree 1-2"."""
    return next((x.replace("-", "–") for x in name.split(" ") if x[0].isdigit()), name)
