"""What an import left out: one row each, with the line it stands in, and what to do."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from undersong.catalogue import Catalogue, Origin, write_catalogue
from undersong.errors import DataError
from undersong.importers.listens.history import Block, gather
from undersong.io.files import replacing

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


PARTS = ".listens.partial"


@dataclass(frozen=True)
class Imported:
    """A catalogue, what its ids mean elsewhere, and what was counted on the way.

    Parameters
    ----------
    identities : kind, id, source, source_id
    notes : lines for the terminal
    others : name -> table, for what a catalogue has no place
    """

    catalogue: Catalogue
    identities: pl.DataFrame
    notes: tuple[str, ...] = ()
    others: Mapping[str, pl.DataFrame] = field(default_factory=dict)


def write(imported: Imported, folder: Path, *, failures: Failures) -> None:
    """Write what an importer gave.

    A crash leaves the old catalogue or the new one; without listens rather than with those of
    another.

    Raises
    ------
    DataError
        If the folder holds the catalogue of a folder of music.
    """
    _refuse_music(folder)
    shutil.rmtree(folder / "listens", ignore_errors=True)
    write_catalogue(imported.catalogue, folder)
    for name, table in (("identities", imported.identities), *imported.others.items()):
        with replacing(folder / f"{name}.parquet") as temporary:
            table.write_parquet(temporary)
    write_failures(failures, folder)


def import_listens(
    read: Callable[[Path, Failures], Iterable[Block]],
    path: Path,
    folder: Path,
    *,
    origin: Origin,
) -> tuple[Imported, Failures]:
    """Make a catalogue of listens, and write it.

    Parameters
    ----------
    read : gives blocks of listens from ``path``
    folder : of the catalogue
    origin : whose the listens are

    Raises
    ------
    DataError
        If nothing can be read; the catalogue is then as it was.
    """
    _refuse_music(folder)
    failures = Failures()
    parts = folder / PARTS
    shutil.rmtree(parts, ignore_errors=True)
    try:
        found = gather(read(path, failures), parts=parts, source=origin.name.lower())
        notes = [f"{found.listens:,} listens"]
        if found.skipped:
            notes.append(f"{found.skipped:,} of them skipped, which are no plays")
        if found.nameless:
            notes.append(f"{found.nameless:,} others name no artist or no user")
        catalogue = replace(found.catalogue, origins=(origin,))
        imported = Imported(catalogue, found.identities, tuple(notes))
        write(imported, folder, failures=failures)
        parts.rename(folder / "listens")
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return imported, failures


def import_whole(
    read: Callable[[Path, Failures], Imported], path: Path, folder: Path
) -> tuple[Imported, Failures]:
    """Make a catalogue of a source that is read at once, and write it.

    Raises
    ------
    DataError
        If nothing can be read; the catalogue is then as it was.
    """
    _refuse_music(folder)
    failures = Failures()
    imported = read(path, failures)
    if imported.catalogue.artists.is_empty():
        first = "; ".join(
            f"line {line} of {file}: {reason}" for file, line, reason, _ in failures.rows[:1]
        )
        raise DataError(f"{path} names no artist; is this the right file? {first}".strip())
    write(imported, folder, failures=failures)
    return imported, failures


def text(imported: Imported) -> str:
    """Describe for the terminal what an import came to."""
    catalogue = imported.catalogue
    counts = (
        f"{len(catalogue.artists):,} artists, {len(catalogue.tracks):,} tracks, "
        f"{catalogue.count_plays():,} plays, {len(catalogue.relations):,} relations"
    )
    return "\n".join((*imported.notes, counts))


def _refuse_music(folder: Path) -> None:
    if (folder / "files.parquet").exists():
        raise DataError(
            f"{folder} holds the catalogue of a folder of music; import into another one"
        )
