"""ListenBrainz -> listens: the full dump (JSON or Spark Parquet), and a user's own export.

The export may be the zip of today, the JSON array of earlier years, or pages of the API. An
optional value of another type, such as an id that is none, is passed over and costs no listen.

Read of each listen: user, time, names of artist and track, MusicBrainz ids. Ids that the user
sent come before those that ListenBrainz found itself (``mbid_mapping``). Feedback and pins are
no listens. ListenBrainz gives its data as CC0.
"""

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl

from undersong.catalogue import Origin
from undersong.importers.archives import NEWLINE, Member, elements, members
from undersong.importers.listens.history import BLOCK, ITEM, LISTENS, Block, block, gather
from undersong.importers.music.credits import NO_ALIASES, Aliases
from undersong.importers.music.tags import UUID
from undersong.importers.result import Failures, Listens
from undersong.io.table_files import DAMAGE

ORIGIN = Origin("ListenBrainz", "CC0", "plays")
WANTED = r"(^|/)listens/.*\.(listens|jsonl)$|\.parquet$"
EMPTY = (b"\n\n", b"\n ", b"\n\r", b"\n\t")
PAGE = re.compile(rb'\{\s*"payload"')
REMEDY = "nothing is lost but this listen"
LISTENS_OF_BLOCK, ITEMS_OF_BLOCK = 250_000, 100_000  # whichever comes first
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class _Artist(msgspec.Struct, gc=False):
    artist_mbid: str | None = None
    artist_credit_name: str | None = None


class _Ids(msgspec.Struct, gc=False):
    artist_mbids: list[str] | None = None
    recording_mbid: str | None = None
    artists: list[_Artist] | None = None


class _Track(msgspec.Struct, gc=False):
    artist_name: str
    track_name: str | None = None
    additional_info: _Ids | None = None
    mbid_mapping: _Ids | None = None


class _Listen(msgspec.Struct, gc=False):
    track_metadata: msgspec.Raw
    user_name: str | None = None
    user_id: int | str | None = None
    timestamp: Seconds | None = None
    listened_at: Seconds | None = None


class _Item(msgspec.Struct, gc=False):
    artist: str
    artist_ids: str | None
    title: str | None
    recording: str | None


class _User(msgspec.Struct):
    username: str | None = None
    user_name: str | None = None


LISTEN = msgspec.json.Decoder(_Listen)
TRACK = msgspec.json.Decoder(_Track)


def listens(path: Path, failures: Failures, *, aliases: Aliases = NO_ALIASES) -> Listens:
    """Read a dump or an export, block by block.

    Parameters
    ----------
    path : the archive as it comes, a folder it was unpacked to, or one file of it
    aliases : of artists
    """
    return partial(gather, _blocks(path, failures), origin=ORIGIN, aliases=aliases)


def _blocks(path: Path, failures: Failures) -> Iterator[Block]:
    reading = _Reading(_owner(path))
    lacking = "has no listens in it, which are listens/<year>/<month>.listens"
    for member in members(path, WANTED, lacking=lacking):
        if member.name.endswith(".parquet"):
            yield from _spark(member, failures)
        elif _is_document(member):
            yield from _document(member, failures, reading)
        else:
            yield from _json(member, failures, reading)
    yield reading.block()


def _owner(path: Path) -> str:
    """Name the user of an export; in a dump every listen names its own."""
    if path.is_dir() or path.suffix == ".zip":
        for member in members(path, r"(^|/)user\.json$"):
            try:
                account = msgspec.json.decode(member.whole(), type=_User)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            return account.username or account.user_name or path.stem
    return path.stem


