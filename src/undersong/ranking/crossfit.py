"""Rehearsal: known items play strangers, so that ranking learns what evidence is worth to them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import tail_odds
from undersong.errors import DataError
from undersong.features import AUDIO, CONTENT, Modality, weigh
from undersong.io.files import writing
from undersong.models.content.inputs import choose_sources
from undersong.models.content.network import ContentSettings
from undersong.models.content.training import embed_content
from undersong.models.general.network import GeneralSettings
from undersong.models.general.training import any_related, embed, train_general
from undersong.progress import Progress, silent, watched
from undersong.ranking.context import RankingContext
from undersong.ranking.network import RankingSettings
from undersong.ranking.ranker import Ranker, rerank
from undersong.ranking.training import (
    FEWEST,
    Fitted,
    RankingLists,
    draw_cold_items,
    join,
    known_askers,
    less,
    make_lists,
    partly_observed,
    train_ranking,
)
from undersong.relations import Task
from undersong.training import Compute

AGREEING = 0.7  # share of the cosine's agreement that an order needs for items without relations
ASKING = 1024  # such items that are asked
BLOCK = 64  # of those at a time: of a million items they take a second
DEEP = 10  # answers


def cross_fit(
    task: Task,
    *,
    sources: Sequence[Modality],
    judged: NDArray[np.float32],
    content_settings: ContentSettings,
    general_settings: GeneralSettings,
    settings: RankingSettings,
    compute: Compute,
) -> Fitted | None:
    """Learn the order of answers; None if nothing is to be learned or it is no better than cosine.

    It must not answer unlinked items with what agrees with them much less, either (``agreement``).

    Parameters
    ----------
    sources : what GRM reads of every item
    judged : (n, d) float32, E_G that saw no relation of validation items; zeros where missing

    Notes
    -----
    What speaks for the candidates lies in a file among the checkpoints, which has no name and goes
    with the process: of a million items it is 2 GB.
    """
    if settings.folds == 0 or not any_related(task):
        return None
    queries, truth = task.held_out
    if len(queries) < FEWEST:
        return None
    related = task.related("train")
    play = partial(
        _of_fold,
        sources=sources,
        content_settings=content_settings,
        general_settings=_shortened(general_settings),
        linkable=related.getnnz(axis=1) > 0,
    )
    has_link, train = related.getnnz(axis=1) > 0, task.within("train")
    log_odds = tail_odds(task.catalogue, task.kind, has_link=has_link, among=train)
    with writing(compute.work):
        compute.work.mkdir(parents=True, exist_ok=True)
    with writing(compute.work), TemporaryFile(dir=compute.work) as file:
        make = partial(make_lists, count=settings.candidates, progress=compute.progress, file=file)
        try:
            lists, judging = _rehearsed(
                play, task, make, log_odds=log_odds, settings=settings, compute=compute
            )
        except DataError:  # too few relations are left for a GRM: then there is no rehearsal
            return None
        if not lists:
            return None
        linkable = (related.getnnz(axis=1) > 0) | (truth.getnnz(axis=1) > 0)
        cold = RankingContext(judged, sources, related, linkable=linkable)
        cold = cold.looking_around(compute.progress)
        validation = task.within("validation")
        fitted = train_ranking(
            join(lists),
            _validating(make, cold, queries, truth, asks=validation, seed=compute.seed),
            judging,
            names=cold.names,
            on_relations=cold.on_relations,
            settings=settings,
            compute=compute,
        )
    if fitted is None:
        return None
    unlinked = np.flatnonzero(train & ~has_link & cold.embedded)
    asking = np.random.default_rng([compute.seed, 4]).permutation(unlinked)[:ASKING]
    order, cosine = agreement(
        fitted.ranker, cold, asking, codes=task.codes, progress=compute.progress
    )
    return fitted if order >= AGREEING * cosine else None


def agreement(
    ranker: Ranker,
    context: RankingContext,
    rows: NDArray[np.int64],
    *,
    codes: NDArray[np.int32],
    progress: Progress = silent,
) -> tuple[float, float]:
    """Return how far ten answers agree with the query in metadata, by the order and by the cosine.

    Both in [0, 1]: mean share of the fields that are equal, of those that both items have. Nobody
    says what unlinked items should be answered, and no list teaches how they compare with each
    other: where they are most of the catalogue, an order may answer them with anything. Their
    metadata shows that. 0 where nothing can be compared.
    """
    shares: tuple[list[float], list[float]] = ([], [])
    for start in watched(range(0, len(rows), BLOCK), progress, "agreement"):
        block = rows[start : start + BLOCK]
        by_order = rerank(ranker, context, block).candidates[:, :DEEP]
        by_cosine = context.cells.nearest(context.vectors, block, k=DEEP)
        for answers, some in zip((by_order, by_cosine), shares, strict=True):
            mine, theirs = codes[block][:, None, :], codes[answers]
            both = (mine >= 0) & (theirs >= 0) & (answers >= 0)[..., None]
            compared = both.sum(axis=(1, 2))
            equal = (both & (mine == theirs)).sum(axis=(1, 2))
            some += (equal[compared > 0] / compared[compared > 0]).tolist()
    order, cosine = (float(np.mean(x)) if x else 0.0 for x in shares)
    return order, cosine


def _rehearsed(
    play: Callable[..., RankingContext],
    task: Task,
    make: Callable[..., RankingLists],
    *,
    log_odds: NDArray[np.float64],
    settings: RankingSettings,
    compute: Compute,
) -> tuple[list[RankingLists], dict[str, RankingLists]]:
    """Let each group of training items play strangers once, and make the lists they get.

    The lists of the last group, which looks like the items that nobody has linked, judge what is
    learned from those of the others.
    """
    generator = np.random.default_rng([compute.seed, 2])
    related = task.related("train")
    linked = np.flatnonzero(related.getnnz(axis=1) > 0)
    lists: list[RankingLists] = []
    judging: dict[str, RankingLists] = {}
    groups = draw_cold_items(
        generator, linked, log_odds=log_odds, folds=settings.folds, share=settings.share
    )
    for fold, hidden in enumerate(groups):
        splits = task.splits.copy()
        splits[hidden] = "test"
        stage = f"GRM, rehearsal {fold + 1} of {len(groups)}"
        evidence = play(
            replace(task, splits=splits), compute=compute.inside(f"fold-{fold}"), stage=stage
        )
        if fold < settings.folds:
            lists += _of_strangers(make, generator, evidence, related, among=hidden)
        else:
            judging = _judging(make, evidence, related, hidden)
        del evidence  # before the next is made: of a million items it takes 2 GiB
    return lists, judging


def _validating(
    make: Callable[..., RankingLists],
    cold: RankingContext,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    *,
    asks: NDArray[np.bool_],
    seed: int,
) -> dict[str, RankingLists]:
    """Lists of validation items, which say when to stop.

    They ask everybody and each other, half known; and known items ask that should find them.
    """
    labelled = truth.getnnz(axis=1) > 0
    among, linked = between(truth, asks)
    make = partial(make, labelled=labelled)
    rows, visible, hidden = known_askers(np.random.default_rng([seed, 3]), cold.relations, truth)
    others = {
        "each other": make(cold, queries, among, among=asks),
        "linked": make(cold.seeing(linked), queries, among, among=asks),
        "known": make(cold.seeing(visible), rows, hidden),
    }
    enough = {name: x for name, x in others.items() if len(x.total) >= FEWEST}
    return {"cold": make(cold, queries, truth), **enough}


def _judging(
    make: Callable[..., RankingLists],
    evidence: RankingContext,
    related: sparse.csr_matrix,
    hidden: NDArray[np.int64],
) -> dict[str, RankingLists]:
    """Lists of items that look like the unlinked: they ask, and known items should find them."""
    strange = np.zeros(related.shape[0], dtype=bool)
    strange[hidden] = True
    labelled = related.getnnz(axis=1) > 0
    left = less(related, evidence.relations)
    known = np.flatnonzero(~strange & (left.getnnz(axis=1) > 0) & (evidence.degree > 0))
    make = partial(make, labelled=labelled)
    return {
        "tail-like, cold": make(evidence, hidden, related),
        "tail-like, found": make(evidence, known, left),
    }


def between(
    related: sparse.csr_matrix, some: NDArray[np.bool_]
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Relations between two of some items, and all others; both (n, n) bool."""
    cells = related.tocoo()
    both = some[cells.row] & some[cells.col]

    def of_pairs(chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
        pairs = (cells.data[chosen], (cells.row[chosen], cells.col[chosen]))
        return sparse.csr_matrix(pairs, shape=related.shape, dtype=bool)

    return of_pairs(both), of_pairs(~both)


def _of_strangers(
    make: Callable[..., RankingLists],
    generator: np.random.Generator,
    evidence: RankingContext,
    related: sparse.csr_matrix,
    *,
    among: NDArray[np.int64],
) -> list[RankingLists]:
    """Make the five kinds of lists that are answered later, of items that play strangers.

    Unknown or partly known, they ask everybody or each other: protocols ``cold`` and ``paper``, and
    what an item with a few relations asks, and ``linked``. And known items ask that should find
    them.
    """
    strange = np.zeros(related.shape[0], dtype=bool)
    strange[among] = True
    each_other, others = between(related, strange)
    shown, left = partly_observed(generator, evidence.relations, related)
    known, visible, hidden = known_askers(generator, evidence.relations, related)
    make = partial(make, labelled=related.getnnz(axis=1) > 0)
    return [  # who sees what goes before the next is made: of a million items each takes .8 GiB
        make(evidence, among, related),
        make(evidence, among, each_other, among=strange),
        make(evidence.seeing(shown), among, left),
        make(evidence.seeing(others), among, each_other, among=strange),
        make(evidence.seeing(visible), known, hidden),
    ]


def _of_fold(
    task: Task,
    *,
    sources: Sequence[Modality],
    content_settings: ContentSettings,
    general_settings: GeneralSettings,
    linkable: NDArray[np.bool_],
    compute: Compute,
    stage: str,
) -> RankingContext:
    """Embed all items by models that never saw the relations of those that play strangers.

    ``linkable``, (n,), are items of which relations are shown at some time.

    E_C of feature vectors is learned anew; with audio files, which take long, it is kept, and so
    it has seen relations of strangers, or in a run of tracks of their artists. E_U reads none.
    """
    if task.kind == "artist" and AUDIO not in choose_sources(task.catalogue, content_settings):
        heard = embed_content(task, settings=content_settings, compute=compute)
        if heard:
            anew = Modality(CONTENT, *heard.artists.align(task.ids))
            sources = weigh([anew if x.name == CONTENT else x for x in sources])
    model, _ = train_general(task, sources, settings=general_settings, compute=compute, stage=stage)
    vectors = embed(model, sources, device=compute.device, progress=compute.progress)
    vectors[np.all([x.missing for x in sources], axis=0)] = 0
    context = RankingContext(vectors, sources, task.related("train"), linkable=linkable)
    return context.looking_around(compute.progress)


def _shortened(settings: GeneralSettings) -> GeneralSettings:
    """Take a third of the steps: what evidence looks like does not need the last of quality."""
    training = settings.training
    return replace(settings, training=replace(training, steps=max(1, training.steps // 3)))
