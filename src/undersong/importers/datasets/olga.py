"""OLGA (17,673 artists, AllMusic's "similar to", official split) -> artists and relations.

Read from a folder or archive: artists.csv (index, partition, allmusic_id, name, musicbrainz_tags
as ``tag:votes|...``) and relations.csv (a, b). Columns are known by their names, and a column
``mbid`` is taken as well. The set has no licence that allows to pass it on; its similarities are
AllMusic's.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from undersong.catalogue import ITEMS, RELATIONS, Catalogue, Field, Origin
from undersong.errors import DataError, nearest_known
from undersong.importers.archives import TABLE_REMEDY, Member, members, separated
from undersong.importers.result import IDENTITIES, Failures, Imported

ORIGIN = Origin("OLGA", "no licence stated; similarities of AllMusic", "artists, relations")
WANTED = r"(^|/)(artists|relations)\.csv$"
SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
SOURCES = {"allmusic_id": "allmusic", "mbid": "musicbrainz", "musicbrainz_id": "musicbrainz"}
VOTES = re.compile(r"(.+?)(?::(\d{1,15}))?")
Rows = list[tuple[int, dict[str, str]]]


def read(path: Path, failures: Failures) -> Imported:
    """Read the two tables."""
    rows: dict[str, Rows] = {}
    for member in members(path, WANTED, alone=False):
        name = Path(member.name).stem
        needed = ("index",) if name == "artists" else ("a", "b")
        rows[name] = list(_named(member, failures, needed))
    lacking = sorted({"artists", "relations"} - set(rows))
    if lacking:
        raise DataError(f"{path} lacks {lacking[0]}.csv; give the folder of OLGA")
    artists = _artists(rows["artists"])
    catalogue = Catalogue(
        artists=artists,
        relations=_relations(rows["relations"], set(artists["id"]), failures),
        fields=(Field("musicbrainz_tags", "artist", "tags", "genre"),),
        origins=(ORIGIN,),
    )
    known = [
        ("artist", row["index"], source, row[column])
        for _, row in rows["artists"]
        for column, source in SOURCES.items()
        if row.get(column)
    ]
    return Imported(catalogue, pl.DataFrame(known, schema=IDENTITIES, orient="row"))


def _named(
    member: Member, failures: Failures, needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    first = member.stream.readline(1 << 16).decode("utf-8-sig", "replace").strip().split(",")
    for name in needed:
        if name not in first:
            raise DataError(f"{member.name} has no column {name!r}; {nearest_known(name, first)}")
    for number, values in separated(member, failures, mark=",", width=len(first), before=1):
        yield number, dict(zip(first, values, strict=True))


def _artists(rows: Rows) -> pl.DataFrame:
    schema = ITEMS["artist"] | {"musicbrainz_tags": pl.List(pl.String())}
    made = [
        (
            row["index"],
            row.get("name") or None,
            SPLITS.get(row.get("partition", "")),
            _tags(row.get("musicbrainz_tags", "")),
        )
        for _, row in rows
        if row["index"]
    ]
    table = pl.DataFrame(made, schema=schema, orient="row")
    return table.unique("id", keep="first", maintain_order=True)


def _tags(text: str) -> list[str] | None:
    tags = [match.groups() for x in text.split("|") if (match := VOTES.fullmatch(x.strip()))]
    ordered = sorted(tags, key=lambda x: -int(x[1] or 0))
    return list(dict.fromkeys(word for word, _ in ordered)) or None


def _relations(rows: Rows, known: set[str], failures: Failures) -> pl.DataFrame:
    pairs: dict[tuple[str, str, str, str], None] = {}
    for number, row in rows:
        a, b = sorted((row["a"], row["b"]))
        if a != b and {a, b} <= known:
            pairs["artist", a, b, "allmusic"] = None
        else:
            reason = f"{a!r} and {b!r} are no two artists of the table"
            failures.add("relations.csv", number, reason, remedy=TABLE_REMEDY)
    return pl.DataFrame(list(pairs), schema=RELATIONS, orient="row")
