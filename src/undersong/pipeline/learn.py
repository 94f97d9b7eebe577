"""What is learned from a catalogue, in its order: content, interaction, general (figure 2)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import cast

import numpy as np
import torch

from undersong import features, relations
from undersong.catalogue import Catalogue, Kind, split
from undersong.embeddings import Embeddings
from undersong.errors import SettingsError
from undersong.features import CONTENT, INTERACTION, Encoder, Modality, read_sources
from undersong.metrics import cold_ndcg
from undersong.models.content import training
from undersong.models.general.network import GeneralModel
from undersong.models.general.training import check_related, embed, train_general
from undersong.models.graph.network import GraphModel
from undersong.models.graph.training import check_asked, embed_by, train_graph
from undersong.models.interaction import embed_interaction
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.ranking import training as ranking
from undersong.ranking.crossfit import cross_fit
from undersong.relations import Task
from undersong.training import Compute, History


@dataclass(frozen=True)
class LearnedSources:
    """What is learned before GRM and read by it: E_C and E_U, and the split they keep to."""

    task: Task
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    content: training.Content | None
    outcomes: Mapping[str, History]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Learned:
    """All that training leaves, before it is written."""

    task: Task
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    encoders: tuple[Encoder, ...]
    coverage: Mapping[str, float]
    sources: tuple[Modality, ...]
    model: GeneralModel
    ranking: ranking.Fitted | None
    content: training.Content | None
    graph: "LearnedGraph | None"
    outcomes: Mapping[str, History]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class LearnedGraph:
    """The graph network behind GRM: as it is judged, as it answers, and what training did.

    Parameters
    ----------
    judged : learned from relations between training items, on the E_G that is judged
    answering : on the E_G that answers; after a refit learned from all relations
    embeddings : X_G that answers
    outcome : how validation items found each other, and ``plain``, how they do by E_G alone
    """

    judged: GraphModel
    answering: GraphModel
    embeddings: Embeddings
    outcome: History
    plain: float


def learn(
    catalogue: Catalogue, settings: Settings, *, work: Path, progress: Progress = silent
) -> Learned:
    """Train CbRM, UiRM and GRM, learn to rank, refit, and embed every item.

    ``work`` keeps the checkpoints. The embedding "judged" is E_G as evaluation may see it, without
    any relation of validation and test items; "general" is the E_G that answers.
    """
    compute = Compute(settings.run.seed, find_device(settings.run.device), work, progress)
    known = learn_sources(catalogue, settings, compute)
    task = known.task
    clock = _StageClock(dict(known.seconds))
    progress("sources", 0, 1)
    encoders = features.fit(catalogue, task.kind, task.within("train"))
    sources = read_sources(catalogue, task.kind, encoders, known.embeddings)
    progress("sources", 1, 1)
    model, outcome = train_general(task, sources, settings=settings.general, compute=compute)
    judged = _embed_items(catalogue, task.kind, sources, model, compute=compute)
    clock.stop("general")
    ranked = cross_fit(
        task,
        sources=sources,
        judged=judged.align(catalogue.ids(task.kind))[0],
        content_settings=settings.content,
        general_settings=settings.general,
        settings=settings.ranking,
        compute=compute,
    )
    clock.stop("ranking")
    if settings.run.refit and outcome.steps:
        model, _ = train_general(
            replace(task, splits=np.full_like(task.splits, "train")),
            sources,
            settings=settings.general,
            compute=compute.inside("refit"),
            stage="GRM, refit",
        )
    answering = _general_embeddings(
        task, encoders, embeddings=known.embeddings, model=model, compute=compute
    )
    clock.stop("refit")
    graph = None
    if settings.graph.enabled:
        graph = _learn_graph(task, judged, answering[(task.kind, "general")], settings, compute)
        clock.stop("graph")
        answering[(task.kind, "graph")] = graph.embeddings
    outcomes = {**known.outcomes, "general": outcome}
    outcomes |= {"ranking": ranked.outcome} if ranked else {}
    outcomes |= {"graph": graph.outcome} if graph else {}
    return Learned(
        task=task,
        embeddings={**known.embeddings, (task.kind, "judged"): judged, **answering},
        encoders=encoders,
        coverage={x.name: 1 - float(x.missing.mean()) for x in sources},
        sources=sources,
        model=model,
        ranking=ranked,
        content=known.content,
        graph=graph,
        outcomes=outcomes,
        seconds=clock.seconds,
    )


class _StageClock:
    """Seconds that each stage took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.started = time.monotonic()

    def stop(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage], self.started = now - self.started, now


