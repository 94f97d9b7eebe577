"""Ablations as something to read: Markdown, JSON and the terminal, and what matters in words."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong.experiments.ablating import COLUMNS, Ablated, Row
from undersong.experiments.estimates import Estimate
from undersong.experiments.page import QUICK, WIDTH, about, wrapped
from undersong.experiments.reproduction import Plan
from undersong.experiments.tables import bounds, plus_minus
from undersong.files import replacing, write_json
from undersong.report.files import markdown_table
from undersong.report.layout import Table
from undersong.report.terminal import render_tables

FORMAT = 1
NOTES = (
    "Each row is GRM with one thing changed, trained on the same E_C and E_U, or the default asked "
    "otherwise; below it rows of CbRM with another way from tracks to artists, beside the mean. "
    "Protocol cold. Differences are paired by query and seed, with 95 % intervals.",
    "Each loss got six settings, and the best by cold NDCG@200 of the very items that ask is "
    "printed: that favours these four rows alike over the others by a little.",
)


def write(plan: Plan, found: Sequence[Ablated]) -> tuple[Path, ...]:
    """Write ``ablations.md`` and ``ablations.json``; give their paths."""
    content = {
        "format": FORMAT,
        "quick": plan.quick,
        "part": plan.part,
        "notes": list(NOTES),
        "columns": [{"metric": metric, "slice": of} for _, metric, of in COLUMNS],
        "sets": {x.results.data_set.name: _as_json(x) for x in found},
    }
    write_json(plan.out / "ablations.json", content)
    page = plan.out / "ablations.md"
    with replacing(page) as temporary:
        temporary.write_text(markdown(plan, found), encoding="utf-8")
    return page, plan.out / "ablations.json"


def markdown(plan: Plan, found: Sequence[Ablated]) -> str:
    """Write all rows as Markdown, every number with the bounds of its interval."""
    lines = ["# Ablations", "", *([f"**{QUICK}**", ""] if plan.quick else [])]
    lines += [*(f"- {x}" for x in NOTES), ""]
    for one in found:
        lines += [f"## Set {one.results.data_set.name}", "", about(one.results), ""]
        lines += [*(f"- {x}" for x in what_matters(one)), ""]
        lines += markdown_table(table(one, bounds))
        lines += [*(f"- {x.name}: {x.note}" for x in one.rows if x.note), ""]
    return "\n".join(lines).rstrip() + "\n"


def terminal(plan: Plan, found: Sequence[Ablated]) -> str:
    """Write all rows for a terminal, each number with its margin."""
    lines = [QUICK, ""] if plan.quick else []
    for one in found:
        lines += [about(one.results), "", render_tables([table(one, plus_minus)], width=WIDTH)]
        lines += [*(f"  {x}" for x in what_matters(one)), ""]
    lines += [*NOTES, *(["", QUICK] if plan.quick else [])]
    return "\n".join(y for x in lines for y in wrapped(x)) + "\n"


def table(one: Ablated, show: Callable[[Estimate | None], str]) -> Table:
    """Lay out every row: each number, and its difference to the row beside it."""
    header = [y for name, _, _ in COLUMNS for y in (name, "difference")]
    rows = tuple(
        (
            x.name,
            *(show(y) for pair in zip(x.numbers, x.differences, strict=True) for y in pair),
        )
        for x in one.rows
    )
    count = len(one.results.seeds)
    seeds = f"{count} seed" if count == 1 else f"{count} seeds"
    title = f"Ablations of GRM, set {one.results.data_set.name}, {seeds}"
    return Table(title, ("", *header), rows)


def what_matters(one: Ablated) -> tuple[str, ...]:
    """Say in words which changes make a difference, worst first, and which show none."""
    lines = []
    for place, (name, _, _) in enumerate(COLUMNS):
        apart = [(x, y) for x in one.rows if (y := x.differences[place]) is not None]
        worse = [(x, y) for x, y in apart if y.high is not None and y.high < 0]
        better = [(x, y) for x, y in apart if y.low is not None and y.low > 0]
        lines.append(f"{name}: lower: {_named(worse)}; higher: {_named(better)}.")
    unseen = [x.name for x in one.rows if x.name != x.beside and not _seen(x)]
    lines.append(f"No difference that this many queries show: {', '.join(unseen) or 'none'}.")
    return tuple(lines)


def _seen(row: Row) -> bool:
    return any(
        x is not None and x.low is not None and x.high is not None and (x.low > 0 or x.high < 0)
        for x in row.differences
    )


def _named(rows: Sequence[tuple[Row, Estimate]]) -> str:
    ordered = sorted(rows, key=lambda pair: pair[1].value)
    return ", ".join(f"{x.name} ({100 * y.value:+.1f} points)" for x, y in ordered) or "none"


def _as_json(one: Ablated) -> dict[str, Any]:
    return {
        "kind": one.results.kind,
        "about": about(one.results),
        "seeds": list(one.results.seeds),
        "what_matters": list(what_matters(one)),
        "rows": [asdict(x) for x in one.rows],
    }
