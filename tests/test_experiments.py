import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import sparse

from planted import QUICK_SETTINGS, small_world
from undersong.cli import main
from undersong.errors import ArtifactError, DataError, SettingsError
from undersong.evaluation.baselines.classical import visible_edges
from undersong.evaluation.baselines.network import NetworkSettings
from undersong.evaluation.results import around
from undersong.evaluation.scoring import Judged, Whole
from undersong.lab.reproduction import claims, datasets, noise, outcomes, pages
from undersong.lab.reproduction.datasets import DataSet, ModelAnswers
from undersong.lab.reproduction.experiment import (
    ANSWERED,
    Plan,
    open_folder,
    reproduce,
    seed_runs,
    with_cosine,
)
from undersong.lab.reproduction.job_runner import Job, run_jobs
from undersong.lab.reproduction.outcomes import (
    Estimate,
    combined_estimate,
    estimate,
    whole_estimate,
)
from undersong.models.graph.network import GraphSettings
from undersong.progress import silent
from undersong.relations import listeners, shared_listeners
from undersong.training import Schedule
from worked import work_of

GRAPH = GraphSettings(
    layers=2,
    width=11,
    out=7,
    pairs=40,
    others=13,
    training=Schedule(steps=6, validate_every=3, learning_rate=3e-3),
)
NETWORK = NetworkSettings(hidden=10, width=6, anchors=20, schedule=Schedule(steps=4))
MAPPING = """
[artists]
file = "artists.csv"
name = "name"
[artists.fields.genre]
role = "genre"
[artists.fields.country]
role = "region"
[artists.fields.fame]
type = "number"
role = "popularity"
[artists.fields.judge]
withheld = true
[tracks]
file = "tracks.csv"
title = "title"
artist_fields = true
[plays]
file = "plays.csv"
user = "user"
plays = "plays"
[[relations]]
file = "relations.csv"
a = "a"
b = "b"
source_column = "source"
sources = ["editors"]
[[features]]
name = "descriptors"
kind = "track"
file = "features.csv"
prefix = "f"
"""
ARTISTS = DataSet(
    "planted",
    "planted.toml",
    "planted",
    1,
    datasets.ARTIST_MODELS,
    "5 groups",
    settings="quick.toml",
)
TRACKS = DataSet(
    "songs",
    "planted.toml",
    "planted",
    2,
    datasets.TRACK_MODELS,
    "2 songs an artist",
    settings="tracks.toml",
    by_artist=True,
)
EDGES = DataSet(
    "edges", "planted.toml", "planted", 0, ("RdRM",), "relations alone", "quick.toml", trained=False
)


def put(folder):
    """Lay the planted world out as a user's tables, with a mapping and settings."""
    world, data, examples = small_world(), folder / "data" / "planted", folder / "examples"
    data.mkdir(parents=True)
    examples.mkdir()
    artists = world.artists.with_columns(pl.col("judge").list.first()).drop("split")
    artists.write_csv(data / "artists.csv")
    world.tracks.select("id", "artist", "title").write_csv(data / "tracks.csv")
    world.played("artist").collect().write_csv(data / "plays.csv")
    ids = world.ids("artist")
    others = [(a, b, "another platform") for a, b in zip(ids, ids[31:], strict=False)]
    lists = pl.DataFrame(others, schema=world.relations.drop("kind").schema, orient="row")
    pl.concat([world.relations.drop("kind"), lists]).write_csv(data / "relations.csv")
    features = world.features["descriptors", "track"]
    columns = {f"f{x}": features.vectors[:, x] for x in range(features.vectors.shape[1])}
    pl.DataFrame({"id": features.ids} | columns).write_csv(data / "features.csv")
    (examples / "planted.toml").write_text(MAPPING)
    (examples / "quick.toml").write_text(QUICK_SETTINGS + "[split]\nvalidation = 0.3\n")
    shares = "[split]\nvalidation = 0.25\n"
    (examples / "tracks.toml").write_text(QUICK_SETTINGS + shares + '[run]\nkind = "track"\n')


