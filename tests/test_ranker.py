import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from random_evidence import (
    BARE,
    UNKNOWN,
    N,
    random_evidence,
    random_network,
    random_relations,
    ranker_of,
)
from undersong.errors import ArtifactError
from undersong.ranking import ranker as ranker_file
from undersong.ranking.candidates import gather_candidates
from undersong.ranking.ranker import log_sum, rerank, scorer

COLD = np.array([3, 14, 25, 36, 58])  # nobody has linked these
LINKED = np.array([1, BARE, 40, 66])


@pytest.fixture(scope="module")
def evidence():
    return random_evidence()


@pytest.fixture(scope="module")
def ranker(evidence):
    return ranker_of(random_network(evidence), evidence)


def by_item(values, candidates):
    """Values in the order of the items, (q, n); NaN for an item that is no candidate."""
    found = np.full((len(candidates), N), np.nan)
    for row, items, some in zip(found, candidates, values, strict=True):
        row[items[items >= 0]] = some[items >= 0]
    return found


@pytest.mark.parametrize("blind", [False, True])
def test_the_network_in_numpy_is_the_one_that_was_trained(evidence, blind):
    model = random_network(evidence)
    ranker = ranker_of(model, evidence)
    features = gather_candidates(evidence, LINKED, count=23).features
    before = features.copy()
    hidden = evidence.on_relations if blind else np.zeros_like(evidence.on_relations)
    with torch.no_grad():
        wanted = model(torch.from_numpy(features), torch.from_numpy(hidden)).numpy()
    assert wanted.shape == (4, 23)
    np.testing.assert_allclose(ranker.weigh(features, hidden), wanted, atol=1e-5)
    if not blind:
        np.testing.assert_array_equal(ranker.weigh(features), ranker.weigh(features, hidden))
    np.testing.assert_array_equal(features, before)


def test_answers_are_the_candidates_ordered_by_the_network(ranker, evidence):
    found = rerank(ranker, evidence, COLD)
    gathered = gather_candidates(evidence, COLD, count=23)
    scores = by_item(ranker.weigh(gathered.features), gathered.candidates)
    np.testing.assert_array_equal(np.sort(found.candidates), np.sort(gathered.candidates))
    np.testing.assert_allclose(by_item(found.scores, found.candidates), scores, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(found.candidates, found.gathered.candidates)
    np.testing.assert_allclose(ranker.weigh(found.gathered.features), found.scores, atol=1e-5)


def test_an_item_of_which_nothing_is_known_is_never_an_answer_and_gets_none(ranker, evidence):
    found = rerank(dataclasses.replace(ranker, candidates=N), evidence, np.array([1, UNKNOWN]))
    assert UNKNOWN not in found.candidates[0]
    assert BARE in found.candidates[0]
    assert (found.candidates[1:] == -1).all()
    assert (found.scores[1:] == -np.inf).all()
    assert not found.confidence[1:].any()


def test_where_fewer_may_answer_than_are_asked_for_the_last_places_are_empty(ranker, evidence):
    among = np.zeros(N, dtype=bool)
    among[[3, 9, 14, 27, 51, UNKNOWN, 90]] = True
    found = rerank(ranker, evidence, COLD, among=among)
    for query, items, scores in zip(COLD, found.candidates, found.scores, strict=True):
        allowed = {3, 9, 14, 27, 51, 90} - {query}
        assert set(items[: len(allowed)]) == allowed
        assert (items[len(allowed) :] == -1).all()
        assert (scores[len(allowed) :] == -np.inf).all()
        assert np.isfinite(scores[: len(allowed)]).all()


def test_known_relations_stand_first_and_are_certain(ranker, evidence):
    for dial in (0.0, 0.4, 1.0):
        found = rerank(ranker, evidence, LINKED, long_tail=dial)
        for query, items, sure in zip(LINKED, found.candidates, found.confidence, strict=True):
            related = set(evidence.relations[query].indices)
            assert len(related) > 1
            assert set(items[: len(related)]) == related
            assert (sure[: len(related)] == 1).all()
            assert (sure[len(related) :] < 1).all()


def test_confidence_is_a_chance_and_falls_with_the_rank(ranker, evidence):
    found = rerank(ranker, evidence, np.arange(N))
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert (np.diff(found.confidence, axis=1) <= 0).all()
    far = dataclasses.replace(ranker, calibration=(90.0, -2.0))  # odds that overflow an exponential
    assert np.isfinite(rerank(far, evidence, np.arange(N)).confidence).all()


def test_the_dial_at_1_forgets_every_relation(ranker, evidence):
    other = dataclasses.replace(evidence, relations=random_relations(seed=8, share=0.1))
    one, two = (rerank(ranker, x, COLD, long_tail=1.0) for x in (evidence, other))
    np.testing.assert_array_equal(one.candidates, two.candidates)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)
    np.testing.assert_allclose(one.confidence, two.confidence, atol=1e-5)
    one, two = (rerank(ranker, x, COLD) for x in (evidence, other))
    assert (one.candidates != two.candidates).any()


