"""One training seed of one data set, its folder and jobs; and the rows of the tables that it makes.

OUT/SET/seed-N/made.json            what all below was made of; for anything else choose another OUT
OUT/SET/seed-N/run/                 CbRM, UiRM and GRM: an ordinary run
OUT/SET/seed-N/vectors/NAME.parquet the other embeddings: GRM without prior, each with ``_G``
OUT/SET/seed-N/answers/NAME.parquet what each model answered
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from undersong import embeddings, runs
from undersong.catalogue import fingerprint
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError
from undersong.evaluation.baselines.classical import visible_edges
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.evaluation.compare import MODELS, artists_of, embedding_of, sources_of
from undersong.evaluation.method import Method, from_embeddings
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction.datasets import DataSet, Questions, make_questions
from undersong.lab.reproduction.job_runner import Job
from undersong.models.content.network import ContentSettings
from undersong.models.content.training import Content, embed_content
from undersong.models.general.network import GeneralSettings
from undersong.models.general.training import embed, train_general
from undersong.models.graph.network import GraphSettings
from undersong.models.graph.training import embed_graph, random_vectors
from undersong.pipeline.learn import find_device
from undersong.pipeline.run_settings import Settings
from undersong.pipeline.train import train_run
from undersong.progress import Progress, silent
from undersong.relations import Task
from undersong.settings import as_recorded, first_difference
from undersong.training import Compute

FORMAT = 2  # since protocol ``found`` is asked, too


@dataclass(frozen=True)
class SeedRun:
    """One seed of one data set.

    Parameters
    ----------
    home : folder of all that is made
    catalogue_folder : of the catalogue, with a split in it
    task : its items whose relations are learned
    split : whose items ask, "validation" or "test"
    settings : of the run, with this seed
    graph : of the GNN backend
    network : of the network baseline
    """

    data_set: DataSet
    home: Path
    catalogue_folder: Path
    task: Task
    split: str
    settings: Settings
    graph: GraphSettings
    network: NetworkSettings

    @property
    def seed(self) -> int:
        """Seed of weights, batches and dropout."""
        return self.settings.run.seed

    @property
    def run(self) -> runs.Run:
        """The trained run; a set of relations alone has none."""
        return runs.read(self.home / "run")

    def vectors(self, name: str) -> Path:
        """Return the file of one embedding."""
        return self.home / "vectors" / f"{name}.parquet"

    def answers(self, name: str) -> Path:
        """Return the file of what one model answered."""
        return self.home / "answers" / f"{name}.parquet"

    def questions(self) -> Questions:
        """Return what every model of this data set is asked."""
        return make_questions(self.task, self.split)

    def job(
        self,
        name: str,
        seconds: float,
        path: Path,
        work: Callable[["SeedRun", Progress], None],
        *needs: str,
    ) -> Job:
        """Return a job of this seed that takes so many seconds for a thousand items."""
        title = f"{self.data_set.name}, seed {self.seed}: "
        cost = seconds * len(self.task.splits) / 1000
        return Job(
            f"{title}{name}", cost, path, partial(work, self), tuple(title + x for x in needs)
        )


def claim(seed_run: SeedRun) -> None:
    """Record what the folder is for; one of another catalogue or of other settings stays as it is.

    Raises
    ------
    ArtifactError
        If the folder was made of anything else. It may be days of work: nothing there is lost.
    """
    home, stamp = seed_run.home, seed_run.home / "made.json"
    about = {
        "format": FORMAT,
        "catalogue": fingerprint(seed_run.catalogue_folder),
        "settings": as_recorded(seed_run.settings),
        "graph": as_recorded(seed_run.graph),
        "network": as_recorded(seed_run.network),
        "part": seed_run.split,
    }
    if not stamp.exists():
        write_json(stamp, about)
        return
    expected = json.loads(json.dumps(about))
    remedy = f"choose another folder, or delete {home} to make it again"
    recorded = read_json(stamp, version=FORMAT, hint=remedy)
    if recorded.get("catalogue") != expected["catalogue"]:
        raise ArtifactError(f"{home} was made of another catalogue; {remedy}")
    if difference := first_difference(recorded, expected):
        raise ArtifactError(f"{home} was made with other settings: {difference}; {remedy}")


RANDOM, WITH_GRAPH, WITHOUT_PRIOR = "RdRM", "_G", "GRM without prior"
WITHOUT_LISTENING, ON_TAGS = "GRM without listening", "CbRM on tags"
RANDOM_WIDTH = 128


def train(seed_run: SeedRun, progress: Progress) -> None:
    """Train CbRM, UiRM and GRM, unless they are trained already."""
    folder, home = seed_run.catalogue_folder, seed_run.home / "run"
    train_run(folder, home, settings=seed_run.settings, progress=progress)


def embeddings_of(seed_run: SeedRun, name: str) -> Embeddings:
    """Return one embedding: of the run, a random one (RdRM), or one from its file."""
    kind, ids = seed_run.task.kind, seed_run.task.ids
    if name == RANDOM:
        return Embeddings(ids, random_vectors(len(ids), RANDOM_WIDTH, seed=seed_run.seed))
    if name in MODELS and seed_run.data_set.trained:
        return seed_run.run.embeddings(kind, embedding_of(seed_run.run, kind, name))
    return embeddings.read(seed_run.vectors(name))


def method_of(seed_run: SeedRun, name: str) -> Method:
    """Return the method that compares by the cosine of one embedding; with ``_G`` it sees edges."""
    vectors, sees_edges = embeddings_of(seed_run, name), name.endswith(WITH_GRAPH)
    return from_embeddings(name, vectors, seed_run.task.ids, sees_edges=sees_edges)


def make_graph(seed_run: SeedRun, progress: Progress = silent, *, name: str) -> None:
    """Feed one embedding to the GNN backend and write what comes out (section 3.2).

    It learns from relations between training items; items of ``split`` are embedded with their
    relations to training items visible. Validation items decide when to stop.
    """
    task = seed_run.task
    target = seed_run.vectors(f"{name}{WITH_GRAPH}")
    vectors, _ = embeddings_of(seed_run, name).align(task.ids)
    queries, truth = task.held_out
    embedded, _ = embed_graph(
        vectors,
        training=task.related("train"),
        visible=visible_edges(task, seed_run.split),
        queries=queries,
        truth=truth,
        settings=seed_run.graph,
        compute=_compute(seed_run, "work", progress),
        name=target.stem,
    )
    Embeddings(task.ids, embedded).write(target)


def make_without_prior(seed_run: SeedRun, progress: Progress) -> None:
    """Train GRM with the prior taken out of its loss: lambda 0 in equation 5."""
    general = seed_run.settings.general
    settings = replace(general, loss=replace(general.loss, prior_weight=0.0))
    make_general(seed_run, WITHOUT_PRIOR, settings=settings, progress=progress)


def tagged(seed_run: SeedRun) -> bool:
    """Whether CbRM can learn from tags on feature vectors; audio would take too long once more."""
    catalogue = seed_run.task.catalogue
    words = any(x.type != "number" and not x.withheld for x in catalogue.fields)
    return seed_run.data_set.trained and words and bool(catalogue.features)


def make_on_tags(seed_run: SeedRun, progress: Progress) -> None:
    """Train CbRM with R_C by tags, the paper's baseline of table 2 after [11]."""
    settings = replace(seed_run.settings.content, supervision="tags")
    content = learn_content(seed_run, settings=settings, progress=progress)
    vectors_of(content, seed_run).write(seed_run.vectors(ON_TAGS))


