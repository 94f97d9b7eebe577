"""The mapping file: which column of a user's tables is what (docs/catalogue.md lists every key)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from undersong.catalogue import (
    FIELD_TYPES,
    ITEMS,
    KINDS,
    ROLES,
    SPLITS,
    Field,
    FieldType,
    Kind,
    Origin,
    Role,
)
from undersong.errors import SettingsError, nearest_known
from undersong.settings import build, read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

Pairs = tuple[tuple[str, Any], ...]
ARRAYS = (".npy", ".npz", ".safetensors")
RESERVED = ("audio", "auto", "none")  # what `input` under [content] may say beside a name
SAME_SPLITS: Pairs = tuple((name, name) for name in SPLITS)


@dataclass(frozen=True)
class FieldMapping:
    """``[artists.fields.NAME]``: one kind of metadata, and how its words are separated."""

    column: str = ""
    type: FieldType = "category"
    role: Role = ""
    separator: str = "|"
    votes: str = ""
    withheld: bool = False

    def __post_init__(self) -> None:
        _one_of("type", self.type, list(FIELD_TYPES))
        _one_of("role", self.role, list(ROLES))
        if self.role and (self.role in ("popularity", "year")) != (self.type == "number"):
            raise ValueError(
                f"has type {self.type!r} and role {self.role!r}, but popularity is a number, and "
                "so is year; genre and region are a category or tags, album is a category"
            )
        if self.role == "album" and self.type == "tags":
            raise ValueError("has type 'tags' and role 'album', but a track has one: a category")
        if not self.separator:
            raise ValueError("separator must not be empty")
        if self.votes and self.type != "tags":
            raise ValueError(f"votes is given, but type is {self.type!r}; only tags have votes")

    def field(self, name: str, kind: Kind) -> Field:
        """Return the field of the catalogue."""
        return Field(name, kind, self.type, self.role, withheld=self.withheld)


Fields = tuple[tuple[str, FieldMapping], ...]


@dataclass(frozen=True)
class TableMapping:
    """What every table has.

    Parameters
    ----------
    file : path below the folder of the data
    delimiter : of a text file; "" to detect it
    empty : words for a value that is not known
    where : (column, values that keep a row)
    """

    file: str = ""
    delimiter: str = ""
    empty: tuple[str, ...] = ()
    where: Pairs = ()

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("needs `file`, the path of a .csv, .tsv or .parquet file")
        if self.delimiter and len(self.delimiter.encode()) != 1:
            raise ValueError(f"delimiter {self.delimiter!r} must be one ASCII character")


@dataclass(frozen=True)
class RowsMapping(TableMapping):
    """What every table about items has: of which ``kind`` they are, and what unknown ids mean."""

    kind: Kind = "artist"
    unknown: str = "fault"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("kind", self.kind, list(KINDS))
        _one_of("unknown", self.unknown, ["fault", "leave out"])


@dataclass(frozen=True)
class ItemsMapping(TableMapping):
    """What both tables of items have. A column named "" is not there."""

    id: str = "id"
    split: str = ""
    split_values: Pairs = SAME_SPLITS
    fields: Fields = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fields("track" if isinstance(self, TracksMapping) else "artist", self.fields)
        for word, split in self.split_values:
            if split not in SPLITS:
                remedy = nearest_known(str(split), SPLITS)
                raise ValueError(f"split_values {word} = {split!r}; {remedy}")


@dataclass(frozen=True)
class ArtistsMapping(ItemsMapping):
    """``[artists]``."""

    name: str = ""


@dataclass(frozen=True)
class TracksMapping(ItemsMapping):
    """``[tracks]``; relative audio paths begin at ``audio_root``, itself relative to the data.

    ``unknown = "add"`` makes an artist of every one that only the tracks name. With
    ``artist_fields`` each track also gets the fields of its artist under names of its own.
    """

    artist: str = "artist"
    title: str = ""
    path: str = ""
    popularity: str = ""
    audio_root: str = "."
    artist_fields: bool = False
    unknown: str = "fault"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("unknown", self.unknown, ["fault", "leave out", "add"])


@dataclass(frozen=True)
class PlaysMapping(RowsMapping):
    """``[plays]`` or ``[[plays]]``; without a column of plays each row is one."""

    user: str = "user"
    item: str = "item"
    plays: str = ""


@dataclass(frozen=True)
class RelationsMapping(RowsMapping):
    """``[[relations]]``: ``source`` is a name for all rows, ``source_column`` holds one a row.

    ``sources`` lists the ones to keep; none listed keeps all.
    """

    a: str = "a"
    b: str = "b"
    source: str = ""
    source_column: str = ""
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.source) == bool(self.source_column):
            raise ValueError("needs one of `source`, a name, and `source_column`, a column")
        if self.sources and not self.source_column:
            raise ValueError("sources needs `source_column`, the column they stand in")


@dataclass(frozen=True)
class FeaturesMapping(RowsMapping):
    """``[[features]]``: vectors from ``columns``, all that begin with ``prefix``, or ``vector``.

    An array file (.npy, .npz, .safetensors) has none of these, but ``ids``, the file of its ids;
    ``array`` names one of several arrays.
    """

    name: str = ""
    id: str = "id"
    columns: tuple[str, ...] = ()
    prefix: str = ""
    vector: str = ""
    ids: str = ""
    array: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"needs a name of letters, digits, _ and -; found {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"name {self.name!r} stands for something else in settings; rename it")
        super().__post_init__()
        ways = sum(map(bool, (self.columns, self.prefix, self.vector)))
        if self.file.endswith(ARRAYS):
            if not self.ids or ways or self.where:
                raise ValueError(
                    "of an array file needs `ids`, a file of ids, and no columns or `where`"
                )
        elif ways != 1 or self.ids or self.array:
            raise ValueError(
                "needs one of `columns`, `prefix` and `vector`; `ids` and `array` are for "
                + ", ".join(ARRAYS)
            )


@dataclass(frozen=True)
class Mapping:
    """A whole mapping file; paths in it are relative to ``data``."""

    path: Path
    data: Path
    artists: ArtistsMapping
    tracks: TracksMapping | None
    plays: tuple[PlaysMapping, ...]
    relations: tuple[RelationsMapping, ...]
    features: tuple[FeaturesMapping, ...]
    origins: tuple[Origin, ...]


def read_mapping(path: Path, *, data: Path | None = None) -> Mapping:
    """Read a mapping file; ``data`` is where its paths begin, by default its own folder.

    Raises
    ------
    SettingsError
        For text that is not TOML, an unknown table, key, type or role (with the nearest known
        one), a value that does not fit, a role held by two fields, or a feature named twice.
    """
    content = read_toml(path)
    known = ("artists", "tracks", "plays", "relations", "features", "origins")
    for table in content:
        if table not in known:
            raise SettingsError(f"{path} has no table {table!r}; {nearest_known(table, known)}")
    if "artists" not in content:
        raise SettingsError(f"{path} has no table [artists]; say which file lists the artists")
    tracks = _tables(content, "tracks", TracksMapping, path)
    features = _tables(content, "features", FeaturesMapping, path)
    artists = _tables(content, "artists", ArtistsMapping, path)
    for name, tables in (("artists", artists), ("tracks", tracks)):
        if len(tables) > 1:
            raise SettingsError(f"{path}: [[{name}]] stands {len(tables)} times; give one [{name}]")
    twice = [
        x.name for x in features if [(y.name, y.kind) for y in features].count((x.name, x.kind)) > 1
    ]
    if twice:
        raise SettingsError(
            f"{path}: two [[features]] of one kind are named {twice[0]!r}; rename one"
        )
    return Mapping(
        path=path,
        data=path.parent if data is None else data,
        artists=artists[0],
        tracks=tracks[0] if tracks else None,
        plays=_tables(content, "plays", PlaysMapping, path),
        relations=_tables(content, "relations", RelationsMapping, path),
        features=features,
        origins=_tables(content, "origins", Origin, path),
    )


def _tables(content: dict[str, Any], name: str, kind: "type[T]", path: Path) -> "tuple[T, ...]":
    """Build every table of one name, as [name] or as [[name]]."""
    value = content.get(name, [])
    tables = value if isinstance(value, list) else [value]
    where = f"{path}: [{name}]" if isinstance(value, dict) else f"{path}: [[{name}]]"
    if not all(isinstance(x, dict) for x in tables):
        raise SettingsError(f"{where} is {value!r}, expected a table of keys")
    return tuple(cast("T", build(kind, _prepared(x, where), where)) for x in tables)


def _prepared(table: dict[str, Any], where: str) -> dict[str, Any]:
    """Put the tables within a table into the form the dataclasses keep them in."""
    prepared = dict(table)
    for key, example in (
        ("where", '{ country = "NO" }'),
        ("split_values", '{ val = "validation" }'),
        ("fields", "[artists.fields.genre]"),
    ):
        if key in table and not isinstance(table[key], dict):
            raise SettingsError(f"{where} {key} is {table[key]!r}, expected a table like {example}")
    if "where" in table:
        prepared["where"] = tuple(
            (column, tuple(x) if isinstance(x, list) else (x,))
            for column, x in table["where"].items()
        )
    if "split_values" in table:
        prepared["split_values"] = tuple(table["split_values"].items())
    if "fields" in table:
        prepared["fields"] = tuple(
            (name, _field(name, value, f"{where[:-1]}.fields.{name}]"))
            for name, value in table["fields"].items()
        )
    return prepared


def _field(name: str, table: Any, where: str) -> FieldMapping:
    if not isinstance(table, dict):
        raise SettingsError(f"{where} is {table!r}, expected a table of keys")
    field = cast(FieldMapping, build(FieldMapping, table, where))
    return field if field.column else replace(field, column=name)


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{key} {value!r}; {nearest_known(value, [x for x in known if x])}")


def _check_fields(kind: Kind, fields: Fields) -> None:
    roles: dict[str, str] = {}
    for name, field in fields:
        if name in ITEMS[kind]:
            raise ValueError(f"fields: {name!r} is a column of every {kind}; choose another name")
        if field.role in roles:
            raise ValueError(
                f"fields {roles[field.role]!r} and {name!r} both have the role {field.role!r}; "
                "take it from one of them"
            )
        if field.role:
            roles[field.role] = name