def learn_sources(catalogue: Catalogue, settings: Settings, compute: Compute) -> LearnedSources:
    """Split the items, and train what stands before GRM: CbRM and UiRM."""
    kind = cast(Kind, settings.run.kind)
    compute.progress("split", 0, 1)
    task = task_of(catalogue, kind, settings)
    check_related(task)  # before CbRM has spent its minutes
    compute.progress("split", 1, 1)
    relations.reliability(task, settings.general.reliability)
    if settings.graph.enabled:
        check_asked(task.related("train"), task.held_out)
    artists = task if kind == "artist" else task_of(catalogue, "artist", settings)
    clock = _StageClock({})
    heard = training.embed_content(artists, settings=settings.content, compute=compute)
    clock.stop(CONTENT)
    played = embed_interaction(task, settings=settings.interaction, compute=compute)
    clock.stop(INTERACTION)
    embeddings: dict[tuple[Kind, str], Embeddings] = {}
    if heard:
        embeddings |= {("artist", CONTENT): heard.artists, ("track", CONTENT): heard.tracks}
    if played:
        embeddings[(kind, INTERACTION)] = played.embeddings
    outcomes: dict[str, History] = {}
    if heard:
        several = len(heard.outcomes) > 1
        outcomes |= {
            f"{CONTENT}, {x}" if several else CONTENT: y for x, y in heard.outcomes.items()
        }
    if played:
        outcomes[INTERACTION] = played.outcome
    return LearnedSources(task, embeddings, heard, outcomes, clock.seconds)


def task_of(catalogue: Catalogue, kind: Kind, settings: Settings) -> Task:
    """Return the items of one kind, split as the settings say."""
    return Task(catalogue, kind, split(catalogue, kind, settings.split, seed=settings.run.seed))


def find_device(name: str) -> str:
    """Choose the device: what is asked for, or with "auto" a GPU if there is one.

    Raises
    ------
    SettingsError
        If PyTorch does not know the device or has none of it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {name!r} cannot be used ({reason}); try 'cpu'") from error
    return name


def _learn_graph(
    task: Task, judged: Embeddings, general: Embeddings, settings: Settings, compute: Compute
) -> LearnedGraph:
    """Train the graph network behind GRM, and again behind the E_G that answers (section 3.2)."""
    vectors, (queries, truth) = judged.align(task.ids)[0], task.held_out
    answers = truth[queries][:, queries].tocsr()
    plain = cold_ndcg(vectors[queries], np.arange(len(queries)), answers)
    model, outcome = train_graph(
        vectors,
        training=task.related("train"),
        asked=(queries, truth),
        settings=settings.graph,
        compute=compute,
    )
    vectors, answering = general.align(task.ids)[0], model
    if settings.run.refit:
        answering, _ = train_graph(
            vectors,
            training=task.related(),
            asked=None,
            settings=settings.graph,
            compute=compute.inside("refit"),
            stage="graph, refit",
        )
    embedded = embed_by(answering, vectors, task.related())
    known = np.asarray(embedded.any(axis=1))
    embeddings = Embeddings(tuple(compress(task.ids, known)), embedded[known])
    return LearnedGraph(model, answering, embeddings, outcome, plain)


def _general_embeddings(
    task: Task,
    encoders: tuple[Encoder, ...],
    *,
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    model: GeneralModel,
    compute: Compute,
) -> dict[tuple[Kind, str], Embeddings]:
    """E_G of every item about which anything is known; of an artist run also of its tracks."""
    catalogue = task.catalogue
    kinds: tuple[Kind, ...] = ("track",) if task.kind == "track" else ("artist", "track")
    general: dict[tuple[Kind, str], Embeddings] = {}
    for kind in kinds:
        if len(catalogue.items(kind)):
            sources = read_sources(catalogue, kind, encoders, embeddings)
            vectors = _embed_items(catalogue, kind, sources, model, compute=compute)
            general[(kind, "general")] = vectors
    return general


def _embed_items(
    catalogue: Catalogue,
    kind: Kind,
    sources: tuple[Modality, ...],
    model: GeneralModel,
    *,
    compute: Compute,
) -> Embeddings:
    """E_G of every item of which any source says something."""
    stage = f"E_G of {kind}s"
    vectors = embed(model, sources, device=compute.device, progress=compute.progress, stage=stage)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(x for x, is_known in zip(catalogue.ids(kind), known, strict=True) if is_known)
    return Embeddings(ids, vectors if known.all() else vectors[known])
