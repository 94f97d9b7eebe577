"""Navidrome's database (navidrome.db) -> tracks, artists, and who played what.

Read of each file: path, names, MusicBrainz ids, genres, year, length, compilation; of each user
the number of plays. Files that are missing on the disk are left out. Users are called as they log
in. Nothing is written, and the server may run. The data are yours.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import Origin
from undersong.importers.music.credits import NO_ALIASES, Aliases, Credit, credits_of, is_somebody
from undersong.importers.music.tags import UUID, Tags
from undersong.importers.players import collection
from undersong.importers.players.collection import TOTALS, file_row, mbid, records
from undersong.importers.result import Failures, Imported

ORIGIN = Origin("Navidrome", "personal data", "tracks, tags, plays")
REMEDY = "tag the file, and let Navidrome scan again"
NAMES = (
    *("id", "path", "title", "album", "artist", "mbz_artist_id", "album_artist"),
    *("mbz_recording_id", "mbz_track_id", "genre", "tags", "year", "duration"),
    *("compilation", "missing", "library_id"),
)


def read(
    path: Path, failures: Failures, *, music: Path | None = None, aliases: Aliases = NO_ALIASES
) -> Imported:
    """Read a database.

    Parameters
    ----------
    music : where the files lie, if not where the server sees them
    aliases : of artists
    """
    with collection.reading(
        path, failures, program="Navidrome", tables=("media_file", "artist", "annotation")
    ) as opened:
        credits = _credits(opened)
        files = _files(opened, music)
        rows = [(str(x["path"]), _row(x, credits.get(x["id"], ()))) for x in files]
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


def _files(opened: sqlite3.Connection, music: Path | None) -> Iterator[dict[str, Any]]:
    """Read the files that are there; paths begin at the root unless there is a ``music`` folder."""
    libraries = {} if music else _pairs(opened, "library", "id", "path")
    for file in records(opened, "media_file", NAMES):
        file["path"] = os.path.join(libraries.get(file["library_id"]) or "", file["path"] or "")
        if not file["missing"]:
            yield file


def _pairs(opened: sqlite3.Connection, table: str, key: str, value: str) -> dict[str, str]:
    return {x[key]: x[value] for x in records(opened, table, (key, value))}


def _credits(opened: sqlite3.Connection) -> dict[str, tuple[Credit, ...]]:
    """List the artists of each file, in their order; of old versions nothing is known."""
    if not collection.columns(opened, "media_file_artists"):
        return {}
    credits: dict[str, list[Credit]] = {}
    rows = opened.execute(
        "SELECT link.media_file_id, artist.name, artist.mbz_artist_id FROM media_file_artists link "
        "JOIN artist ON artist.id = link.artist_id WHERE link.role = 'artist' ORDER BY link.rowid"
    )
    for file, name, artist_id in rows:
        if is_somebody(name):
            credits.setdefault(file, []).append(Credit(name, mbid(artist_id) or ""))
    return {file: tuple(names) for file, names in credits.items()}


def _totals(opened: sqlite3.Connection) -> pl.DataFrame:
    users = _pairs(opened, "user", "id", "user_name")
    rows = opened.execute(
        "SELECT user_id, item_id, play_count FROM annotation "
        "WHERE item_type = 'media_file' AND play_count > 0"
    )
    return pl.DataFrame(
        [(users.get(user) or user, item, float(plays)) for user, item, plays in rows],
        schema=TOTALS,
        orient="row",
    )


def _row(file: dict[str, Any], credits: tuple[Credit, ...]) -> dict[str, object] | None:
    artist = file["artist"] if is_somebody(file["artist"]) else file["album_artist"]
    if not credits and is_somebody(artist):
        ids = UUID.findall(file["mbz_artist_id"] or "")
        credits = credits_of(Tags(artist=(artist,), artist_ids=tuple(x.lower() for x in ids)))
    if not credits or not file["title"] or file["id"] is None:
        return None
    return file_row(
        source_id=file["id"],
        path=file["path"],
        credits=credits,
        title=file["title"],
        album=file["album"],
        # Before 0.55 the recording stood in mbz_track_id, as in the tags of most formats.
        recording=mbid(file["mbz_recording_id"]) or mbid(file["mbz_track_id"]),
        genres=_genres(file),
        year=file["year"],
        seconds=file["duration"],
        compilation=file["compilation"],
    )


def _genres(file: dict[str, Any]) -> list[str]:
    """Read the genres: of new versions from the tags, JSON; of old ones there is one."""
    try:
        tags = json.loads(file["tags"] or "{}").get("genre") or ()
        words = [x["value"] if isinstance(x, dict) else x for x in tags]
    except (ValueError, AttributeError, KeyError, TypeError):
        words = []
    return [x for x in words if isinstance(x, str)] or [file["genre"] or ""]
