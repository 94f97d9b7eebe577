"""All answers of one data set, over seeds, and the numbers that tables and claims ask of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undersong.catalogue.tables import Kind
from undersong.evaluation.judging import Judged
from undersong.experiments.answers import Questions
from undersong.experiments.estimates import Estimate, Values, estimate, values_of, whole_estimate
from undersong.experiments.models import WITH_GRAPH
from undersong.experiments.sets import DataSet

ALL, LONG_TAIL, EDGE_LESS = "all", "long tail", "visible degree 0"
DEGREES: Mapping[str, tuple[int, float]] = {
    "0": (0, 0),
    "1-2": (1, 2),
    "3-5": (3, 5),
    "6-10": (6, 10),
    "11+": (11, np.inf),
}
PAPER, COLD = "paper", "cold"
OTHER_ARTISTS = ", other artists"


@dataclass(frozen=True)
class Results:
    """What every model of one data set answered.

    Parameters
    ----------
    kind, part : whose answers, and which split asked
    seeds : of training
    items : in the catalogue
    asked : the questions
    answers : model -> seed -> pool -> judged; a model that no seed changes has one seed
    notes : model -> a few words
    """

    data_set: DataSet
    kind: Kind
    part: str
    seeds: tuple[int, ...]
    items: int
    asked: Questions
    answers: Mapping[str, Mapping[int, Mapping[str, Judged]]]
    notes: Mapping[str, str]

    @property
    def rows(self) -> tuple[str, ...]:
        """Models of the paper's table that were made, those without the GNN first."""
        names = self.data_set.models
        both = (*names, *(f"{x}{WITH_GRAPH}" for x in names))
        return tuple(x for x in both if x in self.answers)

    @property
    def others(self) -> tuple[str, ...]:
        """Everything else that was judged: chance, baselines, further models."""
        return tuple(x for x in self.answers if x not in self.rows)

    @cached_property
    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """Queries of each slice, (q,)."""
        degree = self.asked.degree
        found = {ALL: np.ones(len(degree), dtype=bool), LONG_TAIL: self.asked.long_tail}
        for name, (low, high) in DEGREES.items():
            found[f"visible degree {name}"] = (degree >= low) & (degree <= high)
        return found

    def number(
        self, model: str, metric: str, *, pool: str = PAPER, of: str = ALL
    ) -> Estimate | None:
        """Average a metric of one model over seeds and the queries of a slice."""
        judged = self._in_pool(model, pool)
        if judged is None:
            return None
        if any(metric in one.whole for one in judged.values()):
            return whole_estimate(judged, metric)
        values = values_of(judged, metric, self.seeds, self.slices[of])
        return estimate(values) if values else None

    def difference(
        self, model: str, other: str, metric: str, *, pool: str = PAPER, of: str = ALL
    ) -> Estimate | None:
        """Average over the same queries and seeds how far a model is above another."""
        first = self._values(model, metric, pool, of)
        second = self._values(other, metric, pool, of)
        return estimate(first, second) if first and second else None

    def answerable(self, *, pool: str = PAPER, of: str = ALL) -> int:
        """Count the queries of a slice that have a relevant candidate."""
        for by_seed in self.answers.values():
            for judged in by_seed.values():
                if pool in judged:
                    known = next(iter(judged[pool].accuracy.values()))
                    return int((~np.isnan(known) & self.slices[of]).sum())
        return 0

    def _values(self, model: str, metric: str, pool: str, of: str) -> Values | None:
        judged = self._in_pool(model, pool)
        return values_of(judged, metric, self.seeds, self.slices[of]) if judged else None

    def _in_pool(self, model: str, pool: str) -> dict[int, Judged] | None:
        by_seed = self.answers.get(model, {})
        if not by_seed or any(pool not in judged for judged in by_seed.values()):
            return None
        return {seed: judged[pool] for seed, judged in by_seed.items()}
