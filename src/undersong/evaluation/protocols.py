"""How good the answers are (section 3): protocols, slices, intervals -> Evaluation.

Protocol ``cold`` lets an unknown item ask. In ``found`` known items ask, and right are items of
which every relation is hidden. It can be won by putting unlinked items first, so it is read beside
``cold`` and the share of unlinked items among the answers, and ``combined`` stands for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Kind, draw_alike, tail_odds
from undersong.errors import DataError, SettingsError, nearest_known
from undersong.evaluation.baselines.classical import random, visible_edges
from undersong.evaluation.method import Method, Ties, make_ties
from undersong.evaluation.results import NORMAL, Evaluation, Interval, Number, Protocol, Slice
from undersong.evaluation.scoring import Judged, Pool, Traits, judge, summarise, traits
from undersong.metrics import DEEP
from undersong.progress import Progress, part_of, silent
from undersong.relations import Task, known

ASKING = ("test", "validation")
DEGREES = ((0, 0), (1, 2), (3, 5), (6, 10), (11, None))
MEANINGS = {
    "cold": "Each {split} {kind} is a query, the whole catalogue the candidates. All its links "
    "were hidden: this measures the answers to items that nobody has linked yet.",
    "paper": "Each {split} {kind} is a query, the other {split} {kind}s are the candidates, as in "
    "the paper. All their links were hidden.",
    "linked": "As paper, but methods that can use them see the links between {split} and training "
    "{kind}s. Links between two {split} {kind}s stay hidden.",
}
MEANINGS |= {
    "ask": "{kind}s without any link in the run are queries, the whole catalogue the candidates. "
    "Their links in the file are right.",
    "more": "{kind}s with links in the run are queries; the candidates are the whole catalogue "
    "without those links. Further links in the file to linked {kind}s are right.",
    "found": "{kind}s with known links are queries; the candidates are the whole catalogue without "
    "those links. Right are the {split} {kind}s linked to them, all of whose links were hidden: "
    "this measures who finds an unlinked item. Read it together with cold: a method that puts all "
    "unlinked items first would win here alone.",
}
VARIANTS = {
    "other artists": "Tracks of the query's own artist are no candidates.",
    "labelled": "Candidates without any known link are left out of the answers: no list mentions "
    "them, so nobody can say whether they are wrong.",
}
LIKE_TAIL = "like the unlinked"  # a quarter of the queries, drawn by the odds of being unlinked


@dataclass(frozen=True)
class EvaluationSettings:
    """How to judge.

    Parameters
    ----------
    k : length of the short list, 1 or more
    resamples : of the bootstrap, 100 or more; the protocol asks for 1,000
    seed : of ties, of the random row and of the bootstrap
    block : queries scored at once, 1 or more; bounds the memory
    hub_queries : at most so many items ask for hubness, drawn at random; 2 or more
    """

    k: int = 10
    resamples: int = 1000
    seed: int = 0
    block: int = 256
    hub_queries: int = 10_000

    def __post_init__(self) -> None:
        if min(self.k, self.block) < 1 or self.hub_queries < 2:
            raise ValueError("k and block must be 1 or more, hub_queries 2 or more")
        if self.resamples < 100:
            raise ValueError(f"resamples {self.resamples} must be 100 or more")


def evaluate(
    task: Task,
    *,
    methods: Sequence[Method],
    split: str,
    reference: str | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress = silent,
) -> Evaluation:
    """Judge methods by the protocols ``cold``, ``found``, ``paper`` and ``linked``.

    ``cold`` is judged twice: with and without candidates that no list mentions. Tracks are judged
    twice by each: among all candidates, and without those of the query's own artist.

    Parameters
    ----------
    task : all items of one kind, and the split of each
    methods : what to judge
        A random one is put in front if none is called "random". One that ``sees_edges`` takes
        part in ``linked`` only; ``baselines.classical.visible_edges`` says what it may see.
    split : "test" or "validation", whose items ask
        When validation items ask, relations to test items do not count: the test split stays
        unread.
    reference : method that differences are taken to; the first given if None

    Raises
    ------
    DataError
        If the splits do not fit the catalogue or ``split`` has fewer than 2 items.
    SettingsError
        For an unknown split or reference, no method, or two methods of one name.
    ArtifactError
        If a method scores with NaN or in another shape.
    """
    _check(task, split)
    reference = _reference(methods, reference)
    if all(method.name != "random" for method in methods):
        methods = [random(len(task.splits), seed=settings.seed), *methods]
    judged_by = traits(task)
    degree = degree_of(visible_edges(task, split))
    visible = task.related("train")
    ties = make_ties(len(task.splits), seed=settings.seed)
    pools = pools_of(task, split, settings=settings)
    odds = tail_odds(
        task.catalogue,
        task.kind,
        has_link=degree_of(pools["cold"].truth) > 0,
        among=~task.within("test") | (split == "test"),
    )
    answers = judge_all(
        methods, pools, traits=judged_by, ties=ties, settings=settings, progress=progress
    )
    protocols: dict[str, Protocol] = {}
    for name, pool in pools.items():
        judged = {x: own[name] for x, own in answers.items() if name in own}
        edge_free = {m.name: judged[m.name] for m in methods if not m.sees_edges}
        about = About(
            task.kind,
            split,
            pool,
            judged_by,
            len(pool.candidates if pool.hubs is None else pool.hubs),
            reference,
            settings,
        )
        alike = _like_tail(odds, pool, seed=settings.seed)
        if name.startswith("cold"):
            by_relations = by_degree("{} relations", degree_of(pool.truth)[pool.queries])
            protocols[name] = protocol_of(name, edge_free, alike | by_relations, about)
        elif name.startswith("found"):
            slices = by_degree("visible degree {}", degree_of(visible)[pool.queries])
            slices |= by_popularity(judged_by.percentile, pool.queries)
            protocols[name] = protocol_of(name, edge_free, slices, about)
        else:
            linked = name.replace("paper", "linked")
            degrees = by_degree("visible degree {}", degree[pool.queries])
            protocols[name] = protocol_of(name, edge_free, {}, about)
            protocols[linked] = protocol_of(linked, judged, degrees, about)
    progress("evaluate", 1, 1)
    return Evaluation(
        kind=task.kind,
        part=split,
        k=settings.k,
        resamples=settings.resamples,
        seed=settings.seed,
        reference=reference,
        methods=tuple((method.name, method.note) for method in methods),
        fields=judged_by.fields,
        withheld=judged_by.withheld,
        popularity=judged_by.measure,
        protocols=of_protocols(protocols),
    )


def judge_all(
    methods: Sequence[Method],
    pools: Mapping[str, Pool],
    *,
    traits: Traits,
    ties: Ties,
    settings: EvaluationSettings,
    progress: Progress = silent,
) -> dict[str, dict[str, Judged]]:
    """Judge each method in the pools that it may take part in: method -> pool -> what it got.

    One that sees relations of the items that ask has a part in ``paper`` alone.
    """
    return {
        method.name: judge(
            method,
            {x: y for x, y in pools.items() if x.startswith("paper") or not method.sees_edges},
            traits=traits,
            ties=ties,
            k=settings.k,
            block=settings.block,
            seed=settings.seed,
            progress=part_of(progress, "evaluate", turn, len(methods), method.name),
        )
        for turn, method in enumerate(methods)
    }


def _check(task: Task, split: str) -> None:
    kind, n = task.kind, len(task.catalogue.items(task.kind))
    if split not in ASKING:
        raise SettingsError(f"no split {split!r} to evaluate; {nearest_known(split, ASKING)}")
    if len(task.splits) != n:
        raise DataError(f"{len(task.splits)} splits for {n} {kind}s; split this catalogue again")
    if task.within(split).sum() < 2:
        raise DataError(
            f"{task.within(split).sum()} {kind}s in the {split} split, too few to evaluate; "
            "give a larger share under [split] in the settings"
        )


def _reference(methods: Sequence[Method], reference: str | None) -> str:
    names = [method.name for method in methods]
    if not names:
        raise SettingsError("no method to evaluate; give at least one")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"two methods are called {twice!r}; give each its own name")
    if reference is not None and reference not in names:
        raise SettingsError(
            f"no method {reference!r} to compare with; {nearest_known(reference, names)}"
        )
    return names[0] if reference is None else reference


def pools_of(task: Task, split: str, *, settings: EvaluationSettings) -> dict[str, Pool]:
    """Who asks whom in each protocol; ``linked`` asks the same as ``paper``.

    For hubness every candidate asks; of many, a fixed sample.
    """
    catalogue, asks, seed = task.catalogue, task.within(split), settings.seed
    unread = split == "validation"  # the test split
    truth = known(catalogue, task.kind, ~task.within("test")) if unread else task.related()
    among, everything = np.flatnonzero(asks), np.arange(len(asks))
    queries = askers(among, seed=seed)
    labelled = np.flatnonzero(truth.getnnz(axis=1) > 0)
    visible = task.related("train")
    pools = {
        "cold, labelled": Pool(queries, labelled, everything, truth, pool=everything),
        "cold": Pool(queries, everything, everything, truth),
        "found": found_pool(visible, truth, asks, everything, seed=seed),
        "paper": Pool(queries, among, everything, truth),
    }
    if task.kind == "track":
        artists = catalogue.tracks["artist"].fill_null(catalogue.tracks["id"])
        groups = np.unique(artists.to_numpy().astype(str), return_inverse=True)[1]
        pools["cold, labelled, other artists"] = replace(pools["cold, labelled"], groups=groups)
        pools["found, other artists"] = replace(pools["found"], groups=groups)
        pools["cold, other artists"] = Pool(queries, everything, groups, truth)
        pools["paper, other artists"] = Pool(queries, among, groups, truth)
    return {
        name: pool
        if pool.pool is not None or pool.shown is not None
        else _asking_hubs(pool, settings)
        for name, pool in pools.items()
        if len(pool.queries) and len(pool.candidates)
    }


def _asking_hubs(pool: Pool, settings: EvaluationSettings) -> Pool:
    hubs = pool.candidates
    if len(hubs) > settings.hub_queries:
        generator = np.random.default_rng([settings.seed, len(hubs)])
        hubs = np.sort(generator.choice(hubs, settings.hub_queries, replace=False))
    return replace(pool, hubs=hubs)


def degree_of(relations: sparse.csr_matrix) -> NDArray[np.int64]:
    """Return how many relations each item has, (n,)."""
    return np.asarray(np.diff(relations.indptr), dtype=np.int64)


def by_degree(name: str, degree: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Cut queries by a number of relations, as masks (q,)."""
    slices = {}
    for low, high in DEGREES:
        label = f"{low}+" if high is None else f"{low}-{high}" if high > low else str(low)
        slices[name.format(label)] = (degree >= low) & (high is None or degree <= high)
    return slices


