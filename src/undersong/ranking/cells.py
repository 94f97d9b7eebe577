"""Who is near whom by cosine: items in cells, of which a query looks into the nearest few.

Few items are one cell, so that all are compared with all. Of many a cell has some 256 items, or
more of very many, and whoever asks is compared with those of its own cell and of the cells beside
it: so that the nearest of n cost n^1.5 with a small constant to prepare, and a fixed number each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from undersong.embeddings import unit
from undersong.processors import computed_once
from undersong.progress import Progress, part_of, silent

SMALL = 16_384  # items that are one cell
SIZE = 256  # items of a cell, about; a cell has four times as many at most
CELLS = 4.0  # cells at most, for each square root of the number of items
LEARNED = 32  # items a cell that the centres are learned from
ROUNDS = 3  # of k-means
BESIDE = 64  # cells that are known to be beside each
LOOKED = 4096  # items that a query is compared with, about
BLOCK = 1024  # rows of cosines held at once


@dataclass(frozen=True)
class Cells:
    """Items that have a vector, cell by cell.

    Parameters
    ----------
    order : (m,) int32 rows of the items, those of a cell one after another
    starts : (c + 1,) int64, where each cell begins in ``order``
    beside : (c, b) int32, the cells nearest to each, itself first
    """

    order: NDArray[np.int32]
    starts: NDArray[np.int64]
    beside: NDArray[np.int32]

    @computed_once
    def cell(self) -> NDArray[np.int32]:
        """Cell of each item up to the last that has one, (n,); -1 where it has none."""
        cell = np.full(int(self.order.max(initial=-1)) + 1, -1, dtype=np.int32)
        cell[self.order] = np.repeat(np.arange(len(self.beside)), np.diff(self.starts))
        return cell

    def cells_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the cell of each of some items, (q,); -1 where it has none."""
        cell = np.full(len(rows), -1, dtype=np.int32)
        inside = rows < len(self.cell)
        cell[inside] = self.cell[rows[inside]]
        return cell

    def in_turn(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return places in ``rows``, (q,), cell by cell: to look around an item is then to look at
        what was looked at just before. Those without a cell come last."""
        return np.argsort(self.cells_of(rows).view(np.uint32), kind="stable")

    def looked_at(self, cell: int, *, looked: int) -> NDArray[np.int32]:
        """Rows of about so many items that those of a cell are compared with."""
        beside = self.beside[cell]
        reached = np.cumsum(self.starts[beside + 1] - self.starts[beside])
        some = beside[: int(np.searchsorted(reached, looked)) + 1]
        if len(self.beside) == 1:
            return self.order
        return np.concatenate([self.order[self.starts[x] : self.starts[x + 1]] for x in some])

    def compare(
        self,
        vectors: NDArray[np.float32],
        rows: NDArray[np.int64],
        *,
        looked: int,
        among: NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]:
        """Compare items with those around them, in groups: places (g,), others (l,), cosines.

        ``places`` are those in ``rows`` of the group; cosines (g, l) are -inf to itself. Items
        without a vector are in no group. Where no more than ``looked`` are ``among`` the others,
        (n,), all of those are looked at.
        """
        few = None if among is None else self.order[among[self.order]]
        cell, turn = self.cells_of(rows), self.in_turn(rows)
        turn = turn[cell[turn] >= 0]
        for group in np.split(turn, np.flatnonzero(np.diff(cell[turn])) + 1):
            for start in range(0, len(group), BLOCK):
                places = group[start : start + BLOCK]
                if few is not None and len(few) <= looked:
                    others = few
                else:
                    others = self.looked_at(int(cell[places[0]]), looked=looked)
                    others = others if among is None else others[among[others]]
                whole = len(self.beside) == 1 and len(others) == len(vectors)
                theirs = vectors if whole else vectors.take(others, axis=0)
                cosines = vectors[rows[places]] @ theirs.T
                cosines[rows[places][:, None] == others] = -np.inf  # to itself
                yield places, others, cosines

    def nearest(
        self,
        vectors: NDArray[np.float32],
        rows: NDArray[np.int64],
        *,
        k: int,
        among: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """List k of the items ``among``, (n,), near to each of some, (q, k), in any order.

        -1 where fewer are looked at.
        """
        near = np.full((len(rows), k), -1, dtype=np.int64)
        for places, others, cosines in self.compare(vectors, rows, looked=LOOKED, among=among):
            best = highest(cosines, k)
            there = np.isfinite(np.take_along_axis(cosines, best, axis=1))
            near[places, : best.shape[1]] = np.where(there, others[best], -1)
        return near


def highest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k highest of each row, or of all if there are fewer, unordered."""
    width = values.shape[1]
    if width <= k:
        return np.broadcast_to(np.arange(width), values.shape)
    return np.argpartition(values, width - k, axis=1)[:, width - k :]


def make_cells(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], *, progress: Progress = silent
) -> Cells:
    """Put some items of unit vectors, (n, d), into cells, always the same for the same vectors."""
    m = len(rows)
    if m <= SMALL:
        return Cells(rows.astype(np.int32), np.array([0, m]), np.zeros((1, 1), dtype=np.int32))
    count = int(min(m // SIZE, CELLS * np.sqrt(m)))
    generator = np.random.default_rng(0)
    some = vectors[np.sort(generator.choice(rows, min(LEARNED * count, m), replace=False))]
    parts = ROUNDS + -(-m // len(some))  # all are assigned, too
    first = np.sort(generator.choice(len(some), count, replace=False))
    centres = learn_centres(some, some[first], rounds=ROUNDS, parts=parts, progress=progress)
    cell = np.empty(m, dtype=np.int64)
    report = part_of(progress, "cells", ROUNDS, parts, "")
    for start in range(0, m, BLOCK):
        cell[start : start + BLOCK] = _assigned(vectors[rows[start : start + BLOCK]], centres)
        report(start * (parts - ROUNDS), m)
    order = rows[np.argsort(cell, kind="stable")].astype(np.int32)
    whole = np.bincount(cell, minlength=count)
    # A cell of very many, such as of items that are all alike, is cut.
    most, ends = 4 * (m // count), np.cumsum(whole)
    places = np.append(
        np.concatenate([np.arange(b - a, b, most) for a, b in zip(whole, ends, strict=True)]), m
    )
    centres = unit(
        np.stack([vectors[order[a:b]].mean(axis=0) for a, b in pairwise(places.tolist())])
    )
    blocks = np.array_split(np.arange(len(centres)), -(-len(centres) // BLOCK))
    beside = [_in_order(centres[x] @ centres.T, own=x) for x in blocks]
    progress("cells", parts, parts)
    return Cells(order, places.astype(np.int64), np.concatenate(beside))


def _in_order(cosines: NDArray[np.float32], *, own: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the nearest cells of each, best first, itself before all."""
    cosines[np.arange(len(own)), own] = np.inf
    best = highest(cosines, BESIDE)
    turn = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, turn, axis=1).astype(np.int32)


def learn_centres(
    vectors: NDArray[np.float32],
    centres: NDArray[np.float32],
    *,
    rounds: int,
    parts: int,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Move unit centres, (c, d), to the middle of the vectors, (m, d), nearest to each (k-means).

    Rounds are reported as the first of the ``parts`` of the work.
    """
    for done in range(rounds):
        report = part_of(progress, "cells", done, parts, "")
        centres = _means(vectors, _assigned(vectors, centres, report), centres)
    return centres


def _assigned(
    vectors: NDArray[np.float32],
    centres: NDArray[np.float32],
    report: Callable[[int, int], None] = lambda here, whole: None,
) -> NDArray[np.int64]:
    """Return the nearest centre of each vector, (m,)."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK):
        some = slice(start, start + BLOCK)
        nearest[some] = (vectors[some] @ centres.T).argmax(axis=1)
        report(start, len(vectors))
    return nearest


def _means(
    vectors: NDArray[np.float32], cell: NDArray[np.int64], centres: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return unit centres of the vectors of each cell; one without any stays where it is."""
    order = np.argsort(cell, kind="stable")
    filled, starts = np.unique(cell[order], return_index=True)
    moved = centres.copy()
    moved[filled] = unit(np.add.reduceat(vectors[order], starts, axis=0))
    return moved
