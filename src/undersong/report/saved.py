"""A report as files: ``report.json`` with every number, ``report.md`` to read."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong.evaluation.results import FORMAT, Interval, Number, Protocol, Report, Slice
from undersong.io.files import read_json, replacing, write_json
from undersong.report import layout
from undersong.report.layout import Table
from undersong.runs import Run

REPORT = "report.json"
REMEDY = "make it again with `undersong evaluate`"


def write(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.md``, each whole or not at all."""
    write_json(folder / REPORT, {"format": FORMAT, **asdict(report)})
    with replacing(folder / "report.md") as temporary:
        temporary.write_text(markdown(report), encoding="utf-8")


def read(path: Path) -> Report:
    """Read ``report.json``.

    Raises
    ------
    ArtifactError
        If it is absent, is not JSON, or has another format.
    """
    found = read_json(path, form=FORMAT, remedy=REMEDY)
    del found["format"]
    return Report(
        **found
        | {
            "methods": tuple((name, note) for name, note in found["methods"]),
            "fields": tuple(found["fields"]),
            "withheld": tuple(found["withheld"]),
            "protocols": tuple(_protocol(x) for x in found["protocols"]),
        }
    )


def place(run: Run) -> Path | None:
    """Find the report of a generation: its own on a shelf, else the one beside a run.

    None where there is none, or where it is about another training.
    """
    path = run.file(REPORT) if run.has(REPORT) else run.folder / REPORT
    if not path.exists():
        return None
    return path if read(path).content in ("", run.trained["content"]) else None


def markdown(report: Report) -> str:
    """Write a report as Markdown, every metric with the bounds of its interval."""
    lines = [f"# How good the answers are: {report.part} {report.kind}s", ""]
    lines += [f"- {name}: {note}" for name, note in report.methods if note]
    lines += ["", *(f"- {line}" for line in layout.notes(report)), ""]
    if unjudged := layout.unjudged(report):
        lines += [unjudged, ""]
    for protocol in report.protocols:
        lines += [f"## Protocol {protocol.name}", ""]
        lines += [f"{protocol.meaning} {layout.count_line(protocol, report)}", ""]
        for table in _tables(protocol, report):
            lines += markdown_table(table)
    return "\n".join(lines).rstrip() + "\n"


def _tables(protocol: Protocol, report: Report) -> list[Table]:
    names = layout.metric_names(protocol.slices[0], layout.ACCURACY)
    tables = []
    if names:
        tables = [
            layout.accuracy(protocol, report, names, layout.bounds),
            layout.differences(protocol, report, names),
            layout.by_slice(protocol, report, layout.lead(protocol, report), layout.bounds),
        ]
    tables += [
        layout.consistency(protocol, report, layout.bounds),
        layout.beyond_accuracy(protocol, report, layout.bounds),
    ]
    return [table for table in tables if len(table.header) > 1 and table.rows]


def markdown_table(table: Table) -> list[str]:
    """Write one table as lines of Markdown, with its title as a heading."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(table.header) - 1)
    return [f"### {table.title}", "", line(table.header), rule, *map(line, table.rows), ""]


def _protocol(found: Mapping[str, Any]) -> Protocol:
    slices = tuple(
        Slice(
            **{
                **part,
                "numbers": {
                    method: {name: _number(number) for name, number in numbers.items()}
                    for method, numbers in part["numbers"].items()
                },
            }
        )
        for part in found["slices"]
    )
    return Protocol(**{**found, "slices": slices})


def _number(found: Mapping[str, Any]) -> Number:
    apart = found["difference"]
    return Number(Interval(**found["mean"]), Interval(**apart) if apart else None)
