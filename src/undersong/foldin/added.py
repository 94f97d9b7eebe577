"""Items added to a run with what is known of them, and the trained items to compare them with.

RUN/generations/N/known.parquet, one row an item, artists first:

    kind      "artist" or "track"
    id, name  str
    artist    str, id of the artist: the item itself, or the one of the track
    learned   bool, whether anything was learned from it before the refit
    fields    struct, one entry a metadata field of artists that is not withheld; null for tracks
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong import features
from undersong.catalogue import (
    FIELD_TYPES,
    ITEMS,
    KINDS,
    Catalogue,
    Field,
    Kind,
    make_attributes,
    name_key,
)
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError
from undersong.features import CONTENT, INTERACTION, Encoder, Modality, read_sources
from undersong.io.files import check_format, read_json
from undersong.io.table_files import read_metadata, read_table, write_table
from undersong.io.tensors import read_tensors
from undersong.ranking.context import RankingContext
from undersong.runs import REMEDY, Run

FILE = "known.parquet"
FORMAT = 1
_KEY = "undersong.known"


@dataclass(frozen=True)
class Reference:
    """The trained items, as far as new ones need them.

    Parameters
    ----------
    artists : id, name, and a column per metadata field of artists
    items : kind, id, artist, learned
    fields : of artists and tracks, none of them withheld
    """

    artists: pl.DataFrame
    items: pl.DataFrame
    fields: tuple[Field, ...]

    def ids(self, kind: Kind) -> frozenset[str]:
        """Ids of one kind."""
        return frozenset(self.items.filter(pl.col("kind") == kind)["id"])

    def find_artist(self, item: str, name: str) -> str | None:
        """Find a trained artist by its id, or by its name (``catalogue.name_key``)."""
        return item if item in self._artists else self._named.get(name_key(name))

    @cached_property
    def _artists(self) -> frozenset[str]:
        return self.ids("artist")

    @cached_property
    def _named(self) -> dict[str, str]:
        """Id of each name; of several the first."""
        rows = self.artists.select("id", "name").drop_nulls().reverse().iter_rows()
        return {name_key(name): item for item, name in rows}

    def learned(self, kind: Kind) -> tuple[str, ...]:
        """Ids of one kind that were learned from before the refit."""
        return tuple(self.items.filter((pl.col("kind") == kind) & pl.col("learned"))["id"])


def write_reference(
    home: Path, catalogue: Catalogue, studied: Mapping[Kind, NDArray[np.bool_]]
) -> None:
    """Write the reference of a generation; ``studied`` tells what was learned from, by kind."""
    fields = [x for x in catalogue.fields if not x.withheld]
    columns = [x.name for x in fields if x.kind == "artist"]
    artists = catalogue.artists.select(
        pl.lit("artist").alias("kind"),
        "id",
        "name",
        pl.col("id").alias("artist"),
        *([pl.struct(columns).alias("fields")] if columns else []),
    ).with_columns(learned=pl.Series(studied["artist"], dtype=pl.Boolean))
    tracks = catalogue.tracks.select(
        pl.lit("track").alias("kind"), "id", pl.col("title").alias("name"), "artist"
    ).with_columns(learned=pl.Series(studied["track"], dtype=pl.Boolean))
    about = {"format": FORMAT, "fields": [asdict(x) for x in fields]}
    table = pl.concat([artists, tracks], how="diagonal")
    write_table(home / FILE, table, metadata={_KEY: json.dumps(about)})


def read_reference(run: Run) -> Reference:
    """Read the reference of a run.

    Raises
    ------
    ArtifactError
        If the file is damaged or has another format.
    """
    path = run.file(FILE)
    about = json.loads(read_metadata(path, hint="train again").get(_KEY, "{}"))
    check_format(path, about.get("format"), FORMAT, hint="train again")
    table = read_table(path, hint="train again")
    fields = tuple(Field(**x) for x in about["fields"])
    artists = table.filter(pl.col("kind") == "artist").select(
        "id",
        "name",
        *(
            pl.col("fields").struct.field(x.name).cast(FIELD_TYPES[x.type])
            for x in fields
            if x.kind == "artist"
        ),
    )
    return Reference(artists, table.select("kind", "id", "artist", "learned"), fields)


ENCODERS, GRAPH = "encoders.json", "weights/graph.safetensors"


def vectors(rows: pl.DataFrame, name: str) -> Embeddings:
    """Return E_C ("content") or E_G ("general") of the added items that have one."""
    embedded = rows.filter(pl.col(name).is_not_null())
    width = len(embedded[name][0]) if len(embedded) else 0
    values = np.array(embedded[name].to_list(), dtype=np.float32).reshape(len(embedded), width)
    return Embeddings(tuple(embedded["id"]), values)


def behind_graph(network: Path, general: Embeddings) -> Embeddings:
    """X_G of items without a relation: of what the network reads they have their own E_G alone."""
    about, weights = read_tensors(network, version=1)
    settings, x = json.loads(about["settings"]), general.vectors
    for layer in range(settings["layers"]):
        own = weights[f"layers.{layer}.own.weight"]
        if settings["node_dup"]:  # it is its own neighbour
            own = own + weights[f"layers.{layer}.neighbours.weight"]
        x = unit(_elu(x @ own.T + weights[f"layers.{layer}.own.bias"]))
    x = _elu(x @ weights["head.0.weight"].T + weights["head.0.bias"])
    x = unit(x @ weights["head.2.weight"].T + weights["head.2.bias"])
    return Embeddings(general.ids, x.astype(np.float32))


def _elu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def join(trained: Embeddings, added: Embeddings) -> Embeddings:
    """Put added items behind the trained ones."""
    if not added.ids:
        return trained
    return Embeddings((*trained.ids, *added.ids), np.concatenate([trained.vectors, added.vectors]))


def extend(run: Run, kind: Kind, evidence: RankingContext) -> RankingContext:
    """Return the evidence of the trained items, then of the added ones that have an E_G.

    An added item has sources, but neither relations nor listeners.
    """
    rows = run.added(kind).filter(pl.col("general").is_not_null())
    if not len(rows):
        return evidence
    known = read_reference(run)
    added = read_added(run, known, rows, kind)
    n = len(evidence.vectors) + len(rows)
    relations = evidence.relations.copy()
    relations.resize((n, n))
    return RankingContext(
        np.concatenate([evidence.vectors, vectors(rows, "general").vectors]),
        [_stack(a, b) for a, b in zip(evidence.sources, added, strict=True)],
        relations,
    )


def facts(run: Run, kind: Kind) -> pl.DataFrame:
    """Gather what filters read of the added items, rows of ``undersong.catalogue.attributes``."""
    rows = pl.concat([run.added(x) for x in KINDS])
    attributes = make_attributes(catalogue_of(read_reference(run), rows))
    ids = rows.filter(pl.col("kind") == kind)["id"].implode()
    return attributes.filter((pl.col("kind") == kind) & pl.col("id").is_in(ids)).drop("kind")


def read_added(run: Run, known: Reference, rows: pl.DataFrame, kind: Kind) -> tuple[Modality, ...]:
    """Read the sources of the added items of one kind, in the order of ``rows``.

    ``rows`` may hold items of both kinds; those that an added track belongs to are read from it.
    """
    encoders = read_encoders(run)
    embeddings: dict[tuple[Kind, str], Embeddings] = {}
    for name in (CONTENT, INTERACTION):
        if width := _width(run, name):
            content = vectors(rows.filter(pl.col("kind") == kind), CONTENT)
            heard = name == CONTENT and len(content.ids)
            none = Embeddings((), np.empty((0, width), dtype=np.float32))
            embeddings[(kind, name)] = content if heard else none
    catalogue = catalogue_of(known, rows)
    sources = read_sources(catalogue, kind, encoders, embeddings)
    row_of = {item: row for row, item in enumerate(catalogue.ids(kind))}
    wanted = rows.filter(pl.col("kind") == kind)["id"]
    return features.rows_of(sources, np.array([row_of[x] for x in wanted], dtype=np.int64))


def read_encoders(run: Run) -> tuple[Encoder, ...]:
    """Read the encoders of metadata that a run learned."""
    about = read_json(run.file(ENCODERS), version=1, hint=REMEDY)
    return features.from_json(about["encoders"])


def catalogue_of(known: Reference, rows: pl.DataFrame) -> Catalogue:
    """Make a catalogue of added items and of the trained artists whose tracks are among them."""
    tables = {kind: _table(known, rows.filter(pl.col("kind") == kind), kind) for kind in KINDS}
    artists = known.artists.filter(pl.col("id").is_in(tables["track"]["artist"].implode()))
    return Catalogue(
        artists=pl.concat([tables["artist"], artists], how="diagonal"),
        tracks=tables["track"],
        fields=known.fields,
    )


def _table(known: Reference, rows: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """Added items of one kind with the columns of a catalogue."""
    types = ITEMS[kind] | {x.name: FIELD_TYPES[x.type] for x in known.fields if x.kind == kind}
    name = "name" if kind == "artist" else "title"
    metadata: list[dict[str, Any]] = [json.loads(x) for x in rows["fields"]]
    columns: dict[str, list[Any]] = {
        x: [fields.get(x) for fields in metadata] for x in types if x not in ITEMS[kind]
    }
    columns |= {"id": rows["id"].to_list(), name: rows["name"].to_list()}
    if kind == "track":
        columns["artist"] = rows["artist"].to_list()
    nothing = [None] * len(rows)
    return pl.DataFrame({x: columns.get(x, nothing) for x in types}, schema=types)


def _width(run: Run, name: str) -> int:
    """Width of E_C or E_U in a run; 0 if it has none."""
    for kind in KINDS:
        if run.has_embeddings(kind, name):
            schema = pl.read_parquet_schema(run.file(f"embeddings/{kind}.{name}.parquet"))
            vector = schema["vector"]
            return int(vector.shape[0]) if isinstance(vector, pl.Array) else 0
    return 0


def _stack(trained: Modality, added: Modality) -> Modality:
    if trained.name != added.name or trained.width != added.width:
        raise DataError(
            f"the evidence of the run has {trained.name} of {trained.width} columns, but added "
            f"items {added.name} of {added.width}; train again"
        )
    values: NDArray[np.float32] | scipy.sparse.csr_matrix
    if isinstance(trained.values, np.ndarray):
        rows = np.arange(len(added.missing))
        values = np.concatenate([trained.values, features.dense(added, rows)])
    else:
        values = scipy.sparse.csr_matrix(
            scipy.sparse.vstack([trained.values, added.values], format="csr")
        )
    return replace(trained, values=values, missing=np.concatenate([trained.missing, added.missing]))
