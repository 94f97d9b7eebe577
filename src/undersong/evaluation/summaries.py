"""From a number per query to a number with its interval, and to differences of methods."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from undersong.evaluation import intervals
from undersong.evaluation.judging import Judged
from undersong.evaluation.results import Interval, Number

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def summarise(
    judged: Mapping[str, Judged],
    *,
    reference: str,
    asking: NDArray[np.bool_],
    answerable: NDArray[np.bool_],
    whole: bool,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Number]]:
    """Summarise what methods got on some queries: method -> metric -> number.

    Parameters
    ----------
    judged : all in the same pool
    reference : method that differences are taken to, paired; it need not take part
    asking : (q,) bool, queries to average over
    answerable : (q,) bool, those of them to average accuracy over
    whole : whether to give the numbers made of all answers together, too
    """
    found: dict[str, dict[str, Number]] = {name: {} for name in judged}
    accuracy = {name: one.accuracy for name, one in judged.items()}
    answers = {name: one.answers for name, one in judged.items()}
    for values, mask in ((accuracy, answerable), (answers, asking)):
        if mask.any():
            means = _means(values, mask, reference=reference, resamples=resamples, seed=seed)
            for name, numbers in means.items():
                found[name] |= numbers
    if whole:
        for name, one in judged.items():
            other = judged.get(reference) if name != reference else None
            found[name] |= _wholes(one, other)
    return {name: numbers for name, numbers in found.items() if numbers}


def _means(
    values: Mapping[str, Mapping[str, NDArray[np.float64]]],
    mask: NDArray[np.bool_],
    *,
    reference: str,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Number]]:
    """Means over queries, with one bootstrap that all methods share."""
    methods, names = list(values), list(next(iter(values.values())))
    table = np.stack([[values[m][x][mask] for x in names] for m in methods])  # (m, x, q)
    q = table.shape[2]
    drawn = intervals.bootstrap(table.reshape(-1, q).T, resamples=resamples, seed=seed)
    drawn = drawn.reshape(-1, len(methods), len(names))  # (r, m, x)
    means, bounds = table.mean(axis=2), _bounds(drawn, q)
    place = methods.index(reference) if reference in methods else None
    above, above_bounds = means, bounds
    if place is not None:
        above, above_bounds = means - means[place], _bounds(drawn - drawn[:, [place]], q)
    return {
        method: {
            name: Number(
                _interval(means, bounds, (m, x)),
                _interval(above, above_bounds, (m, x)) if place not in (None, m) else None,
            )
            for x, name in enumerate(names)
        }
        for m, method in enumerate(methods)
    }


def _bounds(drawn: NDArray[np.float64], q: int) -> Bounds | None:
    """Bounds of 95 %; a single query tells nothing of others."""
    return intervals.percentile_interval(drawn) if q > 1 else None


def _interval(
    values: NDArray[np.float64], bounds: Bounds | None, cell: tuple[int, int]
) -> Interval:
    if bounds is None:
        return Interval(float(values[cell]))
    return Interval(float(values[cell]), float(bounds[0][cell]), float(bounds[1][cell]))


def _wholes(one: Judged, reference: Judged | None) -> dict[str, Number]:
    """Numbers made of all answers together, with a jackknife that all methods share."""
    found = {}
    for name, whole in one.whole.items():
        difference = None
        if reference is not None:
            other = reference.whole[name]
            apart = _error(whole.left_out - other.left_out)
            value, margin = whole.value - other.value, intervals.NORMAL * apart
            difference = Interval(value, value - margin, value + margin)
        bounds = intervals.around(name, whole.value, _error(whole.left_out))
        found[name] = Number(Interval(whole.value, *bounds), difference)
    return found


def _error(left_out: NDArray[np.float64]) -> float:
    return float(intervals.standard_error(left_out))
