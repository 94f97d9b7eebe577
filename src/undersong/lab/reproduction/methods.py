"""The models of tables 1 and 2, one training seed of one data set at a time, each made once.

OUT/SET/seed-N/made.json            what all below was made of; for anything else give another OUT
OUT/SET/seed-N/run/                 CbRM, UiRM and GRM: an ordinary run
OUT/SET/seed-N/vectors/NAME.parquet the other embeddings: GRM without prior, each with ``_G``
OUT/SET/seed-N/answers/NAME.parquet what each answered
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undersong import embeddings as embeddings_file
from undersong import relations
from undersong.catalogue import Catalogue, Kind, fingerprint
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.evaluation.baselines.graph import visible_edges
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.evaluation.compare import MODELS, embedding_of, sources_of
from undersong.evaluation.method import Method, from_embeddings
from undersong.features import Modality
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction.datasets import kind_of
from undersong.models.general import training
from undersong.models.general.network import GeneralSettings
from undersong.models.graph.network import GraphSettings
from undersong.models.graph.training import embed_graph, random_vectors
from undersong.pipeline.learn import find_device
from undersong.pipeline.run_settings import Settings
from undersong.pipeline.train import train_run
from undersong.progress import Progress, silent
from undersong.runs import Run
from undersong.settings import first_difference
from undersong.training import Compute

FORMAT = 1
RANDOM, WITH_GRAPH, WITHOUT_PRIOR = "RdRM", "_G", "GRM without prior"
RANDOM_WIDTH = 128


@dataclass(frozen=True)
class Place:
    """One seed of one data set.

    Parameters
    ----------
    home : folder of all that is made
    catalogue_folder, catalogue : with a split in it
    parts : (n,) "train", "validation" or "test"
    part : whose items ask
    settings : of the run, with this seed
    graph : of the GNN backend
    network : of the network baseline
    """

    home: Path
    catalogue_folder: Path
    catalogue: Catalogue
    parts: NDArray[np.str_]
    part: str
    settings: Settings
    graph: GraphSettings
    network: NetworkSettings

    @property
    def kind(self) -> Kind:
        """Whose relations are learned."""
        return kind_of(self.settings)

    @property
    def seed(self) -> int:
        """Seed of weights, batches and dropout."""
        return self.settings.run.seed

    def vectors(self, name: str) -> Path:
        """File of one embedding."""
        return self.home / "vectors" / f"{name}.parquet"

    def answers(self, name: str) -> Path:
        """File of what one model answered."""
        return self.home / "answers" / f"{name}.parquet"


def settle(place: Place) -> None:
    """Say what the folder is for; one of another catalogue or of other settings stays as it is.

    Raises
    ------
    ArtifactError
        If the folder was made of anything else. It may be days of work: nothing there is lost.
    """
    about = {
        "format": FORMAT,
        "catalogue": fingerprint(place.catalogue_folder),
        "settings": asdict(place.settings),
        "graph": asdict(place.graph),
        "network": asdict(place.network),
        "part": place.part,
    }
    wanted = json.loads(json.dumps(about))
    stamp = place.home / "made.json"
    if not stamp.exists():
        write_json(stamp, about)
        return
    remedy = f"give another folder, or delete {place.home} to make it again"
    found = read_json(stamp, version=FORMAT, hint=remedy)
    if found.get("catalogue") != wanted["catalogue"]:
        raise ArtifactError(f"{place.home} was made of another catalogue; {remedy}")
    if differs := first_difference(found, wanted):
        raise ArtifactError(f"{place.home} was made with other settings: {differs}; {remedy}")


def train(place: Place, *, progress: Progress = silent) -> Run:
    """Train CbRM, UiRM and GRM, or open what was trained already."""
    run, _ = train_run(
        place.catalogue_folder, place.home / "run", settings=place.settings, progress=progress
    )
    return run


def embeddings_of(place: Place, name: str, run: Run | None) -> Embeddings:
    """Give one embedding: of the run, a random one (RdRM), or one from its file."""
    ids = place.catalogue.ids(place.kind)
    if name == RANDOM:
        return Embeddings(ids, random_vectors(len(ids), RANDOM_WIDTH, seed=place.seed))
    if name in MODELS and run is not None:
        return run.embeddings(place.kind, embedding_of(run, place.kind, name))
    return embeddings_file.read(place.vectors(name))


def method_of(place: Place, name: str, run: Run | None) -> Method:
    """Find neighbours by the cosine of one embedding; with ``_G`` it has seen edges."""
    found = embeddings_of(place, name, run)
    sees = name.endswith(WITH_GRAPH)
    return from_embeddings(name, found, place.catalogue.ids(place.kind), sees_edges=sees)


def make_graph(place: Place, name: str, run: Run | None, *, progress: Progress = silent) -> None:
    """Feed one embedding to the GNN backend and write what comes out (section 3.2).

    It learns from relations between training items; items of ``part`` are embedded with their
    relations to training items visible. Validation items decide when to stop.
    """
    catalogue, kind, parts = place.catalogue, place.kind, place.parts
    target = place.vectors(f"{name}{WITH_GRAPH}")
    ids = catalogue.ids(kind)
    vectors, _ = embeddings_of(place, name, run).align(ids)
    queries, truth = relations.held_out(catalogue, kind, parts)
    work = place.home / "work"
    work.mkdir(parents=True, exist_ok=True)
    found, _ = embed_graph(
        vectors,
        training=relations.known(catalogue, kind, parts == "train"),
        visible=visible_edges(catalogue, kind, parts=parts, part=place.part),
        queries=queries,
        truth=truth,
        settings=place.graph,
        compute=Compute(place.seed, find_device(place.settings.run.device), work, progress),
        name=target.stem,
    )
    Embeddings(ids, found).write(target)


def make_general(
    place: Place,
    name: str,
    run: Run,
    *,
    settings: GeneralSettings,
    without: Sequence[str] = (),
    progress: Progress = silent,
) -> None:
    """Train GRM with other settings, or without some sources, on the E_C and E_U of the run."""
    catalogue, kind = place.catalogue, place.kind
    sources = _kept(sources_of(run, catalogue, kind), without)
    device = find_device(place.settings.run.device)
    work = place.home / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    model, _ = training.train_general(
        catalogue,
        kind,
        place.parts,
        sources,
        settings=settings,
        seed=place.seed,
        device=device,
        work=work,
        progress=progress,
    )
    vectors = training.embed(model, sources, device=device)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(x for x, kept in zip(catalogue.ids(kind), known, strict=True) if kept)
    Embeddings(ids, vectors[known]).write(place.vectors(name))
    shutil.rmtree(work)


def without_prior(settings: GeneralSettings) -> GeneralSettings:
    """Take the prior out of the loss: lambda 0 in equation 5."""
    return replace(settings, loss=replace(settings.loss, prior_weight=0.0))


def _kept(sources: Sequence[Modality], without: Sequence[str]) -> tuple[Modality, ...]:
    return tuple(x for x in sources if x.name not in without)
