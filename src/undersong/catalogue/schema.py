"""What the tables of a catalogue hold: columns, types, roles, sources; and its manifest."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from undersong.errors import ArtifactError, DataError
from undersong.io.files import load_json, locked, read_json, sha256, write_json, writing

FORMAT = 1
REMEDY = "make the catalogue again with `undersong import` and --replace"

Kind = Literal["artist", "track"]
FieldType = Literal["category", "tags", "number"]
Role = Literal["", "genre", "region", "popularity", "year", "album"]

KINDS: tuple[Kind, ...] = ("artist", "track")
FIELD_TYPES: dict[str, pl.DataType] = {
    "category": pl.String(),
    "tags": pl.List(pl.String()),
    "number": pl.Float64(),
}
ROLES: tuple[Role, ...] = ("", "genre", "region", "popularity", "year", "album")
SPLITS = ("train", "validation", "test")

ITEMS: dict[Kind, dict[str, pl.DataType]] = {
    "artist": {"id": pl.String(), "name": pl.String(), "split": pl.String()},
    "track": {
        "id": pl.String(),
        "artist": pl.String(),
        "title": pl.String(),
        "path": pl.String(),
        "popularity": pl.Float64(),
        "split": pl.String(),
    },
}
PLAYS: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "user": pl.String(),
    "item": pl.String(),
    "plays": pl.Float64(),
}
RELATIONS: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "a": pl.String(),
    "b": pl.String(),
    "source": pl.String(),
}


@dataclass(frozen=True)
class Field:
    """One kind of metadata.

    Parameters
    ----------
    name : str
        Column of the table of ``kind``.
    kind : "artist" or "track"
    type : "category" (one word), "tags" (several words, the main one first) or "number"
    role : "genre", "region", "popularity", "year", "album" or ""
        The meaning that filters of answers ask for; the first three are also what the
        meta-consistency relation R_P and Consistent@k compare. Each role is held by one field a
        kind at most.
    withheld : bool
        True keeps the field from every model, so that it can judge them.
    """

    name: str
    kind: Kind
    type: FieldType
    role: Role = ""
    withheld: bool = False


@dataclass(frozen=True)
class Origin:
    """Where data come from, as the user says it (``[[origins]]`` of a mapping); nothing reads it
    but the model card.

    Parameters
    ----------
    name : of the data set, service or people
    licence : its name, or the terms in a few words
    gives : what of the catalogue is taken from there, such as "plays"
    """

    name: str = ""
    licence: str = ""
    gives: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "licence"):
            if not getattr(self, key).strip():
                raise ValueError(f"needs `{key}`; write 'unknown' where it is")


FILE = "catalogue.json"
CHANGED = "is missing or was changed since it was written"
SERVICE = "service"  # of an import whose name was not written down
COMMANDS = {"tables": "import tables", "folder": "import folder", "merge": "merge", "twin": "twin"}
# What each kind of import keeps beside the tables; all others keep what is under "service".
BESIDE = {
    "tables": set[str](),
    "twin": set[str](),
    "folder": {"files.parquet", "failures.csv"},
    "merge": {"identities.parquet", "doubts.parquet"},
    SERVICE: {"identities.parquet", "directed.parquet", "failures.csv", "listens"},
}


@dataclass(frozen=True)
class Manifest:
    """What ``catalogue.json`` holds.

    Parameters
    ----------
    tables : name of the folder of the tables
    source : what made it, such as "tables", "folder", "merge", "lastfm"; "" where nobody said
    sums : file in that folder -> its sha256; empty if an earlier version wrote it
    """

    tables: str
    audio_root: str | None
    fields: tuple[Field, ...]
    features: tuple[tuple[str, Kind], ...]
    origins: tuple[Origin, ...] = ()
    source: str = ""
    sums: Mapping[str, str] = field(default_factory=dict)

    def learned(self) -> dict[str, Any]:
        """Return what is learned from, as JSON, but for the tables themselves."""
        return {
            "format": FORMAT,
            "tables": "",
            "audio_root": self.audio_root,
            "fields": [asdict(x) for x in self.fields],
            "features": [list(x) for x in self.features],
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``catalogue.json``, which makes the folder a catalogue."""
    more = {"tables": manifest.tables, "source": manifest.source, "sums": dict(manifest.sums)}
    origins = [asdict(x) for x in manifest.origins]
    write_json(folder / FILE, manifest.learned() | more | {"origins": origins}, summed=True)