def learn_content(seed_run: SeedRun, *, settings: ContentSettings, progress: Progress) -> Content:
    """Train CbRM again with other settings.

    Raises
    ------
    DataError
        If the catalogue has neither features nor audio files.
    """
    compute = _compute(seed_run, "work/content", progress)
    task = artists_of(seed_run.run, seed_run.task)
    content = embed_content(task, settings=settings, compute=compute)
    shutil.rmtree(compute.work)
    if content is None:
        raise DataError(f"set {seed_run.data_set.name} has no features or audio for CbRM")
    return content


def vectors_of(content: Content, seed_run: SeedRun) -> Embeddings:
    """Return E_C of the items whose relations are learned."""
    return content.artists if seed_run.task.kind == "artist" else content.tracks


def make_general(
    seed_run: SeedRun,
    name: str,
    *,
    settings: GeneralSettings,
    without: Sequence[str] = (),
    progress: Progress = silent,
) -> None:
    """Train GRM with other settings, or without some sources, on the E_C and E_U of the run."""
    task = seed_run.task
    readable = sources_of(seed_run.run, task.catalogue, task.kind)
    sources = [x for x in readable if x.name not in without]
    compute = _compute(seed_run, f"work/{name}", progress)
    model, _ = train_general(task, sources, settings=settings, compute=compute)
    vectors = embed(model, sources, device=compute.device)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(compress(task.ids, known))
    Embeddings(ids, vectors[known]).write(seed_run.vectors(name))
    shutil.rmtree(compute.work)


def _compute(seed_run: SeedRun, folder: str, progress: Progress) -> Compute:
    device, work = find_device(seed_run.settings.run.device), seed_run.home / folder
    work.mkdir(parents=True, exist_ok=True)
    return Compute(seed_run.seed, device, work, progress)
