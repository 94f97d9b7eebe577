"""What an evaluation found: numbers, and 95 % intervals over queries, paired between methods.

A mean over queries gets a percentile bootstrap. A number made of all answers together, such as
coverage, does not: a bootstrap repeats some queries and forgets others, which makes the answers
look less varied than they are. Those get a jackknife that leaves out a group of queries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
SAME_ARTIST = "same artist"  # the protocol that needs no relations (``same_artist``)
RANKED = "undersong"  # the default answers of a run, among the methods
DEPTHS = (20, 100, 200)  # where the lists of the protocol ``directed`` are cut


@dataclass(frozen=True)
class Interval:
    """A number and the bounds that hold it with 95 %; None where they cannot be known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Number:
    """One metric of one method, and how far it is above the reference method (paired).

    ``difference`` is None for the reference itself and where the reference takes no part.
    """

    mean: Interval
    difference: Interval | None = None


@dataclass(frozen=True)
class Slice:
    """Some of the queries.

    Parameters
    ----------
    name : such as "all", "long tail", "visible degree 1-2"
    queries : how many items ask
    answerable : how many of them have a relevant candidate
        Accuracy is a mean over these, everything else over all that ask.
    numbers : method -> metric -> number; empty where nobody asks
    """

    name: str
    queries: int
    answerable: int
    numbers: Mapping[str, Mapping[str, Number]]


@dataclass(frozen=True)
class Protocol:
    """One way to ask and to judge (docs/evaluation.md).

    Parameters
    ----------
    name : "cold", "paper" or "linked"; for tracks also with ", other artists"; "directed"; or
        "same artist"
    meaning : the same in plain words
    candidates : how many items may be an answer
    skipped : queries without a relevant candidate, left out of accuracy
    hub_queries : how many items asked for the hubness numbers
    slices : the first is "all", the second "long tail"
    """

    name: str
    meaning: str
    candidates: int
    skipped: int
    hub_queries: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    Parameters
    ----------
    kind, part : whose answers, and which split asked
    k : length of the short list
    resamples, seed : of the bootstrap
    reference : name of the method that differences are taken to
    methods : names and notes, in the order given
    fields : metadata fields of consistent@k
    withheld : fields of withheld_consistent@k
    popularity : by what popularity is measured
    protocols : the lead result first
    content : hash of the run that was judged (``runs.Run.content``); "" where that is not known
    """

    kind: str
    part: str
    k: int
    resamples: int
    seed: int
    reference: str
    methods: tuple[tuple[str, str], ...]
    fields: tuple[str, ...]
    withheld: tuple[str, ...]
    popularity: str
    protocols: tuple[Protocol, ...]
    content: str = ""


GROUPS = 20
SHARES = ("coverage", "gini", "nobody's neighbour", "nobody finds")  # never below 0 nor above 1
NORMAL = 1.96  # standard errors either side that hold 95 % of a normal distribution
_CELLS = 1 << 24  # indices drawn at once


def bootstrap(values: NDArray[np.float64], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Average resampled queries, (q, columns) -> (resamples, columns).

    Each resample takes the same queries for every column, so two columns may be compared.
    """
    q = len(values)
    generator = np.random.default_rng([seed, q])
    size = max(1, _CELLS // q)
    means = []
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = generator.integers(q, size=(count, q)) + np.arange(count)[:, None] * q
        times = np.bincount(drawn.ravel(), minlength=count * q).reshape(count, q)
        means.append(times.astype(np.float64) @ values / q)
    return np.concatenate(means)


def percentile_interval(
    means: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds that hold the middle 95 % of the resamples, (resamples, ...) -> two of (...)."""
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return low, high


def groups(q: int, *, seed: int) -> NDArray[np.int64]:
    """Put q queries at random in ``GROUPS`` groups of nearly equal size, (q,)."""
    return np.random.default_rng([seed, q]).permutation(q) % GROUPS


def jackknife(
    statistic: Callable[[NDArray[np.bool_]], NDArray[np.float64]], group: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recompute a statistic without one group of queries after the other, (groups, columns).

    ``statistic`` gets the queries to keep, (q,) bool. Queries that are fewer than the groups
    leave some groups empty; those say nothing and are skipped.
    """
    return np.stack([statistic(group != x) for x in np.unique(group)])


def standard_error(left_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error from the values of a jackknife, (groups, ...) -> (...)."""
    g = len(left_out)
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray(np.sqrt((g - 1) / g * spread), dtype=np.float64)


def around(name: str, value: float, error: float) -> tuple[float, float]:
    """Bounds of 95 % of a number from its standard error; those of a share stay within [0, 1]."""
    low, high = value - NORMAL * error, value + NORMAL * error
    if name.split("@")[0] in SHARES:
        return max(0.0, low), min(1.0, high)
    return low, high
