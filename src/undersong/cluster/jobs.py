"""Work on a cluster: train, embed every item of a catalogue, and list its neighbours."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn

from undersong import features
from undersong.catalogue import KINDS, Attributes, Catalogue, Kind
from undersong.cluster.connection import in_order
from undersong.embeddings import Embeddings
from undersong.errors import DataError, UndersongError
from undersong.features import CONTENT, KNOWN_OF_EACH, Modality, read_sources
from undersong.foldin.added import read_encoders
from undersong.models.content.inputs import Clips, read_clips
from undersong.models.content.network import load_content
from undersong.models.content.training import of_items
from undersong.models.general import training as general
from undersong.models.general.network import GeneralModel
from undersong.pipeline.run_settings import Settings
from undersong.pipeline.train import train_run
from undersong.progress import Progress, silent
from undersong.retrieval import BLOCK, Index, Query, TopK, search
from undersong.runs import Run
from undersong.runs import read as read_run

ITEMS = 1024  # items embedded at a time, and pieces of sound or features
Vectors = Iterator[NDArray[np.float32]]
Each = Callable[[Callable[[int], NDArray[np.float32]], Iterable[int]], Vectors]


def embed_catalogue(
    run: Run,
    catalogue: Catalogue,
    kind: Kind,
    *,
    work: Path,
    each: Each = map,
    progress: Progress = silent,
) -> Embeddings:
    """Embed all items of one kind of which any source says something.

    E_C is computed from the sound or the features of this catalogue. E_U is known of trained
    items alone.

    Parameters
    ----------
    work : folder where log-mel chunks go that are not yet extracted
    each : applies a function to each block, in order; a cluster may do that

    Raises
    ------
    DataError
        If nothing that the run reads is known of any item.
    """
    known = {
        (one, name): run.embeddings(one, name)
        for one in KINDS
        for name in KNOWN_OF_EACH
        if run.has_embeddings(one, name)
    }
    if run.has(f"weights/{CONTENT}.safetensors"):
        known |= _content_embeddings(run, catalogue, work=work, each=each, progress=progress)
    sources = read_sources(catalogue, kind, read_encoders(run), known)
    rows = np.flatnonzero(~np.all([x.missing for x in sources], axis=0))
    if not len(rows):
        raise DataError(
            f"nothing that {run.folder} reads is known of the {len(sources[0].missing)} {kind}s: "
            f"{', '.join(x.name for x in sources)}; map those columns, features or files"
        )
    model = general.load(run.file("weights/general.safetensors"))
    one = partial(_general, model, features.rows_of(sources, rows))
    vectors = _joined(one, len(rows), each=each, stage="E_G", progress=progress)
    ids = catalogue.ids(kind)
    return Embeddings(tuple(ids[row] for row in rows), vectors)


def _content_embeddings(
    run: Run, catalogue: Catalogue, *, work: Path, each: Each, progress: Progress
) -> dict[tuple[Kind, str], Embeddings]:
    """E_C of tracks and artists."""
    model = load_content(run.file(f"weights/{CONTENT}.safetensors"))
    clips = read_clips(catalogue, model, work=work, progress=progress)
    if not len(clips.artist):
        return {}
    one = partial(_content, clips, model)
    vectors = _joined(one, len(clips.artist), each=each, stage="E_C", progress=progress)
    tracks, artists = of_items(catalogue, clips, vectors, top=model.settings.top)
    return {("track", CONTENT): tracks, ("artist", CONTENT): artists}


def _joined(
    embed: Callable[[int], NDArray[np.float32]],
    n: int,
    *,
    each: Each,
    stage: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """Vectors of all blocks, (n, d)."""
    blocks = []
    for vectors in each(embed, range(0, n, ITEMS)):
        blocks.append(vectors)
        progress(stage, sum(map(len, blocks)), n)
    return np.concatenate(blocks)


@torch.no_grad()
def _content(clips: Clips, model: nn.Module, start: int) -> NDArray[np.float32]:
    return clips.embed(model, np.arange(start, min(start + ITEMS, len(clips.artist))))


def _general(model: GeneralModel, sources: tuple[Modality, ...], start: int) -> NDArray[np.float32]:
    rows = np.arange(start, min(start + ITEMS, len(sources[0].missing)))
    return general.embed(model, features.rows_of(sources, rows), device="cpu")


def retrieve_there(
    index: Index, rows: NDArray[np.int64], *, request: Query, facts: Attributes | None = None
) -> Iterator[TopK]:
    """Answer as ``retrieve`` does, in the same blocks; the index goes to each node once."""
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    return in_order(partial(_answer, index, request, facts), blocks)


def _answer(
    index: Index, request: Query, facts: Attributes | None, rows: NDArray[np.int64]
) -> TopK:
    return next(search(index, rows, request=request, facts=facts))


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
