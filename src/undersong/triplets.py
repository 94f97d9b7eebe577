"""Triplet loss with negatives drawn by distance, the graph network's loss: tensors in and out."""

import torch
from torch import Tensor


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of every pair of unit vectors, (m, d), (n, d) -> (m, n) in [0, 2]."""
    return (2 - 2 * a.float() @ b.float().T).clamp(min=1e-6).sqrt()


def draw_negatives(
    distance: Tensor, related: Tensor, *, width: int, nearest: float
) -> tuple[Tensor, Tensor]:
    """Draw a wrong answer for each anchor, so that near and far ones come as often.

    Unit vectors of many dimensions are nearly all the root of 2 apart: a uniform draw shows next
    to nothing else. The chance of an item is 1 over the density of its distance among random unit
    vectors. Items nearer than ``nearest`` or farther than the root of 2 count as so far; without
    that the nearest, often mistakes in the data, and the farthest would be all that is drawn.

    Parameters
    ----------
    distance, related : (m, n) float and bool, anchors by items; related ones are never drawn
    width : d of the vectors, 3 or more for the formula

    Returns
    -------
    (m,) int, item of each anchor, and (m,) bool, whether there was any to draw

    Source
    ------
    Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, section 3.
    """
    d = max(width, 3)
    squared = distance.detach().clamp(nearest, 2**0.5).square()
    rarity = -(d - 2) / 2 * squared.log() - (d - 3) / 2 * (1 - squared / 4).log()
    rarity = rarity.masked_fill(related, -torch.inf)
    possible = ~related.all(dim=1)
    rarity[~possible] = 0
    return torch.multinomial(torch.softmax(rarity, dim=1), 1).squeeze(1), possible


def triplet(
    anchors: Tensor,
    positives: Tensor,
    items: Tensor,
    related: Tensor,
    *,
    margin: float,
    nearest: float,
) -> Tensor:
    """Mean over pairs of how far the wrong answer is from being ``margin`` farther than the right.

    ``max(0, margin + distance(anchor, positive) - distance(anchor, negative))``; 0 if no anchor
    has a negative.

    Parameters
    ----------
    anchors, positives : (m, d) unit vectors of related items
    items : (n, d) unit vectors that negatives are drawn from
    related : (m, n) bool, items that are no negative of the anchor, itself among them
    """
    distance = distances(anchors, items)
    negative, possible = draw_negatives(distance, related, width=anchors.shape[1], nearest=nearest)
    far = distance.gather(1, negative[:, None]).squeeze(1)
    near = (2 - 2 * (anchors * positives).sum(dim=1)).clamp(min=1e-6).sqrt()
    cost = torch.relu(margin + near - far) * possible
    return cost.sum() / possible.sum().clamp(min=1)
