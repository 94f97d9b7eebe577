import math

import pytest
import torch

from undersong.losses import contrastive, entmax, info_nce, triplet


def batch(seed, *, n=13, width=6, groups=4):
    """Similarity and two masks; some pairs are unknown, item 3 has no relation, item 5 no other."""
    torch.manual_seed(seed)
    e = torch.nn.functional.normalize(torch.randn(n, width, dtype=torch.float64), dim=1)
    label = torch.arange(n) % groups
    same = label[:, None] == label[None, :]
    known = torch.rand(n, n) < 0.8
    known = known & known.T
    related, unrelated = same & known, ~same & known
    related[3] = related[:, 3] = False
    unrelated[5] = unrelated[:, 5] = False
    return e @ e.T, related, unrelated


def others(mask, i):
    return [j for j in range(len(mask)) if mask[i, j] and j != i]


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("seed", range(3))
def test_contrastive_equals_its_formula(seed):
    s, related, unrelated = batch(seed)
    n = range(len(s))
    pull = [mean(1 - s[i, j].item() for j in others(related, i)) for i in n if others(related, i)]
    excess = [[s[i, j].item() - 0.1 for j in others(unrelated, i) if s[i, j] > 0.1] for i in n]
    expected = mean(pull) + mean(mean(x) for x in excess if x)
    assert contrastive(s, related, unrelated, margin=0.1).item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_triplet_equals_its_formula_with_semi_hard_negatives(seed):
    s, related, unrelated = batch(seed)
    each = []
    for i in range(len(s)):
        wrong = [s[i, j].item() for j in others(unrelated, i)]
        costs = []
        for j in others(related, i) if wrong else []:
            near = s[i, j].item()
            chosen = max((x for x in wrong if x < near), default=min(wrong))
            costs.append(max(0.0, chosen - near + 0.25))
        each += [mean(costs)] if costs else []
    assert triplet(s, related, unrelated, margin=0.25).item() == pytest.approx(mean(each))


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_equals_its_formula_and_skips_lonely_items(seed):
    s, related, unrelated = batch(seed)
    each = []
    for i in range(len(s)):
        positive = others(related, i)
        if positive:
            known = positive + others(unrelated, i)
            below = math.log(sum(math.exp(s[i, j].item() / 0.3) for j in known))
            each.append(mean(below - s[i, j].item() / 0.3 for j in positive))
    loss = info_nce(s, related, unrelated, temperature=0.3)
    assert loss.item() == pytest.approx(mean(each))


def fenchel_young(scores, target):
    """The loss of 1.5-entmax by its definition; the threshold by bisection; how many have 0."""
    low, high = max(scores) / 2 - 1, max(scores) / 2
    for _ in range(80):
        threshold = (low + high) / 2
        share = [max(x / 2 - threshold, 0.0) ** 2 for x in scores]
        low, high = (threshold, high) if sum(share) > 1 else (low, threshold)

    def negative_entropy(p):
        return 4 / 3 * (sum(x**1.5 for x in p) - 1)

    best = sum(p * x for p, x in zip(share, scores, strict=True)) - negative_entropy(share)
    reached = sum(y * x for y, x in zip(target, scores, strict=True))
    return best + negative_entropy(target) - reached, share.count(0.0)


@pytest.mark.parametrize("seed", range(3))
def test_entmax_equals_its_definition_and_leaves_easy_others_out(seed):
    s, related, unrelated = batch(seed)
    each, left_out = [], 0
    for i in range(len(s)):
        if positive := others(related, i):
            wrong = others(unrelated, i)
            scores = [s[i, j].item() / 0.3 for j in positive + wrong]
            target = [1 / len(positive)] * len(positive) + [0.0] * len(wrong)
            cost, without = fenchel_young(scores, target)
            each, left_out = [*each, cost], left_out + without
    assert entmax(s, related, unrelated, temperature=0.3).item() == pytest.approx(mean(each))
    assert left_out > 10
    slope = (s.requires_grad_(), related, unrelated)
    assert torch.autograd.gradcheck(lambda *x: entmax(*x, temperature=0.3), slope)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (contrastive, {"margin": 2.0}),
        (triplet, {"margin": 0.2}),
        (info_nce, {"temperature": 0.1}),
        (entmax, {"temperature": 0.1}),
    ],
)
def test_nothing_to_compare_costs_nothing_and_the_slope_is_finite(loss, settings):
    s, related, unrelated = batch(0)
    nothing = torch.zeros_like(related)
    s.requires_grad_()
    assert loss(s, nothing, unrelated, **settings).item() == 0
    loss(s, related, unrelated, **settings).backward()
    assert s.grad.isfinite().all()
    assert s.grad[0].any()
    assert not s.grad.diagonal().any()
