"""A user's CSV and Parquet files -> catalogue, as a mapping file says which column is what."""

from collections.abc import Mapping as Lookup, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from undersong.catalogue import (
    ITEMS,
    KINDS,
    PLAYS,
    RELATIONS,
    ROW,
    Catalogue,
    Issues,
    Kind,
    Sheet,
    add_features,
    id_faults,
    path_faults,
    play_faults,
    read_catalogue,
    refuse,
    relation_faults,
    split_faults,
    vector_faults,
    whole,
    width_faults,
)
from undersong.embeddings import Embeddings
from undersong.errors import DataError, nearest_known
from undersong.importers.music import credits
from undersong.importers.tables import spreadsheets
from undersong.importers.tables.columns import (
    Column,
    Items,
    Reading,
    TableSummary,
    members,
    read_matrix,
    read_rows,
    with_artists_of,
)
from undersong.importers.tables.mapping import (
    ARRAYS,
    ArtistsMapping,
    FeaturesMapping,
    Mapping,
    PlaysMapping,
    RelationsMapping,
    TracksMapping,
    read_mapping,
)
from undersong.io.display import text_of
from undersong.settings import build

FeatureKey = tuple[str, Kind]


@dataclass(frozen=True)
class ImportSummary:
    """What became of every file of a mapping, and a line about artists who are nobody."""

    tables: tuple[TableSummary, ...]
    nobody: str = ""


@dataclass(frozen=True)
class _Tables:
    """Every table that can be read, and every fault."""

    items: Items
    plays: Sequence[Reading]
    relations: Sequence[Reading]
    features: Lookup[FeatureKey, Reading]
    issues: Sequence[Issues]


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
    tables = _read_tables(mapping)
    refuse(tables.issues, remedy=f"`undersong check {mapping_path}` lists them")
    readings = [*tables.items.values(), *tables.plays, *tables.relations, *tables.features.values()]
    made = _catalogue(mapping, tables)
    return made, ImportSummary(tuple(x.summary for x in readings), credits.nobodies_note(made))


def check_tables(mapping_path: Path, *, data: Path | None = None) -> tuple[Issues, ...]:
    """List every fault of the files that a mapping file names.

    Raises
    ------
    SettingsError
        If the mapping is wrong.
    """
    return tuple(_read_tables(read_mapping(mapping_path, data=data)).issues)


def text(summary: ImportSummary) -> str:
    """Describe for the terminal what became of each file."""
    lines = []
    for x in summary.tables:
        lines.append(f"{x.table:<24} {x.kept:>11,} of {x.rows:>11,} rows of {x.file}")
        lines += [f"{'':<24} {-count:>11,} {reason}" for reason, count in x.left_out]
    return text_of(filter(None, [*lines, summary.nobody]))


def import_features(folder: Path, file: Path, *, ids: Path, name: str = "") -> str:
    """Add an array of features to a written catalogue; return a line about it.

    Parameters
    ----------
    file : .npy, .npz or .safetensors, a row of numbers for each id
    ids : of tracks or of artists, in the order of the rows: a .txt of one id a line, or a table
    name : of the features; by default the file's. Those of that name are replaced

    Raises
    ------
    DataError
        If there is any fault, with the first; the catalogue stays as it is.
    ArtifactError
        If ``folder`` is no catalogue, or is damaged.
    """
    if file.suffix not in ARRAYS:
        raise DataError(f"{file} is no array file; give one of {', '.join(ARRAYS)}")
    keys = {"file": str(file), "name": name or file.stem, "ids": str(ids)}
    table = cast(FeaturesMapping, build(FeaturesMapping, keys, "--name"))
    catalogue, issues = read_catalogue(folder), list[Issues]()
    matrix = cast(Reading, read_matrix(Path(), table, issues, title=table.name))
    _refuse_first(issues)
    of_kind = {x: matrix.sheet.rows["id"].is_in(catalogue.ids(x)).sum() for x in KINDS}
    table = replace(table, kind=max(KINDS, key=lambda kind: of_kind[kind]))
    known = catalogue.items(table.kind)["id"]
    items = Reading(Sheet("", known.to_frame()), known, TableSummary("", "", 0, 0))
    reading = _whole_vectors(matrix, table, {table.kind: items}, issues)
    _refuse_first(issues)
    features = _embeddings(reading)
    n, width = features.vectors.shape
    widths = {key: x.vectors.shape[1] for key, x in catalogue.features.items()}
    widths[table.name, table.kind] = width
    _refuse_first(width_faults(widths, file=str(file)))
    add_features(folder, table.name, table.kind, features)
    return f"features {table.name!r}: {width} numbers for {n:,} of {len(known):,} {table.kind}s"


def _refuse_first(issues: Sequence[Issues]) -> None:
    """Refuse data with any fault by the first alone."""
    refuse([replace(x, count=1) for x in issues[:1]], remedy="")


