"""What is measured and where: one plan for the paper's tables and for ablations.

Everything lies in one folder, in files that appear at once or not at all: killed at any moment
and begun again, the work continues with the job that was cut short.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from undersong.catalogue import read_catalogue, split
from undersong.errors import ArtifactError, SettingsError
from undersong.evaluation.baselines.classical import (
    adamic_adar,
    common_neighbours,
    personalised_pagerank,
    random,
    visible_edges,
)
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.evaluation.compare import MODELS, baselines, learned
from undersong.evaluation.method import Method
from undersong.evaluation.results import RANKED
from undersong.features import INTERACTION
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction import datasets
from undersong.lab.reproduction.datasets import DataSet, ModelAnswers, kind_of, prepare, settings_of
from undersong.lab.reproduction.job_runner import Job, run_jobs
from undersong.lab.reproduction.methods import (
    ON_TAGS,
    WITH_GRAPH,
    WITHOUT_LISTENING,
    WITHOUT_PRIOR,
    SeedRun,
    claim,
    make_general,
    make_graph,
    make_on_tags,
    make_without_prior,
    method_of,
    tagged,
    train,
)
from undersong.lab.reproduction.outcomes import Results
from undersong.models.graph.network import GraphSettings
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.relations import Task

PLAN_FORMAT = 1
QUICK_NETWORK = NetworkSettings(
    hidden=256, anchors=400, schedule=replace(NetworkSettings().schedule, steps=50)
)


@dataclass(frozen=True)
class Plan:
    """What to measure, and where.

    Parameters
    ----------
    out : folder of everything
    data, examples : folders of the data, and of the mappings and settings
    seeds : how many training seeds, from 0
    quick : far fewer steps, to see that it works; the numbers say little
    split : "validation" or "test", whose items ask
    processes : trainings side by side
    graph, network : of the GNN backend and of the network baseline
    """

    out: Path
    data: Path
    examples: Path
    seeds: int = 5
    quick: bool = False
    split: str = "validation"
    processes: int = 1
    graph: GraphSettings = GraphSettings()
    network: NetworkSettings = NetworkSettings()

    def __post_init__(self) -> None:
        if min(self.seeds, self.processes) < 1:
            raise SettingsError(
                f"seeds {self.seeds} and processes {self.processes} must be 1 or more"
            )


def measure(
    plan: Plan,
    sets: Sequence[DataSet],
    *,
    jobs_of: Callable[[SeedRun], Iterable[Job]],
    read_answers: Callable[[Sequence[SeedRun]], Mapping[str, Mapping[int, ModelAnswers]]],
    progress: Progress,
) -> tuple[Results, ...]:
    """Run every job that is not done yet, and gather the answers of each set.

    Parameters
    ----------
    jobs_of : all that one seed of one set needs, in order
    read_answers : model -> seed -> answers, of the seeds of one set

    Raises
    ------
    ArtifactError
        If the folder holds a reproduction of another kind: quick or not, or of another split.
    DataError
        If data is missing, or items of ``plan.split`` cannot be asked.
    """
    open_folder(plan, sets)
    opened = [(data_set, seed_runs(plan, data_set)) for data_set in sets]
    jobs = [job for _, by_seed in opened for seed_run in by_seed for job in jobs_of(seed_run)]
    run_jobs(jobs, progress=progress, processes=plan.processes)
    return tuple(
        Results(
            data_set=data_set,
            task=by_seed[0].task,
            settings=by_seed[0].settings,
            part=plan.split,
            seeds=tuple(x.seed for x in by_seed),
            questions=by_seed[0].questions(),
            answers=read_answers(by_seed),
        )
        for data_set, by_seed in opened
    )


def open_folder(plan: Plan, sets: Sequence[DataSet]) -> None:
    """Import the sets that are not there yet, unless the folder is for something else."""
    about = {"format": PLAN_FORMAT, "quick": plan.quick, "part": plan.split}
    stamp = plan.out / "reproduction-made.json"
    if stamp.exists():
        recorded = read_json(stamp, version=PLAN_FORMAT, hint="choose another folder")
        if recorded != about:
            kind = "quick" if recorded.get("quick") else "whole"
            raise ArtifactError(
                f"{plan.out} holds a {kind} reproduction on {recorded.get('part')} items; choose "
                "another folder, or the same --quick and --split"
            )
    write_json(stamp, about)
    for data_set in sets:
        settings, folder = settings_of(data_set, plan.examples), catalogue_folder(plan, data_set)
        prepare(data_set, folder, settings=settings, data=plan.data, examples=plan.examples)


def catalogue_folder(plan: Plan, data_set: DataSet) -> Path:
    """Return the folder of a set's catalogue."""
    return plan.out / data_set.name / "catalogue"


