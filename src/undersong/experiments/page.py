"""The reproduction as something to read: Markdown, JSON and the terminal, with figures."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong.catalogue import tables as catalogue_tables
from undersong.experiments import claims, figures, olga
from undersong.experiments.reproduction import Plan, catalogue_folder
from undersong.experiments.results import ALL, LONG_TAIL, PAPER, Results
from undersong.experiments.tables import (
    ACCURACY,
    CONSISTENCY,
    OTHERS,
    Column,
    bounds,
    plus_minus,
    tables_of,
)
from undersong.files import replacing, write_json
from undersong.report.files import markdown_table
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
        catalogue = catalogue_tables.read(catalogue_folder(plan, results.data_set))
        drawn += figures.draw_relations(catalogue, plan.out / f"figure-1-{results.data_set.name}")
    drawn += figures.draw_consistency(sets, plan.out / "figure-4")
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
        yield olga.PUBLISHED


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


def _numbers(results: Results, name: str, columns: Sequence[Column]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for column in columns:
        number = results.number(name, column.metric, pool=column.pool, of=column.of)
        if number is not None:
            key = {"metric": column.metric, "pool": _pool(name, column), "slice": column.of}
            found.append(key | asdict(number))
    return found


def _pool(name: str, column: Column) -> str:
    """Name the protocol: what sees edges is asked by ``linked`` where others are by ``paper``."""
    sees = name.endswith("_G")
    return column.pool.replace(PAPER, "linked") if sees else column.pool


def _olga(results: Results, show: Any) -> tuple[Any, ...]:
    return () if results.data_set.table else (olga.degree_table(results, show),)
