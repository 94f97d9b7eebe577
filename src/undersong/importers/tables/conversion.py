"""A user's CSV and Parquet files -> catalogue, as a mapping file says which column is what."""

from collections.abc import Mapping as Lookup
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from undersong.catalogue import (
    ITEMS,
    PLAYS,
    RELATIONS,
    ROW,
    Catalogue,
    Issues,
    Kind,
    id_faults,
    path_faults,
    play_faults,
    refuse,
    relation_faults,
    split_faults,
    vector_faults,
    whole,
    width_faults,
)
from undersong.embeddings import Embeddings
from undersong.errors import nearest_known
from undersong.importers.tables import spreadsheets
from undersong.importers.tables.columns import (
    Column,
    Items,
    Read,
    Reading,
    TableSummary,
    members,
    read_rows,
    row_free,
    with_artists_of,
    with_columns,
    with_rows,
)
from undersong.importers.tables.mapping import (
    ArtistsMapping,
    FeaturesMapping,
    Mapping,
    PlaysMapping,
    RelationsMapping,
    TracksMapping,
    read_mapping,
)
from undersong.importers.tables.matrices import read_matrix

FeatureKey = tuple[str, Kind]


@dataclass(frozen=True)
class ImportSummary:
    """What became of every file of a mapping."""

    tables: tuple[TableSummary, ...]


@dataclass(frozen=True)
class _Collected:
    """Every table that could be read, and every fault."""

    items: Items
    plays: Sequence[Reading]
    relations: Sequence[Reading]
    features: Lookup[FeatureKey, Reading]
    findings: Sequence[Issues]


def import_tables(
    mapping_path: Path, *, data: Path | None = None
) -> tuple[Catalogue, ImportSummary]:
    """Make a catalogue of the files that a mapping file names.

    Parameters
    ----------
    mapping_path : TOML file (docs/catalogue.md)
    data : folder at which the paths in the mapping begin; by default the mapping's own

    Raises
    ------
    SettingsError
        If the mapping is wrong.
    DataError
        If the files have any fault, with the first few of them; ``check_tables`` lists all.
    """
    mapping = read_mapping(mapping_path, data=data)
    found = _collect(mapping)
    refuse(found.findings, remedy=f"`undersong check {mapping_path}` lists them")
    readings = [*found.items.values(), *found.plays, *found.relations, *found.features.values()]
    return _catalogue(mapping, found), ImportSummary(tuple(x.summary for x in readings))


def check_tables(mapping_path: Path, *, data: Path | None = None) -> tuple[Issues, ...]:
    """List every fault of the files that a mapping file names.

    Raises
    ------
    SettingsError
        If the mapping is wrong.
    """
    return tuple(_collect(read_mapping(mapping_path, data=data)).findings)


def text(summary: ImportSummary) -> str:
    """Say for the terminal what became of each file."""
    lines = []
    for x in summary.tables:
        lines.append(f"{x.table:<24} {x.kept:>11,} of {x.rows:>11,} rows of {x.file}")
        lines += [f"{'':<24} {-count:>11,} {reason}" for reason, count in x.left_out]
    return "\n".join(lines)


def _collect(mapping: Mapping) -> _Collected:
    """Read every table as far as it can be read, and gather the faults."""
    items: dict[Kind, Reading] = {}
    artists, findings = _artists(mapping.data, mapping.artists)
    if artists is None:
        return _Collected({}, (), (), {}, findings)
    items["artist"] = artists
    if mapping.tracks:
        tracks, found = _tracks(mapping.data, mapping.tracks, items)
        findings = findings + found
        if tracks is not None:
            items["track"] = tracks
    plays = [_plays(mapping.data, x, items) for x in mapping.plays]
    relations = [_relations(mapping.data, x, items) for x in mapping.relations]
    features: dict[FeatureKey, Reading] = {}
    for table in mapping.features:
        reading, found = _features(mapping.data, table, items)
        findings = findings + found
        if reading is not None:
            features[table.name, cast(Kind, table.kind)] = reading
    for _, found in (*plays, *relations):
        findings = findings + found
    widths = {key: _width(reading) for key, reading in features.items()}
    return _Collected(
        items=items,
        plays=[x for x, _ in plays if x],
        relations=[x for x, _ in relations if x],
        features=features,
        findings=findings + width_faults(widths, file=mapping.path.name),
    )


