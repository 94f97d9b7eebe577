"""Export to files: vectors for NumPy, Parquet, CSV and faiss, and answers as a table."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Kind
from undersong.embeddings import unit
from undersong.errors import DataError, nearest_known, needs
from undersong.export.rows import Rows, placing, provenance, refuse_foreign
from undersong.io.files import sha256
from undersong.io.table_files import scan_table, write_csv
from undersong.progress import Progress, silent
from undersong.runs import Run

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


Form = Literal["flat", "ivf"]

PER_LIST = 64  # vectors that place the centre of one list; faiss asks for 39 or more
JUDGED, NEIGHBOURS, RECALL = 256, 10, 0.99
SEED = 0


def write_faiss(
    rows: Rows,
    out: Path,
    *,
    form: Form = "flat",
    force: bool = False,
    progress: Progress = silent,
) -> None:
    """Write an index whose numbers are the lines of ``out.items.jsonl``, from 0.

    Vectors are scaled to length 1, and queries must be. The index is built in memory: 4 bytes a
    number. "ivf" keeps 4 sqrt(n) lists, of which a query reads so many (``nprobe``, kept in the
    file) that recall@10 of 256 items is .99; the note says what was reached.

    Raises
    ------
    DataError
        If there is no item, or something foreign stands at ``out`` and not ``force``.
    UndersongError
        If faiss is not installed.
    """
    with needs("faiss", "this export"):
        import faiss
    if not rows.count:
        raise DataError("no item has such a vector; an index needs one or more")
    refuse_foreign(out, beside=(ITEMS,), force=force)
    about: dict[str, Any] = rows.origin | {"target": "faiss", "index": form, "metric": "cosine"}
    index: Any = faiss.IndexFlatIP(rows.width)
    if form == "ivf":
        sample = _sample(rows)
        lists = max(1, min(round(4 * rows.count**0.5), len(sample) // PER_LIST))
        index = faiss.IndexIVFFlat(index, rows.width, lists, faiss.METRIC_INNER_PRODUCT)
        index.train(sample)
    for block in rows.blocks("faiss", progress):
        index.add(unit(block["vector"].to_numpy()))
    if form == "ivf":
        recall = _choose_probes(index, sample[:JUDGED])
        about |= {"lists": lists, "nprobe": index.nprobe, "recall@10": recall}
    with placing(out, about, beside=(ITEMS,), force=force) as (temporary, items):
        faiss.write_index(index, str(temporary))
        write_items(rows, items)


def _sample(rows: Rows) -> NDArray[np.float32]:
    """Draw what lists are placed by, in random order: all vectors, or enough of them."""
    size = min(rows.count, round(4 * rows.count**0.5) * PER_LIST)
    generator = np.random.default_rng(SEED)
    drawn = np.zeros(rows.count, dtype=bool)
    drawn[generator.choice(rows.count, size=size, replace=False)] = True
    start, parts = 0, []
    for block in rows.blocks():
        parts.append(block["vector"].to_numpy()[drawn[start : start + len(block)]])
        start += len(block)
    return unit(generator.permutation(np.concatenate(parts)))


def _choose_probes(index: Any, queries: NDArray[np.float32]) -> float:
    """Set ``nprobe`` to the first of 1, 2, 4, ... that finds what reading every list finds.

    Returns the recall@10 it reaches. A query that stands in the index finds itself first, which
    does not count; of equal scores either is right.
    """

    def scores(probes: int) -> NDArray[np.float32]:
        index.nprobe = min(probes, index.nlist)
        nearest: NDArray[np.float32] = index.search(queries, NEIGHBOURS + 1)[0][:, 1:]
        return nearest

    exact, probes = scores(index.nlist), 1
    while True:
        recall = float((scores(probes) >= exact[:, -1:] - 1e-6).mean())
        if recall >= RECALL or probes >= index.nlist:
            return round(recall, 4)
        probes *= 2
