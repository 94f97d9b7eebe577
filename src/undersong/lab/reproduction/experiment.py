"""The whole of section 3 on data that can be had: which models are made, and who is asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from undersong.evaluation.baselines.classical import (
    adamic_adar,
    common_neighbours,
    personalised_pagerank,
    random,
    visible_edges,
)
from undersong.evaluation.compare import MODELS, baselines, learned
from undersong.evaluation.method import Method
from undersong.features import INTERACTION
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction import datasets
from undersong.lab.reproduction.datasets import DataSet, ModelAnswers
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.methods import (
    ON_TAGS,
    WITH_GRAPH,
    WITHOUT_LISTENING,
    WITHOUT_PRIOR,
    SeedRun,
    make_general,
    make_graph,
    make_on_tags,
    make_without_prior,
    method_of,
    tagged,
    train,
)
from undersong.lab.reproduction.outcomes import Results
from undersong.lab.reproduction.plan import Plan, measure
from undersong.progress import Progress, silent

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
        As ``plan.measure`` does.
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
    return dict(answers)
