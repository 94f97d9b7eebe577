"""One method before one set of questions: a number per query, nothing averaged yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong import metrics
from undersong.catalogue import linked
from undersong.errors import ArtifactError
from undersong.evaluation.baselines.classical import item_popularity, word_matrix
from undersong.evaluation.method import Method, Ranking, Ties, blocks, rank
from undersong.evaluation.results import (
    NORMAL,
    Interval,
    Number,
    around,
    bootstrap,
    groups,
    jackknife,
    percentile_interval,
    standard_error,
)
from undersong.relations import META_ROLES, Task, codes

FAR = 50  # answers of a known item among which one that nobody has linked should be


@dataclass(frozen=True)
class Pool:
    """Who asks whom.

    Parameters
    ----------
    queries, candidates : (q,) and (c,) rows of the n items, ascending
    groups : (n,) int; a candidate of the query's own group is none (see ``ranking.rank``)
    truth : (n, n) bool, what counts as right
    shown : (n, n) bool, pairs that the query was shown: they stand behind all others
    pool : rows among which a method may order its answers; by default the candidates
        With all items, the answers are those of the whole catalogue, and what is no candidate is
        left out of them.
    hubs : rows of the items that ask for the k-occurrence of each candidate; None: nobody
    unlinked : (n,) bool, who looks unlinked to those that ask; None: who is in the catalogue
    """

    queries: NDArray[np.int64]
    candidates: NDArray[np.int64]
    groups: NDArray[np.int64]
    truth: sparse.csr_matrix
    shown: sparse.csr_matrix | None = None
    pool: NDArray[np.int64] | None = None
    hubs: NDArray[np.int64] | None = None
    unlinked: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Questions:
    """Questions of one pool: who asks, ascending, for how many answers, and whether for ranks."""

    pool: Pool
    rows: NDArray[np.int64]
    k: int
    ranks: bool


@dataclass(frozen=True)
class Traits:
    """What answers are judged by when no relation is known.

    Parameters
    ----------
    fields, withheld : names of the metadata fields behind ``codes`` and ``words``
    codes : (n, fields) int, -1 where missing
    words : for each withheld field who has which word, (n, vocabulary)
    long_tail : (n,) bool, items without any relation in the catalogue
    percentile : (n,) share of items that are less popular
    measure : by what popularity is measured
    """

    fields: tuple[str, ...]
    withheld: tuple[str, ...]
    codes: NDArray[np.int32]
    words: Sequence[sparse.csr_matrix]
    long_tail: NDArray[np.bool_]
    percentile: NDArray[np.float64]
    measure: str


@dataclass(frozen=True)
class Whole:
    """A number made of all answers together, and its values without one group of queries."""

    value: float
    left_out: NDArray[np.float64]  # (groups,)


@dataclass(frozen=True)
class Judged:
    """What one method got in one pool.

    Parameters
    ----------
    accuracy : metric -> (q,), NaN for a query without a relevant candidate
    answers : metric -> (q,), known for every query
    whole : metric -> a number of all answers together
    """

    accuracy: Mapping[str, NDArray[np.float64]]
    answers: Mapping[str, NDArray[np.float64]]
    whole: Mapping[str, Whole]


def traits(task: Task) -> Traits:
    """Read from the catalogue what answers are judged by, whatever the models read.

    Numbers are cut in fifths whose borders come from the training items.
    """
    catalogue, kind, train = task.catalogue, task.kind, task.within("train")
    table = catalogue.items(kind)
    withheld = [f for f in catalogue.fields_of(kind) if f.withheld]
    words = [
        _fifths(codes(table, f, train)) if f.type == "number" else word_matrix(table[f.name])
        for f in withheld
    ]
    popularity, measure = item_popularity(task)
    roles = [f.name for role in META_ROLES if (f := catalogue.role(kind, role))]
    return Traits(
        fields=tuple(roles),
        withheld=tuple(f.name for f in withheld),
        codes=task.codes,
        words=words,
        long_tail=~linked(catalogue, kind),
        percentile=metrics.percentiles(popularity),
        measure=measure,
    )


def propensities(relations: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how likely lists name each item, by how many relations it has, (n,) in (0, 1].

    The root of its share of those of the most named one, as Yang et al. (RecSys 2018) estimate it
    from observed counts.
    """
    counts = np.maximum(relations, 1)
    return np.asarray(np.sqrt(counts / counts.max(initial=1)), dtype=np.float64)


