"""Shells complete undersong: the scripts are printed, and a real bash uses them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "concepts.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The folder of a command ``undersong`` that runs this code."""
    folder = tmp_path_factory.mktemp("bin")
    file = folder / "undersong"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m undersong "$@"\n')
    file.chmod(0o755)
    return folder


def asked(command, *words, **environment):
    """What a program prints that finds ``undersong`` first."""
    path = os.pathsep.join((str(command), os.environ["PATH"]))
    done = subprocess.run(
        words,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **environment},
    )
    assert done.stderr == ""
    return done.stdout


def completed(command, *words):
    """What bash offers for the last of the words, after the script was sourced as the page says."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed: completion cannot be tried in it")
    said = re.search(r"eval .*_UNDERSONG_COMPLETE=bash_source.*", PAGE)[0]
    script = f'{said}\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n_undersong_completion "$1"\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    # compopt tells readline how to go on, and refuses outside of it.
    return asked(command, bash, "-c", f"compopt() {{ :; }}\n{script}", "bash", *words).splitlines()


@pytest.mark.parametrize(
    ("shell", "registers"),
    [
        ("bash", r"complete -o nosort -F _undersong_completion undersong"),
        ("zsh", r"compdef _undersong_completion undersong"),
        ("fish", r"complete --no-files --command undersong"),
    ],
)
def test_the_script_of_a_shell_is_printed(command, shell, registers):
    printed = asked(command, "undersong", _UNDERSONG_COMPLETE=f"{shell}_source")
    assert registers in printed
    assert f"_UNDERSONG_COMPLETE={shell}_complete" in printed
    assert f"{shell}_source" in PAGE


def test_bash_keeps_what_the_page_says_as_its_completion(command):
    said = re.search(r"eval .*_UNDERSONG_COMPLETE=bash_source.*", PAGE)[0]
    kept = asked(command, "bash", "-c", f"{said}\ncomplete -p undersong")
    assert kept == "complete -o nosort -F _undersong_completion undersong\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("undersong", "sim"), ["similar"]),
        (("undersong", "re"), ["recommend", "refresh", "relations", "report", "reproduce"]),
        (("undersong", "import", "music"), ["musicbrainz"]),
        (("undersong", "similar", "my/run", "--long"), ["--long-tail"]),
        (("undersong", "evaluate", "my/run", "--split", "val"), ["validation"]),
    ],
)
def test_bash_completes_commands_options_and_values(command, words, offered):
    assert completed(command, *words) == offered


def test_completing_takes_a_moment(command):
    before = os.times()
    words = {"COMP_WORDS": "undersong ", "COMP_CWORD": "1"}
    printed = asked(command, "undersong", _UNDERSONG_COMPLETE="bash_complete", **words)
    after = os.times()
    assert "plain,similar" in printed.splitlines()
    used = sum(after[2:4]) - sum(before[2:4])  # of children, user and system
    assert used < 0.5, f"{used:.2f} s of processor"
