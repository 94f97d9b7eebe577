import json

import numpy as np
import polars as pl
import pytest

from undersong import runs
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError

VECTORS = Embeddings(("a", "b", "c"), np.eye(3, 5, dtype=np.float32))


def publish(folder, *, seed=1, name="general"):
    with runs.publishing(folder, {"seed": seed}) as home:
        VECTORS.write(home / "embeddings" / f"artist.{name}.parquet")
        pl.DataFrame({"kind": ["artist", "track"], "id": ["a", "t"]}).write_parquet(
            home / "items.parquet"
        )


def publish_half(folder):
    with runs.publishing(folder, {"seed": 2}) as home:
        VECTORS.write(home / "embeddings" / "artist.general.parquet")
        raise RuntimeError("power cut")


def test_what_was_published_is_read(tmp_path):
    publish(tmp_path)
    run = runs.read(tmp_path)
    assert run.generation == "1"
    assert run.manifest["seed"] == 1
    assert run.has_embeddings("artist", "general")
    assert not run.has_embeddings("track", "general")
    found = run.embeddings("artist", "general")
    assert found.ids == VECTORS.ids
    np.testing.assert_array_equal(found.vectors, VECTORS.vectors)
    assert run.items("track")["id"].to_list() == ["t"]


def test_readers_see_the_newest_generation_and_one_before_is_kept(tmp_path):
    for seed in range(4):
        publish(tmp_path, seed=seed)
    assert runs.read(tmp_path).manifest["seed"] == 3
    assert sorted(x.name for x in (tmp_path / "generations").iterdir()) == ["3", "4"]


def test_a_reader_that_is_open_keeps_its_generation(tmp_path):
    publish(tmp_path, seed=1)
    old = runs.read(tmp_path)
    publish(tmp_path, seed=2)
    assert old.embeddings("artist", "general").ids == VECTORS.ids


def test_a_publication_that_fails_leaves_the_old_generation(tmp_path):
    publish(tmp_path, seed=1)
    with pytest.raises(RuntimeError, match="power cut"):
        publish_half(tmp_path)
    assert runs.read(tmp_path).manifest["seed"] == 1
    publish(tmp_path, seed=3)
    assert runs.read(tmp_path).manifest["seed"] == 3
    assert not list((tmp_path / "generations").glob("*.partial"))


def test_a_changed_file_is_refused(tmp_path):
    publish(tmp_path)
    run = runs.read(tmp_path)
    path = run.home / "embeddings" / "artist.general.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="was changed since it was published"):
        run.embeddings("artist", "general")


def test_a_missing_file_is_refused(tmp_path):
    publish(tmp_path)
    run = runs.read(tmp_path)
    (run.home / "items.parquet").unlink()
    with pytest.raises(ArtifactError, match="items.parquet cannot be read"):
        run.items("artist")
    with pytest.raises(ArtifactError, match="holds no embeddings/artist.content.parquet"):
        run.embeddings("artist", "content")


@pytest.mark.parametrize("name", ["current.json", "generations/1/manifest.json"])
def test_a_run_of_another_format_is_refused(tmp_path, name):
    publish(tmp_path)
    about = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(about | {"format": 42}))
    with pytest.raises(ArtifactError, match="format 42, but this version reads 1; train again"):
        runs.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty", "nothing has been published to .*empty; .*`undersong publish RUN .*empty`"),
        ("begun", "training has not ended; `undersong train CATALOGUE .*begun` goes on"),
        ("known", "this is a catalogue; .*`undersong train .*known RUN`"),
        ("shalf", "there is no folder .*shalf; did you mean 'shelf'"),
        ("xyz", "there is no folder .*xyz; known: shelf$"),
    ],
)
def test_a_folder_that_nothing_was_published_to_says_what_it_is_instead(tmp_path, name, says):
    publish(tmp_path / "shelf")
    for folder in ("empty", "begun/work", "known"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "known" / "catalogue.json").touch()
    with pytest.raises(ArtifactError, match=rf"{name}/current.json is missing: {says}"):
        runs.read(tmp_path / name)


def test_a_pickle_with_the_right_name_is_refused(tmp_path):
    publish(tmp_path)
    run = runs.read(tmp_path)
    path = run.home / "embeddings" / "artist.general.parquet"
    path.write_bytes(b"\x80\x04\x95(cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(ArtifactError, match="was changed since"):
        run.embeddings("artist", "general")
