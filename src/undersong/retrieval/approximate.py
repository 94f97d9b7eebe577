"""The nearest by cosine among very many items, found by looking into few cells (faiss IVF).

The same contract as the exact search: who is not allowed is no answer, no answer is missing while
others are left, scores are exact cosines. What may differ is that in a hundred answers one is
passed over (benchmarks/approximate.py). The file is read only after its hash was checked, since
faiss trusts what it reads.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.io.files import replacing
from undersong.progress import Progress, part_of, silent
from undersong.ranking.cells import learn_centres
from undersong.retrieval.index import TopK, by_cosine

SIZE = 100_000  # items from which on cells are made: there exact search takes some 8 ms a query
CELLS = 4.0  # cells for each square root of the number of items
PROBED = 16  # cells that are looked into
TRAINED = 64  # items for each cell that the cells are learned from
ROUNDS = 10  # of k-means
ADDED = 4  # rounds that it takes to add all, about
BLOCK = 8192  # items that are added at a time
DEEP = 4  # answers by compressed vectors, for each one wanted, that are compared exactly
REMEDY = "publish the run again with `undersong publish`"


@dataclass(frozen=True)
class Approximate:
    """Cells of the items of an index, in its order; ``cells`` is a faiss IVF index."""

    cells: Any

    def search(
        self,
        embeddings: Embeddings,
        rows: NDArray[np.int64],
        *,
        allowed: NDArray[np.bool_],
        k: int,
    ) -> TopK:
        """List the k of the items ``allowed``, (n,), nearest to each query.

        The fewer items are allowed, the more cells are looked into; where that is a quarter of
        them, or where the cells gave too few, the search is exact.
        """
        import faiss

        left = int(np.count_nonzero(allowed))
        probed = -(-PROBED * len(allowed) // max(left, 1))
        deep = DEEP * k + 1
        if probed * 4 > self.cells.nlist or deep * 4 > left:
            return by_cosine(embeddings, rows, among=np.flatnonzero(allowed), k=k)
        how: Any = faiss.SearchParametersIVF()
        how.nprobe = probed
        if left < len(allowed):
            bits = np.packbits(allowed, bitorder="little")
            chosen: Any = faiss.IDSelectorBitmap
            how.sel = chosen(bits)
        queries = embeddings.vectors[rows]
        nearest = self.cells.search(queries, deep, params=how)[1]
        nearest[nearest == rows[:, None]] = -1
        scores = np.einsum("qkd,qd->qk", embeddings.vectors[nearest], queries)
        scores[nearest < 0] = -np.inf
        best = np.lexsort((nearest, -scores), axis=1)[:, :k]
        neighbours = np.take_along_axis(nearest, best, axis=1)
        if (neighbours < 0).any():
            return by_cosine(embeddings, rows, among=np.flatnonzero(allowed), k=k)
        scores = np.take_along_axis(scores, best, axis=1)
        return TopK(rows, neighbours, scores, np.full_like(scores, np.nan))

    def nearest(self, vectors: NDArray[np.float32], *, k: int) -> NDArray[np.int64]:
        """List rows of about the k items nearest to some unit vectors, (q, d) -> (q, k).

        By compressed vectors, best first; where the cells hold fewer the last stands again.
        """
        import faiss

        how: Any = faiss.SearchParametersIVF()
        how.nprobe = PROBED
        neighbours: NDArray[np.int64] = self.cells.search(vectors, k, params=how)[1]
        last = np.maximum((neighbours >= 0).sum(axis=1, keepdims=True) - 1, 0)
        return np.where(neighbours >= 0, neighbours, np.take_along_axis(neighbours, last, axis=1))


def available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def file_of(kind: str) -> str:
    """Name of the file of cells of one kind of item within a generation."""
    return f"approximate/{kind}.faiss"


def make_cells(
    embeddings: Embeddings, folder: Path, *, kind: str, progress: Progress = silent
) -> bool:
    """Write the cells of many items below a generation's folder; return whether it was worth it.

    Below ``SIZE`` items, or without faiss, nothing is written: the exact search serves them.
    """
    if len(embeddings.ids) < SIZE or not available():
        return False
    write(folder / file_of(kind), make(embeddings.vectors, progress=progress))
    return True


def make(
    vectors: NDArray[np.float32], *, seed: int = 0, progress: Progress = silent
) -> Approximate:
    """Put items of unit vectors, (n, d), into cells, each with a byte for every number.

    The cells are learned from a random part of the items, the same for the same seed. faiss would
    learn them as well, but without a sign of it for a minute.
    """
    import faiss

    n, d = vectors.shape
    cells, parts = max(1, int(CELLS * np.sqrt(n))), ROUNDS + ADDED
    some = np.random.default_rng(seed).permutation(n)[: TRAINED * cells]
    first, learned = vectors[some[:cells]], vectors[np.sort(some)]
    centres = learn_centres(learned, first, rounds=ROUNDS, parts=parts, progress=progress)
    made: Any = faiss.index_factory(d, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    made.quantizer.add(centres)
    made.train(learned)
    report = part_of(progress, "cells", ROUNDS, parts, "")
    for start in range(0, n, BLOCK):
        made.add(vectors[start : start + BLOCK])
        report(ADDED * start, n)
    progress("cells", parts, parts)
    return Approximate(made)


def write(path: Path, approximate: Approximate) -> None:
    """Write the cells; the vectors themselves are in the file of the embedding."""
    import faiss

    with replacing(path) as temporary:
        faiss.write_index(approximate.cells, str(temporary))


def read(path: Path, *, n: int) -> Approximate:
    """Read the cells of n items, from a file whose hash was checked.

    Raises
    ------
    ArtifactError
        If it is no such file, or of other items.
    """
    import faiss

    try:
        cells = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path} holds no cells ({reason}); {REMEDY}") from error
    if not isinstance(cells, faiss.IndexIVF) or cells.ntotal != n:
        raise ArtifactError(f"{path} holds cells of {cells.ntotal} items, not {n}; {REMEDY}")
    return Approximate(cells)
