"""One training seed of one data set: its folder, what it is made of, and its jobs.

OUT/SET/seed-N/made.json            what all below was made of; for anything else choose another OUT
OUT/SET/seed-N/run/                 CbRM, UiRM and GRM: an ordinary run
OUT/SET/seed-N/vectors/NAME.parquet the other embeddings: GRM without prior, each with ``_G``
OUT/SET/seed-N/answers/NAME.parquet what each model answered
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from undersong import runs
from undersong.catalogue import fingerprint
from undersong.errors import ArtifactError
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.io.files import read_json, write_json
from undersong.lab.reproduction.datasets import DataSet
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.questions import Questions, make_questions
from undersong.models.graph.network import GraphSettings
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress
from undersong.settings import as_recorded, first_difference
from undersong.training import Task

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
