"""Music of which nobody has said what is similar: everything works, and says what it rests on."""

import dataclasses
import json
import re
import shutil

import mutagen
import numpy as np
import polars as pl
import pytest
import soundfile
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.cli.models import heard
from undersong.embeddings import Embeddings, unit
from undersong.features import Modality, side_by_side
from undersong.models.general import training
from undersong.models.general.network import GeneralModel, GeneralSettings
from undersong.models.general.training import load_general, save_general, stay_side_by_side
from undersong.pipeline.learn import learn
from undersong.pipeline.run_settings import read_settings
from undersong.runs import RunReader
from undersong.service.app import make_app
from undersong.service.options import ServiceSettings
from undersong.service.snapshot import open_answers

RATE = 8000
GROUPS, COMPOSERS, SONGS = 4, 22, 2  # composer x is of group x modulo 4
HEARD = QUICK_SETTINGS.replace("width = 10\n", "width = 10\nartists = 6\ntracks = 2\n", 1)


def say(*words):
    """What a command that must succeed prints, both streams."""
    done = CliRunner().invoke(cli, [str(x) for x in words], prog_name="undersong")
    assert done.exit_code == 0, f"{words}\n{done.output}"
    return done.output


def write_song(file, group, *, generator):
    """Write tones in the band of a group, and a little noise."""
    time = np.arange(round(2.7 * RATE)) / RATE
    low = 150 * 2.2**group
    tones = [np.sin(2 * np.pi * x * time) for x in generator.uniform(low, 1.6 * low, 5)]
    soundfile.write(file, 0.08 * sum(tones) + 0.01 * generator.normal(size=len(time)), RATE)


def write_music(folder):
    """44 songs of 22 composers; the composers of a group have their loudest band in common."""
    generator = np.random.default_rng(9)
    for composer in range(COMPOSERS):
        for song in range(SONGS):
            file = folder / f"{composer}-{song}.flac"
            write_song(file, composer % GROUPS, generator=generator)
            tags = mutagen.File(file)
            tags.update({"ARTIST": f"Composer {composer:02}", "TITLE": f"Song {song}"})
            tags.save()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of music with a run that was trained on it, by the commands alone."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "music").mkdir()
    write_music(folder / "music")
    (folder / "quick.toml").write_text(HEARD)
    say("import", "folder", folder / "music", folder / "catalogue")
    say("extract", folder / "catalogue")
    words = ("--settings", folder / "quick.toml")
    (folder / "said").write_text(say("train", folder / "catalogue", folder / "run", *words))
    return folder


def same_group(run, *, group, k):
    """Share of the k nearest artists that are of one's own group, and the share by chance."""
    found = run.embeddings("artist", "general")
    label = np.array([group(x) for x in found.ids])
    cosine = found.vectors @ found.vectors.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = np.argsort(-cosine, axis=1)[:, :k]
    chance = (label[:, None] == label).sum() - len(label)
    return (label[nearest] == label[:, None]).mean(), chance / (len(label) * (len(label) - 1))


def test_a_folder_without_relations_is_trained_and_says_what_its_answers_rest_on(home):
    said = (home / "said").read_text()
    assert "no relation between artists is known, so answers compare what is known of" in said
    assert "each (sound or features), without a learned order or a confidence" in said
    manifest = runs.read(home / "run").manifest
    assert manifest["ranking"] is None
    assert set(manifest["training"]) == {"content"}


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"start": None, "asked": 35}, "audio: compared as it is, nothing learned: 35 tracks of"),
        ({"learned": False}, "audio: compared as it is; learning did not surely help. 1,200 "),
        ({"learned": True}, "audio: learned. 1,200 tracks of held-out artists find others"),
    ],
)
def test_training_says_of_each_source_whether_learning_helped_and_by_what_number(choice, text):
    about = {"learned": False, "asked": 1200, "start": 0.2345, "trained": 0.25, "error": 0.01}
    sentence = heard("audio", about | choice)
    assert sentence.startswith(text)
    assert "\n" not in sentence
    assert choice.get("start", 0) is None or "0.234 without learning and 0.250 with" in sentence


def test_groups_that_only_sound_alike_are_found(home):
    number = {
        x: i % GROUPS for i, x in enumerate(sorted(runs.read(home / "run").items("artist")["id"]))
    }
    right, chance = same_group(runs.read(home / "run"), group=number.__getitem__, k=3)
    assert chance < 0.25
    assert right > 0.7


