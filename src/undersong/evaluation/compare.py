"""A trained run beside what it has to beat: random, the baselines, the paper's simpler models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undersong.catalogue import (
    Catalogue,
    Kind,
    SplitSettings,
    fingerprint,
    read_catalogue,
    split as split_items,
)
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError
from undersong.evaluation.baselines.classical import (
    adamic_adar,
    als,
    co_listening,
    common_neighbours,
    concatenation,
    item_popularity,
    latent_tags,
    personalised_pagerank,
    popularity,
    random,
    tags,
    user_based,
    visible_edges,
)
from undersong.evaluation.baselines.network import NetworkSettings, gravity, mlp
from undersong.evaluation.directed import judge_directed, read_directed
from undersong.evaluation.method import Method, Scorer, from_embeddings, from_vectors
from undersong.evaluation.protocols import EvaluationSettings, evaluate
from undersong.evaluation.results import RANKED, Evaluation
from undersong.evaluation.same_artist import judge_same_artist
from undersong.evaluation.scoring import traits
from undersong.evaluation.truth import judge_truth, read_truth
from undersong.features import KNOWN_OF_EACH, Modality, read_sources
from undersong.foldin.added import read_encoders
from undersong.models.graph.training import embed_by, load_graph
from undersong.progress import Progress, silent
from undersong.ranking import ranker as ranker_file
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import Ranker, scorer
from undersong.relations import Task, listeners
from undersong.runs import Run

DIALS = {  # settings of long_tail that are judged besides 0
    -1.0: "unlinked answers last, as on most lists",
    0.5: "known links count half",
    1.0: "known links are ignored",
}
MODELS = {"GRM": "judged", "CbRM": "content", "UiRM": "interaction"}
NOTES = {
    "GRM": "E_G, cosine alone",
    "CbRM": "E_C, audio or features alone",
    "UiRM": "E_U, listening alone",
    "GRM_G": "X_G: E_G after the graph network",
}

GRAPH = "weights/graph.judged.safetensors"
UNTRAINED = "as it begins, its sources side by side: no relation between {kind}s is known"
UNLEARNED = "sound or features alone, as they are: nothing was learned"


def compare(
    run: Run,
    *,
    split: str,
    catalogue_folder: Path | None = None,
    embeddings: Mapping[str, Embeddings] | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress = silent,
) -> Evaluation:
    """Judge a run's embeddings and every baseline that its catalogue allows.

    Parameters
    ----------
    split : "test" or "validation"
    catalogue_folder : by default the catalogue that the run was trained on, where it was then
    embeddings : name -> vectors of the reader's own, judged by their cosine

    Raises
    ------
    ArtifactError
        If the catalogue is not the one that the run was trained on.
    DataError
        If embeddings have the name of another method.
    """
    folder = catalogue_folder or Path(run.manifest["catalogue_folder"])
    task = task_of(run, catalogue_folder)
    pointing = read_directed(folder, task.ids) if task.kind == "artist" else None
    beside = baselines(task, run, split=split, pointing=pointing, progress=progress)
    methods = [
        random(len(task.splits), seed=settings.seed),
        *learned(task, run, split=split),
        *(make() for make in beside.values()),
    ]
    names = {x.name for x in methods}
    for name, vectors in (embeddings or {}).items():
        if name in names:
            raise DataError(f"embeddings {name!r} have the name of another method; rename them")
        methods.append(from_embeddings(name, vectors, task.ids, note="your embeddings"))
    evaluation = evaluate(
        task,
        methods=methods,
        split=split,
        reference="GRM" if run.manifest["training"].get("general") else "E_G",
        settings=settings,
        progress=progress,
    )
    same = judge_same_artist(
        run,
        artists_of(run, task),
        split=split,
        k=settings.k,
        resamples=settings.resamples,
        seed=settings.seed,
        progress=progress,
    )
    if same is not None:
        evaluation = replace(
            evaluation,
            protocols=(*evaluation.protocols, same[0]),
            methods=(*evaluation.methods, *same[1]),
        )
    if pointing is not None:
        directed = judge_directed(
            methods,
            pointing,
            kind=task.kind,
            splits=task.splits,
            split=split,
            reference=evaluation.reference,
            settings=settings,
        )
        evaluation = replace(evaluation, protocols=(*evaluation.protocols, directed))
    return replace(evaluation, content=run.trained["content"])


def artists_of(run: Run, task: Task) -> Task:
    """Return the artists of a task, split as CbRM had them."""
    if task.kind == "artist":
        return task
    chosen = run.manifest["settings"]
    parts = SplitSettings(**chosen["split"])
    seed = int(chosen["run"]["seed"])
    return Task(task.catalogue, "artist", split_items(task.catalogue, "artist", parts, seed=seed))


def task_of(run: Run, folder: Path | None) -> Task:
    """Read the items that a run was trained on, and their splits; refuse another catalogue."""
    folder = folder or Path(run.manifest["catalogue_folder"])
    if fingerprint(folder) != run.manifest["catalogue"]:
        raise ArtifactError(
            f"{folder} is not the catalogue that {run.folder} was trained on, or has changed "
            "since; train again, or give the right one with --catalogue"
        )
    kind = cast(Kind, run.manifest["kind"])
    splits = run.trained_items(kind)["part"].to_numpy().astype("<U10")
    return Task(read_catalogue(folder), kind, splits)


def compare_truth(
    run: Run,
    *,
    truth: Path,
    catalogue_folder: Path | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress = silent,
) -> tuple[Evaluation, str]:
    """Judge the answers of a run, and of every baseline, by relations that it never saw.

    Parameters
    ----------
    truth : CSV file with the columns a and b, ids of two similar items each

    Returns
    -------
    the report, and a line that says which pairs of the file were left out

    Raises
    ------
    ArtifactError
        If the catalogue is not the one that the run was trained on.
    DataError
        If the file has nothing to judge by.
    """
    task = task_of(run, catalogue_folder)
    visible = task.related()
    pairs = read_truth(truth, task.ids, visible)
    methods = [
        random(len(task.splits), seed=settings.seed),
        *answering(task, run),
        *(make() for make in baselines(task, run, split="test", progress=progress).values()),
    ]
    methods = [method for method in methods if not method.sees_edges]
    judged_by = traits(task)
    report = Evaluation(
        kind=task.kind,
        part="unlinked",
        k=settings.k,
        resamples=settings.resamples,
        seed=settings.seed,
        reference="GRM",
        methods=tuple((method.name, method.note) for method in methods),
        fields=judged_by.fields,
        withheld=judged_by.withheld,
        popularity=judged_by.measure,
        protocols=judge_truth(
            methods,
            pairs.relations,
            visible,
            kind=task.kind,
            traits=judged_by,
            reference="GRM",
            settings=settings,
            progress=progress,
        ),
        content=run.trained["content"],
    )
    return report, pairs.note


def answering(task: Task, run: Run) -> list[Method]:
    """Return how a run answers: in its default order and by the cosine of the E_G that answers."""
    vectors = run.embeddings(task.kind, "general")
    names = {"GRM": "general", "GRM_G": "graph"}
    cosine = [
        from_embeddings(name, run.embeddings(task.kind, of), task.ids, note=NOTES[name])
        for name, of in names.items()
        if run.has_embeddings(task.kind, of)
    ]
    if not run.has("weights/ranking.safetensors"):
        return cosine
    sources = sources_of(run, task.catalogue, task.kind)
    evidence = RankingContext(vectors.align(task.ids)[0], sources, task.related())
    ranker = ranker_file.read(run.file("weights/ranking.safetensors"))
    return [_ranked(RANKED, ranker, evidence, note="the default answers"), *cosine]


def learned(task: Task, run: Run, *, split: str) -> list[Method]:
    """What a run learned, the best first: its answers, GRM, and the simpler models that feed it."""
    kind, ids = task.kind, task.ids
    trained = run.manifest["training"].get("general")
    plain = {} if trained else {"GRM": ("E_G", UNTRAINED.format(kind=kind))}
    hearing = run.manifest.get("hearing", {})
    if hearing and not any(x["learned"] for x in hearing.values()):
        plain["CbRM"] = ("E_C", UNLEARNED)
    rows = {model: plain.get(model, (model, NOTES[model])) for model in MODELS}
    models = [
        from_embeddings(rows[model][0], run.embeddings(kind, name), ids, note=rows[model][1])
        for model in MODELS
        if run.has_embeddings(kind, name := embedding_of(run, kind, model))
    ]
    models += _behind_graph(task, run, split=split)
    if not run.has("weights/ranking.safetensors"):
        return models
    visible = visible_edges(task, split)
    judged = RankingContext(
        vectors=run.embeddings(kind, embedding_of(run, kind, "GRM")).align(ids)[0],
        sources=sources_of(run, task.catalogue, kind),
        relations=task.related("train"),
        linkable=visible.getnnz(axis=1) > 0,
    )
    shown = judged.seeing(visible)
    ranker = ranker_file.read(run.file("weights/ranking.safetensors"))
    dialled = [
        _ranked(
            f"{RANKED}, long tail {dial:g}",
            ranker,
            judged,
            note=note,
            long_tail=dial,
        )
        for dial, note in DIALS.items()
    ]
    return [
        _ranked(RANKED, ranker, judged, note="the default answers: a learned order"),
        *dialled,
        *models,
        _ranked(
            f"{RANKED}, with edges",
            ranker,
            shown,
            note="the same, seeing the query's links",
            sees_edges=True,
        ),
    ]


def _behind_graph(task: Task, run: Run, *, split: str) -> list[Method]:
    """GRM after the graph network, if the run has one: without the relations of who asks, and with.

    A relation between two items that are not for training is never read.
    """
    if not run.has(GRAPH):
        return []
    network = load_graph(run.file(GRAPH))
    vectors = run.embeddings(task.kind, "judged").align(task.ids)[0]
    rows = {
        "GRM_G": (task.related("train"), False, NOTES["GRM_G"]),
        "GRM_G, with edges": (visible_edges(task, split), True, "the same, seeing these links"),
    }
    methods = []
    for name, (edges, sees_edges, note) in rows.items():
        embedded = embed_by(network, vectors, edges)
        missing = np.asarray(~embedded.any(axis=1))
        methods.append(
            from_vectors(name, embedded, missing=missing, sees_edges=sees_edges, note=note)
        )
    return methods


def embedding_of(run: Run, kind: Kind, model: str) -> str:
    """Name the embedding that may be judged: GRM's must not have seen what it is asked for.

    Runs of older versions hold no other E_G than that.
    """
    name = MODELS[model]
    return name if name != "judged" or run.has_embeddings(kind, name) else "general"


def _ranked(
    name: str,
    ranker: Ranker,
    evidence: RankingContext,
    *,
    note: str,
    sees_edges: bool = False,
    long_tail: float = 0.0,
) -> Method:
    def among(pool: NDArray[np.int64]) -> Scorer:
        return scorer(ranker, evidence, pool=pool, long_tail=long_tail)

    everything = np.arange(len(evidence.vectors))
    return Method(
        name,
        among(everything),
        sees_edges=sees_edges,
        note=note,
        among=among,
        turn=lambda rows: evidence.cells.in_turn(rows),
    )


def baselines(
    task: Task,
    run: Run,
    *,
    split: str,
    network: NetworkSettings = NetworkSettings(),
    pointing: sparse.csr_matrix | None = None,
    progress: Progress = silent,
) -> dict[str, Callable[[], Method]]:
    """Name what makes each baseline for which the catalogue has the data.

    Those that learn do so from the very sources, relations and validation items that GRM had.
    Where it is known who is ``pointing`` to whom, (n, n), gravity learns from that.
    """
    catalogue, kind = task.catalogue, task.kind
    sources = sources_of(run, catalogue, kind)
    linked = len(catalogue.pairs(kind)) > 0
    edges = visible_edges(task, split)
    seed = int(run.manifest["settings"]["run"]["seed"])
    plays = listeners(catalogue, kind)
    words = any(x.type != "number" and not x.withheld for x in catalogue.fields_of(kind))

    def trained(learn: Callable[..., Method], related: sparse.csr_matrix) -> Method:
        queries, truth = task.held_out
        about = {"queries": queries, "truth": truth, "settings": network}
        return learn(sources, related, **about, seed=seed, progress=progress)

    def attracted() -> Method:
        train = sparse.diags(task.within("train").astype(float))
        related = task.related("train") if pointing is None else (train @ pointing @ train) > 0
        return trained(gravity, related.tocsr())

    made: dict[str, tuple[bool, Callable[[], Method]]] = {
        "popularity": (bool((item_popularity(task)[0] > 0).any()), lambda: popularity(task)),
        "tag kNN": (words, lambda: tags(catalogue, kind)),
        "LSI of tags": (words, lambda: latent_tags(catalogue, kind)),
        "co-listening": (plays.nnz > 0, lambda: co_listening(catalogue, kind)),
        "user-based CF": (plays.nnz > 0, lambda: user_based(catalogue, kind)),
        "ALS": (min(plays.shape) > 2, lambda: als(catalogue, kind, seed=seed)),
        "all sources": (True, lambda: concatenation(sources)),
        "MLP": (linked, lambda: trained(mlp, task.related("train"))),
        "gravity": (linked, attracted),
        "PageRank": (linked, lambda: personalised_pagerank(edges)),
        "Adamic-Adar": (linked, lambda: adamic_adar(edges)),
        "common neighbours": (linked, lambda: common_neighbours(edges)),
    }
    return {name: make for name, (possible, make) in made.items() if possible}


def sources_of(run: Run, catalogue: Catalogue, kind: Kind) -> tuple[Modality, ...]:
    """Read what the GRM of a run reads of its items."""
    embeddings: dict[tuple[Kind, str], Embeddings] = {
        (kind, name): run.embeddings(kind, name)
        for name in KNOWN_OF_EACH
        if run.has_embeddings(kind, name)
    }
    return read_sources(catalogue, kind, read_encoders(run), embeddings)
