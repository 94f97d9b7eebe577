"""Data frames in memory -> the tables of a catalogue, with the checks that files get.

Every frame that speaks the Arrow PyCapsule interface is read: polars, pandas, pyarrow, DuckDB.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import polars as pl

from undersong.catalogue.check import (
    ROW,
    Issues,
    Sheet,
    empty_faults,
    id_faults,
    member_faults,
    number_faults,
    path_faults,
    play_faults,
    refuse,
    relation_faults,
    shown,
    split_faults,
    vector_faults,
    whole,
    width_faults,
)
from undersong.catalogue.schema import (
    ITEMS,
    KINDS,
    PLAYS,
    RELATIONS,
    ROLES,
    Field,
    FieldType,
    Kind,
    Role,
)
from undersong.embeddings import Embeddings
from undersong.errors import DataError, nearest_known

NAMED_AFTER_ROLES: Mapping[str, Role] = {
    "genre": "genre",
    "genres": "genre",
    "country": "region",
    "region": "region",
    "popularity": "popularity",
    "year": "year",
    "album": "album",
}
ROLE_TYPES: Mapping[Role, tuple[FieldType, ...]] = {
    "genre": ("category", "tags"),
    "region": ("category", "tags"),
    "popularity": ("number",),
    "year": ("number",),
    "album": ("category",),
}
SOURCE = "relations"  # of relations whose frame names none
WORDS = (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null)


class ArrowFrame(Protocol):
    """A data frame of a library that speaks the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the rows as an Arrow stream."""


Frame = ArrowFrame | pl.LazyFrame
FeatureKey = tuple[str, Kind]


@dataclass(frozen=True)
class Tables:
    """The tables of a catalogue, each with the columns that ``catalogue.schema`` lists."""

    artists: pl.DataFrame
    tracks: pl.DataFrame
    plays: pl.LazyFrame
    relations: pl.DataFrame
    fields: tuple[Field, ...]
    features: Mapping[FeatureKey, Embeddings]


def read_frames(
    artists: Frame,
    *,
    tracks: Frame | None = None,
    plays: Frame | None = None,
    relations: Frame | None = None,
    features: Mapping[Any, Frame | Embeddings] | None = None,
    roles: Mapping[str, Role] | None = None,
    withheld: Collection[str] = (),
    audio_root: Path | None = None,
) -> Tables:
    """Read frames, check them, and make the tables of a catalogue of them.

    The parameters are those of ``Catalogue``.

    Raises
    ------
    DataError
        For anything wrong with a frame, with the value and what to do.
    """
    sheets = {"artist": read_frame(artists, file="artists frame", needs=(("id",),))}
    if tracks is not None:
        sheets["track"] = read_frame(tracks, file="tracks frame", needs=(("id",), ("artist",)))
    _check_names(sheets, roles or {}, withheld)
    items: dict[Kind, Sheet] = {}
    fields: list[Field] = []
    findings: list[Issues] = []
    for kind in KINDS[: len(sheets)]:
        items[kind], own = _items(sheets[kind], kind, roles or {}, withheld)
        fields += own
        findings += id_faults(items[kind]) + split_faults(items[kind])
        for name in [x.name for x in own if x.type == "number"]:
            findings += number_faults(items[kind], name)
    known = {kind: sheet.rows["id"] for kind, sheet in items.items()}
    if "track" in items:
        findings += empty_faults(items["track"], "artist") + _members(
            items["track"], "artist", known, kind="artist"
        )
        findings += number_faults(items["track"], "popularity")
        findings += path_faults(items["track"], audio_root)
    played, play_findings = _plays(plays, known)
    related, relation_findings = _relations(relations, known)
    vectors, feature_findings = _features(features or {}, known)
    refuse(
        [*findings, *play_findings, *relation_findings, *feature_findings],
        remedy="correct these first",
    )
    empty = pl.DataFrame(schema=ITEMS["track"])
    return Tables(
        artists=items["artist"].rows.drop(ROW),
        tracks=items["track"].rows.drop(ROW) if "track" in items else empty,
        plays=played.lazy(),
        relations=related,
        fields=tuple(fields),
        features=vectors,
    )


def read_frame(frame: Frame, *, file: str, needs: tuple[tuple[str, ...], ...]) -> Sheet:
    """Read the columns of a frame; rows count from 0, and an index of pandas is no column.

    Parameters
    ----------
    file : what messages call the frame
    needs : names of each column that must be there, of which one is enough

    Raises
    ------
    DataError
        If it is no frame, has no row, lacks a column, or values of a column differ in type.
    """
    table = frame.collect() if isinstance(frame, pl.LazyFrame) else _arrow(frame, file)
    for names in needs:
        if not any(x in table.columns for x in names):
            index = [x for x in getattr(getattr(frame, "index", None), "names", ()) if x in names]
            hint = f"rename the column that holds it; {nearest_known(names[0], table.columns)}"
            if index:
                hint = f"{index[0]!r} is the index: give frame.reset_index()"
            raise DataError(f"{file}: has no column {' or '.join(map(repr, names))}; {hint}")
    if table.is_empty():
        raise DataError(f"{file}: has no row; fill it, or leave the frame out")
    return Sheet(file, table.with_row_index(ROW))


def _arrow(frame: Any, file: str) -> pl.DataFrame:
    if hasattr(frame, "reset_index"):
        frame = frame.reset_index(drop=True)
    if not hasattr(frame, "__arrow_c_stream__"):
        raise DataError(
            f"{file}: is {shown(frame)} ({type(frame).__name__}), no data frame; give one of "
            "polars, pandas or pyarrow"
        )
    try:
        return pl.from_dataframe(frame)
    except ImportError as error:
        raise DataError(
            f"{file}: frames of pandas need pyarrow; install it with: pip install pyarrow"
        ) from error
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{file}: {_mixed(frame) or error}") from error


def _mixed(frame: Any) -> str:
    """Return which column mixes types, and what to do; "" where none does."""
    for name in getattr(frame, "columns", ()):
        types = sorted({type(x).__name__ for x in frame[name] if x is not None and x == x})
        if len(types) > 1:
            return (
                f"column {name!r} mixes {' and '.join(types)}; make all values of one type, such "
                f"as frame[{name!r}].astype(str)"
            )
    return ""


def _check_names(
    sheets: Mapping[str, Sheet], roles: Mapping[str, Role], withheld: Collection[str]
) -> None:
    """Refuse roles and withheld columns that no frame has, and roles that nothing asks for."""
    columns = {
        name
        for kind, sheet in sheets.items()
        for name in sheet.rows.columns
        if name not in (ROW, *ITEMS[cast(Kind, kind)])
    }
    for name in (*roles, *withheld):
        if name not in columns:
            raise DataError(
                f"no frame of items has a field {name!r}; {nearest_known(name, columns)}"
            )
    for name, role in roles.items():
        if role not in ROLES:
            raise DataError(f"{name!r} has the role {role!r}; {nearest_known(role, ROLES[1:])}")


def _items(
    sheet: Sheet, kind: Kind, roles: Mapping[str, Role], withheld: Collection[str]
) -> tuple[Sheet, list[Field]]:
    """Convert the columns of items; every column that a catalogue does not name is a field."""
    columns = [pl.col(ROW)]
    for name, dtype in ITEMS[kind].items():
        if name not in sheet.rows.columns:
            columns.append(pl.lit(None, dtype).alias(name))
        elif name in ("id", "artist"):
            columns.append(_ids(sheet, name))
        else:
            wanted: FieldType = "number" if dtype == pl.Float64 else "category"
            if sheet.rows.schema[name] != pl.Null and _type_of(sheet, name) != wanted:
                raise _wrong(sheet, name, "numbers" if wanted == "number" else "text")
            columns.append(_typed(name, wanted))
    fields: list[Field] = []
    for name in (x for x in sheet.rows.columns if x not in (ROW, *ITEMS[kind])):
        type_ = _type_of(sheet, name)
        if type_ is None:
            raise _wrong(sheet, name, "a number, text or a list of text, or drop the column")
        role = _role(sheet, name, type_, roles, {x.role for x in fields})
        fields.append(Field(name, kind, type_, role, withheld=name in withheld))
        columns.append(_typed(name, type_))
    return Sheet(sheet.file, sheet.rows.select(columns)), fields


def _type_of(sheet: Sheet, name: str) -> FieldType | None:
    dtype = sheet.rows.schema[name]
    if dtype.is_numeric():
        return "number"
    if dtype in WORDS:
        return "category"
    inner = getattr(dtype, "inner", None)
    return "tags" if inner is not None and inner in WORDS else None


def _role(
    sheet: Sheet, name: str, type_: FieldType, roles: Mapping[str, Role], taken: set[Role]
) -> Role:
    """Return the role of a field: the one asked for, else one after which it is named."""
    if name in roles:
        role = roles[name]
        if role and type_ not in ROLE_TYPES[role]:
            raise _wrong(
                sheet, name, f"{' or '.join(ROLE_TYPES[role])}, as the role {role!r} needs"
            )
        if role and role in taken:
            raise DataError(f"{sheet.file}: two columns have the role {role!r}; keep one of them")
        return role
    role = NAMED_AFTER_ROLES.get(name, "")
    if role in {*taken, *(x for y, x in roles.items() if y in sheet.rows.columns)}:
        return ""
    return role if role and type_ in ROLE_TYPES[role] else ""


def _wrong(sheet: Sheet, name: str, wanted: str) -> DataError:
    return DataError(
        f"{sheet.file}: column {name!r} is {sheet.rows.schema[name]}; make it {wanted}"
    )


def _typed(name: str, type_: FieldType) -> pl.Expr:
    """Convert a column to its type: text in Unicode's composed form, what is empty to null."""
    if type_ == "number":
        return pl.col(name).cast(pl.Float64).fill_nan(None)
    text = pl.element() if type_ == "tags" else pl.col(name)
    text = text.cast(pl.String).str.strip_chars().str.normalize("NFC")
    if type_ == "category":
        return pl.when(text != "").then(text).alias(name)
    words = pl.col(name).cast(pl.List(pl.String)).list.eval(text.filter(text != "").drop_nulls())
    words = words.list.unique(maintain_order=True)
    return pl.when(words.list.len() > 0).then(words).alias(name)