def judge(
    method: Method,
    pools: Mapping[str, Pool],
    *,
    traits: Traits,
    ties: Ties,
    k: int,
    block: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Judged]:
    """Ask a method all questions of some pools; what several pools ask is scored once.

    Parameters
    ----------
    progress : called with how many questions are answered, of how many

    Raises
    ------
    ArtifactError
        If the method scores with NaN or in another shape, with its name.
    """
    asked = []
    for name, pool in pools.items():
        depth = k if pool.shown is None else max(k, FAR)
        asked.append((name, _Questions(pool, pool.queries, depth, ranks=True)))
        if pool.hubs is not None and not np.array_equal(pool.hubs, pool.queries):
            asked.append((name, _Questions(pool, pool.hubs, k, ranks=False)))
    rankings: dict[str, list[Ranking]] = {name: [] for name in pools}
    for name, ranking in zip(
        (name for name, _ in asked),
        _ask(method, [x for _, x in asked], ties=ties, block=block, progress=progress),
        strict=True,
    ):
        rankings[name].append(ranking)
    return {
        name: _judged(pool, rankings[name][0], rankings[name][-1], traits, k, seed)
        for name, pool in pools.items()
    }


def _judged(
    pool: Pool, ranking: Ranking, near: Ranking, traits: Traits, k: int, seed: int
) -> Judged:
    """Measure answers of one pool; ``near`` are those to the items that ask for hubness."""
    top = ranking.top[:, :k]
    group = groups(len(pool.queries), seed=seed)
    shown = {f"coverage@{k}": metrics.coverage, "gini": metrics.gini}
    whole = _whole(top, pool.candidates, shown, group)
    if pool.hubs is not None:
        hubs = {"hubness": metrics.hubness, "nobody's neighbour": metrics.unreachable}
        group_of = groups(len(near.top), seed=seed)
        whole |= _whole(near.top[:, :k], pool.candidates, hubs, group_of)
    accuracy = metrics.accuracy(ranking.ranks, k=k)
    named = propensities(np.asarray(pool.truth.getnnz(axis=0), dtype=np.int64))
    weights = [1 / named[items] for items in ranking.relevant]
    accuracy[f"ndcg@{metrics.DEEP} ips"] = metrics.weighted_ndcg(ranking.ranks, weights)
    if pool.shown is not None:
        name = f"recall@{FAR}"
        accuracy = {**accuracy, name: metrics.accuracy(ranking.ranks, k=FAR)[name]}
        whole[f"nobody finds@{FAR}"] = _never(ranking, group)
    if pool.unlinked is not None:
        traits = replace(traits, long_tail=pool.unlinked)
    return Judged(accuracy, _answers(pool.queries, top, traits, k), whole)


def _ask(
    method: Method,
    asked: Sequence[_Questions],
    *,
    ties: Ties,
    block: int,
    progress: Callable[[int, int], None],
) -> list[Ranking]:
    """Answer all questions, each row once for all who may answer alike."""
    n = len(ties.place)
    among = [x.pool.candidates if x.pool.pool is None else x.pool.pool for x in asked]
    if not method.among:
        among = [np.arange(n)] * len(asked)
    alike = {
        x: next(y for y in range(x + 1) if np.array_equal(among[y], among[x]))
        for x in range(len(asked))
    }
    rows_of = {
        first: np.unique(np.concatenate([asked[x].rows for x, y in alike.items() if y == first]))
        for first in dict.fromkeys(alike.values())
    }
    tops = [np.empty((len(x.rows), x.k), dtype=np.int64) for x in asked]
    nobody = np.zeros(0, dtype=np.int64)
    ranks, relevant = ([[nobody] * len(x.rows) for x in asked] for _ in range(2))
    done, total = 0, sum(len(x) for x in rows_of.values())
    for first, rows in rows_of.items():
        scores = method.among(among[first]) if method.among else method.scores
        turn = method.turn(rows) if method.turn else np.arange(len(rows))
        for some in blocks(rows[turn], n=n, block=block):
            progress(done, total)
            done += len(some)
            try:
                values = scores(some)
                for x in (x for x, y in alike.items() if y == first):
                    questions = asked[x]
                    asking = np.isin(some, questions.rows)
                    ranked = rank(
                        values,
                        some,
                        candidates=questions.pool.candidates,
                        groups=questions.pool.groups,
                        relevant=questions.pool.truth if questions.ranks else None,
                        shown=questions.pool.shown,
                        ties=ties,
                        k=questions.k,
                        asking=asking,
                    )
                    places = np.searchsorted(questions.rows, some[asking])
                    tops[x][places] = ranked.top
                    for place, own in enumerate(ranked.ranks):
                        ranks[x][places[place]] = own
                        relevant[x][places[place]] = ranked.relevant[place]
            except ArtifactError as error:
                raise ArtifactError(f"method {method.name!r}: {error}") from error
    return [
        Ranking(top, tuple(own), tuple(items))
        for top, own, items in zip(tops, ranks, relevant, strict=True)
    ]


