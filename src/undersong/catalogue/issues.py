"""What is wrong with a user's rows: where, what was found, what to do.

Checks list every fault, not only the first. Faults of one sort in one file are kept together,
with their number and the first few of them, so that a million faults stay readable.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from undersong.errors import DataError
from undersong.io.display import one_line, text_of
from undersong.io.files import replacing
from undersong.io.table_files import write_csv

LISTED = 20
ROW = "(row)"
ROWS = (".parquet", ".npy", ".npz", ".safetensors", " frame")  # the others are of lines


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Parameters
    ----------
    file : as the user calls it
    row : line of a text file, where the header is line 1; row of a Parquet or array file,
        where the first is 1; None for a fault of the whole file
    what : what is wrong, with the value found
    remedy : what to do
    """

    file: str
    row: int | None
    what: str
    remedy: str


@dataclass(frozen=True)
class Issues:
    """All faults of one sort in one file: how many, and the first ``LISTED`` of them."""

    sort: str
    count: int
    first: tuple[Fault, ...]


@dataclass(frozen=True)
class Sheet:
    """Rows of one file; column ``ROW`` holds the number by which its user finds each row."""

    file: str
    rows: pl.DataFrame


def find_issues(
    sheet: Sheet, bad: pl.Expr, *, sort: str, what: Callable[[dict[str, Any]], str], remedy: str
) -> list[Issues]:
    """Make a fault of every row for which ``bad`` is true; ``what`` words it from the row."""
    rows = sheet.rows.filter(bad)
    if rows.is_empty():
        return []
    first = tuple(
        Fault(sheet.file, int(row[ROW]), what(row), remedy)
        for row in rows.head(LISTED).iter_rows(named=True)
    )
    return [Issues(sort, rows.height, first)]


def whole(file: str, what: str, *, sort: str, remedy: str) -> list[Issues]:
    """Make one fault of a whole file."""
    return [Issues(sort, 1, (Fault(file, None, what, remedy),))]


def shown(value: object) -> str:
    """Quote a value found, cut where it is too long to read."""
    text = one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def total(findings: Iterable[Issues]) -> int:
    """Count the faults."""
    return sum(x.count for x in findings)


def write_failures(path: Path, rows: pl.DataFrame) -> None:
    """Write what could not be used, so that no spreadsheet takes a file name for a formula.

    An empty table says: nothing was left out.
    """
    with replacing(path) as temporary:
        write_csv(rows.lazy(), temporary)


def place(fault: Fault) -> str:
    """Return where a fault is, as the programs say it that show such a file."""
    if fault.row is None:
        return fault.file
    return f"{fault.file} {'row' if fault.file.endswith(ROWS) else 'line'} {fault.row}"


def issues_text(findings: Sequence[Issues]) -> str:
    """List faults for the terminal, those of one sort together with their remedy."""
    lines = []
    for x in findings:
        lines.append(f"{x.first[0].file}: {x.sort}" + (f", {x.count:,} times" * (x.count > 1)))
        for fault in x.first:
            where = place(fault).removeprefix(fault.file).strip()
            lines.append(f"  {where}: {fault.what}" if where else f"  {fault.what}")
        if x.count > len(x.first):
            lines.append(f"  ... and {x.count - len(x.first):,} more")
        lines.append(f"  -> {x.first[0].remedy}")
    count = total(findings)
    lines.append(f"{count:,} fault{'s' * (count != 1)}" if count else "no fault found")
    return text_of(lines)


def refuse(findings: Sequence[Issues], *, remedy: str) -> None:
    """Raise if there is any fault.

    Raises
    ------
    DataError
        With the first fault of each of the first three sorts, and the number of all.
    """
    if not findings:
        return
    named = [x.first[0] for x in findings[:3]]
    message = "\n".join(f"{place(x)}: {x.what}; {x.remedy}" for x in named)
    count = total(findings)
    if count > len(named):
        message += f"\nand {count - len(named):,} more faults; {remedy}"
    raise DataError(message)
