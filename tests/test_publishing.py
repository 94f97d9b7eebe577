import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.io.files import sha256, write_json
from undersong.pipeline import publish as publishing
from undersong.pipeline.publish import publish, roll_back
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run
from undersong.retrieval import projection
from undersong.retrieval.neighbours import search
from undersong.retrieval.query import Query
from undersong.retrieval.run_index import open_index
from undersong.runs import RunReader

ARTISTS, TRACKS, WIDTH = 43, 61, 7


def make_run(folder, *, seed=1):
    """A run with vectors and items, and nothing else that training leaves."""
    generator = np.random.default_rng(seed)
    about = {"kind": "artist", "settings": {"run": {"seed": 3}}}
    with runs.publishing(folder, about) as home:
        for kind, count in (("artist", ARTISTS), ("track", TRACKS)):
            vectors = generator.normal(size=(count, WIDTH)).astype(np.float32)
            ids = tuple(f"{kind} {x}" for x in range(count))
            Embeddings(ids, vectors).write(home / "embeddings" / f"{kind}.general.parquet")
        pl.DataFrame({"kind": ["artist", "track"], "id": ["artist 0", "track 0"]}).write_parquet(
            home / "items.parquet"
        )
        (home / "failures.csv").write_text("file\n")
    return folder


def first_vector(run):
    return float(run.embeddings("artist", "general").vectors[0, 0])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Folders of two runs, and of a shelf that has the first."""
    home = tmp_path_factory.mktemp("two")
    first, second = (make_run(home / str(seed), seed=seed) for seed in (1, 2))
    publish(first, home / "shelf")
    return first, second, home / "shelf"


@pytest.fixture
def shelf(two_runs, tmp_path):
    return Path(shutil.copytree(two_runs[2], tmp_path / "shelf"))


def test_a_shelf_is_read_like_a_run_and_holds_what_serving_needs(two_runs, shelf):
    run, found = runs.read(two_runs[0]), runs.read(shelf)
    assert set(found.manifest["files"]) == set(run.manifest["files"]) - {"failures.csv"} | {
        "map.parquet",
        "regions.parquet",
        "lists/artist.npy",
        "lists/track.npy",
        "embeddings/artist.general.npy",
        "embeddings/track.general.npy",
    }
    assert first_vector(found) == first_vector(run)
    assert found.trained["content"] == run.content != found.content
    assert found.trained["made"] == run.manifest["made"]
    assert found.manifest["report"] is None


def test_readers_of_a_shelf_share_one_map_of_the_vectors(two_runs, shelf):
    run, found = runs.read(two_runs[0]), runs.read(shelf)
    for kind, count in (("artist", ARTISTS), ("track", TRACKS)):
        own, mapped = (x.embeddings(kind, "general") for x in (run, found))
        assert mapped.ids == own.ids
        np.testing.assert_array_equal(mapped.vectors, own.vectors)
        assert mapped.vectors.shape == (count, WIDTH)
        assert isinstance(mapped.vectors.base, np.memmap)
        assert not isinstance(own.vectors.base, np.memmap)


def test_a_shelf_of_an_earlier_version_answers_and_is_published_anew(two_runs, shelf):
    path = shelf / "generations" / "1" / "manifest.json"
    about = manifest_of(path.parent)
    for name in [x for x in about["files"] if x.startswith("embeddings/") and x.endswith(".npy")]:
        (path.parent / name).unlink()
        del about["files"][name]
    write_json(path, about)
    assert first_vector(runs.read(shelf)) == first_vector(runs.read(two_runs[0]))
    found, new = publish(two_runs[0], shelf)
    assert new
    assert found.has("embeddings/track.general.npy")


def test_every_embedded_item_has_a_place_on_the_map(shelf):
    places = pl.read_parquet(runs.read(shelf).file(projection.FILE))
    assert places.schema == {"kind": pl.String, "id": pl.String, "x": pl.Float32, "y": pl.Float32}
    assert places["kind"].value_counts(sort=True).rows() == [("track", TRACKS), ("artist", ARTISTS)]
    assert places["id"].n_unique() == ARTISTS + TRACKS
    assert places.select(pl.max_horizontal(pl.col("x", "y").abs().max())).item() == 1


def test_first_answers_are_computed_once_and_looked_up(two_runs, shelf):
    listed = open_index(runs.read(shelf), "track")
    searched = open_index(runs.read(two_runs[0]), "track")
    assert (listed.lists is None, searched.lists is None) == (False, True)
    rows, request = np.arange(TRACKS), Query(k=9)
    ours, theirs = (next(search(x, rows, query=request)) for x in (listed, searched))
    np.testing.assert_array_equal(ours.neighbours, theirs.neighbours)
    made = runs.read(shelf).manifest["lists"]
    assert (made["track"]["items"], made["artist"]["items"]) == (TRACKS, ARTISTS)
    first = listed.lists.rows[:, :10]
    nowhere = np.setdiff1d(np.arange(TRACKS), first)
    assert made["track"]["unreached"] == pytest.approx(len(nowhere) / TRACKS)


@pytest.mark.parametrize("limit", ["LARGEST_LISTED", "LARGEST_WEIGHED"])
def test_of_very_many_items_no_answers_are_stored_and_that_is_said(
    two_runs, tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(publishing, limit, TRACKS - 1)
    done = CliRunner().invoke(cli, ["publish", str(two_runs[0]), str(tmp_path / "shelf")])
    stored = runs.read(tmp_path / "shelf").manifest["lists"]
    # Nothing was learned of the order here, so the other limit bounds nothing.
    many = limit == "LARGEST_LISTED"
    assert set(stored) == ({"artist"} if many else {"artist", "track"})
    assert ("of so many tracks no answers are stored" in done.stderr) == many
    assert "of so many artists" not in done.stderr


def test_what_was_added_to_a_run_goes_with_it(two_runs, shelf):
    run = Path(shutil.copytree(two_runs[0], shelf.parent / "run"))
    row = {name: [None] for name in runs.ADDED_COLUMNS} | {"kind": ["artist"], "id": ["new"]}
    runs.write_added(run, "1", pl.DataFrame(row, schema=runs.ADDED_COLUMNS))
    found, new = publish(run, shelf)
    assert (found.generation, new) == ("2", True)
    assert found.added("artist")["id"].to_list() == ["new"]
    assert publish(run, shelf)[1] is False


def test_exported_encoders_go_with_a_run(two_runs, shelf):
    run = Path(shutil.copytree(two_runs[0], shelf.parent / "run"))
    exported = run / "generations/1/onnx"
    exported.mkdir()
    (exported / "encoders.json").write_text("{}")
    (exported / "general.onnx").write_bytes(b"not read here")
    found, new = publish(run, shelf)
    assert new
    assert found.file("onnx/general.onnx").read_bytes() == b"not read here"
    assert found.has("onnx/encoders.json")
    assert publish(run, shelf)[1] is False


def test_a_shelf_is_published_to_another_shelf(two_runs, shelf, tmp_path):
    found, new = publish(shelf, tmp_path / "other")
    assert new
    assert found.content == runs.read(shelf).content
    assert found.trained["content"] == runs.read(two_runs[0]).content


def test_publishing_what_is_there_changes_nothing(two_runs, shelf):
    before = (shelf / "current.json").stat().st_ino
    found, new = publish(two_runs[0], shelf)
    assert (found.generation, new) == ("1", False)
    assert (shelf / "current.json").stat().st_ino == before


def test_publishing_again_mends_a_damaged_shelf(two_runs, shelf):
    (shelf / "generations/1/items.parquet").write_bytes(b"")
    found, new = publish(two_runs[0], shelf)
    assert (found.generation, new) == ("2", True)
    assert found.items("artist")["id"].to_list() == ["artist 0"]


def test_a_new_report_is_a_new_generation_and_one_of_another_training_is_left_out(two_runs, shelf):
    run = Path(shutil.copytree(two_runs[0], shelf.parent / "run"))
    report = {"methods": [], "fields": [], "withheld": [], "protocols": [], "format": 1}
    report |= {"kind": "artist", "part": "test", "k": 10, "resamples": 9, "seed": 0}
    report |= {"reference": "GRM", "popularity": "plays"}
    write_json(run / "report.json", report | {"content": "of another training"})
    assert publish(run, shelf)[1] is False
    write_json(run / "report.json", report | {"content": runs.read(run).content})
    found, new = publish(run, shelf)
    assert new
    assert found.manifest["report"] == sha256(run / "report.json")
    assert sha256(found.file("report.json")) == found.manifest["report"]


def test_two_generations_are_kept_and_rolling_back_shows_the_one_before(two_runs, shelf):
    first, second, _ = two_runs
    old = first_vector(runs.read(first))
    publish(second, shelf)
    assert roll_back(shelf).generation == "1"
    assert first_vector(runs.read(shelf)) == old
    with pytest.raises(ArtifactError, match="keeps no generation before 1"):
        roll_back(shelf)
    assert publish(second, shelf)[0].generation == "3"
    assert runs.numbers(shelf) == ("1", "3"), "a generation that was rolled back is not kept"


def test_no_reader_is_rolled_back_to_a_damaged_generation(two_runs, shelf):
    publish(two_runs[1], shelf)
    (shelf / "generations/1/map.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"map.parquet was changed since it was published"):
        roll_back(shelf)
    assert runs.read(shelf).generation == "2"


def test_a_changed_run_is_not_published_and_the_shelf_stays(two_runs, shelf):
    run = Path(shutil.copytree(two_runs[1], shelf.parent / "run"))
    (run / "generations/1/items.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"items.parquet was changed since it was published"):
        publish(run, shelf)
    (run / "generations/1/items.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"items.parquet is missing; train again"):
        publish(run, shelf)
    assert runs.read(shelf).generation == "1"
    assert publish(two_runs[1], shelf)[0].generation == "2"
    assert [x.name for x in (shelf / "generations").glob("*.partial")] == []


def test_a_run_is_no_shelf_and_other_folders_of_a_shelf_are_let_be(two_runs, shelf):
    first, second, _ = two_runs
    with pytest.raises(ArtifactError, match="is a run that was trained; publish to another folder"):
        publish(first, second)
    (shelf / "generations" / "my notes").mkdir()
    publish(second, shelf)
    assert (shelf / "generations" / "my notes").is_dir()


def manifest_of(home):
    """The manifest of a generation without its sum, as earlier versions wrote it."""
    manifest = json.loads((home / "manifest.json").read_text())
    del manifest["sum"]
    return manifest


def change(shelf, text, name="manifest.json"):
    path = shelf / name if name == "current.json" else shelf / "generations/1" / name
    path.write_text(text(manifest_of(path.parent)) if callable(text) else text)


def listing(files):
    return lambda manifest: json.dumps(manifest | {"files": files})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("current.json", '{"format": 1, "generation": "../../x"}', "'../../x', no number"),
        ("current.json", '{"format": 1}', "'None', no number"),
        ("current.json", '{"format": 1, "generation": "7"}', "7/manifest.json is missing"),
        ("current.json", "{", "is not JSON"),
        ("manifest.json", '{"format": 1}', "lists no files with their sha256"),
        ("manifest.json", listing({"items.parquet": 5}), "lists no files with their sha256"),
        ("manifest.json", listing({"../../../secret": "0"}), "a file outside of its folder"),
        ("manifest.json", listing({"/etc/hostname": "0"}), "a file outside of its folder"),
        ("manifest.json", '{"format": 9}', "format 9, but this version reads 1"),
    ],
)
def test_a_pointer_or_manifest_that_is_not_ours_is_refused(shelf, name, text, message):
    change(shelf, text, name)
    with pytest.raises(ArtifactError, match=message):
        runs.read(shelf)


def open_vectors(run):
    return run.generation, run.embeddings("artist", "general").vectors


def test_a_reader_moves_to_a_new_generation_when_it_looks(two_runs, shelf):
    reader = RunReader(shelf, opening=open_vectors)
    assert not reader.refresh()
    publish(two_runs[1], shelf)
    assert reader.current[0] == "1"
    assert reader.refresh()
    assert reader.current[0] == "2"
    assert not reader.refresh()
    roll_back(shelf)
    assert reader.refresh()
    assert reader.current[0] == "1"


def half_written(shelf):
    (shelf / "generations/2/items.parquet").write_bytes(b"PAR1")


def missing(shelf):
    (shelf / "generations/2/map.parquet").unlink()


def of_another_format(shelf):
    path = shelf / "generations/2/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def pickled(shelf):
    """The worst: a pickle with the right name, whose hash stands in the manifest."""
    home = shelf / "generations/2"
    name = "embeddings/artist.general.parquet"
    (home / name).write_bytes(pickle.dumps([1.5, "not vectors"]))
    manifest = manifest_of(home)
    manifest["files"][name] = sha256(home / name)
    write_json(home / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (half_written, "items.parquet was changed since it was published"),
        (missing, "map.parquet cannot be read"),
        (of_another_format, "format 2, but this version reads 1"),
        (pickled, "generation 2 of .* is refused: .* is no embedding file"),
    ],
)
def test_a_generation_that_is_not_whole_is_refused_once_and_the_old_one_answers(
    two_runs, shelf, damage, message
):
    reader = RunReader(shelf, opening=open_vectors)
    publish(two_runs[1], shelf)
    damage(shelf)
    with pytest.raises(ArtifactError, match=message) as refusal:
        reader.refresh()
    assert "\n" not in str(refusal.value)
    assert reader.current[0] == "1"
    assert not reader.refresh(), "what was refused is not read again and again"
    publish(two_runs[0], shelf)
    assert reader.refresh()
    assert reader.current[0] == "3"


def test_a_shelf_without_a_generation_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"current.json is missing"):
        RunReader(tmp_path, opening=open_vectors)


def test_a_pointer_that_goes_away_leaves_the_old_generation_in_use(shelf):
    reader = RunReader(shelf, opening=open_vectors)
    (shelf / "current.json").unlink()
    with pytest.raises(ArtifactError, match=r"current.json is missing"):
        reader.refresh()
    assert reader.current[0] == "1"


def test_readers_never_fail_nor_see_a_mixture_through_five_swaps(two_runs, shelf, monkeypatch):
    monkeypatch.setattr(projection, "lay_out", lambda vectors, **_: np.asarray(vectors[:, :2]))
    kept = {first_vector(runs.read(x)) for x in two_runs[:2]}
    reader = RunReader(shelf, opening=lambda run: (run.generation, first_vector(run)))
    odd = float(reader.current[1])
    seen, faults, done = set(), [], threading.Event()

    def read():
        while not done.is_set():
            try:
                reader.refresh()
                generation, value = reader.current
                seen.add(generation)
                if value not in kept or (value == odd) != (int(generation) % 2 == 1):
                    faults.append((generation, value))
            except ArtifactError as error:
                faults.append(error)

    with ThreadPoolExecutor(3) as threads:
        reading = [threads.submit(read) for _ in range(3)]
        for turn in range(5):
            publish(two_runs[(turn + 1) % 2], shelf)
        wait(reading, timeout=0.5)
        done.set()
    assert faults == []
    assert reader.current[0] == "6"
    assert len(seen) > 2


PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
import numpy as np
from undersong.retrieval import projection
from undersong.pipeline.publish import publish
from undersong.retrieval.run_index import open_index
first, second, shelf = [Path(x) for x in sys.argv[1:]]
projection.lay_out = lambda vectors, **_: np.asarray(vectors[:, :2])
while True:
    for run in (second, first):
        publish(run, shelf)
        print(flush=True)
"""