def _like_tail(odds: NDArray[np.float64], pool: Pool, *, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Mark queries drawn to look like the unlinked, a quarter of those with an answer, (q,)."""
    answerable = pool.queries[degree_of(pool.truth)[pool.queries] > 0]
    if not odds.any():
        return {}
    generator = np.random.default_rng([seed, len(pool.queries)])
    drawn = draw_alike(generator, odds, answerable, len(answerable) // 4)
    return {LIKE_TAIL: np.isin(pool.queries, drawn)}


@dataclass(frozen=True)
class About:
    """What every protocol of one pool has in common."""

    kind: Kind
    split: str
    pool: Pool
    traits: Traits
    hub_queries: int
    reference: str
    settings: EvaluationSettings


def meaning_of(name: str, split: str, kind: Kind) -> str:
    """Return a protocol in plain words."""
    base, *variants = name.split(", ")
    meaning = MEANINGS[base].format(split=split, kind=kind)
    return " ".join([meaning[0].upper() + meaning[1:], *(VARIANTS[x] for x in variants)])


def protocol_of(
    name: str,
    judged: Mapping[str, Judged],
    slices: Mapping[str, NDArray[np.bool_]],
    about: About,
) -> Protocol:
    """Summarise what methods got in one pool, over all its queries and over slices, (q,) each."""
    tail = about.traits.long_tail[about.pool.queries]
    masks = {"all": np.ones(len(tail), dtype=bool), "long tail": tail, **slices}
    answerable = ~np.isnan(next(iter(next(iter(judged.values())).accuracy.values())))
    return Protocol(
        name=name,
        meaning=meaning_of(name, about.split, about.kind),
        candidates=len(about.pool.candidates),
        skipped=int((~answerable).sum()),
        hub_queries=about.hub_queries,
        slices=tuple(
            Slice(
                name=label,
                queries=int(mask.sum()),
                answerable=int((mask & answerable).sum()),
                numbers=summarise(
                    judged,
                    reference=about.reference,
                    asking=mask,
                    answerable=mask & answerable,
                    whole=label == "all",
                    resamples=about.settings.resamples,
                    seed=about.settings.seed,
                ),
            )
            for label, mask in masks.items()
        ),
    )


ASKERS = 4096  # items that ask at most; of more, a random part
FIFTHS = 5


def found_pool(
    visible: sparse.csr_matrix,
    truth: sparse.csr_matrix,
    hidden: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    seed: int,
) -> Pool:
    """Return who asks: known items with a relation to a hidden one. What they were shown is out.

    Parameters
    ----------
    visible : (n, n) bool, relations that are shown; none of a hidden item
    truth : (n, n) bool, all relations that count
    hidden : (n,) bool, items that should be found
    groups : (n,) int, candidates of the query's own group are none
    """
    right = truth.multiply(hidden[None, :]).tocsr()
    right.eliminate_zeros()
    asks = (visible.getnnz(axis=1) > 0) & (right.getnnz(axis=1) > 0) & ~hidden
    queries, everything = askers(np.flatnonzero(asks), seed=seed), np.arange(len(hidden))
    unlinked = visible.getnnz(axis=1) == 0
    return Pool(queries, everything, groups, right.astype(bool), shown=visible, unlinked=unlinked)


def askers(rows: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Return who of some items asks: all, or of very many a random part, always the same."""
    if len(rows) <= ASKERS:
        return rows
    return np.sort(np.random.default_rng([seed, len(rows)]).choice(rows, ASKERS, replace=False))


def by_popularity(
    percentile: NDArray[np.float64], queries: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Cut queries by how popular they are, masks (q,): fifths of all items, rarest first."""
    fifth = np.minimum((percentile[queries] * FIFTHS).astype(np.int64), FIFTHS - 1)
    width = 100 // FIFTHS
    return {f"popularity {width * x}-{width * (x + 1)} %": fifth == x for x in range(FIFTHS)}


def with_combined(protocol: Protocol, cold: Protocol) -> Protocol:
    """Add to ``found`` the harmonic mean of NDCG@200 there and in ``cold``, for each method.

    The harmonic mean, because neither can be bought with the other: whoever is at 0 in one is at
    0. Its interval comes from those of both, as if they were independent.
    """
    first, *others = protocol.slices
    name, numbers = f"ndcg@{DEEP}", dict(first.numbers)
    for method, own in first.numbers.items():
        other = cold.slices[0].numbers.get(method, {})
        if name in own and name in other:
            mean = combined(own[name].mean, other[name].mean)
            numbers[method] = {**own, f"combined@{DEEP}": Number(mean)}
    return replace(protocol, slices=(replace(first, numbers=numbers), *others))


def combined(one: Interval, two: Interval) -> Interval:
    """Return the harmonic mean of two numbers with its interval, by the delta method."""
    total = one.value + two.value
    if total == 0:
        return Interval(0.0)
    value = 2 * one.value * two.value / total
    errors = [_error(x) for x in (one, two)]
    if errors[0] is None or errors[1] is None:
        return Interval(value)
    slopes = 2 * (two.value / total) ** 2, 2 * (one.value / total) ** 2
    margin = NORMAL * float(np.hypot(slopes[0] * errors[0], slopes[1] * errors[1]))
    return Interval(value, value - margin, value + margin)


def _error(number: Interval) -> float | None:
    if number.low is None or number.high is None:
        return None
    return (number.high - number.low) / (2 * NORMAL)


def of_protocols(protocols: Mapping[str, Protocol]) -> tuple[Protocol, ...]:
    """Return the protocols, ``found`` with the number that it shares with labelled ``cold``."""
    cold = protocols.get("cold, labelled")
    return tuple(
        with_combined(x, cold) if name == "found" and cold else x for name, x in protocols.items()
    )
