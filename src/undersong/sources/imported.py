"""What an importer gives, and how it is written: the catalogue, and beside it what it came of.

identities.parquet   kind, id, source, source_id: which id of which service is which item
failures.csv         file, line, reason, remedy: what was left out
listens/             every listen, where the source has them (``sources.listens``)
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from undersong.catalogue import tables
from undersong.catalogue.tables import Catalogue, Origin
from undersong.errors import DataError
from undersong.files import replacing
from undersong.sources.failures import Failures, write_failures
from undersong.sources.listens import Block, gather

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
    tables.write(imported.catalogue, folder)
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
            f"line {line} of {file}: {said}" for file, line, said, _ in failures.rows[:1]
        )
        raise DataError(f"{path} names no artist; is this the right file? {first}".strip())
    write(imported, folder, failures=failures)
    return imported, failures


def text(imported: Imported) -> str:
    """Say for the terminal what an import gave."""
    found = imported.catalogue
    counts = (
        f"{len(found.artists):,} artists, {len(found.tracks):,} tracks, "
        f"{found.count_plays():,} plays, {len(found.relations):,} relations"
    )
    return "\n".join((*imported.notes, counts))


def _refuse_music(folder: Path) -> None:
    if (folder / "files.parquet").exists():
        raise DataError(
            f"{folder} holds the catalogue of a folder of music; import into another one"
        )
