"""A user's column -> what a catalogue holds: ids, words, tags, numbers, vectors.

Feature vectors may be an array file, row by row beside a list of ids (section 2.1).
"""

import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undersong.catalogue import (
    ROW,
    Issues,
    Kind,
    Sheet,
    empty_faults,
    find_issues,
    id_faults,
    member_faults,
    number_faults,
    shown,
    vector_faults,
    whole,
)
from undersong.errors import nearest_known
from undersong.importers.tables import spreadsheets
from undersong.importers.tables.mapping import FeaturesMapping, TableMapping


@dataclass(frozen=True)
class Column:
    """What to make of one column.

    Parameters
    ----------
    name : in the user's file
    type : "id", "category", "tags", "number" or "vector"
    separator : of the tags in one cell
    votes : what separates a tag and its number of votes; "" where tags have none
    """

    name: str
    type: str = "category"
    separator: str = "|"
    votes: str = ""


def typed(
    sheet: Sheet,
    columns: dict[str, Column],
    issues: list[Issues],
    *,
    empty: Sequence[str],
    decimal_comma: bool,
) -> Sheet:
    """Convert every column to its type; a value with a fault is null.

    Parameters
    ----------
    sheet : rows as read; columns have their new names already
    columns : new name -> what to make of it
    issues : grows by the faults
    empty : words for a value that is not known (never in an id)
    decimal_comma : 1,5 means 1.5
    """
    for name, column in columns.items():
        dtype = sheet.rows.schema[name]
        if dtype.is_nested() != (column.type == "vector") and not (
            column.type == "tags" and dtype == pl.List(pl.String)
        ):
            issues += whole(
                sheet.file,
                f"column {column.name!r} is {dtype}, which is no {column.type}",
                sort="another type of column",
                remedy="map it as another type, or write it again as text or numbers",
            )
            sheet = _with(sheet, name, pl.lit(None, dtype=pl.String))
        if column.type != "id" and sheet.rows.schema[name] == pl.String:
            text = pl.col(name)
            known = ~text.str.strip_chars().is_in(["", *empty])
            sheet = _with(sheet, name, pl.when(known).then(text))
        if column.type == "number":
            sheet = _number(sheet, name, column, issues, decimal_comma=decimal_comma)
        else:
            sheet = _CONVERSIONS[column.type](sheet, name, column, issues)
    return sheet


def _with(sheet: Sheet, name: str, column: pl.Expr) -> Sheet:
    return replace(sheet, rows=sheet.rows.with_columns(column.alias(name)))


def _id(sheet: Sheet, name: str, column: Column, issues: list[Issues]) -> Sheet:
    if sheet.rows.schema[name].is_float():  # 7 and 7.0 would be two ids
        what = f"column {column.name!r} holds fractional numbers, such as {sheet.rows[name][0]}"
        remedy = "write ids as text or whole numbers"
        issues += whole(sheet.file, what, sort="fractional ids", remedy=remedy)
    return _with(sheet, name, pl.col(name).cast(pl.String).str.strip_chars())


def _category(sheet: Sheet, name: str, column: Column, issues: list[Issues]) -> Sheet:
    """Compose accents as Unicode's NFC does, so that the same word is the same text."""
    text = pl.col(name).cast(pl.String).str.strip_chars().str.normalize("NFC")
    return _with(sheet, name, text)


def _tags(sheet: Sheet, name: str, column: Column, issues: list[Issues]) -> Sheet:
    """Split a cell into its words, each once, in their order or that of their votes."""
    words = pl.col(name)
    if sheet.rows.schema[name] != pl.List(pl.String):
        words = words.cast(pl.String).str.split(column.separator)
    word = pl.element().str.strip_chars().str.normalize("NFC")
    if column.votes:
        count = rf"\s*{re.escape(column.votes)}\s*(\d+(?:\.\d+)?)$"
        votes = word.str.extract(count).cast(pl.Float64).fill_null(0)
        word = word.str.replace(count, "").sort_by(votes, descending=True, maintain_order=True)
    words = words.list.eval(word.filter(word != "")).list.unique(maintain_order=True)
    return _with(sheet, name, pl.when(words.list.len() > 0).then(words))