def _never(ranking: Ranking, group: NDArray[np.int64]) -> Whole:
    """Share of the right items that no query has among its first ``FAR``, each counted once."""
    query = np.repeat(np.arange(len(ranking.ranks)), [len(x) for x in ranking.ranks])
    items = np.concatenate([np.empty(0, dtype=np.int64), *ranking.relevant])
    near = np.concatenate([np.empty(0, dtype=np.int64), *ranking.ranks]) <= FAR

    def measure(some: NDArray[np.bool_]) -> NDArray[np.float64]:
        wanted = np.unique(items[some[query]])
        reached = np.unique(items[some[query] & near])
        return np.array([1 - len(reached) / max(len(wanted), 1)])

    value = float(measure(np.ones(len(ranking.ranks), dtype=bool))[0])
    return Whole(value, jackknife(measure, group)[:, 0])


def _answers(
    rows: NDArray[np.int64], top: NDArray[np.int64], traits: Traits, k: int
) -> dict[str, NDArray[np.float64]]:
    """Metrics of the short list that need no relation, each (q,)."""
    values: dict[str, NDArray[np.float64]] = {}
    if traits.fields:
        shared, strict = metrics.consistency(traits.codes, rows, top)
        values |= {f"consistent@{k}": shared, f"strict_consistent@{k}": strict}
    if traits.withheld:
        values[f"withheld_consistent@{k}"] = metrics.overlap(traits.words, rows, top)
    values["long-tail share"] = metrics.mean_of_answers(traits.long_tail.astype(np.float64), top)
    values["popularity"] = metrics.mean_of_answers(traits.percentile, top)
    return values


def _whole(
    top: NDArray[np.int64],
    candidates: NDArray[np.int64],
    measures: Mapping[str, Callable[[NDArray[np.int64]], float]],
    group: NDArray[np.int64],
) -> dict[str, Whole]:
    """Measure how often each candidate is an answer, with all queries and without some."""
    n = int(candidates.max()) + 1

    def measure(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts = metrics.occurrences(top[chosen], candidates, n=n)
        return np.array([function(counts) for function in measures.values()])

    values = measure(np.ones(len(top), dtype=bool))
    left_out = jackknife(measure, group)
    return {
        name: Whole(float(values[place]), left_out[:, place]) for place, name in enumerate(measures)
    }


def _fifths(column: NDArray[np.int32]) -> sparse.csr_matrix:
    """One word an item: the fifth that its number is in."""
    known = np.flatnonzero(column >= 0)
    shape = (len(column), int(column.max(initial=0)) + 1)
    cells = (np.ones(len(known), dtype=np.float32), (known, column[known]))
    return sparse.csr_matrix(cells, shape=shape)


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
    summary: dict[str, dict[str, Number]] = {name: {} for name in judged}
    accuracy = {name: one.accuracy for name, one in judged.items()}
    answers = {name: one.answers for name, one in judged.items()}
    for values, mask in ((accuracy, answerable), (answers, asking)):
        if mask.any():
            means = _means(values, mask, reference=reference, resamples=resamples, seed=seed)
            for name, numbers in means.items():
                summary[name] |= numbers
    if whole:
        for name, one in judged.items():
            other = judged.get(reference) if name != reference else None
            summary[name] |= _wholes(one, other)
    return {name: numbers for name, numbers in summary.items() if numbers}


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
    drawn = bootstrap(table.reshape(-1, q).T, resamples=resamples, seed=seed)
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
    return percentile_interval(drawn) if q > 1 else None


def _interval(
    values: NDArray[np.float64], bounds: Bounds | None, cell: tuple[int, int]
) -> Interval:
    if bounds is None:
        return Interval(float(values[cell]))
    return Interval(float(values[cell]), float(bounds[0][cell]), float(bounds[1][cell]))


def _wholes(one: Judged, reference: Judged | None) -> dict[str, Number]:
    """Numbers made of all answers together, with a jackknife that all methods share."""
    numbers = {}
    for name, whole in one.whole.items():
        difference = None
        if reference is not None:
            other = reference.whole[name]
            apart = _error(whole.left_out - other.left_out)
            value, margin = whole.value - other.value, NORMAL * apart
            difference = Interval(value, value - margin, value + margin)
        bounds = around(name, whole.value, _error(whole.left_out))
        numbers[name] = Number(Interval(whole.value, *bounds), difference)
    return numbers


def _error(left_out: NDArray[np.float64]) -> float:
    return float(standard_error(left_out))