def plan_in(folder, **changes):
    plan = Plan(
        out=folder / "out",
        data=folder / "data",
        examples=folder / "examples",
        seeds=2,
        graph=GRAPH,
        network=NETWORK,
    )
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the planted set was reproduced with two seeds, and what came of it."""
    folder = tmp_path_factory.mktemp("home")
    put(folder)
    reports = []
    found = reproduce(
        plan_in(folder), [ARTISTS, EDGES], progress=lambda *words: reports.append(words)
    )
    return folder, found, reports


def test_table_1_has_all_eight_models_chance_and_the_baselines(home):
    _, (results, _), _ = home
    names = datasets.ARTIST_MODELS
    assert results.rows == (*names, *(f"{x}_G" for x in names))
    of_plays = {"co-listening", "user-based CF", "ALS"}
    of_words = {"tag kNN", "LSI of tags", "CbRM on tags"}
    learned = {"random", "popularity", "all sources", "MLP", "gravity"}
    edges = {"PageRank", "Adamic-Adar", "common neighbours"}
    assert of_plays | of_words | learned | edges <= set(results.others)
    assert sorted(results.answers["GRM_G"]) == [0, 1]
    assert sorted(results.answers["tag kNN"]) == [0]


def test_models_that_see_edges_have_no_cold_number_and_the_others_do(home):
    _, (results, _), _ = home
    for name in ("GRM", "UiRM", "random", "MLP"):
        assert 0 <= results.number(name, "ndcg@200", pool="cold").value <= 1
    for name in ("GRM_G", "RdRM_G", "PageRank"):
        assert results.number(name, "ndcg@200", pool="cold") is None
        assert results.number(name, "ndcg@200") is not None


def test_items_of_the_split_are_sought_by_known_ones_that_see_no_relation_of_them(home):
    _, (results, _), _ = home
    pool = results.questions.pools["found"]
    sought = np.unique(pool.truth[pool.queries].indices)
    assert pool.shown.getnnz(axis=1)[pool.queries].min() > 0
    assert pool.shown.getnnz(axis=1)[sought].max() == 0
    for name in ("GRM", "tag kNN", "MLP"):
        near, far = (results.number(name, f"recall@{k}", pool="found") for k in (10, 50))
        assert near.low < near.value < near.high
        assert far.value > near.value
        assert results.number(name, "nobody finds@50", pool="found").low >= 0
    for name in ("GRM_G", "PageRank"):
        assert results.number(name, "recall@10", pool="found") is None
        assert results.number(name, "combined@200", pool="found") is None


def test_the_combined_number_is_the_harmonic_mean_of_each_seed(home):
    folder, (results, _), _ = home
    single = []
    for seed in range(2):
        answers = datasets.read_answers(folder / f"out/planted/seed-{seed}/answers/GRM.parquet")
        cold, found = (
            np.nanmean(answers.pools[x].accuracy["ndcg@200"]) for x in ("cold, labelled", "found")
        )
        single.append(2 / (1 / cold + 1 / found))
    combined = results.number("GRM", "combined@200", pool="found")
    assert combined.value == pytest.approx(np.mean(single))
    assert combined.spread == pytest.approx(np.std(single, ddof=1))
    assert combined.low < combined.value < combined.high


def test_nothing_in_one_of_two_numbers_is_nothing_in_both():
    nothing, all_right = np.zeros((3, 41)), np.ones((3, 57))
    combined = combined_estimate(nothing, all_right)
    assert (combined.low, combined.value, combined.high) == (0, 0, 0)
    assert combined_estimate(nothing, nothing).value == 0
    assert combined_estimate(all_right, np.ones((3, 1))).low is None


def test_a_combined_number_knows_the_scatter_of_both_questions():
    generator = np.random.default_rng(6)
    one, two = 0.4 + generator.normal(0, 0.2, (1, 400)), 0.6 + generator.normal(0, 0.3, (1, 900))
    combined = combined_estimate(one, two)
    expected = 2 * one.mean() * two.mean() / (one.mean() + two.mean())
    slopes = (2 * (expected / (2 * x.mean())) ** 2 for x in (one, two))
    errors = (x.std() / x.size**0.5 for x in (one, two))
    margin = 1.96 * np.hypot(*(a * b for a, b in zip(slopes, errors, strict=True)))
    assert combined.value == pytest.approx(expected)
    assert (combined.high - combined.low) / 2 == pytest.approx(margin, rel=0.15)


def test_a_mean_over_seeds_is_the_mean_of_what_each_seed_answered(home):
    folder, (results, _), _ = home
    single = []
    for seed in range(2):
        answers = datasets.read_answers(folder / f"out/planted/seed-{seed}/answers/GRM.parquet")
        single.append(np.nanmean(answers.pools["paper"].accuracy["recall@10"]))
    found = results.number("GRM", "recall@10")
    assert found.value == pytest.approx(np.mean(single))
    assert found.spread == pytest.approx(np.std(single, ddof=1))
    assert found.low < found.value < found.high


def test_a_seed_that_learned_no_order_counts_with_the_cosine_and_is_told():
    def answers(note, *pools):
        return ModelAnswers({x: f"{x} of {note}" for x in pools}, note)

    general = {seed: answers(f"GRM {seed}", "paper", "cold") for seed in (3, 4, 5)}
    ordered = {4: answers("an order", "paper", "cold")}
    filled = with_cosine("undersong", ordered, {"GRM": general})
    assert {x: y.pools["cold"] for x, y in filled.items()} == {
        3: "cold of GRM 3",
        4: "cold of an order",
        5: "cold of GRM 5",
    }
    assert {x.note for x in filled.values()} == {
        "an order; 2 of 3 seeds learned none and answer by E_G"
    }
    edges = {5: answers("with edges", "paper")}
    filled = with_cosine("undersong, with edges", edges, {"GRM": general})
    assert filled[3].pools == {"paper": "paper of GRM 3"}
    assert with_cosine("random", ordered, {"GRM": general}) is ordered


def test_seeds_differ_and_the_items_that_ask_do_not(home):
    folder, (results, _), _ = home
    paths = [folder / f"out/planted/seed-{seed}/answers/RdRM.parquet" for seed in range(2)]
    vectors = [datasets.read_answers(x).pools["paper"] for x in paths]
    first, second = (x.answers["consistent@10"] for x in vectors)
    assert (first != second).any()
    known = [np.isnan(x.accuracy["map"]) for x in vectors]
    np.testing.assert_array_equal(*known)
    assert results.answerable() == int((~known[0]).sum())


def test_what_is_finished_is_not_done_again_and_what_is_gone_is(home):
    folder, (results, _), _ = home
    out = folder / "out/planted"
    kept = {x: x.stat().st_mtime_ns for x in sorted(out.rglob("*.parquet"))}
    lost = out / "seed-1/vectors/UiRM_G.parquet"
    old = lost.read_bytes()
    lost.unlink()
    # As a version left it that had one row less.
    older = out / "seed-0/answers/user-based CF.parquet"
    older.unlink()
    (out / f"seed-0/{ANSWERED}").unlink()
    again, _ = reproduce(plan_in(folder), [ARTISTS, EDGES])
    assert {x: x.stat().st_mtime_ns for x in kept if x not in (lost, older)} == {
        x: y for x, y in kept.items() if x not in (lost, older)
    }
    assert lost.read_bytes() == old
    assert again.number("user-based CF", "map") == results.number("user-based CF", "map")
    assert again.number("UiRM_G", "map") == results.number("UiRM_G", "map")


def test_progress_names_the_job_and_the_time_left(home):
    reports = [x for x in home[2] if x[0] == "reproduce"]
    assert reports[0][3].startswith("planted, seed 0: train; about")
    assert reports[-1][1] == reports[-1][2] == 2 * (9 + 2)
    assert [x[1] for x in reports] == sorted(x[1] for x in reports)


def test_a_quick_and_a_whole_reproduction_do_not_share_a_folder(home):
    folder = home[0]
    with pytest.raises(ArtifactError, match="holds a whole reproduction on validation items"):
        reproduce(plan_in(folder, quick=True), [EDGES])
    with pytest.raises(ArtifactError, match="the same --quick and --split"):
        reproduce(plan_in(folder, split="test"), [EDGES])


@pytest.fixture(scope="module")
def page(home):
    return pages.reproduction_page(plan_in(home[0]), home[1])


def test_the_page_says_what_a_reader_must_know(home, page):
    folder = home[0]
    written = pages.write(page)
    text = (folder / "out/reproduction.md").read_text()
    for word in (
        "Table 1, set planted: the paper's columns",
        "sealed",
        "2 training seeds",
        "## Claims",
    ):
        assert word in text
    start = text.index("Table 1, set planted: cold and found")
    for word in ("found recall@10", "found recall@50", "nobody finds@50", "combined@200"):
        assert word in text[start : start + 400]
    assert "QUICK" not in text
    assert {x.name for x in written} >= {"figure-1-planted.png", "figure-4.svg", "figure-4.png"}
    assert all(x.stat().st_size > 1000 for x in written)
    content = json.loads((folder / "out/reproduction.json").read_text())
    row = content["sets"]["planted"]["models"]["GRM_G"]["numbers"]
    assert {x["pool"] for x in row} == {"linked"}
    for line in pages.terminal(page).splitlines():
        assert len(line) <= pages.WIDTH
        assert "nan" not in line


def test_the_quick_version_says_so_first_and_last(page):
    quick = replace(page, plan=replace(page.plan, quick=True))
    printed = pages.terminal(quick)
    assert printed.startswith("QUICK VERSION")
    assert "QUICK VERSION" in printed.rstrip().splitlines()[-1]
    assert pages.QUICK in pages.markdown(quick)
    assert json.loads(pages.write(quick)[1].read_text())["quick"] is True


def test_test_items_are_asked_where_that_is_wanted(tmp_path):
    put(tmp_path)
    plan = plan_in(tmp_path, seeds=1, split="test")
    (results,) = reproduce(plan, [EDGES])
    (seed_run,) = seed_runs(plan, EDGES)
    rows = results.questions.pools["paper"].queries
    assert set(seed_run.task.splits[rows]) == {"test"}
    assert len(results.slices["all"]) == (seed_run.task.splits == "test").sum()
    text = pages.markdown(pages.reproduction_page(plan, [results]))
    assert "Test items ask." in text
    assert "One training seed: nothing here knows" in text
    assert "sealed. The same items" not in text


def test_olga_has_a_table_by_visible_degree(page):
    lines = pages.terminal(page).splitlines()
    start = next(i for i, x in enumerate(lines) if "ndcg@200 in linked, by visible degree" in x)
    table = "\n".join(lines[start : start + 12])
    assert all(x in table for x in ("RdRM_G", "PageRank", "common neighbours", "1-2 ("))


def test_claims_are_judged_where_their_models_are(home):
    found = {x.text: x for x in claims.claims_of(home[1][0])}
    assert len(found) == 21
    tail = found["GRM gains over CbRM on the long tail"]
    assert [(x.metric, x.of) for x in tail.comparisons] == [("consistent@10", "long tail")]
    harmed = found["the GNN harms the long tail of UiRM"].comparisons[0]
    assert (harmed.above, harmed.below) == ("UiRM", "UiRM_G")
    order = found["GRM > CbRM > UiRM > RdRM"]
    assert [(x.above, x.below) for x in order.comparisons] == [
        ("GRM", "CbRM"),
        ("CbRM", "UiRM"),
        ("UiRM", "RdRM"),
    ]
    assert "the GNN does not help GRM" in found
    edges = [x.text for x in claims.claims_of(home[1][1])]
    assert edges == ["the GNN helps RdRM", "the GNN harms the long tail of RdRM"]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0.1, 0.2), (0.01, 0.3)], "holds"),
        ([(0.1, 0.2), (-0.1, 0.3)], "undecided here"),
        ([(0.1, 0.2), (-0.3, -0.1)], "does not hold"),
        ([(-0.1, 0.2), (-0.3, -0.1)], "does not hold"),
        ([(0.1, 0.2), (None, None)], "undecided here"),
    ],
)
def test_a_claim_holds_only_where_every_interval_is_above_0(intervals, expected):
    assert claims.verdict([Estimate(0.15, low, high) for low, high in intervals]) == expected


def test_listening_joins_the_long_tail_with_famous_items_as_often_as_counted_by_hand(
    home, monkeypatch
):
    monkeypatch.setattr(claims, "FAMOUS_FROM", 4)
    results = home[1][0]
    judged = {x.text: x for x in claims.claims_of(results)}
    task, plays = results.task, listeners(results.task.catalogue, "artist").toarray() > 0
    together = shared_listeners(sparse.csr_matrix(plays), threshold=2, top=20).toarray()
    visible = visible_edges(task, "validation").toarray()
    shares = []
    for item in np.flatnonzero(task.related().getnnz(axis=1) == 0):
        partners = np.flatnonzero(together[item])
        if len(partners):
            shares.append(np.mean([visible[x].sum() >= 4 for x in partners]))
    text = "user interactions connect long-tail and famous items"
    some, more = judged[text].comparisons[0], judged[f"{text} more than chance"].comparisons[0]
    assert some.difference.value == pytest.approx(np.mean(np.array(shares) > 0))
    assert 0 < more.difference.value < np.mean(shares)
    assert f"of {together.sum() // 2:,} pairs of R_U" in judged[text].note
    helped = judged["user interactions help the long tail to be found"].comparisons
    assert [(x.below, x.metric, x.pool) for x in helped] == [
        ("GRM without listening", "recall@50", "found"),
        ("GRM without listening", "ndcg@200", "found"),
    ]


@pytest.fixture(scope="module")
def noisy(home):
    """GRM of the planted set, with noise and three lambdas, on the run that is there."""
    plan = plan_in(home[0], seeds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "WEIGHTS", (0.0, 0.05, 1.0))
        patch.setattr(noise, "SHARES", (0.3,))
        (results,) = noise.measure_noise(plan, [ARTISTS])
        yield plan, results


def test_noise_replaces_a_share_of_the_training_relations_and_nothing_else(noisy):
    plan, results = noisy
    task, (seed_run,) = results.task, seed_runs(plan, ARTISTS)
    pairs = noise.platform_pairs(plan, seed_run)
    assert {abs(a - b) for a, b in pairs.tolist()} == {31}
    assert task.within("train")[pairs].all()
    true = task.related("train")
    before = true.nnz // 2
    lost = []
    for share in (0.1, 0.3):
        changed = noise.with_noise(task, noise.Noise(noise.RANDOM, share), pairs, seed=0)
        false = changed.related("train")
        assert false.nnz == true.nnz
        lost.append(true > false)
        assert lost[-1].nnz // 2 == round(share * before)
        assert not false[true.getnnz(axis=1) == 0].nnz  # the long tail stays without a label
        assert (changed.related() != task.related()).nnz == (false != true).nnz
    assert (lost[0] > lost[1]).nnz == 0
    kinds = noise.noises(task, pairs)
    assert kinds[-1] == noise.Noise(noise.PLATFORM, min(0.3, len(pairs) / before))
    other = noise.with_noise(task, kinds[-1], pairs, seed=0).related("train")
    added = {tuple(x) for x in np.argwhere((other > true).toarray()).tolist()}
    assert {tuple(sorted(x)) for x in added} <= {tuple(x) for x in pairs.tolist()}


def test_every_noise_has_a_curve_over_lambda_beside_its_own_lambda_0(noisy):
    plan, results = noisy
    curves = noise.curves_of(results)
    assert next(iter(curves)) == "no noise"
    assert {len(x) for x in curves.values()} == {3}
    path = plan.out / "planted/seed-0/answers" / f"{curves['no noise'][1].name}.parquet"
    cold = datasets.read_answers(path).pools["cold"].accuracy["ndcg@200"]
    assert curves["no noise"][1].numbers[0].value == pytest.approx(np.nanmean(cold))
    for rows in curves.values():
        assert rows[0].differences == (None, None, None)
        for row in rows[1:]:
            gain = row.numbers[0].value - rows[0].numbers[0].value
            assert row.differences[0].value == pytest.approx(gain)
    (claim, *rest) = noise.noise_claims(results)
    assert len(rest) == 3
    best, more = claim.comparisons
    rows = curves[best.below.split(",")[0]]
    assert best.difference.value == max(x.differences[0].value for x in rows[1:])
    same = next(x for x in curves["no noise"] if x.name.split()[-1] == best.above.split()[-1])
    assert more.difference.value == pytest.approx(best.difference.value - same.differences[0].value)


def test_the_page_of_noise_has_its_curves_and_goes_on_where_it_was(noisy):
    plan, results = noisy
    before = {x: x.stat().st_mtime_ns for x in plan.out.rglob("*.parquet")}
    page = pages.noise_page(plan, noise.measure_noise(plan, [ARTISTS]))
    written = pages.write(page)
    assert {x: x.stat().st_mtime_ns for x in plan.out.rglob("*.parquet")} == before
    assert {x.name for x in written} == {"noise.md", "noise.json", "noise.png", "noise.svg"}
    text = written[0].read_text()
    assert "with the right lambda the prior removes noise: random pairs, ndcg@200" in text
    assert "| 30 % random pairs, lambda 1 |" in text
    assert max(len(x) for x in pages.terminal(page).splitlines()) <= 150


def test_an_estimate_covers_queries_and_seeds():
    generator = np.random.default_rng(3)
    same = np.tile(generator.normal(size=311), (4, 1))
    apart = same + np.array([[-0.5], [0.5], [-0.3], [0.3]])
    narrow, wide = estimate(same), estimate(apart)
    error = 1.96 / 311**0.5
    assert narrow.high - narrow.low == pytest.approx(2 * error, rel=0.15)
    assert narrow.spread == pytest.approx(0)
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert wide.spread == pytest.approx(np.std([-0.5, 0.5, -0.3, 0.3], ddof=1))


def test_a_difference_is_paired_by_query_and_by_seed():
    generator = np.random.default_rng(4)
    one = generator.normal(size=(3, 97)) + np.array([[-1], [0], [1]])
    found = estimate((one + 0.01) - one)
    assert (found.low, found.value, found.high) == pytest.approx((0.01, 0.01, 0.01))


def test_one_seed_or_one_query_says_so():
    assert estimate(np.ones((1, 5))).spread is None
    assert estimate(np.ones((3, 1))).low is None


def test_numbers_of_all_answers_join_both_errors():
    whole = [Judged({}, {}, {"gini": Whole(x, np.full(20, x))}) for x in (0.2, 0.4)]
    found = whole_estimate(dict(enumerate(whole)), "gini")
    assert found.value == pytest.approx(0.3)
    margin = 1.96 * np.std([0.2, 0.4], ddof=1) / 2**0.5
    assert (found.low, found.high) == pytest.approx((0.3 - margin, 0.3 + margin))
    assert whole_estimate(dict(enumerate(whole)), "hubness") is None


def test_answers_come_back_as_they_were(tmp_path):
    whole = {"gini": Whole(0.5, np.array([0.1, 0.9]))}
    judged = {
        "paper": Judged({"map": np.array([0.1, np.nan, 1])}, {"p": np.array([1.0, 2, 3])}, whole)
    }
    datasets.write_answers(ModelAnswers(judged, "why"), tmp_path / "a.parquet")
    answers = datasets.read_answers(tmp_path / "a.parquet")
    assert answers.note == "why"
    paper = answers.pools["paper"]
    np.testing.assert_array_equal(paper.accuracy["map"], [0.1, np.nan, 1])
    np.testing.assert_array_equal(paper.answers["p"], [1, 2, 3])
    assert paper.whole["gini"].value == 0.5
    np.testing.assert_array_equal(paper.whole["gini"].left_out, [0.1, 0.9])


def test_damaged_answers_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="cannot be read .* run `undersong reproduce` again"):
        datasets.read_answers(tmp_path / "a.parquet")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ArtifactError, match="format None, but this version reads 1; delete it"):
        datasets.read_answers(tmp_path / "b.parquet")


def test_a_plan_skips_what_is_done_and_reports_how_long_the_rest_takes(tmp_path):
    paths, reports = [tmp_path / x for x in "abc"], []
    paths[1].touch()
    jobs = [Job(x.name, 30.0, x, lambda _, x=x: x.touch()) for x in paths]
    run_jobs(jobs, progress=lambda *words: reports.append(words))
    assert all(x.exists() for x in paths)
    assert reports[0] == ("reproduce", 1, 3, "a; about 1 min left")
    assert reports[1][1:3] == (2, 3)
    assert reports[-1] == ("reproduce", 3, 3)
    reports.clear()
    run_jobs(jobs, progress=lambda *words: reports.append(words))
    assert reports == [("reproduce", 3, 3)]


def jobs_in(folder, needs):
    return [
        Job(name, 5.0, folder / name, partial(work_of, folder, name, x), x)
        for name, x in needs.items()
    ]


def test_jobs_side_by_side_wait_for_what_they_need_and_each_has_a_process(tmp_path):
    reports = []
    jobs = jobs_in(tmp_path, {"c": ("a", "b"), "a": (), "b": (), "d": ("c",)})
    run_jobs(jobs, processes=3, progress=lambda *words: reports.append(words))
    assert len({(tmp_path / x).read_text() for x in "abcd"} - {str(os.getpid())}) == 4
    assert reports[-1] == ("reproduce", 4, 4)
    assert {x[0] for x in reports if x[1:3] == (1, 2)} == {f"{x}: working" for x in "abcd"}
    assert {x[3] for x in reports if x[0] == "a: working"} == {"1"}
    begun = [x[3][0] for x in reports if x[0] == "reproduce" and len(x) == 4]
    assert sorted(begun[:2]) == ["a", "b"]
    assert begun[2:] == ["c", "d"]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("dies", ArtifactError, "dies: its process ended with code 7 .*--processes 1"),
        ("refuses", DataError, "nothing to learn from"),
        ("fails", RuntimeError, "fails failed in its process:\n(?s:.*)ZeroDivisionError: by 0"),
    ],
)
def test_what_goes_wrong_in_a_process_is_said_and_the_rest_is_kept(tmp_path, name, error, words):
    jobs = jobs_in(tmp_path, {"a": (), name: ("a",), "b": (name,)})
    with pytest.raises(error, match=words):
        run_jobs(jobs, processes=2, progress=silent)
    assert [x.name for x in tmp_path.iterdir()] == ["a"]


def test_jobs_that_wait_for_each_other_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        run_jobs(jobs_in(tmp_path, {"a": ("b",), "b": ("a",)}), processes=2, progress=silent)


def test_a_mistyped_set_is_answered_with_the_nearest():
    assert [x.name for x in datasets.named("T, A,T")] == ["T", "A"]
    with pytest.raises(SettingsError, match="no data set 'lider'; did you mean 'lieder'"):
        datasets.named("A,lider")
    with pytest.raises(SettingsError, match="no data set is named; known: A, B, T, lieder, olga"):
        datasets.named(" , ")


def test_absent_data_is_named_with_what_to_do(tmp_path):
    put(tmp_path)
    plan = plan_in(tmp_path, data=tmp_path / "nowhere")
    with pytest.raises(DataError, match="no data for set planted in .*nowhere.*--from"):
        reproduce(plan, [ARTISTS])


def test_the_split_is_fixed_for_every_seed_and_no_artist_is_torn(tmp_path):
    put(tmp_path)
    settings = datasets.settings_of(TRACKS, tmp_path / "examples")
    folder = tmp_path / "catalogue"
    datasets.prepare(
        TRACKS, folder, settings=settings, data=tmp_path / "data", examples=tmp_path / "examples"
    )
    plan = plan_in(tmp_path)
    (tmp_path / "out/songs").mkdir(parents=True)
    folder.rename(tmp_path / "out/songs/catalogue")
    first, second = seed_runs(plan, TRACKS)
    np.testing.assert_array_equal(first.task.splits, second.task.splits)
    assert set(first.task.splits) == {"train", "validation", "test"}
    torn = first.task.catalogue.tracks.group_by("artist").agg(pl.col("split").n_unique())
    assert torn["split"].to_list() == [1] * 84
    assert (first.seed, second.seed) == (0, 1)


def test_killed_at_any_moment_it_goes_on_to_the_same_answers(home, tmp_path):
    folder, (_, results), _ = home
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "import test_experiments as t; from undersong.lab.reproduction.experiment import reproduce;"
        "reproduce(t.plan_in(Path(sys.argv[2]), out=Path(sys.argv[3]), seeds=1), [t.EDGES])"
    )
    tests = os.path.dirname(__file__)
    command = [sys.executable, "-c", code, tests, str(folder), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = tmp_path / "out/edges/seed-0/made.json"
    deadline = time.monotonic() + 60
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert begun.exists()
    assert not (tmp_path / f"out/edges/seed-0/{ANSWERED}").exists()
    (again,) = reproduce(plan_in(folder, out=tmp_path / "out", seeds=1), [EDGES])
    for name in ("RdRM_G", "PageRank"):
        np.testing.assert_array_equal(
            again.answers[name][0].pools["paper"].accuracy["map"],
            results.answers[name][0].pools["paper"].accuracy["map"],
        )


def test_other_settings_or_another_mapping_are_refused_and_what_is_there_stays(tmp_path):
    put(tmp_path)
    plan = plan_in(tmp_path, seeds=1)
    open_folder(plan, [made := EDGES])
    seed_runs(plan, made)
    recorded = json.loads((plan.out / made.name / "seed-0/made.json").read_text())["settings"]
    assert "graph" not in recorded  # settings that came later: older folders are continued
    kept = plan.out / made.name / "seed-0/run/current.json"
    kept.parent.mkdir()
    kept.write_text("weeks of work")
    wider = replace(plan, graph=replace(GRAPH, width=17))
    with pytest.raises(ArtifactError, match=r"other settings: graph\.width is 11, not 17; choose"):
        seed_runs(wider, made)
    mapping = plan.examples / made.mapping
    mapping.write_text(mapping.read_text() + "\n")
    with pytest.raises(ArtifactError, match="imported by another mapping"):
        open_folder(plan, [made])
    assert kept.read_text() == "weeks of work"


def test_tracks_have_their_table_with_and_without_the_own_artist(tmp_path):
    put(tmp_path)
    (results,) = reproduce(plan_in(tmp_path, seeds=1), [TRACKS])
    found = outcomes.tables_of(results, outcomes.plus_minus)
    assert [x.title for x in found] == [
        "Table 2, set songs: the paper's columns",
        "Table 2, set songs: cold and found",
        "Table 2, set songs: the paper's columns without the query's own artist",
        "Table 2, set songs: cold and found without the query's own artist",
        "Table 2, set songs: withheld fields and exposure",
    ]
    assert results.rows == ("RdRM", "CbRM", "GRM", "RdRM_G", "CbRM_G", "GRM_G")
    own = results.number("GRM", "recall@10", pool="cold")
    others = results.number("GRM", "recall@10", pool="cold, other artists")
    assert own is not None
    assert others is not None
    assert own != others


def test_the_command_prints_tables_and_claims(tmp_path, monkeypatch):
    put(tmp_path)
    monkeypatch.setattr(datasets, "SETS", {"edges": EDGES})
    words = ["--data", "edges", "--quick", "--seeds", "1", "--from", str(tmp_path / "data")]
    words += ["--examples", str(tmp_path / "examples")]
    done = CliRunner().invoke(main.cli, ["reproduce", str(tmp_path / "out"), *words])
    assert done.exit_code == 0, done.output
    assert "QUICK VERSION" in done.output
    assert "OLGA, set edges: the paper's columns" in done.output
    assert "edges: the GNN helps RdRM" in done.output
    wrong = CliRunner().invoke(main.cli, ["reproduce", str(tmp_path / "o"), "--data", "edge"])
    assert wrong.exit_code == 1
    assert "did you mean 'edges'" in wrong.output
    both = CliRunner().invoke(
        main.cli, ["reproduce", str(tmp_path / "o"), "--noise", "--ablations"]
    )
    assert (both.exit_code, "one at a time" in both.output) == (2, True)
    assert silent("x", 1, 1) is None


def test_the_interval_of_a_share_stays_within_its_range_and_that_of_hubness_does_not():
    for name, value, bounds in (
        ("coverage@10", 0.97, (0.872, 1.0)),
        ("nobody's neighbour", 0.02, (0.0, 0.118)),
        ("hubness", 0.04, (-0.058, 0.138)),
    ):
        assert around(name, value, 0.05) == pytest.approx(bounds)
