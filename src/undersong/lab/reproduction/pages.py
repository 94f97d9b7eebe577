"""One page for what was measured: Markdown, JSON and the terminal, with figures."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undersong.catalogue import describe_catalogue, plot_relations, read_catalogue
from undersong.io.display import new_figure
from undersong.io.files import replacing, write_json
from undersong.lab.reproduction import outcomes
from undersong.lab.reproduction.ablations import COLUMNS, Row, rows_of
from undersong.lab.reproduction.claims import claims_of, line
from undersong.lab.reproduction.experiment import Plan, catalogue_folder
from undersong.lab.reproduction.noise import curves_of, noise_claims
from undersong.lab.reproduction.outcomes import (
    ACCURACY,
    ALL,
    LONG_TAIL,
    OTHERS,
    UNLINKED,
    UNLINKED_OTHERS,
    WITHHELD,
    Estimate,
    MetricColumn,
    Results,
    Show,
    bounds,
    plus_minus,
    tables_of,
)
from undersong.report.formats import markdown_table, render_tables
from undersong.report.layout import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMAT = 1
WIDTH = 150
QUICK = (
    "QUICK VERSION: few seeds and short trainings, to see that everything runs. The numbers are "
    "not those of the models; leave --quick out for them."
)


@dataclass(frozen=True)
class Section:
    """One data set on a page.

    Parameters
    ----------
    findings : what its numbers show, in words
    tables : its tables, with numbers as a function writes them
    remarks : words on its rows
    content : for the JSON file
    """

    results: Results
    findings: tuple[str, ...]
    tables: Callable[[Show], Sequence[Table]]
    remarks: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def about(self) -> str:
        """What the set is and who asks, in a line."""
        results, kind = self.results, f"{self.results.kind}s"
        asking, tail = (int(results.slices[x].sum()) for x in (ALL, LONG_TAIL))
        return (
            f"Set {results.data_set.name}: {results.data_set.about}. {asking:,} {results.part} "
            f"{kind} ask, {tail:,} of them long tail; {results.answerable():,} have a "
            "relation to another of them and count for accuracy. "
            f"{len(results.task.splits):,} {kind} in all."
        )


@dataclass(frozen=True)
class Page:
    """Everything to write about one measurement.

    Parameters
    ----------
    name : stem of its files
    heading : of the findings
    content : for the JSON file, beside what every page has
    figures : drawn already
    """

    name: str
    title: str
    heading: str
    plan: Plan
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    content: Mapping[str, Any]
    figures: tuple[Path, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings of all data sets."""
        return tuple(y for x in self.sections for y in x.findings)


def write(page: Page) -> tuple[Path, ...]:
    """Write ``NAME.md`` and ``NAME.json``; return their paths and those of the figures."""
    path = page.plan.out / f"{page.name}.md"
    content = {
        "format": FORMAT,
        "quick": page.plan.quick,
        "part": page.plan.split,
        "notes": list(page.notes),
        "sets": {
            x.results.data_set.name: {
                "kind": x.results.kind,
                "about": x.about,
                "seeds": list(x.results.seeds),
                **x.content,
            }
            for x in page.sections
        },
    }
    write_json(path.with_suffix(".json"), {**content, **page.content})
    with replacing(path) as temporary:
        temporary.write_text(markdown(page), encoding="utf-8")
    return (path, path.with_suffix(".json"), *page.figures)


def markdown(page: Page) -> str:
    """Return the page as Markdown, every number with the bounds of its interval."""
    lines = [f"# {page.title}", "", *([f"**{QUICK}**", ""] if page.plan.quick else [])]
    lines += [*(f"- {x}" for x in page.notes), ""]
    lines += [f"## {page.heading}", "", *(f"- {x}" for x in page.findings), ""]
    for section in page.sections:
        lines += [f"## Set {section.results.data_set.name}", "", section.about, ""]
        lines += [y for x in section.tables(bounds) for y in markdown_table(x)]
        lines += [*(f"- {x}" for x in section.remarks), ""]
    for path in page.figures:
        if path.suffix == ".png":
            lines += [f"![{path.stem}]({path.name})", ""]
    return "\n".join(lines).rstrip() + "\n"


