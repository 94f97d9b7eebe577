"""Memory that one step of a loss takes, in a process of its own."""

import resource

import torch
from torch import Tensor

from undersong.losses import MultiSimilarity, cosine, multi_similarity

SETTINGS = MultiSimilarity()
WIDTH = 256


def groups_of_eight(n: int) -> tuple[Tensor, Tensor]:
    """Vectors of n items in groups of eight, (n, WIDTH) with a gradient, and their groups, (n,)."""
    torch.manual_seed(0)
    label = torch.arange(n) % (n // 8)
    vectors = torch.randn(n // 8, WIDTH)[label] + 1.5 * torch.randn(n, WIDTH)
    return vectors.requires_grad_(), label


def of_undersong(n: int) -> float:
    """MiB that Multi-Similarity adds, forward and backward, with the pairs that it is given."""
    given, label = groups_of_eight(n)
    before = _peak()
    related = label[:, None] == label
    e = torch.nn.functional.normalize(given, dim=1)
    multi_similarity(cosine(e), related, ~related, SETTINGS).backward()
    return _peak() - before


def of_metric_learning(n: int) -> float:
    """MiB that its Multi-Similarity loss with its miner adds, forward and backward."""
    from pytorch_metric_learning.losses import MultiSimilarityLoss
    from pytorch_metric_learning.miners import MultiSimilarityMiner

    given, label = groups_of_eight(n)
    miner = MultiSimilarityMiner(epsilon=SETTINGS.margin)
    loss = MultiSimilarityLoss(alpha=SETTINGS.alpha, beta=SETTINGS.beta, base=SETTINGS.gamma)
    before = _peak()
    e = torch.nn.functional.normalize(given, dim=1)
    loss(e, label, miner(e, label)).backward()
    return _peak() - before


OF_LOSS = {"undersong": of_undersong, "pytorch-metric-learning": of_metric_learning}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
