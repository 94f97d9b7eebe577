import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = (
    "scripts/bench",
    "scripts/docs",
    "scripts/gallery",
    "scripts/release",
    "scripts/setup",
    "scripts/demo",
    "scripts/test",
    "scripts/check",
    "scripts/real-data",
)
TOOLS = ("bash", "cat", "cksum", "dirname")  # what scripts/setup needs besides Python


def run(*words, path=None, cwd=None):
    environment = dict(os.environ) if path is None else {"PATH": str(path)}
    return subprocess.run(
        [shutil.which("bash"), *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=60,
    )


@pytest.fixture
def bare(tmp_path):
    """A copy of the set-up in a machine that has the named tools and nothing else."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/setup", tmp_path / "scripts/setup")
    for file in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path / file)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    return tmp_path


def put_python(tools, answer):
    """Put a ``python3.12`` in place that does what a line of shell says."""
    (tools / "python3.12").write_text(f"#!{shutil.which('bash')}\n{answer}\n")
    (tools / "python3.12").chmod(0o755)


@pytest.mark.parametrize("script", [*SCRIPTS, ".ci/run"])
def test_a_script_is_executable_valid_and_stops_at_the_first_failure(script):
    text = (ROOT / script).read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert os.access(ROOT / script, os.X_OK)
    assert run("-n", ROOT / script).returncode == 0


@pytest.mark.parametrize("file", [*SCRIPTS, ".ci/run", "constraints.txt", "pyproject.toml"])
def test_no_file_of_the_set_up_names_a_package_index_or_a_place_of_one_machine(file):
    text = (ROOT / file).read_text()
    assert (
        re.findall(r"https?:|file:|--(?:extra-)?index|--find-links|\s/(?:home|tmp|root)", text)
        == []
    )


def test_constraints_pin_every_package_that_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    names = {re.split(r"[\[>=<~!; ]", x)[0].lower() for x in asked} - {"undersong"}
    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if x[0] != "#"]
    pinned = dict(x.lower().replace("_", "-").split("==") for x in lines)
    assert names - set(pinned) == set()
    assert pinned["torch"] == "2.13.0"
    assert [x for x in pinned.values() if "+" in x] == []


def test_set_up_without_python_says_what_to_install(bare):
    done = run(bare / "scripts/setup", "all", path=bare / "tools")
    assert done.returncode == 1
    assert "no Python 3.11 or newer found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert not (bare / ".venv").exists()


def test_set_up_without_venv_names_the_package_of_that_python(bare):
    put_python(
        bare / "tools",
        'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.12 ;; *) exit 0 ;; esac',
    )
    done = run(bare / "scripts/setup", "all", path=bare / "tools")
    assert done.returncode == 1
    assert "Python 3.12 has no venv with pip" in done.stderr
    assert "apt-get install python3.12-venv" in done.stderr


def test_set_up_installs_once_and_again_when_the_requirements_change(bare):
    # A python that makes an environment with itself in it, and whose pip notes what it is asked.
    for tool in ("mkdir", "cp"):
        (bare / "tools" / tool).symlink_to(shutil.which(tool))
    put_python(
        bare / "tools",
        f"""case "$*" in
          *"-m venv --clear"*) mkdir -p "$4/bin"; cp "{bare}/tools/python3.12" "$4/bin/python" ;;
          *"pip install"*) echo "$*" >>"{bare}/asked" ;;
          *print*) echo 3.12 ;;
        esac""",
    )
    asked = bare / "asked"

    def set_up(extra):
        done = run(bare / "scripts/setup", extra, path=bare / "tools", cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Installed in" in set_up("all")
    assert asked.read_text().split()[-1] == ".[all]"
    assert "-c constraints.txt" in asked.read_text()
    assert set_up("all") == ""
    assert "Installed in" in set_up("dev")
    assert set_up("all") == set_up("dev") == ""
    assert len(asked.read_text().splitlines()) == 2
    with (bare / "constraints.txt").open("a") as file:
        file.write("# another line\n")
    assert "Installed in" in set_up("all")
    assert len(asked.read_text().splitlines()) == 3


def test_a_failed_installation_says_what_to_do_and_is_tried_again(bare):
    for tool in ("mkdir", "cp"):
        (bare / "tools" / tool).symlink_to(shutil.which(tool))
    put_python(
        bare / "tools",
        f"""case "$*" in
          *"-m venv --clear"*) mkdir -p "$4/bin"; cp "{bare}/tools/python3.12" "$4/bin/python" ;;
          *"pip install"*) exit 1 ;;
          *print*) echo 3.12 ;;
        esac""",
    )
    for _ in range(2):
        done = run(bare / "scripts/setup", "dev", path=bare / "tools")
        assert done.returncode == 1
        assert "could not be installed" in done.stderr
        assert "run this again" in done.stderr


def test_set_up_refuses_an_unknown_set_of_packages(bare):
    done = run(bare / "scripts/setup", "everything", path=bare / "tools")
    assert done.returncode == 1
    assert "unknown set of packages 'everything'; choose all or dev" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["C", "out"], "unknown set 'C'; known: A, B, T, lieder, olga"),
        (["B"], "give SET and OUT"),
        (["B", "out", "--dat", "x"], "unknown option --dat; known: --data DIR, --fresh"),
        (["B", "out", "--data"], "--data needs a folder"),
        (["lieder", "out", "--data", "nowhere"], "there is no data in nowhere/lieder"),
        (["T", "out", "--data", "nowhere"], "there is no data in nowhere/multisource"),
        (["olga", "out", "--data", "nowhere"], "there is no data in nowhere/olga"),
    ],
)
def test_real_data_says_what_is_wrong_before_it_does_anything(tmp_path, words, message):
    done = run(ROOT / "scripts/real-data", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_real_data_does_not_mix_two_sets_in_one_folder(tmp_path):
    (tmp_path / "data/multisource").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/set.txt").write_text("A\n")
    done = run(ROOT / "scripts/real-data", "B", tmp_path / "out", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "holds set A already; give another OUT for set B" in done.stderr


@pytest.mark.parametrize(
    ("name", "mapping", "settings"),
    [
        ("A", "multisource-A.toml", []),
        ("B", "multisource-B.toml", []),
        ("T", "multisource-T.toml", ["--settings", "examples/tracks.toml"]),
        ("lieder", "lieder.toml", []),
        ("olga", "olga.toml", []),
    ],
)
def test_real_data_imports_trains_and_evaluates_each_set(tmp_path, name, mapping, settings):
    """With a stand-in for the program, which notes what it is asked."""
    for folder in ("scripts", "examples", ".venv/bin", "data/multisource", "data/lieder"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/olga").mkdir()
    shutil.copy(ROOT / "scripts/real-data", tmp_path / "scripts/real-data")
    for file, line in (("scripts/setup", "exit 0"), (".venv/bin/undersong", 'echo "$@" >>asked')):
        (tmp_path / file).write_text(f"#!{shutil.which('bash')}\n{line}\n")
        (tmp_path / file).chmod(0o755)
    script = tmp_path / "scripts/real-data"
    done = run(script, name, "out", "--data", "data", "--fresh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, third = (tmp_path / "asked").read_text().splitlines()
    assert first.split()[:2] == ["import", "tables"]
    assert first.split()[2].endswith(f"examples/{mapping}")
    assert (ROOT / "examples" / mapping).exists()
    words = [x.replace(f"{tmp_path}/", "") for x in second.split()]
    assert words == ["train", "out/catalogue", "out/run", *settings, "--fresh"]
    assert third == "evaluate out/run --split validation"


def test_ci_runs_the_tests_by_the_script_that_users_type():
    assert re.search(r"^scripts/test ", (ROOT / "scripts/check").read_text(), re.M)
    assert "scripts/check" in (ROOT / ".ci/run").read_text()