def terminal(page: Page) -> str:
    """Return the page for a terminal of 150 columns, each number with its margin."""
    lines = [QUICK, ""] if page.plan.quick else []
    for section in page.sections:
        tables = render_tables(tuple(section.tables(plus_minus)), width=WIDTH)
        lines += [section.about, "", tables]
    lines += [page.heading, *(f"  {x}" for x in page.findings), "", *page.notes]
    lines += ["", QUICK] if page.plan.quick else []
    return "\n".join(y for x in lines for y in _wrapped(x)) + "\n"


def _wrapped(text: str) -> list[str]:
    """Break prose at the width of the terminal; tables are broken already."""
    if "\n" in text or len(text) <= WIDTH:
        return [text]
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ")


def reproduction_page(plan: Plan, sets: Sequence[Results]) -> Page:
    """Return the page of tables 1 and 2 and of the claims; draws figures 1 and 4."""
    figures: list[Path] = []
    for results in sets:
        stem = plan.out / f"figure-1-{results.data_set.name}"
        figures += draw_relations(catalogue_folder(plan, results.data_set), stem)
    figures += draw_consistency(sets, plan.out / "figure-4")
    return Page(
        name="reproduction",
        title="The paper's tables, figures and claims on other data",
        heading="Claims",
        plan=plan,
        notes=tuple(_notes(plan, sets)),
        sections=tuple(_reproduction_section(x) for x in sets),
        content={},
        figures=tuple(figures),
    )


def _reproduction_section(results: Results) -> Section:
    claims = claims_of(results)
    others = (*OTHERS, *UNLINKED_OTHERS) if results.kind == "track" else ()
    columns = (*ACCURACY, *UNLINKED, *others, *WITHHELD)
    models = {
        name: {"note": note, "numbers": _numbers(results, name, columns)}
        for name, note in results.notes.items()
    }
    return Section(
        results=results,
        findings=tuple(line(x) for x in claims),
        tables=lambda show: tables_of(results, show),
        remarks=tuple(f"{name}: {note}" for name, note in results.notes.items() if note),
        content={"models": models, "claims": [asdict(x) for x in claims]},
    )


def _numbers(
    results: Results, name: str, columns: Sequence[MetricColumn]
) -> list[Mapping[str, Any]]:
    """Every number of a model; what sees edges is asked by ``linked``, others by ``paper``."""
    numbers: list[Mapping[str, Any]] = []
    for column in columns:
        pool = column.pool
        number = results.number(name, column.metric, pool=pool, of=column.of)
        if number is not None:
            protocol = pool.replace(outcomes.PAPER, "linked") if name.endswith("_G") else pool
            key = {"metric": column.metric, "pool": protocol, "slice": column.of}
            numbers.append(key | asdict(number))
    return numbers