def _number(
    sheet: Sheet, name: str, column: Column, issues: list[Issues], *, decimal_comma: bool
) -> Sheet:
    value = pl.col(name)
    if sheet.rows.schema[name] == pl.String:
        text = value.str.strip_chars()
        value = text.str.replace(",", ".", literal=True) if decimal_comma else text
    number = value.cast(pl.Float64, strict=False)
    issues += find_issues(
        sheet,
        number.is_null() & pl.col(name).is_not_null(),
        sort=f"{name} not a number",
        what=lambda row: f"{column.name} is {shown(row[name])}, not a number",
        remedy="correct it, leave it empty, or list the word under `empty` in the mapping",
    )
    sheet = _with(sheet, name, number.fill_nan(None))
    issues += number_faults(sheet, name)
    return sheet


def _vector(sheet: Sheet, name: str, column: Column, issues: list[Issues]) -> Sheet:
    """Take lists of equal length; the most frequent length is the right one."""
    if not sheet.rows.schema[name].is_nested():
        return sheet
    inner = getattr(sheet.rows.schema[name], "inner", pl.String())
    if not inner.is_numeric():
        what = f"column {column.name!r} holds lists of {inner}, not of numbers"
        remedy = "write the vectors as lists of numbers"
        issues += whole(sheet.file, what, sort="another type of column", remedy=remedy)
        return sheet
    sheet = _with(sheet, name, pl.col(name).cast(pl.List(pl.Float32)))
    widths = sheet.rows[name].list.len().drop_nulls()
    width = int(widths.mode().sort().to_list()[-1]) if len(widths) else 0
    other = pl.col(name).list.len() != width
    issues += find_issues(
        sheet,
        other,
        sort="vector of another width",
        what=lambda row: f"{column.name} has {len(row[name])} values, most others {width}",
        remedy="compute all vectors with the same program",
    )
    vectors = pl.when(~other).then(pl.col(name))
    return _with(sheet, name, vectors.list.to_array(width))


_CONVERSIONS: dict[str, Callable[[Sheet, str, Column, list[Issues]], Sheet]] = {
    "id": _id,
    "category": _category,
    "tags": _tags,
    "vector": _vector,
}


@dataclass(frozen=True)
class TableSummary:
    """What became of one file: its rows, how many of them were kept, and why others were not."""

    table: str
    file: str
    rows: int
    kept: int
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Reading:
    """Rows of one file.

    ``known`` holds every id of a file of items, also of the rows that ``where`` leaves out.
    """

    sheet: Sheet
    known: pl.Series
    summary: TableSummary

    def only(self, wanted: pl.Expr, reason: str) -> "Reading":
        """Return the rows for which ``wanted`` is true; count the others under ``reason``."""
        return self.with_rows(self.sheet.rows.filter(wanted), reason=reason)

    def with_rows(self, rows: pl.DataFrame, *, reason: str = "") -> "Reading":
        """Take other rows; by how many they are fewer is counted under ``reason``."""
        gone = self.sheet.rows.height - rows.height
        left_out = dict(self.summary.left_out)
        if gone:
            left_out[reason] = left_out.get(reason, 0) + gone
        summary = replace(self.summary, kept=rows.height, left_out=tuple(left_out.items()))
        return Reading(Sheet(self.sheet.file, rows), self.known, summary)

    def with_columns(self, *columns: pl.Expr) -> "Reading":
        """Add or replace columns; the rows stay the same."""
        return self.with_rows(self.sheet.rows.with_columns(columns))

    def catalogue_rows(self) -> pl.DataFrame:
        """Return the rows without their places in the file."""
        return self.sheet.rows.drop(ROW)

    def nothing_left(self) -> list[Issues]:
        """Return a fault if no row is left."""
        if not self.sheet.rows.is_empty():
            return []
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.summary.left_out)
        return whole(
            self.sheet.file,
            f"keeps none of its {self.summary.rows:,} rows ({reasons})",
            sort="nothing left",
            remedy=f"correct [{self.summary.table.split()[0]}] in the mapping",
        )


Items = Mapping[Kind, Reading]


