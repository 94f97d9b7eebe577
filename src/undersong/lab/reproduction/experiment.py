"""The whole of section 3 on data that can be had: train, ask, and gather what was answered.

Everything lies in one folder, in pieces that appear at once or not at all: killed at any moment
and begun again, it goes on with the piece that was cut short.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from undersong import runs
from undersong.catalogue import read_catalogue, split
from undersong.errors import ArtifactError, SettingsError
from undersong.evaluation.baselines.graph import (
    adamic_adar,
    common_neighbours,
    personalised_pagerank,
    visible_edges,
)
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.evaluation.baselines.untrained import random
from undersong.evaluation.compare import MODELS, baselines, learned
from undersong.evaluation.method import Method
from undersong.evaluation.scoring import Judged
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction import estimates
from undersong.lab.reproduction.datasets import DataSet, kind_of, prepare, settings_of
from undersong.lab.reproduction.methods import (
    WITH_GRAPH,
    WITHOUT_PRIOR,
    Place,
    make_general,
    make_graph,
    method_of,
    settle,
    train,
    without_prior,
)
from undersong.lab.reproduction.outcomes import Results
from undersong.lab.reproduction.plan import Piece, carry_out
from undersong.models.graph.network import GraphSettings
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.runs import Run

FORMAT = 1
SEEDS, QUICK_SEEDS = 5, 2
CHANCE = "random"
QUICK_NETWORK = NetworkSettings(
    hidden=256, anchors=400, schedule=replace(NetworkSettings().schedule, steps=50)
)
# Baselines that draw something: of the others one seed says all.
DRAWN = (CHANCE, "ALS", "MLP", "all sources")


@dataclass(frozen=True)
class Plan:
    """What to reproduce, and where.

    Parameters
    ----------
    out : folder of everything
    data, examples : folders of the data, and of the mappings and settings
    seeds : how many training seeds, from 0
    quick : far fewer steps, to see that it works; the numbers say little
    part : "validation" or "test", whose items ask
    processes : trainings side by side
    graph, network : of the GNN backend and of the network baseline
    """

    out: Path
    data: Path
    examples: Path
    seeds: int = SEEDS
    quick: bool = False
    part: str = "validation"
    processes: int = 1
    graph: GraphSettings = field(default=GraphSettings())
    network: NetworkSettings = field(default=NetworkSettings())

    def __post_init__(self) -> None:
        if min(self.seeds, self.processes) < 1:
            raise SettingsError(
                f"seeds {self.seeds} and processes {self.processes} must be 1 or more"
            )


def reproduce(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Results, ...]:
    """Make everything that is not there yet, and gather the answers of each set.

    Raises
    ------
    ArtifactError
        If the folder holds a reproduction of another kind: quick or not, or of another split.
    DataError
        If data is missing, or items of ``plan.part`` cannot be asked.
    """
    open_folder(plan, sets)
    whole = [(data_set, places(plan, data_set)) for data_set in sets]
    pieces = [
        piece for data_set, made in whole for place in made for piece in _pieces(data_set, place)
    ]
    carry_out(pieces, progress=progress, processes=plan.processes)
    return tuple(gather(plan, data_set, made) for data_set, made in whole)


def open_folder(plan: Plan, sets: Sequence[DataSet]) -> None:
    """Import the sets that are not there yet, after a look at what the folder is for."""
    _claim_folder(plan)
    for data_set in sets:
        settings = settings_of(data_set, plan.examples)
        folder = catalogue_folder(plan, data_set)
        prepare(data_set, folder, settings=settings, data=plan.data, examples=plan.examples)


def catalogue_folder(plan: Plan, data_set: DataSet) -> Path:
    """Where the catalogue of a set lies."""
    return plan.out / data_set.name / "catalogue"


def places(plan: Plan, data_set: DataSet) -> tuple[Place, ...]:
    """Open a prepared set once for every seed.

    Raises
    ------
    ArtifactError
        If a seed was made there of another catalogue or with other settings.
    """
    settings = settings_of(data_set, plan.examples)
    graph = plan.graph
    if plan.quick:
        settings, graph = quickened(settings), _short_graph(graph)
    folder = catalogue_folder(plan, data_set)
    catalogue, kind = read_catalogue(folder), kind_of(settings)
    parts = split(catalogue, kind, settings.split, seed=0)
    found = tuple(
        Place(
            home=plan.out / data_set.name / f"seed-{seed}",
            catalogue_folder=folder,
            catalogue=catalogue,
            parts=parts,
            part=plan.part,
            settings=_thrifty(settings, seed),
            graph=graph,
            network=QUICK_NETWORK if plan.quick else plan.network,
        )
        for seed in range(plan.seeds)
    )
    for place in found:
        settle(place)
    return found


def _thrifty(settings: Settings, seed: int) -> Settings:
    """Leave out what costs time and changes no number that is judged here.

    Nothing is refitted, and the learned order rehearses with two groups of strangers at most:
    no difference from four was found (docs/choices.md).
    """
    ranking = replace(settings.ranking, folds=min(2, settings.ranking.folds))
    run = replace(settings.run, seed=seed, refit=False)
    return replace(settings, run=run, ranking=ranking)


def quickened(settings: Settings) -> Settings:
    """Cut every training short, to a third of its steps at most."""
    content = replace(settings.content.training, steps=80, validate_every=40)
    interaction = replace(settings.interaction.training, steps=40)
    general = replace(settings.general.training, steps=30, validate_every=15)
    ranking = replace(settings.ranking.training, steps=200, validate_every=100)
    return replace(
        settings,
        content=replace(settings.content, training=content),
        interaction=replace(settings.interaction, training=interaction),
        general=replace(settings.general, anchors=400, tail=150, training=general),
        ranking=replace(settings.ranking, folds=1, training=ranking),
    )


def _short_graph(settings: GraphSettings) -> GraphSettings:
    return replace(settings, training=replace(settings.training, steps=30))


def _claim_folder(plan: Plan) -> None:
    """Keep quick and whole reproductions, and those of two splits, apart."""
    about = {"format": FORMAT, "quick": plan.quick, "part": plan.part}
    stamp = plan.out / "reproduction-made.json"
    if stamp.exists():
        found = read_json(stamp, version=FORMAT, hint="give another folder")
        if found != about:
            kind = "quick" if found.get("quick") else "whole"
            raise ArtifactError(
                f"{plan.out} holds a {kind} reproduction on {found.get('part')} items; give "
                "another folder, or the same --quick and --split"
            )
    write_json(stamp, about)


def _pieces(data_set: DataSet, place: Place) -> Iterator[Piece]:
    """Everything to be made of one seed of one set, in order."""
    seed = f"{data_set.name}, seed {place.seed}"
    work = len(place.parts) / 1000  # thousand items
    trained: tuple[str, ...] = ()
    made: list[str] = []
    if data_set.trained:
        trained = (f"{seed}: train",)
        current = place.home / "run" / "current.json"
        yield Piece(*trained, 14 * work, current.exists, partial(_train, place))
        made.append(f"{seed}: {WITHOUT_PRIOR}")
        yield Piece(
            made[-1],
            11 * work,
            place.vectors(WITHOUT_PRIOR).exists,
            partial(_make_without_prior, place),
            trained,
        )
    for name in data_set.models:
        made.append(f"{seed}: {name}{WITH_GRAPH}")
        yield Piece(
            made[-1],
            3 * work,
            place.vectors(f"{name}{WITH_GRAPH}").exists,
            partial(_make_graph, data_set, place, name),
            trained,
        )
    yield Piece(
        f"{seed}: answers",
        10 * work,
        (place.home / "answered.json").exists,
        partial(_answer, data_set, place),
        (*trained, *made),
    )


def _train(place: Place, progress: Progress) -> None:
    train(place, progress=progress)


def _make_without_prior(place: Place, progress: Progress) -> None:
    settings = without_prior(place.settings.general)
    make_general(place, WITHOUT_PRIOR, _run(place), settings=settings, progress=progress)


def _make_graph(data_set: DataSet, place: Place, name: str, progress: Progress) -> None:
    make_graph(place, name, _run_if(data_set, place), progress=progress)


def _answer(data_set: DataSet, place: Place, progress: Progress) -> None:
    """Ask every model and baseline of one seed; those already asked are left."""
    asked = estimates.questions(place.catalogue, place.kind, parts=place.parts, part=place.part)
    names: list[str] = []
    for method in _methods(data_set, place, progress):
        names.append(method.name)
        path = place.answers(method.name)
        progress("answers", len(names) - 1, len(names), method.name)
        if not path.exists():
            estimates.write(estimates.ask(method, asked), path, note=method.note)
    progress("answers", 1, 1)
    write_json(place.home / "answered.json", {"format": FORMAT, "models": names})


def _methods(data_set: DataSet, place: Place, progress: Progress) -> Iterator[Method]:
    """Every method of one seed: the paper's rows, what else was learned, and baselines."""
    run = _run_if(data_set, place)
    catalogue, kind, parts = place.catalogue, place.kind, place.parts
    for name in data_set.models:
        yield method_of(place, name, run)
        yield method_of(place, f"{name}{WITH_GRAPH}", run)
    if run is not None:
        yield method_of(place, WITHOUT_PRIOR, run)
        rows = set(MODELS)
        own = learned(catalogue, run, kind=kind, parts=parts, part=place.part)
        yield from (x for x in own if x.name not in rows)
    yield random(len(parts), seed=place.seed)
    if run is not None:
        found = baselines(
            catalogue,
            run,
            kind=kind,
            parts=parts,
            part=place.part,
            network=place.network,
            progress=progress,
        )
    else:
        edges = visible_edges(catalogue, kind, parts=parts, part=place.part)
        found = [personalised_pagerank(edges), adamic_adar(edges), common_neighbours(edges)]
    yield from (x for x in found if place.seed == 0 or x.name in DRAWN)


def gather(plan: Plan, data_set: DataSet, made: Sequence[Place]) -> Results:
    """Read what every seed of one set answered."""
    place = made[0]
    found: dict[str, dict[int, Mapping[str, Judged]]] = {}
    notes: dict[str, str] = {}
    for one in made:
        listed = read_json(one.home / "answered.json", version=FORMAT, hint="reproduce again")
        for name in listed["models"]:
            judged, note = estimates.read(one.answers(name))
            found.setdefault(name, {})[one.seed] = judged
            notes.setdefault(name, note)
    return Results(
        data_set=data_set,
        kind=place.kind,
        part=plan.part,
        seeds=tuple(x.seed for x in made),
        items=len(place.parts),
        asked=estimates.questions(place.catalogue, place.kind, parts=place.parts, part=place.part),
        answers=found,
        notes=notes,
    )


def _run(place: Place) -> Run:
    return runs.read(place.home / "run")


def _run_if(data_set: DataSet, place: Place) -> Run | None:
    return _run(place) if data_set.trained else None