def seed_runs(plan: Plan, data_set: DataSet) -> tuple[SeedRun, ...]:
    """Open a prepared set once for every seed.

    Raises
    ------
    ArtifactError
        If a seed was made there of another catalogue or with other settings.
    """
    settings, graph = settings_of(data_set, plan.examples), plan.graph
    if plan.quick:
        settings = shortened(settings)
        graph = replace(graph, training=replace(graph.training, steps=30))
    folder = catalogue_folder(plan, data_set)
    catalogue, kind = read_catalogue(folder), kind_of(settings)
    task = Task(catalogue, kind, split(catalogue, kind, settings.split, seed=0))
    by_seed = tuple(
        SeedRun(
            data_set=data_set,
            home=plan.out / data_set.name / f"seed-{seed}",
            catalogue_folder=folder,
            task=task,
            split=plan.split,
            settings=_without_extras(settings, seed),
            graph=graph,
            network=QUICK_NETWORK if plan.quick else plan.network,
        )
        for seed in range(plan.seeds)
    )
    for seed_run in by_seed:
        claim(seed_run)
    return by_seed


def _without_extras(settings: Settings, seed: int) -> Settings:
    """Leave out what costs time and changes no number that is judged here.

    Nothing is refitted, and no pretrained ears hear, for they depend on the machine.
    """
    run = replace(settings.run, seed=seed, refit=False)
    content = replace(settings.content, ears="none")
    return replace(settings, run=run, content=content)


def shortened(settings: Settings) -> Settings:
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


FORMAT = 1
# Baselines that draw something: of the others one seed says all.
DRAWN = ("random", "ALS", "MLP", "gravity", "all sources")
# Says which models answered. Its name changes with the rows, so that an older folder gets new ones.
ANSWERED = "answered-2.json"


def reproduce(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Results, ...]:
    """Measure every model of tables 1 and 2 with its baselines, on each set.

    Raises
    ------
    UndersongError
        As ``measure`` does.
    """
    return measure(plan, sets, jobs_of=_jobs, read_answers=_read_answers, progress=progress)


def _jobs(seed_run: SeedRun) -> Iterator[Job]:
    trained: tuple[str, ...] = ()
    names = [f"{name}{WITH_GRAPH}" for name in seed_run.data_set.models]
    if seed_run.data_set.trained:
        trained = ("train",)
        yield seed_run.job("train", 14, seed_run.home / "run" / "current.json", train)
        path = seed_run.vectors(WITHOUT_PRIOR)
        yield seed_run.job(WITHOUT_PRIOR, 11, path, make_without_prior, *trained)
        names.append(WITHOUT_PRIOR)
    if "UiRM" in seed_run.data_set.models:
        path = seed_run.answers(WITHOUT_LISTENING)
        yield seed_run.job(WITHOUT_LISTENING, 13, path, _answer_without_listening, *trained)
    if tagged(seed_run):
        path = seed_run.vectors(ON_TAGS)
        yield seed_run.job(ON_TAGS, 2, path, make_on_tags, *trained)
        names.append(ON_TAGS)
    for name in seed_run.data_set.models:
        title = f"{name}{WITH_GRAPH}"
        work = partial(make_graph, name=name)
        yield seed_run.job(title, 3, seed_run.vectors(title), work, *trained)
    yield seed_run.job("answers", 10, seed_run.home / ANSWERED, _answer, *trained, *names)


