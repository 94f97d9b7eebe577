import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world, wide_world
from undersong import relations, runs
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, SettingsError
from undersong.evaluation.compare import compare, learned
from undersong.evaluation.protocols import EvaluationSettings
from undersong.features import with_artist_fields
from undersong.io.files import write_json
from undersong.model import load
from undersong.pipeline import train
from undersong.pipeline.learn import find_device, learn
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run
from undersong.ranking import context, ranker
from undersong.relations import Task
from undersong.service.snapshot import open_answers, warm
from undersong.settings import as_recorded


@pytest.fixture(scope="module")
def home(reading_home):
    """A catalogue, its settings file, and a trained run."""
    return reading_home


def quick(home):
    return read_settings(home / "quick.toml")


def test_a_run_holds_every_embedding_of_artists_and_tracks(home):
    run = runs.read(home / "run")
    for kind, name, n in [
        ("artist", "general", 84),
        ("artist", "content", 84),
        ("artist", "interaction", 80),
        ("track", "general", 168),
        ("track", "content", 168),
    ]:
        found = run.embeddings(kind, name)
        assert len(found.ids) == n, (kind, name)
        if name == "general":
            np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_an_artist_with_no_source_at_all_has_no_embedding_but_is_an_item(home):
    run = runs.read(home / "run")
    assert "a84" not in run.embeddings("artist", "general").index
    items = run.items("artist")
    assert items.filter(pl.col("id") == "a84")["name"].to_list() == ["a84"]


def test_items_say_what_they_are(home):
    run, world = runs.read(home / "run"), small_world()
    known = dict(run.items("artist").select("id", "about").iter_rows())
    for item, genre, country in world.artists.select("id", "genre", "country").iter_rows():
        assert known[item] == ", ".join(x for x in (genre, country) if x)
    assert run.items("track")["about"][0] == "Artist 00"


def test_artists_without_a_field_for_genre_or_region_are_published_all_the_same(tmp_path):
    world = small_world()
    fields = tuple(dataclasses.replace(x, role="") for x in world.fields)
    tables.write_catalogue(dataclasses.replace(world, fields=fields), tmp_path / "catalogue")
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(tmp_path / "quick.toml")
    run, _ = train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    assert run.items("artist")["about"].to_list() == [""] * 85


def test_the_manifest_says_how_to_repeat_it(home):
    manifest = runs.read(home / "run").manifest
    assert manifest["settings"]["run"]["seed"] == 0
    assert manifest["settings"]["general"]["out"] == 12
    assert manifest["versions"]["torch"]
    assert set(manifest["training"]) == {"content", "interaction", "general"}
    assert manifest["sources"]["judge" if "judge" in manifest["sources"] else "genre"] < 1
    assert "judge" not in manifest["sources"]
    assert not (home / "run" / "work").exists()


def test_the_same_catalogue_and_settings_are_not_trained_again(home):
    run, new = train_run(home / "catalogue", home / "run", settings=quick(home))
    assert (run.generation, new) == ("1", False)


def test_a_setting_that_a_run_does_not_know_had_its_default(home):
    manifest = runs.read(home / "run").manifest
    settings = {**manifest["settings"], "general": dict(manifest["settings"]["general"])}
    about = {"settings": as_recorded(quick(home)), "catalogue": manifest["catalogue"]}
    del settings["general"]["graded"]
    assert train._same({**manifest, "settings": settings}, about)
    settings["general"]["graded"] = True
    assert not train._same({**manifest, "settings": settings}, about)
    settings["general"]["no_more"] = True
    assert not train._same({**manifest, "settings": settings}, about)


def test_other_settings_make_a_new_generation(home, tmp_path):
    settings = quick(home)
    train_run(home / "catalogue", tmp_path / "run", settings=settings)
    other = dataclasses.replace(settings, run=dataclasses.replace(settings.run, seed=1))
    run, new = train_run(home / "catalogue", tmp_path / "run", settings=other)
    assert (run.generation, new) == ("2", True)