def _catalogue(mapping: Mapping, found: _Collected) -> Catalogue:
    """Join what was read without a fault."""
    tables: list[tuple[Kind, ArtistsMapping | TracksMapping]] = [("artist", mapping.artists)]
    if mapping.tracks:
        tables.append(("track", mapping.tracks))
    empty = pl.DataFrame(schema=ITEMS["track"])
    plays = pl.concat([pl.DataFrame(schema=PLAYS), *(row_free(x) for x in found.plays)])
    relations = pl.concat([pl.DataFrame(schema=RELATIONS), *(row_free(x) for x in found.relations)])
    root = mapping.data / mapping.tracks.audio_root if mapping.tracks else None
    catalogue = Catalogue(
        artists=row_free(found.items["artist"]),
        tracks=row_free(found.items["track"]) if "track" in found.items else empty,
        plays=plays.group_by("kind", "user", "item", maintain_order=True)
        .agg(pl.col("plays").sum())
        .lazy(),
        relations=relations.unique(maintain_order=True),
        fields=tuple(x.field(name, kind) for kind, table in tables for name, x in table.fields),
        features={key: _embeddings(reading) for key, reading in found.features.items()},
        audio_root=root.resolve() if root else None,
        origins=mapping.origins,
    )
    wanted = mapping.tracks is not None and mapping.tracks.artist_fields
    return with_artist_fields(catalogue) if wanted else catalogue


def _artists(data: Path, table: ArtistsMapping) -> Read:
    columns = {"name": table.name, "split": table.split}
    reading, findings = _items(data, table, columns, "artist")
    if reading is None:
        return None, findings
    findings = findings + id_faults(reading.sheet) + split_faults(reading.sheet)
    return reading, findings + reading.nothing_left()


def _tracks(data: Path, table: TracksMapping, items: dict[Kind, Reading]) -> Read:
    """Read the tracks; with ``unknown = "add"`` their artists join the artists in ``items``."""
    columns = {
        "artist": table.artist,
        "title": table.title,
        "path": table.path,
        "popularity": table.popularity,
        "split": table.split,
    }
    reading, findings = _items(data, table, columns, "track")
    if reading is None:
        return None, findings
    if table.unknown == "add":
        items["artist"] = with_artists_of(items["artist"], reading)
    reading, found = members(reading, "artist", items, kind="artist", unknown=table.unknown)
    findings = findings + found + id_faults(reading.sheet)
    findings += split_faults(reading.sheet)
    findings += path_faults(reading.sheet, data / table.audio_root)
    return reading, findings + reading.nothing_left()


def _items(
    data: Path, table: ArtistsMapping | TracksMapping, given: dict[str, str], kind: Kind
) -> Read:
    """Read items with their fields; a column that is not given is null."""
    types = {"artist": "id", "popularity": "number"}
    columns = {"id": Column(table.id, "id")} | {
        new: Column(name, types.get(new, "category")) for new, name in given.items() if name
    }
    columns |= {
        name: Column(field.column, field.type, field.separator, field.votes)
        for name, field in table.fields
    }
    reading, findings = read_rows(data, table, columns, title=f"{kind}s")
    if reading is None:
        return None, findings
    absent = [
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in ITEMS[kind].items()
        if name not in columns
    ]
    reading = with_columns(reading, absent)
    reading = with_columns(reading, [pl.col("split").replace(dict(table.split_values))])
    order = [*ITEMS[kind], *(name for name, _ in table.fields)]
    return with_rows(reading, reading.sheet.rows.select(ROW, *order)), findings


def _plays(data: Path, table: PlaysMapping, items: Items) -> Read:
    kind = cast(Kind, table.kind)
    columns = {"user": Column(table.user, "id"), "item": Column(table.item, "id")}
    if table.plays:
        columns["plays"] = Column(table.plays, "number")
    reading, findings = read_rows(data, table, columns, title=f"plays of {kind}s")
    if reading is None:
        return None, findings
    reading, found = members(reading, "item", items, kind=kind, unknown=table.unknown)
    if not table.plays:
        reading = with_columns(reading, [pl.lit(1.0).alias("plays")])
    reading = with_columns(reading, [pl.lit(kind).alias("kind")])
    findings = findings + found + play_faults(reading.sheet)
    reading = reading.only((pl.col("plays") != 0).fill_null(value=True), "without a play")
    reading = with_rows(reading, reading.sheet.rows.select(ROW, *PLAYS))
    return reading, findings + reading.nothing_left()


