"""Processes that read untrusted files: what they import from, and what they can no longer do."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adding_worlds import tagged
from undersong.audio.decode import Decoder
from undersong.importers.music import tag_readers
from undersong.sandbox import PACKAGES, Child, answers, environment, import_path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there children only have a clock")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only limits hold")
TRAPS = ("undersong", "numpy", "json", "polars", "mutagen", "soundfile", "sitecustomize", "pickle")
SCRIPT = "import sys; del sys.path[0]; from undersong.cli.main import main; main()"


@pytest.fixture(scope="module")
def world(hearing_home):
    return hearing_home


@pytest.fixture
def download(tmp_path):
    """A downloaded folder: a song, and modules that leave a mark when they are imported."""
    folder = tmp_path / "download"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name!r})")
    tagged(folder / "song.flac", 97, title="Song", artist="Singer")
    return folder


def in_folder(folder, *words, python=("-c", SCRIPT), **variables):
    """Start the command in a folder, by default as its script does."""
    return subprocess.Popen(
        [sys.executable, *python, *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": PACKAGES} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_nothing_in_the_working_folder_is_run(world, download, tmp_path):
    """By any of the four commands that start children."""
    shutil.copytree(world / "run", tmp_path / "run", symlinks=True)
    injected = {"PYTHONSTARTUP": str(download / "numpy.py"), "LD_LIBRARY_PATH": "", "PATH": "."}
    ended(in_folder(download, "import", "folder", ".", tmp_path / "out", **injected))
    words = ("extract", world / "catalogue", "--out", tmp_path / "shards")
    ended(in_folder(download, *words, **injected))
    assert "Singer" in ended(in_folder(download, "add", tmp_path / "run", "song.flac", **injected))
    service = ("serve", tmp_path / "run", "--port", "0", "--quiet")
    with in_folder(download, *service, **injected) as process:
        try:
            line = process.stdout.readline()
            status, content = upload(int(re.search(r":(\d+)", line)[1]), download / "song.flac")
        finally:
            process.kill()
    assert status == 200, content
    assert not (tmp_path / "mark").exists(), (tmp_path / "mark").read_text()


def test_the_module_runs_nothing_there_either(download, tmp_path):
    """Apart from a file ``undersong.py``, which Python takes before a line of ours is run."""
    (download / "undersong.py").unlink()
    words = ("import", "folder", ".", tmp_path / "out")
    ended(in_folder(download, *words, python=("-m", "undersong")))
    assert not (tmp_path / "mark").exists(), (tmp_path / "mark").read_text()


def upload(port, path):
    """Send a file to be heard, as a form does."""
    mark = b"--mark--"
    head = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = b"--" + mark + b"\r\n" + head + path.read_bytes() + b"\r\n--" + mark + b"--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    kind = {"Content-Type": f"multipart/form-data; boundary={mark.decode()}"}
    with contextlib.closing(connection):
        connection.request("POST", "/api/sounds-like", body=body, headers=kind)
        reply = connection.getresponse()
        return reply.status, reply.read()


def test_the_trap_would_be_run_by_a_child_that_looks_there(download, tmp_path):
    subprocess.run([sys.executable, "-c", "import json"], cwd=download, check=True)
    assert (tmp_path / "mark").read_text() == "json"


SPAWN = """
import sys
sys.path[0] = sys.argv[1]
from functools import partial
from pathlib import Path
from worked import touch
from undersong.lab.reproduction.job_runner import Job, run_jobs
home = Path(sys.argv[2])
jobs = [Job(x, 1.0, home / x, partial(touch, home / x)) for x in ("first", "second", "third")]
run_jobs(jobs, progress=lambda *x: None, processes=2)
"""


def test_children_of_a_reproduction_import_nothing_from_there(download, tmp_path):
    """Spawned processes import ``pickle`` first of all, before they know where to look."""
    here = str(Path(__file__).parent)
    ended(in_folder(download, here, tmp_path, python=("-c", SPAWN)))
    assert (tmp_path / "first").exists()
    assert (tmp_path / "third").exists()
    assert not (tmp_path / "mark").exists(), (tmp_path / "mark").read_text()


def test_a_child_gets_no_variable_that_brings_code(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV"):
        monkeypatch.setenv(name, "/x")
    monkeypatch.setenv("OMP_TOOL_LIBRARIES", "/x")
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", "/usr/bin", "bin"]))
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    passed = environment()
    assert "/x" not in passed.values()
    assert passed["PATH"] == "/usr/bin"
    assert "LD_LIBRARY_PATH" not in passed


def test_the_working_folder_is_not_searched_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    other = str(tmp_path.parent)
    monkeypatch.setattr(sys, "path", ["", ".", str(tmp_path), str(link), other, "lib"])
    assert import_path() == [PACKAGES, other]


ATTACK = """
import ctypes, ctypes.util, json, os, resource, signal, socket, sys, threading, time
import undersong.audio.file, undersong.importers.music.tags
from undersong import sandbox
from undersong.sandbox import confine
home, port, user, without = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
answers = os.dup(1)
parent, file = os.getppid(), home + "/file"
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
if without:
    setattr(sandbox, without, lambda library: None)
