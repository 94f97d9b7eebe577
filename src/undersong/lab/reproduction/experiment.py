"""The whole of section 3 on data that can be had: which models are made, and who is asked."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from undersong.evaluation.baselines.graph import (
    adamic_adar,
    common_neighbours,
    personalised_pagerank,
    visible_edges,
)
from undersong.evaluation.baselines.untrained import random
from undersong.evaluation.compare import MODELS, baselines, learned
from undersong.evaluation.method import Method
from undersong.features import INTERACTION
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction import questions
from undersong.lab.reproduction.datasets import DataSet
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.methods import (
    WITH_GRAPH,
    WITHOUT_LISTENING,
    WITHOUT_PRIOR,
    make_general,
    make_graph,
    make_without_prior,
    method_of,
    train,
)
from undersong.lab.reproduction.outcomes import Results
from undersong.lab.reproduction.plan import Plan, measure
from undersong.lab.reproduction.questions import ModelAnswers
from undersong.lab.reproduction.seed_run import SeedRun
from undersong.progress import Progress, silent

FORMAT = 1
# Baselines that draw something: of the others one seed says all.
DRAWN = ("random", "ALS", "MLP", "all sources")


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
    for name in seed_run.data_set.models:
        title = f"{name}{WITH_GRAPH}"
        work = partial(make_graph, name=name)
        yield seed_run.job(title, 3, seed_run.vectors(title), work, *trained)
    yield seed_run.job("answers", 10, seed_run.home / "answered.json", _answer, *trained, *names)


def _answer_without_listening(seed_run: SeedRun, progress: Progress) -> None:
    """Train GRM without E_U and ask it; a folder of an older version has this row added."""
    general, name = seed_run.settings.general, WITHOUT_LISTENING
    make_general(seed_run, name, settings=general, without=(INTERACTION,), progress=progress)
    answered = questions.ask(method_of(seed_run, name), seed_run.questions())
    questions.write(answered, seed_run.answers(name))


def _answer(seed_run: SeedRun, progress: Progress) -> None:
    """Ask every model and baseline of one seed; those that answered already are left."""
    asking = seed_run.questions()
    names: list[str] = []
    for method in _methods(seed_run, progress):
        names.append(method.name)
        path = seed_run.answers(method.name)
        progress("answers", len(names) - 1, len(names), method.name)
        if not path.exists():
            questions.write(questions.ask(method, asking), path)
    progress("answers", 1, 1)
    write_json(seed_run.home / "answered.json", {"format": FORMAT, "models": names})


def _methods(seed_run: SeedRun, progress: Progress) -> Iterator[Method]:
    """Every method of one seed: the paper's rows, what else was learned, and baselines."""
    task, split = seed_run.task, seed_run.split
    for name in seed_run.data_set.models:
        yield method_of(seed_run, name)
        yield method_of(seed_run, f"{name}{WITH_GRAPH}")
    if seed_run.data_set.trained:
        run = seed_run.run
        yield method_of(seed_run, WITHOUT_PRIOR)
        of_run = learned(task, run, split=split)
        yield from (x for x in of_run if x.name not in MODELS)
        others = baselines(
            task,
            run,
            split=split,
            network=seed_run.network,
            progress=progress,
        )
    else:
        edges = visible_edges(task, split)
        others = [personalised_pagerank(edges), adamic_adar(edges), common_neighbours(edges)]
    others = [random(len(task.splits), seed=seed_run.seed), *others]
    yield from (x for x in others if seed_run.seed == 0 or x.name in DRAWN)


def _read_answers(by_seed: Sequence[SeedRun]) -> dict[str, Mapping[int, ModelAnswers]]:
    answers: dict[str, dict[int, ModelAnswers]] = {}
    for seed_run in by_seed:
        stamp = seed_run.home / "answered.json"
        names = read_json(stamp, version=FORMAT, hint="reproduce again")["models"]
        names += [WITHOUT_LISTENING] if "UiRM" in seed_run.data_set.models else []
        for name in names:
            answers.setdefault(name, {})[seed_run.seed] = questions.read(seed_run.answers(name))
    return dict(answers)
