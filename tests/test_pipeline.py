import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, SettingsError
from undersong.evaluation.comparison import compare
from undersong.evaluation.protocols import EvaluationSettings
from undersong.pipeline import find_device, learn, read_settings, train_run
from undersong.stages.reading import with_artist_fields


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A catalogue, its settings file, and a trained run."""
    folder = tmp_path_factory.mktemp("home")
    tables.write(small_world(), folder / "catalogue")
    (folder / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(folder / "quick.toml")
    train_run(folder / "catalogue", folder / "run", settings=settings)
    return folder


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
    tables.write(dataclasses.replace(world, fields=fields), tmp_path / "catalogue")
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
        "from undersong.cli import main; main()",
        "train",
        str(home / "catalogue"),
        str(tmp_path / "run"),
        "--settings",
        str(home / "quick.toml"),
    ]
    generator = np.random.default_rng(0)
    killed = 0
    for _ in range(4):
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
    with pytest.raises(SettingsError, match="descriptors.*only|only.*descriptors"):
        learn(dataclasses.replace(world, features=features), quick(home), work=tmp_path)


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
        runs.read(home / "run"), part="test", settings=EvaluationSettings(resamples=100)
    )
    names = {name for name, _ in report.methods}
    assert {"GRM", "CbRM", "UiRM", "random", "popularity", "PageRank", "Adamic-Adar"} <= names
    cold = next(x for x in report.protocols if x.name == "cold")
    numbers = cold.slices[0].numbers
    assert "PageRank" not in numbers
    assert numbers["GRM"]["ndcg@200"].mean.value > numbers["random"]["ndcg@200"].mean.value
    assert report.withheld == ("judge",)


def test_a_changed_catalogue_is_not_compared_with(home, tmp_path):
    world = small_world()
    tables.write(dataclasses.replace(world, plays=world.plays.head(9)), tmp_path / "catalogue")
    with pytest.raises(ArtifactError, match="is not the catalogue that .* was trained on"):
        compare(runs.read(home / "run"), part="test", catalogue_folder=tmp_path / "catalogue")


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
    tables.write(tracks, tmp_path / "catalogue")
    settings = dataclasses.replace(
        quick(home), run=dataclasses.replace(quick(home).run, kind="track")
    )
    run, _ = train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    assert len(run.embeddings("track", "general").ids) == 168
    assert not run.has_embeddings("artist", "general")
    parts = dict(run.items("track").select("id", "part").iter_rows())
    assert all(parts[f"{x}-0"] == parts[f"{x}-1"] for x in world.ids("artist")[:-1])
    report = compare(run, part="test", settings=EvaluationSettings(resamples=100))
    assert {"cold", "cold, other artists"} <= {x.name for x in report.protocols}
