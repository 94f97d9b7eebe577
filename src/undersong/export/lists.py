"""Export of answers: a table of neighbours with the names of both, for people and services."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue import Kind
from undersong.errors import DataError, nearest_known
from undersong.export.rows import placing, provenance
from undersong.io.csv_files import write_csv
from undersong.io.files import sha256
from undersong.io.parquet import scan_table
from undersong.runs import Run

NEEDED = ("item", "rank", "neighbour", "score")


FORMS: dict[str, Callable[[pl.LazyFrame, Path], Any]] = {
    ".csv": write_csv,
    ".parquet": pl.LazyFrame.sink_parquet,
    ".jsonl": partial(pl.LazyFrame.sink_ndjson, check_extension=False),
}


def write_lists(run: Run, neighbours: Path, out: Path, *, kind: Kind, force: bool = False) -> int:
    """Put names to what `undersong neighbours` wrote, one row per item and neighbour, in its order.

    The columns are item, name, rank (from 1), neighbour, neighbour_name, neighbour_about,
    neighbour_long_tail (no relation of it is known), score, and what else the table has. The end
    of ``out`` says the form: .csv, .parquet or .jsonl. Returns the number of rows.

    Raises
    ------
    DataError
        If ``neighbours`` is no such table or names items that the run does not have, the end of
        ``out`` is another, or something foreign stands there and not ``force``.
    """
    if out.suffix not in FORMS:
        raise DataError(
            f"{out}: no form of lists ends in {out.suffix!r}; {nearest_known(out.suffix, FORMS)}"
        )
    lists = _scan(neighbours)
    items = pl.scan_parquet(run.file("items.parquet")).filter(pl.col("kind") == kind)
    count = _check(lists, items, neighbours, kind)
    about = provenance(run) | {"target": "lists", "kind": kind, "rows": count}
    about["neighbours"] = {"name": neighbours.name, "sha256": sha256(neighbours)}
    with placing(out, about, force=force) as (temporary,):
        FORMS[out.suffix](_named(lists, items), temporary)
    return count


def _scan(path: Path) -> pl.LazyFrame:
    fault, hint = "is no table of neighbours", "make one with `undersong neighbours`"
    table = scan_table(path, hint=hint, fault=fault, error=DataError)
    columns = table.collect_schema().names()
    absent = [x for x in NEEDED if x not in columns]
    if absent:
        raise DataError(
            f"{path} has no column {absent[0]!r}, it has {', '.join(columns)}; make a table of "
            "neighbours with `undersong neighbours`"
        )
    return table


def _check(lists: pl.LazyFrame, items: pl.LazyFrame, path: Path, kind: Kind) -> int:
    """See that the run knows every item, and count the rows."""
    named = pl.concat([lists.select(id="item"), lists.select(id="neighbour")]).unique()
    strange = named.join(items, on="id", how="anti").head(1).collect()["id"]
    if len(strange):
        raise DataError(
            f"{path} names {strange[0]!r}, which is no {kind} of this run; make the table again "
            "with `undersong neighbours`"
        )
    return int(lists.select(pl.len()).collect().item())


def _named(lists: pl.LazyFrame, items: pl.LazyFrame) -> pl.LazyFrame:
    names = items.select(item="id", name="name")
    neighbours = items.select(
        neighbour="id",
        neighbour_name="name",
        neighbour_about="about",
        neighbour_long_tail=pl.col("relations") == 0,
    )
    joined = lists.join(names, on="item", how="left", maintain_order="left").join(
        neighbours, on="neighbour", how="left", maintain_order="left"
    )
    first = ("item", "name", "rank", *neighbours.collect_schema().names())
    return joined.select(*first, pl.exclude(first))
