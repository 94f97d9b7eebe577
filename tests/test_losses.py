import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undersong.losses import (
    MultiRelationship,
    MultiSimilarity,
    cosine,
    informative,
    multi_relationship,
    multi_similarity,
)

# Mild on purpose: with a beta of 50 an easy negative weighs e**-60 and a wrong sign goes unseen.
MILD = {"alpha": 2.0, "beta": 3.0, "gamma": 0.1}


def batch(seed, *, n=12, width=5, groups=3):
    """Similarity, related and unrelated of n items; some pairs are in neither mask."""
    torch.manual_seed(seed)
    e = torch.nn.functional.normalize(torch.randn(n, width, dtype=torch.float64), dim=1)
    label = torch.arange(n) % groups
    related = label[:, None] == label[None, :]
    known = torch.rand(n, n) < 0.8
    known = known & known.T
    return e @ e.T, related & known, ~related & known


def pair_by_pair(similarity, related, unrelated, settings):
    """Equations 2 to 4 read aloud: one item, one pair at a time, max in equation 2."""
    total = 0.0
    for i in range(len(similarity)):
        rest = [j for j in range(len(similarity)) if j != i]
        positive = [similarity[i, j].item() for j in rest if related[i, j]]
        negative = [similarity[i, j].item() for j in rest if unrelated[i, j]]
        if settings.margin >= 0:
            hardest, easiest = max(negative, default=-math.inf), min(positive, default=math.inf)
            positive = [x for x in positive if x < hardest + settings.margin]
            negative = [x for x in negative if x > easiest - settings.margin]
        pull = sum(math.exp(-settings.alpha * (x - settings.gamma)) for x in positive)
        push = sum(math.exp(settings.beta * (x - settings.gamma)) for x in negative)
        total += math.log(1 + pull) / settings.alpha + math.log(1 + push) / settings.beta
    return total / len(similarity)


@pytest.mark.parametrize("margin", [-1, 0.0, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_equations(seed, margin):
    settings = MultiSimilarity(**MILD, margin=margin)
    loss = multi_similarity(*batch(seed), settings)
    assert loss.item() == pytest.approx(pair_by_pair(*batch(seed), settings))


def test_the_final_loss_is_known_plus_weighted_prior():
    similarity, related, unrelated = batch(3)
    _, consistent, inconsistent = batch(4, groups=4)
    settings = MultiRelationship(
        MultiSimilarity(**MILD, margin=0.2), MultiSimilarity(1.5, 2.5, 0.3, -1), 0.7
    )
    loss = multi_relationship(
        similarity,
        related=related,
        unrelated=unrelated,
        consistent=consistent,
        inconsistent=inconsistent,
        settings=settings,
    )
    known = pair_by_pair(similarity, related, unrelated, settings.known)
    prior = pair_by_pair(similarity, consistent, inconsistent, settings.prior)
    assert loss.item() == pytest.approx(known + 0.7 * prior)


def test_an_item_without_relations_is_no_anchor_of_the_known_loss():
    similarity, related, unrelated = batch(0)
    related[0] = related[:, 0] = False
    similarity.requires_grad_()
    multi_similarity(similarity, related, unrelated, MultiSimilarity(**MILD)).backward()
    assert not similarity.grad[0].any()
    assert similarity.grad.isfinite().all()
    assert similarity.grad[1:].any()


def test_an_item_without_relations_learns_from_the_prior_loss():
    similarity, related, unrelated = batch(0)
    related[0] = related[:, 0] = False
    consistent = torch.zeros_like(related)
    consistent[0, 5] = consistent[5, 0] = True
    similarity.requires_grad_()
    multi_relationship(
        similarity,
        related=related,
        unrelated=unrelated,
        consistent=consistent,
        inconsistent=torch.zeros_like(related),
        settings=MultiRelationship(),
    ).backward()
    assert similarity.grad[0, 5] < 0


def test_an_unknown_pair_has_no_part():
    similarity, related, unrelated = batch(1)
    related[2, 7] = related[7, 2] = unrelated[2, 7] = unrelated[7, 2] = False
    before = multi_similarity(similarity, related, unrelated, MultiSimilarity(**MILD))
    similarity[2, 7] = similarity[7, 2] = 0.99
    after = multi_similarity(similarity, related, unrelated, MultiSimilarity(**MILD))
    assert before.item() == after.item()


def test_equation_2_as_printed_mines_nothing_once_groups_hold_together():
    torch.manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(8, 32), dim=1)
    e = torch.nn.functional.normalize(centre.repeat(6, 1) + 0.22 * torch.randn(48, 32), dim=1)
    similarity, label = e @ e.T, torch.arange(48) % 8
    others = ~torch.eye(48, dtype=torch.bool)
    related = (label[:, None] == label) & others
    unrelated = (label[:, None] != label) & others
    printed = similarity < similarity.masked_fill(~unrelated, math.inf).amin(1, True) + 0.1
    kept, _ = informative(similarity, related, unrelated, 0.1)
    assert (printed & related).sum() == 0
    assert kept.sum() > 0.5 * related.sum()


def test_agrees_with_pytorch_metric_learning():
    from pytorch_metric_learning.losses import MultiSimilarityLoss
    from pytorch_metric_learning.miners import MultiSimilarityMiner

    torch.manual_seed(1)
    e = torch.nn.functional.normalize(torch.randn(30, 8, dtype=torch.float64), dim=1)
    label = torch.arange(30) % 7
    theirs = MultiSimilarityLoss(alpha=2, beta=3, base=0.1)(
        e, label, MultiSimilarityMiner(epsilon=0.1)(e, label)
    )
    related = label[:, None] == label
    ours = multi_similarity(e @ e.T, related, ~related, MultiSimilarity(**MILD, margin=0.1))
    assert ours.item() == pytest.approx(theirs.item())


@given(st.permutations(range(12)))
def test_the_order_of_items_does_not_matter(order):
    similarity, related, unrelated = batch(2)
    settings = MultiSimilarity(**MILD)
    shuffled = [x[order][:, order] for x in (similarity, related, unrelated)]
    assert multi_similarity(*shuffled, settings).item() == pytest.approx(
        multi_similarity(similarity, related, unrelated, settings).item()
    )


def test_no_pair_costs_nothing():
    similarity, related, _ = batch(0)
    nothing = torch.zeros_like(related)
    assert multi_similarity(similarity, nothing, nothing, MultiSimilarity()).item() == 0


def test_refuses_matrices_of_two_shapes():
    similarity, related, unrelated = batch(0)
    with pytest.raises(ValueError, match=r"\(12, 12\), \(12,\), \(12, 12\)"):
        multi_similarity(similarity, related[0], unrelated, MultiSimilarity())


def test_cosine_is_computed_in_float32_under_bfloat16():
    e = torch.nn.functional.normalize(torch.randn(9, 33), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = e.bfloat16()
    torch.testing.assert_close(cosine(low), low.float() @ low.float().T)
    assert cosine(low).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, "alpha 0.0 and beta 50.0 must be above 0"),
        ({"margin": -0.5}, "margin -0.5 must be 0 or more, or -1"),
    ],
)
def test_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiSimilarity(**settings)


def test_refuses_mining_in_the_prior_loss():
    with pytest.raises(ValueError, match="leave its margin at -1"):
        MultiRelationship(prior=MultiSimilarity())
