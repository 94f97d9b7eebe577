"""ListenBrainz -> listens: the full dump (JSON or Spark Parquet), and a user's own export.

Read of each listen: user, time, names of artist and track, MusicBrainz ids. Ids that the user
sent come before those that ListenBrainz found itself (``mbid_mapping``). Feedback and pins are
no listens. ListenBrainz gives its data as CC0.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl

from undersong.catalogue.tables import Origin
from undersong.errors import DataError
from undersong.sources.archives import Member, members
from undersong.sources.failures import Failures
from undersong.sources.listens import BLOCK, LISTENS, blocks

ORIGIN = Origin("ListenBrainz", "CC0", "plays")
WANTED = r"(^|/)listens/.*\.(listens|jsonl)$|\.parquet$"
REMEDY = "nothing is lost but this listen"
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
    track_metadata: _Track
    user_name: str | None = None
    user_id: int | str | None = None
    timestamp: Seconds | None = None
    listened_at: Seconds | None = None


class _User(msgspec.Struct):
    username: str | None = None
    user_name: str | None = None


def listens(path: Path, failures: Failures) -> Iterator[pl.DataFrame]:
    """Read a dump or an export, block by block.

    Parameters
    ----------
    path : the archive as it comes, a folder it was unpacked to, or one file of it

    Raises
    ------
    DataError
        If the archive cannot be read, or has no listens in it.
    """
    user = _owner(path)
    found = False
    for member in members(path, WANTED):
        found = True
        if member.name.endswith(".parquet"):
            yield from _spark(member, failures)
        else:
            yield from blocks(_json(member, failures, user))
    if not found:
        raise DataError(f"{path} has no listens in it, which are listens/<year>/<month>.listens")


def _owner(path: Path) -> str:
    """Name the user of an export; in a dump every listen names its own."""
    if path.is_dir() or path.suffix == ".zip":
        for member in members(path, r"(^|/)user\.json$"):
            try:
                said = msgspec.json.decode(member.whole(), type=_User)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            return said.username or said.user_name or path.stem
    return path.stem


def _json(member: Member, failures: Failures, owner: str) -> Iterator[tuple[object, ...]]:
    decode = msgspec.json.Decoder(_Listen).decode
    for number, line in member.lines(failures):
        try:
            yield _row(decode(line), owner)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failures.add(member.name, number, str(error), remedy=REMEDY)


def _row(listen: _Listen, owner: str) -> tuple[object, ...]:
    track = listen.track_metadata
    sent, mapped = track.additional_info, track.mbid_mapping
    ids = (sent and sent.artist_mbids) or (mapped and mapped.artist_mbids) or None
    recording = (sent and sent.recording_mbid) or (mapped and mapped.recording_mbid) or None
    name = track.artist_name
    if ids and len(ids) > 1 and mapped and mapped.artists:
        # The mapping names the artists one by one; a credit would have to be parted.
        first = mapped.artists[0]
        if first.artist_mbid == ids[0] and first.artist_credit_name:
            name, ids = first.artist_credit_name, ids[:1]
    user = listen.user_name or (owner if listen.user_id is None else str(listen.user_id))
    when = listen.timestamp if listen.listened_at is None else listen.listened_at
    return (
        user,
        name,
        " ".join(ids) if ids else None,
        track.track_name,
        recording,
        None,
        when,
        None,
        None,
        None,
    )


def _spark(member: Member, failures: Failures) -> Iterator[pl.DataFrame]:
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
    except (pl.exceptions.PolarsError, OSError) as error:
        remedy = "get the file again; it should be of the ListenBrainz Spark dump"
        failures.add(member.name, None, str(error), remedy=remedy)
        return
    yield from rows.iter_slices(BLOCK)
