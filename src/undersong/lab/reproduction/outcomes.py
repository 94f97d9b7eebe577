"""All answers of one data set, over seeds, and the numbers that tables and claims need of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undersong.catalogue import Kind
from undersong.evaluation.results import around, bootstrap, percentile_interval, standard_error
from undersong.evaluation.scoring import Judged
from undersong.lab.reproduction.datasets import DataSet, ModelAnswers, Questions
from undersong.metrics import DEEP
from undersong.pipeline.run_settings import Settings
from undersong.relations import Task
from undersong.report.layout import Table, digits

ALL, LONG_TAIL, EDGE_LESS = "all", "long tail", "visible degree 0"
DEGREES: Mapping[str, tuple[int, float]] = {
    "0": (0, 0),
    "1-2": (1, 2),
    "3-5": (3, 5),
    "6-10": (6, 10),
    "11+": (11, np.inf),
}
PAPER, COLD, LABELLED, FOUND = "paper", "cold", "cold, labelled", "found"
NDCG, COMBINED = f"ndcg@{DEEP}", f"combined@{DEEP}"
OTHER_ARTISTS = ", other artists"
RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and queries.

    Parameters
    ----------
    value : the mean
    low, high : bounds that hold it with 95 %, over queries and seeds; None where unknown
    spread : standard deviation between seeds; None with one seed
    """

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None

    @property
    def above_0(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def below_0(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0


def estimate(values: NDArray[np.float64]) -> Estimate:
    """Average over seeds and queries, (s, q); of a difference they are paired.

    Two-level bootstrap: each of 1,000 resamples draws queries, and seeds, both with repetition.
    All metrics and models of one set draw the same, so differences are paired by query and by
    seed. With one seed it is the bootstrap over queries alone, and says nothing of other seeds.
    """
    seeds, queries = values.shape
    mean = float(values.mean())
    spread = float(values.mean(axis=1).std(ddof=1)) if seeds > 1 else None
    if queries < 2:
        return Estimate(mean, spread=spread)
    by_query = bootstrap(values.T, resamples=RESAMPLES, seed=SEED)  # (r, s)
    low, high = percentile_interval((by_query * _seed_shares(seeds)).sum(axis=1))
    return Estimate(mean, float(low), float(high), spread)


def combined_estimate(one: NDArray[np.float64], two: NDArray[np.float64]) -> Estimate:
    """Average over seeds the harmonic mean of two numbers, (s, q) each with queries of its own.

    The bootstrap is that of ``estimate``: resamples draw the queries of both, and seeds once.
    """
    by_seed = _harmonic(one.mean(axis=1), two.mean(axis=1))
    mean, seeds = float(by_seed.mean()), len(by_seed)
    spread = float(by_seed.std(ddof=1)) if seeds > 1 else None
    if min(one.shape[1], two.shape[1]) < 2:
        return Estimate(mean, spread=spread)
    first, second = (
        bootstrap(values.T, resamples=RESAMPLES, seed=seed)
        for seed, values in enumerate((one, two), start=SEED)
    )
    resampled = (_harmonic(first, second) * _seed_shares(seeds)).sum(axis=1)
    low, high = percentile_interval(resampled)
    return Estimate(mean, float(low), float(high), spread)


def _harmonic(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return harmonic means; 0 where both are 0."""
    total = one + two
    return np.divide(2 * one * two, total, out=np.zeros_like(total), where=total > 0)


def _seed_shares(seeds: int) -> NDArray[np.float64]:
    """How often each resample drew each seed, as shares that sum to 1, (resamples, seeds)."""
    generator = np.random.default_rng([SEED, seeds])
    drawn = generator.integers(seeds, size=(RESAMPLES, seeds))
    return np.stack([np.bincount(row, minlength=seeds) for row in drawn]) / seeds


def whole_estimate(judged: Mapping[int, Judged], metric: str) -> Estimate | None:
    """Average over seeds a number made of all answers together.

    Its standard error joins a jackknife over groups of queries, averaged over seeds, and the
    error of a mean over the seeds.
    """
    if any(metric not in x.whole for x in judged.values()):
        return None
    wholes = [x.whole[metric] for x in judged.values()]
    single = np.array([x.value for x in wholes])
    error = float(standard_error(np.mean([x.left_out for x in wholes], axis=0)))
    spread = float(single.std(ddof=1)) if len(single) > 1 else None
    error = float(np.hypot(error, (spread or 0.0) / np.sqrt(len(single))))
    mean = float(single.mean())
    return Estimate(mean, *around(metric, mean, error), spread)


@dataclass(frozen=True)
class Results:
    """What every model of one data set answered.

    Parameters
    ----------
    task, settings : its items, and what they were trained with
    part : which split asked
    seeds : of training
    answers : model -> seed -> answers; a model that no seed changes has one seed
    """

    data_set: DataSet
    task: Task
    settings: Settings
    part: str
    seeds: tuple[int, ...]
    questions: Questions
    answers: Mapping[str, Mapping[int, ModelAnswers]]

    @property
    def kind(self) -> Kind:
        """Whose answers these are."""
        return self.task.kind

    @property
    def rows(self) -> tuple[str, ...]:
        """Models of the paper's table that were made, those without the GNN first."""
        names = self.data_set.models
        return tuple(x for x in (*names, *(f"{x}_G" for x in names)) if x in self.answers)

    @property
    def others(self) -> tuple[str, ...]:
        """Everything else that was judged: chance, baselines, further models."""
        return tuple(x for x in self.answers if x not in self.rows)

    @property
    def notes(self) -> dict[str, str]:
        """A few words on each model."""
        return {name: next(iter(x.values())).note for name, x in self.answers.items()}

    @cached_property
    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """Queries of each slice of those that ask in ``paper`` and ``cold``, (q,)."""
        degree = self.questions.degree
        by_degree = {
            f"visible degree {name}": (degree >= low) & (degree <= high)
            for name, (low, high) in DEGREES.items()
        }
        everything = np.ones(len(degree), dtype=bool)
        return {ALL: everything, LONG_TAIL: self.questions.long_tail, **by_degree}

    def number(
        self, model: str, metric: str, *, pool: str = PAPER, of: str = ALL
    ) -> Estimate | None:
        """Average a metric of one model over seeds and the queries of a slice.

        In ``found`` known items ask, who are in no slice but ``ALL``.
        """
        if metric == COMBINED:
            return self._combined(model, pool)
        judged = self._judged(model, pool)
        if any(metric in x.whole for x in judged.values()):
            return whole_estimate(judged, metric)
        values = self._values(model, metric, pool, of)
        return None if values is None else estimate(values)

    def difference(
        self, model: str, other: str, metric: str, *, pool: str = PAPER, of: str = ALL
    ) -> Estimate | None:
        """Average over the same queries and seeds how far a model is above another."""
        return self.gain((model, other), metric, pool=pool, of=of)

    def gain(
        self,
        pair: tuple[str, str],
        metric: str,
        *,
        beyond: tuple[str, str] | None = None,
        pool: str = PAPER,
        of: str = ALL,
    ) -> Estimate | None:
        """Average how far the first of two models is above the second.

        With ``beyond``, how much further than the first of two others is above the second of them.
        """
        values = [self._values(x, metric, pool, of) for x in (*pair, *(beyond or ()))]
        there = [x for x in values if x is not None]
        if len(there) < len(values):
            return None
        above = [a - b for a, b in zip(there[::2], there[1::2], strict=True)]
        return estimate(above[0] - above[1] if beyond else above[0])

    def answerable(self, *, pool: str = PAPER, of: str = ALL) -> int:
        """Count the queries of a slice that have a relevant candidate."""
        every = (
            x.pools[pool] for y in self.answers.values() for x in y.values() if pool in x.pools
        )
        for judged in every:
            known = next(iter(judged.accuracy.values()))
            return int((~np.isnan(known[self._rows(of)])).sum())
        return 0

    def _rows(self, of: str) -> NDArray[np.bool_] | slice:
        """Return which queries of a pool belong to a slice; all of them do to ``ALL``."""
        return slice(None) if of == ALL else self.slices[of]

    def _combined(self, model: str, pool: str) -> Estimate | None:
        """Join NDCG of ``found`` with that of labelled ``cold``, so that neither buys the other."""
        values = [self._values(model, NDCG, x, ALL) for x in (pool, pool.replace(FOUND, LABELLED))]
        sought, asking = values
        return None if sought is None or asking is None else combined_estimate(sought, asking)

    def _judged(self, model: str, pool: str) -> dict[int, Judged]:
        """One model by seed; nothing if any seed is not in the pool."""
        by_seed = self.answers.get(model, {})
        if any(pool not in x.pools for x in by_seed.values()):
            return {}
        return {seed: x.pools[pool] for seed, x in by_seed.items()}

    def _values(self, model: str, metric: str, pool: str, of: str) -> NDArray[np.float64] | None:
        """One metric of the queries of a slice, (s, q); of an accuracy those with an answer.

        A model that does not depend on the seed has the same row for every seed.
        """
        judged = self._judged(model, pool)
        rows = []
        for seed in self.seeds if judged else ():
            one = judged[seed] if seed in judged else next(iter(judged.values()))
            values = one.accuracy.get(metric, one.answers.get(metric))
            if values is None:
                return None
            rows.append(values[self._rows(of)])
        table = np.array(rows)
        table = table[:, ~np.isnan(table).any(axis=0)] if rows else table
        return table if table.size else None


Show = Callable[[Estimate | None], str]


@dataclass(frozen=True)
class MetricColumn:
    """One column: its header, and the number below it."""

    header: str
    metric: str
    pool: str = PAPER
    of: str = ALL


ACCURACY = (  # the paper's five columns, recall@10 for its HR@10, and hit@10
    MetricColumn("recall@10", "recall@10"),
    MetricColumn("consistent@10 all", "consistent@10"),
    MetricColumn("consistent@10 tail", "consistent@10", of=LONG_TAIL),
    MetricColumn("MAP", "map"),
    MetricColumn("NDCG", "ndcg"),
    MetricColumn("hit@10", "hit@10"),
)
UNLINKED = (  # what an item that nobody has linked gets: it asks, and it is found
    MetricColumn("cold NDCG@200, labelled", NDCG, pool=LABELLED),
    MetricColumn("cold NDCG@200", NDCG, pool=COLD),
    MetricColumn("cold recall@10", "recall@10", pool=COLD),
    MetricColumn("found recall@10", "recall@10", pool=FOUND),
    MetricColumn("found recall@50", "recall@50", pool=FOUND),
    MetricColumn("found NDCG@200", NDCG, pool=FOUND),
    MetricColumn("nobody finds@50", "nobody finds@50", pool=FOUND),
    MetricColumn("unlinked in the ten", "long-tail share", pool=FOUND),
    MetricColumn(COMBINED, COMBINED, pool=FOUND),
)
WITHHELD = (
    MetricColumn("withheld all", "withheld_consistent@10"),
    MetricColumn("withheld tail", "withheld_consistent@10", of=LONG_TAIL),
    MetricColumn("coverage@10", "coverage@10"),
    MetricColumn("hubness", "hubness"),
    MetricColumn("nobody's neighbour", "nobody's neighbour"),
)
OTHERS, UNLINKED_OTHERS = (
    tuple(replace(x, pool=f"{x.pool}{OTHER_ARTISTS}") for x in columns)
    for columns in (ACCURACY, UNLINKED)
)


def plus_minus(number: Estimate | None) -> str:
    """Value and half of its interval; a dash where there is none."""
    if number is None:
        return "-"
    if number.low is None or number.high is None:
        return digits(number.value)
    return f"{digits(number.value)} ±{digits((number.high - number.low) / 2)}"


def bounds(number: Estimate | None) -> str:
    """Value, bounds of its interval, and the spread between seeds."""
    if number is None:
        return "-"
    text = digits(number.value)
    if number.low is not None and number.high is not None:
        text += f" [{digits(number.low)}, {digits(number.high)}]"
    return text if number.spread is None else f"{text} s {digits(number.spread)}"


def tables_of(results: Results, show: Show) -> tuple[Table, ...]:
    """Lay one data set out: the paper's columns, items that nobody has linked, and exposure.

    Tracks have the first two twice: among all candidates, and without those of the query's own
    artist. A set without a table in the paper has one by visible degree.
    """
    number = results.data_set.table
    title = f"{f'Table {number}' if number else 'OLGA'}, set {results.data_set.name}: "
    accuracy, unlinked = f"{title}the paper's columns", f"{title}cold and found"
    tables = [_table(accuracy, results, ACCURACY, show), _table(unlinked, results, UNLINKED, show)]
    if results.kind == "track":
        own = " without the query's own artist"
        tables.append(_table(f"{accuracy}{own}", results, OTHERS, show))
        tables.append(_table(f"{unlinked}{own}", results, UNLINKED_OTHERS, show))
    tables.append(_table(f"{title}withheld fields and exposure", results, WITHHELD, show))
    degrees = () if number else (degree_table(results, show),)
    return (*(x for x in tables if len(x.header) > 1), *degrees)


def _table(title: str, results: Results, columns: tuple[MetricColumn, ...], show: Show) -> Table:
    """Fill a table with all models: the paper's, then everything else; no empty column."""
    names = (*results.rows, *results.others)
    filled = {}
    for column in columns:
        cells = [results.number(x, column.metric, pool=column.pool, of=column.of) for x in names]
        if any(x is not None for x in cells):
            filled[column.header] = [show(x) for x in cells]
    rows = tuple((name, *(x[row] for x in filled.values())) for row, name in enumerate(names))
    return Table(title, ("", *filled), rows)


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
        of = f"visible degree {name}"
        columns.append(MetricColumn(f"{name} ({results.answerable(of=of)})", METRIC, of=of))
    title = f"Set {results.data_set.name}: {METRIC} in linked, by visible degree"
    return _table(title, results, tuple(columns), show)
