"""What filters need to know of each item, kept with the run so that no catalogue is needed.

RUN/generations/N/facts.parquet, one row an item, artists first, in the order of the catalogue:

    kind        "artist" or "track"
    id          str
    genres      list of str, from the field with the role genre, the main one first; may be empty
    region      str, from the field with the role region
    decade      int, the first year of it (1970), from the field with the role year
    popularity  float, as the catalogue has it
    percentile  float in (0, 1), share of the items of known popularity that are less popular
    artist      str, id of the artist: the item itself, or the one of the track
    album       str, from the tracks' field with the role album
    mbid        str, the field ``mbid``, or else the id where that is a MusicBrainz id

All but kind, id and genres are null where not known. A track without genre or region of its own
has those of its artist.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue.schema import Kind, Role
from undersong.catalogue.tables import Catalogue
from undersong.io.table_files import read_table, write_table
from undersong.processors import computed_once

ATTRIBUTES_FILE = "facts.parquet"
COLUMNS: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "id": pl.String(),
    "genres": pl.List(pl.String()),
    "region": pl.String(),
    "decade": pl.Int32(),
    "popularity": pl.Float64(),
    "percentile": pl.Float64(),
    "artist": pl.String(),
    "album": pl.String(),
    "mbid": pl.String(),
}
METADATA = {"undersong.facts": "1"}
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


@dataclass(frozen=True)
class Attributes:
    """Facts of some items of one kind, in the order of an index.

    Parameters
    ----------
    table : (n,) rows with the columns of the module's docstring, but for ``kind``
    """

    table: pl.DataFrame

    @classmethod
    def bare(cls, ids: tuple[str, ...]) -> "Attributes":
        """Facts of items of which only the id is known."""
        return cls(pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)}))

    @computed_once
    def index(self) -> dict[str, int]:
        """Row of each id."""
        return {item: row for row, item in enumerate(self.table["id"])}

    @computed_once
    def genres(self) -> tuple[str, ...]:
        """Every genre that an item has, by name."""
        return tuple(self.table["genres"].explode().drop_nulls().unique().sort())

    @computed_once
    def regions(self) -> tuple[str, ...]:
        """Every region that an item is from, by name."""
        return tuple(self.table["region"].drop_nulls().unique().sort())

    def of(self, ids: tuple[str, ...]) -> "Attributes":
        """Return the facts of some items, in their order; of one without a row none is known."""
        ids_table = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)})
        table = ids_table.join(self.table, on="id", how="left", maintain_order="left")
        return Attributes(table.with_columns(pl.col("genres").fill_null([])))


def make_attributes(catalogue: Catalogue) -> pl.DataFrame:
    """Gather the facts of every artist and track of a catalogue."""
    artists = _of_kind(catalogue, "artist").with_columns(pl.col("id").alias("artist"))
    tracks = _of_kind(catalogue, "track").with_columns(catalogue.tracks["artist"])
    theirs = artists.select(pl.col("id").alias("artist"), "genres", "region")
    tracks = tracks.join(
        theirs, on="artist", how="left", suffix=" of artist", maintain_order="left"
    ).with_columns(
        pl.coalesce("genres", "genres of artist").alias("genres"),
        pl.coalesce("region", "region of artist").alias("region"),
    )
    whole = pl.concat([artists.select(*COLUMNS), tracks.select(*COLUMNS)])
    return whole.with_columns(pl.col("genres").fill_null([])).cast(pl.Schema(COLUMNS))


def write_attributes(path: Path, table: pl.DataFrame) -> None:
    """Write what ``make`` gathered."""
    write_table(path, table, metadata=METADATA)


def read_attributes(path: Path, kind: Kind) -> Attributes:
    """Read the facts of all items of one kind.

    Raises
    ------
    ArtifactError
        If the file is absent, is no Parquet file, or has another format.
    """
    table = read_table(path, hint="train again", metadata=METADATA, fault="is no file of facts")
    return Attributes(table.filter(pl.col("kind") == kind).drop("kind"))


def _of_kind(catalogue: Catalogue, kind: Kind) -> pl.DataFrame:
    """Facts that stand in one table alone; ``artist`` is added by the caller."""
    table = catalogue.items(kind)
    genres, region = _words(catalogue, kind, "genre"), _words(catalogue, kind, "region")
    year = catalogue.role(kind, "year")
    album = catalogue.role(kind, "album")
    popular = catalogue.role(kind, "popularity")
    known = popular.name if popular else "popularity" if kind == "track" else None
    mbid = pl.col("id").str.to_lowercase()
    own_mbid = (
        pl.col("mbid").cast(pl.String) if "mbid" in table.columns else pl.lit(None, pl.String)
    )
    popularity = pl.col(known) if known else pl.lit(None, pl.Float64)
    rank = (popularity.rank("average") - 0.5) / popularity.count()
    return table.select(
        pl.lit(kind).alias("kind"),
        "id",
        genres.alias("genres"),
        region.list.first().alias("region"),
        (pl.col(year.name) // 10 * 10 if year else pl.lit(None)).cast(pl.Int32).alias("decade"),
        popularity.alias("popularity"),
        rank.alias("percentile"),
        (pl.col(album.name) if album else pl.lit(None, pl.String)).alias("album"),
        pl.coalesce(own_mbid, pl.when(mbid.str.contains(_UUID)).then(mbid)).alias("mbid"),
    )


def _words(catalogue: Catalogue, kind: Kind, role: Role) -> pl.Expr:
    """Words of the field that holds a role, as a list; null where none is known."""
    field = catalogue.role(kind, role)
    if field is None:
        return pl.lit(None, pl.List(pl.String))
    column = pl.col(field.name)
    if field.type == "tags":
        return pl.when(column.list.len() > 0).then(column)
    return pl.when(column.is_not_null()).then(pl.concat_list(column))
