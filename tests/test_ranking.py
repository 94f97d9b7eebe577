import dataclasses
import math
import tempfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from planted import wide_world
from random_evidence import (
    LOOSE,
    N,
    random_evidence,
    random_network,
    random_relations,
    ranker_of,
)
from undersong import features as inputs, relations
from undersong.catalogue.splits import tail_odds
from undersong.embeddings import Embeddings
from undersong.models.content.network import ContentSettings
from undersong.models.general.network import GeneralSettings
from undersong.ranking import crossfit, ranker as ranker_file, training
from undersong.ranking.candidates import gather_candidates
from undersong.ranking.network import RankingModel, RankingSettings, listwise
from undersong.ranking.ranker import rerank
from undersong.ranking.training import (
    BINS,
    RankingLists,
    as_listed,
    calibrate,
    draw_cold_items,
    join,
    known_askers,
    make_lists,
    ndcg,
    partly_observed,
    reliability_of,
    train_ranking,
)
from undersong.relations import Task
from undersong.training import Compute, Schedule

NAMES = ("noise", "cosine", "walk", "more noise", "constant")
ON_RELATIONS = np.array([False, False, True, False, False])
SETTINGS = RankingSettings(
    hidden=6,
    queries=29,
    candidates=19,
    training=Schedule(steps=90, validate_every=30, learning_rate=0.02, precision="float32"),
)


def odds(features):
    """Log-odds of being right in the planted lists: the walk tells more than the cosine."""
    return 1.6 * features[..., 2] + 0.5 * features[..., 1] - 2.5


