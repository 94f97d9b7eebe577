from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from undersong.catalogue.tables import ITEMS, RELATIONS, Catalogue, Field
from undersong.errors import ArtifactError, DataError, SettingsError
from undersong.evaluation import results
from undersong.evaluation.baselines import classical
from undersong.evaluation.method import Method, from_vectors
from undersong.evaluation.protocols import EvaluationSettings, combined, evaluate
from undersong.evaluation.results import (
    Interval,
    bootstrap,
    groups,
    jackknife,
    percentile_interval,
    standard_error,
)
from undersong.evaluation.scoring import propensities
from undersong.metrics import accuracy, weighted_ndcg
from undersong.relations import Task, known

N, GROUPS, K = 90, 6, 4
SETTINGS = EvaluationSettings(k=K, resamples=300, block=7)
PARTS = np.array(["train"] * 50 + ["validation"] * 18 + ["test"] * 22)
# Every third item is long tail; each other one names three of its group that it is related to.
GROUP = np.arange(N) % GROUPS
TAIL = np.arange(N) % 9 >= 6


def world():
    generator = np.random.default_rng(0)
    ids = [f"i{x}" for x in range(N)]
    pairs = set()
    for a in np.flatnonzero(~TAIL):
        near = np.flatnonzero((GROUP[a] == GROUP) & ~TAIL & (np.arange(N) != a))
        pairs |= {tuple(sorted((ids[a], ids[b]))) for b in generator.choice(near, 3, replace=False)}
    artists = pl.DataFrame(
        {
            "id": ids,
            "name": ids,
            "split": PARTS,
            "genre": [["one", "two", "three"][g % 3] if g != 5 else None for g in GROUP],
            "fame": [float(x) for x in generator.permutation(N)],
            "secret": [["s", f"g{g}"] for g in GROUP],
        }
    )
    rows = [("artist", a, b, "s") for a, b in sorted(pairs)]
    return Catalogue(
        artists=artists,
        relations=pl.DataFrame(rows, schema=RELATIONS, orient="row"),
        fields=(
            Field("genre", "artist", "category", "genre"),
            Field("fame", "artist", "number", "popularity"),
            Field("secret", "artist", "tags", "", withheld=True),
        ),
    )


def knows_groups(strength=1.0, name="groups"):
    noise = np.random.default_rng(5).normal(size=(N, 7))
    vectors = np.hstack([noise, strength * 9 * np.eye(GROUPS)[GROUP]]).astype(np.float32)
    return from_vectors(name, vectors, missing=np.zeros(N, dtype=bool))


def report_of(methods, *, split="test", reference=None, settings=SETTINGS, catalogue=None):
    return evaluate(
        Task(catalogue or world(), "artist", PARTS),
        methods=methods,
        split=split,
        reference=reference,
        settings=settings,
    )


def numbers(report, protocol, name="all"):
    found = next(x for x in report.protocols if x.name == protocol)
    return next(x for x in found.slices if x.name == name)


def value(report, protocol, method, metric, name="all"):
    return numbers(report, protocol, name).numbers[method][metric].mean.value


def test_a_method_that_knows_the_truth_is_perfect_and_chance_is_not():
    truth = known(world(), "artist").toarray().astype(np.float32)
    report = report_of([Method("oracle", lambda rows: truth[rows])])
    for protocol in ("cold", "paper", "linked"):
        for metric in ("hit@4", "recall@4", "map", "ndcg", "ndcg@4", "ndcg@200"):
            assert value(report, protocol, "oracle", metric) == pytest.approx(1)
            assert value(report, protocol, "random", metric) < 0.8
    # map@k divides by all relevant items, as trec_eval does
    degree = np.diff(known(world(), "artist").indptr)[(PARTS == "test") & ~TAIL]
    wanted = np.mean(np.minimum(degree, K) / degree)
    assert value(report, "cold", "oracle", "map@4") == pytest.approx(wanted)


