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
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from undersong.losses import MultiSimilarity
from undersong.training import Schedule


@dataclass(frozen=True)
class InteractionSettings:
    """What the paper leaves open about UiRM; see docs/choices.md.

    Parameters
    ----------
    width : of E_U
    threshold : R_U asks for at least so many shared users; 1 for no threshold
    top : R_U relates each item to so many items that share most users; 0 for no limit
    batch : anchors a step; each brings one related item
    """

    width: int = 64
    threshold: int = 5
    top: int = 20
    batch: int = 512
    loss: MultiSimilarity = field(default=MultiSimilarity(alpha=2, beta=20, gamma=0.5, margin=0.1))
    training: Schedule = field(
        default=Schedule(steps=200, learning_rate=1e-3, validate_every=20, patience=4)
    )

    def __post_init__(self) -> None:
        if min(self.width, self.threshold, self.batch) < 1 or self.top < 0:
            raise ValueError("width, threshold and batch must be 1 or more, top 0 or more")
        if self.threshold == 1 and self.top == 0:
            raise ValueError("threshold 1 with top 0 relates all items that share a user")


def factorise(plays: sparse.csr_matrix, width: int, *, seed: int) -> NDArray[np.float32]:
    """Factor the co-listening matrix of items, (users, n) plays -> (n, d).

    The inner product of two factors approximates the cosine of the two items' listeners: users
    shared over the root of the product of their numbers, plays damped by the logarithm. Computed
    as the singular vectors of the users-items matrix, so co-listening is never written out.
    ``d`` is ``width`` or, of a smaller table, one less than its shorter side.
    """
    damped = plays.copy().astype(np.float64)
    damped.data = np.log1p(damped.data)
    per_user = np.sqrt(np.asarray(damped.multiply(damped).sum(axis=1)).ravel())
    damped = sparse.diags(1 / np.maximum(per_user, 1e-12)) @ damped
    per_item = np.sqrt(np.asarray(damped.multiply(damped).sum(axis=0)).ravel())
    damped = damped @ sparse.diags(1 / np.maximum(per_item, 1e-12))
    rank = min(width, min(damped.shape) - 1)
    start = np.random.default_rng(seed).standard_normal(min(damped.shape))
    _, values, items = svds(damped, k=rank, v0=start)
    order = np.argsort(-values)
    return np.ascontiguousarray((items[order] * values[order, None]).T, dtype=np.float32)


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
