"""Rehearsal: known items play strangers, so that ranking learns what evidence is worth to them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong import relations
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.features import CONTENT, Encoder, read_sources
from undersong.models.content.inputs import NONE, choose_input
from undersong.models.content.network import AUDIO, ContentSettings
from undersong.models.content.training import embed_content
from undersong.models.general import training as general
from undersong.models.general.network import GeneralSettings
from undersong.progress import Progress, silent
from undersong.ranking.context import RankingContext
from undersong.ranking.network import RankingSettings
from undersong.ranking.training import (
    FEWEST,
    Fitted,
    RankingLists,
    draw_cold_items,
    join,
    make_lists,
    partly_observed,
    train_ranking,
)
from undersong.training import Compute, Task

LARGEST = 200_000  # items whose order is learned: a query looks at all of them, 70 ms of so many


def cross_fit(
    catalogue: Catalogue,
    kind: Kind,
    parts: NDArray[np.str_],
    *,
    encoders: tuple[Encoder, ...],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    judged: NDArray[np.float32],
    content_settings: ContentSettings,
    general_settings: GeneralSettings,
    settings: RankingSettings,
    seed: int,
    device: str,
    work: Path,
    progress: Progress = silent,
) -> Fitted | None:
    """Learn the order of answers; None if nothing is to be learned or it is no better than cosine.

    Of more than ``LARGEST`` items none is learned: cosine finds answers in cells, without looking
    at all items.

    Parameters
    ----------
    judged : (n, d) float32, E_G that saw no relation of validation items; zeros where missing
    embeddings : E_C and E_U
    """
    if settings.folds == 0 or not general.any_related(catalogue, kind):
        return None
    if len(parts) > LARGEST:
        return None
    queries, truth = relations.held_out(catalogue, kind, parts)
    if len(queries) < FEWEST:
        return None
    related = relations.known(catalogue, kind, parts == "train")
    play = partial(
        _of_fold,
        catalogue,
        kind,
        encoders=encoders,
        embeddings=embeddings,
        content_settings=content_settings,
        general_settings=_shortened(general_settings),
        seed=seed,
        device=device,
        progress=progress,
    )
    try:
        lists = _rehearsed(play, parts, related, settings=settings, seed=seed, work=work)
    except DataError:  # too few relations are left for a GRM: then there is no rehearsal
        return None
    if not lists:
        return None
    cold = RankingContext(judged, read_sources(catalogue, kind, encoders, embeddings), related)
    asks = parts == "validation"
    return train_ranking(
        join(lists),
        _judging(cold, queries, truth, asks=asks, candidates=settings.candidates),
        names=cold.names,
        on_relations=cold.on_relations,
        settings=settings,
        seed=seed,
        device=device,
        checkpoint=work / "ranking.safetensors",
        progress=progress,
    )


def _rehearsed(
    play: Callable[..., RankingContext],
    parts: NDArray[np.str_],
    related: sparse.csr_matrix,
    *,
    settings: RankingSettings,
    seed: int,
    work: Path,
) -> list[RankingLists]:
    """Let every fold of the training items play strangers once, and make the lists they get."""
    generator = np.random.default_rng([seed, 2])
    train = np.flatnonzero(parts == "train")
    lists: list[RankingLists] = []
    groups = draw_cold_items(generator, train, folds=settings.folds, share=settings.share)
    for fold, hidden in enumerate(groups):
        among = parts.copy()
        among[hidden] = "test"
        stage = f"GRM, rehearsal {fold + 1} of {settings.folds}"
        evidence = play(among, work=work / f"fold-{fold}", stage=stage)
        lists += _of_strangers(
            generator, evidence, related, among=hidden, count=settings.candidates
        )
    return lists


def _judging(
    cold: RankingContext,
    queries: NDArray[np.int64],
    truth: sparse.csr_matrix,
    *,
    asks: NDArray[np.bool_],
    candidates: int,
) -> list[RankingLists]:
    """Lists of validation items, which say when to stop: all items, each other, half known."""
    among, linked = between(truth, asks)
    shown = cold.seeing(linked)
    everybody = make_lists(cold, queries, truth, count=candidates)
    others = [make_lists(x, queries, among, count=candidates, among=asks) for x in (cold, shown)]
    return [everybody, *(x for x in others if len(x.total) >= FEWEST)]


def between(
    related: sparse.csr_matrix, some: NDArray[np.bool_]
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Relations between two of some items, and all others; both (n, n) bool."""
    cells = related.tocoo()
    both = some[cells.row] & some[cells.col]

    def kept(chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
        pairs = (cells.data[chosen], (cells.row[chosen], cells.col[chosen]))
        return sparse.csr_matrix(pairs, shape=related.shape, dtype=bool)

    return kept(both), kept(~both)


def _of_strangers(
    generator: np.random.Generator,
    evidence: RankingContext,
    related: sparse.csr_matrix,
    *,
    among: NDArray[np.int64],
    count: int,
) -> list[RankingLists]:
    """Make the four kinds of lists that are answered later, of the items that play strangers.

    Unknown or partly known, they ask everybody or each other: protocols ``cold`` and ``paper``, and
    what an item with a few relations asks, and ``linked``.
    """
    strange = np.zeros(related.shape[0], dtype=bool)
    strange[among] = True
    each_other, others = between(related, strange)
    shown, left = partly_observed(generator, evidence.relations, related)
    some, linked = evidence.seeing(shown), evidence.seeing(others)
    return [
        make_lists(evidence, among, related, count=count),
        make_lists(evidence, among, each_other, count=count, among=strange),
        make_lists(some, among, left, count=count),
        make_lists(linked, among, each_other, count=count, among=strange),
    ]


def _of_fold(
    catalogue: Catalogue,
    kind: Kind,
    parts: NDArray[np.str_],
    *,
    encoders: tuple[Encoder, ...],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    content_settings: ContentSettings,
    general_settings: GeneralSettings,
    seed: int,
    device: str,
    work: Path,
    stage: str,
    progress: Progress,
) -> RankingContext:
    """Embed all items by models that never saw the relations of those that play strangers.

    E_C of feature vectors is learned anew; of audio files, which takes long, it is kept, and so
    it has seen relations of strangers, or in a run of tracks of their artists. E_U reads none.
    """
    known = dict(embeddings)
    audio = choose_input(catalogue, content_settings) in (AUDIO, NONE)
    if kind == "artist" and not audio:
        heard = embed_content(
            Task(catalogue, "artist", parts),
            settings=content_settings,
            compute=Compute(seed, device, work, progress),
        )
        if heard:
            known[("artist", CONTENT)] = heard.artists
    sources = read_sources(catalogue, kind, encoders, known)
    model, _ = general.train_general(
        catalogue,
        kind,
        parts,
        sources,
        settings=general_settings,
        seed=seed,
        device=device,
        work=work,
        stage=stage,
        progress=progress,
    )
    vectors = general.embed(model, sources, device=device)
    vectors[np.all([x.missing for x in sources], axis=0)] = 0
    return RankingContext(vectors, sources, relations.known(catalogue, kind, parts == "train"))


def _shortened(settings: GeneralSettings) -> GeneralSettings:
    """Take a third of the steps: what evidence looks like does not need the last of quality."""
    training = settings.training
    return replace(settings, training=replace(training, steps=max(1, training.steps // 3)))
