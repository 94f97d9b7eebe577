"""A report and its tables as Markdown."""

from undersong.evaluation.results import Evaluation
from undersong.report import layout
from undersong.report.layout import Table


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