def read_rows(
    data: Path, table: TableMapping, columns: dict[str, Column], issues: list[Issues], *, title: str
) -> Reading | None:
    """Read the rows of one table that its ``where`` keeps, each column with its type.

    None where faults keep them from being read.

    Parameters
    ----------
    data : where the paths of the mapping begin
    table : of the mapping
    columns : name in the catalogue -> column of the file
    issues : grows by the faults
    title : what the summary calls the table
    """
    path = data / table.file
    conditions = {f"where {name}": name for name, _ in table.where}
    wanted = {new: x.name for new, x in columns.items()} | conditions
    sheet, faults = spreadsheets.read_sheet(
        path, wanted, file=table.file, delimiter=table.delimiter
    )
    issues += faults
    if sheet is None:
        return None
    known = pl.Series(dtype=pl.String)
    if "id" in columns:
        known = sheet.rows["id"].cast(pl.String).str.strip_chars()
    summary = TableSummary(title, table.file, sheet.rows.height, sheet.rows.height)
    reading = Reading(sheet, known, summary)
    for name, values in table.where:
        rows = reading.sheet.rows
        values_there = rows[f"where {name}"]
        reading = reading.only(
            _any_of(f"where {name}", values_there.dtype, values), f"other {name}"
        )
        if reading.sheet.rows.is_empty():
            some = ", ".join(shown(x) for x in values_there.drop_nulls().unique().sort().head(4))
            what = f"no row has {name} = {' or '.join(shown(x) for x in values)}; it holds {some}"
            remedy = "correct `where` in the mapping"
            issues += whole(table.file, what, sort="nothing left", remedy=remedy)
            return None
    sheet = typed(
        Sheet(table.file, reading.sheet.rows.drop(list(conditions))),
        columns,
        issues,
        empty=table.empty,
        decimal_comma=spreadsheets.decimal_comma(path, delimiter=table.delimiter),
    )
    return replace(reading, sheet=sheet)