def _ids(sheet: Sheet, name: str) -> pl.Expr:
    """Return ids as text. A fractional number is none: 7 and 7.0 would be two."""
    dtype = sheet.rows.schema[name]
    if dtype not in WORDS and not dtype.is_integer():
        raise _wrong(sheet, name, "text or whole numbers")
    return pl.col(name).cast(pl.String)


def _members(
    sheet: Sheet, column: str, known: Mapping[Kind, pl.Series], *, kind: Kind
) -> list[Issues]:
    if kind in known:
        return member_faults(sheet, column, known[kind], kind=kind)
    return whole(
        sheet.file, f"is about {kind}s", sort=f"no {kind}s", remedy=f"give {kind}s={kind}s frame"
    )


def _kinds(sheet: Sheet) -> dict[Kind, Sheet]:
    """Part rows by their column ``kind``; without one all are about artists."""
    if "kind" not in sheet.rows.columns:
        return {"artist": sheet}
    parts = sheet.rows.partition_by("kind", as_dict=True)
    for (kind,) in parts:
        if kind not in KINDS:
            raise DataError(f"{sheet.file}: kind is {kind!r}; it must be 'artist' or 'track'")
    return {cast(Kind, x): Sheet(sheet.file, rows) for (x,), rows in parts.items()}


