"""What the tables of a catalogue hold: columns, types, roles, and where data come from."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

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
