"""A report for the terminal; as ``report.json`` with every number, and as ``report.md`` to read."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from undersong.evaluation.results import (
    DEPTHS,
    FORMAT,
    SAME_ARTIST,
    Evaluation,
    Interval,
    Number,
    Protocol,
    Slice,
)
from undersong.io.display import html_table
from undersong.io.files import read_json, replacing, write_json
from undersong.report import layout
from undersong.report.layout import Table
from undersong.runs import Run


def markdown(report: Evaluation) -> str:
    """Return a report as Markdown, every metric with the bounds of its interval."""
    lines = [f"# How good the answers are: {report.part} {report.kind}s", ""]
    lines += [*layout.summary(report), ""]
    lines += [f"- {name}: {note}" for name, note in report.methods if note]
    lines += ["", *(f"- {line}" for line in layout.notes(report)), ""]
    for protocol in report.protocols:
        lines += [f"## Protocol {protocol.name}", ""]
        lines += [f"{protocol.meaning} {layout.count_line(protocol, report)}", ""]
        for table in layout.tables(protocol, report):
            lines += markdown_table(table)
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of one table, with its title as a heading."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(table.header) - 1)
    return [f"### {table.title}", "", line(table.header), rule, *map(line, table.rows), ""]


REPORT = "report.json"
REMEDY = "make it again with `undersong evaluate`"


def write(report: Evaluation, folder: Path, *, name: str = "report") -> None:
    """Write ``report.json`` and ``report.md``, or of another name, each whole or not at all."""
    write_json(folder / f"{name}.json", {"format": FORMAT, **asdict(report)}, summed=True)
    with replacing(folder / f"{name}.md") as temporary:
        temporary.write_text(markdown(report), encoding="utf-8")


def read(path: Path) -> Evaluation:
    """Read ``report.json``.

    Raises
    ------
    ArtifactError
        If it is absent, is not JSON, or has another format.
    """
    values = read_json(path, version=FORMAT, hint=REMEDY)
    del values["format"]
    return Evaluation(
        **values
        | {
            "methods": tuple((name, note) for name, note in values["methods"]),
            "fields": tuple(values["fields"]),
            "withheld": tuple(values["withheld"]),
            "protocols": tuple(map(_protocol, values["protocols"])),
        }
    )


def path_of(run: Run) -> Path | None:
    """Return the report of a generation: its own if published, else the one beside a run.

    None where there is none, or where it is about another training.
    """
    path = run.file(REPORT) if run.has(REPORT) else run.folder / REPORT
    if not path.exists():
        return None
    return path if read(path).content in ("", run.trained["content"]) else None


def _protocol(values: Mapping[str, Any]) -> Protocol:
    return Protocol(**{**values, "slices": tuple(map(_slice, values["slices"]))})


def _slice(values: Mapping[str, Any]) -> Slice:
    numbers = {
        method: {name: _number(x) for name, x in metrics.items()}
        for method, metrics in values["numbers"].items()
    }
    return Slice(**{**values, "numbers": numbers})


def _number(values: Mapping[str, Any]) -> Number:
    difference = values["difference"]
    return Number(Interval(**values["mean"]), Interval(**difference) if difference else None)


WIDTH = 122


def render(report: Evaluation) -> str:
    """Return a report as plain text, no line longer than ``WIDTH``.

    Accuracy by protocol first, then by number of relations, then agreement of metadata and who
    is shown. ``write`` writes every number.
    """
    console = _console()
    for sentence in layout.summary(report):
        console.print(Text(sentence))
    console.print()
    unjudged = layout.unjudged(report)
    for protocol in (x for x in report.protocols if not unjudged or x.name == SAME_ARTIST):
        _print_heading(console, protocol, report)
        _print_accuracy(console, protocol, report)
    for protocol in report.protocols:
        if protocol.name in ("cold", "paper"):
            _print(console, layout.consistency(protocol, report, layout.plus_minus))
    for protocol in report.protocols:
        if protocol.name in ("cold", "ask", "found"):
            _print(console, layout.beyond_accuracy(protocol, report, layout.plus_minus))
    for line in layout.notes(report):
        console.print(Text(line))
    return _text(console)


def render_confidence(ranking: Mapping[str, Any] | None) -> str:
    """Return how far the confidence of a run can be trusted; "" without a learned order."""
    tables = layout.reliability_tables(ranking)
    if not tables:
        return ""
    return "\n".join(textwrap.wrap(layout.CONFIDENCE, WIDTH)) + "\n\n" + render_tables(tables)


def render_tables(tables: Sequence[Table], *, width: int = WIDTH) -> str:
    """Return tables one below the other as plain text, no line longer than ``width``."""
    console = _console(width)
    for table in tables:
        _print(console, table)
    return _text(console)


def _console(width: int = WIDTH) -> Console:
    return Console(
        file=StringIO(),
        record=True,
        width=width,
        color_system=None,
        force_jupyter=False,  # else it shows in a notebook what is to be returned as text
        highlight=False,
        emoji=False,
    )


def _text(console: Console) -> str:
    return "\n".join(x.rstrip() for x in console.export_text().splitlines()) + "\n"


def _print_heading(console: Console, protocol: Protocol, report: Evaluation) -> None:
    console.print(Text(f"Protocol {protocol.name}"))
    console.print(Padding(Text(protocol.meaning), (0, 2)))
    console.print(Padding(Text(layout.count_line(protocol, report)), (0, 2)))


def _print_accuracy(console: Console, protocol: Protocol, report: Evaluation) -> None:
    names = layout.metric_names(protocol.slices[0], layout.ACCURACY)
    if not names:
        console.print(Padding(Text("Nobody has a relevant candidate: no accuracy."), (1, 2)))
        return
    lead = layout.lead(protocol, report)
    columns = [x for x in names if x != f"map@{report.k}"]
    if protocol.name.startswith("found"):  # it has two more; whole lists are in the files
        columns = [x for x in columns if "@" in x]
    if protocol.name == "directed":
        *shallow, columns = ([x for x in names if x.endswith(f"@{depth}")] for depth in DEPTHS)
        for some in shallow:
            _print(console, layout.accuracy(protocol, report, some, layout.plus_minus))
    main = layout.accuracy(protocol, report, columns, layout.plus_minus)
    differences = {x[0]: x[1] for x in layout.differences(protocol, report, [lead]).rows}
    if not differences:
        _print(console, Table("", main.header, main.rows))
        return
    rows = tuple((*row, differences.get(row[0], "reference")) for row in main.rows)
    header = (*main.header, f"{lead} - {report.reference}")
    _print(console, Table("", header, rows))
    if any(x.answerable for x in protocol.slices[2:]):
        for table in layout.by_slice(protocol, report, lead, layout.plus_minus):
            _print(console, table)


def _print(console: Console, table: Table) -> None:
    if len(table.header) < 2:
        return
    rich_table = RichTable(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for column, name in enumerate(table.header):
        rich_table.add_column(Text(name), justify="right" if column else "left", vertical="bottom")
    for row in table.rows:
        rich_table.add_row(*(Text(cell) for cell in row))
    if table.title:
        console.print(Text(table.title))
    console.print(Padding(rich_table, (0, 2)))


@dataclass(frozen=True)
class Report:
    """How good the answers of a run are; it prints as tables, in a notebook too.

    Parameters
    ----------
    results : every number, by protocol, slice and method
    """

    results: Evaluation

    def frame(self) -> pl.DataFrame:
        """Return every number as one table.

        Returns
        -------
        protocol, slice, method, metric, queries (that count), value, low and high (its 95 %
        interval), difference, difference_low and difference_high (to ``results.reference``,
        paired); null where it cannot be known
        """
        rows = [
            (protocol.name, part.name, method, metric, part.queries, *_interval(number.mean))
            + _interval(number.difference)
            for protocol in self.results.protocols
            for part in protocol.slices
            for method, numbers in part.numbers.items()
            for metric, number in numbers.items()
        ]
        numbers = ("value", "low", "high", "difference", "difference_low", "difference_high")
        schema = dict.fromkeys(("protocol", "slice", "method", "metric"), pl.String())
        return pl.DataFrame(
            rows,
            schema=schema | {"queries": pl.Int64()} | dict.fromkeys(numbers, pl.Float64()),
            orient="row",
        )

    def __str__(self) -> str:
        return render(self.results)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(
            html_table(
                pl.DataFrame(table.rows, schema=["method", *table.header[1:]], orient="row"),
                above=f"{protocol.name}: {protocol.meaning}",
                below=layout.count_line(protocol, self.results),
            )
            for protocol in self.results.protocols
            for table in [_accuracy(protocol, self.results)]
        )


def _interval(interval: Interval | None) -> tuple[float | None, ...]:
    return (interval.value, interval.low, interval.high) if interval else (None, None, None)


def _accuracy(protocol: Protocol, evaluation: Evaluation) -> layout.Table:
    names = layout.metric_names(protocol.slices[0], layout.ACCURACY)
    return layout.accuracy(protocol, evaluation, names, layout.plus_minus)
