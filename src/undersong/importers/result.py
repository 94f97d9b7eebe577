"""What an import comes to: a catalogue, and what was left out, with its line and a remedy."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import SERVICE, Catalogue, importing, write_catalogue, write_failures
from undersong.errors import DataError
from undersong.importers.music import credits
from undersong.io.display import one_line, text_of
from undersong.io.table_files import writing_tables

MOST = 100_000  # rows that are listed; more are counted only, so that memory stays bounded
COLUMNS = dict.fromkeys(("file", "line", "reason", "remedy"), pl.String()) | {"line": pl.Int64()}


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
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, file: str, line: int | None, reason: str, *, remedy: str) -> None:
        """Note one row that was left out; what cannot be shown in a table is escaped."""
        self.count += 1
        self.kinds[shown(reason.partition(": ")[0])] += 1  # what follows quotes the row
        if len(self.rows) < MOST:
            self.rows.append((shown(file), line, shown(reason), remedy))

    def commonest(self) -> str:
        """Return the most frequent reason, how many rows have it, and the first of them."""
        if not self.count:
            return ""
        kind, count = self.kinds.most_common(1)[0]
        listed = (x for x in self.rows if x[2].startswith(kind[:100]))
        file, line, reason, remedy = next(listed, self.rows[0])  # not all are listed
        place = file if line is None else f"line {line} of {file}"
        return f"{count:,} of {self.count:,} rows left out, first {place}: {reason}; {remedy}"


class NothingRead(DataError):
    """No row of a source can be read, or none names an artist."""


def shown(text: str) -> str:
    """Write a text from a file so that it harms no terminal or table: one line, at most 200."""
    return one_line(text[:200])


PARTS, BEFORE = ".listens.partial", ".listens.before.partial"
IDENTITIES = dict.fromkeys(("kind", "id", "source", "source_id"), pl.String())


@dataclass(frozen=True)
class Imported:
    """A catalogue, what its ids mean elsewhere, and what was counted on the way.

    Parameters
    ----------
    identities : kind, id, source, source_id: which ids of other services mean an item
    notes : lines for the terminal
    others : name -> table, for what a catalogue has no place
    """

    catalogue: Catalogue
    identities: pl.DataFrame
    notes: tuple[str, ...] = ()
    others: Mapping[str, pl.DataFrame] = field(default_factory=dict)


Listens = Callable[[Path], Imported]
Read = Callable[[Any, Failures], Imported | Listens]


def import_source(
    read: Read, path: Path | str, folder: Path, *, source: str = SERVICE, replace: bool = False
) -> tuple[Imported, Failures]:
    """Make a catalogue of a source, and write it.

    A crash leaves the old catalogue or the new one; without listens rather than with those of
    another.

    Parameters
    ----------
    read : reads the source at ``path``, and adds what it leaves out to the failures
        A source of listens returns a function instead, which writes them to a folder on its way
        (``history.gather``). A reader raises DataError if nothing can be read.
    path : file, folder or address of the source
    folder : of the catalogue; another writer there is waited for
    source : name of the import
    replace : also a catalogue of another kind (``catalogue.importing``)

    Raises
    ------
    DataError
        If nothing can be read, or the folder holds a catalogue of another kind and not
        ``replace``. It is then as it was.
    """
    failures, parts = Failures(), folder / PARTS
    with importing(folder, source, replace=replace):
        for left in (parts, folder / BEFORE):
            shutil.rmtree(left, ignore_errors=True)
        try:
            listens = read(path, failures)
            imported = listens if isinstance(listens, Imported) else listens(parts)
            if imported.catalogue.artists.is_empty():
                raise NothingRead(f"{path} names no artist; is this the right file?")
            _write(imported, folder, failures, source=source)
            if parts.exists():
                parts.rename(folder / "listens")
        except NothingRead as error:
            if not failures.count:
                raise
            fault = str(error).partition(";")[0]
            raise DataError(f"{fault}: {failures.commonest()}") from error
        finally:
            shutil.rmtree(parts, ignore_errors=True)
    return imported, failures


def _write(imported: Imported, folder: Path, failures: Failures, *, source: str) -> None:
    tables = {"identities": imported.identities, **imported.others}
    rows = pl.DataFrame(failures.rows, schema=COLUMNS, orient="row")
    listens, before = folder / "listens", folder / BEFORE
    with writing_tables({folder / f"{name}.parquet": table for name, table in tables.items()}):
        write_failures(folder / "failures.csv", rows)
        if listens.exists():
            listens.rename(before)
        try:
            write_catalogue(imported.catalogue, folder, source=source)
        except BaseException:
            if before.exists():
                before.rename(listens)
            raise
    shutil.rmtree(before, ignore_errors=True)


def text(imported: Imported) -> str:
    """Describe for the terminal what an import came to."""
    lines = (
        *imported.notes,
        credits.nobodies_note(imported.catalogue),
        imported.catalogue.counts_text(),
    )
    return text_of(filter(None, lines))
