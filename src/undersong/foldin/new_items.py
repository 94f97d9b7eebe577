"""New items as a user describes them: files with tags, rows of a table, or words."""

import hashlib
import json
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from undersong.catalogue import ITEMS, Field, Kind
from undersong.errors import DataError, nearest_known
from undersong.foldin.added import Reference
from undersong.importers.music.folder import row_of
from undersong.importers.music.library import FILES, library, slug
from undersong.importers.music.scan import Failure, ScannedFile
from undersong.importers.music.tag_readers import tag_readers
from undersong.importers.music.tags import Tags
from undersong.io.files import reading, sha256
from undersong.io.table_files import DAMAGE, read_user_table

Value = str | float | list[str]
TABLES = (".csv", ".parquet", ".toml")
PLAIN = ("id", "name", "title", "artist", "path", "vector")  # columns of a table beside fields


@dataclass(frozen=True)
class NewItem:
    """One new item, as far as the user knows it.

    Parameters
    ----------
    id, name : str
    artist, artist_name : id and name of a track's artist; empty for artists
    fields : metadata, by the names that the run's catalogue has for it
    vector : numbers that CbRM reads in place of audio
    path : audio file of a track
    digest : changes when any of this does, or the content of the file
    """

    kind: Kind
    id: str
    name: str
    artist: str = ""
    artist_name: str = ""
    fields: Mapping[str, Value] | None = None
    vector: tuple[float, ...] = ()
    path: Path | None = None

    @cached_property
    def digest(self) -> str:
        """Hash of all of it, 64 hexadecimal digits."""
        parts = (self.kind, self.id, self.name, self.artist, self.fields or {}, self.vector)
        whole = json.dumps([*parts, sha256(self.path) if self.path else ""], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


def of_paths(
    paths: Sequence[Path], kind: Kind, known: Reference, *, artist: str | None = None
) -> Iterator[NewItem | Failure]:
    """Read new items from tables, then from audio files; ``kind`` is that of rows in tables."""
    tables = [x for x in paths if x.suffix.lower() in TABLES]
    for table in tables:
        yield from of_table(table, kind, known)
    if audio := [x for x in paths if x not in tables]:
        yield from of_files(audio, known, artist=artist)


def of_files(
    paths: Sequence[Path], known: Reference, *, artist: str | None = None
) -> Iterator[NewItem | Failure]:
    """Read new tracks from audio files by their tags; a file that cannot be read is a Failure.

    Parameters
    ----------
    artist : name that takes the place of the one in the tags
    """
    with tag_readers(1) as read:
        for path, tags in zip(paths, read(paths), strict=True):
            if artist and isinstance(tags, Tags):
                tags = replace(tags, artist=(artist,), artists=(), artist_ids=())
            row = row_of(ScannedFile(path.name, 0, 0, 0, 0), tags)
            if isinstance(row, Failure):
                remedy = row.remedy if artist else f"{row.remedy}; or give --artist NAME"
                says_who = "no artist" not in row.reason
                yield Failure(str(path), row.reason, row.remedy if says_who else remedy)
                continue
            yield _of_row(row, path.resolve(), known)


def of_words(name: str, fields: Mapping[str, str], known: Reference) -> NewItem:
    """Make a new artist of words from the command line, such as ``genre`` -> ``"jazz, bebop"``.

    Raises
    ------
    DataError
        If the run's catalogue has no such field, or a number is none.
    """
    values = {x: _value(word, _field(known, x), where=f"--field {x}") for x, word in fields.items()}
    return NewItem("artist", _artist_id(name, known), _clean(name), fields=values)


def of_table(path: Path, kind: Kind, known: Reference) -> Iterator[NewItem]:
    """Read new items from a table: CSV, Parquet, or TOML with ``[[artist]]`` and ``[[track]]``.

    Columns are ``id``, ``name`` (of a track ``title``, and ``artist``, name or id), ``path`` of an
    audio file, ``vector`` (numbers, in CSV with spaces between) and the fields of the catalogue.

    Raises
    ------
    DataError
        For a mistake in the table, with its row.
    """
    tables = _rows(path, kind)
    for kind_of_rows, rows in tables.items():
        for number, row in enumerate(rows, start=1):
            yield of_row(row, kind_of_rows, known, where=f"{path}, {kind_of_rows} {number}")


def as_type(value: Value | None, field: Field) -> Value | None:
    """Bring a value to the type of a field, as the catalogue would hold it."""
    if value is None or value == []:
        return None
    if field.type == "number":
        word = value[0] if isinstance(value, list) else value
        try:
            return float(word)
        except ValueError:
            return None
    words = value if isinstance(value, list) else [_plain(value)]
    return words if field.type == "tags" else words[0]


def merge(tracks: Sequence[Mapping[str, Value]], fields: Sequence[Field]) -> dict[str, Value]:
    """What the tracks of an artist say of it: tags by frequency, the commonest word, the median."""
    merged: dict[str, Value] = {}
    for field in fields:
        values = [x for track in tracks if (x := as_type(track.get(field.name), field)) is not None]
        if not values:
            continue
        if field.type == "number":
            merged[field.name] = float(median(x for x in values if isinstance(x, float)))
            continue
        words = Counter(
            word for x in values for word in (x if isinstance(x, list) else [str(x)])
        ).most_common()
        merged[field.name] = [x for x, _ in words] if field.type == "tags" else words[0][0]
    return merged


def _of_row(row: Mapping[str, Any], path: Path, known: Reference) -> NewItem:
    """Make a track of what the tags of a file say, with the ids of `import folder`."""
    catalogue = library(pl.DataFrame([row], schema=FILES))
    track, artist = catalogue.tracks.row(0, named=True), catalogue.artists.row(0, named=True)
    artist_id = known.find_artist(artist["id"], artist["name"]) or artist["id"]
    metadata = {x: track[x] for x in track if x not in ITEMS["track"]}
    roles = {
        "genre": metadata.get("genre"),
        "region": metadata.get("country"),
        "year": row["year"],
        "album": row["album"],
    }
    values = {x.name: as_type(metadata.get(x.name, roles.get(x.role)), x) for x in known.fields}
    fields = {name: value for name, value in values.items() if value is not None}
    item = track["id"]
    if artist_id != artist["id"] and item.startswith(f"{artist['id']}/"):
        item = f"{artist_id}/{item.removeprefix(artist['id'] + '/')}"
    return NewItem("track", item, track["title"], artist_id, artist["name"], fields, path=path)


def of_row(row: Mapping[str, Any], kind: Kind, known: Reference, *, where: str) -> NewItem:
    """Make a new item of a row with the columns of ``of_table``; ``where`` stands in errors."""
    values = {x: value for x, value in row.items() if value not in (None, "", [])}
    fields = {
        x: _value(value, _field(known, x, kind, where=where), where=where)
        for x, value in values.items()
        if x not in PLAIN
    }
    vector = _vector(values.get("vector", ()), where=where)
    name = _clean(str(values.get("title" if kind == "track" else "name", values.get("id", ""))))
    if not name:
        raise DataError(f"{where} has neither a name nor an id; give one of them")
    if kind == "artist":
        item = str(values.get("id") or _artist_id(name, known))
        return NewItem("artist", item, name, fields=fields, vector=vector)
    whose = _clean(str(values.get("artist", "")))
    if not whose:
        raise DataError(f"{where} has no artist; give the name or id of one")
    artist = known.find_artist(whose, whose) or slug(whose)
    item = str(values.get("id") or f"{artist}/{slug(name)}")
    path = Path(str(values["path"])).resolve() if "path" in values else None
    return NewItem("track", item, name, artist, whose, fields, vector, path)


def _rows(path: Path, kind: Kind) -> dict[Kind, list[dict[str, Any]]]:
    causes = (UnicodeDecodeError, tomllib.TOMLDecodeError, *DAMAGE)
    fault, hint = "cannot be read as a table of new items", "docs/add.md shows one"
    with reading(path, *causes, fault=fault, hint=hint, error=DataError):
        if path.suffix.lower() == ".toml":
            return _toml(path)
        table = read_user_table(path)
    return {kind: list(table.iter_rows(named=True))}


def _toml(path: Path) -> dict[Kind, list[dict[str, Any]]]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    strange = set(content) - {"artist", "track"}
    if strange or not all(isinstance(x, list) for x in content.values()):
        word = min(strange or set(content))
        raise DataError(f"{path}: {word!r} is not expected; write [[artist]] or [[track]] tables")
    return {"artist": content.get("artist", []), "track": content.get("track", [])}


def _field(known: Reference, name: str, kind: Kind | None = None, where: str = "") -> Field:
    fields = {x.name: x for x in known.fields if kind in (None, x.kind)}
    if kind == "track":  # a track may say of itself what the catalogue says of artists
        fields = {x.name: x for x in known.fields if x.kind == "artist"} | fields
    if name not in fields:
        plain = PLAIN if kind else ()
        prefix = f"{where}: " if where else ""
        raise DataError(
            f"{prefix}the run knows no field {name!r}; {nearest_known(name, [*fields, *plain])}"
        )
    return fields[name]


def _value(text: object, field: Field, *, where: str) -> Value:
    """Bring what a user wrote to the type of a field."""
    if isinstance(text, list):
        words = [_clean(str(x)) for x in text]
    elif field.type == "tags":
        words = [_clean(x) for x in str(text).replace("|", ",").split(",")]
    else:
        words = [_clean(_plain(text))]
    value = as_type([x for x in words if x], field)
    if value is None:
        raise DataError(f"{where}: {field.name} is {text!r}, expected {field.type}")
    return value


def _vector(numbers: object, *, where: str) -> tuple[float, ...]:
    words = numbers.split() if isinstance(numbers, str) else numbers
    try:
        return tuple(float(x) for x in words)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: vector is {numbers!r}, expected numbers") from error


def _artist_id(name: str, known: Reference) -> str:
    return known.find_artist(name, name) or slug(name)


def _plain(value: object) -> str:
    """Write a number as a person would: 1990, not 1990.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clean(text: str) -> str:
    """NFC and single spaces, as the importers leave names and words."""
    return " ".join(unicodedata.normalize("NFC", text).split())
