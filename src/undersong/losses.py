"""Losses of GRM and its parts (section 2.4, equations 2 to 5): tensors in, tensors out.

A loss reads how similar the model finds each pair and which pairs are related or unrelated. A
pair that is neither is unknown and costs nothing. No loss knows which model made the matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from undersong.errors import nearest_known
from undersong.products import multiply

# Pairs that the loss looks at together on a CPU: so many stay in its cache from step to step.
PAIRS_AT_ONCE = 2**17
NEWTON_STEPS = 14  # to the threshold of 1.5-entmax; exact in float32 by then for 100,000 items
FORMS = ("multi-similarity", "as printed", "contrastive", "triplet", "info-nce", "entmax")


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
    """Equation 5: the loss on known relations plus ``prior_weight`` (lambda) times the prior.

    Parameters
    ----------
    known, prior : equation 4 on known relations, and on R_P
    prior_weight : lambda
    form : of the loss on known relations
        "multi-similarity" is equation 4 with the mining of Wang et al., "as printed" the same with
        equation 2 as the paper prints it. "contrastive", "triplet", "info-nce" and "entmax" take
        the place of equation 4 and leave ``known`` unread (``undersong.losses``).
    margin : cosine, of "contrastive" and "triplet"
    temperature : cosine, of "info-nce" and "entmax"
    """

    known: MultiSimilarity = field(default=MultiSimilarity())
    prior: MultiSimilarity = field(
        default=MultiSimilarity(alpha=2.0, beta=10.0, gamma=0.5, margin=-1.0)
    )
    prior_weight: float = 0.1
    form: str = "multi-similarity"
    margin: float = 0.3
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r}; {nearest_known(self.form, FORMS)}")
        if self.temperature <= 0 or not -1 <= self.margin <= 2:
            raise ValueError(
                f"temperature {self.temperature} must be above 0, margin {self.margin} in [-1, 2]"
            )
        if self.prior_weight < 0:
            raise ValueError(f"prior_weight {self.prior_weight} must be 0 or more")
        if self.prior.margin != -1:
            raise ValueError("the prior loss takes every pair: leave its margin at -1")


def cosine(embeddings: Tensor) -> Tensor:
    """Similarity f of every pair of unit vectors, (n, d) -> (n, n) float32 in [-1, 1]."""
    return _Cosine.apply(embeddings.float())  # type: ignore[no-any-return,no-untyped-call]


def multi_similarity(
    similarity: Tensor,
    related: Tensor,
    unrelated: Tensor,
    settings: MultiSimilarity,
    *,
    printed: bool = False,
) -> Tensor:
    """Pull related items together and push unrelated ones apart (equations 2 to 4).

    Parameters
    ----------
    similarity : (n, n) float
        Cosine of every pair. The diagonal is ignored.
    related, unrelated : (n, n) bool
        Pairs known to be similar, and pairs taken for dissimilar. A pair in neither is unknown
        and has no part. A pair in both is a mistake of the caller. ``related`` as float weighs each
        pair, from 0, unrelated or unknown, to 1.
    printed : mine by equation 2 as the paper prints it, for an ablation

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
    if related.is_floating_point():
        return _weighed(similarity, related, _others(unrelated), settings)
    return _summed(similarity, [_Term(related, unrelated, settings, printed=printed)])


def _weighed(
    similarity: Tensor, weights: Tensor, unrelated: Tensor, settings: MultiSimilarity
) -> Tensor:
    """Equation 4, each related pair that mining keeps as often in the sum as its weight says."""
    positive, negative = weights > 0, unrelated
    if settings.margin >= 0:
        mined = similarity.detach()
        positive, negative = informative(mined, positive, negative, settings.margin)
    return graded_similarity(similarity, weights * positive, negative.to(weights.dtype), settings)


