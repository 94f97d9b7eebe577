"""A collection that another program keeps (tags and plays of files) -> a catalogue.

The rows are those of ``library.FILES``, with the id that each file has in that program. Artists,
tracks and fields are made of them as of a music folder, so both have the same ids.
"""

import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import Catalogue, Origin
from undersong.errors import DataError
from undersong.importers.archives import TO_UTF_8
from undersong.importers.listens.history import resolve
from undersong.importers.music.credits import NO_ALIASES, Aliases, Credit, renamed
from undersong.importers.music.library import FILES, library
from undersong.importers.music.tags import UUID, is_genre, something
from undersong.importers.result import IDENTITIES, Failures, Imported
from undersong.io import files

COLLECTION = {"source_id": pl.String()} | FILES
TOTALS = {"user": pl.String(), "source_id": pl.String(), "plays": pl.Float64()}


def file_row(
    *,
    source_id: object,
    path: str,
    credits: Sequence[Credit],
    title: str,
    album: str | None,
    recording: str | None,
    genres: Sequence[str],
    year: object,
    seconds: object,
    compilation: object,
    country: str | None = None,
) -> dict[str, object]:
    """Make one row of ``COLLECTION``; what is empty, zero or absurd counts as not known."""
    words = (x.strip().lower() for x in genres)
    known = {x: None for x in words if is_genre(x)}
    return {
        "source_id": str(source_id),
        "path": path,
        "artists": [x.name for x in credits],
        "artist_ids": [x.id for x in credits],
        "title": title,
        "album": something(album or None),
        "recording": recording,
        "genres": list(known) or None,
        "year": year if isinstance(year, int) and 1000 <= year < 3000 else None,
        "country": something(country or None),
        "compilation": bool(compilation),
        "seconds": float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else None,
    }


def make_catalogue(
    path: Path,
    rows: Iterable[tuple[str, dict[str, object] | None]],
    totals: pl.DataFrame,
    failures: Failures,
    *,
    origin: Origin,
    remedy: str,
    music: Path | None,
    aliases: Aliases = NO_ALIASES,
) -> Imported:
    """Make a catalogue of files and of how often each was played.

    Parameters
    ----------
    path : of the collection, for the message
    rows : path and ``file_row`` of each file; None where it names no artist or title
    totals : columns ``TOTALS``
    remedy : for a file that names no artist or title
    music : folder at which paths begin
    aliases : of artists

    Raises DataError if no file names an artist and a title.
    """
    named_rows = []
    for number, (file, row) in enumerate(rows, start=1):
        if row:
            named_rows.append(row)
        else:
            failures.add(file, number, "names no artist or title", remedy=remedy)
    if not named_rows:
        raise DataError(f"{path} has no file in it that names an artist and a title")
    files = pl.DataFrame(named_rows, schema=COLLECTION, orient="row")
    catalogue, identities = catalogue_of(renamed(files, aliases), totals, origin=origin)
    # Of a track that is no file on this machine the audio is not known.
    listing = Listing(music or Path())
    paths = [None if x is None else listing.find(x) for x in catalogue.tracks["path"]]
    tracks = catalogue.tracks.with_columns(pl.Series("path", paths, dtype=pl.String))
    lacking = len(tracks) - tracks["path"].count()
    catalogue = replace(catalogue, tracks=tracks, audio_root=music.resolve() if music else None)
    where = f"below {music}" if music else "here (--music says where files lie)"
    notes = [f"{lacking:,} tracks are no file {where}"]
    return Imported(catalogue, identities, tuple(notes[: bool(lacking)]))


def catalogue_of(
    files: pl.DataFrame, totals: pl.DataFrame, *, origin: Origin
) -> tuple[Catalogue, pl.DataFrame]:
    """Make a catalogue of files and of how often each was played; and the ids of the program.

    Parameters
    ----------
    files : columns ``COLLECTION``; a path is of one file alone
    totals : columns ``TOTALS``
    """
    artists = pl.col("artists")
    things = files.select(
        item=pl.int_range(pl.len(), dtype=pl.UInt64),
        artist=artists.list.first(),
        artist_ids=pl.col("artist_ids").list.first(),
        title="title",
        recording="recording",
        source_id="source_id",
    )
    plays = totals.group_by("source_id").agg(pl.sum("plays")).join(things, on="source_id")
    resolved = resolve(things, plays.select("item", "plays")).sort("item")
    rest = artists.list.len() - 1
    blanks = pl.lit("").repeat_by(rest)
    named = files.with_columns(
        resolved["track_id"].alias("recording"),
        artists=pl.concat_list(resolved["artist_name"], artists.list.slice(1)),
        artist_ids=pl.concat_list(resolved["artist_id"], blanks),
    )
    catalogue = library(named)
    ids = _tracks_of(named, resolved, catalogue)
    played = totals.join(ids, on="source_id")
    counts = [
        played.group_by("user", item=column)
        .agg(pl.sum("plays"))
        .sort("user", "item")
        .select(pl.lit(kind).alias("kind"), "user", "item", "plays")
        for kind, column in (("artist", "artist"), ("track", "id"))
    ]
    source = pl.lit(origin.name.lower()).alias("source")
    identities = ids.select(pl.lit("track").alias("kind"), "id", source, "source_id")
    catalogue = replace(catalogue, plays=pl.concat(counts).lazy(), origins=(origin,))
    return catalogue, identities.sort(list(IDENTITIES))


