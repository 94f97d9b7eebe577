"""Export to NumPy: the vectors as one array, and beside it a line of JSON per row."""

from pathlib import Path

import numpy as np

from undersong.exports.place import placing
from undersong.exports.rows import Rows
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
            done = 0
            for block in rows.blocks():
                file.write(np.ascontiguousarray(block["vector"].to_numpy(), dtype="<f4").tobytes())
                done += len(block)
                progress("numpy", done, rows.count)
        write_items(rows, items)


def write_items(rows: Rows, path: Path) -> None:
    """Write what is known of each item: one JSON object per line, without the vector."""
    rows.frame.drop("vector").sink_ndjson(path, check_extension=False)
