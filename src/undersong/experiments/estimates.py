"""How sure a mean over seeds and queries is, and a difference of two of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undersong.evaluation import intervals
from undersong.evaluation.judging import Judged

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
    by_query = intervals.bootstrap(table.T, resamples=RESAMPLES, seed=SEED)  # (r, s)
    low, high = intervals.percentile_interval((by_query * _seed_shares(seeds)).sum(axis=1))
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
    error = float(intervals.standard_error(np.mean([x.left_out for x in wholes], axis=0)))
    spread = float(single.std(ddof=1)) if len(single) > 1 else None
    error = float(np.hypot(error, (spread or 0.0) / np.sqrt(len(single))))
    mean = float(single.mean())
    return Estimate(mean, *intervals.around(metric, mean, error), spread)


def _seed_shares(seeds: int) -> NDArray[np.float64]:
    """How often each resample drew each seed, as shares that sum to 1, (resamples, seeds)."""
    generator = np.random.default_rng([SEED, seeds])
    drawn = generator.integers(seeds, size=(RESAMPLES, seeds))
    times = [np.bincount(row, minlength=seeds) for row in drawn]
    return np.stack(times) / seeds