def _plays(
    frame: Frame | None, known: Mapping[Kind, pl.Series]
) -> tuple[pl.DataFrame, list[Issues]]:
    """Read who played what, and how often: added up, and once a row where no number is given."""
    empty = pl.DataFrame(schema=PLAYS)
    if frame is None:
        return empty, []
    items = ("artist", "track", "item")
    sheet = read_frame(frame, file="plays frame", needs=(("user",), items))
    item = next(x for x in items if x in sheet.rows.columns)
    if "plays" in sheet.rows.columns and _type_of(sheet, "plays") != "number":
        raise _wrong(sheet, "plays", "numbers")
    there = "plays" in sheet.rows.columns
    findings: list[Issues] = []
    tables = [empty]
    by_kind: dict[Kind, Sheet] = {"track": sheet} if item == "track" else _kinds(sheet)
    for kind, part in by_kind.items():
        rows = part.rows.select(
            ROW,
            kind=pl.lit(kind),
            user=_ids(part, "user"),
            item=_ids(part, item),
            plays=pl.col("plays").cast(pl.Float64).fill_nan(None) if there else pl.lit(1.0),
        )
        part = Sheet(sheet.file, rows)
        findings += _members(part, "item", known, kind=kind) + play_faults(part)
        tables.append(rows.filter(pl.col("plays") != 0).drop(ROW))
    summed = pl.concat(tables).group_by("kind", "user", "item", maintain_order=True)
    return summed.agg(pl.col("plays").sum()), findings