threads = len(os.listdir("/proc/self/task"))
confine(memory=3 << 30)
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)
def fork():
    if os.fork() == 0:
        os._exit(0)
def memory():
    with open(f"/proc/{parent}/mem", "r+b", buffering=0) as other:
        other.seek(int(open(f"/proc/{parent}/maps").readline().split("-")[0], 16))
        other.read(1)
attacks = {
    "unlink": lambda: os.unlink(home + "/unlinked"),
    "truncate": lambda: os.truncate(file, 0),
    "write": lambda: open(file, "r+b"),
    "create": lambda: open(home + "/created", "x"),
    "rename": lambda: os.rename(file, home + "/renamed"),
    "link": lambda: os.link(file, home + "/linked"),
    "symlink": lambda: os.symlink(file, home + "/symlinked"),
    "mkdir": lambda: os.mkdir(home + "/made"),
    "mkfifo": lambda: os.mkfifo(home + "/fifo"),
    "rmdir": lambda: os.rmdir(home + "/empty"),
    "chmod": lambda: os.chmod(file, 0o777),
    "times": lambda: os.utime(file, (1, 1)),
    "attribute": lambda: os.setxattr(file, "user.name", b"1"),
    "fork": fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "unix socket": lambda: connect(socket.AF_UNIX, home + "/socket"),
    "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
    "signal": lambda: os.kill(parent, 0),
    "memory of the parent": memory,
    "environment of the parent": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "much memory": lambda: bytearray(4 << 30),
}
done = []
for name, attack in attacks.items():
    try:
        attack()
    except (OSError, MemoryError):
        continue
    done.append(name)
read = open(file).read()
os.write(answers, json.dumps([threads, done, read]).encode() + b"\\n")
"""


@linux
@pytest.mark.parametrize("without", ["", "_forbid_files", "_forbid_calls"])
@pytest.mark.parametrize("user", [0, 65534], ids=["as-we-are", "as-nobody"])
def test_a_child_can_read_and_nothing_else(tmp_path, user, without):
    if user and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    home = Path(tempfile.mkdtemp())  # nobody may not enter the folder of the tests
    try:
        home.chmod(0o777)
        (home / "empty").mkdir()
        for name in ("file", "unlinked"):
            (home / name).write_text("content")
            if user:
                os.chown(home / name, user, user)
        with (
            socket.socket(socket.AF_UNIX) as unix,
            socket.create_server(("127.0.0.1", 0)) as server,
        ):
            unix.bind(str(home / "socket"))
            (home / "socket").chmod(0o777)
            unix.listen()
            child = Child(ATTACK, str(home), str(server.getsockname()[1]), str(user), without)
            try:
                threads, done, read = json.loads(answers(child.begin()).readline())
            finally:
                child.end()
    finally:
        shutil.rmtree(home)
    if without == "_forbid_calls":  # what Landlock, limits and the network's absence leave
        assert set(done) <= {"chmod", "times", "attribute", "fork", "unix socket"}, done
        assert "fork" not in done or user == 0
    else:
        assert done == []
    assert threads == 1, "a filter is for the thread that asks for it, and those it starts"
    assert read == "content"


@linux
def test_decoders_and_tag_readers_are_confined(tmp_path):
    song = tagged(tmp_path / "song.flac", 5, title="Song")
    decoder, reader = Decoder(), tag_readers._Reader(1 << 30, 20)
    try:
        decoder.decode(song)
        assert reader.read([song])[0].title == "Song"
        for child in (decoder._child, reader._child):
            lines = Path(f"/proc/{child.process.pid}/status").read_text().splitlines()
            status = dict(x.split(":\t", 1) for x in lines if ":\t" in x)
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            assert int(status["CapEff"], 16) in (0, 4)
    finally:
        decoder.stop()
        reader.stop()


def test_a_figure_does_not_ask_the_working_folder_how_to_draw(download, tmp_path):
    """Such a file may have each label set by ``latex``, whichever program of that name it is."""
    pytest.importorskip("matplotlib")
    (download / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\n")
    ended(in_folder(download, tmp_path / "drawn.png", python=("-c", FIGURE)))
    assert (tmp_path / "drawn.png").exists()


FIGURE = """
import sys
del sys.path[0]
from undersong.io.display import new_figure
with new_figure(1.5, 2.5) as figure:
    figure.text(0, 0, "text")
    assert figure.get_facecolor() == (1, 1, 1, 1), figure.get_facecolor()
    figure.savefig(sys.argv[1])
"""
