"""What a model learns from and with what: handed from stage to stage as two values."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong import relations
from undersong.catalogue import Catalogue, Kind
from undersong.progress import Progress, silent

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Task:
    """The items of one kind in a catalogue, and in which split each of them is.

    What is derived from them is computed once and kept with the task.

    Parameters
    ----------
    splits : (n,) "train", "validation" or "test" of each item (``undersong.catalogue.split``)
    """

    catalogue: Catalogue
    kind: Kind
    splits: NDArray[np.str_]
    _related: dict[Split | None, sparse.csr_matrix] = field(
        default_factory=dict, init=False, repr=False
    )

    def within(self, split: Split) -> NDArray[np.bool_]:
        """Return which items are in a split, (n,)."""
        return np.asarray(self.splits == split)

    def related(self, split: Split | None = None) -> sparse.csr_matrix:
        """Return R_A between the items of one split, or between all, (n, n) bool, symmetric."""
        if split not in self._related:
            visible = None if split is None else self.within(split)
            self._related[split] = relations.known(self.catalogue, self.kind, visible)
        return self._related[split]

    @cached_property
    def held_out(self) -> tuple[NDArray[np.int64], sparse.csr_matrix]:
        """What validation asks and the answers, as ``undersong.relations.held_out``."""
        return relations.held_out(self.catalogue, self.kind, self.splits)

    @cached_property
    def codes(self) -> NDArray[np.int32]:
        """Codes of metadata of which R_P is made, (n, fields); -1 where missing."""
        return relations.meta_codes(self.catalogue, self.kind, self.within("train"))


@dataclass(frozen=True)
class Compute:
    """How to train: by which random draws, where, and who hears of it.

    Parameters
    ----------
    device : as PyTorch calls it, such as "cpu" or "cuda"
    work : folder of checkpoints; the same training that finds one there goes on with it
    """

    seed: int
    device: str
    work: Path
    progress: Progress = silent

    def inside(self, folder: str) -> "Compute":
        """Return the same with another folder of checkpoints, inside this one."""
        return replace(self, work=self.work / folder)