def _relations(
    frame: Frame | None, known: Mapping[Kind, pl.Series]
) -> tuple[pl.DataFrame, list[Issues]]:
    """Read which items are related: each pair once a source, whichever way it is written."""
    empty = pl.DataFrame(schema=RELATIONS)
    if frame is None:
        return empty, []
    sheet = read_frame(frame, file="relations frame", needs=(("a",), ("b",)))
    source = pl.col("source") if "source" in sheet.rows.columns else pl.lit(SOURCE)
    findings: list[Issues] = []
    tables = [empty]
    for kind, part in _kinds(sheet).items():
        rows = part.rows.select(
            ROW, kind=pl.lit(kind), a=_ids(part, "a"), b=_ids(part, "b"), source=source.cast(str)
        )
        part = Sheet(sheet.file, rows)
        findings += [x for end in ("a", "b") for x in _members(part, end, known, kind=kind)]
        findings += relation_faults(part)
        tables.append(
            rows.select(
                "kind",
                pl.min_horizontal("a", "b").alias("a"),
                pl.max_horizontal("a", "b").alias("b"),
                "source",
            )
        )
    return pl.concat(tables).unique(maintain_order=True), findings


def _features(
    features: Mapping[Any, Frame | Embeddings], known: Mapping[Kind, pl.Series]
) -> tuple[dict[FeatureKey, Embeddings], list[Issues]]:
    """Read vectors: ``Embeddings``, or a frame of ids and numbers; a name alone is of artists."""
    vectors: dict[FeatureKey, Embeddings] = {}
    findings: list[Issues] = []
    for key, content in features.items():
        name, kind = cast(FeatureKey, (key, "artist") if isinstance(key, str) else key)
        file = f"features[{name!r}] frame"
        if isinstance(content, Embeddings):
            vectors[name, kind] = content
            sheet = Sheet(file, pl.DataFrame({"id": content.ids}).with_row_index(ROW))
        else:
            sheet = _vectors(read_frame(content, file=file, needs=(("id",),)))
            faults = id_faults(sheet) + vector_faults(sheet)
            findings += faults
            if not faults:
                rows = sheet.rows
                values = np.ascontiguousarray(rows["vector"].to_numpy())
                vectors[name, kind] = Embeddings(tuple(rows["id"]), values)
        findings += _members(sheet, "id", known, kind=kind)
    widths = {key: x.vectors.shape[1] for key, x in vectors.items()}
    return vectors, findings + width_faults(widths, file="features")


def _vectors(sheet: Sheet) -> Sheet:
    """Make one vector of each row: the column ``vector``, or else all other columns in order."""
    names = [x for x in sheet.rows.columns if x not in (ROW, "id")]
    if names == ["vector"] and sheet.rows.schema["vector"].is_nested():
        lists = pl.col("vector").cast(pl.List(pl.Float32))
        lists = lists.list.eval(pl.element().fill_null(np.nan))  # a fault, as any other hole
        widths = sheet.rows.select(lists.list.len().unique().sort()).to_series().drop_nulls()
        if len(widths) != 1:
            raise DataError(
                f"{sheet.file}: vectors have {' and '.join(map(str, widths.head(3)))} values; "
                "give all the same number"
            )
        vector = lists.list.to_array(int(widths[0]))
    else:
        for name in names:
            if _type_of(sheet, name) != "number":
                raise _wrong(sheet, name, "numbers, or drop the column")
        if not names:
            raise DataError(f"{sheet.file}: has ids alone; add columns of numbers")
        numbers = pl.concat_list([pl.col(x).cast(pl.Float32).fill_null(np.nan) for x in names])
        vector = numbers.list.to_array(len(names))
    return Sheet(sheet.file, sheet.rows.select(ROW, _ids(sheet, "id"), vector.alias("vector")))