def informative(
    similarity: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    *,
    printed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Keep the pairs that rank on the wrong side of the margin (equations 2 and 3).

    A related pair stays when it is less similar than the most similar unrelated one plus the
    margin; an unrelated pair when it is more similar than the least similar related one minus
    the margin. An item without related or without unrelated pairs keeps none.

    ``printed`` takes equation 2 literally: a related pair stays when it is less similar than the
    *least* similar unrelated one plus the margin, which next to none is.
    """
    easiest = torch.where(positive, similarity, torch.inf).amin(dim=1, keepdim=True)
    lowest = torch.where(negative, similarity, -torch.inf).amax(dim=1, keepdim=True)
    if printed:
        lowest = torch.where(negative, similarity, torch.inf).amin(dim=1, keepdim=True)
        lowest = lowest.masked_fill(lowest == torch.inf, -torch.inf)
    return positive & (similarity < lowest + margin), negative & (similarity > easiest - margin)


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
    The prior takes every pair, without mining, so an item that nobody has linked learns too. As
    float they are weights in [0, 1]: a pair may be both, more or less. ``related`` may be weights,
    too, in the form "multi-similarity".
    """
    mined = settings.form in FORMS[:2]
    graded = settings.prior_weight > 0 and consistent.is_floating_point()
    printed, weight = settings.form == "as printed", settings.prior_weight
    weighed = related.is_floating_point()
    terms = []
    if mined and not weighed:
        terms.append(_Term(related, unrelated, settings.known, printed=printed))
    if weight and not graded:
        terms.append(_Term(consistent, inconsistent, settings.prior, weight=weight))
    loss = _summed(similarity, terms) if terms else similarity.new_zeros(())
    if weighed:
        loss = loss + _weighed(similarity, related, _others(unrelated), settings.known)
    elif not mined:
        loss = loss + _of_form(similarity, related, unrelated, settings)
    if graded:
        loss = loss + weight * graded_similarity(
            similarity, consistent, inconsistent, settings.prior
        )
    return loss


def graded_similarity(
    similarity: Tensor, toward: Tensor, away: Tensor, settings: MultiSimilarity
) -> Tensor:
    """Equation 4 without mining, each pair weighed: pulled as ``toward``, pushed as ``away`` says.

    Parameters
    ----------
    similarity : (n, n) float, diagonal ignored
    toward, away : (n, n) float in [0, 1]; with only 0 and 1 this is ``multi_similarity``
    """
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)

    def side(sharpness: float, exponent: Tensor, weight: Tensor) -> Tensor:
        weighted = weight.masked_fill(itself, 0)
        logits = sharpness * exponent + weighted.clamp(min=torch.finfo(weighted.dtype).tiny).log()
        return _log_one_plus_sum_exp(logits, weighted > 0) / sharpness

    pull = side(settings.alpha, settings.gamma - similarity, toward)
    return (pull + side(settings.beta, similarity - settings.gamma, away)).mean()


def _of_form(
    similarity: Tensor, related: Tensor, unrelated: Tensor, settings: MultiRelationship
) -> Tensor:
    """Loss on known relations in a form that takes the place of equation 4."""
    if settings.form == "contrastive":
        return contrastive(similarity, related, unrelated, margin=settings.margin)
    if settings.form == "triplet":
        return triplet(similarity, related, unrelated, margin=settings.margin)
    if settings.form == "entmax":
        return entmax(similarity, related, unrelated, temperature=settings.temperature)
    return info_nce(similarity, related, unrelated, temperature=settings.temperature)


def _log_one_plus_sum_exp(logits: Tensor, keep: Tensor) -> Tensor:
    """``log(1 + sum of exp(logits))`` over the kept entries of each row, (n, n) -> (n,)."""
    logits = logits.masked_fill(~keep, float("-inf"))
    return torch.logsumexp(F.pad(logits, (1, 0)), dim=1)  # the padded zero is the 1


class _Cosine(torch.autograd.Function):
    """``e @ e.T``, whose gradient is one product instead of the two that autograd would do."""

    @staticmethod
    def forward(context: Any, embeddings: Tensor) -> Tensor:
        context.save_for_backward(embeddings)
        return multiply(embeddings, embeddings)

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> Tensor:
        embeddings: Tensor = context.saved_tensors[0]
        both = upstream.T.contiguous()  # a sum of the two as they lie would miss the cache
        both += upstream
        return multiply(both, embeddings.T)


@dataclass(frozen=True, eq=False)
class _Term:
    """Equation 4 on some pairs, (n, n) bool each, and how much it counts in a sum."""

    related: Tensor
    unrelated: Tensor
    settings: MultiSimilarity
    weight: float = 1.0
    printed: bool = False


def _summed(similarity: Tensor, terms: Sequence[_Term]) -> Tensor:
    n = len(similarity)
    for term in terms:
        shapes = [tuple(x.shape) for x in (similarity, term.related, term.unrelated)]
        if shapes != [(n, n)] * 3:
            raise ValueError(
                f"similarity, related and unrelated must be one square shape, got {shapes}"
            )
    return _MultiSimilarity.apply(similarity, terms)  # type: ignore[no-any-return,no-untyped-call]


