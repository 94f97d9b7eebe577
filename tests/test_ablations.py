import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from planted import small_world
from test_experiments import ARTISTS, plan_in, put
from undersong.catalogue.tables import ITEMS, Catalogue
from undersong.embeddings import Embeddings, unit
from undersong.errors import SettingsError
from undersong.evaluation.method import Method, from_vectors
from undersong.lab.reproduction import ablations, pages
from undersong.lab.reproduction.ablations import (
    LOSSES,
    Ablation,
    Bags,
    ablations_of,
    rows_of,
    sources_in,
)
from undersong.lab.reproduction.datasets import read_answers
from undersong.losses import FORMS
from undersong.models.content.network import ContentSettings
from undersong.models.general.network import GeneralSettings
from undersong.settings import with_changes


def test_every_ablation_that_was_asked_for_is_listed_and_names_settings_that_exist():
    rows = ablations_of(small_world(), "artist")
    names = [x.name for x in rows]
    assert names[0] == "GRM"
    assert len(set(names)) == len(names)
    for wanted in (
        *(f"lambda {x}" for x in ("0", "0.05", "0.1", "0.2", "0.5", "1")),
        "equation 2 as printed",
        "no mining",
        *(f"{x}, best of 6" for x in LOSSES),
        *(f"without {x}" for x in ("content", "interaction", "genre", "country", "fame")),
        "no modality dropout",
        "no feature crossing",
        "no third layer",
        "fields crossed by inner products",
        "long tail as negatives",
        "graded prior",
        "attention",
        "1 prototype",
        *(f"{x} prototypes" for x in (2, 3, 4)),
        "GRM, CSLS",
        "CbRM",
        *(f"CbRM, {x}, best of 6" for x in ("triplet", "InfoNCE", "tags, triplet")),
        "CbRM, tags",
        "CbRM, listening",
    ):
        assert wanted in names
    for row in rows:
        default = ContentSettings() if row.way == "content" else GeneralSettings()
        for choice in row.choices:
            changed = with_changes(default, choice, where="")
            assert (changed == default) == all(
                _value(default, path) == value for path, value in choice.items()
            )


def changed(choice):
    return with_changes(GeneralSettings(), choice, where="[general]")


def _value(table, path):
    for name in path.split("."):
        table = getattr(table, name)
    return table


def test_sources_are_weighed_where_there_are_two():
    world = small_world()
    halves = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("listeners"))
    two = replace(world, relations=world.relations.with_columns(source=halves.otherwise("source")))
    one = replace(world, relations=world.relations.with_columns(source=pl.lit("editors")))
    weighed = "sources by learned reliability"
    assert [weighed in [x.name for x in ablations_of(x, "artist")] for x in (two, one)] == [
        True,
        False,
    ]


def test_every_loss_has_the_same_budget():
    assert {len(x) for x in LOSSES.values()} == {6}
    assert all(len({str(y) for y in x}) == 6 for x in LOSSES.values())
    forms = {changed(x[0]).loss.form for x in LOSSES.values()}
    assert forms == set(FORMS) - {"as printed"}


def test_sources_that_are_withheld_or_absent_are_none_to_leave_out():
    world = small_world()
    assert sources_in(world, "artist") == ("content", "interaction", "genre", "country", "fame")
    bare = replace(world, features={}, plays=world.plays.clear())
    assert sources_in(bare, "artist") == ("genre", "country", "fame")


def test_a_setting_that_does_not_exist_or_refuses_is_named():
    with pytest.raises(SettingsError, match=r"\[general\] loss.lamda = 1"):
        changed({"loss.lamda": 1})
    with pytest.raises(SettingsError, match="form 'mean'"):
        changed({"loss.form": "mean"})