def planted_lists(queries, *, seed):
    """Lists of 19 places, some empty, in which about one in six is right."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(queries, 19, 5)).astype(np.float32)
    features[..., 4] = 3
    present = np.arange(19) < generator.integers(15, 20, size=queries)[:, None]
    chance = 1 / (1 + np.exp(-odds(features)))
    relevant = (generator.random(chance.shape) < chance) & present
    features[~present] = 0
    total = relevant.sum(axis=1) + generator.integers(3, size=queries)
    unlinked = features[..., 3] > 0.4
    return RankingLists(
        features, relevant, present, np.maximum(total, 1), present.copy(), unlinked & present
    )


def trained(lists, validation, folder, *, judging=None, settings=SETTINGS):
    return train_ranking(
        lists,
        {"cold": validation},
        {"tail-like, cold": judging} if judging else {},
        names=NAMES,
        on_relations=ON_RELATIONS,
        settings=settings,
        compute=Compute(0, "cpu", folder),
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    return trained(join([planted_lists(480, seed=1)]), planted_lists(350, seed=2), folder)


def test_the_loss_is_the_mean_log_share_of_what_is_right():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(3, 7))
    scores[1, 5:] = -np.inf
    relevant = np.zeros((3, 7), dtype=bool)
    relevant[0, [1, 4, 6]] = relevant[1, 2] = relevant[2, [0, 3]] = True
    wanted = 0.0
    for row, right in zip(scores, relevant, strict=True):
        whole = sum(math.exp(x) for x in row)
        shares = [math.log(math.exp(x) / whole) for x, yes in zip(row, right, strict=True) if yes]
        wanted -= sum(shares) / len(shares) / 3
    found = listwise(torch.from_numpy(scores), torch.from_numpy(relevant))
    assert float(found) == pytest.approx(wanted)


def test_a_network_that_has_learned_nothing_orders_by_cosine():
    model = RankingModel(5, SETTINGS).eval()
    lists = planted_lists(31, seed=3)
    training._scale(model, lists, 1)
    with torch.no_grad():
        scores = model(torch.from_numpy(lists.features), torch.zeros(5, dtype=torch.bool)).numpy()
    np.testing.assert_allclose(
        np.argsort(scores, axis=1), np.argsort(lists.features[..., 1], axis=1)
    )
    seen = lists.features[lists.present]
    np.testing.assert_allclose(model.mean, seen.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(model.deviation, [*seen[:, :4].std(axis=0), 1], atol=1e-5)


def test_what_hardly_any_item_lacks_does_not_set_one_that_lacks_it_apart():
    lists = planted_lists(43, seed=4)
    lists.features[..., 3] = 0
    lists.features[0, 2, 3] = 1  # 1 of about 730 places
    model = RankingModel(5, SETTINGS)
    training._scale(model, lists, 1)
    assert float(model.deviation[3]) == pytest.approx(0.3)
    assert float((1 - model.mean[3]) / model.deviation[3]) < 3.4


def test_a_hidden_column_has_no_say_in_the_list_that_hides_it():
    evidence = random_evidence()
    model = random_network(evidence)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, len(evidence.names), generator=generator)
    other = features.clone()
    column = evidence.names.index("own walk")
    other[..., column] = 9
    hidden = torch.zeros(3, 1, len(evidence.names), dtype=torch.bool)
    hidden[1, 0, column] = True
    with torch.no_grad():
        one, two, told = model(features, hidden), model(other, hidden), model(features, hidden[:1])
    torch.testing.assert_close(one[1], two[1])
    assert not torch.isclose(one[[0, 2]], two[[0, 2]]).any()
    assert not torch.isclose(one[1], told[1]).any()  # it knows that something is hidden


def test_what_is_right_is_learned_better_than_by_cosine_and_confidence_is_honest(fitted):
    lists = planted_lists(400, seed=5)
    best = ndcg(odds(lists.features), lists)
    found = ndcg(fitted.ranker.weigh(lists.features), lists)
    assert ndcg(lists.features[..., 1], lists) + 0.1 < found < best + 0.01
    assert found > best - 0.03
    assert fitted.cosine["cold"] == pytest.approx(
        ndcg(planted_lists(350, seed=2).features[..., 1], planted_lists(350, seed=2))
    )
    scores = np.where(lists.present, fitted.ranker.weigh(lists.features), -np.inf)
    confidence = fitted.ranker.confidence(scores, lists.unlinked)
    table = reliability_of(confidence[lists.present], lists.relevant[lists.present])
    assert len(table) > 3
    for sure, right, count in (*table, *fitted.reliability, *fitted.reliability_unlinked):
        assert sure == pytest.approx(right, abs=0.03 + 2 / math.sqrt(count))
    assert sum(count for _, _, count in table) == lists.present.sum()


def test_unlinked_candidates_are_as_sure_as_they_are_often_right(tmp_path):
    def planted(queries, seed):  # unlinked candidates are right three times less often
        lists = planted_lists(queries, seed=seed)
        rare = np.random.default_rng(seed).random(lists.relevant.shape) < 0.3
        lists.relevant[lists.unlinked & ~rare] = False
        return lists

    fitted = trained(join([planted(480, 1)]), planted(350, 2), tmp_path)
    lists = planted(410, 5)
    scores = np.where(lists.present, fitted.ranker.weigh(lists.features), -np.inf)
    together = fitted.ranker.confidence(scores)
    apart = fitted.ranker.confidence(scores, lists.unlinked)
    for group in (lists.present & lists.unlinked, lists.present & ~lists.unlinked):
        right = lists.relevant[group].mean()
        assert apart[group].mean() == pytest.approx(right, abs=0.02)
    assert together[lists.present & lists.unlinked].mean() > apart[lists.unlinked].mean()


def test_a_candidate_that_nobody_can_judge_teaches_nothing_and_counts_for_nothing():
    lists = join([planted_lists(120, seed=1)])
    strange = np.random.default_rng(3).random(lists.judged.shape) < 0.2
    unjudged = lists.present & ~lists.relevant & strange
    lists = dataclasses.replace(lists, judged=lists.present & ~unjudged)
    model = RankingModel(5, SETTINGS)
    training._scale(model, lists, 1)
    hidden = torch.zeros(5, dtype=torch.bool)
    features = torch.from_numpy(lists.features).requires_grad_()
    scores = model(features, hidden).masked_fill(~torch.from_numpy(lists.judged), -torch.inf)
    listwise(scores, torch.from_numpy(lists.relevant)).backward()
    assert not features.grad[torch.from_numpy(unjudged)].any()
    assert features.grad[torch.from_numpy(lists.judged)].any()
    even = ndcg(np.where(lists.judged, lists.features[..., 1], 9), lists)
    assert even == ndcg(np.where(lists.judged, lists.features[..., 1], -9), lists)


def test_an_order_that_is_worse_for_the_tail_is_not_used(tmp_path):
    lists, validation = join([planted_lists(480, seed=1)]), planted_lists(350, seed=2)
    against = planted_lists(70, seed=6)
    right = np.argsort(-against.features[..., 1], axis=1)[:, :1]  # by cosine alone
    relevant = np.zeros_like(against.relevant)
    np.put_along_axis(relevant, right, True, axis=1)
    relevant &= against.present
    against = dataclasses.replace(against, relevant=relevant)
    assert trained(lists, validation, tmp_path / "a", judging=against) is None
    fitted = trained(lists, validation, tmp_path / "b", judging=planted_lists(71, seed=7))
    assert fitted.scores["tail-like, cold"] > fitted.cosine["tail-like, cold"]


def test_a_ranking_that_is_saved_is_read_as_it_was(fitted, tmp_path):
    training.save(fitted, tmp_path / "ranking.safetensors")
    found = ranker_file.read(tmp_path / "ranking.safetensors")
    assert (found.names, found.candidates) == (NAMES, 19)
    assert found.calibration == pytest.approx(fitted.ranker.calibration)
    assert found.calibration_unlinked == pytest.approx(fitted.ranker.calibration_unlinked)
    assert found.listed == pytest.approx(fitted.ranker.listed)
    features = planted_lists(13, seed=7).features
    np.testing.assert_array_equal(found.weigh(features), fitted.ranker.weigh(features))
    with torch.no_grad():
        wanted = fitted.model(torch.from_numpy(features), torch.zeros(5, dtype=torch.bool))
    np.testing.assert_allclose(found.weigh(features), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(("learn", "judge"), [(39, 60), (60, 39)])
def test_from_too_few_lists_nothing_is_learned(tmp_path, learn, judge):
    assert trained(planted_lists(learn, seed=1), planted_lists(judge, seed=2), tmp_path) is None
    assert not (tmp_path / "ranking.safetensors").exists()


def test_where_cosine_is_best_nothing_is_kept(tmp_path):
    def by_cosine(queries, seed):
        lists = planted_lists(queries, seed=seed)
        relevant = (lists.features[..., 1] > 0.8) & lists.present
        relevant[:, 0] |= ~relevant.any(axis=1)
        lists.features[relevant, 1] += 2
        return dataclasses.replace(lists, relevant=relevant, total=relevant.sum(axis=1))

    assert trained(join([by_cosine(90, 1)]), by_cosine(50, 2), tmp_path) is None
    assert (tmp_path / "ranking.safetensors").exists()  # it was tried


def test_the_score_of_lists_counts_what_is_no_candidate_as_missed():
    lists = planted_lists(23, seed=4)
    scores = np.random.default_rng(0).normal(size=(23, 19)).astype(np.float32)
    wanted = []
    for row, right, present, total in zip(
        scores, lists.relevant, lists.present, lists.total, strict=True
    ):
        order = sorted(np.flatnonzero(present), key=lambda x: -row[x])
        gain = sum(1 / math.log2(place + 2) for place, x in enumerate(order) if right[x])
        wanted.append(gain / sum(1 / math.log2(place + 2) for place in range(total)))
    assert ndcg(scores, lists) == pytest.approx(np.mean(wanted))


def test_lists_in_which_nothing_is_right_are_dropped():
    one, two = planted_lists(17, seed=1), planted_lists(11, seed=2)
    one.relevant[[2, 5, 6]] = False
    found = join([one, two])
    some = [one.relevant.any(axis=1), two.relevant.any(axis=1)]
    assert len(found.total) == some[0].sum() + some[1].sum() < 28 - 2
    for name in ("features", "relevant", "present", "total", "judged", "unlinked"):
        wanted = [getattr(x, name)[kept] for x, kept in zip((one, two), some, strict=True)]
        np.testing.assert_array_equal(getattr(found, name), np.concatenate(wanted))
    assert found.relevant.any(axis=1).all()


def test_lists_are_of_hidden_relations_alone():
    evidence = random_evidence()
    truth = (evidence.relations + random_relations(seed=8)).astype(bool)
    queries = np.flatnonzero(truth.getnnz(axis=1) > 0)
    labelled = np.arange(N) % 5 != 1
    make = partial(make_lists, evidence, queries, truth, labelled=labelled)
    lists = make(count=N)
    hidden = truth.toarray() & ~evidence.relations.toarray()
    np.testing.assert_array_equal(lists.relevant.sum(axis=1), hidden[queries].sum(axis=1))
    np.testing.assert_array_equal(lists.total, truth[queries].getnnz(axis=1))
    own = lists.features[..., evidence.names.index("relations in common")]
    assert own.any()
    assert not lists.relevant[~lists.present].any()
    found = gather_candidates(evidence, queries, count=N, excluded=evidence.relations).candidates
    np.testing.assert_array_equal(lists.judged, lists.present & labelled[found])
    alone = evidence.relations.getnnz(axis=1) == 0
    np.testing.assert_array_equal(lists.unlinked, lists.present & alone[found])
    assert lists.unlinked.any()
    few = make(count=41)
    assert few.features.shape == (len(queries), 41, len(evidence.names))


def test_lists_whose_features_lie_in_a_file_are_those_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "AT_ONCE", 23)
    monkeypatch.setattr(training, "BLOCK", 31)
    evidence, model = random_evidence(), RankingModel(len(random_evidence().names), SETTINGS)
    truth = (evidence.relations + random_relations(seed=8)).astype(bool)
    make = partial(make_lists, evidence, truth=truth, labelled=np.ones(N, dtype=bool), count=149)
    some = [np.arange(5, 120, 2), np.arange(0, 137, 3), np.array([], dtype=np.int64)]
    here = [make(x) for x in some]
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        there = [make(x, file=file) for x in some]
        assert not list(tmp_path.iterdir())  # it has no name, and goes with the process
        for one, other in zip([*here, join(here)], [*there, join(there)], strict=True):
            assert len(one.features) == len(other.features) == len(other.total)
            for name in ("features", "relevant", "present", "total", "judged", "unlinked"):
                np.testing.assert_array_equal(getattr(one, name)[:], getattr(other, name)[:])
            np.testing.assert_array_equal(one.features[..., 3], other.column(3))
        turn = np.array([11, 2, 60, 2])
        np.testing.assert_array_equal(join(here).features[turn], join(there).features[turn])
        training._scale(model, join(there), 1)
    seen = join(here).features[join(here).present].astype(np.float64)
    np.testing.assert_allclose(model.mean, seen.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("folds", "share"), [(2, 0.2), (3, 0.24), (1, 0.5)])
def test_strangers_are_linked_and_never_in_two_groups(folds, share):
    linked = np.arange(5, 216, 2)
    log_odds = np.random.default_rng(1).normal(size=217)
    groups = draw_cold_items(
        np.random.default_rng(0), linked, log_odds=log_odds, folds=folds, share=share
    )
    assert [len(x) for x in groups] == [int(share * len(linked))] * (folds + 1)
    everybody = np.concatenate(groups)
    assert len(set(everybody)) == len(everybody)
    assert np.isin(everybody, linked).all()


def test_half_of_the_strangers_look_like_the_unlinked_and_all_that_judge():
    linked = np.arange(400)
    log_odds = np.where(linked < 120, 30.0, 0.0)  # so far apart that they are drawn first
    groups = draw_cold_items(
        np.random.default_rng(0), linked, log_odds=log_odds, folds=2, share=0.15
    )
    alike = [(group < 120).sum() for group in groups]
    assert alike == [30, 30, 60]


def test_of_very_many_training_items_a_bounded_number_are_strangers(monkeypatch):
    monkeypatch.setattr(training, "COLD_ITEMS", 13)
    groups = draw_cold_items(
        np.random.default_rng(0), np.arange(203), log_odds=np.zeros(203), folds=3, share=0.25
    )
    assert [len(x) for x in groups] == [13, 13, 13, 13]
    assert len(set(np.concatenate(groups))) == 52


def test_known_items_ask_while_some_of_their_relations_and_all_strangers_are_hidden():
    everything, seen = random_relations(share=0.3), random_relations(share=0.3).toarray()
    stranger = np.arange(N) % 4 == 2
    seen[stranger] = seen[:, stranger] = False
    seen = sparse.csr_matrix(seen)
    rows, visible, hidden = known_askers(np.random.default_rng(0), seen, everything)
    linked = seen.getnnz(axis=1) > 0
    assert linked[rows].all()
    assert len(rows) == int(training.ASKERS * linked.sum())
    visible, hidden, seen = (x.toarray() for x in (visible, hidden, seen))
    for one in (visible, hidden):
        np.testing.assert_array_equal(one, one.T)
    np.testing.assert_array_equal(visible | hidden, everything.toarray())
    assert not (visible & hidden).any()
    asks = np.isin(np.arange(N), rows)
    apart = ~asks[:, None] & ~asks[None, :]
    np.testing.assert_array_equal(visible[apart], seen[apart])
    lost = (seen & ~visible)[asks].sum() / seen[asks].sum()
    assert lost == pytest.approx(training.FORGOTTEN, abs=0.06)


def test_some_of_the_hidden_relations_are_shown_in_both_directions_and_none_is_lost():
    everything, seen = random_relations(share=0.12), random_relations(share=0.12).toarray()
    stranger = np.arange(N) % 4 == 2
    seen[stranger] = seen[:, stranger] = False
    visible, left = partly_observed(np.random.default_rng(0), sparse.csr_matrix(seen), everything)
    visible, left, all_of_them = (x.toarray() for x in (visible, left, everything))
    for one in (visible, left):
        np.testing.assert_array_equal(one, one.T)
    np.testing.assert_array_equal(visible | left, all_of_them)
    assert not (visible & left).any()
    assert (visible | ~seen).all()
    hidden = (all_of_them & ~seen).sum()
    assert left.sum() / hidden == pytest.approx(1 - training.VISIBLE, abs=0.06)
    assert not (left & seen).any()


def test_calibration_finds_the_line_that_chance_followed():
    generator = np.random.default_rng(0)
    scores = generator.normal(scale=2, size=(900, 17)).astype(np.float32)
    scores[:, 15:] = -np.inf
    share = scores - ranker_file.log_sum(scores)[:, None]
    right = generator.random(share.shape) < 1 / (1 + np.exp(-(0.7 * share + 0.4)))
    kept = np.isfinite(share)
    assert calibrate(share[kept], right[kept]) == pytest.approx((0.7, 0.4), abs=0.08)


def test_lists_take_as_much_from_the_unlinked_as_they_name_them_less_often():
    generator = np.random.default_rng(0)
    lists = planted_lists(900, seed=1)
    scores = np.where(lists.present, generator.normal(size=lists.present.shape), -np.inf)
    odds = np.exp(scores - 1.3 * lists.unlinked)
    chosen = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
    place = (generator.random((900, 1)) > chosen).sum(axis=1)
    relevant = np.arange(19) == place[:, None]
    named = dataclasses.replace(lists, relevant=relevant & lists.present)
    assert as_listed([scores.astype(np.float32)], [named]) == pytest.approx(-1.3, abs=0.2)
    even = dataclasses.replace(named, unlinked=np.zeros_like(named.unlinked))
    assert -10 <= as_listed([scores.astype(np.float32)], [even]) <= 0


def test_the_reliability_table_counts_every_answer_once():
    confidence = np.array([[0.01, 0.06, 0.3, 1.0], [0.03, 0.0, 0.39, 0.9]], dtype=np.float32)
    relevant = np.array([[False, True, True, True], [False, True, False, True]])
    present = np.array([[True, True, True, True], [True, False, True, True]])
    table = reliability_of(confidence[present], relevant[present])
    assert BINS[1:5] == (0.02, 0.05, 0.1, 0.2)
    wanted = [(0.01, 0, 1), (0.03, 0, 1), (0.06, 1, 1), (0.345, 0.5, 2), (0.95, 1, 2)]
    np.testing.assert_allclose(table, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": -1}, "folds must be 0 or more"),
        ({"share": 0.6}, r"share in \(0, 0.5\]"),
        ({"folds": 4, "share": 0.3}, "4 folds of 0.3 of the training items, and one more"),
        ({"candidates": 0}, "must be 1 or more"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"blind": 1.5}, r"blind in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RankingSettings(**change)


GENERAL = GeneralSettings(
    width=24,
    fields=4,
    heads=3,
    out=7,
    anchors=40,
    tail=16,
    training=Schedule(steps=8, validate_every=4, precision="float32"),
)
CONTENT = ContentSettings(
    width=10, training=Schedule(steps=4, validate_every=4, precision="float32")
)


def in_memory(lists):
    return dataclasses.replace(lists, features=lists.features[:])


def rehearsed(world, folder, monkeypatch, *, folds=2, embeddings=None):
    """Rehearse and give what was learned from: (evidence, queries, truth, among) of every call."""
    calls, given = [], []

    def recording(evidence, queries, truth, *, among=None, **others):
        calls.append((evidence, queries, truth, among))
        return make_lists(evidence, queries, truth, among=among, **others)

    def learning(lists, validation, judging, **others):
        given.append(
            (in_memory(lists), {**validation, "cold": in_memory(validation["cold"])}, judging)
        )

    monkeypatch.setattr(crossfit, "make_lists", recording)
    monkeypatch.setattr(crossfit, "train_ranking", learning)
    parts = world.artists["split"].to_numpy().astype("<U10")
    judged = np.random.default_rng(0).normal(size=(len(parts), 7)).astype(np.float32)
    encoders = inputs.fit(world, "artist", parts == "train")
    found = crossfit.cross_fit(
        Task(world, "artist", parts),
        sources=inputs.read_sources(world, "artist", encoders, embeddings or {}),
        judged=judged,
        content_settings=CONTENT,
        general_settings=GENERAL,
        settings=RankingSettings(folds=folds, share=0.3, candidates=50),
        compute=Compute(0, "cpu", folder),
    )
    assert found is None
    return calls, given, parts


@pytest.fixture(scope="module")
def world():
    return dataclasses.replace(wide_world(), features={}, plays=wide_world().plays.clear())


def test_strangers_are_embedded_by_a_model_that_never_saw_their_relations(
    world, tmp_path, monkeypatch
):
    calls, given, parts = rehearsed(world, tmp_path / "a", monkeypatch)
    assert len(calls) == 16  # five kinds of lists in each fold, two that judge, four of validation
    related = relations.known(world, "artist", parts == "train")
    has_link = related.getnnz(axis=1) > 0
    hidden = draw_cold_items(
        np.random.default_rng([0, 2]),
        np.flatnonzero(has_link),
        log_odds=tail_odds(world, "artist", has_link=has_link, among=parts == "train"),
        folds=2,
        share=0.3,
    )
    for fold in range(2):
        unknown, each_other, half, linked, known = calls[5 * fold : 5 * fold + 5]
        assert not np.isin(known[1], hidden[fold]).any()
        assert known[0].relations[hidden[fold]].nnz == 0
        assert (known[0].relations + known[2] != related).nnz == 0
        assert all(
            x[1] is unknown[1] and x[0].vectors is unknown[0].vectors for x in (half, linked)
        )
        assert set(unknown[1]) == set(hidden[fold])
        assert unknown[0].relations[hidden[fold]].nnz == 0
        assert 0 < half[0].relations[hidden[fold]].nnz < related[hidden[fold]].nnz
        assert unknown[0].relations[parts != "train"].nnz == 0
        for one in (half, linked):
            assert one[0].relations.multiply(one[2]).nnz == 0
        for one in (each_other, linked):
            assert set(np.flatnonzero(one[3])) == set(hidden[fold])
            rows, columns = one[2].nonzero()
            assert set(rows) | set(columns) <= set(hidden[fold])
        assert (linked[0].relations + linked[2] != related).nnz == 0
    cold, finding = calls[10:12]
    assert set(cold[1]) == set(hidden[2])
    assert not np.isin(finding[1], hidden[2]).any()
    rows, columns = finding[2].nonzero()
    assert (np.isin(rows, hidden[2]) | np.isin(columns, hidden[2])).all()
    others, linked, known, cold = calls[12:]
    assert cold[0].relations[parts != "train"].nnz == 0
    assert (parts[known[1]] == "train").all()
    assert known[2][:, parts == "test"].nnz == 0
    for _, asking, truth, _ in (cold, others, linked):
        assert (parts[asking] == "validation").all()
        assert truth[asking][:, parts == "test"].nnz == 0
    assert linked[0].relations.multiply(linked[2]).nnz == 0
    assert linked[0].relations[parts == "validation"].nnz > 0
    lists, validation, judging = given[0]
    assert len(lists.total) > 200
    assert len(validation["cold"].total) == len(cold[1]) > 40
    assert validation["cold"].total.sum() > validation["each other"].total.sum()
    assert list(judging) == ["tail-like, cold", "tail-like, found"]

    # Whatever the strangers of the first fold are related to, their evidence stays what it was.
    ids = np.array(world.ids("artist"), dtype=object)
    first = set(ids[hidden[0]])
    touched = pl.col("a").is_in(first) | pl.col("b").is_in(first)
    fewer = world.relations.filter(~(touched & (pl.int_range(pl.len()) % 3 == 0)))
    other = dataclasses.replace(world, relations=fewer)
    monkeypatch.setattr(crossfit, "draw_cold_items", lambda *_, **__: hidden)
    again, _, _ = rehearsed(other, tmp_path / "b", monkeypatch)
    np.testing.assert_array_equal(calls[0][0].vectors, again[0][0].vectors)
    assert (calls[0][0].relations != again[0][0].relations).nnz == 0
    assert (calls[0][2] != again[0][2]).nnz > 0


def test_relations_of_validation_and_test_items_change_no_list_to_learn_from(
    world, tmp_path, monkeypatch
):
    more = dataclasses.replace(world, relations=wide_world(more=0.3).relations)
    assert len(more.relations) > 1.1 * len(world.relations)
    (lists, validation, judging), (others, judged_by, judging_others) = (
        rehearsed(x, tmp_path / str(len(x.relations)), monkeypatch, folds=1)[1][0]
        for x in (world, more)
    )
    for name in vars(lists):
        np.testing.assert_array_equal(getattr(lists, name), getattr(others, name))
    for kind, one in judging.items():
        np.testing.assert_array_equal(one.relevant, judging_others[kind].relevant)
    validation, judged_by = validation["cold"], judged_by["cold"]
    np.testing.assert_array_equal(validation.features, judged_by.features)
    assert (validation.relevant <= judged_by.relevant).all()
    assert validation.relevant.sum() < judged_by.relevant.sum()


def test_content_of_feature_vectors_is_learned_anew_for_strangers(tmp_path, monkeypatch):
    world = dataclasses.replace(wide_world(), plays=wide_world().plays.clear())
    told = np.random.default_rng(1).normal(size=(300, 13)).astype(np.float32)
    embeddings = {("artist", "content"): Embeddings(world.ids("artist"), told)}
    calls, _, _ = rehearsed(world, tmp_path, monkeypatch, folds=1, embeddings=embeddings)
    assert [x[0].sources[0].name for x in calls] == ["content"] * 11
    assert [x[0].sources[0].width for x in calls] == [10] * 7 + [13] * 4


def test_a_catalogue_too_small_to_learn_from_costs_no_time(world, tmp_path, monkeypatch):
    few = world.artists["split"].to_numpy().copy()
    kept = np.flatnonzero(few == "validation")[33:]
    few[kept] = "test"
    small = dataclasses.replace(world, artists=world.artists.with_columns(pl.Series("split", few)))
    calls, given, _ = rehearsed(small, tmp_path / "small", monkeypatch)
    assert (calls, given) == ([], [])
    calls, given, _ = rehearsed(world, tmp_path / "off", monkeypatch, folds=0)
    assert (calls, given) == ([], [])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_agreement_equals_a_slow_count_of_equal_fields(monkeypatch):
    monkeypatch.setattr(crossfit, "BLOCK", 5)
    context, generator = random_evidence(), np.random.default_rng(6)
    ranker = ranker_of(random_network(context), context)
    codes = generator.integers(-1, 3, size=(N, 4)).astype(np.int32)
    rows = np.flatnonzero(LOOSE & context.embedded)
    by_order, by_cosine = [], []
    for row in rows:
        cosines = np.where(context.embedded, context.cosines(np.array([row]))[0], -np.inf)
        order = rerank(ranker, context, np.array([row])).candidates[0][:10]
        for answers, shares in ((order, by_order), (np.argsort(-cosines)[:10], by_cosine)):
            pairs = [(a, b) for x in answers for a, b in zip(codes[row], codes[x], strict=True)]
            pairs = [(a, b) for a, b in pairs if a >= 0 and b >= 0]
            if pairs:
                shares.append(np.mean([a == b for a, b in pairs]))
    expected = np.mean(by_order), np.mean(by_cosine)
    assert crossfit.agreement(ranker, context, rows, codes=codes) == pytest.approx(expected)
    assert expected[0] != pytest.approx(expected[1])
    nothing = np.full((N, 4), -1, dtype=np.int32)
    assert crossfit.agreement(ranker, context, rows, codes=nothing) == (0, 0)


@pytest.mark.parametrize(("order", "used"), [(0.64, True), (0.62, False)])
def test_an_order_that_answers_unlinked_items_with_anything_is_not_used(
    world, tmp_path, monkeypatch, order, used
):
    fitted = SimpleNamespace(ranker=None)
    monkeypatch.setattr(crossfit, "train_ranking", lambda *_, **__: fitted)
    monkeypatch.setattr(crossfit, "agreement", lambda *_, **__: (order, 0.9))
    splits = world.artists["split"].to_numpy().astype("<U10")
    encoders = inputs.fit(world, "artist", splits == "train")
    learned = crossfit.cross_fit(
        Task(world, "artist", splits),
        sources=inputs.read_sources(world, "artist", encoders, {}),
        judged=np.random.default_rng(0).normal(size=(len(splits), 7)).astype(np.float32),
        content_settings=CONTENT,
        general_settings=GENERAL,
        settings=RankingSettings(folds=1, share=0.3, candidates=50),
        compute=Compute(0, "cpu", tmp_path),
    )
    assert (learned is fitted) == used
