"""The files of examples/deploy: units, a timer, a container, and the plan of a refresh."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from test_docs import fault_of_command
from undersong.cli.models import read_plan

DEPLOY = Path(__file__).parent.parent / "examples" / "deploy"
UNITS = sorted(x.name for x in DEPLOY.glob("*.service")) + ["undersong-refresh.timer"]
PROGRAM = "/opt/undersong/bin/undersong"
CONTAINER = (DEPLOY / "Containerfile").read_text()
KNOWN = {
    *("FROM", "COPY", "ARG", "RUN", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK"),
    *("STOPSIGNAL", "ENTRYPOINT", "CMD"),
}


def instructions():
    text = re.sub(r"^#.*\n", "", CONTAINER, flags=re.M).replace("\\\n", " ")
    return [tuple(x.split(None, 1)) for x in text.splitlines() if x.strip()]


def one(name):
    (value,) = [words for key, words in instructions() if key == name]
    return value


def services():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_a_unit_as_it_is(name, tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed; only the commands of the units are checked")
    for unit in UNITS:
        text = (DEPLOY / unit).read_text().replace(PROGRAM, shutil.which("true"))
        (tmp_path / unit).write_text(text)
    done = subprocess.run(
        [verify, "verify", "--man=no", tmp_path / name], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [x for x in UNITS if x.endswith(".service")])
def test_a_unit_starts_a_command_that_exists_and_may_write_no_more_than_it_must(name):
    lines = (DEPLOY / name).read_text().splitlines()
    (command,) = [x.removeprefix("ExecStart=") for x in lines if x.startswith("ExecStart=")]
    assert command.startswith(f"{PROGRAM} ")
    assert fault_of_command(command, whole=True) is None
    assert {"User=undersong", "NoNewPrivileges=true", "ProtectSystem=strict"} <= set(lines)


def test_the_container_is_built_of_what_is_here_and_runs_as_nobody_special():
    names = [name for name, _ in instructions()]
    assert set(names) <= KNOWN
    assert names[0] == "FROM"
    for words in [words for name, words in instructions() if name == "COPY"]:
        *sources, _ = words.split()
        assert all((DEPLOY.parent.parent / x).exists() for x in sources)
    assert "useradd" in CONTAINER
    assert names.index("USER") > names.index("RUN")
    assert one("USER") == "undersong"
    check = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
    compile(check[2], "HEALTHCHECK", "exec")
    command = [*json.loads(one("ENTRYPOINT")), *json.loads(one("CMD"))]
    assert fault_of_command(shlex.join(command), whole=True) is None
    extras = re.search(r"/src\[([\w,]+)\]", CONTAINER)[1].split(",")
    assert {"serve", "train", "servers"} <= set(extras)


@pytest.mark.parametrize("name", ["serve", "refresh"])
def test_a_service_of_compose_can_write_only_its_volumes(name):
    service = services()[name]
    assert service["read_only"] is True
    assert service["user"] == "1000"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (DEPLOY / service["build"]["context"]).resolve() == DEPLOY.parent.parent
    assert (DEPLOY.parent.parent / service["build"]["dockerfile"]).is_file()
    volumes = dict(x.split(":", 1) for x in service["volumes"])
    writable = {x for x, place in volumes.items() if not place.endswith(":ro")}
    assert writable == ({"token"} if name == "serve" else {"data"})
    command = service.get("command") or json.loads(one("CMD"))
    assert fault_of_command(shlex.join(["undersong", *command]), whole=True) is None


def test_compose_takes_its_file_as_it_is():
    docker = shutil.which("docker")
    there = docker and subprocess.run([docker, "compose", "version"], capture_output=True)
    if not there or there.returncode:
        pytest.skip("docker compose is not installed; its file is read as YAML alone")
    command = [docker, "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_plan_can_be_begun_with(tmp_path):
    shutil.copy(DEPLOY / "undersong.toml", tmp_path)
    plan = read_plan(tmp_path)
    words = ["subsonic", "http://127.0.0.1:4533", "--login", "login.txt"]
    assert plan.imports["library"][: len(words)] == words
    assert list(plan.playlists) == ["For tonight"]
    assert plan.extract == []