def test_answers_state_no_confidence_and_offer_no_dial(home):
    said = say("similar", home / "run", "Composer 03", "-k", 3)
    assert said.splitlines()[0].endswith("no known link")
    assert "confidence" not in said
    assert "long tail" not in said, "all are, so it would say nothing"
    (home / "plays.txt").write_text("Composer 03\n")
    found = say("recommend", home / "run", "--user", home / "plays.txt", "-k", 4)
    assert len(found.splitlines()) == 4
    assert "long tail" not in found
    lines = say("similar", home / "run", "Composer 03", "-k", 3, "--json").splitlines()
    assert [json.loads(x)["confidence"] for x in lines] == [None] * 3
    turned = CliRunner().invoke(
        cli, ["similar", str(home / "run"), "Composer 03", "--long-tail", "1"]
    )
    assert turned.exit_code == 1
    assert "this run has no learned order" in turned.output


def test_an_evaluation_says_once_that_nothing_can_be_judged_by_relations(home):
    out = say("evaluate", home / "run")
    said = " ".join(out.split())
    assert said.count("No link of any test artist is known") == 1
    assert "Does a song find others of its artist?" in said
    assert "44 tracks are queries, 44 candidates." in said
    assert re.search(r"Of 44 songs .* \d+ find another of their artist among 10 answers", said)
    rows = {x.split()[0] for x in out.splitlines() if x.startswith("   ")}
    assert {"random", "MFCC", "start", "E_G"} <= rows
    assert not {"GRM", "popularity"} & rows
    assert "hubness" in said
    assert "coverage@10" in said
    page = (home / "run/report.md").read_text()
    assert "No link of any test artist is known" in page
    assert "not trained" not in page
    assert "E_G: as it begins, its sources side by side" in page


def test_lists_reasons_pages_and_a_service_come_of_it(home, tmp_path):
    run = home / "run"
    say("neighbours", run, "-k", 4, "--out", tmp_path / "lists.parquet")
    assert pl.read_parquet(tmp_path / "lists.parquet").height == 4 * COMPOSERS
    assert "rest on audio" in say("explain", run, "Composer 03", "Composer 07")
    say("publish", run, tmp_path / "shelf")
    say("report", run, tmp_path / "page.html")
    assert "No link of any test artist is known" in (tmp_path / "page.html").read_text()
    reader = RunReader(tmp_path / "shelf", opening=open_answers)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        reply = client.get("/api/items/artist/composer-03/similar", params={"k": 5})
        assert reply.status_code == 200, reply.text
        assert client.get("/api/map", params={"kind": "artist"}).json()["hears"] is True
        write_song(tmp_path / "new.wav", 2, generator=np.random.default_rng(7))
        with (tmp_path / "new.wav").open("rb") as song:
            heard = client.post("/api/sounds-like", files={"file": ("new.wav", song)})
        assert heard.status_code == 200, heard.text


def test_a_new_song_has_neighbours_of_its_group(home, tmp_path):
    run = home / "copy"
    shutil.copytree(home / "run", run)
    write_song(tmp_path / "new.wav", 2, generator=np.random.default_rng(5))
    say("add", run, "--artist", "New Composer", tmp_path / "new.wav")
    said = say("similar", run, "New Composer", "-k", 3)
    found = [int(x) for x in re.findall(r"Composer (\d\d) ", said)]
    assert len(found) == 3
    assert [x % GROUPS for x in found].count(2) >= 2


def without(world, **changed):
    """A world of which no relation is known."""
    return dataclasses.replace(world, relations=world.relations.head(0), **changed)


def trained(catalogue, tmp_path):
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(tmp_path / "quick.toml")
    return learn(catalogue, settings, work=tmp_path / "work")


def test_plays_alone_are_factorised_and_tell_the_groups(tmp_path):
    world = small_world()
    bare = without(world, features={}, fields=())
    tables.write_catalogue(bare, tmp_path / "catalogue")
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    say("train", tmp_path / "catalogue", tmp_path / "run", "--settings", tmp_path / "quick.toml")
    run = runs.read(tmp_path / "run")
    assert run.manifest["training"] == {}
    assert set(run.manifest["sources"]) == {"interaction"}
    right, chance = same_group(run, group=lambda x: int(x[1:]) % 5, k=6)
    assert chance < 0.2
    assert right > 0.5


def test_fields_alone_answer_too(tmp_path):
    world = small_world()
    learned = trained(without(world, features={}, plays=world.plays.head(0)), tmp_path)
    assert set(learned.coverage) == {"genre", "country", "fame"}
    assert learned.outcomes["general"].steps == 0
    assert learned.ranking is None
    general, judged = (learned.embeddings["artist", x] for x in ("general", "judged"))
    np.testing.assert_array_equal(general.vectors, judged.vectors)


