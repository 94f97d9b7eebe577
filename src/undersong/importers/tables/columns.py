"""A user's column -> what a catalogue holds: ids, words, tags, numbers, vectors."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import (
    ROW,
    Issues,
    Kind,
    Sheet,
    empty_faults,
    find_issues,
    member_faults,
    number_faults,
    shown,
    whole,
)
from undersong.importers.tables import spreadsheets
from undersong.importers.tables.mapping import Table

Typed = tuple[Sheet, list[Issues]]


@dataclass(frozen=True)
class Column:
    """What to make of one column.

    Parameters
    ----------
    name : in the user's file
    type : "id", "category", "tags", "number" or "vector"
    separator : of the tags in one cell
    votes : what stands between a tag and its number of votes; "" where tags have none
    """

    name: str
    type: str = "category"
    separator: str = "|"
    votes: str = ""


def typed(
    sheet: Sheet, columns: dict[str, Column], *, empty: Sequence[str], decimal_comma: bool
) -> Typed:
    """Give every column its type.

    Parameters
    ----------
    sheet : rows as read; columns have their new names already
    columns : new name -> what to make of it
    empty : words that say that a value is not given (never in an id)
    decimal_comma : 1,5 means 1.5

    Returns
    -------
    The rows and the faults; a value with a fault is null.
    """
    findings: list[Issues] = []
    for name, column in columns.items():
        dtype = sheet.rows.schema[name]
        if dtype.is_nested() != (column.type == "vector") and not (
            column.type == "tags" and dtype == pl.List(pl.String)
        ):
            findings += whole(
                sheet.file,
                f"column {column.name!r} is {dtype}, which is no {column.type}",
                sort="another type of column",
                remedy="map it as another type, or write it again as text or numbers",
            )
            sheet = _with(sheet, name, pl.lit(None, dtype=pl.String))
        if column.type != "id" and sheet.rows.schema[name] == pl.String:
            sheet = _with(sheet, name, _given(pl.col(name), empty))
        sheet, found = _MAKERS[column.type](sheet, name, column, decimal_comma)
        findings += found
    return sheet, findings


def _given(text: pl.Expr, empty: Sequence[str]) -> pl.Expr:
    return pl.when(~text.str.strip_chars().is_in(["", *empty])).then(text)


def _with(sheet: Sheet, name: str, column: pl.Expr) -> Sheet:
    return replace(sheet, rows=sheet.rows.with_columns(column.alias(name)))


def _id(sheet: Sheet, name: str, column: Column, decimal_comma: bool) -> Typed:
    """Keep an id as it is. A fractional number is none: 7 and 7.0 would be two."""
    faults: list[Issues] = []
    if sheet.rows.schema[name].is_float():
        what = f"column {column.name!r} holds fractional numbers, such as {sheet.rows[name][0]}"
        remedy = "write ids as text or whole numbers"
        faults = whole(sheet.file, what, sort="fractional ids", remedy=remedy)
    return _with(sheet, name, pl.col(name).cast(pl.String)), faults


def _category(sheet: Sheet, name: str, column: Column, decimal_comma: bool) -> Typed:
    """Bring words into Unicode's composed form, so that the same word is the same text."""
    text = pl.col(name).cast(pl.String).str.strip_chars().str.normalize("NFC")
    return _with(sheet, name, text), []


def _tags(sheet: Sheet, name: str, column: Column, decimal_comma: bool) -> Typed:
    """Part a cell into its words, each once, in their order or that of their votes."""
    words = pl.col(name)
    if sheet.rows.schema[name] != pl.List(pl.String):
        words = words.cast(pl.String).str.split(column.separator)
    word = pl.element().str.strip_chars().str.normalize("NFC")
    if column.votes:
        count = rf"\s*{re.escape(column.votes)}\s*(\d+(?:\.\d+)?)$"
        votes = word.str.extract(count).cast(pl.Float64).fill_null(0)
        word = word.str.replace(count, "").sort_by(votes, descending=True, maintain_order=True)
    words = words.list.eval(word.filter(word != "")).list.unique(maintain_order=True)
    return _with(sheet, name, pl.when(words.list.len() > 0).then(words)), []


def _number(sheet: Sheet, name: str, column: Column, decimal_comma: bool) -> Typed:
    value = pl.col(name)
    if sheet.rows.schema[name] == pl.String:
        text = value.str.strip_chars()
        value = text.str.replace(",", ".", literal=True) if decimal_comma else text
    number = value.cast(pl.Float64, strict=False)
    faults = find_issues(
        sheet,
        number.is_null() & pl.col(name).is_not_null(),
        sort=f"{name} not a number",
        what=lambda row: f"{column.name} is {shown(row[name])}, not a number",
        remedy="correct it, leave it empty, or list the word under `empty` in the mapping",
    )
    sheet = _with(sheet, name, number.fill_nan(None))
    return sheet, faults + number_faults(sheet, name)


def _vector(sheet: Sheet, name: str, column: Column, decimal_comma: bool) -> Typed:
    """Take lists of equal length; the most frequent length is the right one."""
    if not sheet.rows.schema[name].is_nested():
        return sheet, []
    inner = getattr(sheet.rows.schema[name], "inner", pl.String())
    if not inner.is_numeric():
        what = f"column {column.name!r} holds lists of {inner}, not of numbers"
        remedy = "write the vectors as lists of numbers"
        return sheet, whole(sheet.file, what, sort="another type of column", remedy=remedy)
    lists = pl.col(name).cast(pl.List(pl.Float32))
    sheet = _with(sheet, name, lists)
    widths = sheet.rows[name].list.len().drop_nulls()
    width = int(widths.mode().sort().to_list()[-1]) if len(widths) else 0
    other = pl.col(name).list.len() != width
    faults = find_issues(
        sheet,
        other,
        sort="vector of another width",
        what=lambda row: f"{column.name} has {len(row[name])} values, most others {width}",
        remedy="compute all vectors with the same program",
    )
    kept = pl.when(~other).then(pl.col(name))
    return _with(sheet, name, kept.list.to_array(width)), faults


