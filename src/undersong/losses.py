"""Losses (section 2.4, equations 2 to 5): tensors in, tensors out.

A loss reads how similar the model finds each pair and which pairs are related or unrelated. A
pair that is neither is unknown and costs nothing. No loss knows which model made the matrix.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MultiSimilarity:
    """Hyper-parameters of equation 4; defaults are the start values of Wang et al. (2019).

    Parameters
    ----------
    alpha, beta : sharpness for related and for unrelated pairs, > 0, per unit of cosine
    gamma : cosine around which a pair starts to cost
    margin : delta of equations 2 and 3, cosine; -1 turns mining off and keeps every pair
    """

    alpha: float = 2.0
    beta: float = 50.0
    gamma: float = 0.5
    margin: float = 0.1

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.beta <= 0:
            raise ValueError(f"alpha {self.alpha} and beta {self.beta} must be above 0")
        if self.margin < 0 and self.margin != -1:
            raise ValueError(f"margin {self.margin} must be 0 or more, or -1 for no mining")


@dataclass(frozen=True)
class MultiRelationship:
    """Equation 5: the loss on known relations plus ``prior_weight`` (lambda) times the prior."""

    known: MultiSimilarity = field(default=MultiSimilarity())
    prior: MultiSimilarity = field(
        default=MultiSimilarity(alpha=2.0, beta=10.0, gamma=0.5, margin=-1.0)
    )
    prior_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.prior_weight < 0:
            raise ValueError(f"prior_weight {self.prior_weight} must be 0 or more")
        if self.prior.margin != -1:
            raise ValueError("the prior loss takes every pair: leave its margin at -1")


def cosine(embeddings: Tensor) -> Tensor:
    """Similarity f of every pair of unit vectors, (n, d) -> (n, n) float32 in [-1, 1]."""
    exact = embeddings.float()
    return exact @ exact.T


def multi_similarity(
    similarity: Tensor, related: Tensor, unrelated: Tensor, settings: MultiSimilarity
) -> Tensor:
    """Pull related items together and push unrelated ones apart (equations 2 to 4).

    Parameters
    ----------
    similarity : (n, n) float
        Cosine of every pair. The diagonal is ignored.
    related, unrelated : (n, n) bool
        Pairs known to be similar, and pairs taken for dissimilar. A pair in neither is unknown
        and has no part. A pair in both is a mistake of the caller.

    Returns
    -------
    () float, mean over the n items
        0 when no pair is kept. With mining, an item without a related one in the batch adds
        nothing (decision: the long tail learns from the prior loss alone); so does one without
        an unrelated item.

    Raises
    ------
    ValueError
        If the matrices are not square or not of one shape; broadcasting would hide it.

    Source
    ------
    Wang et al., Multi-Similarity Loss, CVPR 2019. Equation 2 of the paper prints ``min`` over
    unrelated pairs; Wang et al. take ``max``, as here: with ``min`` mining keeps next to nothing.
    """
    n = len(similarity)
    shapes = [tuple(x.shape) for x in (similarity, related, unrelated)]
    if shapes != [(n, n)] * 3:
        raise ValueError(
            f"similarity, related and unrelated must be one square shape, got {shapes}"
        )
    others = ~torch.eye(n, dtype=torch.bool, device=similarity.device)
    positive, negative = related & others, unrelated & others
    if settings.margin >= 0:
        positive, negative = informative(similarity, positive, negative, settings.margin)
    pull = _log_one_plus_sum_exp(settings.alpha * (settings.gamma - similarity), positive)
    push = _log_one_plus_sum_exp(settings.beta * (similarity - settings.gamma), negative)
    return (pull / settings.alpha + push / settings.beta).mean()


def informative(
    similarity: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Keep the pairs that rank on the wrong side of the margin (equations 2 and 3).

    A related pair stays when it is less similar than the most similar unrelated one plus the
    margin; an unrelated pair when it is more similar than the least similar related one minus
    the margin. An item without related or without unrelated pairs keeps none.
    """
    inf = float("inf")
    hardest = similarity.masked_fill(~negative, -inf).amax(dim=1, keepdim=True)
    easiest = similarity.masked_fill(~positive, inf).amin(dim=1, keepdim=True)
    return positive & (similarity < hardest + margin), negative & (similarity > easiest - margin)


def multi_relationship(
    similarity: Tensor,
    *,
    related: Tensor,
    unrelated: Tensor,
    consistent: Tensor,
    inconsistent: Tensor,
    settings: MultiRelationship,
) -> Tensor:
    """L_MR, the loss of GRM (equation 5): known relations plus the weighted prior, (n, n) each.

    ``consistent`` and ``inconsistent`` are R_P: same or different genre, region and popularity.
    The prior takes every pair, without mining, so an item that nobody has linked learns too.
    """
    loss = multi_similarity(similarity, related, unrelated, settings.known)
    if settings.prior_weight == 0:
        return loss
    prior = multi_similarity(similarity, consistent, inconsistent, settings.prior)
    return loss + settings.prior_weight * prior


def _log_one_plus_sum_exp(logits: Tensor, keep: Tensor) -> Tensor:
    """``log(1 + sum of exp(logits))`` over the kept entries of each row, (n, n) -> (n,)."""
    logits = logits.masked_fill(~keep, float("-inf"))
    return torch.logsumexp(F.pad(logits, (1, 0)), dim=1)  # the padded zero is the 1
