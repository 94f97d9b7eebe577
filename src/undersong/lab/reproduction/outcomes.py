"""All answers of one data set, over seeds, and the numbers that tables and claims ask of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undersong.catalogue import Kind
from undersong.evaluation.scoring import Judged
from undersong.lab.reproduction.datasets import DataSet
from undersong.lab.reproduction.estimates import (
    Estimate,
    Questions,
    Values,
    estimate,
    values_of,
    whole_estimate,
)
from undersong.lab.reproduction.methods import WITH_GRAPH
from undersong.report.layout import Table, digits

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


Show = Callable[[Estimate | None], str]


@dataclass(frozen=True)
class MetricColumn:
    """One column: what its header says, and the number below it."""

    header: str
    metric: str
    pool: str = PAPER
    of: str = ALL


ACCURACY = (
    MetricColumn("recall@10", "recall@10"),
    MetricColumn("hit@10", "hit@10"),
    MetricColumn("MAP", "map"),
    MetricColumn("NDCG", "ndcg"),
    MetricColumn("cold NDCG@200", "ndcg@200", pool=COLD),
    MetricColumn("cold recall@10", "recall@10", pool=COLD),
)
CONSISTENCY = (
    MetricColumn("consistent@10 all", "consistent@10"),
    MetricColumn("consistent@10 tail", "consistent@10", of=LONG_TAIL),
    MetricColumn("withheld all", "withheld_consistent@10"),
    MetricColumn("withheld tail", "withheld_consistent@10", of=LONG_TAIL),
    MetricColumn("coverage@10", "coverage@10"),
    MetricColumn("hubness", "hubness"),
    MetricColumn("nobody's neighbour", "nobody's neighbour"),
)
OTHERS = tuple(
    MetricColumn(f"{x.header}", x.metric, pool=f"{x.pool}{OTHER_ARTISTS}", of=x.of)
    for x in ACCURACY
)


def plus_minus(found: Estimate | None) -> str:
    """Value and half of its interval; a dash where there is none."""
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return digits(found.value)
    return f"{digits(found.value)} ±{digits((found.high - found.low) / 2)}"


def bounds(found: Estimate | None) -> str:
    """Value, bounds of its interval, and the spread between seeds."""
    if found is None:
        return "-"
    text = digits(found.value)
    if found.low is not None and found.high is not None:
        text += f" [{digits(found.low)}, {digits(found.high)}]"
    return text if found.spread is None else f"{text} s {digits(found.spread)}"


def tables_of(results: Results, show: Show) -> tuple[Table, ...]:
    """Lay one data set out: accuracy, then agreement of metadata and exposure.

    Tracks have accuracy twice: among all candidates, and without those of the query's own
    artist.
    """
    made = [
        table(_title(results, "accuracy"), results, ACCURACY, show),
        table(_title(results, "consistency and exposure"), results, CONSISTENCY, show),
    ]
    if results.kind == "track":
        title = _title(results, "accuracy without the query's own artist")
        made.insert(1, table(title, results, OTHERS, show))
    return tuple(x for x in made if len(x.header) > 1)


def table(title: str, results: Results, columns: tuple[MetricColumn, ...], show: Show) -> Table:
    """Fill a table with all models: the paper's, then everything else; no empty column."""
    names = (*results.rows, *results.others)
    cells = [[results.number(x, c.metric, pool=c.pool, of=c.of) for x in names] for c in columns]
    kept = [place for place, column in enumerate(cells) if any(x is not None for x in column)]
    rows = tuple(
        (name, *(show(cells[place][turn]) for place in kept)) for turn, name in enumerate(names)
    )
    return Table(title, ("", *(columns[place].header for place in kept)), rows)


def _title(results: Results, what: str) -> str:
    number = results.data_set.table
    return f"{f'Table {number}' if number else 'OLGA'}, set {results.data_set.name}: {what}"


METRIC = "ndcg@200"
PUBLISHED = (
    "Published NDCG@200 on the sealed edges between test artists: GraphSAGE on random features "
    "with 1, 2, 3 layers .28, .42, .45; with audio features .49, .53, .55; GATSY .52. RdRM_G is "
    "GraphSAGE on random features with 3 layers."
)


def degree_table(results: Results, show: Show) -> Table:
    """NDCG@200 of every method, for all queries and by relations to training artists."""
    columns = [MetricColumn(f"all ({results.answerable()})", METRIC)]
    for name in DEGREES:
        part = f"visible degree {name}"
        columns.append(MetricColumn(f"{name} ({results.answerable(of=part)})", METRIC, of=part))
    title = f"Set {results.data_set.name}: {METRIC} in linked, by visible degree"
    return table(title, results, tuple(columns), show)