_MAKERS: dict[str, Callable[[Sheet, str, Column, bool], Any]] = {
    "id": _id,
    "category": _category,
    "tags": _tags,
    "number": _number,
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

    def only(self, kept: pl.Expr, reason: str) -> "Reading":
        """Keep the rows for which ``kept`` is true; count the others under ``reason``."""
        return with_rows(self, self.sheet.rows.filter(kept), reason=reason)

    def nothing_left(self) -> list[Issues]:
        """Say so if no row is left."""
        if not self.sheet.rows.is_empty():
            return []
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.summary.left_out)
        return whole(
            self.sheet.file,
            f"keeps none of its {self.summary.rows:,} rows ({reasons})",
            sort="nothing left",
            remedy=f"correct [{self.summary.table.split()[0]}] in the mapping",
        )


Read = tuple[Reading | None, list[Issues]]
Items = Mapping[Kind, Reading]


def read_rows(data: Path, table: Table, columns: dict[str, Column], *, title: str) -> Read:
    """Read the rows of one table that its ``where`` keeps, each column with its type.

    Parameters
    ----------
    data : where the paths of the mapping begin
    table : of the mapping
    columns : name in the catalogue -> column of the file
    title : what the summary calls the table
    """
    path = data / table.file
    conditions = {f"where {name}": name for name, _ in table.where}
    wanted = {new: x.name for new, x in columns.items()} | conditions
    sheet, findings = spreadsheets.read_sheet(
        path, wanted, file=table.file, delimiter=table.delimiter
    )
    if sheet is None:
        return None, findings
    known = sheet.rows["id"].cast(pl.String) if "id" in columns else pl.Series(dtype=pl.String)
    summary = TableSummary(title, table.file, sheet.rows.height, sheet.rows.height)
    reading = Reading(sheet, known, summary)
    for name, values in table.where:
        rows = reading.sheet.rows
        found = rows[f"where {name}"]
        reading = reading.only(_any_of(f"where {name}", found.dtype, values), f"other {name}")
        if reading.sheet.rows.is_empty():
            some = ", ".join(shown(x) for x in found.drop_nulls().unique().sort().head(4))
            what = f"no row has {name} = {' or '.join(shown(x) for x in values)}; it holds {some}"
            remedy = "correct `where` in the mapping"
            return None, whole(table.file, what, sort="nothing left", remedy=remedy)
    sheet, findings = typed(
        Sheet(table.file, reading.sheet.rows.drop(list(conditions))),
        columns,
        empty=table.empty,
        decimal_comma=spreadsheets.decimal_comma(path, delimiter=table.delimiter),
    )
    return replace(reading, sheet=sheet), findings


def _any_of(column: str, dtype: pl.DataType, values: Sequence[Any]) -> pl.Expr:
    """Say whether a cell is one of the values; true and 1, and 7 and 7.0, are the same."""
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
    reading: Reading, column: str, items: Items, *, kind: Kind, unknown: str
) -> tuple[Reading, list[Issues]]:
    """Keep the rows whose ``column`` names an item that was kept.

    Rows of an item that ``where`` left out are left out too. An id of no item at all, or
    none, is a fault with ``unknown`` as "fault"; otherwise those rows are left out.
    """
    if kind not in items:
        remedy = f"add [{kind}s] to the mapping, or correct `kind`"
        what = f"belongs to {kind}s, which are not there"
        return reading, whole(reading.sheet.file, what, sort=f"no {kind}s", remedy=remedy)
    known, kept = items[kind].known, items[kind].sheet.rows["id"]
    findings: list[Issues] = []
    if unknown == "fault":
        findings += empty_faults(reading.sheet, column)
        findings += member_faults(reading.sheet, column, known, kind=kind)
    there = pl.col(column).is_in(known.drop_nulls().unique().implode())
    reading = reading.only(there.fill_null(value=False), f"of an unknown {kind}")
    inside = pl.col(column).is_in(kept.unique().implode())
    return reading.only(inside, f"of {kind}s left out"), findings


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


def with_rows(reading: Reading, rows: pl.DataFrame, *, reason: str = "") -> Reading:
    """Take other rows; by how many they are fewer is counted under ``reason``."""
    gone = reading.sheet.rows.height - rows.height
    left_out = dict(reading.summary.left_out)
    if gone:
        left_out[reason] = left_out.get(reason, 0) + gone
    return Reading(
        sheet=Sheet(reading.sheet.file, rows),
        known=reading.known,
        summary=replace(reading.summary, kept=rows.height, left_out=tuple(left_out.items())),
    )


def with_columns(reading: Reading, columns: Sequence[pl.Expr]) -> Reading:
    """Add or replace columns; the rows stay the same."""
    return with_rows(reading, reading.sheet.rows.with_columns(columns))


def row_free(reading: Reading) -> pl.DataFrame:
    """Give the rows without their places in the file."""
    return reading.sheet.rows.drop(ROW)