def _answer_without_listening(seed_run: SeedRun, progress: Progress) -> None:
    """Train GRM without E_U and ask it; a folder of an older version has this row added."""
    general, name = seed_run.settings.general, WITHOUT_LISTENING
    make_general(seed_run, name, settings=general, without=(INTERACTION,), progress=progress)
    answered = datasets.ask(method_of(seed_run, name), seed_run.questions())
    datasets.write_answers(answered, seed_run.answers(name))


def _answer(seed_run: SeedRun, progress: Progress) -> None:
    """Ask every model and baseline of one seed; those that answered already are left."""
    asking = seed_run.questions()
    methods = _methods(seed_run, progress)
    for number, (name, make) in enumerate(methods.items()):
        path = seed_run.answers(name)
        progress("answers", number, len(methods), name)
        if not path.exists():
            datasets.write_answers(datasets.ask(make(), asking), path)
    progress("answers", 1, 1)
    write_json(seed_run.home / ANSWERED, {"format": FORMAT, "models": list(methods)})


def _methods(seed_run: SeedRun, progress: Progress) -> dict[str, Callable[[], Method]]:
    """Name what makes every method of a seed: the paper's rows, others learned, baselines."""
    task, split = seed_run.task, seed_run.split
    names = [y for x in seed_run.data_set.models for y in (x, f"{x}{WITH_GRAPH}")]
    beside: dict[str, Callable[[], Method]] = {
        "random": lambda: random(len(task.splits), seed=seed_run.seed)
    }
    of_run: list[Method] = []
    if seed_run.data_set.trained:
        names += [WITHOUT_PRIOR, *([ON_TAGS] if tagged(seed_run) else [])]
        run, network = seed_run.run, seed_run.network
        of_run = [x for x in learned(task, run, split=split) if x.name not in MODELS]
        beside |= baselines(task, run, split=split, network=network, progress=progress)
    else:
        edges = visible_edges(task, split)
        beside["PageRank"] = lambda: personalised_pagerank(edges)
        beside["Adamic-Adar"] = lambda: adamic_adar(edges)
        beside["common neighbours"] = lambda: common_neighbours(edges)
    return {
        **{name: partial(method_of, seed_run, name) for name in names},
        **{method.name: partial(replace, method) for method in of_run},
        **{x: make for x, make in beside.items() if seed_run.seed == 0 or x in DRAWN},
    }


def _read_answers(by_seed: Sequence[SeedRun]) -> dict[str, Mapping[int, ModelAnswers]]:
    answers: dict[str, dict[int, ModelAnswers]] = {}
    for seed_run in by_seed:
        stamp = seed_run.home / ANSWERED
        names = read_json(stamp, version=FORMAT, hint="reproduce again")["models"]
        names += [WITHOUT_LISTENING] if "UiRM" in seed_run.data_set.models else []
        for name in names:
            answered = datasets.read_answers(seed_run.answers(name))
            answers.setdefault(name, {})[seed_run.seed] = answered
    return {name: with_cosine(name, by_seed, answers) for name, by_seed in answers.items()}


def with_cosine(
    name: str,
    by_seed: Mapping[int, ModelAnswers],
    answers: Mapping[str, Mapping[int, ModelAnswers]],
) -> Mapping[int, ModelAnswers]:
    """Add to the learned order the seeds that learned none: their answers are by the cosine of E_G.

    A mean over the others alone would be one of the lucky seeds.
    """
    if not name.startswith(RANKED):
        return by_seed
    pools, note = next((x.pools, x.note) for x in by_seed.values())
    general = answers["GRM"]
    if missing := general.keys() - by_seed.keys():
        note += f"; {len(missing)} of {len(general)} seeds learned none and answer by E_G"
    both = {seed: by_seed.get(seed, x) for seed, x in general.items()}
    return {
        seed: ModelAnswers({pool: x.pools[pool] for pool in pools}, note)
        for seed, x in both.items()
    }