def test_the_same_seed_gives_the_same_embeddings(home, tmp_path):
    train_run(home / "catalogue", tmp_path / "run", settings=quick(home))
    first, second = runs.read(home / "run"), runs.read(tmp_path / "run")
    for name in ("general", "content", "interaction"):
        np.testing.assert_array_equal(
            first.embeddings("artist", name).vectors, second.embeddings("artist", name).vectors
        )


def test_killed_at_any_moment_it_ends_like_one_that_was_not(home, tmp_path):
    """Real processes, really killed; what they leave must resume to the same embeddings."""
    command = [
        sys.executable,
        "-c",
        "from undersong.cli.main import main; main()",
        "train",
        str(home / "catalogue"),
        str(tmp_path / "run"),
        "--settings",
        str(home / "quick.toml"),
    ]
    generator = np.random.default_rng(0)
    killed = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "work").exists() and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(generator.random() * 0.8)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed
    subprocess.run(command, check=True, capture_output=True)
    expected, found = runs.read(home / "run"), runs.read(tmp_path / "run")
    np.testing.assert_array_equal(
        expected.embeddings("artist", "general").vectors,
        found.embeddings("artist", "general").vectors,
    )


def test_tracks_read_the_metadata_of_their_artist():
    joined = with_artist_fields(small_world())
    assert joined["id"].to_list() == small_world().tracks["id"].to_list()
    genre = dict(small_world().artists.select("id", "genre").iter_rows())
    assert all(genre[a] == g for a, g in joined.select("artist", "genre").iter_rows())


def test_sources_may_be_missing(home, tmp_path):
    world = small_world()
    bare = dataclasses.replace(world, features={}, plays=world.plays.clear())
    learned = learn(bare, quick(home), work=tmp_path)
    assert set(learned.coverage) == {"genre", "country", "fame"}
    assert set(learned.outcomes) == {"general"}
    features = dict(world.features)
    only = Embeddings(world.ids("artist")[:-1], np.random.default_rng(0).random((84, 3), "f4"))
    features[("only", "artist")] = only
    both = learn(dataclasses.replace(world, features=features), quick(home), work=tmp_path)
    stages = {"content, descriptors", "content, only", "interaction", "general"}
    assert set(both.outcomes) == stages


def test_training_without_relations_of_validation_items_is_refused(home, tmp_path):
    world = small_world()
    split = ["train"] * 60 + ["validation"] * 12 + ["test"] * 13
    artists = world.artists.with_columns(pl.Series("split", split))
    train = [x for x, part in zip(world.ids("artist"), split, strict=True) if part == "train"]
    relations = world.relations.filter(pl.col("a").is_in(train) & pl.col("b").is_in(train))
    with pytest.raises(DataError, match="none of the 12 validation artists has a relation"):
        learn(
            dataclasses.replace(world, artists=artists, relations=relations),
            quick(home),
            work=tmp_path,
        )


def test_a_run_is_compared_with_every_baseline(home):
    report = compare(
        runs.read(home / "run"), split="test", settings=EvaluationSettings(resamples=100)
    )
    names = {name for name, _ in report.methods}
    assert {"GRM", "E_C", "UiRM", "random", "popularity", "PageRank", "Adamic-Adar"} <= names
    cold = next(x for x in report.protocols if x.name == "cold")
    numbers = cold.slices[0].numbers
    assert "PageRank" not in numbers
    assert numbers["GRM"]["ndcg@200"].mean.value > numbers["random"]["ndcg@200"].mean.value
    assert report.withheld == ("judge",)


def test_a_changed_catalogue_is_not_compared_with(home, tmp_path):
    world = small_world()
    tables.write_catalogue(
        dataclasses.replace(world, plays=world.plays.head(9)), tmp_path / "catalogue"
    )
    with pytest.raises(ArtifactError, match="is not the catalogue that .* was trained on"):
        compare(runs.read(home / "run"), split="test", catalogue_folder=tmp_path / "catalogue")


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="device 'cuda:7' cannot be used"):
        find_device("cuda:7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[genral]", "no table 'genral'; did you mean 'general'?"),
        ("[general]\nwidht = 8", r"\[general\] has no 'widht'; did you mean 'width'?"),
        ("[general.loss.known]\nalpha = 'x'", "alpha is 'x', expected float"),
        ("[general]\nwidth = 33", "width 33 must divide into 8 fields of 4 heads"),
        ("[run]\nkind = 'album'", "kind 'album' must be 'artist' or 'track'"),
        ("[split]\ntest = 0.95", "must be above 0 and leave a share to train on"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path, text, message):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        read_settings(tmp_path / "s.toml")


