import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from undersong.cli.main import cli
from undersong.pipeline.run_settings import read_settings

EXAMPLE = Path(__file__).parent.parent / "examples" / "lieder"


def run(script, *words, cwd):
    return subprocess.run(
        [shutil.which("bash"), str(script), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path):
    """The script where a stand-in for the program notes what it is asked."""
    for folder in ("scripts", "examples", ".venv/bin", "songs/audio"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copytree(EXAMPLE, tmp_path / "examples/lieder")
    for file, line in (("scripts/setup", "exit 0"), (".venv/bin/undersong", 'echo "$@" >>asked')):
        (tmp_path / file).write_text(f"#!{shutil.which('bash')}\n{line}\n")
        (tmp_path / file).chmod(0o755)
    return tmp_path


def test_the_example_runs_what_its_page_shows(copy):
    done = run(copy / "examples/lieder/run", "out", "--data", "songs", cwd=copy)
    assert done.returncode == 0, done.stderr
    asked = (copy / "asked").read_text().replace(f"{copy}/", "").splitlines()
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^undersong (.*)$", page, re.M)
    there = [x.replace('"', "").replace("my-runs/lieder", "out") for x in shown]
    assert [x.replace("DIR", "songs") for x in there] == asked
    assert [x.split()[0] for x in asked] == [
        *("import", "describe", "extract", "train", "evaluate", "similar"),
    ]


def test_the_commands_of_the_example_exist():
    context = click.Context(cli)
    for line in re.findall(r"^undersong (.*)$", (EXAMPLE / "README.md").read_text(), re.M):
        assert cli.get_command(context, line.split()[0]) is not None


def test_the_settings_of_the_example_are_known():
    assert read_settings(EXAMPLE / "settings.toml").split.validation == 0.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say OUT, for example: examples/lieder/run my-runs/lieder"),
        (["out", "--dat", "x"], "unknown option --dat; known: --data DIR"),
        (["out", "more"], "one OUT, not also more"),
        (["out", "--data"], "--data needs a folder"),
        (["out", "--data", "nowhere"], "there is no folder of songs nowhere/audio"),
    ],
)
def test_the_example_says_what_is_wrong_before_it_does_anything(tmp_path, words, message):
    done = run(EXAMPLE / "run", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_script_is_executable_and_stops_at_the_first_failure():
    assert os.access(EXAMPLE / "run", os.X_OK)
    assert "\nset -euo pipefail\n" in (EXAMPLE / "run").read_text()
