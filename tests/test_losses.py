import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings as settings_of_examples, strategies as st

from undersong import losses, products
from undersong.losses import (
    MultiRelationship,
    MultiSimilarity,
    cosine,
    graded_similarity,
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
    kept, hard = informative(similarity, related, unrelated, 0.1)
    printed, same = informative(similarity, related, unrelated, 0.1, printed=True)
    assert printed.sum() == 0
    assert torch.equal(same, hard)
    assert kept.sum() > 0.5 * related.sum()


def test_equation_2_as_printed_compares_with_the_least_similar_unrelated_item():
    similarity, related, unrelated = batch(2)
    unrelated[4] = False
    kept, _ = informative(similarity, related, unrelated, 0.4, printed=True)
    for i in range(12):
        negative = [similarity[i, j] for j in range(12) if unrelated[i, j]]
        for j in range(12):
            least = min(negative, default=-math.inf)
            assert kept[i, j] == (related[i, j] and similarity[i, j] < least + 0.4)
    assert kept.any()


@pytest.mark.parametrize(
    ("form", "alone"),
    [
        ("as printed", lambda *x: multi_similarity(*x, MultiSimilarity(**MILD), printed=True)),
        ("contrastive", lambda *x: losses.contrastive(*x, margin=0.2)),
        ("triplet", lambda *x: losses.triplet(*x, margin=0.2)),
        ("info-nce", lambda *x: losses.info_nce(*x, temperature=0.5)),
        ("entmax", lambda *x: losses.entmax(*x, temperature=0.5)),
    ],
)
def test_another_form_takes_the_place_of_equation_4_and_leaves_the_prior(form, alone):
    similarity, related, unrelated = batch(3)
    _, consistent, inconsistent = batch(4, groups=4)
    settings = MultiRelationship(
        known=MultiSimilarity(**MILD), form=form, margin=0.2, temperature=0.5, prior_weight=0.7
    )
    masks = {"consistent": consistent, "inconsistent": inconsistent}
    loss = multi_relationship(
        similarity, related=related, unrelated=unrelated, **masks, settings=settings
    )
    prior = multi_similarity(similarity, consistent, inconsistent, settings.prior)
    expected = alone(similarity, related, unrelated) + 0.7 * prior
    assert loss.item() == pytest.approx(expected.item())
    usual = dataclasses.replace(settings, form="multi-similarity")
    other = multi_relationship(
        similarity, related=related, unrelated=unrelated, **masks, settings=usual
    )
    assert loss.item() != pytest.approx(other.item())


def test_graded_weights_multiply_each_pair():
    similarity, *_ = batch(5)
    generator = torch.Generator().manual_seed(0)
    toward = torch.rand(12, 12, generator=generator, dtype=torch.float64)
    toward[2] = 0
    away = 1 - toward
    settings = MultiSimilarity(**MILD, margin=-1)
    total = 0.0
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        pull = sum(toward[i, j] * math.exp(-2 * (similarity[i, j] - 0.1)) for j in rest)
        push = sum(away[i, j] * math.exp(3 * (similarity[i, j] - 0.1)) for j in rest)
        total += math.log(1 + pull) / 2 + math.log(1 + push) / 3
    loss = graded_similarity(similarity, toward, away, settings)
    assert loss.item() == pytest.approx(total / 12)


def test_grades_of_0_and_1_are_the_paper_s_prior():
    similarity, related, unrelated = batch(6)
    settings = MultiSimilarity(**MILD, margin=-1)
    whole = multi_similarity(similarity, related, unrelated, settings)
    graded = graded_similarity(similarity, related.double(), unrelated.double(), settings)
    assert graded.item() == pytest.approx(whole.item())


@pytest.mark.parametrize("margin", [-1, 0.1])
def test_weights_count_related_pairs_in_the_sum_that_mining_keeps(margin):
    similarity, related, unrelated = batch(7)
    settings = MultiSimilarity(**MILD, margin=margin)
    weights = torch.rand(12, 12, dtype=torch.float64) * related
    whole = multi_similarity(similarity, related.double(), unrelated, settings)
    assert whole.item() == pytest.approx(
        multi_similarity(similarity, related, unrelated, settings).item()
    )
    positive, negative = related.clone(), unrelated.clone()
    positive.fill_diagonal_(False)
    negative.fill_diagonal_(False)
    if margin >= 0:
        positive, negative = informative(similarity, positive, negative, margin)
    total = 0.0
    for i in range(12):
        pull = sum(
            weights[i, j] * math.exp(-2 * (similarity[i, j] - 0.1))
            for j in range(12)
            if positive[i, j]
        )
        push = sum(math.exp(3 * (similarity[i, j] - 0.1)) for j in range(12) if negative[i, j])
        total += math.log(1 + pull) / 2 + math.log(1 + push) / 3
    loss = multi_similarity(similarity, weights, unrelated, settings)
    assert loss.item() == pytest.approx(total / 12)
    assert abs(loss.item() - whole.item()) > 0.01


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


@settings_of_examples(deadline=None)  # no clock decides
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "tripplet"}, "form 'tripplet'; did you mean 'triplet'"),
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"margin": 2.5}, r"margin 2.5 in \[-1, 2\]"),
    ],
)
def test_refuses_forms_that_do_not_exist_or_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiRelationship(**settings)


