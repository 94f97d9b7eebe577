"""The models of tables 1 and 2, each trained once for a seed and compared by its embedding."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import numpy as np

from undersong import embeddings, relations
from undersong.embeddings import Embeddings
from undersong.evaluation.baselines.graph import visible_edges
from undersong.evaluation.compare import MODELS, embedding_of, sources_of
from undersong.evaluation.method import Method, from_embeddings
from undersong.lab.reproduction.seed_run import SeedRun
from undersong.models.general import training
from undersong.models.general.network import GeneralSettings
from undersong.models.graph.training import embed_graph, random_vectors
from undersong.pipeline.learn import find_device
from undersong.pipeline.train import train_run
from undersong.progress import Progress, silent
from undersong.training import Compute

RANDOM, WITH_GRAPH, WITHOUT_PRIOR = "RdRM", "_G", "GRM without prior"
RANDOM_WIDTH = 128


def train(seed_run: SeedRun, progress: Progress) -> None:
    """Train CbRM, UiRM and GRM, unless they are trained already."""
    folder, home = seed_run.catalogue_folder, seed_run.home / "run"
    train_run(folder, home, settings=seed_run.settings, progress=progress)


def embeddings_of(seed_run: SeedRun, name: str) -> Embeddings:
    """Return one embedding: of the run, a random one (RdRM), or one from its file."""
    kind, ids = seed_run.kind, seed_run.catalogue.ids(seed_run.kind)
    if name == RANDOM:
        return Embeddings(ids, random_vectors(len(ids), RANDOM_WIDTH, seed=seed_run.seed))
    if name in MODELS and seed_run.data_set.trained:
        return seed_run.run.embeddings(kind, embedding_of(seed_run.run, kind, name))
    return embeddings.read(seed_run.vectors(name))


def method_of(seed_run: SeedRun, name: str) -> Method:
    """Return the method that compares by the cosine of one embedding; with ``_G`` it sees edges."""
    ids, sees_edges = seed_run.catalogue.ids(seed_run.kind), name.endswith(WITH_GRAPH)
    return from_embeddings(name, embeddings_of(seed_run, name), ids, sees_edges=sees_edges)


def make_graph(seed_run: SeedRun, progress: Progress = silent, *, name: str) -> None:
    """Feed one embedding to the GNN backend and write what comes out (section 3.2).

    It learns from relations between training items; items of ``part`` are embedded with their
    relations to training items visible. Validation items decide when to stop.
    """
    catalogue, kind, parts = seed_run.catalogue, seed_run.kind, seed_run.parts
    target = seed_run.vectors(f"{name}{WITH_GRAPH}")
    ids = catalogue.ids(kind)
    vectors, _ = embeddings_of(seed_run, name).align(ids)
    queries, truth = relations.held_out(catalogue, kind, parts)
    work = seed_run.home / "work"
    work.mkdir(parents=True, exist_ok=True)
    embedded, _ = embed_graph(
        vectors,
        training=relations.known(catalogue, kind, parts == "train"),
        visible=visible_edges(catalogue, kind, parts=parts, part=seed_run.part),
        queries=queries,
        truth=truth,
        settings=seed_run.graph,
        compute=Compute(seed_run.seed, find_device(seed_run.settings.run.device), work, progress),
        name=target.stem,
    )
    Embeddings(ids, embedded).write(target)


def make_without_prior(seed_run: SeedRun, progress: Progress) -> None:
    """Train GRM with the prior taken out of its loss: lambda 0 in equation 5."""
    general = seed_run.settings.general
    settings = replace(general, loss=replace(general.loss, prior_weight=0.0))
    make_general(seed_run, WITHOUT_PRIOR, settings=settings, progress=progress)


def make_general(
    seed_run: SeedRun,
    name: str,
    *,
    settings: GeneralSettings,
    without: Sequence[str] = (),
    progress: Progress = silent,
) -> None:
    """Train GRM with other settings, or without some sources, on the E_C and E_U of the run."""
    catalogue, kind = seed_run.catalogue, seed_run.kind
    sources = [x for x in sources_of(seed_run.run, catalogue, kind) if x.name not in without]
    device = find_device(seed_run.settings.run.device)
    work = seed_run.home / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    model, _ = training.train_general(
        catalogue,
        kind,
        seed_run.parts,
        sources,
        settings=settings,
        seed=seed_run.seed,
        device=device,
        work=work,
        progress=progress,
    )
    vectors = training.embed(model, sources, device=device)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(compress(catalogue.ids(kind), known))
    Embeddings(ids, vectors[known]).write(seed_run.vectors(name))
    shutil.rmtree(work)
