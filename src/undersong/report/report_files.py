"""The files of a report: ``report.json`` with every number, ``report.md`` to read."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong.evaluation.results import FORMAT, Evaluation, Interval, Number, Protocol, Slice
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