def test_between_0_and_1_the_dial_mixes_both_scores(ranker, evidence):
    whole = dataclasses.replace(ranker, candidates=N)
    ends, between = (
        [rerank(whole, evidence, COLD, long_tail=x) for x in dials]
        for dials in ((0.0, 1.0), (0.3,))
    )
    zero, one = (by_item(x.scores, x.candidates) for x in ends)
    mixed = by_item(between[0].scores, between[0].candidates)
    # Candidates that no walk reaches share its rank in the order of the choice, hence 0.01.
    np.testing.assert_allclose(mixed, 0.7 * zero + 0.3 * one, atol=0.01)
    assert np.nanmean(np.abs(zero - one)) > 0.5


@pytest.mark.parametrize("dial", [-1.0, -0.4])
def test_below_0_the_dial_takes_from_what_nobody_has_linked(ranker, evidence, dial):
    listing = dataclasses.replace(ranker, listed=-1.7, candidates=N)
    fair, lists = (rerank(listing, evidence, LINKED, long_tail=x) for x in (0.0, dial))
    lower = by_item(lists.scores, lists.candidates) - by_item(fair.scores, fair.candidates)
    unlinked = np.tile(evidence.degree == 0, (len(LINKED), 1)).astype(float)
    given = ~np.isnan(lower)
    np.testing.assert_allclose(lower[given], (1.7 * dial * unlinked)[given], atol=1e-5)
    assert unlinked[given].any()


def test_permuting_the_items_permutes_the_answers(ranker, evidence):
    turn = np.random.default_rng(3).permutation(N)  # new row -> old row
    other = dataclasses.replace(
        evidence,
        vectors=evidence.vectors[turn],
        sources=tuple(
            dataclasses.replace(x, values=x.values[turn], missing=x.missing[turn])
            for x in evidence.sources
        ),
        relations=evidence.relations[turn][:, turn].tocsr(),
        led=evidence.walked[turn],
    )
    asking = np.concatenate([COLD, LINKED])
    one, two = rerank(ranker, evidence, asking), rerank(ranker, other, np.argsort(turn)[asking])
    np.testing.assert_array_equal(one.candidates, turn[two.candidates])
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-3)


def test_an_answer_does_not_depend_on_who_else_asks(ranker, evidence):
    whole = rerank(ranker, evidence, np.concatenate([COLD, LINKED]))
    alone = rerank(ranker, evidence, LINKED[2:3])
    np.testing.assert_array_equal(whole.candidates[7:8], alone.candidates)
    np.testing.assert_allclose(whole.scores[7:8], alone.scores, atol=1e-4)


@pytest.mark.parametrize("dial", [0.0, 0.6, 1.0])
def test_the_scorer_orders_like_the_answers_and_puts_the_others_behind(ranker, evidence, dial):
    pool = np.flatnonzero(np.arange(N) % 3 != 1)
    among = np.isin(np.arange(N), pool)
    asking = np.array([3, 66, 14, BARE, UNKNOWN])
    scores = scorer(ranker, evidence, pool=pool, long_tail=dial)(asking)
    found = rerank(ranker, evidence, asking, among=among, long_tail=dial)
    assert scores.shape == (5, N)
    assert not np.isnan(scores).any()
    priors = found.gathered.everything(evidence, among=among)
    for query, row, items, prior in zip(asking[:4], scores, found.candidates, priors, strict=False):
        allowed = np.setdiff1d(pool, [query, UNKNOWN])
        assert np.isfinite(row[allowed]).all()
        assert (row[np.setdiff1d(np.arange(N), allowed)] == -np.inf).all()
        order = allowed[np.argsort(-row[allowed], kind="stable")]
        np.testing.assert_array_equal(order[:23], items)
        assert (np.diff(prior[order[23:]]) <= 1e-6).all()
    assert not scores[4].any()  # no idea: all alike


def test_the_scorer_has_no_idea_where_nobody_may_answer(ranker, evidence):
    scores = scorer(ranker, evidence, pool=np.array([3]))(np.array([3, 14]))
    assert not scores[0].any()
    assert np.flatnonzero(np.isfinite(scores[1])).tolist() == [3]


def test_the_logarithm_of_a_sum_neither_overflows_nor_minds_empty_places():
    scores = np.array([[1.0, 2, -np.inf], [300, 301, 299], [-np.inf] * 3], dtype=np.float32)
    wanted = [np.log(np.exp(1) + np.exp(2)), 301 + np.log(1 + np.exp(-1) + np.exp(-2)), 0]
    np.testing.assert_allclose(log_sum(scores), wanted, rtol=1e-6)


def test_a_ranker_of_other_columns_is_refused(ranker, evidence):
    fewer = dataclasses.replace(evidence, sources=evidence.sources[:1])
    message = r"learned from other columns .*'no tags', 'same tags'.*train again"
    with pytest.raises(ArtifactError, match=message):
        rerank(ranker, fewer, COLD)


def test_a_file_that_is_no_ranker_is_named(tmp_path):
    path = tmp_path / "ranking.safetensors"
    with pytest.raises(ArtifactError, match=r"ranking.safetensors cannot be read .*train again"):
        ranker_file.read(path)
    path.write_bytes(b"neither weights nor anything else")
    with pytest.raises(ArtifactError, match=r"ranking.safetensors cannot be read .*train again"):
        ranker_file.read(path)
    save_file({"x": np.zeros(3)}, path, {"format": "8"})
    with pytest.raises(ArtifactError, match="format 8, but this version reads 1; train again"):
        ranker_file.read(path)
