import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from adding_worlds import fresh, hearing_run, tagged
from undersong import features, runs
from undersong.catalogue import tables
from undersong.errors import ArtifactError, UndersongError
from undersong.export import onnx as exporting
from undersong.features import read_sources
from undersong.foldin import encoders as opening


@pytest.fixture(scope="module", params=["reads", "hears", "both"])
def run(request, tmp_path_factory):
    if request.param == "both":
        made = hearing_run(tmp_path_factory.mktemp("both"), reads=True)
    else:
        home = "reading_home" if request.param == "reads" else "hearing_home"
        made = runs.read(request.getfixturevalue(home) / "run")
    exporting.export(made)
    return made


def by_torch(monkeypatch, run):
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "onnxruntime" else 1)
    return opening.open_encoders(run)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnx_and_torch_differ_by_less_than_1e_5_for_any_number_of_items(monkeypatch, run, count):
    portable = opening.open_encoders(run)
    native = by_torch(monkeypatch, run)
    assert (portable.engine, native.engine) == ("ONNX", "PyTorch")
    generator = np.random.default_rng(count)
    assert portable.sources == native.sources
    for source, columns in portable.sources.items():
        shape = (count, columns) if columns else (count, 128, 172)
        pieces = (3 * generator.random(shape)).astype(np.float32)
        found = portable.content(source, pieces)
        assert found.shape == (count, 10)
        np.testing.assert_allclose(found, native.content(source, pieces), atol=1e-5)
    sources = [generator.random((count, x)).astype(np.float32) for x in portable.widths]
    missing = generator.random((count, len(sources))) < 0.4
    np.testing.assert_allclose(
        portable.general(sources, missing), native.general(sources, missing), atol=1e-5
    )


def test_onnx_gives_the_published_embedding_of_every_artist(run):
    catalogue = tables.read_catalogue(run.folder.parent / "catalogue")
    encoders = features.from_json(json.loads((run.home / "encoders.json").read_text())["encoders"])
    known = {
        (kind, name): run.embeddings(kind, name)
        for kind in ("artist", "track")
        for name in ("content", "interaction")
        if run.has_embeddings(kind, name)
    }
    sources = read_sources(catalogue, "artist", encoders, known)
    rows = np.arange(len(catalogue.artists) - 1)  # of the last nothing is known
    missing = np.stack([x.missing[rows] for x in sources], axis=1)
    found = opening.open_encoders(run).general([features.dense(x, rows) for x in sources], missing)
    trained = run.embeddings("artist", "general")
    np.testing.assert_allclose(found, trained.align(catalogue.ids("artist")[:-1])[0], atol=1e-5)


def test_the_files_are_onnx_of_the_opset_that_they_name(run):
    about = json.loads((run.home / "onnx" / "encoders.json").read_text())
    for name in about["files"]:
        model = onnx.load(run.home / "onnx" / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [x.version for x in model.opset_import if x.domain == ""] == [about["opset"]]


def test_encoders_of_other_weights_and_damaged_ones_are_refused(run, tmp_path):
    beside = fresh(run, tmp_path)
    home = beside.run.home
    home.unlink()
    shutil.copytree(run.home, home)
    note = home / "onnx" / "encoders.json"
    about = json.loads(note.read_text())
    note.write_text(json.dumps(about | {"weights": about["weights"] | {"general": "0" * 64}}))
    with pytest.raises(ArtifactError, match="is not what was exported of this generation; run"):
        opening.open_encoders(beside.run)
    note.write_text(json.dumps(about))
    assert opening.open_encoders(beside.run).engine == "ONNX"
    name = min(about["files"])
    with (home / "onnx" / f"{name}.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match=rf"{name}.onnx is not what was exported"):
        opening.open_encoders(beside.run)


def test_without_any_engine_the_message_says_what_to_install(monkeypatch, run):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(UndersongError, match=r"pip install .*\[onnx\].* and run"):
        opening.open_encoders(run)


BLOCK_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, NoTorch())
"""


def test_items_are_added_without_torch_but_not_without_exported_encoders(run, tmp_path):
    home = fresh(run, tmp_path / "run").run.home
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(BLOCK_TORCH)
    song = tagged(tmp_path / "s.flac", 11, artist="New Band", title="Bare", genre="g1")
    path = os.pathsep.join([str(tmp_path / "block"), *sys.path])
    words = [sys.executable, "-m", "undersong", "add", str(tmp_path / "run"), str(song)]

    def call():
        return subprocess.run(
            words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )

    found = call()
    assert found.returncode == 0, found.stderr
    assert "added      track   new-band/bare  Bare  like " in found.stdout
    home.unlink()
    shutil.copytree(run.home, home, ignore=shutil.ignore_patterns("onnx"))
    bare = call()
    assert bare.returncode == 0  # it is there: nothing has to be embedded
    shutil.rmtree(tmp_path / "run" / "added")
    bare = call()
    assert bare.returncode == 1
    assert "undersong export onnx" in bare.stderr
