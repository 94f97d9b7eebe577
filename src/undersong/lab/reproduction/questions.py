"""What every model of a data set is asked, and its answers, one file a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.evaluation.baselines.graph import visible_edges
from undersong.evaluation.method import Method
from undersong.evaluation.protocols import EvaluationSettings, pools_of
from undersong.evaluation.scoring import Judged, Pool, Traits, Whole, judge, traits
from undersong.evaluation.ties import Ties, make_ties
from undersong.io.table_files import read_metadata, read_table, write_table
from undersong.relations import Task

ACCURACY, ANSWERS, WHOLE = "accuracy", "answers", "whole"
COLUMNS = {
    "pool": pl.String(),
    "sort": pl.String(),
    "metric": pl.String(),
    "values": pl.List(pl.Float64()),
}
METADATA = {"undersong.answers": "1"}

# Hubness asks 2,000 random items, not all: it costs most, and is a column beside the others.
JUDGING = EvaluationSettings(hub_queries=2000)


@dataclass(frozen=True)
class Questions:
    """All that every model of one data set is asked.

    Parameters
    ----------
    pools : by name of the protocol: "cold, labelled", "cold", "found", "paper", and for tracks
        each with ", other artists"
    degree : (q,) relations to training items that ``linked`` shows, of each query
    """

    pools: Mapping[str, Pool]
    traits: Traits
    ties: Ties
    degree: NDArray[np.int64]
    settings: EvaluationSettings

    @property
    def long_tail(self) -> NDArray[np.bool_]:
        """Queries without any relation, (q,)."""
        return self.traits.long_tail[self.pools["paper"].queries]


@dataclass(frozen=True)
class ModelAnswers:
    """How one model of one seed answered: in each pool, and a note about the model."""

    pools: Mapping[str, Judged]
    note: str


def make_questions(task: Task, split: str, *, settings: EvaluationSettings = JUDGING) -> Questions:
    """Return the questions: items of ``split`` ask the catalogue and each other, and are sought."""
    pools = pools_of(task, split, settings=settings)
    edges = visible_edges(task, split)
    return Questions(
        pools=pools,
        traits=traits(task),
        ties=make_ties(len(task.splits), seed=settings.seed),
        degree=np.diff(edges.indptr)[pools["paper"].queries].astype(np.int64),
        settings=settings,
    )


def ask(method: Method, questions: Questions) -> ModelAnswers:
    """Judge one method in every pool that it may take part in.

    One that sees relations of the items of the split has no part in ``cold`` and ``found``.
    """
    settings = questions.settings
    pools = {
        name: pool
        for name, pool in questions.pools.items()
        if name.startswith("paper") or not method.sees_edges
    }
    judged = judge(
        method,
        pools,
        traits=questions.traits,
        ties=questions.ties,
        k=settings.k,
        block=settings.block,
        seed=settings.seed,
    )
    return ModelAnswers(judged, method.note)


def write(answers: ModelAnswers, path: Path) -> None:
    """Write a row per pool and metric with its value for each query, as Parquet.

    A number of all answers together has its value first, then those without one group.
    """
    rows = []
    for pool, judged in answers.pools.items():
        rows += [(pool, ACCURACY, name, x.tolist()) for name, x in judged.accuracy.items()]
        rows += [(pool, ANSWERS, name, x.tolist()) for name, x in judged.answers.items()]
        rows += [(pool, WHOLE, n, [x.value, *x.left_out]) for n, x in judged.whole.items()]
    table = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    write_table(path, table, metadata=METADATA | {"note": answers.note})


def read(path: Path) -> ModelAnswers:
    """Read what ``write`` wrote.

    Raises
    ------
    ArtifactError
        If the file is damaged or of another format.
    """
    hint = "delete it and run `undersong reproduce` again"
    table = read_table(path, hint=hint, metadata=METADATA)
    pools: dict[str, Judged] = {}
    for (pool,), rows in table.group_by(["pool"], maintain_order=True):
        sorts: dict[str, dict[str, NDArray[np.float64]]] = {ACCURACY: {}, ANSWERS: {}, WHOLE: {}}
        for sort, metric, values in rows.select("sort", "metric", "values").iter_rows():
            sorts[sort][metric] = np.array(values, dtype=np.float64)
        whole = {name: Whole(float(x[0]), x[1:]) for name, x in sorts[WHOLE].items()}
        pools[str(pool)] = Judged(sorts[ACCURACY], sorts[ANSWERS], whole)
    return ModelAnswers(pools, read_metadata(path, hint=hint)["note"])
