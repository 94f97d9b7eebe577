"""A user's own feature vectors: an array file, row by row beside a list of ids (section 2.1)."""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undersong.catalogue import ROW, Issues, Sheet, id_faults, vector_faults, whole
from undersong.errors import nearest_known
from undersong.importers.tables import spreadsheets
from undersong.importers.tables.columns import Reading, TableSummary
from undersong.importers.tables.mapping import FeaturesMapping

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