def test_nothing_at_all_is_refused_with_what_to_give(tmp_path):
    world = small_world()
    bare = without(world, features={}, plays=world.plays.head(0), fields=())
    tables.write_catalogue(bare, tmp_path / "catalogue")
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "catalogue"), str(tmp_path / "run")])
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert (
        "nothing is known about the artists that they could be compared by; give metadata" in said
    )


def test_vectors_of_artists_without_relations_keep_their_angles(tmp_path):
    """Nothing is related, so nothing is learned: E_C is the features, standardised."""
    world = small_world()
    ids = world.ids("artist")[:-1]
    vectors = np.random.default_rng(3).normal(2, 3, size=(len(ids), 7)).astype(np.float32)
    mood = {("mood", "artist"): Embeddings(ids, vectors)}
    learned = trained(without(world, features=mood), tmp_path)
    assert learned.outcomes["content"].steps == 0
    usual = unit((vectors - vectors.mean(axis=0)) / vectors.std(axis=0))
    made = learned.embeddings["artist", "content"].vectors
    np.testing.assert_allclose(made @ made.T, usual @ usual.T, atol=1e-4)


def test_sound_and_features_keep_their_angles_in_an_embedding_that_is_narrower(tmp_path):
    """E_G of 12 numbers would lose much of the 20 of E_C, two sources of 10."""
    world = small_world()
    generator = np.random.default_rng(3)
    ids = world.ids("artist")[:-1]
    features = {
        (name, "artist"): Embeddings(ids, generator.normal(size=(84, width)).astype(np.float32))
        for name, width in (("mood", 7), ("key", 9))
    }
    bare = without(world, features=features, plays=world.plays.head(0), fields=())
    learned = trained(bare, tmp_path)
    content, general = (learned.embeddings["artist", x].vectors for x in ("content", "general"))
    assert content.shape == (84, 20)
    np.testing.assert_allclose(general @ general.T, content @ content.T, atol=1e-4)


def test_an_item_of_which_a_field_says_nothing_is_as_near_as_it_sounds(tmp_path):
    """Genre follows the sound; a third has none, of whom it is guessed."""
    generator = np.random.default_rng(5)
    group, untagged = np.arange(150) % 5, generator.random(150) < 0.3
    centres = 1.5 * generator.normal(size=(5, 9))
    sound = unit((centres[group] + generator.normal(size=(150, 9))).astype(np.float32))
    genre = np.eye(5, dtype=np.float32)[group] * ~untagged[:, None]
    none = np.zeros(150, dtype=bool)
    sources = (Modality("content", sound, none, 1.0), Modality("genre", genre, untagged, 0.5))
    torch.manual_seed(1)
    settings = GeneralSettings(width=32, fields=4, heads=2, out=23)
    model = GeneralModel([9, 5], settings, weights=[1.0, 0.5]).eval()

    def listed():
        """Share of untagged ones among the ten nearest of tagged ones, and of those of a group."""
        vectors = training.embed(model, sources, device="cpu")
        cosine = vectors @ vectors.T
        np.fill_diagonal(cosine, -1)
        nearest = np.argsort(-cosine, axis=1)[:, :10]
        asks = ~untagged
        return untagged[nearest][asks].mean(), (group[nearest] == group[:, None])[untagged].mean()

    stay_side_by_side(model, sources, seed=1)
    share, right = listed()
    model.fill, fill = None, model.fill
    without_guess, right_without = listed()
    assert without_guess < 0.1 < 0.15 < share < untagged.mean()
    assert right > right_without
    model.fill = fill
    save_general(model, tmp_path / "general.safetensors")
    loaded = load_general(tmp_path / "general.safetensors")
    vectors = [training.embed(x, sources, device="cpu") for x in (model, loaded)]
    np.testing.assert_array_equal(*vectors)


def test_sources_keep_their_cosines_exactly_where_they_fit_and_well_where_not():
    generator = np.random.default_rng(8)
    values = [generator.normal(size=(61, x)).astype(np.float32) for x in (5, 14)]
    missing = generator.random(61) < 0.2
    values[1][missing] = 0
    both = zip("ab", values, (missing & False, missing), (0.3, 1.0), strict=True)
    sources = [Modality(*x) for x in both]
    rows = unit(side_by_side(sources).toarray())

    def error(out, *, plain):
        torch.manual_seed(1)
        settings = GeneralSettings(width=32, fields=4, heads=2, out=out)
        weights = [x.weight for x in sources]
        model = GeneralModel([5, 14], settings, weights=weights).eval()
        if plain:
            stay_side_by_side(model, sources, seed=1)
        made = training.embed(model, sources, device="cpu")
        return np.abs(made @ made.T - rows @ rows.T).mean()

    assert error(23, plain=True) < 1e-6
    assert error(19, plain=True) < 1e-6
    assert error(11, plain=True) < 0.5 * error(11, plain=False)