def test_each_protocol_has_its_candidates_and_its_ground_truth():
    report = report_of([knows_groups()])
    names = ["cold, labelled", "cold", "found", "paper", "linked"]
    assert [x.name for x in report.protocols] == names
    labelled = (np.diff(known(world(), "artist").indptr) > 0).sum()
    assert [x.candidates for x in report.protocols] == [labelled, 90, 90, 22, 22]
    truth, asking = known(world(), "artist"), np.flatnonzero(PARTS == "test")
    degrees = np.diff(truth[asking].indptr), np.diff(truth[asking][:, asking].indptr)
    for name, degree in zip(("cold", "paper"), degrees, strict=True):
        whole = numbers(report, name)
        assert (whole.queries, whole.answerable) == (22, (degree > 0).sum())
        found = next(x for x in report.protocols if x.name == name)
        assert found.skipped == (degree == 0).sum() > 0


def test_validation_never_reads_relations_of_test_items():
    sealed = world()
    ids = set(sealed.artists["id"].to_numpy()[PARTS == "test"])
    kept = ~(sealed.relations["a"].is_in(ids) | sealed.relations["b"].is_in(ids))
    sealed = replace(sealed, relations=sealed.relations.filter(kept))
    with_test, without = (
        report_of([knows_groups()], split="validation", catalogue=x) for x in (world(), sealed)
    )
    for protocol in ("cold", "paper"):
        for metric in ("ndcg", "recall@4"):
            ours, theirs = (value(x, protocol, "groups", metric) for x in (with_test, without))
            assert ours == pytest.approx(theirs)


def test_methods_that_see_edges_answer_linked_alone_and_see_no_answer():
    edges = classical.visible_edges(Task(world(), "artist", PARTS), "test")
    asking = np.flatnonzero(PARTS == "test")
    assert edges[asking][:, asking].nnz == 0
    report = report_of([knows_groups(), classical.personalised_pagerank(edges)])
    assert "PageRank" in numbers(report, "linked").numbers
    assert all("PageRank" not in numbers(report, x).numbers for x in ("cold", "paper"))
    assert value(report, "linked", "PageRank", "map") > value(report, "linked", "random", "map")
    same = [value(report, x, "groups", "ndcg") for x in ("paper", "linked")]
    assert same[0] == same[1]


def test_slices_share_out_the_queries_by_what_they_are_named_after():
    report = report_of([knows_groups()])
    truth, asking = known(world(), "artist"), PARTS == "test"
    degree = np.diff(truth[asking].indptr)
    visible = np.diff(truth[asking][:, PARTS == "train"].indptr)
    for protocol, name, count in (
        ("cold", "{} relations", degree),
        ("linked", "visible degree {}", visible),
    ):
        wanted = {
            "0": (count == 0).sum(),
            "1-2": ((count >= 1) & (count <= 2)).sum(),
            "3-5": ((count >= 3) & (count <= 5)).sum(),
            "6-10": ((count >= 6) & (count <= 10)).sum(),
            "11+": (count > 10).sum(),
        }
        assert sum(wanted.values()) == 22
        for label, queries in wanted.items():
            assert numbers(report, protocol, name.format(label)).queries == queries
    tail = numbers(report, "cold", "long tail")
    assert (tail.queries, tail.answerable) == (TAIL[asking].sum(), 0)
    assert set(tail.numbers["groups"]) == {
        "consistent@4",
        "strict_consistent@4",
        "withheld_consistent@4",
        "long-tail share",
        "popularity",
    }


def test_consistency_reads_roles_and_withheld_fields_apart():
    report = report_of([knows_groups()])
    assert (report.fields, report.withheld) == (("genre", "fame"), ("secret",))
    # Neighbours are of the query's group: both of its secret words agree, of the others' one.
    assert value(report, "cold", "groups", "withheld_consistent@4") == pytest.approx(1)
    strict, plain = (
        value(report, "cold", "groups", x) for x in ("strict_consistent@4", "consistent@4")
    )
    known_genre = np.mean(GROUP[PARTS == "test"] != 5)
    assert plain == pytest.approx((known_genre + value_of_fame(report)) / 2, abs=0.02)
    assert strict < known_genre * 0.6
    chance = value(report, "cold", "random", "withheld_consistent@4")
    assert chance == pytest.approx((1 + 5 / 3) / 6, abs=0.1)


