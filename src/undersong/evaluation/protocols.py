"""How good the answers are (section 3): protocols, slices, intervals -> Report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import Catalogue, Kind
from undersong.errors import DataError, SettingsError, nearest_known
from undersong.evaluation.baselines.graph import visible_edges
from undersong.evaluation.baselines.untrained import random
from undersong.evaluation.method import Method
from undersong.evaluation.results import Protocol, Report, Slice
from undersong.evaluation.scoring import Judged, Pool, Traits, judge, summarise, traits
from undersong.evaluation.ties import make_ties
from undersong.progress import Progress, silent
from undersong.relations import known

ASKING = ("test", "validation")
DEGREES = ((0, 0), (1, 2), (3, 5), (6, 10), (11, None))
MEANINGS = {
    "cold": "Every {part} {kind} asks the whole catalogue. None of its relations was ever "
    "visible: this is how well an item that nobody has linked yet is answered.",
    "paper": "Every {part} {kind} asks the other {part} {kind}s, as in the paper. None of its "
    "relations was ever visible.",
    "linked": "As paper, but relations between {part} and training {kind}s are visible to the "
    "methods that can use them. Those between two {part} {kind}s are not.",
}
OTHER_ARTISTS = "Tracks of the query's own artist are no candidates."


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
    catalogue: Catalogue,
    kind: Kind,
    *,
    parts: NDArray[np.str_],
    methods: Sequence[Method],
    part: str,
    reference: str | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress = silent,
) -> Report:
    """Judge methods by the protocols ``cold``, ``paper`` and ``linked``.

    Tracks are judged twice by each: among all candidates, and without those of the query's own
    artist.

    Parameters
    ----------
    parts : (n,) "train", "validation" or "test", as ``catalogue.splits.split`` gives it
    methods : what to judge
        A random one is put in front if none is called "random". One that ``sees_edges`` takes
        part in ``linked`` only; ``baselines.graph.visible_edges`` says what it may see.
    part : "test" or "validation", whose items ask
        When validation items ask, relations to test items do not count: the test split stays
        unread.
    reference : method that differences are taken to; the first given if None

    Raises
    ------
    DataError
        If ``parts`` does not fit the catalogue or ``part`` has fewer than 2 items.
    SettingsError
        For an unknown part or reference, no method, or two methods of one name.
    ArtifactError
        If a method scores with NaN or in another shape.
    """
    _check(catalogue, kind, parts, part)
    reference = _reference(methods, reference)
    if all(method.name != "random" for method in methods):
        methods = [random(len(parts), seed=settings.seed), *methods]
    judged_by = traits(catalogue, kind, train=parts == "train")
    degree = _degree(visible_edges(catalogue, kind, parts=parts, part=part))
    ties = make_ties(len(parts), seed=settings.seed)
    pools = pools_of(catalogue, kind, parts, part)
    protocols: list[Protocol] = []
    for place, (name, pool) in enumerate(pools.items()):
        judged: dict[str, Judged] = {}
        hubs = hub_queries_of(pool, settings)
        for turn, method in enumerate(methods):
            total = len(pools) * len(methods)
            progress("evaluate", place * len(methods) + turn, total, f"{name}: {method.name}")
            if method.sees_edges and name.startswith("cold"):
                continue
            judged[method.name] = judge(
                method,
                pool,
                traits=judged_by,
                ties=ties,
                k=settings.k,
                block=settings.block,
                hub_queries=hubs,
                seed=settings.seed,
            )
        edge_free = {m.name: judged[m.name] for m in methods if not m.sees_edges}
        about = _About(kind, part, pool, judged_by, len(hubs), reference, settings)
        if name.startswith("cold"):
            by_relations = _by_degree("{} relations", _degree(pool.truth)[pool.queries])
            protocols.append(_protocol(name, edge_free, by_relations, about))
        else:
            linked = name.replace("paper", "linked")
            by_degree = _by_degree("visible degree {}", degree[pool.queries])
            protocols.append(_protocol(name, edge_free, {}, about))
            protocols.append(_protocol(linked, judged, by_degree, about))
    progress("evaluate", 1, 1)
    return Report(
        kind=kind,
        part=part,
        k=settings.k,
        resamples=settings.resamples,
        seed=settings.seed,
        reference=reference,
        methods=tuple((method.name, method.note) for method in methods),
        fields=judged_by.fields,
        withheld=judged_by.withheld,
        popularity=judged_by.measure,
        protocols=tuple(protocols),
    )


def _check(catalogue: Catalogue, kind: Kind, parts: NDArray[np.str_], part: str) -> None:
    n = len(catalogue.items(kind))
    if part not in ASKING:
        raise SettingsError(f"no part {part!r} to evaluate; {nearest_known(part, ASKING)}")
    if len(parts) != n:
        raise DataError(f"{len(parts)} parts for {n} {kind}s; split this catalogue again")
    if (parts == part).sum() < 2:
        raise DataError(
            f"{(parts == part).sum()} {kind}s in the {part} split, too few to ask each other; "
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


def pools_of(
    catalogue: Catalogue, kind: Kind, parts: NDArray[np.str_], part: str
) -> dict[str, Pool]:
    """Who asks whom in each protocol; ``linked`` asks the same as ``paper``."""
    truth = known(catalogue, kind, parts != "test" if part == "validation" else None)
    queries, everything = np.flatnonzero(parts == part), np.arange(len(parts))
    pools = {
        "cold": Pool(queries, everything, everything, truth),
        "paper": Pool(queries, queries, everything, truth),
    }
    if kind == "track":
        artists = catalogue.tracks["artist"].fill_null(catalogue.tracks["id"])
        groups = np.unique(artists.to_numpy().astype(str), return_inverse=True)[1]
        pools["cold, other artists"] = Pool(queries, everything, groups, truth)
        pools["paper, other artists"] = Pool(queries, queries, groups, truth)
    return pools


def hub_queries_of(pool: Pool, settings: EvaluationSettings) -> NDArray[np.int64]:
    """Say who asks for hubness: every candidate once; of many, a fixed sample."""
    if len(pool.candidates) <= settings.hub_queries:
        return pool.candidates
    generator = np.random.default_rng([settings.seed, len(pool.candidates)])
    return np.sort(generator.choice(pool.candidates, settings.hub_queries, replace=False))


def _degree(relations: sparse.csr_matrix) -> NDArray[np.int64]:
    return np.asarray(np.diff(relations.indptr), dtype=np.int64)


def _by_degree(name: str, degree: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Cut queries by a number of relations, as masks (q,)."""
    slices = {}
    for low, high in DEGREES:
        label = f"{low}+" if high is None else f"{low}-{high}" if high > low else str(low)
        slices[name.format(label)] = (degree >= low) & (high is None or degree <= high)
    return slices


@dataclass(frozen=True)
class _About:
    """What every protocol of one pool has in common."""

    kind: Kind
    part: str
    pool: Pool
    traits: Traits
    hub_queries: int
    reference: str
    settings: EvaluationSettings


def _protocol(
    name: str,
    judged: Mapping[str, Judged],
    degrees: Mapping[str, NDArray[np.bool_]],
    about: _About,
) -> Protocol:
    tail = about.traits.long_tail[about.pool.queries]
    masks = {"all": np.ones(len(tail), dtype=bool), "long tail": tail, **degrees}
    answerable = ~np.isnan(next(iter(next(iter(judged.values())).accuracy.values())))
    base, _, variant = name.partition(", ")
    meaning = MEANINGS[base].format(part=about.part, kind=about.kind)
    return Protocol(
        name=name,
        meaning=f"{meaning} {OTHER_ARTISTS}" if variant else meaning,
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