ROWS = (
    Ablation("GRM"),
    Ablation("lambda 0.05", ({"loss.prior_weight": 0.05},)),
    Ablation("graded prior", ({"graded": True},)),
    Ablation("triplet", ({"loss.form": "triplet"}, {"loss.form": "triplet", "loss.margin": 0.1})),
    Ablation("without genre", without=("genre",)),
    Ablation("GRM, CSLS", way="hubs"),
    Ablation("CbRM", way="content"),
    Ablation("CbRM, tags", ({"supervision": "tags"},), way="content"),
    Ablation("mean of 5", way="pooling"),
    Ablation("attention", way="pooling"),
    Ablation("2 prototypes", way="pooling"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which a few ablations of the planted set were made with one seed."""
    folder = tmp_path_factory.mktemp("ablated")
    put(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "ablations_of", lambda *_: ROWS)
        patch.setattr(ablations, "SCHEDULE", replace(ablations.SCHEDULE, steps=6, validate_every=3))
        yield folder, ablations.ablate(plan_in(folder, seeds=1), [ARTISTS])[0]


def test_each_row_has_its_numbers_and_its_difference_to_the_row_beside_it(home):
    _, results = home
    assert [x.name for x in rows_of(results)] == [x.name for x in ROWS]
    numbers = {x.name: x for x in rows_of(results)}
    assert numbers["GRM"].differences == (None, None, None)
    for name, beside in (
        ("graded prior", "GRM"),
        ("CbRM, tags", "CbRM"),
        ("attention", "mean of 5"),
    ):
        for value, apart, other in zip(
            numbers[name].numbers,
            numbers[name].differences,
            numbers[beside].numbers,
            strict=True,
        ):
            assert apart.value == pytest.approx(value.value - other.value)
            assert apart.low <= apart.value <= apart.high
    assert any(x.value for x in numbers["without genre"].differences)
    assert numbers["CbRM, tags"].note.startswith("supervision = tags")


def test_a_row_that_changes_nothing_is_the_default_itself(home):
    _, results = home
    same = next(x for x in rows_of(results) if x.name == "lambda 0.05")
    assert [(x.low, x.value, x.high) for x in same.differences] == [(0, 0, 0)] * 3
    assert "lambda 0.05" in pages.what_matters(rows_of(results))[-1]


def test_of_several_tries_the_best_is_told_and_named(home):
    folder, results = home
    row = next(x for x in rows_of(results) if x.name == "triplet")
    tried = sorted((folder / "out/planted/seed-0/answers").glob("ablation triplet ?*.parquet"))
    means = []
    for file in tried:
        answers = read_answers(file)
        means.append((np.nanmean(answers.pools["cold"].accuracy["ndcg@200"]), answers.note))
    assert len(means) == 2
    assert row.numbers[0].value == pytest.approx(max(means)[0])
    assert row.note == max(means)[1]


def test_finished_rows_are_not_trained_again_and_embeddings_are_not_kept(home):
    folder, _ = home
    before = {x: x.stat().st_mtime_ns for x in (folder / "out").rglob("*.parquet")}
    assert not list((folder / "out/planted/seed-0/vectors").glob("*.parquet"))
    ablations.ablate(plan_in(folder, seeds=1), [ARTISTS])
    assert {x: x.stat().st_mtime_ns for x in (folder / "out").rglob("*.parquet")} == before


def test_the_page_of_ablations_says_what_matters(home):
    folder, results = home
    page = pages.ablations_page(plan_in(folder, seeds=1, quick=True), [results])
    path, content = pages.write(page)
    text = path.read_text()
    assert "Ablations of GRM, set planted, 1 seed\n" in text
    assert "cold NDCG@200: lower: " in text
    assert "triplet: loss.form = triplet" in text
    assert len(json.loads(content.read_text())["sets"]["planted"]["rows"]) == len(ROWS)
    printed = pages.terminal(page)
    assert printed.startswith("QUICK VERSION")
    assert max(len(x) for x in printed.splitlines()) <= 150


def bags(seed, *, n=9, width=5):
    """Artists with 0 to 7 tracks."""
    generator = np.random.default_rng(seed)
    tracks = np.zeros((n, ablations.MOST, width), dtype=np.float32)
    there = np.arange(ablations.MOST) < np.arange(n)[:, None] % 8
    tracks[there] = unit(generator.normal(size=(there.sum(), width)).astype(np.float32))
    return Bags(tracks, there)


def test_bags_hold_the_most_popular_tracks_first_and_an_own_vector_where_there_is_none():
    world = small_world()
    tracks = world.features["descriptors", "track"]
    own = Embeddings(("a84", "a00"), np.ones((2, 7), dtype=np.float32))
    popular = world.tracks.with_columns(popularity=pl.int_range(pl.len()).cast(pl.Float64))
    found = ablations.bags_of(replace(world, tracks=popular), tracks=tracks, artists=own)
    np.testing.assert_array_equal(found.tracks[0, 0], tracks.vectors[tracks.index["a00-1"]])
    np.testing.assert_array_equal(found.tracks[0, 1], tracks.vectors[tracks.index["a00-0"]])
    np.testing.assert_array_equal(found.tracks[84, 0], np.ones(7))
    assert found.there.sum(axis=1).tolist() == [2] * 84 + [1]


def test_as_many_prototypes_as_tracks_compare_the_best_pair_of_tracks():
    given = bags(1, n=6)
    found = ablations.prototypes(given, count=6, seed=0).scores(np.arange(6))
    for a in range(6):
        for b in range(6):
            if given.there[a].any() and given.there[b].any():
                pairs = given.tracks[a][given.there[a]] @ given.tracks[b][given.there[b]].T
                assert found[a, b] == pytest.approx(pairs.max(), abs=1e-5)
    assert found[1, 0] == -np.inf
    assert not found[0].any()


def test_one_prototype_is_the_mean_of_the_tracks():
    given = bags(2)
    one = ablations.prototypes(given, count=1, seed=0).scores(np.arange(9))
    mean = ablations.mean_pooling(given, top=ablations.MOST).scores(np.arange(9))
    np.testing.assert_allclose(one, mean, atol=1e-5)


def test_prototypes_find_the_two_styles_of_an_artist():
    tracks = np.zeros((1, ablations.MOST, 3), dtype=np.float32)
    tracks[0, :5] = [[1, 0, 0], [0.99, 0.1, 0], [0, 1, 0], [0, 0.99, 0.1], [1, 0.05, 0]]
    centres, used = ablations._k_means(Bags(tracks, np.arange(ablations.MOST)[None] < 5), 2, 0)
    assert used.all()
    assert sorted(int(x.argmax()) for x in centres[0]) == [0, 1]


def test_attention_begins_as_the_mean_and_learns_which_tracks_tell():
    """One track of each artist tells its group; a first column says which one it is."""
    generator = np.random.default_rng(0)
    n, width, groups = 90, 8, 6
    tracks = np.zeros((n, ablations.MOST, width), dtype=np.float32)
    tracks[:, :4] = generator.normal(size=(n, 4, width))
    tracks[:, :4, 0] = -1
    tracks[:, 0] = 0.3 * generator.normal(size=(n, width))
    tracks[np.arange(n), 0, 1 + np.arange(n) % groups] += 2
    tracks[:, 0, 0] = 1
    given = Bags(unit(tracks.reshape(-1, width)).reshape(tracks.shape), tracks.any(axis=2))
    label = np.arange(n) % groups
    same = (label[:, None] == label) & ~np.eye(n, dtype=bool)
    train = np.arange(n) < 60
    truth = sparse.csr_matrix(same)
    learned = ablations.attention_pooling(
        given,
        sparse.csr_matrix(same & train[:, None] & train),
        queries=np.arange(60, 90),
        truth=truth,
        seed=0,
    )
    plain = ablations.mean_pooling(given, top=ablations.MOST)

    def right(method):
        scores = method.scores(np.arange(60, 90))
        scores[np.arange(30), np.arange(60, 90)] = -np.inf
        return same[np.arange(60, 90), scores.argmax(axis=1)].mean()

    assert right(learned) > right(plain) + 0.2


def test_scaling_takes_from_hubs_what_everybody_gives_them():
    generator = np.random.default_rng(5)
    vectors = generator.normal(size=(23, 4)).astype(np.float32)
    method = from_vectors("x", vectors, missing=np.arange(23) == 7)
    found = ablations.without_hubs(method, 23, near=3, size=10)
    plain = method.scores(np.arange(23))
    density = np.zeros(23)
    for row in range(23):
        others = np.sort(np.delete(plain[row], row))[::-1][:3]
        density[row] = others.mean()
    scaled = found.scores(np.array([4, 2]))
    for turn, row in enumerate((4, 2)):
        for item in set(range(23)) - {7}:
            expected = 2 * plain[row, item] - density[row] - density[item]
            assert scaled[turn, item] == pytest.approx(expected, abs=1e-5)
        assert scaled[turn, 7] == -np.inf
    assert isinstance(found, Method)
    assert found.name == "x, CSLS"


def test_a_catalogue_without_tracks_has_no_rows_of_pooling():
    artists = pl.DataFrame({"id": ["a"], "name": ["A"], "split": [None]}, schema=ITEMS["artist"])
    assert all(
        x.way == "general" or x.way == "hubs"
        for x in ablations_of(Catalogue(artists, fields=()), "artist")
    )
