"""The paper's claims, one by one, with a verdict by paired intervals (section 3.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from undersong.experiments.estimates import Estimate
from undersong.experiments.models import WITH_GRAPH, WITHOUT_PRIOR
from undersong.experiments.results import ALL, EDGE_LESS, LONG_TAIL, Results

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