def _read_tables(mapping: Mapping) -> _Tables:
    data, issues = mapping.data, list[Issues]()
    artists = _artists(data, mapping.artists, issues)
    if artists is None:
        return _Tables({}, (), (), {}, issues)
    items: dict[Kind, Reading] = {"artist": artists}
    tracks = _tracks(data, mapping.tracks, items, issues) if mapping.tracks else None
    if tracks is not None:
        items["track"] = tracks
    plays = [_plays(data, x, items, issues) for x in mapping.plays]
    relations = [_relations(data, x, items, issues) for x in mapping.relations]
    features: dict[FeatureKey, Reading] = {}
    for table in mapping.features:
        reading = _features(data, table, items, issues)
        if reading is not None:
            features[table.name, table.kind] = reading
    dtypes = {key: reading.sheet.rows.schema["vector"] for key, reading in features.items()}
    widths = {key: x.shape[0] if isinstance(x, pl.Array) else 0 for key, x in dtypes.items()}
    issues += width_faults(widths, file=mapping.path.name)
    return _Tables(items, [x for x in plays if x], [x for x in relations if x], features, issues)


def _catalogue(mapping: Mapping, tables: _Tables) -> Catalogue:
    rows = {kind: reading.catalogue_rows() for kind, reading in tables.items.items()}
    plays = [pl.DataFrame(schema=PLAYS), *(x.catalogue_rows() for x in tables.plays)]
    relations = [pl.DataFrame(schema=RELATIONS), *(x.catalogue_rows() for x in tables.relations)]
    sheets = (("artist", mapping.artists), ("track", mapping.tracks))
    catalogue = Catalogue(
        artists=rows["artist"],
        tracks=rows.get("track", pl.DataFrame(schema=ITEMS["track"])),
        plays=pl.concat(plays)
        .group_by("kind", "user", "item", maintain_order=True)
        .agg(pl.col("plays").sum())
        .lazy(),
        relations=pl.concat(relations).unique(maintain_order=True),
        fields=tuple(
            x.field(name, cast(Kind, kind))
            for kind, table in sheets
            if table
            for name, x in table.fields
        ),
        features={key: _embeddings(reading) for key, reading in tables.features.items()},
        audio_root=(mapping.data / mapping.tracks.audio_root).resolve() if mapping.tracks else None,
        origins=mapping.origins,
    )
    inherit = mapping.tracks is not None and mapping.tracks.artist_fields
    return with_artist_fields(catalogue) if inherit else catalogue


def _artists(data: Path, table: ArtistsMapping, issues: list[Issues]) -> Reading | None:
    reading = _items(data, table, {"name": table.name, "split": table.split}, "artist", issues)
    if reading is not None:
        issues += id_faults(reading.sheet) + split_faults(reading.sheet) + reading.nothing_left()
    return reading


def _tracks(
    data: Path, table: TracksMapping, items: dict[Kind, Reading], issues: list[Issues]
) -> Reading | None:
    """Read the tracks; with ``unknown = "add"`` their artists join the artists in ``items``."""
    names = ("artist", "title", "path", "popularity", "split")
    reading = _items(data, table, {x: getattr(table, x) for x in names}, "track", issues)
    if reading is None:
        return None
    if table.unknown == "add":
        items["artist"] = with_artists_of(items["artist"], reading)
    reading = members(reading, "artist", items, issues, kind="artist", unknown=table.unknown)
    issues += id_faults(reading.sheet) + split_faults(reading.sheet)
    issues += path_faults(reading.sheet, data / table.audio_root) + reading.nothing_left()
    return reading


def _items(
    data: Path,
    table: ArtistsMapping | TracksMapping,
    names: dict[str, str],
    kind: Kind,
    issues: list[Issues],
) -> Reading | None:
    """Read items with their fields; a column without a name in the file is null."""
    types = {"artist": "id", "popularity": "number"}
    columns = {"id": Column(table.id, "id")} | {
        new: Column(name, types.get(new, "category")) for new, name in names.items() if name
    }
    columns |= {
        name: Column(field.column, field.type, field.separator, field.votes)
        for name, field in table.fields
    }
    reading = read_rows(data, table, columns, issues, title=f"{kind}s")
    if reading is None:
        return None
    absent = [
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in ITEMS[kind].items()
        if name not in columns
    ]
    reading = reading.with_columns(*absent)
    reading = reading.with_columns(pl.col("split").replace(dict(table.split_values)))
    order = [*ITEMS[kind], *(name for name, _ in table.fields)]
    return reading.with_rows(reading.sheet.rows.select(ROW, *order))


