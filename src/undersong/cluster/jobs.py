"""Work on a Ray cluster: train a run, and list the neighbours of many items."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import ray
from numpy.typing import NDArray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from undersong.catalogue import Attributes
from undersong.cluster.tasks import in_order
from undersong.errors import UndersongError
from undersong.pipeline.run_settings import Settings
from undersong.pipeline.train import train_run
from undersong.retrieval import BLOCK, Index, Query, TopK, search
from undersong.runs import Run, read as read_run


def retrieve_there(
    index: Index, rows: NDArray[np.int64], *, query: Query, attributes: Attributes | None = None
) -> Iterator[TopK]:
    """Answer as ``retrieve`` does, in the same blocks; the index goes to each node once."""
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    return in_order(partial(_answer, index, query, attributes), blocks)


def _answer(
    index: Index, query: Query, attributes: Attributes | None, rows: NDArray[np.int64]
) -> TopK:
    return next(search(index, rows, query=query, attributes=attributes))


TRIES = 3  # times that training goes on from its last checkpoint after workers were lost


def train_there(
    catalogue_folder: Path, folder: Path, *, settings: Settings, fresh: bool = False
) -> tuple[Run, bool]:
    """Train on the cluster what ``pipeline.train_run`` trains here; the same arguments and files.

    Both folders are shared by all nodes. When a node is lost, the others go on from the last
    checkpoint, with fewer processes if need be: the batches are the same whatever their number.

    Raises
    ------
    UndersongError
        If training fails for good, with the reason that the worker gave.
    """
    before, notes = _generation(folder), folder.resolve() / "ray"
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    most = gpus or sum(bool(x["Alive"]) for x in nodes)
    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "catalogue": str(catalogue_folder.resolve()),
            "folder": str(folder.resolve()),
            "settings": settings,
            "fresh": fresh,
        },
        scaling_config=ScalingConfig(
            num_workers=(1, most),  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            placement_strategy="SPREAD",
        ),
        torch_config=TorchConfig(backend=None if gpus else "gloo"),
        run_config=RunConfig(
            name=uuid4().hex,  # Ray would take up a run of the same name, and so do nothing
            storage_path=str(notes),
            failure_config=FailureConfig(max_failures=TRIES),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise UndersongError(f"training on the cluster failed: {_reason(error)}") from error
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    return read_run(folder), _generation(folder) != before


def _train(arguments: dict[str, Any]) -> None:
    """What every worker does: the program of one machine, in a group that Ray has made."""
    train_run(
        Path(arguments["catalogue"]),
        Path(arguments["folder"]),
        settings=arguments["settings"],
        fresh=arguments["fresh"],
    )


def _generation(folder: Path) -> str | None:
    return read_run(folder).generation if (folder / "current.json").exists() else None


def _reason(error: BaseException) -> str:
    """Last line of what the first failed worker said."""
    failed = getattr(error, "worker_failures", None) or {0: error}
    lines = str(next(iter(failed.values()))).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