def _relations(data: Path, table: RelationsMapping, items: Items) -> Read:
    kind = cast(Kind, table.kind)
    columns = {"a": Column(table.a, "id"), "b": Column(table.b, "id")}
    if table.source_column:
        columns["source"] = Column(table.source_column)
    reading, findings = read_rows(data, table, columns, title=f"relations of {kind}s")
    if reading is None:
        return None, findings
    if not table.source_column:
        reading = with_columns(reading, [pl.lit(table.source).alias("source")])
    if table.sources:
        there = reading.sheet.rows["source"].drop_nulls().unique().sort().to_list()
        for name in table.sources:
            if name not in there:
                what = f"has no source {name!r} in column {table.source_column!r}"
                remedy = f"correct `sources` in the mapping; {nearest_known(name, there[:20])}"
                findings = findings + whole(table.file, what, sort="unknown source", remedy=remedy)
        reading = reading.only(pl.col("source").is_in(list(table.sources)), "from other sources")
    for end in ("a", "b"):
        reading, found = members(reading, end, items, kind=kind, unknown=table.unknown)
        findings = findings + found
    findings = findings + relation_faults(reading.sheet)
    rows = reading.sheet.rows.select(
        ROW,
        pl.lit(kind).alias("kind"),
        pl.min_horizontal("a", "b").alias("a"),
        pl.max_horizontal("a", "b").alias("b"),
        "source",
    ).unique(["a", "b", "source"], maintain_order=True)
    reading = with_rows(reading, rows, reason="given twice, or both ways")
    return reading, findings + reading.nothing_left()


def _features(data: Path, table: FeaturesMapping, items: Items) -> Read:
    """Read vectors; a row without all of its values is left out, for none is ours to invent."""
    kind = cast(Kind, table.kind)
    title = f"{table.name} of {kind}s"
    if table.ids:
        return _given_vectors(read_matrix(data, table, title=title), table, items)
    names = list(table.columns)
    if table.prefix:
        there, findings = spreadsheets.header(
            data / table.file, file=table.file, delimiter=table.delimiter
        )
        names = [x for x in there if x.startswith(table.prefix)]
        if not names and not findings:
            remedy = f"correct `prefix`; {nearest_known(table.prefix, there)}"
            what = f"has no column that begins with {table.prefix!r}"
            findings = whole(table.file, what, sort="missing column", remedy=remedy)
        if findings:
            return None, findings
    columns = {"id": Column(table.id, "id")} | {x: Column(x, "number") for x in names}
    if table.vector:
        columns["vector"] = Column(table.vector, "vector")
    reading, findings = read_rows(data, table, columns, title=title)
    if reading is None:
        return None, findings
    if names:
        reading = with_columns(
            reading,
            [
                pl.concat_list(names)
                .list.to_array(len(names))
                .cast(pl.Array(pl.Float32, len(names)))
                .alias("vector")
            ],
        )
    return _given_vectors((reading, findings), table, items)


def _given_vectors(read: Read, table: FeaturesMapping, items: Items) -> Read:
    """Keep the whole vectors of known items, and list what is wrong with the others."""
    reading, findings = read
    if reading is None:
        return None, findings
    reading, found = members(
        reading, "id", items, kind=cast(Kind, table.kind), unknown=table.unknown
    )
    findings = findings + found + id_faults(reading.sheet)
    given = pl.col("vector").arr.to_list().list.eval(pl.element().is_not_nan())
    whole_vector = given.list.all() & (given.list.len() == given.list.drop_nulls().list.len())
    reading = with_rows(reading, reading.sheet.rows.select(ROW, "id", "vector"))
    reading = reading.only(whole_vector.fill_null(value=False), "with a value missing")
    findings = findings + vector_faults(reading.sheet)
    return reading, findings + reading.nothing_left()


def _width(reading: Reading) -> int:
    dtype = reading.sheet.rows.schema["vector"]
    return dtype.shape[0] if isinstance(dtype, pl.Array) else 0


def _embeddings(reading: Reading) -> Embeddings:
    rows = reading.sheet.rows
    return Embeddings(tuple(rows["id"]), np.ascontiguousarray(rows["vector"].to_numpy()))


def with_artist_fields(catalogue: Catalogue) -> Catalogue:
    """Give each track the fields of its artist, as fields of the track.

    A field that tracks have under the same name stays theirs. A role that a field of the tracks
    holds is not given away a second time: the artist's field comes without its role. A withheld
    field stays withheld.
    """
    own = {x.name for x in catalogue.fields_of("track")} | set(catalogue.tracks.columns)
    roles = {x.role for x in catalogue.fields_of("track")}
    taken = [x for x in catalogue.fields_of("artist") if x.name not in own]
    columns = [pl.col("id").alias("artist"), *(x.name for x in taken)]
    tracks = catalogue.tracks.join(
        catalogue.artists.select(columns), on="artist", how="left", maintain_order="left"
    )
    inherited = [replace(x, kind="track", role="" if x.role in roles else x.role) for x in taken]
    return replace(catalogue, tracks=tracks, fields=(*catalogue.fields, *inherited))