def test_a_nested_setting_keeps_the_other_defaults_of_its_table(tmp_path):
    (tmp_path / "s.toml").write_text("[general.loss.known]\nalpha = 3\n")
    known = read_settings(tmp_path / "s.toml").general.loss.known
    default = read_settings(None).general.loss.known
    assert known == dataclasses.replace(default, alpha=3.0)


def test_a_run_of_tracks_trains_on_relations_of_tracks(home, tmp_path):
    world = small_world()
    pairs = world.relations.select(
        pl.lit("track").alias("kind"), pl.col("a") + "-0", pl.col("b") + "-1", "source"
    )
    tracks = dataclasses.replace(world, relations=pl.concat([world.relations, pairs]))
    tables.write_catalogue(tracks, tmp_path / "catalogue")
    settings = dataclasses.replace(
        quick(home), run=dataclasses.replace(quick(home).run, kind="track")
    )
    run, _ = train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    assert len(run.embeddings("track", "general").ids) == 168
    assert not run.has_embeddings("artist", "general")
    parts = dict(run.items("track").select("id", "part").iter_rows())
    assert all(parts[f"{x}-0"] == parts[f"{x}-1"] for x in world.ids("artist")[:-1])
    report = compare(run, split="test", settings=EvaluationSettings(resamples=100))
    assert {"cold", "cold, other artists"} <= {x.name for x in report.protocols}


