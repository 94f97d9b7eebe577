"""Export to NumPy: the vectors as one array, and beside it a line of JSON per row."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from undersong.export.rows import Rows, placing
from undersong.progress import Progress, silent

ITEMS = "items.jsonl"


def write_numpy(rows: Rows, out: Path, *, force: bool = False, progress: Progress = silent) -> None:
    """Write ``out`` (n, d) float32, and ``out.items.jsonl`` with id and what is known of each row.

    The array can be mapped into memory: ``numpy.load(out, mmap_mode="r")``.

    Raises
    ------
    DataError
        If something foreign stands there and not ``force``.
    """
    about = rows.origin | {"target": "numpy"}
    with placing(out, about, beside=(ITEMS,), force=force) as (array, items):
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows.count, rows.width)}
        with array.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in rows.blocks("numpy", progress):
                file.write(np.ascontiguousarray(block["vector"].to_numpy(), dtype="<f4").tobytes())
        write_items(rows, items)


def write_items(rows: Rows, path: Path) -> None:
    """Write what is known of each item: one JSON object per line, without the vector."""
    rows.frame.drop("vector").sink_ndjson(path, check_extension=False)


KEY = "undersong.export"
ROW_GROUP = 16384


def write_parquet(rows: Rows, out: Path, *, force: bool = False) -> None:
    """Write id, name, what is known, and vector as a fixed-size list of float32.

    The file's own metadata holds ``rows.origin`` as JSON under the key ``undersong.export``.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.
    """
    about = rows.origin | {"target": "parquet"}
    with placing(out, about, force=force) as (temporary,):
        rows.frame.sink_parquet(
            temporary, metadata={KEY: json.dumps(about)}, row_group_size=ROW_GROUP
        )


# What spreadsheets take for a formula, also after spaces and in full width, and the control
# characters that let one begin in the next cell. A quote before it is doubled, so that taking one
# away gives back the text.
FORMULA = r"^'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])"


def safe(text: pl.Expr) -> pl.Expr:
    """Put ' before text that a spreadsheet would calculate; other text stays as it is.

    Numbers in a column of numbers are no text. To read back, take the first ' off every cell that
    has one or more of them and then ``=``, ``+``, ``-``, ``@``, a tab or a line break.

    Source: OWASP, CSV Injection.
    """
    return text.str.replace(FORMULA, "'${0}")


def write_vectors(rows: Rows, out: Path, *, force: bool = False) -> None:
    """Write one line per item: what is known of it, then columns v0, v1, ... of its vector.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.
    """
    vector = [pl.col("vector").arr.get(x).alias(f"v{x}") for x in range(rows.width)]
    with placing(out, rows.origin | {"target": "csv"}, force=force) as (temporary,):
        write_csv(rows.frame.with_columns(vector).drop("vector"), temporary)


def write_csv(table: pl.LazyFrame, path: Path) -> None:
    """Write a table as CSV: UTF-8 with a mark that spreadsheets look for, all text in quotes.

    Several words of one item are joined with "; ". What is not known is an empty cell.
    """
    schema = table.collect_schema()
    joined = [pl.col(x).list.join("; ") for x, type_ in schema.items() if type_ == pl.List]
    words = [safe(pl.col(x)) for x, type_ in schema.items() if type_ in (pl.String, pl.List)]
    table.with_columns(joined).with_columns(words).sink_csv(
        path, include_bom=True, quote_style="non_numeric", check_extension=False
    )
