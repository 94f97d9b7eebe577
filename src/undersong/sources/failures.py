"""What an import left out: one row each, with the line it stands in, and what to do."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from undersong.files import replacing

MOST = 100_000  # rows that are listed; more are counted only, so that memory stays bounded
COLUMNS = {
    "file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "remedy": pl.String(),
}


@dataclass
class Failures:
    """Grows while an import reads.

    Parameters
    ----------
    rows : file (as the archive calls it), line (from 1; null of a whole file), reason, remedy
    count : of all, also of those beyond the first ``MOST``
    """

    rows: list[tuple[str, int | None, str, str]] = field(default_factory=list)
    count: int = 0

    def add(self, file: str, line: int | None, reason: str, *, remedy: str) -> None:
        """Note one row that was left out; what cannot be shown in a table is escaped."""
        self.count += 1
        if len(self.rows) < MOST:
            self.rows.append((shown(file), line, shown(reason), remedy))


def shown(text: str) -> str:
    """Write a text from a file so that it harms no terminal or table: one line, at most 200."""
    plain = text.encode("utf-8", "backslashreplace").decode()[:200]
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)


def write_failures(failures: Failures, folder: Path) -> None:
    """Write ``failures.csv``, a table that a spreadsheet opens; an empty one says: nothing."""
    with replacing(folder / "failures.csv") as temporary:
        pl.DataFrame(failures.rows, schema=COLUMNS, orient="row").write_csv(temporary)
