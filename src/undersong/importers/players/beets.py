"""The library of beets (library.db, musiclibrary.db) -> tracks and artists.

Read of each item: path, names, MusicBrainz ids, genres, country, year, length, compilation; the
number of plays where the plugin mpdstats counts them. Nothing is written. The data are yours;
those that beets took from MusicBrainz are CC0, genres of Last.fm are not.
"""

import re
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import Origin
from undersong.importers.music.credits import NO_ALIASES, Aliases, Credit, credits_of, is_somebody
from undersong.importers.music.tags import UUID, Tags
from undersong.importers.players import collection
from undersong.importers.players.collection import TOTALS, file_row, mbid, records
from undersong.importers.result import Failures, Imported

ORIGIN = Origin("beets", "personal data", "tracks, tags, plays")
REMEDY = "run `beet modify` on it"
MANY = re.compile(r"\\?␀|; ")  # between the values of one field
GENRES = re.compile(r"\\?␀|[;,/] ?")
OWNER = "beets"
NAMES = (
    *("id", "path", "title", "album", "artist", "artists", "mb_artistid", "mb_artistids"),
    *("albumartist", "mb_trackid", "genre", "genres", "country", "original_year", "year"),
    *("length", "comp"),
)


def read(
    path: Path, failures: Failures, *, music: Path | None = None, aliases: Aliases = NO_ALIASES
) -> Imported:
    """Read a library.

    Parameters
    ----------
    music : where the files lie, if their paths do not begin with a slash
    aliases : of artists
    """
    with collection.reading(path, failures, program="beets", tables=("items",)) as opened:
        rows = [(_path(x), _row(x)) for x in records(opened, "items", NAMES)]
        totals = _totals(opened)
    return collection.make_catalogue(
        path,
        rows,
        totals,
        failures,
        origin=ORIGIN,
        remedy=REMEDY,
        music=music,
        aliases=aliases,
    )


def _row(item: dict[str, Any]) -> dict[str, object] | None:
    credits = _credits(item)
    if not credits or not item["title"]:
        return None
    return file_row(
        source_id=item["id"],
        path=_path(item),
        credits=credits,
        title=item["title"],
        album=item["album"],
        recording=mbid(item["mb_trackid"]),
        genres=GENRES.split(item["genres"] or item["genre"] or ""),
        year=item["original_year"] or item["year"],
        seconds=item["length"],
        compilation=item["comp"],
    )


def _credits(item: dict[str, Any]) -> tuple[Credit, ...]:
    artist = item["artist"] if is_somebody(item["artist"]) else item["albumartist"]
    names = tuple(x for x in MANY.split(item["artists"] or "") if x)
    ids = tuple(UUID.findall(item["mb_artistids"] or item["mb_artistid"] or ""))
    if not is_somebody(artist) and not names:
        return ()
    return credits_of(
        Tags(artist=(artist or names[0],), artists=names, artist_ids=tuple(x.lower() for x in ids))
    )


def _path(item: dict[str, Any]) -> str:
    path = item["path"] or b""
    return path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else str(path)


def _totals(opened: sqlite3.Connection) -> pl.DataFrame:
    """Count plays, of which beets knows no user."""
    query = "SELECT entity_id, CAST(value AS INTEGER) FROM item_attributes WHERE key = 'play_count'"
    counts = opened.execute(query) if collection.columns(opened, "item_attributes") else ()
    rows = [(OWNER, str(item), float(plays)) for item, plays in counts if plays and plays > 0]
    return pl.DataFrame(rows, schema=TOTALS, orient="row")