def _any_of(column: str, dtype: pl.DataType, values: Sequence[Any]) -> pl.Expr:
    """Return whether a cell is one of the values; true and 1, and 7 and 7.0, are the same."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    equal = pl.lit(value=False)
    for value in values:
        if isinstance(value, bool):
            words = ["true", "1", "yes"] if value else ["false", "0", "no"]
            equal |= text.str.to_lowercase().is_in(words)
        elif isinstance(value, int | float):
            equal |= text.cast(pl.Float64, strict=False) == value
        else:
            equal |= text == str(value)
    return equal.fill_null(value=False)


def members(
    reading: Reading, column: str, items: Items, issues: list[Issues], *, kind: Kind, unknown: str
) -> Reading:
    """Return the rows whose ``column`` names an item that ``where`` keeps.

    Rows of an item that ``where`` leaves out are left out too. An id of no item at all, or
    none, is one of the ``issues`` with ``unknown`` as "fault"; else those rows are left out.
    """
    if kind not in items:
        remedy = f"add [{kind}s] to the mapping, or correct `kind`"
        what = f"belongs to {kind}s, which are not there"
        issues += whole(reading.sheet.file, what, sort=f"no {kind}s", remedy=remedy)
        return reading
    known = items[kind].known
    if unknown == "fault":
        issues += empty_faults(reading.sheet, column)
        hint = ' (unknown = "leave out" in the mapping removes such rows)'
        issues += member_faults(reading.sheet, column, known, kind=kind, hint=hint)
    there = pl.col(column).is_in(known.drop_nulls().unique().implode())
    reading = reading.only(there.fill_null(value=False), f"of an unknown {kind}")
    inside = pl.col(column).is_in(items[kind].sheet.rows["id"].unique().implode())
    return reading.only(inside, f"of {kind}s left out")


def with_artists_of(artists: Reading, tracks: Reading) -> Reading:
    """Add every artist that only the tracks name: an id, and nothing else is known."""
    named = tracks.sheet.rows["artist"].drop_nulls().unique(maintain_order=True)
    new = named.filter(~named.is_in(artists.known.drop_nulls().implode())).alias("id")
    rows = pl.concat([artists.sheet.rows, new.to_frame()], how="diagonal")
    return replace(
        artists,
        sheet=Sheet(artists.sheet.file, rows),
        known=artists.known.append(new),
        summary=replace(artists.summary, kept=rows.height),
    )


UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, NotImplementedError),
    *(SyntaxError, TypeError, tokenize.TokenError),  # of the text that describes an array
    *(zlib.error, zipfile.BadZipFile, SafetensorError),
)
FLOATS = ("F16", "F32", "F64")  # as safetensors calls what NumPy knows


def read_matrix(
    data: Path, table: FeaturesMapping, issues: list[Issues], *, title: str
) -> Reading | None:
    """Read vectors and their ids.

    Parameters
    ----------
    data : where the paths of the mapping begin
    table : names the array file, and the file of ids: a ``.txt`` of one id a line, or a table
    issues : grows by every fault of both files
    title : what the summary calls the features

    Returns
    -------
    Rows of an id and a vector of 32-bit floats; none where a value is not finite.
    """
    ids, id_issues = _ids(data / table.ids, table)
    values, array_issues = _array(data / table.file, table)
    issues += id_issues + array_issues
    if ids is None or values is None:
        return None
    if len(ids) != len(values):
        what = f"holds {len(values):,} vectors, but {table.ids} {len(ids):,} ids"
        remedy = "write both again from one list, in one order"
        issues += whole(table.file, what, sort="vectors without ids", remedy=remedy)
        return None
    with np.errstate(over="ignore"):  # too large for 32 bits is infinite, and a fault below
        vectors = np.ascontiguousarray(values, dtype=np.float32)
    kind = pl.Array(pl.Float32, vectors.shape[1])
    rows = pl.DataFrame({"id": ids, "vector": pl.Series(vectors, dtype=kind)})
    sheet = Sheet(table.file, rows.with_row_index(ROW, offset=1))
    if faults := vector_faults(sheet):
        issues += faults + id_faults(sheet)
        return None
    summary = TableSummary(title, table.file, len(rows), len(rows))
    return Reading(sheet, pl.Series(dtype=pl.String), summary)


def _ids(path: Path, table: FeaturesMapping) -> tuple[pl.Series | None, list[Issues]]:
    if path.suffix != ".txt" or not path.is_file():
        sheet, findings = spreadsheets.read_sheet(path, {"id": table.id}, file=table.ids)
        return (None if sheet is None else sheet.rows["id"].cast(pl.String)), findings
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (at byte {error.start:,})"
        return None, whole(table.ids, what, sort="not UTF-8", remedy="save it as UTF-8")
    return pl.Series("id", text.splitlines(), dtype=pl.String), []


def _array(path: Path, table: FeaturesMapping) -> tuple[NDArray[Any] | None, list[Issues]]:
    if missing := spreadsheets.missing_file(path, file=table.file):
        return None, missing
    try:
        names, array = _open(path, table.array)
    except UNREADABLE as error:
        what = f"cannot be read ({str(error).partition(chr(10))[0]})"
        remedy = "write it again as plain numbers, without Python objects"
        return None, whole(table.file, what, sort="unreadable file", remedy=remedy)
    if array is None:
        what = f"holds the arrays {', '.join(names)}" if names else "holds no array"
        remedy = f"name one as `array`; {nearest_known(table.array, names)}"
        return None, whole(table.file, what, sort="which array", remedy=remedy)
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        what = f"holds {array.dtype} of shape {array.shape}, not a matrix of numbers (n, width)"
        remedy = "write one row of numbers for each id"
        return None, whole(table.file, what, sort="no matrix", remedy=remedy)
    return array, []


def _open(path: Path, name: str) -> tuple[list[str], NDArray[Any] | None]:
    """Return the names of the arrays in a file, and the one called ``name``, or the only one."""
    if path.suffix == ".npy":
        return [], np.lib.format.open_memmap(path, mode="r")
    if path.suffix == ".npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            wanted = name or (names[0] if len(names) == 1 else "")
            return names, arrays[wanted] if wanted in names else None
    with safe_open(path, framework="numpy") as tensors:
        names = list(tensors.keys())
        wanted = name or (names[0] if len(names) == 1 else "")
        if wanted not in names:
            return names, None
        dtype = tensors.get_slice(wanted).get_dtype()
        if dtype not in FLOATS:
            raise ValueError(f"array {wanted!r} holds {dtype}; save it as one of {FLOATS}")
        return names, tensors.get_tensor(wanted)
