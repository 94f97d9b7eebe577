"""MusicBrainz's JSON dump of artists -> artists with what is known of them.

Read of each artist: id, name, kind (person, group ...), gender, country, areas, genres and tags by
their votes, aliases, the years it was active, disambiguation. Ids that were merged into another
stand in ``identities``.

The core data are CC0. Tags and genres are CC BY-NC-SA: a model that learned from them should say
so, and ``core=True`` leaves them out.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import polars as pl

from undersong.catalogue import FIELD_TYPES, ITEMS, Catalogue, Field, Origin
from undersong.errors import DataError
from undersong.importers.archives import Member, members
from undersong.importers.music.credits import is_nobody
from undersong.importers.music.tags import UUID
from undersong.importers.result import IDENTITIES, Failures, Imported

ORIGIN = Origin("MusicBrainz", "CC0; tags and genres CC BY-NC-SA 3.0", "artists, fields")
CORE = Origin("MusicBrainz", "CC0", "artists, fields")
WANTED = r"(^|/)(artist|artist_gid_redirect(\.tsv|\.csv)?|artist.*\.jsonl?)$"
REDIRECTS = "redirect"
ROW = re.compile(rb"\A\d+\t[0-9a-f]{8}-")  # of the database's own table
REMEDY = "nothing is lost but this artist"
BLOCK = 50_000  # artists
FIELDS = (
    Field("genre", "artist", "tags", "genre"),
    Field("tags", "artist", "tags"),
    Field("country", "artist", "category", "region"),
    Field("area", "artist", "category"),
    Field("begin_area", "artist", "category"),
    Field("type", "artist", "category"),
    Field("gender", "artist", "category"),
    Field("year", "artist", "number", "year"),
    Field("decade", "artist", "category"),
    Field("end_year", "artist", "number", withheld=True),
    # Words that name an artist, and no description: for people and for joining sources.
    Field("aliases", "artist", "tags", withheld=True),
    Field("disambiguation", "artist", "category", withheld=True),
)
VOTED = ("genre", "tags")
SCHEMA = {"id": pl.String(), "name": pl.String()} | {x.name: FIELD_TYPES[x.type] for x in FIELDS}


class _Area(msgspec.Struct, gc=False):
    name: str | None = None
    codes: list[str] | None = msgspec.field(default=None, name="iso-3166-1-codes")


class _Voted(msgspec.Struct, gc=False):
    name: str
    count: int | None = 0


class _Alias(msgspec.Struct, gc=False):
    name: str


class _Span(msgspec.Struct, gc=False):
    begin: str | None = None
    end: str | None = None


class _ArtistEntity(msgspec.Struct, gc=False):
    id: str
    name: str
    disambiguation: str | None = None
    type: str | None = None
    gender: str | None = None
    country: str | None = None
    area: _Area | None = None
    begin_area: _Area | None = None
    begin_area_dashed: _Area | None = msgspec.field(default=None, name="begin-area")
    span: _Span | None = msgspec.field(default=None, name="life-span")
    aliases: list[_Alias] | None = None
    tags: list[_Voted] | None = None
    genres: list[_Voted] | None = None


def read(path: Path, failures: Failures, *, core: bool = False) -> Imported:
    """Read a dump.

    Parameters
    ----------
    path : ``artist.tar.xz``, a folder it was unpacked to, or the file ``artist`` of it
        A table ``artist_gid_redirect`` beside it is read as well: old id and id, or as MusicBrainz
        ships it, with the table ``artist`` of the same dump in a folder of its own.
    core : leave out what is not CC0, which is tags and genres
    """
    blocks: list[pl.DataFrame] = []
    redirects: list[tuple[str, str]] = []
    numbers: dict[str, str] = {}  # of rows of the database, which its own tables name
    for member in members(path, WANTED):
        if REDIRECTS in member.name:
            redirects += _redirects(member, failures)
            continue
        if ROW.match(member.stream.peek(64)):  # type: ignore[attr-defined]
            numbers |= _numbers(member)
            continue
        rows = _rows(member, failures)
        while some := list(islice(rows, BLOCK)):
            blocks.append(pl.DataFrame(some, schema=SCHEMA, orient="row"))
    if not blocks:
        raise DataError(f"{path} has no artists in it, which are one JSON object a line")
    artists = pl.concat(blocks).unique("id", keep="first", maintain_order=True).sort("id")
    fields = tuple(
        x
        for x in FIELDS
        if artists[x.name].null_count() < len(artists) and not (core and x.name in VOTED)
    )
    table = artists.select(
        "id",
        "name",
        pl.lit(None, dtype=ITEMS["artist"]["split"]).alias("split"),
        *(x.name for x in fields),
    )
    catalogue = Catalogue(artists=table, fields=fields, origins=(CORE if core else ORIGIN,))
    lacking = sum(not UUID.fullmatch(numbers.get(new, new)) for _, new in redirects)
    named = [(old, numbers.get(new, new)) for old, new in redirects]
    notes = [
        f"{lacking:,} merged ids lead to rows of the database: put its table `artist` (of "
        "mbdump.tar.bz2) beside them in a folder `mbdump`, and import again"
    ]
    return Imported(catalogue, _identities(artists, named), tuple(notes[: bool(lacking)]))


def _rows(member: Member, failures: Failures) -> Iterator[tuple[object, ...]]:
    decode = msgspec.json.Decoder(_ArtistEntity).decode
    for number, line in member.lines(failures):
        try:
            artist = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failures.add(member.name, number, str(error), remedy=REMEDY)
            continue
        if not UUID.fullmatch(artist.id) or not artist.name.strip():
            reason = f"id {artist.id!r} or name {artist.name!r} is none"
            failures.add(member.name, number, reason, remedy=REMEDY)
        elif not (is_nobody(artist.id) or is_nobody(artist.name)):
            yield _row(artist)


def _row(artist: _ArtistEntity) -> tuple[object, ...]:
    area, begin = artist.area, artist.begin_area or artist.begin_area_dashed
    codes = (area and area.codes) or (begin and begin.codes)
    span = artist.span or _Span()
    year, end = _year(span.begin), _year(span.end)
    aliases = dict.fromkeys(x.name for x in artist.aliases or () if x.name != artist.name)
    return (
        artist.id.lower(),
        artist.name,
        _voted(artist.genres),
        _voted(artist.tags),
        artist.country or (codes[0] if codes else None),
        area.name if area else None,
        begin.name if begin else None,
        artist.type,
        artist.gender,
        year,
        None if year is None else f"{int(year) // 10}0s",
        end,
        list(aliases) or None,
        artist.disambiguation or None,
    )


def _voted(words: list[_Voted] | None) -> list[str] | None:
    liked = sorted((x for x in words or () if (x.count or 0) > 0), key=lambda x: -(x.count or 0))
    return [x.name for x in liked] or None


def _year(date: str | None) -> float | None:
    year = (date or "")[:4]
    return float(year) if len(year) == 4 and year.isdecimal() and year > "0000" else None


def _redirects(member: Member, failures: Failures) -> Iterator[tuple[str, str]]:
    """Read old id and new id, or, as MusicBrainz ships it, old id, row of the new one, and time."""
    for number, text in member.texts(failures):
        old, *rest = (x.strip().strip('"').lower() for x in re.split(r"[\t,; ]", text.strip()))
        new = rest[0] if rest else ""
        if UUID.fullmatch(old) and (UUID.fullmatch(new) or new.isdecimal()):
            yield old, new
        elif number > 1 or UUID.search(text):  # the first line may be a header
            reason = "has no two ids, nor an id and the number of a row"
            failures.add(member.name, number, reason, remedy="give old id, id")


def _numbers(member: Member) -> dict[str, str]:
    """Read the id of each row of the database's table of artists: number, id, name, ..."""
    rows = (x.decode("utf-8", "replace").split("\t", 2) for _, x in member.lines(Failures()))
    return {x[0]: x[1].lower() for x in rows if len(x) > 1 and UUID.fullmatch(x[1])}


def _identities(artists: pl.DataFrame, redirects: list[tuple[str, str]]) -> pl.DataFrame:
    """List the ids of MusicBrainz that mean each artist: its own, and those merged into it."""
    latest = dict(redirects)
    ends = [(_last(latest, old), old) for old in latest]
    merged = pl.DataFrame(
        ends, schema=dict.fromkeys(("id", "source_id"), pl.String()), orient="row"
    )
    own = artists.select("id", source_id="id")
    both = pl.concat([own, merged.join(own, on="id", how="semi")])
    named = both.with_columns(kind=pl.lit("artist"), source=pl.lit("musicbrainz"))
    return named.select(list(IDENTITIES)).unique(maintain_order=True).sort("id", "source_id")


def _last(latest: dict[str, str], old: str) -> str:
    """Follow redirects to their end; a circle ends where it began."""
    seen = {old}
    while (new := latest.get(old)) and new not in seen:
        seen.add(new)
        old = new
    return old
