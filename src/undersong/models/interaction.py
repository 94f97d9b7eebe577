"""User-interaction representation model: UiRM, section 2.2, upper right of figure 3.

Flow:
    plays -> factors of the co-listening matrix P (n, d)
    generalised matrix factorisation: each dimension weighed, plus a hidden layer -> E_U (n, d)
"""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn

from undersong import relations
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.io.tensors import read_tensors, write_tensors
from undersong.losses import MultiSimilarity, cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.progress import Progress, silent, watched
from undersong.relations import Task
from undersong.relations.colistening import SessionSettings, shared_sessions
from undersong.settings import LATER
from undersong.training import (
    Compute,
    History,
    Schedule,
    all_gather,
    anchors_with_partners,
    mixed_precision,
    rank,
    shard,
    train,
)

CONTEXT_POWER = 0.75  # evens out how often items are met by chance (Levy and Goldberg)
AT_ONCE = 8  # vectors that are multiplied together
STRONGEST = 2048  # co-listened items of each item that the factorisation sees
CELLS = 2**26  # of all items together, at most: of more than 32,768 each shows fewer


@dataclass(frozen=True)
class InteractionSettings:
    """What the paper leaves open about UiRM; see docs/choices.md.

    Parameters
    ----------
    width : of E_U
    threshold : users that two items share at least in R_U; 1 for no threshold
    top : items that share most users, to which R_U relates each item; 0 for no limit
    batch : anchors a step; each brings one related item
    sessions : whether R_U relates items of the same sessions, instead of the same users; then
        ``session`` applies and ``threshold`` does not
    graded : whether a pair of R_U counts by its score (``relations.listening_scores``), which
        joins ``threshold`` and ``top``; else all count alike
    """

    width: int = 64
    threshold: int = 1
    top: int = 20
    batch: int = 512
    sessions: bool = False
    graded: bool = field(default=False, metadata=LATER)
    session: SessionSettings = field(default=SessionSettings())
    loss: MultiSimilarity = field(
        default=MultiSimilarity(alpha=2.0, beta=20.0, gamma=0.5, margin=0.1)
    )
    training: Schedule = field(
        default=Schedule(
            steps=120, learning_rate=2e-4, weight_decay=0.0, validate_every=20, patience=3
        )
    )

    def __post_init__(self) -> None:
        if min(self.width, self.threshold, self.batch) < 1 or self.top < 0:
            raise ValueError("width, threshold and batch must be 1 or more, top 0 or more")
        if self.threshold == 1 and self.top == 0:
            raise ValueError("threshold 1 with top 0 relates all items that share a user")


def factorise(
    plays: sparse.csr_matrix, width: int, *, seed: int, progress: Progress = silent
) -> NDArray[np.float32]:
    """Factor the co-listening matrix of items, (users, n) plays -> (n, d).

    The matrix holds the positive pointwise mutual information of two items: the logarithm of how
    many more users they share than chance would have it, where the chance of an item is its
    number of shared users to the power .75. The factors are its singular vectors times the
    singular values. ``d`` is ``width`` or, of few items, one less than their number.

    Source
    ------
    Levy and Goldberg, Neural word embedding as implicit matrix factorization (2014), without
    the shift, which does worse on our data (docs/choices.md).
    """
    information = _information(plays, progress=progress)
    rank = min(width, information.shape[0] - 1)
    start = np.random.default_rng(seed).standard_normal(information.shape[0])
    products = 0

    def product(matrix: sparse.spmatrix, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal products
        products += 1  # how many it takes nobody knows before
        progress("UiRM, factors", products, max(8 * rank, products + 1))
        return np.asarray(matrix @ vectors)

    def several(matrix: sparse.spmatrix, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Multiply many vectors some at a time: together those of very many items take minutes."""
        multiplied = np.empty((matrix.shape[0], vectors.shape[1]))
        for start in range(0, vectors.shape[1], AT_ONCE):
            some = slice(start, start + AT_ONCE)
            multiplied[:, some] = product(matrix, vectors[:, some])
        return multiplied

    matrix = LinearOperator(
        information.shape,
        matvec=partial(product, information),
        rmatvec=information.T.dot,
        matmat=partial(several, information),
        rmatmat=partial(several, information.T),
        dtype=information.dtype,
    )
    items, values, _ = svds(matrix, k=rank, v0=start)
    progress("UiRM, factors", products, products)
    order = np.argsort(-values)
    return np.ascontiguousarray(items[:, order] * values[order], dtype=np.float32)


def _information(
    plays: sparse.csr_matrix, *, block: int = 1024, progress: Progress = silent
) -> sparse.csr_matrix:
    """Positive pointwise mutual information of items, (n, n), the strongest of each row.

    Those are ``STRONGEST``. Of very many items there are ``CELLS`` in all, and the strongest have
    the largest information times shared users, which tells more of few (docs/scale.md).
    """
    by_user = (plays > 0).astype(np.float64).tocsr()
    heard = by_user.tocsc()
    n = heard.shape[1]
    limit = min(STRONGEST, max(1, CELLS // n))
    users = np.asarray(heard.sum(axis=0)).ravel()
    shared = heard.T @ np.asarray(heard.sum(axis=1)).ravel() - users  # with all other items
    context = shared**CONTEXT_POWER
    context *= shared.sum() / max(context.sum(), 1e-12)
    rows: list[sparse.csr_matrix] = []
    for first in watched(range(0, n, block), progress, "UiRM, co-listening"):
        counts = (heard[:, first : first + block].T @ by_user).tocsr()
        counts.sort_indices()
        cells = counts.tocoo()
        row = cells.row + first
        chance = shared[row] * context[cells.col]
        itself = row == cells.col
        chance[itself] = 1  # or it may be 0
        values = np.maximum(np.log(cells.data * shared.sum() / chance), 0)
        values[itself] = 0
        strength = values if limit == STRONGEST else values * cells.data
        counts.data = _strongest(values, strength, starts=counts.indptr, limit=limit)
        counts.eliminate_zeros()
        rows.append(counts)
    return sparse.vstack(rows).tocsr()


def _strongest(
    values: NDArray[np.float64],
    strength: NDArray[np.float64],
    *,
    starts: NDArray[np.int32],
    limit: int,
) -> NDArray[np.float64]:
    """Zero all but the strongest values of each row, so that memory grows with n, not n x n."""
    values = values.copy()
    for row in np.flatnonzero(np.diff(starts) > limit):
        cells = slice(starts[row], starts[row + 1])
        values[cells][strength[cells] < np.partition(strength[cells], -limit)[-limit]] = 0
    return values


class InteractionModel(nn.Module):
    """Neural generalised matrix factorisation (He et al. 2017) of the user-defined similarity.

    The similarity of items i and j is the cosine of ``weigh * P + hidden(P)``: a matrix
    factorisation whose dimensions are weighed, plus what a hidden layer finds in them. The
    factors learn too. It begins as the plain factorisation, since the hidden layer ends in zeros.
    """

    def __init__(self, factors: NDArray[np.float32]):
        """``factors`` is P from ``factorise``, (n, d)."""
        super().__init__()
        width = factors.shape[1]
        self.factors = nn.Parameter(torch.from_numpy(factors.copy()))
        self.weigh = nn.Parameter(torch.ones(width))
        last = nn.Linear(2 * width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.PReLU(), last)

    def forward(self, rows: Tensor) -> Tensor:
        """Embed items by their row in P, (n,) -> (n, d) unit vectors."""
        factors = F.normalize(self.factors[rows], dim=1)
        return F.normalize(self.weigh * factors + self.hidden(factors), dim=1)


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
