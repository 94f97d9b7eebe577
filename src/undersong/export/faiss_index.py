"""Export to faiss: an index of unit vectors by inner product, which is their cosine."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from undersong.embeddings import unit
from undersong.errors import DataError, needs
from undersong.export.flat_files import ITEMS, write_items
from undersong.export.rows import Rows, placing, refuse_foreign
from undersong.progress import Progress, silent

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
