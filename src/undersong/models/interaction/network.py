"""User-interaction representation model: UiRM, section 2.2, upper right of figure 3.

Flow:
    plays -> factors of the co-listening matrix P (n, d)
    generalised matrix factorisation: each dimension weighed, plus a hidden layer -> E_U (n, d)
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn

from undersong.losses import MultiSimilarity
from undersong.progress import Progress, silent, watched
from undersong.relations.colistening import SessionSettings
from undersong.settings import LATER
from undersong.training import Schedule

CONTEXT_POWER = 0.75  # evens out how often items are met by chance (Levy and Goldberg)
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

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal products
        products += 1  # how many it takes nobody knows before
        progress("UiRM, factors", products, max(8 * rank, products + 1))
        return np.asarray(information @ vector)

    matrix = LinearOperator(
        information.shape,
        matvec=product,
        rmatvec=information.T.dot,
        matmat=information.dot,
        rmatmat=information.T.dot,
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