class _Reading:
    """The block that is being read.

    The metadata of a track is the same to the byte in most of its listens (from one program), and
    is read once.

    Parameters
    ----------
    owner : who heard what names no user
    """

    def __init__(self, owner: str):
        self._owner = owner
        self._begin()

    def _begin(self) -> None:
        self._listens: tuple[list[int | None], ...] = ([], [], [])
        self._users: dict[str, int] = {}
        self._seen: dict[int, int] = {}
        self._items: list[_Item] = []

    def add(self, listens: list[_Listen]) -> None:
        """Take some listens, all or none.

        Raises
        ------
        msgspec.DecodeError, UnicodeDecodeError
            If one is none.
        """
        seen, items, users = self._seen, self._items, self._users
        # 64 bits are enough to tell them apart, as they are for all items.
        hashes = [hash(bytes(x.track_metadata)) for x in listens]
        places = list(map(seen.get, hashes))
        for which, place in enumerate(places):
            if place is None:
                key = hashes[which]
                if key not in seen:
                    items.append(_item(TRACK.decode(listens[which].track_metadata)))
                    seen[key] = len(items) - 1
                places[which] = seen[key]
        names = [
            x.user_name or (self._owner if x.user_id is None else str(x.user_id)) for x in listens
        ]
        self._listens[0].extend([users.setdefault(x, len(users)) for x in names])
        self._listens[1].extend(places)
        self._listens[2].extend(
            [x.timestamp if x.listened_at is None else x.listened_at for x in listens]
        )

    def is_full(self) -> bool:
        """Return whether the block is large enough."""
        return len(self._listens[0]) >= LISTENS_OF_BLOCK or len(self._items) >= ITEMS_OF_BLOCK

    def block(self) -> Block:
        """Return the block, and begin another."""
        columns = dict(zip(("user", "item", "listened_at"), self._listens, strict=True))
        nothing = (pl.lit(None, LISTENS[x]).alias(x) for x in ("seconds", "skipped", "plays"))
        listens = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int64()))
        users = pl.DataFrame({"user": list(self._users)}, schema={"user": pl.String()})
        items = pl.DataFrame(
            [
                pl.Series(name, [getattr(x, name, None) for x in self._items], pl.String())
                for name in ITEM
            ]
        )
        self._begin()
        return Block(listens.with_columns(nothing), users, items)


def _json(member: Member, failures: Failures, reading: _Reading) -> Iterator[Block]:
    number = 0
    for data in member.blocks():
        ends = np.frombuffer(data, np.uint8) == NEWLINE
        count = int(np.count_nonzero(ends)) + (not ends[-1])
        try:
            listens = LISTEN.decode_lines(data)
            # An empty line may make up for another with two listens.
            if len(listens) != count or any(x in b"\n" + data for x in EMPTY):
                raise msgspec.DecodeError("lines are empty, or no listens")
            reading.add(listens)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _one_by_one(member, data, failures, reading, before=number)
        number += count
        if reading.is_full():
            yield reading.block()


def _one_by_one(
    member: Member, data: bytes, failures: Failures, reading: _Reading, *, before: int
) -> None:
    """Read lines of which some are none; ``before`` others came first."""
    part = Member(member.name, io.BytesIO(data))
    for number, line in part.lines(failures, before=before):
        try:
            reading.add([_tolerant(msgspec.json.decode(line))])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failures.add(member.name, number, str(error), remedy=REMEDY)


def _is_document(member: Member) -> bool:
    """Return whether a file is one value, an array or a page of the API, and no listen a line."""
    head = member.stream.peek(1 << 12)[: 1 << 12].lstrip(b"\xef\xbb\xbf \r\n\t")  # type: ignore[attr-defined]
    return head[:1] == b"[" or PAGE.match(head) is not None


def _document(member: Member, failures: Failures, reading: _Reading) -> Iterator[Block]:
    if member.stream.peek(1 << 12).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"[":  # type: ignore[attr-defined]
        values = elements(member, failures)
    else:
        try:
            values = iter([(1, msgspec.json.decode(member.whole_text()))])
        except msgspec.DecodeError as error:
            failures.add(member.name, None, str(error), remedy=REMEDY)
            return
    for number, value in values:
        for entry in _listens_of(value):
            try:
                reading.add([_tolerant(entry)])
            except msgspec.DecodeError as error:
                failures.add(member.name, number, f"entry {number}: {error}", remedy=REMEDY)
        if reading.is_full():
            yield reading.block()


