import csv
import dataclasses
import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.errors import ArtifactError, DataError, SettingsError, install
from undersong.lab.tuning import study, trials
from undersong.lab.tuning.study import tune
from undersong.lab.tuning.trials import SPACE, Bench, Range, TrialScore
from undersong.pipeline.learn import learn
from undersong.pipeline.run_settings import Settings, read_settings

PARTS = {3: "validation", 5: "test"}
KILL_IN_TRIAL = 1
CLIMB = {"only": ["loss.known.gamma"], "count": 13}

# Ends itself by SIGKILL in the middle of GRM's second training, two steps after a checkpoint.
KILLED = f"""
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from undersong.pipeline.run_settings import read_settings
from undersong.lab.tuning.study import tune

home, trial = Path(sys.argv[1]), -1

def progress(stage, done, total, note=""):
    global trial
    trial += stage == "GRM" and done == 1
    if trial == {KILL_IN_TRIAL} and stage == "GRM" and done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

settings = read_settings(home / "quick.toml")
tune(home / "catalogue", Path(sys.argv[2]), settings=settings, count=3, seed=1, progress=progress)
"""


def split_world():
    """The planted world with a split that does not hang on its relations."""
    world = small_world()
    split = [PARTS.get(x % 7, "train") for x in range(len(world.artists))]
    return dataclasses.replace(world, artists=world.artists.with_columns(pl.Series("split", split)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A catalogue and a settings file."""
    folder = tmp_path_factory.mktemp("home")
    tables.write_catalogue(split_world(), folder / "catalogue")
    # GRM begins with the slowest steps that a search may take, so that a trial is better.
    slow = QUICK_SETTINGS.replace("[general.training]", "[general.training]\nlearning_rate = 2e-4")
    (folder / "quick.toml").write_text(slow)
    return folder


@pytest.fixture(scope="module")
def whole(home):
    """A search for GRM that nothing interrupted."""
    return search(home, home / "study", count=3, seed=1)


@pytest.fixture(scope="module")
def learned(home, tmp_path_factory):
    """The stages trained as `undersong train` does it, with the given settings."""
    settings = read_settings(home / "quick.toml")
    return learn(split_world(), settings, work=tmp_path_factory.mktemp("work"))


def search(home, folder, **options):
    settings = read_settings(home / "quick.toml")
    return tune(home / "catalogue", folder, **({"settings": settings} | options))


@pytest.fixture
def quick_bench(monkeypatch):
    """Replace training by a function of the settings, to test the search around it."""
    return lambda judge: judge_by(monkeypatch, judge)


def judge_by(patch, judge):
    bench = Bench({}, frozenset(), judge)
    patch.setattr(study.trials, "prepare", lambda *_, **__: bench)


@pytest.fixture(scope="module")
def climbed(home, tmp_path_factory):
    """A search on the hill, long enough for TPE to draw by what it has seen."""
    with pytest.MonkeyPatch.context() as patch:
        judge_by(patch, hill)
        return search(home, tmp_path_factory.mktemp("climbed"), **CLIMB)


def hill(settings, seed):
    """Best where gamma is .4 and the margin .2; the seed adds a little."""
    known = settings.general.loss.known
    score = 0.9 - (known.gamma - 0.4) ** 2 - (known.margin - 0.2) ** 2 + 0.001 * seed
    return TrialScore(score, np.array([score - 0.1, score, score + 0.1]))


def tried(found):
    return [(dict(x.values), x.score) for x in found.trials]


def test_the_first_trial_is_what_was_given(home, whole, learned):
    settings = read_settings(home / "quick.toml")
    assert whole.trials[0] == whole.first
    assert whole.first.values["general.anchors"] == settings.general.anchors
    assert all(trials.value_of(settings, path) == x for path, x in whole.first.values.items())
    assert whole.first.score == learned.outcomes["general"].best_score


def test_best_toml_trains_to_the_score_that_it_promises(home, whole, tmp_path):
    assert whole.best.score > whole.first.score
    settings = read_settings(home / "study/best.toml")
    assert settings == whole.settings
    assert settings.general.fields == 4, "a given setting that was not searched is kept"
    learned = learn(split_world(), settings, work=tmp_path)
    assert learned.outcomes["general"].best_score == whole.best.score


def test_every_trial_is_written_as_a_table_and_as_json(home, whole):
    with (home / "study/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(x["score"]) for x in rows] == pytest.approx([x.score for x in whole.trials])
    assert [float(x["general.tail"]) for x in rows] == [
        x.values["general.tail"] for x in whole.trials
    ]
    about = json.loads((home / "study/study.json").read_text())
    assert about["found"]["best"] == whole.best.number
    assert about["found"]["trials"][2]["score"] == whole.trials[2].score


def test_the_standard_error_is_of_the_items_whose_mean_is_the_score(home, whole):
    each = [np.load(home / f"study/queries/{x.number}.npy") for x in (whole.first, whole.best)]
    assert each[0].mean() == pytest.approx(whole.first.score, abs=1e-9)
    assert whole.queries == len(each[0])
    difference = each[1] - each[0]
    mean = sum(difference) / len(difference)
    spread = sum((x - mean) ** 2 for x in difference) / (len(difference) - 1)
    assert whole.standard_error == pytest.approx((spread / len(difference)) ** 0.5)
    assert whole.gain == pytest.approx(mean)


def test_a_search_killed_in_a_trial_goes_on_like_one_that_was_not(home, whole, tmp_path):
    command = [sys.executable, "-c", KILLED, str(home), str(tmp_path / "study")]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    steps = []

    def note(stage, done, total, word=""):
        if done:  # a stage that goes on begins by saying so, at 0
            steps.append((stage, done))

    resumed = search(home, tmp_path / "study", count=3, seed=1, progress=note)
    assert tried(resumed) == tried(whole)
    assert {stage for stage, _ in steps} == {"GRM", "at one remove", "tune"}, (
        "E_C and E_U were kept"
    )
    learned = [done for stage, done in steps if stage == "GRM"]
    assert learned[0] == 4, "the trial went on from its checkpoint"
    stored = optuna.load_study(
        study_name="undersong", storage=f"sqlite:///{tmp_path / 'study/study.db'}"
    )
    states = [x.state.name for x in stored.get_trials()]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_the_test_split_is_never_read(home, whole, tmp_path):
    world = split_world()
    part = dict(world.artists.select("id", "split").iter_rows())
    tested = [x for x in part if part[x] == "test"]
    touches = pl.col("a").is_in(tested) | pl.col("b").is_in(tested)
    # Every test artist is now related to all that stand before it, and to none as it was.
    corrupt = pl.DataFrame(
        [("artist", a, b, "editors") for b in tested for a in part if a < b],
        schema=world.relations.schema,
        orient="row",
    )
    relations = pl.concat([world.relations.filter(~touches), corrupt])
    assert world.relations.filter(touches).height > 30
    tables.write_catalogue(dataclasses.replace(world, relations=relations), tmp_path / "catalogue")
    settings = read_settings(home / "quick.toml")
    found = tune(tmp_path / "catalogue", tmp_path / "study", settings=settings, count=2, seed=1)
    assert tried(found) == tried(whole)[:2]


def test_a_study_of_something_else_is_refused(home, whole, tmp_path):
    world = split_world()
    tables.write_catalogue(
        dataclasses.replace(world, plays=world.plays.head(9)), tmp_path / "catalogue"
    )
    settings = read_settings(home / "quick.toml")
    with pytest.raises(ArtifactError, match="study holds a study of another catalogue"):
        tune(tmp_path / "catalogue", home / "study", settings=settings)
    with pytest.raises(ArtifactError, match=r"other settings: content.width is 10, not 256"):
        search(home, home / "study", settings=Settings(), seed=1)
    with pytest.raises(ArtifactError, match="another stage: 'general', not 'content'"):
        search(home, home / "study", stage="content", seed=1)
    with pytest.raises(ArtifactError, match="another seed: 1, not 8"):
        search(home, home / "study", seed=8)
    with pytest.raises(ArtifactError, match="other settings to search: general.loss.known.alpha"):
        search(home, home / "study", only=["tail"], seed=1)


def test_a_search_that_did_not_begin_may_ask_for_something_else(home, tmp_path):
    with pytest.raises(SettingsError, match="of content.mask none makes a difference"):
        search(home, tmp_path, stage="content", only=["mask"])
    found = search(home, tmp_path, stage="content", only=["noise"], count=1)
    assert set(found.first.values) == {"content.noise"}


@pytest.mark.parametrize("stage", ["content", "interaction"])
def test_the_other_stages_are_tuned_by_their_own_score(home, learned, stage, tmp_path):
    found = search(home, tmp_path / "study", stage=stage, count=2)
    assert found.first.score == learned.outcomes[stage].best_score
    assert found.trials[1].score != found.first.score
    second = dataclasses.replace(found, best=found.trials[1])
    assert "tells only its mean" in text_of(second)
    assert f"{stage}.mask" not in found.first.values, "vectors are not masked"


def test_a_trial_takes_up_no_checkpoint_of_another(home, tmp_path):
    # Two trials that differ in their loss alone: a checkpoint could not tell them apart.
    found = search(home, tmp_path, stage="content", only=["loss.gamma"], count=2)
    assert found.trials[0].score != found.trials[1].score


def test_a_stage_without_data_cannot_be_tuned(home, tmp_path):
    world = split_world()
    bare = dataclasses.replace(world, features={}, plays=world.plays.clear())
    tables.write_catalogue(bare, tmp_path / "catalogue")
    settings = read_settings(home / "quick.toml")
    with pytest.raises(DataError, match="there is no content to tune"):
        tune(tmp_path / "catalogue", tmp_path / "a", settings=settings, stage="content")
    with pytest.raises(DataError, match="too few artists or users with plays"):
        tune(tmp_path / "catalogue", tmp_path / "b", settings=settings, stage="interaction")


def test_content_that_validation_cannot_judge_is_not_tuned(home, tmp_path):
    world = split_world()
    asks = world.artists.filter(pl.col("split") == "validation")["id"].to_list()
    single = ~(pl.col("artist").is_in(asks) & pl.col("id").str.ends_with("-1"))
    both = pl.col("a").is_in(asks) & pl.col("b").is_in(asks)
    lone = dataclasses.replace(
        world, tracks=world.tracks.filter(single), relations=world.relations.filter(~both)
    )
    features = world.features[("descriptors", "track")]
    kept = lone.tracks["id"].to_list()
    of_kept = dataclasses.replace(features, ids=tuple(kept), vectors=features.align(kept)[0])
    lone = dataclasses.replace(lone, features={("descriptors", "track"): of_kept})
    tables.write_catalogue(lone, tmp_path / "catalogue")
    settings = read_settings(home / "quick.toml")
    with pytest.raises(DataError, match=r"nothing judges \[content\]"):
        tune(tmp_path / "catalogue", tmp_path / "study", settings=settings, stage="content")


def test_the_search_finds_what_is_better(climbed):
    top = 0.9 - 0.3**2
    assert climbed.first.score == pytest.approx(top - 0.4**2)
    assert top - 0.001 < climbed.best.score <= top
    assert set(climbed.changes) == {"general.loss.known.gamma"}


def test_interrupted_anywhere_the_trials_are_the_same(home, climbed, tmp_path, quick_bench):
    calls = []

    def interrupted(settings, seed):
        calls.append(settings)
        if len(calls) in (1, 4, 14):
            raise KeyboardInterrupt
        return hill(settings, seed)

    quick_bench(interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            search(home, tmp_path, **CLIMB)
    assert tried(search(home, tmp_path, **CLIMB)) == tried(climbed)
    assert len(calls) == 13 + 3


def test_a_trial_that_is_cut_short_again_and_again_is_given_up(home, tmp_path, quick_bench):
    calls = []

    def deadly(settings, seed):
        calls.append(settings.general.tail)
        if settings.general.tail > 16:
            raise KeyboardInterrupt
        return hill(settings, seed)

    quick_bench(deadly)
    options = {"only": ["tail"], "count": 3, "seed": 3}
    for _ in range(3 * 3):
        try:
            found = search(home, tmp_path / "s", **options)
            break
        except KeyboardInterrupt:
            continue
    lost = [x for x in found.trials if x.score is None]
    assert lost
    assert {x.error for x in lost} == {"cut short 3 times: given up"}
    assert all(calls.count(x.values["general.tail"]) == 3 for x in lost)
    assert len(found.trials) == 3


def test_a_trial_that_fails_counts_and_is_never_the_best(home, tmp_path, quick_bench):
    def picky(settings, seed):
        if settings.general.loss.known.gamma < 0.6:
            raise ArtifactError("GRM: the loss is nan at step 3")
        return hill(settings, seed)

    quick_bench(picky)
    found = search(home, tmp_path / "s", only=["loss.known.gamma"], count=7)
    failed = [x for x in found.trials if x.score is None]
    assert 0 < len(failed) < 6
    assert {x.error for x in failed} == {"GRM: the loss is nan at step 3"}
    assert found.best.score is not None
    assert f"7 trials, {len(failed)} of them failed" in text_of(found)


def test_given_settings_that_cannot_be_trained_end_the_search_and_are_tried_again(
    home, tmp_path, quick_bench
):
    def broken(settings, seed):
        raise DataError("too few to learn from")

    quick_bench(broken)
    with pytest.raises(DataError, match="too few to learn from"):
        search(home, tmp_path / "s", count=2, only=["anchors"])
    quick_bench(hill)
    found = search(home, tmp_path / "s", count=2, only=["anchors"])
    assert found.first.values["general.anchors"] == 40
    assert len(found.trials) == 2


def test_a_search_stops_when_its_time_is_up_and_goes_on_when_asked(home, tmp_path, quick_bench):
    quick_bench(hill)
    for expected, options in [(1, {"minutes": 0}), (3, {}), (3, {"count": 2})]:
        options = {"only": ["anchors"], "count": 3} | options
        assert len(search(home, tmp_path / "s", **options).trials) == expected


def test_two_searches_in_one_folder_are_refused(home, tmp_path, quick_bench):
    def beside(settings, seed):
        with ThreadPoolExecutor(1) as threads:
            threads.submit(search, home, tmp_path / "s", count=1).result()

    quick_bench(beside)
    with pytest.raises(ArtifactError, match="another process writes to .*s; wait for it"):
        search(home, tmp_path / "s", count=1)


def test_confirming_trains_both_with_two_seeds_that_the_search_never_saw(
    home, tmp_path, quick_bench
):
    seeds = []

    def noting(settings, seed):
        seeds.append(seed)
        return hill(settings, seed)

    quick_bench(noting)
    options = {"count": 5, "only": ["margin"], "confirm": True}
    found = search(home, tmp_path / "s", **options)
    assert seeds == [0] * 5 + [1, 2, 1, 2]
    assert found.confirmation.seeds == (1, 2)
    assert found.confirmation.given == pytest.approx(
        (found.first.score + 0.001, found.first.score + 0.002)
    )
    assert found.confirmation.best == pytest.approx(
        (found.best.score + 0.001, found.best.score + 0.002)
    )
    search(home, tmp_path / "s", **options)
    assert len(seeds) == 9, "what was confirmed already is kept"
    text = text_of(found)
    scores = [f"{x:.4f}" for x in found.confirmation.best]
    assert f"best           {np.mean(found.confirmation.best):.4f}   ({', '.join(scores)})" in text
    assert "Try --confirm" not in text


def text_of(found):
    return study.text(found, catalogue=Path("my/catalogue"), folder=Path("my/study"))


def test_the_text_warns_that_the_best_of_many_is_optimistic(whole):
    text = text_of(whole)
    assert f"given settings {whole.first.score:.4f}" in text
    assert f"difference     {whole.gain:+.4f}   standard error {whole.standard_error:.4f}" in text
    assert "the best of 3 trials on one validation set is optimistic" in text
    assert "undersong train my/catalogue RUN --settings my/study/best.toml" in text
    assert "Try --confirm" in text


def test_the_text_says_so_where_nothing_was_better(whole):
    text = text_of(dataclasses.replace(whole, best=whole.first, settings=Settings()))
    assert text.endswith("No trial was better than the given settings: keep them.")
    assert "difference" not in text


def test_of_one_item_there_is_no_standard_error():
    assert study.paired_error(np.array([0.4]), np.array([0.7])) is None
    assert study.paired_error(np.array([0.4, 0.1]), np.array([0.7, 0.2])) == pytest.approx(0.1)


def test_every_range_is_of_a_setting_and_holds_its_default():
    default = trials.flat(Settings())
    for path, known in SPACE.items():
        assert known.low <= default[path] <= known.high, path
        whole = {isinstance(x, int) for x in (known.low, known.high)}
        assert not isinstance(default[path], int) or whole == {True}, path
        assert not known.log or known.low > 0, path


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("path", SPACE)
def test_every_end_of_a_range_is_a_setting_that_is_let_through(path, end):
    value = getattr(SPACE[path], end)
    within = {path: dataclasses.replace(SPACE[path], start=trials.value_of(Settings(), path))}
    changed = trials.apply(Settings(), {path: value}, within)
    assert trials.value_of(changed, path) == value


def test_only_restricts_the_search_to_tables_and_settings():
    chosen = trials.choose("general", ["loss.known", "prior_weight"])
    assert chosen == (
        "general.loss.known.alpha",
        "general.loss.known.beta",
        "general.loss.known.gamma",
        "general.loss.known.margin",
        "general.loss.prior_weight",
    )
    assert trials.choose("content", ["content.loss.beta"]) == ("content.loss.beta",)
    assert trials.choose("interaction", []) == tuple(x for x in SPACE if x[0] == "i")


@pytest.mark.parametrize(
    ("stage", "word", "message"),
    [
        ("general", "loss.knwon", r"'loss.knwon' is no setting of \[general\]; did you mean 'loss"),
        ("general", "prior_wieght", "did you mean 'prior_weight'"),
        ("general", "noise", r"'noise' is no setting of \[general\]"),
        ("general", "width", r"'width' of \[general\] is not searched; known: loss.known.alpha"),
        ("content", "training.steps", r"'training.steps' of \[content\] is not searched"),
        ("genral", "tail", "no stage 'genral' can be tuned; did you mean 'general'"),
    ],
)
def test_a_word_that_names_nothing_to_search_is_refused(stage, word, message):
    with pytest.raises(SettingsError, match=message):
        trials.choose(stage, [word])


def test_ranges_hold_their_start_and_end_with_the_data():
    settings = Settings()
    paths = ["general.anchors", "general.tail", "general.indirect", "general.loss.known.margin"]
    assert trials.ranges(settings, paths, most={"general.anchors": 60, "general.tail": 0}) == {
        "general.anchors": Range(15, 60, log=True, start=60),
        "general.indirect": Range(0, 30, start=10),
        "general.loss.known.margin": Range(0.05, 0.7, start=0.5),
    }
    far = dataclasses.replace(settings.general, indirect=77, anchors=9)
    wide = trials.ranges(dataclasses.replace(settings, general=far), paths, most={})
    assert wide["general.indirect"] == Range(0, 77, start=77)
    assert wide["general.anchors"] == Range(9, 1700, log=True, start=9)


def test_without_mining_there_is_no_margin_to_search(home, tmp_path):
    settings = read_settings(home / "quick.toml")
    loss = settings.general.loss
    unmined = dataclasses.replace(loss, known=dataclasses.replace(loss.known, margin=-1.0))
    general = dataclasses.replace(settings.general, loss=unmined)
    with pytest.raises(SettingsError, match="general.loss.known.margin none makes a difference"):
        search(
            home,
            tmp_path,
            settings=dataclasses.replace(settings, general=general),
            only=["margin"],
        )


def test_fractions_are_tried_as_they_are_written_and_a_start_is_left_as_it_is():
    within = {
        "general.loss.known.alpha": Range(1, 20, start=2.0),
        "general.anchors": Range(15, 60, start=60),
    }
    given = Settings()
    tries = {"general.loss.known.alpha": 3.14159265, "general.anchors": 60}
    changed = trials.apply(given, tries, within)
    assert changed.general.loss.known.alpha == 3.142
    assert changed.general.anchors == given.general.anchors == 850
    assert given.general.loss.known.alpha == 2.0


def test_the_command_tunes_and_says_what_to_do_next(home, whole):
    words = ["tune", home / "catalogue", home / "study", "--settings", home / "quick.toml"]
    words += ["--trials", 3, "--seed", 1]
    done = CliRunner().invoke(cli, [str(x) for x in words])
    assert done.exit_code == 0, done.output
    assert f"best           {whole.best.score:.4f}" in done.stdout
    refused = CliRunner().invoke(cli, [*map(str, words), "--only", "loss.knwon, tail"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "did you mean 'loss.known" in refused.stderr


def test_without_optuna_the_command_says_what_to_install(home, tmp_path, monkeypatch):
    for name in ("optuna", "undersong.lab.tuning.study"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "undersong.lab.tuning.study")
    monkeypatch.delattr("undersong.lab.tuning.study")
    done = CliRunner().invoke(cli, ["tune", str(home / "catalogue"), str(tmp_path)])
    assert done.exit_code == 1
    assert f"tuning needs optuna; install it with: {install('tune')}" in done.stderr


def test_the_ranges_stand_in_choices():
    page = (Path(__file__).parent.parent / "docs/choices.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:general|content|interaction)\.[\w.]+)` \| (.+?) \|", page, re.M)
    assert dict(rows) == {
        path: f"{x.low:g} to {x.high:g}{', by factors' if x.log else ''}"
        for path, x in SPACE.items()
    }