def _notes(plan: Plan, sets: Sequence[Results]) -> Iterator[str]:
    """What a reader must know to read the tables."""
    if plan.split == "validation":
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
    yield (
        "cold, labelled leaves out candidates that no list mentions: nobody can say that they are "
        "wrong. found: known items ask, and right are items of the split, of which no relation was "
        "visible. It can be won by putting all unlinked items first, so combined@200 is the "
        "harmonic mean of NDCG@200 in found and in cold, labelled. nobody finds@50: the share of "
        "those items that no asker has among its first 50; unlinked in the ten: the share of the "
        "first ten answers without a visible relation."
    )
    seeds = max((len(x.seeds) for x in sets), default=plan.seeds)
    over = f"Means over {seeds} training seeds; the split is the same for all."
    if seeds == 1:
        over = "One training seed: nothing here knows how far another one would be."
    yield (
        f"{over} 95 % intervals by a "
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


ABLATION_NOTES = (
    "Each row is GRM with one thing changed, trained on the same E_C and E_U, or the default asked "
    "otherwise; below it rows of CbRM with another way from tracks to artists, beside the mean. "
    "Protocol cold. Differences are paired by query and seed, with 95 % intervals.",
    "Each loss got six settings, and the best by cold NDCG@200 of the very items that ask is "
    "printed: that favours these four rows alike over the others by a little.",
)


def ablations_page(plan: Plan, sets: Sequence[Results]) -> Page:
    """Return the page of the ablations."""
    return Page(
        name="ablations",
        title="Ablations",
        heading="What matters",
        plan=plan,
        notes=ABLATION_NOTES,
        sections=tuple(_ablation_section(x) for x in sets),
        content={"columns": [{"metric": metric, "slice": of} for _, metric, of in COLUMNS]},
    )


def _ablation_section(results: Results) -> Section:
    rows = rows_of(results)
    findings = what_matters(rows)
    return Section(
        results=results,
        findings=tuple(f"{results.data_set.name}: {x}" for x in findings),
        tables=lambda show: [_table_of_rows("Ablations of GRM", results, rows, show)],
        remarks=tuple(f"{x.name}: {x.note}" for x in rows if x.note),
        content={"what_matters": list(findings), "rows": [asdict(x) for x in rows]},
    )


def _table_of_rows(name: str, results: Results, rows: Sequence[Row], show: Show) -> Table:
    """Lay out every row: each number, and its difference to the row beside it."""
    header = [y for name, _, _ in COLUMNS for y in (name, "difference")]
    cells = [
        (x.name, *(show(y) for pair in zip(x.numbers, x.differences, strict=True) for y in pair))
        for x in rows
    ]
    count = len(results.seeds)
    seeds = f"{count} seed" if count == 1 else f"{count} seeds"
    title = f"{name}, set {results.data_set.name}, {seeds}"
    return Table(title, ("", *header), tuple(cells))


def what_matters(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return in words which changes make a difference, worst first, and which show none."""
    lines = []
    for place, (name, _, _) in enumerate(COLUMNS):
        compared = [(x.name, y) for x in rows if (y := x.differences[place]) is not None]
        lower = _named((x, y) for x, y in compared if y.below_0)
        higher = _named((x, y) for x, y in compared if y.above_0)
        lines.append(f"{name}: lower: {lower}; higher: {higher}.")
    same = [x.name for x in rows if x.name != x.beside and not x.differs]
    lines.append(f"No difference that this many queries show: {', '.join(same) or 'none'}.")
    return tuple(lines)


def _named(differences: Iterator[tuple[str, Estimate]]) -> str:
    ordered = sorted(differences, key=lambda pair: pair[1].value)
    return ", ".join(f"{name} ({100 * x.value:+.1f} points)" for name, x in ordered) or "none"


NOISE_NOTES = (
    "A share of the relations between training items is replaced, by random pairs of linked items "
    "or by pairs that only another platform lists, of which there may be fewer. GRM is trained on "
    "what comes out, on the same E_C and E_U, which knew the true relations. The validation "
    "relations that say when to stop are true ones. Protocol cold; differences are to lambda 0 of "
    "the same noise, paired by query and seed, with 95 % intervals. Training ends after two "
    "validations without gain, in the place of four.",
    "Of the lambdas above 0 a claim takes the best by the number that it judges, which favours "
    "it. It holds if the prior gains over lambda 0, and gains more than it does without noise.",
)


def noise_page(plan: Plan, sets: Sequence[Results]) -> Page:
    """Return the page of noise in the relations; draws a curve over lambda for each noise."""
    return Page(
        name="noise",
        title="Noise in the relations, and the prior",
        heading="Claims",
        plan=plan,
        notes=NOISE_NOTES,
        sections=tuple(_noise_section(x) for x in sets),
        content={"columns": [{"metric": metric, "slice": of} for _, metric, of in COLUMNS]},
        figures=draw_curves(sets, plan.out / "noise"),
    )


def _noise_section(results: Results) -> Section:
    rows = [row for curve in curves_of(results).values() for row in curve]
    claims = noise_claims(results)
    return Section(
        results=results,
        findings=tuple(line(x) for x in claims),
        tables=lambda show: [_table_of_rows("GRM on noisy relations", results, rows, show)],
        remarks=(),
        content={"claims": [asdict(x) for x in claims], "rows": [asdict(x) for x in rows]},
    )


METRIC = "consistent@10"
ENDINGS = (".png", ".svg")
PLAIN, WITH_EDGES = "#1f5a8c", "#c8641e"


def draw_relations(catalogue_folder: Path, stem: Path) -> tuple[Path, ...]:
    """Draw figure 1, the relations of a catalogue; nothing where it has none."""
    description = describe_catalogue(read_catalogue(catalogue_folder))
    if not any(x.pairs for x in description.kinds):
        return ()
    paths = tuple(stem.with_suffix(ending) for ending in ENDINGS)
    for path in paths:
        plot_relations(description, path)
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
    with new_figure(1.2 + 3.0 * len(panels), 3.0) as figure:
        columns = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, results in zip(columns, panels, strict=True):
            _panel(axes, results)
        return _save(figure, stem)


def _save(figure: "Figure", stem: Path) -> tuple[Path, ...]:
    """Write a figure as PNG and as SVG."""
    paths = tuple(stem.with_suffix(ending) for ending in ENDINGS)
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200)
    return paths


def draw_curves(sets: Sequence[Results], stem: Path) -> tuple[Path, ...]:
    """Draw cold NDCG@200 and withheld agreement over lambda, a curve for each noise.

    A column of panels a set. Whiskers are paired 95 % intervals of the difference to lambda 0.

    Raises
    ------
    UndersongError
        If matplotlib is not installed.
    """
    with new_figure(1.0 + 4.0 * len(sets), 6.0) as figure:
        panels = figure.subplots(2, len(sets), squeeze=False, sharex=True)
        for column, results in enumerate(sets):
            for axes, place in zip(panels[:, column], (0, 2), strict=True):
                _curves(axes, results, place)
                axes.set_ylabel(COLUMNS[place][0])
            panels[0, column].set_title(f"set {results.data_set.name}", fontsize=9)
            panels[1, column].set_xlabel("lambda")
        panels[0, -1].legend(frameon=False, fontsize=7)
        return _save(figure, stem)


def _curves(axes: "Axes", results: Results, place: int) -> None:
    """Draw one number of every noise over lambda, at even distances."""
    colours = {"no noise": "0.2", "random pairs": PLAIN}
    for name, rows in curves_of(results).items():
        kind = name.split(" % ")[-1]
        points = [x.numbers[place] or Estimate(np.nan) for x in rows]
        apart = [x.differences[place] or Estimate(0.0, 0.0, 0.0) for x in rows]
        margin = [((x.high or 0.0) - (x.low or 0.0)) / 2 for x in apart]
        axes.errorbar(
            [x.name.split("lambda ")[1] for x in rows],
            [x.value for x in points],
            margin,
            label=name,
            color=colours.get(kind, WITH_EDGES),
            linestyle="--" if name.startswith("10 %") else "-",
            marker="o",
            markersize=3,
            capsize=2,
            linewidth=1,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _panel(axes: "Axes", results: Results) -> None:
    """Draw the bars of one data set."""
    numbers = [results.number(x, METRIC, of=LONG_TAIL) or Estimate(0.0) for x in results.rows]
    heights = [100 * x.value for x in numbers]
    below = [0.0 if x.low is None else 100 * (x.value - x.low) for x in numbers]
    above = [0.0 if x.high is None else 100 * (x.high - x.value) for x in numbers]
    colours = [WITH_EDGES if x.endswith("_G") else PLAIN for x in results.rows]
    axes.bar(range(len(heights)), heights, 0.75, color=colours, yerr=(below, above), capsize=2)
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