# One validation a stage, so that no choice of the best step depends on validation items.
RANKED_SETTINGS = (
    QUICK_SETTINGS.replace("validate_every = 3", "validate_every = 6")
    .replace("validate_every = 4", "validate_every = 12")
    .replace("judges = 1", "judges = 1000")  # relations of validation items choose nothing
    + """
[ranking]
folds = 2
share = 0.3
candidates = 60
[ranking.training]
steps = 80
validate_every = 80
[graph]
enabled = true
layers = 2
width = 19
out = 11
pairs = 70
[graph.training]
steps = 24
validate_every = 24
"""
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A run of a world in which enough items validate for the order of answers to be learned."""
    folder = tmp_path_factory.mktemp("wide")
    tables.write_catalogue(wide_world(), folder / "catalogue")
    (folder / "ranked.toml").write_text(RANKED_SETTINGS)
    settings = read_settings(folder / "ranked.toml")
    train_run(folder / "catalogue", folder / "run", settings=settings)
    return folder


def test_a_world_large_enough_learns_the_order_of_its_answers(wide):
    run = runs.read(wide / "run")
    assert set(run.manifest["training"]) == {"interaction", "general", "ranking", "graph"}
    about = run.manifest["ranking"]
    assert about["ndcg@200"] > about["ndcg@200 of cosine"] > 0
    assert all(0 <= x <= 1 for sure, right, _ in about["reliability"] for x in (sure, right))
    found = ranker.read(run.file("weights/ranking.safetensors"))
    known = relations.known(wide_world(), "artist")
    embedded = run.embeddings("artist", "general")
    rows = [embedded.index[x] for x in wide_world().ids("artist") if x in embedded.index]
    everybody = [x in embedded.index for x in wide_world().ids("artist")]
    evidence = context.read(run.file("evidence.safetensors"), embedded.vectors[rows])
    assert found.names == evidence.names
    assert (evidence.relations != known[everybody][:, everybody]).nnz == 0
    among = ranker.rerank(found, evidence, np.arange(17))
    assert (among.candidates[:, :9] >= 0).all()
    snapshot = open_answers(run)
    warm(snapshot)  # the first question waits for nothing
    assert "followers" in vars(snapshot.of("artist").index.evidence)


def test_the_answers_of_a_run_are_judged_beside_its_cosine(wide):
    report = compare(
        runs.read(wide / "run"), split="test", settings=EvaluationSettings(resamples=100)
    )
    cold, linked = (
        next(x for x in report.protocols if x.name == name).slices[0].numbers
        for name in ("cold", "linked")
    )
    dialled = ["undersong", *(f"undersong, long tail {x}" for x in (-1, 0.5, 1))]
    assert list(cold)[:6] == ["random", *dialled, "GRM"]
    assert "undersong, with edges" not in cold
    assert "undersong, with edges" in linked
    assert "GRM_G" in cold
    assert "GRM_G, with edges" not in cold
    assert linked["GRM_G, with edges"]["ndcg@200"].mean.value > cold["GRM_G"]["ndcg@200"].mean.value
    best = cold["undersong"]["ndcg@200"].mean.value
    assert best > cold["GRM"]["ndcg@200"].mean.value
    assert best > cold["random"]["ndcg@200"].mean.value + 0.1


def test_what_is_judged_never_saw_what_it_is_asked_for(wide, tmp_path):
    """Neither the refit nor any relation of validation and test items reaches it."""
    more = wide_world(more=0.3)
    assert len(more.relations) > 1.1 * len(wide_world().relations)
    tables.write_catalogue(more, tmp_path / "catalogue")
    settings = read_settings(wide / "ranked.toml")
    settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, refit=False))
    other, _ = train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    run = runs.read(wide / "run")
    judged, again = (x.embeddings("artist", "judged") for x in (run, other))
    np.testing.assert_array_equal(judged.vectors, again.vectors)
    one, two = (ranker.read(x.file("weights/ranking.safetensors")) for x in (run, other))
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, two.weights[name])
    graph = "weights/graph.judged.safetensors"
    assert run.file(graph).read_bytes() == other.file(graph).read_bytes()
    # Without a refit that is what answers, too; with one the answers know all relations.
    np.testing.assert_array_equal(other.embeddings("artist", "general").vectors, judged.vectors)
    apart = np.abs(run.embeddings("artist", "general").vectors - judged.vectors)
    assert apart.max() > 0.01


def test_answers_that_are_judged_read_no_relation_that_is_asked_for(wide):
    run, known = runs.read(wide / "run"), wide_world()
    parts = known.artists["split"].to_numpy().astype("<U10")
    asking = np.flatnonzero(parts == "test")
    ids = np.array(known.ids("artist"), dtype=object)
    own = pl.col("a").is_in(set(ids[asking])), pl.col("b").is_in(set(ids[asking]))
    none = dataclasses.replace(known, relations=known.relations.filter(~(own[0] | own[1])))
    apart = dataclasses.replace(known, relations=known.relations.filter(~(own[0] & own[1])))
    assert len(none.relations) < len(apart.relations) < len(known.relations)

    def scores(catalogue, name):
        methods = learned(Task(catalogue, "artist", parts), run, split="test")
        return next(x for x in methods if x.name == name).scores(asking)

    np.testing.assert_array_equal(scores(known, "undersong"), scores(none, "undersong"))
    np.testing.assert_array_equal(scores(known, "GRM_G"), scores(none, "GRM_G"))
    for linked in ("undersong, with edges", "GRM_G, with edges"):
        np.testing.assert_array_equal(scores(known, linked), scores(apart, linked))
        assert (scores(known, linked) != scores(none, linked)).any()


def test_a_run_of_an_older_version_is_judged_by_the_only_e_g_that_it_has(wide, tmp_path):
    shutil.copytree(wide / "run", tmp_path / "run")
    run = runs.read(tmp_path / "run")
    for newer in ("embeddings/artist.judged.parquet", "weights/graph.judged.safetensors"):
        (run.home / newer).unlink()
        del run.manifest["files"][newer]
    write_json(run.home / "manifest.json", run.manifest)
    parts = wide_world().artists["split"].to_numpy().astype("<U10")
    older = runs.read(tmp_path / "run")
    task = Task(wide_world(), "artist", parts)
    methods = {x.name: x for x in learned(task, older, split="test")}
    asking = np.flatnonzero(parts == "test")[:7]
    vectors = older.embeddings("artist", "general").align(task.ids)[0]
    cosines = methods["GRM"].scores(asking)
    there = np.isfinite(cosines)
    np.testing.assert_allclose(cosines[there], (vectors[asking] @ vectors.T)[there], atol=1e-5)
    assert (methods["undersong"].scores(asking) != cosines).any()


def test_linked_items_ask_behind_the_graph_network_and_others_by_e_g(wide, tmp_path):
    shutil.copytree(wide / "run", tmp_path / "run")
    model = load(tmp_path / "run")
    items = model.items()
    graph, general = (model.run.embeddings("artist", x) for x in ("graph", "general"))
    lone, linked = (
        items.filter(x)["id"][3] for x in (pl.col("relations") == 0, pl.col("relations") > 0)
    )
    for item, vectors in ((linked, graph), (lone, general)):
        asked, order = vectors.index[item], vectors.vectors @ vectors.vectors[vectors.index[item]]
        order[asked] = -np.inf
        expected = [vectors.ids[x] for x in np.argsort(-order, kind="stable")[:7]]
        assert list(model.similar(item, k=7, graph=True).ids) == expected
    (addition,) = model.add([{"name": "Brand New", "genre": "g2"}])
    assert addition.id in model.similar(linked, k=300, graph=True).ids
    assert model.similar(addition.id, k=5, graph=True) == model.similar(
        addition.id, k=5, paper=True
    )
    words = ["neighbours", str(tmp_path / "run"), "-k", "4", "--out", str(tmp_path / "n.parquet")]
    CliRunner().invoke(cli, [*words, "--graph"], catch_exceptions=False)
    table = pl.read_parquet(tmp_path / "n.parquet")
    for item in (linked, lone):
        listed = table.filter(pl.col("item") == item)["neighbour"].to_list()
        assert listed == list(model.similar(item, k=4, graph=True).ids)
    with pytest.raises(DataError, match="no graph network for tracks; train with"):
        model.similar(model.items("track")["id"][0], kind="track", graph=True)


class Killed(BaseException):
    """What ends a process in the midst of anything."""


def test_killed_in_its_last_stages_it_ends_like_one_that_was_not(wide, tmp_path):
    settings = read_settings(wide / "ranked.toml")

    def trained(progress):
        return train_run(wide / "catalogue", tmp_path / "run", settings=settings, progress=progress)

    for stage in ("GRM, rehearsal 3 of 3", "ranking", "GRM, refit", "graph", "graph, refit"):
        last = []

        def killing(at, done, total, note="", *, stage=stage, last=last):
            last.append(at)
            if at == stage and done == total // 2:
                raise Killed

        with pytest.raises(Killed):
            trained(killing)
        assert last[-1] == stage
        assert not (tmp_path / "run" / "current.json").exists()
    steps = set()
    run, new = trained(lambda at, done, *_: steps.add((at, done)))
    assert new
    trained_now = {
        x for x, done in steps if done and x.startswith(("CbRM", "GRM", "ranking", "graph"))
    }
    assert trained_now == {"graph, refit"}  # the others had ended
    assert {"train", "evidence", "reasons"} <= {x for x, _ in steps}
    expected = runs.read(wide / "run")
    for name in ("judged", "general", "graph"):
        np.testing.assert_array_equal(
            run.embeddings("artist", name).vectors, expected.embeddings("artist", name).vectors
        )
    one, two = (ranker.read(x.file("weights/ranking.safetensors")) for x in (run, expected))
    assert one.calibration == two.calibration
    for name, values in one.weights.items():
        np.testing.assert_array_equal(values, two.weights[name], err_msg=name)


def test_a_small_world_answers_by_cosine(home):
    run = runs.read(home / "run")
    assert run.manifest["ranking"] is None
    assert not run.has("weights/ranking.safetensors")
    assert not run.has("evidence.safetensors")


def test_a_run_of_the_first_format_is_still_judged():
    home = Path(__file__).parent / "fixtures" / "format-1"
    run = runs.read(home / "run")
    assert not run.has_embeddings("artist", "judged")
    report = compare(
        run,
        split="test",
        catalogue_folder=home / "catalogue",
        settings=EvaluationSettings(resamples=100),
    )
    numbers = report.protocols[0].slices[0].numbers
    assert {"GRM", "CbRM", "UiRM", "random"} < set(numbers)
    assert "undersong" not in numbers
