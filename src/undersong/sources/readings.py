"""Rows of one mapped table on their way into the catalogue, and an account of those left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue.check import empty_faults, member_faults
from undersong.catalogue.faults import ROW, Findings, Sheet, shown, whole
from undersong.catalogue.tables import Kind
from undersong.sources import sheets
from undersong.sources.columns import Column, typed
from undersong.sources.mapping import Table


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

    def nothing_left(self) -> list[Findings]:
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


Read = tuple[Reading | None, list[Findings]]
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
    sheet, findings = sheets.read_sheet(path, wanted, file=table.file, delimiter=table.delimiter)
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
        decimal_comma=sheets.decimal_comma(path, delimiter=table.delimiter),
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
) -> tuple[Reading, list[Findings]]:
    """Keep the rows whose ``column`` names an item that was kept.

    Rows of an item that ``where`` left out are left out too. An id of no item at all, or
    none, is a fault with ``unknown`` as "fault"; otherwise those rows are left out.
    """
    if kind not in items:
        remedy = f"add [{kind}s] to the mapping, or correct `kind`"
        what = f"belongs to {kind}s, which are not there"
        return reading, whole(reading.sheet.file, what, sort=f"no {kind}s", remedy=remedy)
    known, kept = items[kind].known, items[kind].sheet.rows["id"]
    findings: list[Findings] = []
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
