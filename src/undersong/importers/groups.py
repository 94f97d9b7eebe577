"""A catalogue whose items are groups of tracks: albums, labels, playlists.

A group takes the place of an artist, so that everything after the import stays as it is: its E_C is
that of its best-known tracks (equation 1), its E_U comes from the plays of its tracks, and two
groups are related if tracks of theirs are. Its metadata are what its tracks say, or their artists.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from undersong.catalogue import (
    FIELD_TYPES,
    ITEMS,
    PLAYS,
    RELATIONS,
    Catalogue,
    Field,
    complete,
    read_catalogue,
)
from undersong.embeddings import Embeddings
from undersong.errors import DataError, nearest_known
from undersong.features import with_artist_fields
from undersong.importers.music.library import slug
from undersong.importers.result import IDENTITIES, Failures, Imported
from undersong.io.files import reading
from undersong.io.table_files import PolarsError, read_user_table

LEAST = 2  # tracks of a group
MEMBERS = dict.fromkeys(("track", "group", "name"), pl.String())


def groups(
    path: Path,
    failures: Failures,
    *,
    by: str = "album",
    members: Path | None = None,
    least: int = LEAST,
) -> Imported:
    """Make a catalogue of the groups of another one's tracks.

    A track that is in several groups is a track of each, with an id of its own there.

    Parameters
    ----------
    path : folder of a catalogue
    by : "album", for albums of one artist each, or a field of tracks
    members : table of group and track (ids), such as playlists; then ``by`` plays no part
    least : groups of fewer tracks are left out, and so are tracks without a group

    Raises
    ------
    DataError
        If the tracks have no such field, the table is none, or no group is that large.
    """
    catalogue = read_catalogue(path)
    field = None
    if members is None:
        field = _field(catalogue, by)
        within = _members_of(catalogue, field)
    else:
        within = _read_members(members, failures)
    strange = within.filter(~pl.col("track").is_in(catalogue.tracks["id"].implode()))
    for group, track in strange.select("group", "track").iter_rows():
        failures.add(str(members), None, f"no track: {track!r} of {group!r}", remedy="correct it")
    within = within.join(catalogue.tracks.select(track="id"), on="track", how="semi")
    within = within.unique(["track", "group"], maintain_order=True)
    large = within.filter(pl.len().over("group") >= least)
    several = pl.len().over("track") > 1
    large = large.with_columns(
        id=pl.when(several).then(pl.format("{}/{}", "group", "track")).otherwise("track")
    )
    what = "group" if members else by
    if large.is_empty():
        raise DataError(f"{path}: no {what} has {least} tracks or more; ask for fewer by --least")
    for track in catalogue.tracks.filter(~pl.col("id").is_in(large["track"].implode()))["id"]:
        reason = f"in no {what} of {least} tracks or more: {track}"
        failures.add("tracks.parquet", None, reason, remedy="ask for fewer by --least")
    fields = _fields(catalogue, field)
    grouped = Catalogue(
        artists=_items(with_artist_fields(catalogue), large, fields),
        tracks=_tracks(catalogue, large, field),
        plays=_plays(catalogue, large),
        relations=_relations(catalogue, large),
        fields=(*fields, *(x for x in catalogue.fields_of("track") if x != field)),
        features={
            (name, kind): _of(vectors, large)
            for (name, kind), vectors in catalogue.features.items()
            if kind == "track"
        },
        audio_root=catalogue.audio_root,
        origins=catalogue.origins,
    )
    note = f"{len(grouped.artists):,} groups by {what} stand in the place of artists"
    return Imported(grouped, pl.DataFrame(schema=IDENTITIES), (note,))


def _field(catalogue: Catalogue, by: str) -> Field:
    fields = [x for x in catalogue.fields_of("track") if x.type != "number"]
    field = next((x for x in fields if by in (x.name, x.role)), None)
    if field is None:
        raise DataError(
            f"tracks have no field {by!r} of words; {nearest_known(by, [x.name for x in fields])}"
        )
    return field


def _members_of(catalogue: Catalogue, field: Field) -> pl.DataFrame:
    """Return which track is in which group by a field: track, group (its id) and name."""
    table = catalogue.tracks.select("id", "artist", word=field.name)
    table = (table.explode("word") if field.type == "tags" else table).drop_nulls()
    whose = dict(zip(catalogue.ids("artist"), catalogue.names("artist"), strict=True))
    rows = [
        (track, f"{artist}/{slug(word)}", f"{whose.get(artist, artist)} - {word}")
        if field.role == "album"
        else (track, slug(word), word)
        for track, artist, word in table.iter_rows()
    ]
    return pl.DataFrame(rows, schema=MEMBERS, orient="row")


def _read_members(path: Path, failures: Failures) -> pl.DataFrame:
    """Read the same from a table with the columns group and track."""
    fault, hint = "cannot be read as a table of groups", "write it with the columns group and track"
    with reading(path, UnicodeDecodeError, PolarsError, fault=fault, hint=hint, error=DataError):
        table = read_user_table(path)
    if absent := [x for x in ("group", "track") if x not in table.columns]:
        raise DataError(f"{path} has no column {absent[0]!r}, only {', '.join(table.columns)}")
    words = table.select(pl.col("track", "group").cast(pl.String).str.strip_chars())
    known = words.filter(pl.col("track") != "", pl.col("group") != "")
    if len(known) < len(words):
        failures.add(path.name, None, "names no group or track", remedy="correct it")
    names = known["group"]
    return known.with_columns(
        pl.Series("group", [slug(x) for x in names], dtype=pl.String), name=names
    ).select(*MEMBERS)


def _fields(catalogue: Catalogue, field: Field | None) -> tuple[Field, ...]:
    """Return what is said of groups: the fields of tracks, and those that only artists have."""
    own = [x for x in catalogue.fields_of("track") if x != field]
    named = {x.name for x in own}
    roles = {x.role for x in own if x.role}
    theirs = [x for x in catalogue.fields_of("artist") if x.name not in named]
    theirs = [replace(x, role="" if x.role in roles else x.role) for x in theirs]
    return tuple(replace(x, kind="artist") for x in (*own, *theirs))


def _items(tracks: pl.DataFrame, members: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """Gather what tracks say of their groups: tags by how often, the commonest word, the median."""
    said = members.drop("id").join(tracks, left_on="track", right_on="id", maintain_order="left")
    table = members.group_by("group", maintain_order=True).agg(pl.col("name").first())
    for field in fields:
        known = said.select("group", field.name)
        if field.type == "number":
            value = known.group_by("group").agg(pl.col(field.name).median())
        else:
            words = known.explode(field.name) if field.type == "tags" else known
            counts = words.drop_nulls().group_by("group", field.name).len()
            ordered = counts.sort("len", field.name, descending=[True, False])
            several = ordered.group_by("group", maintain_order=True).agg(field.name)
            first = pl.col(field.name).list.first()
            value = several if field.type == "tags" else several.with_columns(first)
        table = table.join(value, on="group", how="left", maintain_order="left")
    columns = ITEMS["artist"] | {x.name: FIELD_TYPES[x.type] for x in fields}
    return complete(table.rename({"group": "id"}), columns)


def _tracks(catalogue: Catalogue, members: pl.DataFrame, field: Field | None) -> pl.DataFrame:
    """Return the tracks of the groups, each of which takes the place of the artist."""
    own = members.select("track", pl.col("id").alias("own"), "group")
    joined = own.join(catalogue.tracks, left_on="track", right_on="id", maintain_order="left")
    return joined.select(
        pl.col("own").alias("id"),
        pl.col("group").alias("artist"),
        *(x for x in catalogue.tracks.columns if x not in ("id", "artist", field and field.name)),
    ).with_columns(pl.lit(None, pl.String).alias("split"))


def _plays(catalogue: Catalogue, members: pl.DataFrame) -> pl.LazyFrame:
    """Add up how often each user plays the tracks of a group; those of tracks stay."""
    played = catalogue.played("track").join(
        members.lazy(), left_on="item", right_on="track", how="inner", maintain_order="left_right"
    )
    of_groups = played.group_by("user", "group", maintain_order=True).agg(pl.col("plays").sum())
    both = [
        of_groups.select("user", "plays", kind=pl.lit("artist"), item="group"),
        played.select("user", "plays", kind=pl.lit("track"), item="id"),
    ]
    return pl.concat(x.select(*PLAYS) for x in both)


def _relations(catalogue: Catalogue, members: pl.DataFrame) -> pl.DataFrame:
    """Relate groups with related tracks; relations of tracks that are in one group stay."""
    pairs = catalogue.pairs("track")
    for end in ("a", "b"):
        own = members.select(pl.col("track").alias(end), pl.col("group").alias(f"{end} group"))
        pairs = pairs.join(own, on=end, how="inner", maintain_order="left")
    both = pl.concat_list("a group", "b group").list.sort()
    groups = pairs.filter(pl.col("a group") != pl.col("b group")).select(
        kind=pl.lit("artist"), a=both.list.first(), b=both.list.last(), source="source"
    )
    alone = members.filter(pl.col("id") == pl.col("track"))["id"].implode()
    kept = catalogue.relations.filter(
        pl.col("kind") == "track", pl.col("a").is_in(alone), pl.col("b").is_in(alone)
    )
    return pl.concat([groups.unique(maintain_order=True), kept]).select(*RELATIONS)


def _of(vectors: Embeddings, members: pl.DataFrame) -> Embeddings:
    """Return the vectors of the tracks of groups, under their ids there."""
    known = [(item, own) for item, own in members.select("track", "id").iter_rows()
             if item in vectors.index]  # fmt: skip
    values = vectors.align(tuple(item for item, _ in known))[0]
    return Embeddings(tuple(own for _, own in known), values)
