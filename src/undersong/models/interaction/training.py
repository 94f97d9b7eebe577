"""From plays to E_U: factorise co-listening, then fine-tune on R_U (section 2.2)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import relations
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.losses import cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.models.interaction.network import InteractionModel, InteractionSettings, factorise
from undersong.progress import Progress, silent
from undersong.relations.colistening import shared_sessions
from undersong.training import distributed
from undersong.training.batches import anchors_with_partners
from undersong.training.loop import History, mixed_precision, train


@dataclass(frozen=True)
class Interaction:
    """E_U of the items that somebody plays, the trained model, and how training went."""

    embeddings: Embeddings
    model: InteractionModel
    outcome: History


def embed_interaction(
    catalogue: Catalogue,
    kind: Kind,
    parts: NDArray[np.str_],
    *,
    settings: InteractionSettings,
    seed: int,
    device: str,
    work: Path,
    progress: Progress = silent,
) -> Interaction | None:
    """Learn E_U of every item with plays; None where fewer than three items or users have any.

    Plays of all items are read, those of validation and test items too: listening is an input,
    only relations are what is asked for. When to stop is told by the relations R_A of the
    validation items (cold NDCG@200), since R_U itself says how well it is copied, not what it
    is good for. Where no relation is known nothing could tell: E_U is the plain factorisation.
    """
    plays = relations.listeners(catalogue, kind)
    heard = np.flatnonzero(plays.getnnz(axis=0) > 0)
    if min(len(heard), plays.shape[0]) < 3:
        return None
    plays = plays[:, heard]
    related = related_by_listening(catalogue, kind, heard, plays, settings)
    torch.manual_seed(seed)
    model = InteractionModel(factorise(plays, settings.width, seed=seed)).to(device)
    queries, truth = np.empty(0, dtype=np.int64), relations.known(catalogue, kind)
    if truth.nnz:
        queries, truth = relations.held_out(catalogue, kind, parts)
    asked = np.flatnonzero(np.isin(heard, queries))
    answers = truth[heard][:, heard].tocsr()
    asked = asked[answers[asked].getnnz(axis=1) > 0]
    judged, asked, answers = relations.among_some(asked, answers)

    def loss(generator: np.random.Generator) -> Tensor:
        rows = anchors_with_partners(generator, related, anchors=settings.batch, partners=1)
        positive = torch.from_numpy(relations.block(related, rows)).to(device)
        with mixed_precision(settings.training, device):
            embedded = model(torch.from_numpy(rows[distributed.shard(len(rows))]).to(device))
        embedded = distributed.all_gather(embedded.float(), len(rows))
        return multi_similarity(cosine(embedded), positive, ~positive, settings.loss)

    def validate(now: nn.Module) -> float:
        return cold_ndcg(_vectors(now, judged, device), asked, answers)

    outcome = History()
    if related.nnz and len(asked):
        outcome = train(
            model,
            loss=loss,
            validate=validate,
            schedule=settings.training,
            seed=seed,
            checkpoint=work / f"interaction.{kind}.safetensors",
            stage="UiRM",
            progress=progress,
        )
    ids = catalogue.ids(kind)
    vectors = _vectors(model.eval(), np.arange(len(heard)), device)
    return Interaction(Embeddings(tuple(ids[row] for row in heard), vectors), model, outcome)


def related_by_listening(
    catalogue: Catalogue,
    kind: Kind,
    heard: NDArray[np.int64],
    plays: sparse.csr_matrix,
    settings: InteractionSettings,
) -> sparse.csr_matrix:
    """R_U of the items that somebody plays: by listeners in common, or by sessions."""
    if not settings.sessions:
        return relations.shared_listeners(plays, threshold=settings.threshold, top=settings.top)
    if catalogue.listens is None:
        raise DataError(
            "a catalogue in memory keeps no listens; set [interaction] sessions = false"
        )
    ids = catalogue.ids(kind)
    return shared_sessions(
        catalogue.listens,
        kind,
        [ids[row] for row in heard],
        settings=settings.session,
        top=settings.top,
    )


@torch.no_grad()
def _vectors(model: nn.Module, rows: NDArray[np.int64], device: str) -> NDArray[np.float32]:
    embedded: Tensor = model(torch.from_numpy(rows).to(device))
    return embedded.float().cpu().numpy()
