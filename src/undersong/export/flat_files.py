"""Export to NumPy: the vectors as one array, and beside it a line of JSON per row."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from undersong.export.rows import Rows, placing
from undersong.io.csv_files import write_csv
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
