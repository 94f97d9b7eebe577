"""The network that weighs evidence: one number per candidate (beyond the paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undersong.training import Schedule


@dataclass(frozen=True)
class RankingSettings:
    """How answers are ordered, and how that is learned.

    Parameters
    ----------
    folds : groups of linked training items whose relations are hidden to learn from; 0 for none
        For each a GRM is trained that never saw those relations, with a third of the steps. One
        more group, of items like those that nobody has linked, judges what was learned. With 0
        answers are ordered by the cosine of E_G alone, as in the paper.
    share : of the linked training items in each group, in (0, 0.5]
    candidates : so many likeliest items of each query are weighed; the others stand behind them
    hidden : neurons of each of two layers
    dropout : of those neurons, in [0, 1)
    blind : share of the lists that are learned without what relations tell, in [0, 1]
        So the network can also answer as if nobody were linked (the dial ``long_tail``).
    queries : lists a step
    """

    folds: int = 2
    share: float = 0.2
    candidates: int = 400
    hidden: int = 64
    dropout: float = 0.1
    blind: float = 0.3
    queries: int = 32
    training: Schedule = Schedule(
        steps=450,
        learning_rate=2e-3,
        weight_decay=1e-3,
        validate_every=75,
        patience=4,
        average=0.98,
        precision="float32",
    )

    def __post_init__(self) -> None:
        if self.folds < 0 or not 0 < self.share <= 0.5:
            raise ValueError("folds must be 0 or more and share in (0, 0.5]")
        if self.folds and (self.folds + 1) * self.share > 1:
            raise ValueError(
                f"{self.folds} folds of {self.share:g} of the training items, and one more to "
                "judge by, are more than all"
            )
        if min(self.candidates, self.hidden, self.queries) < 1:
            raise ValueError("candidates, hidden and queries must be 1 or more")
        if not (0 <= self.dropout < 1 and 0 <= self.blind <= 1):
            raise ValueError("dropout must be in [0, 1) and blind in [0, 1]")


class RankingModel(nn.Module):
    """A linear rule plus two layers: evidence in, one number per candidate out.

    It starts as the cosine of E_G alone. Columns are brought to mean 0 and deviation 1 first;
    ``mean`` and ``deviation``, (f,), are kept with the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, settings: RankingSettings) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.rule = nn.Linear(features + 1, 1)
        self.first = nn.Linear(features + 1, settings.hidden)
        self.second = nn.Linear(settings.hidden, settings.hidden)
        self.last = nn.Linear(settings.hidden, 1, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        nn.init.zeros_(self.rule.weight)
        nn.init.zeros_(self.rule.bias)
        nn.init.zeros_(self.last.weight)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Weigh candidates, (q, c, f) features and (f,) or (q, 1, f) bool hidden -> (q, c).

        A hidden column reads as its mean, and the network is told.
        """
        scaled = ((features - self.mean) / self.deviation).masked_fill(hidden, 0)
        any_hidden = hidden.any(dim=-1, keepdim=True).float().expand(*scaled.shape[:-1], 1)
        read = torch.cat([scaled, any_hidden], dim=-1)
        inner = self.dropout(torch.relu(self.first(read)))
        inner = self.dropout(torch.relu(self.second(inner)))
        scores: Tensor = self.rule(read) + self.last(inner)
        return scores.squeeze(-1)


def listwise(scores: Tensor, relevant: Tensor) -> Tensor:
    """Tell the relevant candidates of each list from all others.

    Mean over the lists of -ln of the share that the relevant ones have in the softmax, averaged
    over them.

    Parameters
    ----------
    scores : (q, c) float; -inf for an empty place
    relevant : (q, c) bool, at least one in each list

    Source
    ------
    Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007 (the
    top-one probability), with relevant candidates alike.
    """
    share = torch.log_softmax(scores, dim=1).masked_fill(~relevant, 0)
    return -(share.sum(dim=1) / relevant.sum(dim=1)).mean()
