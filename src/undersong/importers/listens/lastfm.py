"""Last.fm's history, as the programs that save it write it -> listens.

Known are, by their first lines (each column by name where there is a header):

- CSV with ``uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid``
- CSV without a header: ``artist,album,track,time``, or ``date,time,artist,title``
- lastfmstats, CSV (``Artist;Album;AlbumId;Track;Date#user``) and JSON; libre.fm CSV
- ``.scrobbler.log`` of players (tabs); a track rated ``S`` was skipped
- JSON of Maloja, and of Last.fm's own API; JSON lines of Pano Scrobbler
- the research sets 360K (``user, artist mbid, artist, plays``) and 1K (one listen a line), TSV

Times without a zone are taken as UTC. Last.fm's data are its users'; the research sets are for
non-commercial use.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from undersong.catalogue import Origin
from undersong.importers.archives import Member, elements, members
from undersong.importers.listens.history import LISTENS, listen, listens_of
from undersong.importers.music.credits import NO_ALIASES, Aliases
from undersong.importers.result import Failures, Listens, shown

ORIGIN = Origin("Last.fm", "its users' own, or non-commercial", "plays")
WANTED = r"\.(csv|tsv|log|json|jsonl|txt)$"
REMEDY = "correct this line, or leave it"
NAMES = {
    "artist": ("artist", "artist_name", "artist name"),
    "title": ("track", "title", "track_name", "track name", "song", "name"),
    "artist_ids": ("artist_mbid", "artist mbid"),
    "recording": ("track_mbid", "track mbid", "recording_mbid"),
    "when": ("uts", "timestamp", "date", "utc_time", "time", "listened_at", "rawdatetime"),
    "user": ("user", "username"),
}
FORMATS = (
    *("%d %b %Y, %H:%M", "%d %b %Y %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"),
    *("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%y %H:%M"),
)
TIMES = ("timeMs", "uts", "date", "timestamp", "listened_at", "time")
HOLDING = ("recenttracks", "lovedtracks", "weeklytrackchart", "track", "scrobbles")
FIRST_MILLISECONDS = 10**11  # larger numbers are milliseconds: in seconds, the year 5138
LOG = ("artist", "album", "title", "number", "length", "rating", "when", "recording")
PLAIN = ("artist", "album", "title", "when")
DATED = ("when", "time", "artist", "title")
SET_360K = ("user", "artist_ids", "artist", "plays")
SET_1K = ("user", "when", "artist_ids", "artist", "recording", "title")
DATE = re.compile(r"\d{4}-\d\d-\d\d$")
SLASHED = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}\b")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT")
SEPARATOR = re.compile(r"sep=(.)$", re.I)
PLAYER = re.compile(r"#AUDIOSCROBBLER/")


def listens(
    path: Path, failures: Failures, *, user: str = "", aliases: Aliases = NO_ALIASES
) -> Listens:
    """Read a history, or a folder or archive of them, block by block.

    Parameters
    ----------
    user : whose it is, where the file does not say; by default the name of the file
    aliases : of artists

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    rows = (row for member in members(path, WANTED) for row in _rows(member, failures, user))
    return listens_of(rows, origin=ORIGIN, aliases=aliases)


def _rows(member: Member, failures: Failures, user: str) -> Iterator[tuple[object, ...]]:
    head = member.stream.peek(1 << 12)[: 1 << 12].lstrip(b"\xef\xbb\xbf \r\n\t")  # type: ignore[attr-defined]
    own = PurePosixPath(member.name).stem
    if head[:1] not in (b"{", b"["):
        yield from _table(member, failures, user, own)
        return
    for number, value in _values_of_json(member, failures, lines=_is_line(head)):
        for whose, entry in _entries(value):
            try:
                columns = _entry(entry)
            except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
                failures.add(member.name, number, f"is no listen: {error}", remedy=REMEDY)
                continue
            if columns:
                yield listen(user=user or whose or own, **columns)


def _is_line(head: bytes) -> bool:
    """Return whether a file of JSON has an object a line, and not one value of many lines."""
    first, end, _ = head.partition(b"\n")
    try:
        return bool(end) and not any(True for _ in _nested(json.loads(first)))
    except (ValueError, RecursionError):
        return False


def _values_of_json(
    member: Member, failures: Failures, *, lines: bool
) -> Iterator[tuple[int, object]]:
    """Read the values of a file, with their line or place from 1; of an array its elements."""
    if lines:
        for number, line in member.texts(failures):
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                failures.add(member.name, number, f"is no JSON: {error}", remedy=REMEDY)
        return
    head = member.stream.peek(1 << 12)[: 1 << 12].lstrip(b"\xef\xbb\xbf \r\n\t")  # type: ignore[attr-defined]
    if head[:1] == b"[" or b'"scrobbles"' in head:
        yield from elements(member, failures)
        return
    try:
        yield 1, json.loads(member.whole_text())
    except (ValueError, RecursionError) as error:
        failures.add(member.name, None, f"is no JSON: {error}", remedy=REMEDY)


def _nested(value: object) -> Iterator[object]:
    """Return what a reply or page holds: lists, and objects below a key of ``HOLDING``."""
    if isinstance(value, list):
        yield value
    elif isinstance(value, dict):
        yield from (value[x] for x in HOLDING if isinstance(value.get(x), dict | list))


