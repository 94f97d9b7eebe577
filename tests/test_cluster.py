"""The stages on a real Ray cluster of two nodes on this machine, of which one is killed at last."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.audio import shards
from undersong.audio.extract import extract
from undersong.catalogue import tables
from undersong.catalogue.tables import ITEMS, Catalogue
from undersong.cli.main import cli

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from two_nodes import RAY, ROOT, Nodes, below, end

soundfile = pytest.importorskip("soundfile")
needs_ray = pytest.mark.skipif(
    not RAY.exists() or "UNDERSONG_CLUSTER" not in os.environ,
    reason="two Ray nodes take minutes: UNDERSONG_CLUSTER=1 scripts/test tests/test_cluster.py, "
    "with undersong[cluster]",
)


def decoding(pid):
    """Say whether a node is hearing files now."""
    for child in below(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"undersong.audio.decode" in words:
            return True
    return False


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    home = Path(subprocess.check_output(["mktemp", "-d", "/tmp/us-XXXXXX"], text=True).strip())
    made = Nodes(home)
    try:
        made.gather()
        yield made
    finally:
        made.stop()
    subprocess.run(["rm", "-rf", home], check=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A catalogue, and settings without chance but that of the seed."""
    folder = tmp_path_factory.mktemp("world")
    tables.write_catalogue(small_world(), folder / "catalogue")
    settings = QUICK_SETTINGS.replace("[general]", "[general]\ndropout = 0.0\ninput_dropout = 0.0")
    settings = settings.replace("[content]", "[content]\ndropout = 0.0")
    settings = settings.replace("steps = ", 'precision = "float32"\nsteps = ')
    (folder / "quick.toml").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def trained(nodes, world):
    """A run that was trained on the cluster."""
    settings = ["--settings", world / "quick.toml"]
    work = nodes.undersong("train", world / "catalogue", world / "there", *settings)
    said, errors = work.communicate(timeout=240)
    assert work.returncode == 0, errors
    assert "generation 1 trained" in said
    return world / "there"


@needs_ray
def test_a_run_of_the_cluster_is_that_of_one_machine(trained, world):
    words = ["train", world / "catalogue", world / "here", "--settings", world / "quick.toml"]
    alone = CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)
    assert alone.exit_code == 0
    for kind, name in (("artist", "interaction"), ("artist", "general"), ("track", "general")):
        one, other = (runs.read(x).embeddings(kind, name) for x in (world / "here", trained))
        assert one.ids == other.ids
        assert (one.vectors * other.vectors).sum(axis=1).min() > 0.99


@needs_ray
def test_every_other_stage_gives_what_one_machine_gives(nodes, trained, world):
    script = ROOT / "tests" / "cluster_session.py"
    work = nodes.begin(script, nodes.address, trained, world / "catalogue")
    said, errors = work.communicate(timeout=240)
    assert work.returncode == 0, errors
    found = json.loads(next(x for x in said.splitlines() if x.startswith("{")))
    assert found["relations"] > 100
    assert found["relations differ"] == 0
    assert found["neighbours"] == 13 * 84
    assert found["neighbours differ"] == 0
    assert found["scores differ by"] < 1e-6
    assert found["embedded"] == 168
    assert found["same ids"]
    assert found["vectors differ by"] < 1e-6
    assert found["trained vectors differ by"] < 1e-5
    assert found["order"] == [3**x for x in range(9)]
    kind, text = found["a worker dies"]
    assert (kind, "die again and again" in text) == ("UndersongError", True), text
    kind, text = found["a worker stumbles"]
    assert (kind, "ZeroDivisionError" in text) == ("UndersongError", True), text
    assert found["a worker refuses"] == ["DataError", "row 7 is empty"]


@needs_ray
def test_every_processor_gets_as_many_tasks_as_every_other():
    from undersong.cluster.tasks import _tasks

    assert [_tasks(x, a_task=7, processors=3) for x in (1, 2, 3, 21, 22, 43)] == [1, 2, 3, 3, 6, 9]


def sounds(folder, count):
    folder.mkdir()
    for row in range(count):
        wave = 0.3 * np.sin(np.arange(22_050 * (3 + row % 4)) * (0.02 + 0.003 * row))
        soundfile.write(folder / f"{row}.wav", wave, 22_050)
    (folder / "3.wav").write_bytes(b"no sound")
    rows = [
        {"id": f"t{x}", "artist": "a", "title": None, "path": f"{x}.wav", "popularity": None}
        for x in range(count)
    ]
    artists = pl.DataFrame([{"id": "a", "name": "A", "split": None}], schema=ITEMS["artist"])
    tracks = pl.DataFrame(rows, schema=ITEMS["track"])
    return Catalogue(artists, tracks, fields=(), audio_root=folder)


@needs_ray
def test_a_node_that_is_killed_costs_no_file_and_doubles_none(nodes, tmp_path):
    catalogue = sounds(tmp_path / "sounds", 31)
    tables.write_catalogue(catalogue, tmp_path / "catalogue")
    work = nodes.undersong("extract", tmp_path / "catalogue", "--keep-going")
    victim = nodes.nodes[1].pid
    while work.poll() is None and not decoding(victim):
        time.sleep(0.02)
    hearing = decoding(victim)
    for pid in [victim, *below(victim)]:
        end(pid)
    said, errors = work.communicate(timeout=200)
    assert hearing, "the node had no part in the work"
    assert work.returncode == 0, errors
    assert "30 of 31 audio files analysed (30 of them now)" in said
    there = tmp_path / "catalogue" / "audio"
    assert shards.index(there)["path"].to_list() == [f"{x}.wav" for x in range(31)]
    here = extract(catalogue, tmp_path / "here", workers=1).done
    index = shards.index(there).filter(pl.col("chunks") > 0)
    assert index["chunks"].to_list() == here.chunks.tolist()
    for number in {*index["shard"]}:
        one, other = (np.load(x / f"{number:05d}.npy") for x in (there, tmp_path / "here"))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--cluster", "127.0.0.1:1", "extract", "x"], "no Ray cluster at 127.0.0.1:1"),
        (["--cluster", "head", "extract", "x"], "the cluster's address is 'head'; give HOST:PORT"),
    ],
)
@needs_ray
def test_an_address_where_no_cluster_is_gets_told_so(words, reason, tmp_path):
    tables.write_catalogue(small_world(), tmp_path / "x")
    found = CliRunner().invoke(cli, [x if x != "x" else str(tmp_path / "x") for x in words])
    assert found.exit_code == 1
    assert reason in found.output


def test_what_is_done_on_one_machine_refuses_a_cluster(tmp_path):
    found = CliRunner().invoke(cli, ["--cluster", "a:1", "check", str(tmp_path)])
    assert found.exit_code == 1
    assert "--cluster has no part in 'check'; known: extract, relations, train" in found.output
