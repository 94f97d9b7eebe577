"""What one model answers, query by query, kept in one file so that nothing is judged twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Catalogue, Kind
from undersong.evaluation import bootstrap
from undersong.evaluation.baselines.graph import visible_edges
from undersong.evaluation.method import Method
from undersong.evaluation.protocols import EvaluationSettings, hub_queries_of, pools_of
from undersong.evaluation.scoring import Judged, Pool, Traits, Whole, judge, traits
from undersong.evaluation.ties import Ties, make_ties
from undersong.io.parquet import read_metadata, read_table, write_table

ACCURACY, ANSWERS, WHOLE = "accuracy", "answers", "whole"
COLUMNS = {
    "pool": pl.String(),
    "sort": pl.String(),
    "metric": pl.String(),
    "values": pl.List(pl.Float64()),
}
METADATA = {"undersong.answers": "1"}

# Hubness asks 2,000 random items, not all: it costs most, and is a column beside the others.
JUDGING = EvaluationSettings(hub_queries=2000)


@dataclass(frozen=True)
class Questions:
    """All that every model of one data set is asked.

    Parameters
    ----------
    pools : by name of the protocol: "cold", "paper", and for tracks each with ", other artists"
    degree : (q,) relations to training items that ``linked`` shows, of each query
    """

    pools: Mapping[str, Pool]
    traits: Traits
    ties: Ties
    degree: NDArray[np.int64]
    settings: EvaluationSettings

    @property
    def long_tail(self) -> NDArray[np.bool_]:
        """Queries without any relation, (q,)."""
        return self.traits.long_tail[self.pools["paper"].queries]


def questions(
    catalogue: Catalogue,
    kind: Kind,
    *,
    parts: NDArray[np.str_],
    part: str,
    settings: EvaluationSettings = JUDGING,
) -> Questions:
    """Gather what is asked: items of ``part`` ask the catalogue, and each other."""
    pools = pools_of(catalogue, kind, parts, part)
    edges = visible_edges(catalogue, kind, parts=parts, part=part)
    return Questions(
        pools=pools,
        traits=traits(catalogue, kind, train=parts == "train"),
        ties=make_ties(len(parts), seed=settings.seed),
        degree=np.diff(edges.indptr)[pools["paper"].queries].astype(np.int64),
        settings=settings,
    )


def ask(method: Method, asked: Questions) -> dict[str, Judged]:
    """Judge one method in every pool that it may take part in.

    One that sees relations of the very items that ask has no part in ``cold``.
    """
    settings = asked.settings
    return {
        name: judge(
            method,
            pool,
            traits=asked.traits,
            ties=asked.ties,
            k=settings.k,
            block=settings.block,
            hub_queries=hub_queries_of(pool, settings),
            seed=settings.seed,
        )
        for name, pool in asked.pools.items()
        if not (method.sees_edges and name.startswith("cold"))
    }


def write(judged: Mapping[str, Judged], path: Path, *, note: str) -> None:
    """Write a row per pool and metric with its value for each query, as Parquet.

    A number of all answers together has its value first, then those without one group.
    """
    rows = []
    for pool, one in judged.items():
        rows += [(pool, ACCURACY, name, x.tolist()) for name, x in one.accuracy.items()]
        rows += [(pool, ANSWERS, name, x.tolist()) for name, x in one.answers.items()]
        rows += [(pool, WHOLE, n, [x.value, *x.left_out]) for n, x in one.whole.items()]
    table = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    write_table(path, table, metadata=METADATA | {"note": note})


def read(path: Path) -> tuple[dict[str, Judged], str]:
    """Read what ``write`` wrote: by pool, and the note.

    Raises
    ------
    ArtifactError
        If the file is damaged or of another format.
    """
    hint = "delete it and run `undersong reproduce` again"
    table = read_table(path, hint=hint, metadata=METADATA)
    found: dict[str, Judged] = {}
    for (pool,), part in table.group_by(["pool"], maintain_order=True):
        values: dict[str, dict[str, NDArray[np.float64]]] = {ACCURACY: {}, ANSWERS: {}, WHOLE: {}}
        for sort, metric, given in part.select("sort", "metric", "values").iter_rows():
            values[sort][metric] = np.array(given, dtype=np.float64)
        whole = {name: Whole(float(x[0]), x[1:]) for name, x in values[WHOLE].items()}
        found[str(pool)] = Judged(values[ACCURACY], values[ANSWERS], whole)
    return found, read_metadata(path, hint=hint)["note"]


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


@dataclass(frozen=True)
class Values:
    """One metric of one model: a row per seed, a column per query, (s, q).

    A model that does not depend on the seed has the same row for every seed.
    """

    table: NDArray[np.float64]


def values_of(
    judged: Mapping[int, Judged], metric: str, seeds: tuple[int, ...], mask: NDArray[np.bool_]
) -> Values | None:
    """Take one metric of the queries in a mask; None where the model has no such number.

    Parameters
    ----------
    judged : by seed; a single one stands for all seeds
    mask : (q,) queries to average over; of an accuracy those without an answer are left out
    """
    rows = []
    for seed in seeds:
        one = judged[seed] if seed in judged else next(iter(judged.values()))
        found = one.accuracy.get(metric, one.answers.get(metric))
        if found is None:
            return None
        rows.append(found[mask])
    table = np.stack(rows)
    table = table[:, ~np.isnan(table).any(axis=0)]
    return Values(table) if table.shape[1] else None


def estimate(values: Values, other: Values | None = None) -> Estimate:
    """Average over seeds and queries; with ``other`` the paired difference to it.

    Two-level bootstrap: each of 1,000 resamples draws queries, and seeds, both with repetition.
    All metrics and models of one set draw the same, so differences are paired by query and by
    seed. With one seed it is the bootstrap over queries alone, and says nothing of other seeds.
    """
    table = values.table if other is None else values.table - other.table
    seeds, queries = table.shape
    mean = float(table.mean())
    spread = float(table.mean(axis=1).std(ddof=1)) if seeds > 1 else None
    if queries < 2:
        return Estimate(mean, spread=spread)
    by_query = bootstrap.bootstrap(table.T, resamples=RESAMPLES, seed=SEED)  # (r, s)
    low, high = bootstrap.percentile_interval((by_query * _seed_shares(seeds)).sum(axis=1))
    return Estimate(mean, float(low), float(high), spread)


def whole_estimate(judged: Mapping[int, Judged], metric: str) -> Estimate | None:
    """Average over seeds a number made of all answers together.

    Its standard error joins a jackknife over groups of queries, averaged over seeds, and the
    error of a mean over the seeds.
    """
    if any(metric not in one.whole for one in judged.values()):
        return None
    wholes = [one.whole[metric] for one in judged.values()]
    single = np.array([x.value for x in wholes])
    error = float(bootstrap.standard_error(np.mean([x.left_out for x in wholes], axis=0)))
    spread = float(single.std(ddof=1)) if len(single) > 1 else None
    error = float(np.hypot(error, (spread or 0.0) / np.sqrt(len(single))))
    mean = float(single.mean())
    return Estimate(mean, *bootstrap.around(metric, mean, error), spread)


def _seed_shares(seeds: int) -> NDArray[np.float64]:
    """How often each resample drew each seed, as shares that sum to 1, (resamples, seeds)."""
    generator = np.random.default_rng([SEED, seeds])
    drawn = generator.integers(seeds, size=(RESAMPLES, seeds))
    times = [np.bincount(row, minlength=seeds) for row in drawn]
    return np.stack(times) / seeds