def read_manifest(folder: Path) -> Manifest:
    """Read ``catalogue.json``.

    Raises
    ------
    ArtifactError
        If the folder is no catalogue, has another format, or the file is damaged.
    """
    path = folder / FILE
    about = read_json(path, version=FORMAT, hint=REMEDY)
    if lacking := {"tables", "fields", "features", "audio_root"} - set(about):
        raise ArtifactError(f"{path} lacks {', '.join(sorted(lacking))}; {REMEDY}")
    try:
        return Manifest(
            tables=_plain_name(about["tables"]),
            audio_root=str(about["audio_root"]) if about["audio_root"] else None,
            fields=tuple(Field(**x) for x in about["fields"]),
            features=tuple((name, kind) for name, kind in about["features"]),
            origins=tuple(Origin(**x) for x in about.get("origins", ())),
            source=str(about.get("source", "")),
            sums=dict(about.get("sums", {})),
        )
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {REMEDY}") from error


def _plain_name(value: object) -> str:
    if not isinstance(value, str) or not value or Path(value).name != value:
        raise ValueError(f"tables {value!r} is no folder beside it")
    return value


def sums_of(home: Path) -> dict[str, str]:
    """Return the sha256 of each table below a folder."""
    return {x.relative_to(home).as_posix(): sha256(x) for x in sorted(home.rglob("*.parquet"))}


def verify(home: Path, sums: Mapping[str, str]) -> None:
    """See that every table is the one that was written.

    Raises
    ------
    ArtifactError
        If one is absent or was changed.
    """
    for name in changed(home, sums):
        raise ArtifactError(f"{home / name} {CHANGED}; {REMEDY}")


def changed(home: Path, sums: Mapping[str, str]) -> Iterator[str]:
    """Find tables that are not what was written."""
    for name, expected in sums.items():
        try:
            same = sha256(home / name) == expected
        except OSError:
            same = False
        if not same:
            yield name


@contextmanager
def importing(folder: Path, source: str, *, replace: bool = False) -> Iterator[None]:
    """Keep all others from writing to a catalogue while the block imports into it.

    What was there stays until the block writes a new catalogue. If that is of another kind, what
    the old import kept beside its tables goes at the end; ``corrections.csv`` and extracted audio
    stay.

    Parameters
    ----------
    source : what imports, as ``Manifest`` has it
    replace : also a catalogue that something else made, or a newer version of undersong

    Raises
    ------
    DataError
        If there is such a catalogue, and not ``replace``. It stays as it is.
    """
    with locked(folder), writing(folder):
        present = _present(folder, replace=replace)
        if present and not replace and _differ(present, source):
            made = COMMANDS.get(present, "" if present == SERVICE else f"import {present}")
            raise DataError(
                f"{folder} holds a catalogue that `undersong {made or 'import'}` made; choose "
                "another folder, or replace it with --replace"
            )
        yield
        if present and _differ(present, source):
            for name in _beside(present) - _beside(source):
                _remove(folder / name)


def _present(folder: Path, *, replace: bool) -> str | None:
    """Return what made the catalogue in a folder; None where there is none."""
    if not (folder / FILE).exists():
        return "folder" if (folder / "files.parquet").exists() else None
    about = _lenient(folder)
    number = about.get("format")
    if isinstance(number, int) and number > FORMAT and not replace:
        raise DataError(
            f"{folder} holds a catalogue of format {number}, which a newer undersong wrote; this "
            f"version writes {FORMAT}: choose another folder, or replace it with --replace"
        )
    if source := recorded_source(folder):
        return source
    if (folder / "files.parquet").exists():
        return "folder"
    if (folder / "doubts.parquet").exists():
        return "merge"
    return SERVICE if (folder / "identities.parquet").exists() else "tables"


def recorded_source(folder: Path) -> str:
    """Return what made a catalogue, as it says itself; "" where nothing does."""
    return str(_lenient(folder).get("source") or "")


def _lenient(folder: Path) -> dict[str, Any]:
    """Read what can be read of ``catalogue.json``: a damaged one can be made again."""
    with suppress(ArtifactError):
        return load_json(folder / FILE, hint=REMEDY)
    return {}


def _differ(present: str, source: str) -> bool:
    """Whether two kinds differ; of an import without a name it is known only that it is one."""
    if SERVICE in (present, source):
        return (present in COMMANDS) != (source in COMMANDS) or (
            present in COMMANDS and present != source
        )
    return present != source


def _beside(source: str) -> set[str]:
    """Names of what an import keeps beside the tables."""
    names = BESIDE.get(source, BESIDE[SERVICE])
    return names if source in (*COMMANDS, SERVICE, "deezer") else names - {"directed.parquet"}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