class Listing:
    """Files below a folder, found also where accents are written in another form (NFC, NFD)."""

    def __init__(self, root: Path):
        self._root = root
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, path: str) -> str | None:
        """Return a path as the disk has it; None where there is no such file."""
        try:
            if (self._root / path).is_file():
                return path
        except OSError:  # it is longer than any path
            return None
        place = Path()
        for part in Path(path).parts:
            name = self._composed(self._root / place).get(unicodedata.normalize("NFC", part), part)
            place /= name
        return str(place) if (self._root / place).is_file() else None

    def _composed(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            self._names[folder] = {unicodedata.normalize("NFC", x): x for x in names}
        return self._names[folder]


def _tracks_of(named: pl.DataFrame, resolved: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Find which track each file is: source_id, id, artist. A copy is what it is a copy of."""
    rows = resolved.select("source_id", artist="artist_id", track="track_id", title="title")
    tracks = catalogue.tracks.select("id", "artist", "title")
    own = rows.join(tracks.select("id"), left_on="track", right_on="id", how="semi")
    own = own.select("source_id", pl.col("track").alias("id"), "artist")
    copies = rows.join(own, on="source_id", how="anti")
    first = tracks.unique(["artist", "title"], keep="first", maintain_order=True)
    return pl.concat([own, copies.join(first, on=["artist", "title"]).select(own.columns)])


# Of SQLite's machine: a row of 50 bytes or more takes a few for each column that is read.
STEPS, STEPS_A_BYTE, BLOCK = 10_000_000, 10, 100_000
LONGEST_VALUE = 1 << 24  # bytes, also of a row
WAL = b"\x02"  # of the byte that says how a file is written to


@contextmanager
def reading(
    path: Path, failures: Failures, *, program: str, tables: tuple[str, ...]
) -> Iterator[sqlite3.Connection]:
    """Open a database for reading alone.

    Only tables are read: a view, a trigger or a function in it could compute without an end. A
    text that is not UTF-8 is null, and a failure.

    Where changes wait in a write-ahead log, they are read too. Where there is no log nobody
    writes, and the file is opened so that none is made beside it.

    Parameters
    ----------
    program : that writes such a database, for the message
    tables : that it must have

    Raises
    ------
    DataError
        If it is no SQLite file, is damaged or locked, lacks a table, or takes more steps to read
        than ``STEPS`` and ``STEPS_A_BYTE``.
    """

    def text(data: bytes) -> str | None:
        try:
            return data.decode()
        except UnicodeDecodeError:
            near = data[:40].decode("latin1")
            failures.add(path.name, None, f"a value is not UTF-8: {near!r}", remedy=TO_UTF_8)
            return None

    remedy = f"give the database of {program}, with the files -wal and -shm beside it"
    # SQLite's own message may quote damaged bytes.
    with files.reading(path, sqlite3.Error, UnicodeDecodeError, hint=remedy, error=DataError):
        with path.open("rb") as file:
            head = file.read(20)
        log = path.with_name(f"{path.name}-wal")
        waiting = log.exists()
        alone = head[18:19] == WAL and not waiting
        name = path.resolve().as_uri() + ("?mode=ro&immutable=1" if alone else "?mode=ro")
        connection = sqlite3.connect(name, uri=True)
        connection.text_factory = text
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        size = path.stat().st_size + (log.stat().st_size if waiting else 0)
        blocks = iter(range((STEPS + STEPS_A_BYTE * size) // BLOCK))
        connection.set_progress_handler(lambda: next(blocks, -1) < 0, BLOCK)
        try:
            lacking = [x for x in tables if not columns(connection, x)]
            if lacking:
                raise DataError(f"{path} has no table {lacking[0]}; {remedy}")
            yield connection
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise DataError(
                f"{path} takes far longer to read than one of its size; {remedy}"
            ) from error
        finally:
            connection.close()


def columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Name the columns of a table; none where there is no such table, or it is a view."""
    rows = connection.execute(
        "SELECT c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
        "WHERE t.type = 'table' AND t.rootpage > 0 AND t.name = ?",
        (table,),
    )
    return frozenset(x for (x,) in rows)


def records(
    connection: sqlite3.Connection, table: str, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Read columns of a table; what this version of the program lacks is null, or no row."""
    there = columns(connection, table)
    if there:
        wanted = (f'"{x}"' if x in there else "NULL" for x in names)
        for row in connection.execute(f'SELECT {", ".join(wanted)} FROM "{table}"'):
            yield dict(zip(names, row, strict=True))


def mbid(text: str | None) -> str | None:
    """Return an id of MusicBrainz in small letters; None for what is none."""
    match = UUID.fullmatch(text or "")
    return match[0].lower() if match else None