def value_of_fame(report):
    """Share of answers in the same fifth of popularity, from the plain and the genre share."""
    fame = np.array(world().artists["fame"])
    borders = np.quantile(fame[PARTS == "train"], [0.2, 0.4, 0.6, 0.8])
    fifth = np.searchsorted(borders, fame, side="right")
    scores = knows_groups().scores(np.arange(N))
    np.fill_diagonal(scores, -np.inf)
    near = np.argsort(-scores, axis=1)[:, :K]
    return np.mean((fifth[near] == fifth[:, None])[PARTS == "test"])


def test_every_number_has_an_interval_and_a_paired_difference():
    report = report_of([knows_groups(0.2, "weak"), knows_groups()], reference="weak")
    for protocol in report.protocols:
        count = {"cold, labelled": 15, "found": 18}.get(protocol.name, 17)
        for method, found in protocol.slices[0].numbers.items():
            assert len(found) == count
            for name, number in found.items():
                if name == "combined@200":
                    assert number.mean.low < number.mean.value < number.mean.high
                    continue
                assert number.mean.low <= number.mean.value <= number.mean.high
                assert (number.difference is None) == (method == "weak")
    found = numbers(report, "cold").numbers
    apart = found["groups"]["ndcg"].difference
    gap = found["groups"]["ndcg"].mean.value - found["weak"]["ndcg"].mean.value
    assert apart.value == pytest.approx(gap)
    assert 0 < apart.low < gap < apart.high
    assert found["random"]["ndcg"].difference.high < 0


def test_the_difference_to_a_copy_is_exactly_nothing():
    report = report_of([knows_groups(), knows_groups(name="copy")])
    for found in numbers(report, "cold").numbers["copy"].values():
        assert (found.difference.low, found.difference.high) == (0, 0)


def test_the_same_seed_gives_the_same_report_whatever_the_block():
    one, two = (report_of([knows_groups()], settings=replace(SETTINGS, block=x)) for x in (3, 64))
    for protocol in ("cold", "linked"):
        for metric, number in numbers(one, protocol).numbers["groups"].items():
            other = numbers(two, protocol).numbers["groups"][metric]
            assert number.mean.value == pytest.approx(other.mean.value, abs=1e-6)
            assert number.mean.low == pytest.approx(other.mean.low, abs=1e-6)


def test_hubness_asks_a_sample_of_a_large_catalogue():
    report = report_of([knows_groups()], settings=replace(SETTINGS, hub_queries=31))
    assert [x.hub_queries for x in report.protocols] == [60, 31, 90, 22, 22]
    hub = Method("hub", lambda rows: np.tile(np.arange(N, dtype=np.float32), (len(rows), 1)))
    report = report_of([hub])
    assert value(report, "cold", "hub", "nobody's neighbour") == pytest.approx(1 - (K + 1) / N)
    assert value(report, "cold", "hub", "hubness") > 3


