"""What new items are compared with: metadata of trained artists, and what was learned from.

RUN/generations/N/known.parquet, one row an item, artists first:

    kind      "artist" or "track"
    id, name  str
    artist    str, id of the artist: the item itself, or the one of the track
    learned   bool, whether anything was learned from it before the refit
    fields    struct, one entry a metadata field of artists that is not withheld; null for tracks
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import FIELD_TYPES, Catalogue, Field, Kind, name_key
from undersong.io.files import check_format
from undersong.io.table_files import read_metadata, read_table, write_table
from undersong.runs import Run

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