def _listens_of(value: object) -> list[object]:
    """Return the listens of a page of the API; any other value is one itself."""
    payload = value.get("payload", value) if isinstance(value, dict) else value
    listens = payload.get("listens") if isinstance(payload, dict) else None
    return listens if isinstance(listens, list) else [value]


def _tolerant(entry: object) -> _Listen:
    """Read a listen; optional values of other types than they should have are passed over.

    Raises msgspec.ValidationError if it names no artist, or its time is none.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("track_metadata"), dict):
        raise msgspec.ValidationError("has no track_metadata, so it is no listen")
    track = entry["track_metadata"]
    plain = {
        "artist_name": "" if track.get("artist_name") == "" else _name(track.get("artist_name")),
        "track_name": _name(track.get("track_name")),
        "additional_info": _ids(track.get("additional_info")),
        "mbid_mapping": _ids(track.get("mbid_mapping")),
    }
    if plain["artist_name"] is None:
        raise msgspec.ValidationError("names no artist")
    user = entry.get("user_id")
    return _Listen(
        msgspec.Raw(msgspec.json.encode(plain)),
        user_name=_name(entry.get("user_name")),
        user_id=user if isinstance(user, int | str) else None,
        timestamp=_time(entry.get("timestamp")),
        listened_at=_time(entry.get("listened_at")),
    )


def _name(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) and value != "" else None


def _time(value: object) -> int | None:
    if value is None:
        return None
    try:
        return msgspec.convert(int(float(str(value))), Seconds)
    except (ValueError, OverflowError) as error:
        raise msgspec.ValidationError(f"{str(value)[:40]!r} is no time of a listen") from error


def _ids(value: object) -> dict[str, object] | None:
    """Take the ids of MusicBrainz out of optional information, in whatever shape they are."""
    if not isinstance(value, dict):
        return None
    artists = UUID.findall(str(value.get("artist_mbids") or value.get("artist_mbid") or "").lower())
    recording = UUID.search(str(value.get("recording_mbid") or "").lower())
    named = value.get("artists")
    credits = [
        {x: y for x, y in one.items() if x in ("artist_mbid", "artist_credit_name")}
        for one in (named if isinstance(named, list) else [])
        if isinstance(one, dict) and all(isinstance(y, str | None) for y in one.values())
    ]
    return {
        "artist_mbids": artists or None,
        "recording_mbid": recording[0] if recording else None,
        "artists": credits or None,
    }


def _item(track: _Track) -> _Item:
    sent, mapped = track.additional_info, track.mbid_mapping
    ids = (sent and sent.artist_mbids) or (mapped and mapped.artist_mbids) or None
    recording = (sent and sent.recording_mbid) or (mapped and mapped.recording_mbid) or None
    name = track.artist_name
    if ids and len(ids) > 1 and mapped and mapped.artists:
        # The mapping lists the artists; a credit would have to be split.
        first = mapped.artists[0]
        if first.artist_mbid == ids[0] and first.artist_credit_name:
            name, ids = first.artist_credit_name, ids[:1]
    return _Item(name, " ".join(ids) if ids else None, track.track_name, recording)


def _spark(member: Member, failures: Failures) -> Iterator[Block]:
    """Read one file of the Spark dump; its columns are its own."""
    ids = pl.col("artist_credit_mbids").list.join(" ")
    columns = {
        "user": pl.col("user_id").cast(pl.String),
        "artist": pl.col("artist_name"),
        "artist_ids": ids,
        "title": pl.col("recording_name"),
        "recording": pl.col("recording_mbid"),
        "listened_at": pl.col("listened_at").dt.epoch("s"),
    }
    try:
        rows = pl.read_parquet(
            io.BytesIO(member.whole()),
            columns=[
                *("user_id", "artist_name", "artist_credit_mbids", "recording_name"),
                *("recording_mbid", "listened_at"),
            ],
        ).select(
            columns.get(name, pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in LISTENS.items()
        )
    except (OSError, *DAMAGE) as error:
        remedy = "get the file again; it should be of the ListenBrainz Spark dump"
        failures.add(member.name, None, str(error), remedy=remedy)
        return
    yield from map(block, rows.iter_slices(BLOCK))
