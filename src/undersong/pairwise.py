"""Losses that may stand in for equation 4, to compare with it: tensors in, tensors out.

Each reads a similarity matrix and which pairs are related or unrelated, as ``undersong.losses``
does. The diagonal is ignored, and so is an unknown pair, which is neither. Each is a mean over
the items that have something to be compared, and 0 without any.
"""

import torch
from torch import Tensor


def contrastive(similarity: Tensor, related: Tensor, unrelated: Tensor, *, margin: float) -> Tensor:
    """Pull related items to a cosine of 1, push unrelated ones below ``margin``.

    For each item the mean of ``1 - similarity`` over its related ones, and the mean of what
    unrelated ones have above the margin, over those that have any.

    Source
    ------
    Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR
    2006, with cosine in place of distance.
    """
    related, unrelated = _others(related), _others(unrelated)
    excess = torch.relu(similarity - margin) * unrelated
    above = (excess > 0).sum(dim=1)
    pull = _mean((1 - similarity) * related, related.sum(dim=1))
    return pull + _mean(excess, above)


def triplet(similarity: Tensor, related: Tensor, unrelated: Tensor, *, margin: float) -> Tensor:
    """Ask of a related item to be ``margin`` more similar than a semi-hard unrelated one.

    That is the most similar unrelated item that is less similar than the related one already;
    where there is none, the least similar of all. Each item averages over its related ones.

    Source
    ------
    Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, section 3.2, with cosine in place of
    distance.
    """
    related, unrelated = _others(related), _others(unrelated)
    related = related & unrelated.any(dim=1, keepdim=True)
    anchor, positive = related.nonzero(as_tuple=True)
    if not len(anchor):
        return similarity.sum() * 0
    near = similarity[anchor, positive][:, None]  # (p, 1)
    wrong = similarity.masked_fill(~unrelated, torch.inf)[anchor]  # (p, n)
    below = wrong.masked_fill(wrong >= near, -torch.inf).amax(dim=1)
    chosen = torch.where(below.isinf(), wrong.amin(dim=1), below)
    cost = torch.relu(chosen - near[:, 0] + margin)
    table = torch.zeros_like(similarity).index_put((anchor, positive), cost)
    return _mean(table, related.sum(dim=1))


def info_nce(
    similarity: Tensor, related: Tensor, unrelated: Tensor, *, temperature: float
) -> Tensor:
    """Tell each item's related items from all others whose relation is known.

    Mean, over the items with something related, of -ln of the share that their related items
    have in the softmax, averaged over the related items.

    Source
    ------
    van den Oord et al. 2018, with several positives as in Khosla et al., Supervised Contrastive
    Learning, NeurIPS 2020, equation 2.
    """
    related, known = _others(related), _others(related | unrelated)
    logits = (similarity / temperature).masked_fill(~known, -torch.inf)
    share = torch.log_softmax(logits, dim=1).masked_fill(~related, 0)
    return _mean(-share, related.sum(dim=1))


def _others(pairs: Tensor) -> Tensor:
    return pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)


def _mean(costs: Tensor, count: Tensor) -> Tensor:
    """Average each row over ``count`` cells, then the rows that have any; 0 without such a row."""
    each = costs.sum(dim=1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