class _MultiSimilarity(torch.autograd.Function):
    """Sum of equation 4 on several kinds of pairs, by blocks of rows, its gradient on the way.

    Autograd would keep a dozen matrices of all pairs for each; here there is one, the gradient.
    """

    @staticmethod
    def forward(context: Any, similarity: Tensor, terms: Sequence[_Term]) -> Tensor:
        n = len(similarity)
        rows = max(1, PAIRS_AT_ONCE // max(1, n)) if similarity.device.type == "cpu" else n
        slope = torch.empty_like(similarity) if context.needs_input_grad[0] else None
        losses = similarity.new_zeros(n)
        for start in range(0, n, rows):
            some = slice(start, start + rows)
            for place, term in enumerate(terms):
                loss, (parts, scale), (row, column, pull) = _some_rows(
                    similarity[some], start, term
                )
                losses[some] += term.weight * loss
                if slope is not None:
                    here, scale = slope[some], scale * (term.weight / n)
                    here.addcmul_(parts, scale) if place else torch.mul(parts, scale, out=here)
                    here.index_put_((row, column), pull * (term.weight / n), accumulate=True)
        if slope is not None:
            context.save_for_backward(slope)
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        (slope,) = context.saved_tensors
        return slope if upstream == 1 else slope * upstream, None


def _some_rows(
    similarity: Tensor, start: int, term: _Term
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Loss of the items from row ``start`` on, (r,), and its gradient by similarity, (r, n).

    The gradient is a product, (r, n) and (r, 1), plus numbers at some cells: unrelated pairs are
    nearly all, related ones a few of each item.
    """
    settings, some = term.settings, slice(start, start + len(similarity))
    row, column = term.related[some].nonzero(as_tuple=True)
    other = column != row + start  # no item is related or unrelated to itself
    row, column = row[other], column[other]
    apart = ~term.unrelated[some]
    apart.diagonal(start).fill_(True)
    near, far = similarity[row, column], torch.where(apart, -torch.inf, similarity)
    infinite = similarity.new_full((len(similarity),), torch.inf)
    easiest, hardest = infinite.scatter_reduce(0, row, near, "amin"), far.amax(dim=1)
    pulled = easiest.isfinite()
    if settings.margin >= 0:
        lowest = hardest
        if term.printed:
            lowest = torch.where(apart, torch.inf, similarity).amin(dim=1)
            lowest = lowest.masked_fill(lowest.isinf(), -torch.inf)
        below, above = lowest + settings.margin, easiest - settings.margin
        chosen = near < below[row]
        row, column, near = row[chosen], column[chosen], near[chosen]
        far = torch.where(far > above[:, None], far, -torch.inf)
        pulled, hardest = easiest < below, hardest.where(hardest > above, -torch.inf)
    # The largest exponent of each sum is subtracted, and is 0 where the sum holds the 1 alone.
    pull = (settings.alpha * (settings.gamma - easiest)).where(pulled, 0).clamp(min=0)
    push = (settings.beta * (hardest - settings.gamma)).clamp(min=0)
    related = torch.exp(settings.alpha * (settings.gamma - near) - pull[row])
    parts = far.mul_(settings.beta).sub_((settings.beta * settings.gamma + push)[:, None]).exp_()
    together = torch.exp(-pull).index_add(0, row, related)
    against = parts.sum(dim=1) + torch.exp(-push)
    loss = (together.log() + pull) / settings.alpha + (against.log() + push) / settings.beta
    return loss, (parts, 1 / against[:, None]), (row, column, -related / together[row])


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


def entmax(similarity: Tensor, related: Tensor, unrelated: Tensor, *, temperature: float) -> Tensor:
    """Tell each item's related items from all others by a sparse softmax, 1.5-entmax.

    Others that are clearly less similar have a share of exactly 0, and so no gradient. Mean, over
    the items with something related, of the Fenchel-Young loss: 0 where the related items have
    all of the share, in equal parts.

    Source
    ------
    Meehan and Pauwels, Sparse Contrastive Learning for Content-Based Cold Item Recommendation,
    2026 (SEMCo), with several positives; Blondel, Martins and Niculae, Learning with
    Fenchel-Young Losses, JMLR 2020.
    """
    anchors = _others(related).any(dim=1)
    if not anchors.any():
        return similarity.sum() * 0
    related, known = _others(related)[anchors], _others(related | unrelated)[anchors]
    logits = similarity[anchors] / temperature
    target = related / related.sum(dim=1, keepdim=True)
    share = _sparse_share(logits.detach().masked_fill(~known, -torch.inf))
    # By the envelope theorem the shares are constants here: the gradient is share - target.
    cost = (share - target) * logits + 4 / 3 * (target**1.5 - share**1.5)
    return cost.sum(dim=1).mean()


def _sparse_share(logits: Tensor) -> Tensor:
    """1.5-entmax of each row, (n, m) -> (n, m), sums of 1; what is -inf has 0."""
    half = (logits - logits.amax(dim=1, keepdim=True)) / 2
    threshold = torch.full_like(half[:, :1], -1)
    # A share is max(half - threshold, 0) squared. Their sum is convex and falls, so that Newton's
    # steps come from below, never too far; of n equal items they halve the way ln(n) / 2 times.
    for _ in range(NEWTON_STEPS):
        root = (half - threshold).clamp_(min=0)
        share = root.square()
        total = share.sum(dim=1, keepdim=True)
        threshold = threshold + (total - 1) / (2 * root.sum(dim=1, keepdim=True))
    return share / total


def _others(pairs: Tensor) -> Tensor:
    return pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)


def _mean(costs: Tensor, count: Tensor) -> Tensor:
    """Average each row over ``count`` cells, then the rows that have any; 0 without such a row."""
    each = costs.sum(dim=1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
