"""Several processes that train as one, started by torchrun without anything else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from planted import QUICK_SETTINGS, small_world
from undersong import embeddings, runs
from undersong.catalogue import tables
from undersong.cli.main import cli

sys.path.append(str(Path(__file__).parent))
import gathered_step

ROOT = Path(__file__).parent.parent


def torchrun(*words, processes=2):
    """Run a program in several processes, as `torchrun` does."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *start, *map(str, words)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


FORMS = ("multi-similarity", "info-nce", "triplet")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Where two processes left what they found."""
    place = tmp_path_factory.mktemp("both") / "step"
    ended = torchrun(ROOT / "tests" / "gathered_step.py", place, *FORMS)
    assert ended.returncode == 0, ended.stderr
    return place


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_with_half_a_batch_each_have_the_loss_of_one_with_all(both, form):
    alone = gathered_step.step(form)
    parts = [load_file(f"{both}.{form}.{x}") for x in range(2)]
    assert [int(x["rows"]) for x in parts] == [6, 7]
    assert float(alone["loss"]) > 0.1
    for name in alone.keys() - {"rows"}:
        assert float(alone[name].abs().max()) > 1e-3
        for part in parts:
            np.testing.assert_allclose(part[name], alone[name], rtol=1e-5, atol=1e-6)


def test_no_thread_of_the_group_outlives_it(both):
    """One that did would now and then abort its process at the end, after all the work."""
    for process in range(2):
        during, after = Path(f"{both}.threads.{process}").read_text().split("\n")
        assert "gloo" in during
        assert after == ""


def trained(folder):
    run = runs.read(folder)
    names = ("artist.interaction", "artist.general", "track.general", "artist.content")
    return {x: embeddings.read(run.home / "embeddings" / f"{x}.parquet") for x in names}


def test_a_run_of_two_processes_is_the_run_of_one(tmp_path):
    settings = QUICK_SETTINGS.replace("[general]", "[general]\ndropout = 0.0\ninput_dropout = 0.0")
    settings = settings.replace("[content]", "[content]\ndropout = 0.0")
    settings = settings.replace("steps = ", 'precision = "float32"\nsteps = ')
    (tmp_path / "quick.toml").write_text(settings)
    tables.write_catalogue(small_world(), tmp_path / "catalogue")
    words = ["train", str(tmp_path / "catalogue"), "--settings", str(tmp_path / "quick.toml")]
    alone = CliRunner().invoke(cli, [*words, str(tmp_path / "alone")], catch_exceptions=False)
    assert alone.exit_code == 0, alone.output
    ended = torchrun("-m", "undersong", *words, tmp_path / "both")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("trained in") == 1
    first, second = trained(tmp_path / "alone"), trained(tmp_path / "both")
    for name, one in first.items():
        assert second[name].ids == one.ids
        cosines = (one.vectors * second[name].vectors).sum(axis=1)
        assert cosines.min() > 0.99, name  # rounding, which AdamW enlarges at every step
    again = torchrun("-m", "undersong", *words, tmp_path / "both")
    assert "generation 1 is up to date" in again.stdout