def test_tracks_are_judged_with_and_without_those_of_their_own_artist():
    artists = world()
    rows = [(f"t{x}", f"i{x // 3}", f"t{x}", None, float(x), PARTS[x]) for x in range(N)]
    tracks = pl.DataFrame(rows, schema=ITEMS["track"], orient="row")
    pairs = [("track", f"t{x}", f"t{x + 1}", "s") for x in range(N - 1)]
    catalogue = replace(
        artists,
        tracks=tracks,
        relations=pl.DataFrame(pairs, schema=RELATIONS, orient="row"),
    )
    own = np.arange(N)[:, None] // 3 == np.arange(N) // 3
    method = Method("own artist", lambda rows: own[rows].astype(np.float32))
    report = evaluate(
        Task(catalogue, "track", PARTS), methods=[method], split="test", settings=SETTINGS
    )
    names = ["cold, labelled", "cold", "paper", "linked"]  # no known track is related to a test one
    assert {x.name for x in report.protocols} == {*names, *(f"{x}, other artists" for x in names)}
    answerable = [numbers(report, x).answerable for x in ("cold", "cold, other artists")]
    # Of three tracks in a row the middle one is only related to its own artist's, and so is
    # the very last.
    assert answerable == [22, 22 - sum(x % 3 == 1 for x in range(N - 22, N)) - 1]
    assert value(report, "cold", "own artist", "hit@4") == 1
    assert value(report, "cold, other artists", "own artist", "hit@4") < 0.5
    assert value(report, "cold, other artists", "own artist", "ndcg") < 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"split": "tset"}, SettingsError, "no split 'tset' to evaluate; did you mean 'test'"),
        ({"reference": "grups"}, SettingsError, "no method 'grups'.*did you mean 'groups'"),
        ({"methods": []}, SettingsError, "no method to evaluate"),
        ({"methods": [knows_groups()] * 2}, SettingsError, "two methods are called 'groups'"),
        ({"splits": PARTS[:-1]}, DataError, "89 splits for 90 artists"),
        ({"splits": np.array(["train"] * 89 + ["test"])}, DataError, "1 artists in the test split"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    usual = {"methods": [knows_groups()], "split": "test", "settings": SETTINGS}
    task = Task(world(), "artist", change.pop("splits", PARTS))
    with pytest.raises(error, match=message):
        evaluate(task, **(usual | change))


def test_a_method_that_scores_with_nan_is_named():
    bad = Method("bad", lambda rows: np.full((len(rows), N), np.nan, dtype=np.float32))
    with pytest.raises(ArtifactError, match="method 'bad': the scores of item 0 hold a NaN"):
        report_of([bad])


@pytest.mark.parametrize("change", [{"k": 0}, {"resamples": 50}, {"hub_queries": 1}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="must be"):
        EvaluationSettings(**change)


def test_the_bootstrap_covers_the_mean_and_is_as_wide_as_its_theory():
    values = np.random.default_rng(4).normal(2, 3, size=(400, 2))
    means = bootstrap(values, resamples=2000, seed=1)
    low, high = percentile_interval(means)
    theory = 1.96 * values.std(axis=0) / 20
    assert (high - low) / 2 == pytest.approx(theory, rel=0.1)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.02)
    paired = means - bootstrap(values, resamples=2000, seed=1)
    assert not paired.any()


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(9).normal(size=600)
    group = groups(600, seed=2)
    left = jackknife(lambda kept: np.array([values[kept].mean()]), group)
    assert len(left) == results.GROUPS
    by_theory = values.std() / np.sqrt(600)
    assert standard_error(left)[0] == pytest.approx(by_theory, rel=0.5)


def test_a_method_whose_order_depends_on_who_may_answer_is_told_so():
    truth = known(world(), "artist").toarray().astype(np.float32)
    pools = []

    def among(pool):
        pools.append(len(pool))
        return lambda rows: truth[rows] * np.isin(np.arange(N), pool)

    blind = Method("told", lambda rows: np.zeros((len(rows), N), np.float32), among=among)
    report = report_of([blind])
    assert set(pools) == {90, 22}
    for protocol in ("cold", "paper", "linked"):
        assert value(report, protocol, "told", "ndcg") == pytest.approx(1)


def neighbours_of(row):
    truth = known(world(), "artist")
    return set(truth.indices[truth.indptr[row] : truth.indptr[row + 1]])


def test_found_is_what_a_plain_loop_finds():
    hidden, train = PARTS == "test", PARTS == "train"
    method = knows_groups(0.05)
    report = report_of([method])
    everything = method.scores(np.arange(N))
    recalls, far, reached, wanted, unlinked = [], [], set(), set(), []
    visible = {x: {y for y in neighbours_of(x) if train[x] and train[y]} for x in range(N)}
    for row in np.flatnonzero(train):
        right = {x for x in neighbours_of(row) if hidden[x]}
        if not (visible[row] and right):
            continue
        order = [x for x in np.argsort(-everything[row], kind="stable") if x != row]
        order = [x for x in order if x not in visible[row]]
        recalls.append(len(right & set(order[:K])) / min(K, len(right)))
        far.append(len(right & set(order[:50])) / min(50, len(right)))
        unlinked.append(np.mean([not visible[x] for x in order[:K]]))
        reached |= right & set(order[:50])
        wanted |= right
    whole = numbers(report, "found")
    assert whole.queries == whole.answerable == len(recalls) > 20
    for name, expected in (
        (f"recall@{K}", np.mean(recalls)),
        ("recall@50", np.mean(far)),
        ("long-tail share", np.mean(unlinked)),
        ("nobody finds@50", 1 - len(reached) / len(wanted)),
    ):
        assert value(report, "found", "groups", name) == pytest.approx(expected), name
    cold, found = (value(report, x, "groups", "ndcg@200") for x in ("cold, labelled", "found"))
    both = value(report, "found", "groups", "combined@200")
    assert both == pytest.approx(2 / (1 / cold + 1 / found))
    assert min(cold, found) < both < max(cold, found)


def test_an_unlabelled_candidate_is_neither_right_nor_wrong():
    truth = known(world(), "artist").toarray()
    unlabelled = ~truth.any(axis=1)
    scores = truth.astype(np.float32)
    scores[:, unlabelled] = 2  # all of them first
    report = report_of([Method("tail first", lambda rows: scores[rows])])
    assert value(report, "cold, labelled", "tail first", "ndcg@200") == pytest.approx(1)
    assert value(report, "cold", "tail first", "ndcg@200") < 0.6


def test_a_right_answer_that_lists_name_rarely_counts_more():
    ranks = [np.array([1, 4]), np.array([], dtype=np.int64), np.array([250])]
    weights = [np.array([1.0, 3.0]), np.array([]), np.array([2.0])]
    scores = weighted_ndcg(ranks, weights)
    gain = 1 / np.log2(2) + 3 / np.log2(5)
    assert scores[0] == pytest.approx(gain / (3 / np.log2(2) + 1 / np.log2(3)))
    assert np.isnan(scores[1])
    assert scores[2] == 0
    even = weighted_ndcg(ranks[:1], [np.array([7.0, 7.0])])
    assert even[0] == pytest.approx(accuracy(ranks[:1], k=3)["ndcg@200"][0])
    np.testing.assert_allclose(propensities(np.array([0, 1, 9, 36])), [1 / 6, 1 / 6, 0.5, 1])


def test_the_slice_like_the_unlinked_is_a_quarter_of_those_that_have_an_answer():
    report = report_of([knows_groups()])
    some, whole = (numbers(report, "cold", x) for x in ("like the unlinked", "all"))
    assert some.queries == some.answerable == whole.answerable // 4 > 2


def test_the_harmonic_mean_has_the_interval_of_both_parts():
    generator = np.random.default_rng(0)
    one, two = generator.normal(0.5, 0.02, 20000), generator.normal(0.2, 0.03, 20000)
    both = 2 * one * two / (one + two)
    low, high = np.quantile(both, [0.025, 0.975])
    parts = (
        Interval(0.5, 0.5 - 1.96 * 0.02, 0.5 + 1.96 * 0.02),
        Interval(0.2, 0.2 - 1.96 * 0.03, 0.2 + 1.96 * 0.03),
    )
    mean = combined(*parts)
    assert (mean.low, mean.high) == pytest.approx((low, high), abs=0.008)
    assert combined(Interval(0.0), Interval(0.7)) == Interval(0.0)


def test_of_very_many_items_a_random_part_asks_all(monkeypatch):
    whole = report_of([knows_groups()], split="validation")
    monkeypatch.setattr("undersong.evaluation.protocols.ASKERS", 11)
    some, again = (report_of([knows_groups()], split="validation") for _ in range(2))
    for name, asked in (("cold", 18), ("paper", 18)):
        first, before = numbers(some, name), numbers(whole, name)
        assert (before.queries, first.queries) == (asked, 11)
        assert first.numbers["groups"] == numbers(again, name).numbers["groups"]
    found = {x.name: x.candidates for x in some.protocols}
    assert (found["cold"], found["paper"]) == (N, 18)
