"""A catalogue whose items are groups of tracks: albums, labels, or what else a field names.

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

LEAST = 2  # tracks of a group


def groups(path: Path, failures: Failures, *, by: str = "album", least: int = LEAST) -> Imported:
    """Make a catalogue of the groups of another one's tracks.

    Parameters
    ----------
    path : folder of a catalogue
    by : "album", for albums of one artist each, or a field of tracks; of tags the main one counts
    least : groups of fewer tracks are left out, and so are tracks without a group

    Raises
    ------
    DataError
        If the tracks have no such field, or no group is that large.
    """
    catalogue = read_catalogue(path)
    field = _field(catalogue, by)
    members = _members(catalogue, field)
    large = members.filter(pl.len().over("group") >= least)
    if large.is_empty():
        raise DataError(f"{path}: no {by} has {least} tracks or more; ask for fewer with --least")
    for track in catalogue.tracks.filter(~pl.col("id").is_in(large["track"].implode()))["id"]:
        reason = f"{track}: in no {by} of {least} tracks or more"
        failures.add("tracks.parquet", None, reason, remedy="ask for fewer with --least")
    tracks = _tracks(catalogue, large, field)
    names = large.group_by("group", maintain_order=True).agg(pl.col("name").first())
    fields = _fields(catalogue, field)
    grouped = Catalogue(
        artists=_items(with_artist_fields(catalogue), large, names, fields),
        tracks=tracks,
        plays=_plays(catalogue, large),
        relations=_relations(catalogue, large),
        fields=(*fields, *(x for x in catalogue.fields_of("track") if x != field)),
        features={
            (name, kind): _of(vectors, tracks["id"])
            for (name, kind), vectors in catalogue.features.items()
            if kind == "track"
        },
        audio_root=catalogue.audio_root,
        origins=catalogue.origins,
    )
    note = f"{len(grouped.artists):,} groups by {by} stand in the place of artists"
    return Imported(grouped, pl.DataFrame(schema=IDENTITIES), (note,))


def _field(catalogue: Catalogue, by: str) -> Field:
    fields = [x for x in catalogue.fields_of("track") if x.type != "number"]
    field = next((x for x in fields if by in (x.name, x.role)), None)
    if field is None:
        raise DataError(
            f"tracks have no field {by!r} of words; {nearest_known(by, [x.name for x in fields])}"
        )
    return field


def _members(catalogue: Catalogue, field: Field) -> pl.DataFrame:
    """Return which track is in which group: track, group (its id) and name."""
    word = pl.col(field.name).list.first() if field.type == "tags" else pl.col(field.name)
    table = catalogue.tracks.select(pl.col("id").alias("track"), "artist", word=word).drop_nulls()
    whose = dict(zip(catalogue.ids("artist"), catalogue.names("artist"), strict=True))
    rows = [
        (track, f"{artist}/{slug(word)}", f"{whose.get(artist, artist)} - {word}")
        if field.role == "album"
        else (track, slug(word), word)
        for track, artist, word in table.iter_rows()
    ]
    return pl.DataFrame(rows, schema=["track", "group", "name"], orient="row")


def _fields(catalogue: Catalogue, field: Field) -> tuple[Field, ...]:
    """Return what is said of groups: the fields of tracks, and those that only artists have."""
    own = [x for x in catalogue.fields_of("track") if x != field]
    named = {x.name for x in own}
    roles = {x.role for x in own if x.role}
    theirs = [x for x in catalogue.fields_of("artist") if x.name not in named]
    theirs = [replace(x, role="" if x.role in roles else x.role) for x in theirs]
    return tuple(replace(x, kind="artist") for x in (*own, *theirs))


def _items(
    tracks: pl.DataFrame, members: pl.DataFrame, names: pl.DataFrame, fields: Sequence[Field]
) -> pl.DataFrame:
    """Gather what tracks say of their groups: tags by how often, the commonest word, the median."""
    said = members.join(tracks, left_on="track", right_on="id", maintain_order="left")
    table = names.rename({"group": "id"})
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
        table = table.join(
            value.rename({"group": "id"}), on="id", how="left", maintain_order="left"
        )
    columns = ITEMS["artist"] | {x.name: FIELD_TYPES[x.type] for x in fields}
    return complete(table, columns)


def _tracks(catalogue: Catalogue, members: pl.DataFrame, field: Field) -> pl.DataFrame:
    """Return the tracks that are in a group, which takes the place of their artist."""
    groups = members.select(pl.col("track").alias("id"), "group")
    joined = catalogue.tracks.join(groups, on="id", maintain_order="left")
    split = pl.lit(None, pl.String).alias("split")
    return joined.with_columns(pl.col("group").alias("artist"), split).drop("group", field.name)


def _plays(catalogue: Catalogue, members: pl.DataFrame) -> pl.LazyFrame:
    """Add up how often each user plays the tracks of a group; those of tracks stay."""
    of_tracks = catalogue.played("track").join(
        members.lazy(), left_on="item", right_on="track", how="inner"
    )
    groups = of_tracks.group_by("user", "group", maintain_order=True).agg(pl.col("plays").sum())
    tables = [
        groups.select(
            pl.lit("artist").alias("kind"), "user", pl.col("group").alias("item"), "plays"
        ),
        of_tracks.select(pl.lit("track").alias("kind"), "user", "item", "plays"),
    ]
    return pl.concat(tables).select(*PLAYS)


def _relations(catalogue: Catalogue, members: pl.DataFrame) -> pl.DataFrame:
    """Relate groups with related tracks; relations of tracks stay."""
    groups = dict(members.select("track", "group").iter_rows())
    pairs = {("artist", *sorted((groups[a], groups[b])), source): None
             for a, b, source in catalogue.pairs("track").iter_rows()
             if a in groups and b in groups and groups[a] != groups[b]}  # fmt: skip
    of_groups = pl.DataFrame(list(pairs), schema=RELATIONS, orient="row")
    kept = pl.col("a").is_in(list(groups)) & pl.col("b").is_in(list(groups))
    return pl.concat([of_groups, catalogue.relations.filter((pl.col("kind") == "track") & kept)])


def _of(vectors: Embeddings, ids: pl.Series) -> Embeddings:
    """Return the vectors of some items."""
    known = tuple(x for x in ids if x in vectors.index)
    return Embeddings(known, vectors.align(known)[0])