def _entries(value: object, owner: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each listen of a value, however deep it lies, behind whose the reply says it is."""
    waiting = [(owner, value)]
    while waiting:
        whose, here = waiting.pop()
        if isinstance(here, list):
            waiting += [(whose, x) for x in reversed(here)]
        elif isinstance(here, dict):
            about = here.get("@attr")
            named = about.get("user") if isinstance(about, dict) else here.get("username")
            whose = named if isinstance(named, str) else whose
            inner = [x for x in _nested(here) if not (isinstance(x, dict) and "title" in x)]
            waiting += [(whose, x) for x in reversed(inner)]
            if not inner:
                yield whose, here
        else:
            yield whose, {"artist": here}


def _entry(entry: dict[str, Any]) -> dict[str, object] | None:
    """Read one listen of JSON; None for what is none, such as a track that plays just now."""
    about = entry.get("@attr")
    if entry.get("event", "scrobble") != "scrobble":
        return None
    if isinstance(about, dict) and ("nowplaying" in about or "artist" not in entry):
        return None
    track, artist = entry.get("track", entry.get("name")), entry.get("artist")
    if isinstance(track, dict):  # Maloja
        names = [x for x in track.get("artists") or () if isinstance(x, str)]
        when, title = _instant(entry["time"]), track.get("title")
        seconds = entry.get("duration")
        return {
            "artist": "; ".join(names),
            "title": _text(title),
            "listened_at": when,
            "seconds": float(seconds) if seconds else None,
        }
    if isinstance(artist, dict):  # the API of Last.fm
        return {
            "artist": _text(artist.get("#text") or artist.get("name")),
            "artist_ids": _text(artist.get("mbid")),
            "title": _text(entry.get("name")),
            "recording": _text(entry.get("mbid")),
            "listened_at": _instant(entry["date"]),
        }
    when = _instant(next((entry[x] for x in TIMES if x in entry), None))
    return {"artist": _text(artist), "title": _text(track), "listened_at": when}


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{shown(repr(value))} is no name")


def _table(member: Member, failures: Failures, user: str, own: str) -> Iterator[tuple[object, ...]]:
    """Read lines of values; the first ones say which column is what, and one may say whose.

    Whose it is says ``user``, else the file, else its name, ``own``.
    """
    columns: Sequence[str] = ()
    mark = ","
    for number, line in member.texts(failures):
        text = line.rstrip("\r\n")
        if not columns and (parting := SEPARATOR.match(text)):
            mark = parting[1]
            continue
        if text.startswith("#"):
            columns, mark = (LOG, "\t") if PLAYER.match(text) else (columns, mark)
            continue
        try:
            if not columns:
                mark = max("\t;,", key=text.count)
                columns, own, header = _shape(_values(text, mark), own)
                if header:
                    continue
            row = _listen(columns, _values(text, mark))
            yield listen(**row | {"user": user or row.get("user") or own})
        except (ValueError, OverflowError, csv.Error) as error:
            failures.add(member.name, number, f"{error}: {text[:80]!r}", remedy=REMEDY)


def _values(text: str, mark: str) -> list[str]:
    if mark == "\t":  # players and research sets quote nothing
        return text.split("\t")
    return next(csv.reader([text], delimiter=mark))


def _shape(values: Sequence[str], user: str) -> tuple[Sequence[str], str, bool]:
    """Find which column is what, whose listens they are, and whether this line is a header."""
    names = [x.strip().lower() for x in values]
    if any(x in names for x in NAMES["artist"]):
        last, _, owner = values[-1].partition("#")
        names[-1] = last.strip().lower()
        return _columns(names), owner or user, True
    if len(values) == 4 and DATE.match(values[0]):
        return DATED, user, False
    if len(values) == 4 and len(values[0]) == 40 and values[3].isdecimal():
        return SET_360K, user, False
    if len(values) == 6 and INSTANT.match(values[1]):
        return SET_1K, user, False
    return (PLAIN if len(values) == 4 else ()), user, False


def _columns(names: Sequence[str]) -> list[str]:
    """Rename the columns of a header to ours; of several for one the first we list."""
    taken = {
        meaning: next((x for x in known if x in names), "") for meaning, known in NAMES.items()
    }
    ours = [next((m for m, x in taken.items() if x == name), name) for name in names]
    if "when" in ours and "date" in names and "time" in names:
        ours[names.index("time")] = "time"
    return ours


def _listen(columns: Sequence[str], values: Sequence[str]) -> dict[str, object]:
    if not columns:
        raise ValueError("is of no known shape, and no header stands before it")
    if len(values) < len(columns) - (columns is LOG):  # players leave out the last one
        raise ValueError(f"has {len(values)} values, not {len(columns)}")
    cells = dict(zip(columns, values, strict=False))
    row: dict[str, object] = {x: cells[x] or None for x in LISTENS if x in cells}
    if "plays" in cells:
        row["plays"] = float(int(cells["plays"]))
    if columns is LOG:
        row["skipped"] = cells["rating"] == "S"
        row["artist"] = None if cells["artist"] == "<Untagged>" else cells["artist"]
    if "when" in cells:
        date = f"{cells['when']} {cells['time']}" if "time" in cells else cells["when"]
        row["listened_at"] = _instant(date)
    return row


def _instant(value: object) -> int:
    if isinstance(value, dict):  # the API has both
        value = value.get("uts", value.get("#text"))
    if isinstance(value, str) and not value.strip().isdecimal():
        return int(_date(value.strip()).timestamp())
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{shown(repr(value))} is no time")
    number = int(value)
    number = number // 1000 if number >= FIRST_MILLISECONDS else number
    if not 0 <= number < FIRST_MILLISECONDS:
        raise ValueError(f"{number} is no time of a listen")
    return number


def _date(text: str) -> datetime:
    for form in FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    if SLASHED.match(text):
        raise ValueError("has a date whose day and month are not sure; write it as 2023-11-05")
    try:
        date = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ValueError("has a date of no known form; write it as 2023-11-05 22:13") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