def test_kill_9_in_the_middle_of_publishing_leaves_a_whole_generation(two_runs, shelf):
    generator = np.random.default_rng(5)
    kept = {first_vector(runs.read(x)) for x in two_runs[:2]}
    caught = 0
    for _ in range(8):
        command = [sys.executable, "-c", PUBLISH_FOR_EVER, *two_runs[:2], shelf]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(generator.uniform(0, 0.06))
            os.kill(process.pid, signal.SIGKILL)
        caught += any((shelf / "generations").glob("*.partial"))
        found = runs.read(shelf)
        for name in found.manifest["files"]:
            found.file(name)
        assert first_vector(found) in kept
    assert caught, "no kill came in the middle"
    publish(two_runs[0], shelf)
    publish(two_runs[1], shelf)
    assert len(runs.numbers(shelf)) == 2
    assert [*shelf.rglob("*.partial")] == []


def test_ids_stay_when_an_artist_is_added_and_all_is_trained_again(tmp_path):
    world = small_world(groups=3, size=13, users=11)
    newcomer = world.artists[[5]].with_columns(pl.lit("new").alias("id"), name=pl.lit("Newcomer"))
    grown = pl.concat([newcomer, world.artists])
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    shelf = tmp_path / "shelf"
    seen = []
    for number, artists in enumerate((world.artists, grown)):
        catalogue = tmp_path / f"catalogue {number}"
        tables.write_catalogue(replace(world, artists=artists), catalogue)
        train_run(catalogue, tmp_path / "run", settings=read_settings(tmp_path / "quick.toml"))
        publish(tmp_path / "run", shelf)
        run = runs.read(shelf)
        seen.append({kind: set(run.items(kind)["id"]) for kind in tables.KINDS})
        found = CliRunner().invoke(cli, ["similar", str(shelf), "a03", "-k", "4", "--json"])
        assert len(found.stdout.splitlines()) == 4, found.output
    assert seen[1]["artist"] == seen[0]["artist"] | {"new"}
    assert seen[1]["track"] == seen[0]["track"]


def test_the_commands_publish_and_roll_back_in_one_line_each(two_runs, tmp_path):
    first, second, _ = two_runs
    shelf = str(tmp_path / "shelf")
    found = CliRunner().invoke(cli, ["publish", str(first), shelf])
    assert found.exit_code == 0
    content = runs.read(tmp_path / "shelf").content[:12]
    assert found.stdout == f"{shelf}: generation 1 published, content {content}\n"
    assert "undersong evaluate" in found.stderr
    assert "is up to date" in CliRunner().invoke(cli, ["publish", str(first), shelf]).stdout
    CliRunner().invoke(cli, ["publish", str(second), shelf])
    found = CliRunner().invoke(cli, ["rollback", shelf])
    assert found.stdout == f"{shelf}: back at generation 1, content {content}\n"
    failed = CliRunner().invoke(cli, ["rollback", shelf])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1
