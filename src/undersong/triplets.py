"""Triplet loss with negatives drawn by distance, the graph network's loss: tensors in and out."""

import torch
from torch import Tensor


def draw_negatives(
    anchors: Tensor, items: Tensor, related: Tensor, *, nearest: float
) -> tuple[Tensor, Tensor]:
    """Draw a wrong answer for each anchor, so that near and far ones come as often.

    Unit vectors of many dimensions are nearly all the root of 2 apart: a uniform draw shows next
    to nothing else. The chance of an item is 1 over the density of its distance among random unit
    vectors. Items nearer than ``nearest`` or farther than the root of 2 count as so far; without
    that the nearest, often mistakes in the data, and the farthest would be all that is drawn.

    Parameters
    ----------
    anchors, items : (m, d) and (n, d) unit vectors; below 3 dimensions d counts as 3
    related : (m, n) bool, never drawn

    Returns
    -------
    (m,) int, item of each anchor, and (m,) bool, whether there was any to draw

    Source
    ------
    Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, section 3.
    """
    rarity = log_rarity(
        2 - 2 * anchors.detach().float() @ items.detach().float().T,
        d=anchors.shape[1],
        nearest=nearest,
    )
    rarity = rarity.masked_fill_(related, -torch.inf)
    # The largest of log weights plus Gumbel noise is a draw by weight.
    noise = -torch.empty_like(rarity).exponential_().log_()
    return (rarity + noise).argmax(dim=1), ~related.all(dim=1)


def log_rarity(squared: Tensor, *, d: int, nearest: float) -> Tensor:
    """Logarithm of 1 over the density of squared distances among unit vectors, but for a constant.

    The density is ``x ** (d - 2) * (1 - x ** 2 / 4) ** ((d - 3) / 2)`` at a distance x.
    """
    d = max(d, 3)
    squared = squared.clamp(nearest**2, 2)
    return (2 - d) / 2 * squared.log() - (d - 3) / 2 * (1 - squared / 4).log()


def triplet(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """Ask of each wrong answer to be ``margin`` farther than the right one, (m, d) each -> (m,).

    ``max(0, margin + distance(anchor, positive) - distance(anchor, negative))``, Euclidean.
    """
    return torch.relu(margin + _distance(anchors, positives) - _distance(anchors, negatives))


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # The root has no derivative at 0.
    return (a - b).square().sum(dim=1).clamp(min=1e-6).sqrt()
