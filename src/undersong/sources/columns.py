"""A user's column -> what a catalogue holds: ids, words, tags, numbers, vectors."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from undersong.catalogue.check import number_faults
from undersong.catalogue.faults import Findings, Sheet, find, shown, whole

Typed = tuple[Sheet, list[Findings]]


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
    findings: list[Findings] = []
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
    faults: list[Findings] = []
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
    faults = find(
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
    faults = find(
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
