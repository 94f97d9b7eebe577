"""Whether the prior removes noise from the mined relations: false ones put in (section 2.4).

A share of the relations between training items is replaced, by random pairs of linked items or by
pairs of lists that the mapping leaves out, which are those of other platforms. GRM is trained on
what comes out with several lambda, on the E_C and E_U of one run, and asked what is true. E_C, E_U
and the relations that say when to stop stay as they were.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import embeddings
from undersong.catalogue import RELATIONS
from undersong.evaluation.method import from_embeddings
from undersong.importers.tables.mapping import read_mapping
from undersong.io.table_files import read_user_table
from undersong.lab.reproduction.ablations import COLUMNS, LAMBDAS, Row
from undersong.lab.reproduction.claims import Claim, Comparison, verdict
from undersong.lab.reproduction.datasets import (
    JUDGING,
    DataSet,
    ModelAnswers,
    ask,
    make_questions,
    read_answers,
    write_answers,
)
from undersong.lab.reproduction.experiment import Plan, measure
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.methods import SeedRun, make_general, train
from undersong.lab.reproduction.outcomes import COLD, PAPER, Estimate, Results
from undersong.progress import Progress, silent
from undersong.relations import Task
from undersong.settings import with_changes

RANDOM, PLATFORM = "random pairs", "another platform's pairs"
KINDS, SHARES = (RANDOM, PLATFORM), (0.1, 0.3)
WEIGHTS = tuple(x for x in LAMBDAS if x != 0.1)
PATIENCE = 2  # validations without gain that end a training: 25 a seed take a third less time
Pairs = NDArray[np.int64]  # (p, 2) rows of items


@dataclass(frozen=True)
class Noise:
    """A share of the training relations that is replaced, and by what; "" and 0 for none."""

    kind: str = ""
    share: float = 0.0

    def __str__(self) -> str:
        """Return how tables and curves name it."""
        return f"{100 * self.share:.0f} % {self.kind}" if self.share else "no noise"

    def model(self, weight: float) -> str:
        """Name the GRM that is trained on it with one lambda."""
        return f"{self}, lambda {weight:g}"


def measure_noise(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Results, ...]:
    """Measure GRM with every noise and every lambda on each set.

    Raises
    ------
    UndersongError
        As ``measure`` does.
    """
    return measure(
        plan,
        sets,
        jobs_of=partial(_jobs, plan=plan),
        read_answers=partial(_read_answers, plan=plan),
        progress=progress,
    )


def _jobs(seed_run: SeedRun, *, plan: Plan) -> Iterator[Job]:
    yield seed_run.job("train", 14, seed_run.home / "run" / "current.json", train)
    pairs = platform_pairs(plan, seed_run)
    for noise in noises(seed_run.task, pairs):
        for weight in WEIGHTS:
            work = partial(_answer, noise=noise, weight=weight, pairs=pairs)
            name = noise.model(weight)
            yield seed_run.job(name, 11, seed_run.answers(name), work, "train")


def platform_pairs(plan: Plan, seed_run: SeedRun) -> Pairs:
    """Pairs of training items that only lists say which the mapping of a set leaves out."""
    data_set, task = seed_run.data_set, seed_run.task
    mapping = read_mapping(plan.examples / data_set.mapping, data=plan.data / data_set.folder)
    row = {x: place for place, x in enumerate(task.ids)}
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for table in mapping.relations:
        if table.kind == task.kind and table.sources:
            lists = read_user_table(mapping.data / table.file)
            lists = lists.filter(~pl.col(table.source_column).is_in(table.sources))
            known = lists.filter(pl.col(x).is_in(list(row)) for x in (table.a, table.b))
            pairs += [known.select(pl.col(table.a, table.b).replace_strict(row)).to_numpy()]
    return _new(np.concatenate(pairs), task)


def _new(pairs: Pairs, task: Task) -> Pairs:
    """Keep pairs of two training items that are not related, each once, in the order given."""
    train, related = task.within("train"), task.related("train")
    pairs = np.sort(pairs, axis=1)
    kept = train[pairs].all(axis=1) & (pairs[:, 0] != pairs[:, 1])
    kept &= ~np.asarray(related[pairs[:, 0], pairs[:, 1]]).reshape(-1)
    pairs = pairs[kept]
    return pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]


def noises(task: Task, pairs: Pairs) -> tuple[Noise, ...]:
    """List what is tried: no noise, and each kind; of another platform's, as many as there are."""
    there = len(pairs) / max(task.related("train").nnz // 2, 1)
    rest = dict.fromkeys(min(x, there) for x in SHARES if there)
    return (
        Noise(),
        *(Noise(RANDOM, x) for x in SHARES),
        *(Noise(PLATFORM, x) for x in rest),
    )


def with_noise(task: Task, noise: Noise, pairs: Pairs, *, seed: int) -> Task:
    """Replace a share of the relations between training items; the rest stays as it is.

    The same seed draws the same first pairs for every share, so more noise only adds to less.
    """
    related = task.related("train").tocoo()
    mined = np.stack([related.row, related.col], axis=1)[related.row < related.col]
    generator = np.random.default_rng([seed, KINDS.index(noise.kind)])
    count = round(noise.share * len(mined))
    left = mined[generator.permutation(len(mined))[count:]]
    if noise.kind == RANDOM:
        linked = np.unique(mined)
        false = _new(generator.choice(linked, (2 * len(mined), 2)), task)[:count]
    else:
        false = generator.permutation(pairs)[:count]
    ids, table = np.array(task.ids), task.catalogue.relations
    train = ids[task.within("train")]
    inside = pl.col("a").is_in(train) & pl.col("b").is_in(train) & (pl.col("kind") == task.kind)
    ends = np.sort(ids[np.concatenate([left, false])], axis=1)
    rows = {"kind": task.kind, "a": ends[:, 0], "b": ends[:, 1], "source": "noisy"}
    drawn = pl.DataFrame(rows, schema=RELATIONS)
    catalogue = replace(task.catalogue, relations=pl.concat([table.filter(~inside), drawn]))
    return Task(catalogue, task.kind, task.splits)


def _answer(
    seed_run: SeedRun, progress: Progress, *, noise: Noise, weight: float, pairs: Pairs
) -> None:
    """Train GRM with one noise and one lambda, ask it, and leave the answers alone behind."""
    task, name = seed_run.task, noise.model(weight)
    changes = {"loss.prior_weight": weight, "training.patience": PATIENCE}
    settings = with_changes(seed_run.settings.general, changes, where="[general]")
    noisy = with_noise(task, noise, pairs, seed=seed_run.seed) if noise.share else task
    make_general(replace(seed_run, task=noisy), name, settings=settings, progress=progress)
    method = from_embeddings(name, embeddings.read(seed_run.vectors(name)), task.ids)
    # Hubness is no column here and costs most.
    asking = make_questions(task, seed_run.split, settings=replace(JUDGING, hub_queries=2))
    few = replace(asking, pools={x: asking.pools[x] for x in (COLD, PAPER)})
    write_answers(ask(method, few), seed_run.answers(name))
    seed_run.vectors(name).unlink()


def _read_answers(
    by_seed: Sequence[SeedRun], *, plan: Plan
) -> dict[str, Mapping[int, ModelAnswers]]:
    first = by_seed[0]
    names = [
        noise.model(weight)
        for noise in noises(first.task, platform_pairs(plan, first))
        for weight in WEIGHTS
    ]
    return {name: {x.seed: read_answers(x.answers(name)) for x in by_seed} for name in names}


def curves_of(results: Results) -> dict[str, tuple[Row, ...]]:
    """Return the rows of every noise, one a lambda, each beside lambda 0 of the same noise."""
    curves: dict[str, list[Row]] = {}
    for name in results.answers:
        noise, weight = name.split(", lambda ")
        beside = f"{noise}, lambda 0"
        numbers = tuple(results.number(name, x, pool=COLD, of=of) for _, x, of in COLUMNS)
        differences = tuple(
            None if weight == "0" else results.difference(name, beside, x, pool=COLD, of=of)
            for _, x, of in COLUMNS
        )
        curves.setdefault(noise, []).append(Row(name, numbers, differences, beside, ""))
    return {name: tuple(rows) for name, rows in curves.items()}


def noise_claims(results: Results) -> tuple[Claim, ...]:
    """Judge whether some lambda removes noise, of each kind at its largest share.

    The lambda is the best of those above 0 by the very number that is judged, which favours the
    claim. It must gain over lambda 0, and gain more than it does without noise.
    """
    curves, claims = curves_of(results), []
    clean = str(Noise())
    largest = {name.split(" % ")[1]: name for name in curves if name != clean}
    for place, (_, metric, of) in ((0, COLUMNS[0]), (2, COLUMNS[2])):
        for kind, name in largest.items():
            rows = {x.name: x.numbers[place] for x in curves[name][1:]}
            best = max(rows, key=lambda x: (rows[x] or Estimate(-np.inf)).value)
            plain = curves[name][0].name
            same = (best.replace(name, clean), curves[clean][0].name)
            above = partial(results.gain, metric=metric, pool=COLD, of=of)
            gain, cost = above((best, plain)), above((plain, same[1]))
            more = above((best, plain), beyond=same)
            if gain is None or more is None or cost is None:
                continue
            claims.append(
                Claim(
                    results.data_set.name,
                    f"with the right lambda the prior removes noise: {kind}, {metric}",
                    verdict([gain, more]),
                    (
                        Comparison(best, plain, metric, of, gain, COLD),
                        Comparison("this gain", "the gain without noise", metric, of, more, COLD),
                    ),
                    f"the noise costs {-100 * cost.value:.2f} points at lambda 0",
                )
            )
    return tuple(claims)
