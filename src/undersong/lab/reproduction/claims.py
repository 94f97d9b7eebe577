"""The paper's claims, one by one, with a verdict by paired intervals (section 3.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from undersong.catalogue import Catalogue, describe_catalogue, plot_relations
from undersong.errors import needs
from undersong.io.files import replacing
from undersong.lab.reproduction.estimates import Estimate
from undersong.lab.reproduction.methods import WITH_GRAPH, WITHOUT_PRIOR
from undersong.lab.reproduction.outcomes import ALL, EDGE_LESS, LONG_TAIL, Results

Verdict = Literal["holds", "does not hold", "undecided here"]
PAPERS_GAIN = {1: 9.69, 2: 19.42}  # points of HR@10, GRM above CbRM
HIT = "recall@10"  # what the paper's HR@10 fits (docs/evaluation.md)
CONSISTENT, WITHHELD = "consistent@10", "withheld_consistent@10"


@dataclass(frozen=True)
class Comparison:
    """How far one model is above another; the claim says that it is.

    Parameters
    ----------
    above, below : models
    metric, of : what is compared, and on which queries
    """

    above: str
    below: str
    metric: str
    of: str
    difference: Estimate


@dataclass(frozen=True)
class Claim:
    """One claim of the paper on one data set.

    Parameters
    ----------
    data_set : name
    text : the claim
    verdict : of all comparisons together
    comparisons : each must hold for the claim to hold; one that fails makes it fail
    note : what a reader should know, or ""
    """

    data_set: str
    text: str
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    note: str = ""


def verdict(differences: Sequence[Estimate]) -> Verdict:
    """Judge a claim that every one of some differences is above 0.

    It holds if all intervals are above 0, and does not hold if any is below 0. Otherwise, also
    where an interval is not known, it is undecided.
    """
    if any(x.high is not None and x.high < 0 for x in differences):
        return "does not hold"
    if all(x.low is not None and x.low > 0 for x in differences):
        return "holds"
    return "undecided here"


def claims_of(results: Results) -> tuple[Claim, ...]:
    """Judge every claim that the models of a data set allow."""
    return tuple(_claims(results))


def _claims(results: Results) -> Iterator[Claim]:
    order = [x for x in reversed(results.data_set.models) if x in results.answers]
    if len(order) > 1:
        pairs = list(zip(order, order[1:], strict=False))
        yield from _claim(results, " > ".join(order), [(a, b, HIT, ALL) for a, b in pairs])
    paper = PAPERS_GAIN.get(results.data_set.table)
    note = f"the paper has +{paper:.2f} points of HR@10" if paper else ""
    yield from _claim(results, "GRM gains over CbRM", [("GRM", "CbRM", HIT, ALL)], note)
    prior = ("GRM", WITHOUT_PRIOR)
    yield from _claim(
        results,
        "the prior loss helps the long tail",
        [(*prior, CONSISTENT, LONG_TAIL)],
        "circular: the prior trains for the very fields that are counted",
    )
    yield from _claim(
        results,
        "the prior loss helps the long tail, by a field that no model reads",
        [(*prior, WITHHELD, LONG_TAIL)],
    )
    for name in ("RdRM", "UiRM", "CbRM"):
        helped = [(f"{name}{WITH_GRAPH}", name, HIT, ALL)]
        yield from _claim(results, f"the GNN helps {name}", helped)
    yield from _claim(
        results,
        "the GNN does not help GRM",
        [("GRM", f"GRM{WITH_GRAPH}", HIT, ALL)],
        "the paper: 39.98 to 39.89 % on artists; on tracks 42.65 to 44.58 %, so there it does help",
    )
    harmed = ("GRM", f"GRM{WITH_GRAPH}")
    yield from _claim(
        results,
        "the GNN harms items without edges: the long tail",
        [(*harmed, CONSISTENT, LONG_TAIL)],
    )
    yield from _claim(
        results,
        "the GNN harms items without edges: those with a hidden relation and no visible one",
        [(*harmed, HIT, EDGE_LESS)],
    )


def _claim(
    results: Results, text: str, compared: Sequence[tuple[str, str, str, str]], note: str = ""
) -> Iterator[Claim]:
    """Give the claim, if every comparison can be made."""
    found = []
    for above, below, metric, of in compared:
        difference = results.difference(above, below, metric, of=of)
        if difference is None:
            return
        found.append(Comparison(above, below, metric, of, difference))
    judged = verdict([x.difference for x in found])
    yield Claim(results.data_set.name, text, judged, tuple(found), note)


def line(claim: Claim) -> str:
    """Say a claim, its verdict and its numbers in one line; differences in points (hundredths)."""
    numbers = "; ".join(_said(x) for x in claim.comparisons)
    note = f" ({claim.note})" if claim.note else ""
    return f"{claim.data_set}: {claim.text}: {claim.verdict}. {numbers}{note}"


def _said(x: Comparison) -> str:
    found = x.difference
    text = f"{x.above} - {x.below}, {x.metric}"
    if x.of != ALL:
        text += f" of the {x.of}" if x.of == LONG_TAIL else f" at {x.of}"
    text += f": {100 * found.value:+.2f}"
    if found.low is not None and found.high is not None:
        text += f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    return text


if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "consistent@10"
ENDINGS = (".png", ".svg")
PLAIN, WITH_EDGES = "#1f5a8c", "#c8641e"


def draw_relations(catalogue: Catalogue, stem: Path) -> tuple[Path, ...]:
    """Draw figure 1, the relations of a catalogue; nothing where it has none."""
    found = describe_catalogue(catalogue)
    if not any(x.pairs for x in found.kinds):
        return ()
    paths = tuple(stem.with_suffix(ending) for ending in ENDINGS)
    for path in paths:
        plot_relations(found, path)
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
    with needs("plot", "drawing"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
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
