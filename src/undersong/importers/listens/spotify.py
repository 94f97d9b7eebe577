"""Spotify's "extended streaming history" -> listens; the short history of the account too.

Read of each stream: when it ended, how long it was heard, names, the URI of the track, and
whether it was skipped. A stream of less than 30 seconds, or that was skipped, is no play; it stays
among the listens. A stream that both histories have counts once.
``listened_at`` is when it began. What names no artist (podcasts, audio books)
is counted and left out, as are private sessions. The data are yours; Spotify's terms cover
their use.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from undersong.catalogue import Origin
from undersong.importers.archives import REMEDY, entries, members
from undersong.importers.listens.history import listen, listens_of
from undersong.importers.music.credits import NO_ALIASES, Aliases
from undersong.importers.result import Failures, Listens

ORIGIN = Origin("Spotify", "personal data, under Spotify's terms", "plays")
WANTED = r"(streaming_?history|endsong)[^/]*\.json$"
SHORTEST = 30.0  # seconds; Spotify itself counts a stream from here on


class _Stream(msgspec.Struct):
    ts: str | None = None
    ms_played: int | None = None
    master_metadata_track_name: str | None = None
    master_metadata_album_artist_name: str | None = None
    spotify_track_uri: str | None = None
    skipped: bool | None = None
    incognito_mode: bool | None = None
    username: str | None = None
    # of the short history
    end_time: str | None = msgspec.field(default=None, name="endTime")
    artist_name: str | None = msgspec.field(default=None, name="artistName")
    track_name: str | None = msgspec.field(default=None, name="trackName")
    short_ms_played: int | None = msgspec.field(default=None, name="msPlayed")


def listens(
    path: Path, failures: Failures, *, user: str = "", aliases: Aliases = NO_ALIASES
) -> Listens:
    """Read an export, block by block.

    Parameters
    ----------
    path : the zip as it comes, the folder it was unpacked to, or one file of it
    user : whose it is, where the export does not say; by default the name of the file
    aliases : of artists
    """
    return listens_of(_rows(path, failures, user), origin=ORIGIN, aliases=aliases)


def _rows(path: Path, failures: Failures, user: str) -> Iterator[tuple[object, ...]]:
    lacking = "has no file Streaming_History_Audio_*.json in it"
    extended: set[int] = set()
    short: dict[int, tuple[object, ...]] = {}  # a year at most; known by the minute alone
    for member in members(path, WANTED, lacking=lacking):
        for number, entry in entries(member, failures):
            try:
                stream = msgspec.convert(entry, _Stream)
                row = _row(stream, user, path.stem)
            except (msgspec.ValidationError, ValueError, OverflowError) as error:
                failures.add(member.name, number, f"entry {number}: {error}", remedy=REMEDY)
                continue
            if row and stream.ts:
                extended.add(_of_minute(stream))
                yield row
            elif row:
                short.setdefault(_of_minute(stream), row)
    yield from (row for mark, row in short.items() if mark not in extended)


def _of_minute(stream: _Stream) -> int:
    """Return what is the same of a stream in both histories: minute, milliseconds and title."""
    ended = (stream.ts or stream.end_time or "").replace("T", " ")[:16]
    played = stream.ms_played if stream.ms_played is not None else stream.short_ms_played
    return hash((ended, played, stream.master_metadata_track_name or stream.track_name))


def _row(stream: _Stream, user: str, own: str) -> tuple[object, ...] | None:
    if stream.incognito_mode:
        return None
    played = stream.ms_played if stream.ms_played is not None else stream.short_ms_played
    ended = stream.ts or stream.end_time
    if ended is None or played is None:
        raise ValueError("lacks the time, or how long it was heard")
    when = datetime.fromisoformat(ended.replace("Z", "+00:00"))
    seconds = played / 1000
    if seconds < 0:
        raise ValueError(f"was heard for {seconds:g} seconds")
    return listen(
        user=user or stream.username or own,
        artist=stream.master_metadata_album_artist_name or stream.artist_name,
        title=stream.master_metadata_track_name or stream.track_name,
        source_id=stream.spotify_track_uri,
        listened_at=int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - seconds),
        seconds=seconds,
        skipped=bool(stream.skipped) or seconds < SHORTEST,
    )
