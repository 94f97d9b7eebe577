"""The reproduction as something to read: Markdown, JSON and the terminal, with figures."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong.catalogue import read_catalogue
from undersong.io.files import replacing, write_json
from undersong.lab.reproduction import claims, outcomes
from undersong.lab.reproduction.ablations import COLUMNS, Ablated, Row
from undersong.lab.reproduction.estimates import Estimate
from undersong.lab.reproduction.experiment import Plan, catalogue_folder
from undersong.lab.reproduction.outcomes import (
    ACCURACY,
    ALL,
    CONSISTENCY,
    LONG_TAIL,
    OTHERS,
    PAPER,
    MetricColumn,
    Results,
    bounds,
    plus_minus,
    tables_of,
)
from undersong.report.layout import Table
from undersong.report.markdown import markdown_table
from undersong.report.terminal import render_tables

FORMAT = 1
WIDTH = 150
QUICK = (
    "QUICK VERSION: few seeds and short trainings, to see that everything runs. The numbers are "
    "not those of the models; leave --quick out for them."
)


def write(plan: Plan, sets: Sequence[Results]) -> tuple[Path, ...]:
    """Write ``reproduction.md``, ``reproduction.json`` and the figures; give their paths."""
    drawn: list[Path] = []
    for results in sets:
        catalogue = read_catalogue(catalogue_folder(plan, results.data_set))
        drawn += claims.draw_relations(catalogue, plan.out / f"figure-1-{results.data_set.name}")
    drawn += claims.draw_consistency(sets, plan.out / "figure-4")
    write_json(plan.out / "reproduction.json", as_json(plan, sets))
    page = plan.out / "reproduction.md"
    with replacing(page) as temporary:
        temporary.write_text(markdown(plan, sets, drawn), encoding="utf-8")
    return (page, plan.out / "reproduction.json", *drawn)


def markdown(plan: Plan, sets: Sequence[Results], drawn: Sequence[Path]) -> str:
    """Write everything as Markdown, every number with the bounds of its interval."""
    lines = ["# The paper's tables, figures and claims on other data", ""]
    lines += [f"**{QUICK}**", ""] if plan.quick else []
    lines += [f"- {x}" for x in notes(plan, sets)] + [""]
    lines += ["## Claims", "", *(f"- {x}" for x in claim_lines(sets)), ""]
    for results in sets:
        lines += [f"## Set {results.data_set.name}", "", about(results), ""]
        for table in (*tables_of(results, bounds), *_olga(results, bounds)):
            lines += markdown_table(table)
        said = [f"- {name}: {note}" for name, note in results.notes.items() if note]
        lines += [*said, ""] if said else []
    for path in drawn:
        if path.suffix == ".png":
            lines += [f"![{path.stem}]({path.name})", ""]
    return "\n".join(lines).rstrip() + "\n"


def terminal(plan: Plan, sets: Sequence[Results]) -> str:
    """Write the tables and claims for a terminal of 150 columns, each number with its margin."""
    lines = [QUICK, ""] if plan.quick else []
    for results in sets:
        found = (*tables_of(results, plus_minus), *_olga(results, plus_minus))
        lines += [about(results), "", render_tables(found, width=WIDTH)]
    lines += ["Claims", *(f"  {x}" for x in claim_lines(sets)), "", *notes(plan, sets)]
    lines += ["", QUICK] if plan.quick else []
    return "\n".join(y for x in lines for y in wrapped(x)) + "\n"


def wrapped(text: str) -> list[str]:
    """Break prose at the width of the terminal; tables are broken already."""
    if "\n" in text or len(text) <= WIDTH:
        return [text]
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")


def about(results: Results) -> str:
    """Say in a line what a set is and who asks."""
    asking, tail = (int(results.slices[x].sum()) for x in (ALL, LONG_TAIL))
    return (
        f"Set {results.data_set.name}: {results.data_set.about}. {asking:,} {results.part} "
        f"{results.kind}s ask, {tail:,} of them long tail; {results.answerable():,} have a "
        "relation to another of them and count for accuracy. "
        f"{results.items:,} {results.kind}s in all."
    )


def claim_lines(sets: Sequence[Results]) -> tuple[str, ...]:
    """Say every claim of every set, a line each."""
    return tuple(claims.line(x) for results in sets for x in claims.claims_of(results))


def notes(plan: Plan, sets: Sequence[Results]) -> Iterator[str]:
    """What a reader must know to read the tables."""
    if plan.part == "validation":
        yield (
            "Validation items ask, since the relations of the test items of these data sets are "
            "sealed. The same items decided when training stops, and defaults were tuned on those "
            "of set B: these numbers are kinder than sealed ones."
        )
    else:
        yield "Test items ask."
    yield (
        "recall@10 is what the paper's HR@10 behaves like; hit@10 asks for any hit. Both, MAP, "
        "NDCG, consistency, coverage and hubness are of protocol paper: items of the split ask "
        "each other. Rows with _G, PageRank, Adamic-Adar and common neighbours see relations "
        "between them and training items (protocol linked), as in the paper. The columns cold: "
        "the whole catalogue answers, and no relation of the query was ever visible, so models "
        "that need one have no number."
    )
    seeds = max((len(x.seeds) for x in sets), default=plan.seeds)
    yield (
        f"{_over(seeds)} 95 % intervals by a "
        "bootstrap of 1,000 resamples that draws queries and seeds, the same for all models, so "
        "differences are paired. s is the standard deviation between seeds. Coverage and hubness: "
        "jackknife over queries joined with the error over seeds; hubness asks 2,000 items at most."
    )
    yield (
        "consistent@10 counts genre, region and popularity, which GRM reads and its prior groups: "
        "circular. withheld: fields that no model reads. The row random is the chance level."
    )
    yield (
        "A claim holds if the interval of its difference (of each of its differences) is above 0, "
        "does not hold if one is below 0, else it is undecided here. Differences are in points."
    )
    if any(not x.data_set.table for x in sets):
        yield outcomes.PUBLISHED


def _over(seeds: int) -> str:
    if seeds == 1:
        return "One training seed: nothing here knows how far another one would be."
    return f"Means over {seeds} training seeds; the split is the same for all."


def as_json(plan: Plan, sets: Sequence[Results]) -> dict[str, Any]:
    """Give every number of every table, and every claim, as plain JSON."""
    return {
        "format": FORMAT,
        "quick": plan.quick,
        "part": plan.part,
        "notes": list(notes(plan, sets)),
        "sets": {x.data_set.name: _set(x) for x in sets},
    }


def _set(results: Results) -> dict[str, Any]:
    columns = (*ACCURACY, *(OTHERS if results.kind == "track" else ()), *CONSISTENCY)
    return {
        "kind": results.kind,
        "about": about(results),
        "seeds": list(results.seeds),
        "models": {
            name: {"note": results.notes[name], "numbers": _numbers(results, name, columns)}
            for name in results.answers
        },
        "claims": [asdict(x) for x in claims.claims_of(results)],
    }


def _numbers(
    results: Results, name: str, columns: Sequence[MetricColumn]
) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for column in columns:
        number = results.number(name, column.metric, pool=column.pool, of=column.of)
        if number is not None:
            key = {"metric": column.metric, "pool": _pool(name, column), "slice": column.of}
            found.append(key | asdict(number))
    return found


def _pool(name: str, column: MetricColumn) -> str:
    """Name the protocol: what sees edges is asked by ``linked`` where others are by ``paper``."""
    sees = name.endswith("_G")
    return column.pool.replace(PAPER, "linked") if sees else column.pool


def _olga(results: Results, show: Any) -> tuple[Any, ...]:
    return () if results.data_set.table else (outcomes.degree_table(results, show),)


ABLATIONS_FORMAT = 1
NOTES = (
    "Each row is GRM with one thing changed, trained on the same E_C and E_U, or the default asked "
    "otherwise; below it rows of CbRM with another way from tracks to artists, beside the mean. "
    "Protocol cold. Differences are paired by query and seed, with 95 % intervals.",
    "Each loss got six settings, and the best by cold NDCG@200 of the very items that ask is "
    "printed: that favours these four rows alike over the others by a little.",
)


def write_ablations(plan: Plan, found: Sequence[Ablated]) -> tuple[Path, ...]:
    """Write ``ablations.md`` and ``ablations.json``; give their paths."""
    content = {
        "format": ABLATIONS_FORMAT,
        "quick": plan.quick,
        "part": plan.part,
        "notes": list(NOTES),
        "columns": [{"metric": metric, "slice": of} for _, metric, of in COLUMNS],
        "sets": {x.results.data_set.name: _ablations_json(x) for x in found},
    }
    write_json(plan.out / "ablations.json", content)
    page = plan.out / "ablations.md"
    with replacing(page) as temporary:
        temporary.write_text(ablations_markdown(plan, found), encoding="utf-8")
    return page, plan.out / "ablations.json"


def ablations_markdown(plan: Plan, found: Sequence[Ablated]) -> str:
    """Write all rows as Markdown, every number with the bounds of its interval."""
    lines = ["# Ablations", "", *([f"**{QUICK}**", ""] if plan.quick else [])]
    lines += [*(f"- {x}" for x in NOTES), ""]
    for one in found:
        lines += [f"## Set {one.results.data_set.name}", "", about(one.results), ""]
        lines += [*(f"- {x}" for x in what_matters(one)), ""]
        lines += markdown_table(table(one, bounds))
        lines += [*(f"- {x.name}: {x.note}" for x in one.rows if x.note), ""]
    return "\n".join(lines).rstrip() + "\n"


def ablations_terminal(plan: Plan, found: Sequence[Ablated]) -> str:
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


def _ablations_json(one: Ablated) -> dict[str, Any]:
    return {
        "kind": one.results.kind,
        "about": about(one.results),
        "seeds": list(one.results.seeds),
        "what_matters": list(what_matters(one)),
        "rows": [asdict(x) for x in one.rows],
    }
