"""From plays to E_U: factorise co-listening, then fine-tune on R_U (section 2.2)."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import relations
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.io.tensors import read_tensors, write_tensors
from undersong.losses import cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.models.interaction.network import InteractionModel, InteractionSettings, factorise
from undersong.progress import Progress, silent
from undersong.relations.colistening import shared_sessions
from undersong.training import (
    Compute,
    History,
    Task,
    all_gather,
    anchors_with_partners,
    mixed_precision,
    rank,
    shard,
    train,
)

FORMAT = 1  # of what training begins with


@dataclass(frozen=True)
class Interaction:
    """E_U of the items that somebody plays, the trained model, and the history of training."""

    embeddings: Embeddings
    model: InteractionModel
    outcome: History


def embed_interaction(
    task: Task, *, settings: InteractionSettings, compute: Compute
) -> Interaction | None:
    """Learn E_U of every item with plays; None if fewer than three items or users have any.

    Plays of all items are read, also of validation and test items: plays are inputs, only
    relations are hidden. Training stops by the relations R_A of the validation items (cold
    NDCG@200): R_U would measure how well it is copied, not what it is good for. Without known
    relations there is nothing to stop by, and E_U is the plain factorisation. R_U and the factors
    lie among the checkpoints, so that what was interrupted goes on from them.
    """
    catalogue, kind, device = task.catalogue, task.kind, compute.device
    begun = _begin(task, settings=settings, compute=compute)
    if begun is None:
        return None
    played, related, factors = begun
    torch.manual_seed(compute.seed)
    model = InteractionModel(factors).to(device)

    queries, truth = np.empty(0, dtype=np.int64), task.related()
    if truth.nnz:
        queries, truth = task.held_out
    truth = truth[played][:, played].tocsr()
    queries = np.flatnonzero(np.isin(played, queries))
    queries = queries[truth[queries].getnnz(axis=1) > 0]
    candidates, queries, truth = relations.among_some(queries, truth)

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(generator, related, anchors=settings.batch, partners=1)
        positive = torch.from_numpy(relations.block(related, rows)).to(device)
        with mixed_precision(settings.training, device):
            embedded = model(torch.from_numpy(rows[shard(len(rows))]).to(device))
        embedded = all_gather(embedded.float(), len(rows))
        return multi_similarity(cosine(embedded), positive, positive == 0, settings.loss)

    def validate(current: nn.Module) -> float:
        return cold_ndcg(_vectors(current, candidates, device), queries, truth)

    history = History()
    if related.nnz and len(queries):
        history = train(
            model,
            loss=loss,
            validate=validate,
            schedule=settings.training,
            seed=compute.seed,
            checkpoint=compute.work / f"interaction.{kind}.safetensors",
            stage="UiRM",
            progress=compute.progress,
        )
    ids = catalogue.ids(kind)
    vectors = _vectors(model.eval(), np.arange(len(played)), device)
    return Interaction(Embeddings(tuple(ids[row] for row in played), vectors), model, history)


def _begin(
    task: Task, *, settings: InteractionSettings, compute: Compute
) -> tuple[NDArray[np.int64], sparse.csr_matrix, NDArray[np.float32]] | None:
    """Return rows of the items with plays, (m,), R_U among them, and the factors to begin with.

    None if they are too few. What an interrupted training left of that is read.
    """
    path, progress = compute.work / f"interaction.{task.kind}.begin.safetensors", compute.progress
    bound = json.dumps([asdict(settings), compute.seed, len(task.ids)], sort_keys=True)
    about, begun = read_tensors(path, version=FORMAT) if path.exists() else ({}, {})
    if about.get("bound") != bound:
        begun = {}
    if "factors" not in begun:
        plays = relations.listeners(task.catalogue, task.kind, progress=progress)
        played = np.flatnonzero(plays.getnnz(axis=0) > 0)
        if min(len(played), plays.shape[0]) < 3:
            return None
        plays = plays[:, played]
        if not begun:
            related = related_by_listening(task, played, plays, settings, progress=progress)
            begun = {"played": played, "indices": related.indices, "indptr": related.indptr}
            begun["scores"] = related.data
            _keep(path, begun, bound)
        factors = factorise(plays, settings.width, seed=compute.seed, progress=progress)
        begun = {**begun, "factors": factors}
        _keep(path, begun, bound)
    cells, many = begun["indices"], len(begun["played"])
    parts = (begun["scores"], cells, begun["indptr"])
    return begun["played"], sparse.csr_matrix(parts, shape=(many, many)), begun["factors"]


def _keep(path: Path, arrays: dict[str, NDArray[Any]], bound: str) -> None:
    if rank() == 0:  # of several processes that train together, each computes the same
        write_tensors(path, arrays, version=FORMAT, about={"bound": bound})


def related_by_listening(
    task: Task,
    played: NDArray[np.int64],
    plays: sparse.csr_matrix,
    settings: InteractionSettings,
    *,
    progress: Progress = silent,
) -> sparse.csr_matrix:
    """Return R_U of the items in rows ``played``: by shared listeners, or by shared sessions.

    Its pairs are True, or scores if the settings say ``graded``.
    """
    if settings.graded:
        plain = replace(settings, graded=False)
        related = related_by_listening(task, played, plays, plain, progress=progress)
        return relations.listening_scores(related, plays, threshold=settings.threshold)
    if not settings.sessions:
        return relations.shared_listeners(
            plays, threshold=settings.threshold, top=settings.top, progress=progress
        )
    listens, ids = task.catalogue.listens, task.catalogue.ids(task.kind)
    if listens is None:
        raise DataError(
            "a catalogue in memory keeps no listens; set [interaction] sessions = false"
        )
    items = [ids[row] for row in played]
    return shared_sessions(listens, task.kind, items, settings=settings.session, top=settings.top)


@torch.no_grad()
def _vectors(model: nn.Module, rows: NDArray[np.int64], device: str) -> NDArray[np.float32]:
    embedded: Tensor = model(torch.from_numpy(rows).to(device))
    return embedded.float().cpu().numpy()
