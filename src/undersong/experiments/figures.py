"""Figures 1 and 4 on our data, each as PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undersong.catalogue import describe as description
from undersong.catalogue.tables import Catalogue
from undersong.errors import UndersongError
from undersong.experiments.results import LONG_TAIL, Results
from undersong.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "consistent@10"
ENDINGS = (".png", ".svg")
PLAIN, WITH_EDGES = "#1f5a8c", "#c8641e"


def draw_relations(catalogue: Catalogue, stem: Path) -> tuple[Path, ...]:
    """Draw figure 1, the relations of a catalogue; nothing where it has none."""
    found = description.describe(catalogue)
    if not any(x.pairs for x in found.kinds):
        return ()
    paths = tuple(stem.with_suffix(ending) for ending in ENDINGS)
    for path in paths:
        description.plot(found, path)
    return paths


def draw_consistency(sets: Sequence[Results], stem: Path) -> tuple[Path, ...]:
    """Draw figure 4: Consistent@10 of the long-tail items, one panel a data set.

    Whiskers are 95 % intervals, the line is the random level. A set without metadata of its
    items or without long tail has no panel; without any panel nothing is drawn.

    Raises
    ------
    UndersongError
        If matplotlib is not installed.
    """
    panels = [x for x in sets if x.rows and x.number(x.rows[0], METRIC, of=LONG_TAIL)]
    if not panels:
        return ()
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UndersongError(
            "drawing needs matplotlib; install it with: pip install 'undersong[plot]'"
        ) from error
    figure = Figure(figsize=(1.2 + 3.0 * len(panels), 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, results in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _panel(axes, results)
    paths = tuple(stem.with_suffix(ending) for ending in ENDINGS)
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200)
    return paths


def _panel(axes: "Axes", results: Results) -> None:
    """Draw the bars of one data set."""
    heights, errors, colours = [], ([], []), []  # type: ignore[var-annotated]
    for name in results.rows:
        found = results.number(name, METRIC, of=LONG_TAIL)
        value, low, high = (found.value, found.low, found.high) if found else (0.0, None, None)
        heights.append(100 * value)
        errors[0].append(100 * (value - low) if low is not None else 0.0)
        errors[1].append(100 * (high - value) if high is not None else 0.0)
        colours.append(WITH_EDGES if name.endswith("_G") else PLAIN)
    axes.bar(range(len(heights)), heights, 0.75, color=colours, yerr=errors, capsize=2)
    chance = results.number("random", METRIC, of=LONG_TAIL)
    if chance:
        axes.axhline(100 * chance.value, color="0.3", linewidth=1, linestyle="--", label="random")
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    axes.set_xticks(range(len(heights)), results.rows, rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("Consistent@10 (%)")
    tail = int(results.slices[LONG_TAIL].sum())
    axes.set_title(f"{results.data_set.name}: {tail:,} long-tail {results.kind}s", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
