"""The catalogue: a folder of Parquet tables that says all that is known (section 3.1).

    catalogue.json                  format, where audio paths begin, the metadata fields, origins,
                                    what made it, sha256 of every table
    artists.parquet                 id, name, split, and one column per metadata field
    tracks.parquet                  id, artist, title, path, popularity, and fields
    plays.parquet                   kind, user, item, plays
    relations.parquet               kind, a, b, source: undirected, a < b, no pair twice per source
    features/NAME.KIND.parquet      id, vector
    listens/                        every listen with its time, where an importer kept them
    audio/                          what ``undersong extract`` heard of the files; no table, and
                                    no part of the fingerprint but for pretrained ears

``kind`` is what an id names: ``artist`` or ``track``. Only artists is required to have rows.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import embeddings
from undersong.catalogue.frames import Frame, Tables, read_frames
from undersong.catalogue.heard import (
    SOUNDS,
    WORDS,
    Heard,
    has_words,
    heard_sums,
    read_heard,
    with_words,
)
from undersong.catalogue.schema import (
    FIELD_TYPES,
    FILE,
    ITEMS,
    KINDS,
    PLAYS,
    RELATIONS,
    REMEDY,
    Field,
    Kind,
    Manifest,
    Origin,
    Role,
    read_manifest,
    sums_of,
    verify,
    write_manifest,
)
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.io.files import locked, stamp
from undersong.io.table_files import DAMAGE, read_table, scan_table, write_table
from undersong.progress import Progress, silent, watched

EXTRACTED = "audio"
LISTENS = "listens"


@dataclass(frozen=True, init=False)
class Catalogue:
    """All that is known of artists and tracks, ids as the user gave them.

    Make one of your own frames, of polars, pandas or pyarrow: ``Catalogue(artists=frame,
    plays=frame, relations=frame)``. Everything is checked, and every column that is not listed
    below becomes a field: a number, a category (text) or tags (lists of text).

    Parameters
    ----------
    artists : id, and where known name and split ("train", "validation" or "test")
    tracks : id, artist, and where known title, path, popularity and split
    plays : user, artist (or track), and plays, 1 where that column is not there
    relations : a, b, and where known source; the order of a and b says nothing
        In plays and relations a column ``kind`` may say "artist" or "track" of each row.
    features : name, or (name, kind) -> ``Embeddings``, or a frame of id and numbers, or of id and
        lists named vector; a name alone is of artists
    fields : what the columns of tables mean that have the form of a written catalogue (the
        module's docstring) already; nothing is then converted or checked
    roles : column -> "genre", "region", "popularity", "year", "album", or "" for none
        Columns called genre, genres, country, region, popularity, year and album have theirs.
    withheld : columns that no model may learn from, so that they can judge
    audio_root : folder at which relative paths of tracks begin
    extracted, listens : folders of extracted audio and of listens, of a catalogue read from disk
    heard : vectors of tracks by pretrained ears, of a catalogue read from disk (``vectors`` has
        them beside the features)
    origins : where the data come from, for the model card

    Attributes
    ----------
    artists, tracks, relations : DataFrame
    plays : LazyFrame, read from its file when asked for

    Raises
    ------
    DataError
        For anything wrong with a frame, with the value and what to do.
    """

    artists: pl.DataFrame
    tracks: pl.DataFrame
    plays: pl.LazyFrame
    relations: pl.DataFrame
    fields: tuple[Field, ...]
    features: Mapping[tuple[str, Kind], Embeddings]
    audio_root: Path | None
    extracted: Path | None
    listens: Path | None
    heard: tuple[Heard, ...]
    origins: tuple[Origin, ...]

    def __init__(
        self,
        artists: Frame,
        tracks: Frame | None = None,
        plays: Frame | None = None,
        relations: Frame | None = None,
        features: Mapping[Any, Frame | Embeddings] | None = None,
        *,
        fields: tuple[Field, ...] | None = None,
        roles: Mapping[str, Role] | None = None,
        withheld: Collection[str] = (),
        audio_root: Path | str | None = None,
        extracted: Path | None = None,
        listens: Path | None = None,
        heard: tuple[Heard, ...] = (),
        origins: tuple[Origin, ...] = (),
    ) -> None:
        root = None if audio_root is None else Path(audio_root)
        if fields is None:
            tables = read_frames(
                artists,
                tracks=tracks,
                plays=plays,
                relations=relations,
                features=features,
                roles=roles,
                withheld=withheld,
                audio_root=root,
            )
            values = {name: getattr(tables, name) for name in Tables.__dataclass_fields__}
        else:
            values = {
                "artists": artists,
                "tracks": pl.DataFrame(schema=ITEMS["track"]) if tracks is None else tracks,
                "plays": pl.LazyFrame(schema=PLAYS) if plays is None else plays,
                "relations": pl.DataFrame(schema=RELATIONS) if relations is None else relations,
                "fields": fields,
                "features": features or {},
            }
        values |= {"audio_root": root, "extracted": extracted, "listens": listens}
        for name, value in (values | {"heard": heard, "origins": origins}).items():
            object.__setattr__(self, name, value)

    def items(self, kind: Kind) -> pl.DataFrame:
        """Table of one kind of item, one row each."""
        return self.artists if kind == "artist" else self.tracks

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Ids of one kind, in the order of the table."""
        return tuple(self.items(kind)["id"])

    def names(self, kind: Kind) -> tuple[str, ...]:
        """What people call each item; the id where no name is known."""
        column = "name" if kind == "artist" else "title"
        return tuple(self.items(kind).select(pl.col(column).fill_null(pl.col("id"))).to_series())

    def fields_of(self, kind: Kind) -> tuple[Field, ...]:
        """Metadata fields of one kind of item."""
        return tuple(x for x in self.fields if x.kind == kind)

    def vectors(self) -> dict[tuple[str, Kind], Embeddings]:
        """Features, and what pretrained ears heard under their names: all vectors for E_C."""
        return {**self.features, **{(x.name, "track"): x.vectors for x in self.heard}}

    def role(self, kind: Kind, role: Role) -> Field | None:
        """Field that holds a role, if any."""
        return next((x for x in self.fields_of(kind) if x.role == role), None)

    def pairs(self, kind: Kind) -> pl.DataFrame:
        """Known relations of one kind of item: a, b, source."""
        return self.relations.filter(pl.col("kind") == kind).drop("kind")

    def played(self, kind: Kind) -> pl.LazyFrame:
        """Plays of one kind of item: user, item, plays; read when collected."""
        return self.plays.filter(pl.col("kind") == kind).drop("kind")

    def count_plays(self) -> int:
        """Count the rows of plays, of both kinds."""
        return int(self.plays.select(pl.len()).collect().item())

    def counts_text(self) -> str:
        """Count artists, tracks, plays and relations in a line for the terminal."""
        return (
            f"{len(self.artists):,} artists, {len(self.tracks):,} tracks, "
            f"{self.count_plays():,} plays, {len(self.relations):,} relations"
        )


def write_catalogue(catalogue: Catalogue, folder: Path, *, source: str = "") -> None:
    """Write a catalogue; a crash leaves the old one or the new one, never a mixture.

    ``source`` is what made it (``Manifest``). Another writer of the folder is waited for. What
    pretrained ears heard is no part of the tables.
    """
    words = [SOUNDS] if set(WORDS) <= set(catalogue.fields) else []
    fields = tuple(x for x in catalogue.fields if x.name not in words)
    tables: dict[str, pl.DataFrame | pl.LazyFrame] = {
        "artists": catalogue.artists.drop(words),
        "tracks": catalogue.tracks.drop(words),
        "plays": catalogue.plays,
        "relations": catalogue.relations,
    }
    with replacing_tables(
        folder,
        fields=fields,
        features=tuple(catalogue.features),
        audio_root=catalogue.audio_root,
        origins=catalogue.origins,
        source=source,
    ) as home:
        for name, table in tables.items():
            write_table(home / f"{name}.parquet", table)
        for (name, kind), features in catalogue.features.items():
            features.write(home / "features" / f"{name}.{kind}.parquet")


def add_features(folder: Path, name: str, kind: Kind, features: Embeddings) -> None:
    """Add features to a written catalogue, or put them in the place of those of that name.

    All else stays as it was, whatever made the catalogue; the caller has checked ids and widths.
    """
    with locked(folder):
        manifest = read_manifest(folder)
        verify(folder / manifest.tables, manifest.sums)
        with replacing_tables(
            folder,
            fields=manifest.fields,
            features=tuple(dict.fromkeys((*manifest.features, (name, kind)))),
            audio_root=Path(manifest.audio_root) if manifest.audio_root else None,
            origins=manifest.origins,
            source=manifest.source,
        ) as home:
            shutil.copytree(folder / manifest.tables, home)
            features.write(home / "features" / f"{name}.{kind}.parquet")


@contextmanager
def replacing_tables(
    folder: Path,
    *,
    fields: tuple[Field, ...],
    features: tuple[tuple[str, Kind], ...],
    audio_root: Path | None = None,
    origins: tuple[Origin, ...] = (),
    source: str = "",
) -> Iterator[Path]:
    """Yield a folder to write all tables in; once they are whole, they replace the old.

    ``catalogue.json`` comes last and makes the folder a catalogue. When the block raises, all
    stays as it was.

    Raises
    ------
    ArtifactError
        If something else wrote a catalogue there meanwhile, where nothing can be locked.
    """
    with locked(folder):
        generation, before = _next_generation(folder), stamp(folder / FILE)
        home = folder / generation
        try:
            yield home
            root = str(audio_root) if audio_root else None
            sums = sums_of(home)
            manifest = Manifest(generation, root, fields, features, origins, source, sums)
            if stamp(folder / FILE) != before:
                raise ArtifactError(
                    f"another command wrote to {folder}; give this one again when that has ended"
                )
            write_manifest(folder, manifest)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        _remove_other_generations(folder, generation)


def read_catalogue(folder: Path) -> Catalogue:
    """Read a catalogue, after checking that every table is the one that was written.

    Raises
    ------
    ArtifactError
        If the folder is no catalogue, has another format, or a table is missing or damaged.
    """
    manifest = read_manifest(folder)
    home = folder / manifest.tables
    verify(home, manifest.sums)
    columns = {
        kind: ITEMS[kind] | {x.name: FIELD_TYPES[x.type] for x in manifest.fields if x.kind == kind}
        for kind in KINDS
    }
    artists, tracks = (_read_table(home / f"{x}s.parquet", columns[x]) for x in KINDS)
    heard, fields = read_heard(folder / EXTRACTED, set(tracks["id"])), manifest.fields
    if has_words(folder / EXTRACTED):
        artists, tracks = with_words(artists, tracks, heard)
        fields = (*fields, *WORDS)
    return Catalogue(
        artists=artists,
        tracks=tracks,
        plays=_scan_table(home / "plays.parquet", PLAYS),
        relations=_read_table(home / "relations.parquet", RELATIONS),
        fields=fields,
        features={
            (name, kind): embeddings.read(home / "features" / f"{name}.{kind}.parquet")
            for name, kind in manifest.features
        },
        audio_root=Path(manifest.audio_root) if manifest.audio_root else None,
        extracted=folder / EXTRACTED,
        listens=folder / LISTENS,
        heard=heard,
        origins=manifest.origins,
    )


def fingerprint(folder: Path) -> str:
    """Hash all of a catalogue that is learned from, so that a run knows what it was trained on.

    Of the tables their sums are taken, which ``read_catalogue`` checks.
    """
    manifest = read_manifest(folder)
    home = folder / manifest.tables
    sums = manifest.sums or sums_of(home)
    digest = hashlib.sha256(json.dumps(manifest.learned(), sort_keys=True).encode())
    for name in sorted(sums, key=Path):
        digest.update(f"{name} {sums[name]}\n".encode())
    for name, total in sorted(heard_sums(folder / EXTRACTED).items()):
        digest.update(f"heard {name} {total}\n".encode())
    return digest.hexdigest()


def rows_of(wanted: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
    """Place of each wanted id among ids that stand once; -1 for one that is not there."""
    places = ids.alias("id").to_frame().with_row_index("place")
    ids_wanted = wanted.alias("id").to_frame()
    rows = ids_wanted.join(places, on="id", how="left", maintain_order="left")["place"]
    return rows.cast(pl.Int64).fill_null(-1).to_numpy()


def complete(rows: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the ``columns`` of a table, each with its type; one that is not there is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in columns.items()
    )


def _read_table(path: Path, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    _scan_table(path, columns)
    return read_table(path, hint=REMEDY)


def _scan_table(path: Path, columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Open a table without reading its rows."""
    table = scan_table(path, hint=REMEDY)
    schema = table.collect_schema()
    for name, want in columns.items():
        dtype = schema.get(name)
        if dtype != want:
            raise ArtifactError(f"{path}: column {name!r} is {dtype}, expected {want}; {REMEDY}")
    return table


def _next_generation(folder: Path) -> str:
    last = max((int(x.name.split("-")[1]) for x in folder.glob("tables-*")), default=0)
    return f"tables-{last + 1}"


def _remove_other_generations(folder: Path, keep: str) -> None:
    for other in folder.glob("tables-*"):
        if other.name != keep:
            shutil.rmtree(other)


AT_ONCE = 2**20  # rows whose users and items are looked up: names take most memory


@dataclass(frozen=True)
class NumberedPlays:
    """Plays above 0 of known items, as three columns of equal length; a pair may stand twice.

    Parameters
    ----------
    users : how many people play any item, 0 or more
    user : (rows,) int32, number of the one who plays, in the order of their ids
    item : (rows,) int32, row of the item in its table
    plays : (rows,) float32
    """

    users: int
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    plays: NDArray[np.float32]


def numbered(catalogue: Catalogue, kind: Kind, *, progress: Progress = silent) -> NumberedPlays:
    """Read the plays of one kind of item, ``AT_ONCE`` rows at a time: 12 bytes a row are kept.

    Raises
    ------
    ArtifactError
        If the file that the catalogue was read from is gone or damaged.
    """
    try:
        return _numbered(catalogue, kind, progress)
    except (OSError, *DAMAGE) as error:
        raise ArtifactError(
            f"the plays of the catalogue cannot be read any more ({error}); was it imported again "
            "meanwhile? Give the same command again"
        ) from error


def _numbered(catalogue: Catalogue, kind: Kind, progress: Progress) -> NumberedPlays:
    progress("plays", 0, 1)
    wanted = (pl.col("kind") == kind) & (pl.col("plays") > 0)
    items = pl.DataFrame({"item": catalogue.ids(kind)}, schema={"item": pl.String})
    items = items.select("item", row=pl.int_range(pl.len(), dtype=pl.Int32))
    rows = catalogue.plays.filter(wanted)
    named = rows.select(pl.col("user").unique().sort()).collect(engine="streaming")
    users = named.with_columns(number=pl.int_range(pl.len(), dtype=pl.Int32))
    most = rows.select(pl.len()).collect().item()
    user, item = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    plays = np.empty(most, dtype=np.float32)
    end = 0
    for start in watched(range(0, catalogue.count_plays(), AT_ONCE), progress, "plays"):
        some = catalogue.plays.slice(start, AT_ONCE).filter(wanted).collect()
        block = some.join(items, on="item").join(users, on="user")
        here, end = slice(end, end + len(block)), end + len(block)
        user[here], item[here] = block["number"].to_numpy(), block["row"].to_numpy()
        plays[here] = block["plays"].to_numpy()
    return NumberedPlays(len(users), user[:end], item[:end], plays[:end])