def _plays(data: Path, table: PlaysMapping, items: Items, issues: list[Issues]) -> Reading | None:
    columns = {"user": Column(table.user, "id"), "item": Column(table.item, "id")}
    if table.plays:
        columns["plays"] = Column(table.plays, "number")
    reading = read_rows(data, table, columns, issues, title=f"plays of {table.kind}s")
    if reading is None:
        return None
    reading = members(reading, "item", items, issues, kind=table.kind, unknown=table.unknown)
    if not table.plays:
        reading = reading.with_columns(pl.lit(1.0).alias("plays"))
    reading = reading.with_columns(pl.lit(table.kind).alias("kind"))
    issues += play_faults(reading.sheet)
    reading = reading.only((pl.col("plays") != 0).fill_null(value=True), "without a play")
    reading = reading.with_rows(reading.sheet.rows.select(ROW, *PLAYS))
    issues += reading.nothing_left()
    return reading


def _relations(
    data: Path, table: RelationsMapping, items: Items, issues: list[Issues]
) -> Reading | None:
    columns = {"a": Column(table.a, "id"), "b": Column(table.b, "id")}
    if table.source_column:
        columns["source"] = Column(table.source_column)
    reading = read_rows(data, table, columns, issues, title=f"relations of {table.kind}s")
    if reading is None:
        return None
    if not table.source_column:
        reading = reading.with_columns(pl.lit(table.source).alias("source"))
    if table.sources:
        there = reading.sheet.rows["source"].drop_nulls().unique().sort().to_list()
        for name in table.sources:
            if name not in there:
                what = f"has no source {name!r} in column {table.source_column!r}"
                remedy = f"correct `sources` in the mapping; {nearest_known(name, there[:20])}"
                issues += whole(table.file, what, sort="unknown source", remedy=remedy)
        reading = reading.only(pl.col("source").is_in(list(table.sources)), "from other sources")
    for end in ("a", "b"):
        reading = members(reading, end, items, issues, kind=table.kind, unknown=table.unknown)
    issues += relation_faults(reading.sheet)
    rows = reading.sheet.rows.select(
        ROW,
        pl.lit(table.kind).alias("kind"),
        pl.min_horizontal("a", "b").alias("a"),
        pl.max_horizontal("a", "b").alias("b"),
        "source",
    ).unique(["a", "b", "source"], maintain_order=True)
    reading = reading.with_rows(rows, reason="given twice, or both ways")
    issues += reading.nothing_left()
    return reading


def _features(
    data: Path, table: FeaturesMapping, items: Items, issues: list[Issues]
) -> Reading | None:
    """Read the whole vectors of known items; a row that lacks a value is left out."""
    title = f"{table.name} of {table.kind}s"
    if table.ids:
        reading = read_matrix(data, table, issues, title=title)
    else:
        reading = _feature_columns(data, table, issues, title=title)
    return reading and _whole_vectors(reading, table, items, issues)


def _whole_vectors(
    reading: Reading, table: FeaturesMapping, items: Items, issues: list[Issues]
) -> Reading:
    reading = members(reading, "id", items, issues, kind=table.kind, unknown=table.unknown)
    issues += id_faults(reading.sheet)
    known = pl.col("vector").arr.to_list().list.eval(pl.element().is_not_nan())
    complete = known.list.all() & (known.list.len() == known.list.drop_nulls().list.len())
    reading = reading.with_rows(reading.sheet.rows.select(ROW, "id", "vector"))
    reading = reading.only(complete.fill_null(value=False), "with a value missing")
    issues += vector_faults(reading.sheet) + reading.nothing_left()
    return reading


def _feature_columns(
    data: Path, table: FeaturesMapping, issues: list[Issues], *, title: str
) -> Reading | None:
    names = list(table.columns)
    if table.prefix:
        there, faults = spreadsheets.header(
            data / table.file, file=table.file, delimiter=table.delimiter
        )
        names = [x for x in there if x.startswith(table.prefix)]
        if not names and not faults:
            remedy = f"correct `prefix`; {nearest_known(table.prefix, there)}"
            what = f"has no column that begins with {table.prefix!r}"
            faults = whole(table.file, what, sort="missing column", remedy=remedy)
        if faults:
            issues += faults
            return None
    columns = {"id": Column(table.id, "id")} | {x: Column(x, "number") for x in names}
    if table.vector:
        columns["vector"] = Column(table.vector, "vector")
    reading = read_rows(data, table, columns, issues, title=title)
    if reading is None or not names:
        return reading
    array = pl.concat_list(names).list.to_array(len(names))
    return reading.with_columns(array.cast(pl.Array(pl.Float32, len(names))).alias("vector"))


def _embeddings(reading: Reading) -> Embeddings:
    rows = reading.sheet.rows
    return Embeddings(tuple(rows["id"]), np.ascontiguousarray(rows["vector"].to_numpy()))


def with_artist_fields(catalogue: Catalogue) -> Catalogue:
    """Copy the fields of each artist to its tracks, as fields of the track.

    A field that tracks have under the same name stays theirs. A role that a field of the tracks
    holds is not copied: the artist's field comes without its role. A withheld
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