def test_refuses_mining_in_the_prior_loss():
    with pytest.raises(ValueError, match="leave its margin at -1"):
        MultiRelationship(prior=MultiSimilarity())


def plainly(similarity, related, unrelated, settings, *, printed=False):
    """Equation 4 on whole matrices, with the gradient that autograd finds."""
    others = ~torch.eye(len(similarity), dtype=torch.bool)
    positive, negative = related & others, unrelated & others
    if settings.margin >= 0:
        positive, negative = informative(
            similarity, positive, negative, settings.margin, printed=printed
        )
    total = 0
    for kept, sharpness, way in ((positive, settings.alpha, -1), (negative, settings.beta, 1)):
        logits = (way * sharpness * (similarity - settings.gamma)).masked_fill(~kept, -math.inf)
        logits = torch.cat([torch.zeros(len(logits), 1, dtype=logits.dtype), logits], dim=1)
        total = total + torch.logsumexp(logits, dim=1) / sharpness
    return total.mean()


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("margin", [-1, 0.1])
@pytest.mark.parametrize("sharpness", [3.0, 900.0])
def test_by_blocks_of_rows_the_gradient_is_the_same(monkeypatch, sharpness, margin, printed):
    monkeypatch.setattr("undersong.losses.PAIRS_AT_ONCE", 70)  # 5 rows of 14, then 4
    settings = MultiSimilarity(alpha=2.0, beta=sharpness, gamma=0.1, margin=margin)
    similarity, related, unrelated = batch(7, n=14)
    related[3] = related[:, 3] = False  # an item without related ones, and one without others
    unrelated[5] = unrelated[:, 5] = False
    found = []
    for way in (multi_similarity, plainly):
        given = similarity.clone().requires_grad_()
        loss = 3 * way(given, related, unrelated, settings, printed=printed)
        loss.backward()
        found.append((loss.detach(), given.grad))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][1].abs().max() > 0.01


def test_the_gradient_of_cosine_is_that_of_the_product():
    torch.manual_seed(0)
    e, upstream = torch.randn(11, 6, dtype=torch.float32), torch.randn(11, 11)
    found = []
    for way in (cosine, lambda x: x @ x.T):
        given = e.clone().requires_grad_()
        (way(given) * upstream).sum().backward()
        found.append(given.grad)
    torch.testing.assert_close(*found)


def test_float32_and_its_gradient_agree_with_pytorch_metric_learning_to_a_millionth():
    from pytorch_metric_learning.losses import MultiSimilarityLoss
    from pytorch_metric_learning.miners import MultiSimilarityMiner

    torch.manual_seed(2)
    label = torch.arange(330) % 47
    e = torch.randn(47, 23)[label] + torch.randn(330, 23)
    one, other = (e.clone().requires_grad_() for _ in range(2))
    theirs = MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    theirs = theirs(one, label, MultiSimilarityMiner(epsilon=0.1)(one, label))
    related = label[:, None] == label
    similarity = cosine(torch.nn.functional.normalize(other, dim=1))
    ours = multi_similarity(similarity, related, ~related, MultiSimilarity())
    theirs.backward()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="no oneDNN here")
@pytest.mark.parametrize(("inputs", "outputs"), [(5, 11), (11, 5)])
def test_by_onednn_a_linear_layer_and_its_gradients_are_the_same(monkeypatch, inputs, outputs):
    monkeypatch.setattr(products, "FEWEST", 1)
    torch.manual_seed(9)
    given = [torch.randn(7, 3, inputs), torch.randn(outputs, inputs), torch.randn(outputs)]
    upstream = torch.randn(7, 3, outputs)
    results = []
    for wide in (True, False):
        monkeypatch.setattr(products, "underrated", lambda wide=wide: wide)
        leaves = [x.clone().requires_grad_() for x in given]
        product = products.linear(*leaves)
        assert ("_Linear" in product.grad_fn.next_functions[0][0].name()) == wide
        product.backward(upstream)
        results.append([product.detach(), *(x.grad for x in leaves)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


def test_known_relations_and_the_prior_together_cost_what_they_cost_apart():
    similarity, related, unrelated = batch(5, n=13)
    _, consistent, inconsistent = batch(6, n=13, groups=4)
    settings = MultiRelationship(known=MultiSimilarity(**MILD), prior_weight=0.3)
    given = [similarity.clone().requires_grad_() for _ in range(2)]
    masks = {"consistent": consistent, "inconsistent": inconsistent}
    both = multi_relationship(
        given[0], related=related, unrelated=unrelated, settings=settings, **masks
    )
    apart = plainly(given[1], related, unrelated, settings.known)
    apart = apart + 0.3 * plainly(given[1], consistent, inconsistent, settings.prior)
    both.backward()
    apart.backward()
    torch.testing.assert_close(both.detach(), apart.detach())
    torch.testing.assert_close(given[0].grad, given[1].grad)
