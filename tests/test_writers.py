"""Several writers of one folder, kill -9, full and read-only disks: real processes, real mounts."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import small_world
from test_publishing import make_run
from undersong import runs
from undersong.audio import shards
from undersong.audio.decode import Decoded
from undersong.audio.logmel import BANDS, FRAMES
from undersong.catalogue import tables
from undersong.cli.main import cli
from undersong.errors import ArtifactError, DataError
from undersong.export import rows
from undersong.io.files import NAME, locked, replacing, sha256, write_json
from undersong.pipeline.publish import publish

COMMAND = [sys.executable, "-m", "undersong"]
LISTENS = "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
MAPPING = """[artists]
file = "artists.csv"
id = "id"
name = "name"
"""
HOLD = """
import sys
from pathlib import Path
from undersong.io.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def sources(tmp_path):
    """A history of 7 artists, and a table of 5."""
    lines = [f"{1_500_000_000 + x},,Band {x % 7},,,,Song {x % 11},\n" for x in range(60)]
    (tmp_path / "plays.csv").write_text(LISTENS + "".join(lines))
    (tmp_path / "mapping.toml").write_text(MAPPING)
    (tmp_path / "artists.csv").write_text(
        "id,name\n" + "".join(f"{x},Name {x}\n" for x in range(5))
    )
    return tmp_path


def lastfm(sources, out, *more):
    return [
        *COMMAND,
        "import",
        "lastfm",
        str(sources / "plays.csv"),
        str(out),
        "--user",
        "u",
        *more,
    ]


def from_tables(sources, out, *more):
    return [*COMMAND, "import", "tables", str(sources / "mapping.toml"), str(out), *more]


def run(words, **options):
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def called(words):
    """Run a command in this process; what is imported for it is imported once."""
    done = CliRunner().invoke(cli, words[len(COMMAND) :])
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def begin(words, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, text=True, **pipes, **options)


def hold(folder):
    """A process that locks a folder until its standard input ends."""
    return begin([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE)


def one_line(done, *words):
    """Whether a command ended with one line that has these words."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    last = done.stderr.splitlines()[-1]
    lines = [last[at:] for at in [last.find("Error: ")] if at >= 0]  # faiss prints before it
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


def test_the_second_writer_waits_with_one_line(tmp_path):
    first = hold(tmp_path / "x")
    assert first.stdout.readline() == "locked\n"
    second = hold(tmp_path / "x")
    line = f"another process writes to {tmp_path / 'x'}; waiting until it has ended\n"
    assert second.stderr.readline() == line
    first.communicate()
    assert second.stdout.readline() == "locked\n"
    assert second.communicate() == ("", "")


def test_a_folder_that_was_made_for_the_lock_alone_goes_again(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / NAME).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_a_process_that_is_killed(tmp_path):
    process = hold(tmp_path / "x")
    assert process.stdout.readline() == "locked\n"
    expected = pytest.raises(ArtifactError, match="another process writes to .*x; wait for it, or")
    with expected, locked(tmp_path / "x", wait=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "x" / NAME).exists()
    with locked(tmp_path / "x", wait=False):
        pass


def test_many_processes_are_never_inside_at_once(tmp_path):
    child = """
import sys
from pathlib import Path
from undersong.io.files import locked
folder = Path(sys.argv[1])
for _ in range(60):
    with locked(folder / "x"):
        number = int((folder / "number").read_text())
        (folder / "number").write_text(str(number + 1))
"""
    (tmp_path / "number").write_text("0")
    processes = [begin([sys.executable, "-c", child, str(tmp_path)]) for _ in range(4)]
    assert [x.communicate() and x.returncode for x in processes] == [0, 0, 0, 0]
    assert (tmp_path / "number").read_text() == "240"


def test_a_thread_may_lock_again_and_another_thread_waits(tmp_path):
    order = []

    def other():
        with locked(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    with locked(tmp_path), locked(tmp_path / "." / "", wait=False):
        thread.start()
        time.sleep(0.2)
        order.append("this")
    thread.join()
    assert order == ["this", "other"]


def test_where_nothing_can_be_locked_a_line_says_so(tmp_path, monkeypatch, caplog):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        pass
    assert caplog.messages == [
        f"{tmp_path} lies where nothing can be locked (No locks available); let only one command "
        "at a time write there"
    ]


def test_two_imports_at_once_leave_a_whole_catalogue(sources):
    home = sources / "home"
    for _ in range(4):
        both = [begin(lastfm(sources, home)) for _ in range(2)]
        for process in both:
            out, err = process.communicate()
            assert process.returncode == 0, err
            assert "7 artists" in out
        assert len(tables.read_catalogue(home).artists) == 7
        assert [x.name for x in home.glob("tables-*")] == [
            json.loads((home / "catalogue.json").read_text())["tables"]
        ]


def test_of_two_imports_of_different_kinds_the_second_is_refused(sources):
    both = [begin(lastfm(sources, sources / "home")), begin(from_tables(sources, sources / "home"))]
    codes = {process.communicate() and process.returncode for process in both}
    assert codes == {0, 1}
    assert len(tables.read_catalogue(sources / "home").artists) in (5, 7)


def test_killed_beside_a_second_writer_an_import_leaves_the_old_or_the_new(sources):
    home = sources / "home"
    called(from_tables(sources, home))
    for turn in range(8):
        first = begin(from_tables(sources, home))
        second = begin(from_tables(sources, home))
        time.sleep(0.3 + 0.09 * turn)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        _, err = second.communicate()
        assert second.returncode == 0, err
        assert len(tables.read_catalogue(home).artists) == 5
    called(from_tables(sources, home))  # removes what the last one left that was killed
    assert sorted(x.name.split("-")[0] for x in home.iterdir()) == ["catalogue.json", "tables"]


def test_two_publications_at_once_are_two_whole_generations(tmp_path):
    homes = [make_run(tmp_path / f"run {x}", seed=x) for x in (1, 2)]
    shelf = tmp_path / "shelf"
    both = [begin([*COMMAND, "publish", str(x), str(shelf)]) for x in homes]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    contents = {runs.read(x).content for x in homes}
    shown = [runs.read_generation(shelf, x) for x in runs.numbers(shelf)]
    assert {x.trained["content"] for x in shown} == contents
    for one in shown:
        for name in one.manifest["files"]:
            one.file(name)


def test_a_pointer_that_another_one_moved_is_not_moved_on(tmp_path):
    make_run(tmp_path / "run")

    def interrupted() -> None:
        with runs.publishing(tmp_path / "run", {}):
            (tmp_path / "run" / "generations" / "1").rename(tmp_path / "run" / "generations" / "7")
            write_json(tmp_path / "run" / "current.json", {"format": 1, "generation": "7"})

    with pytest.raises(ArtifactError, match="shows generation 7, no longer 1: another command"):
        interrupted()
    assert runs.read(tmp_path / "run").generation == "7"


def test_a_catalogue_that_another_one_wrote_meanwhile_stays(tmp_path):
    tables.write_catalogue(small_world(), tmp_path)

    def interrupted() -> None:
        with tables.replacing_tables(tmp_path, fields=(), features=()):
            path = tmp_path / "catalogue.json"
            write_json(path, json.loads(path.read_text()))

    with pytest.raises(ArtifactError, match="another command wrote to .*; give this one again"):
        interrupted()
    assert tables.read_catalogue(tmp_path).artists.equals(small_world().artists)


@contextmanager
def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", *options, "none", str(folder)]
    done = run(words)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def contents(folder):
    return {
        x.relative_to(folder).as_posix(): sha256(x)
        for x in sorted(folder.rglob("*"))
        if x.is_file() and x.name not in ("ballast", NAME)
    }


def fill(folder):
    full = pytest.raises(OSError, match="No space left on device")
    with (folder / "ballast").open("wb", buffering=0) as file, full:
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def disk(sources):
    """A small disk with a catalogue of each kind, a run, a shelf and an export."""
    with mounted(sources / "disk", "-o", "size=3m") as home:
        assert called(from_tables(sources, home / "tables")).returncode == 0
        assert called(lastfm(sources, home / "listens")).returncode == 0
        make_run(home / "run")
        publish(make_run(sources / "first"), home / "shelf")
        make_run(sources / "second", seed=2)
        yield home


def writing_commands(sources, home):
    """Every one must write to the disk."""
    listens, read = home / "listens", Path(__file__).parent / "fixtures" / "shelf-1"
    return {
        "import tables": from_tables(sources, home / "tables"),
        "import tables, new": from_tables(sources, home / "new"),
        "import lastfm": lastfm(sources, listens),
        "merge": [*COMMAND, "merge", str(listens), str(home / "tables"), str(home / "merged")],
        "publish": [*COMMAND, "publish", str(sources / "second"), str(home / "shelf")],
        "export parquet": [*COMMAND, "export", "parquet", str(read), str(home / "x.parquet")],
        "export numpy": [*COMMAND, "export", "numpy", str(read), str(home / "x.npy")],
        "export csv": [*COMMAND, "export", "csv", str(read), str(home / "x.csv")],
        "export faiss": [*COMMAND, "export", "faiss", str(read), str(home / "x.faiss")],
        "export pgvector": [*COMMAND, "export", "pgvector", str(read), str(home / "x.sql")],
        "export qdrant": [*COMMAND, "export", "qdrant", str(read), str(home / "x.jsonl")],
        "relations": [*COMMAND, "relations", str(listens), "--out", str(home / "r.parquet")],
        "neighbours": [*COMMAND, "neighbours", str(read), "--out", str(home / "n.parquet")],
        "twin": [*COMMAND, "twin", str(home / "twin"), "--artists", "101", "--tracks", "0"]
        + ["--plays", "307"],
    }


def test_a_full_disk_is_one_line_and_nothing_is_half_made(sources, disk):
    fill(disk)
    before = contents(disk)
    for name, words in writing_commands(sources, disk).items():
        done = called(words)
        one_line(done, "cannot be written (No space left on device); make room there", str(disk))
        assert contents(disk) == before, name


def test_a_read_only_disk_is_one_line(sources, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = contents(disk)
    rollback = {"rollback": [*COMMAND, "rollback", str(disk / "shelf")]}
    for words in (writing_commands(sources, disk) | rollback).values():
        one_line(called(words), "cannot be written (Read-only file system); see that you may write")
    assert contents(disk) == before
    assert called([*COMMAND, "describe", str(disk / "listens")]).returncode == 0


def test_a_folder_without_permission_is_one_line(sources):
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    who = nobody if os.geteuid() == 0 else {}
    locked_up = sources / "closed"
    locked_up.mkdir(mode=0o555)
    for part in [sources, *sources.parents][:3]:
        part.chmod(part.stat().st_mode | 0o055)
    for words in (from_tables(sources, locked_up), from_tables(sources, locked_up / "new")):
        try:
            done = run(words, **who)
        except PermissionError:
            pytest.skip("another user cannot run this Python")
        one_line(done, "cannot be written (Permission denied); see that you may write there")


def test_too_many_open_files_are_one_line(sources):
    words = " ".join(from_tables(sources, sources / "home"))
    script = (
        "import os, sys\nfrom undersong.cli.main import main\nimport undersong.importers.tables."
        "conversion, undersong.catalogue\nsys.argv[1:] = sys.argv[1:]\nimport resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\ntry:\n    while True: held.append(os.open('/dev/null', 0))\n"
        "except OSError: os.close(held.pop())\nmain()"
    )
    done = run([sys.executable, "-c", script, *words.split()[3:]])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Too many open files" in done.stderr
    assert not (sources / "home").exists()


def test_output_that_cannot_be_written_is_one_line(sources):
    called(lastfm(sources, sources / "home"))
    describe = [*COMMAND, "describe", str(sources / "home")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(describe, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_reader_that_goes_away_is_no_error(sources):
    called(lastfm(sources, sources / "home"))
    ends = os.pipe()
    os.close(ends[0])
    describe = [*COMMAND, "describe", str(sources / "home")]
    done = subprocess.run(describe, stdout=ends[1], stderr=subprocess.PIPE, check=False)
    os.close(ends[1])
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_a_name_that_the_terminal_cannot_encode_is_escaped(tmp_path, encoding):
    make_run(tmp_path / "run")
    names = pl.DataFrame(
        {
            "kind": "artist",
            "id": [f"artist {x}" for x in range(43)],
            "name": ["ハル"] * 43,
            "about": "",
            "part": None,
            "relations": 0,
            "popularity": None,
        },
        schema_overrides={"part": pl.String, "relations": pl.Int64, "popularity": pl.Float64},
    )
    with runs.publishing(tmp_path / "run", {"kind": "artist"}) as home:
        old = tmp_path / "run" / "generations" / "1" / "embeddings"
        (home / "embeddings").mkdir()
        for path in old.iterdir():
            (home / "embeddings" / path.name).write_bytes(path.read_bytes())
        names.write_parquet(home / "items.parquet")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    words = [*COMMAND, "similar", str(tmp_path / "run"), "artist 3", "--paper"]
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    name = "ハル" if encoding == "utf-8" else "\\u30cf\\u30eb"
    assert name in done.stdout.decode(encoding)


def modes(folder):
    return {oct(x.stat().st_mode & 0o777) for x in folder.rglob("*") if x.is_file()}


WRITE = """
import os, sys
from pathlib import Path
import numpy as np, torch
from undersong.io.tensors import write_tensors
about = {f"key {x}": "é" * x for x in range(9)}
for umask in sys.argv[2:]:
    os.umask(int(umask, 8))
    folder = Path(sys.argv[1]) / umask
    write_tensors(folder / "n", {x: np.ones(3) for x in "bac"}, version=1, about=about)
    write_tensors(folder / "t", {x: torch.ones(5) for x in "bac"}, version=1, about=about)
"""


def test_files_have_the_mode_of_the_umask_and_equal_tensors_equal_bytes(tmp_path):
    pytest.importorskip("torch", reason="torch is missing: scripts/setup dev")
    expected = {"022": {"0o644"}, "027": {"0o640"}, "077": {"0o600"}}
    for folder in ("one", "two"):
        subprocess.run([sys.executable, "-c", WRITE, tmp_path / folder, *expected], check=True)
        assert {x: modes(tmp_path / folder / x) for x in expected} == expected
    for name in (f"{x}/{y}" for x in expected for y in "nt"):
        assert sha256(tmp_path / "one" / name) == sha256(tmp_path / "two" / name)


def test_temporary_names_of_two_processes_with_one_number_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert [x.name for x in tmp_path.iterdir()] == ["x"]
    assert Path(tmp_path / "x").read_text() == "1"


def made_by(folder):
    return json.loads((folder / "catalogue.json").read_text())["source"]


def test_a_catalogue_of_another_kind_is_replaced_only_when_that_is_meant(sources):
    home, other = sources / "home", sources / "other"
    assert called(from_tables(sources, home)).returncode == 0
    assert called(lastfm(sources, other)).returncode == 0
    merge = [*COMMAND, "merge", str(other), str(home), str(sources / "merged")]
    assert called(merge).returncode == 0
    refused = {
        "tables": lastfm(sources, home),
        "lastfm": from_tables(sources, other),
        "merge": lastfm(sources, sources / "merged"),
    }
    for kind, words in refused.items():
        folder = Path(words[6])
        before = contents(folder)
        command = {"merge": "merge"}.get(kind, f"import {kind}")
        one_line(called(words), f"a catalogue that `undersong {command}` made", "--replace")
        assert contents(folder) == before
    assert called(lastfm(sources, sources / "merged", "--replace")).returncode == 0
    assert made_by(sources / "merged") == "lastfm"
    assert not (sources / "merged" / "doubts.parquet").exists()
    assert (sources / "merged" / "identities.parquet").exists()
    assert called(from_tables(sources, other, "--replace")).returncode == 0
    assert sorted(x.name for x in other.iterdir()) == ["catalogue.json", "tables-2"]
    assert called(from_tables(sources, other)).returncode == 0


def test_a_replacement_that_fails_keeps_the_old_catalogue(sources):
    assert called(from_tables(sources, sources / "home")).returncode == 0
    before = contents(sources / "home")
    (sources / "plays.csv").write_text("nothing\n")
    one_line(called(lastfm(sources, sources / "home", "--replace")))
    assert contents(sources / "home") == before


def test_a_catalogue_of_a_newer_format_is_not_replaced_unasked(sources):
    home = sources / "home"
    assert called(from_tables(sources, home)).returncode == 0
    about = json.loads((home / "catalogue.json").read_text())
    write_json(home / "catalogue.json", about | {"format": 2})
    one_line(
        called(from_tables(sources, home)), "format 2, which a newer undersong wrote", "--replace"
    )
    assert called(from_tables(sources, home, "--replace")).returncode == 0
    assert len(tables.read_catalogue(home).artists) == 5


def test_a_damaged_catalogue_can_be_made_again_as_the_message_says(sources):
    home = sources / "home"
    for words in (from_tables(sources, home), lastfm(sources, home, "--replace")):
        assert called(words).returncode == 0
        for pattern in ("catalogue.json", "tables-*/artists.parquet"):
            path = next(home.glob(pattern))
            path.write_bytes(path.read_bytes()[:-9])
            one_line(called([*COMMAND, "describe", str(home)]), "again with `undersong import`")
            again = words if words[4] == "tables" else [x for x in words if x != "--replace"]
            assert called(again).returncode == 0
            assert called([*COMMAND, "describe", str(home)]).returncode == 0


def flipped(path, generator):
    """Change one bit of a file, and put it back afterwards."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    at = int(generator.integers(8 * len(whole)))
    damaged[at // 8] ^= 1 << at % 8
    path.write_bytes(damaged)
    return whole


def test_no_flipped_bit_of_a_catalogue_is_silent(tmp_path):
    tables.write_catalogue(small_world(), tmp_path)
    whole, named = tables.read_catalogue(tmp_path), tables.fingerprint(tmp_path)
    files = [tmp_path / "catalogue.json", *sorted(tmp_path.rglob("*.parquet"))]
    generator = np.random.default_rng(3)
    noticed = 0
    for turn in range(300):
        path = files[turn % len(files)]
        before = flipped(path, generator)
        try:
            read = tables.read_catalogue(tmp_path)
        except ArtifactError:
            noticed += 1
        else:  # white space of the JSON, or a letter in the name of its sum
            assert path.name == "catalogue.json"
            assert read.fields == whole.fields
            assert tables.fingerprint(tmp_path) == named
        path.write_bytes(before)
    assert noticed > 270


def test_a_catalogue_of_an_earlier_version_has_the_same_fingerprint_without_sums(tmp_path):
    tables.write_catalogue(small_world(), tmp_path)
    named = tables.fingerprint(tmp_path)
    about = json.loads((tmp_path / "catalogue.json").read_text())
    for key in ("sums", "sum", "source"):
        del about[key]
    write_json(tmp_path / "catalogue.json", about)
    assert tables.fingerprint(tmp_path) == named
    assert tables.read_catalogue(tmp_path).artists.equals(small_world().artists)


def test_no_flipped_bit_of_added_items_is_silent(tmp_path):
    rows = [
        dict.fromkeys(runs.ADDED_COLUMNS)
        | {"kind": "artist", "id": f"n{x}", "name": "é", "general": [x / 7, -1.5], "said": x}
        for x in range(13)
    ]
    whole = pl.DataFrame(rows, schema=runs.ADDED_COLUMNS)
    runs.write_added(tmp_path, "1", whole)
    generator, noticed = np.random.default_rng(4), 0
    path = runs.added_path(tmp_path, "1")
    for _ in range(200):
        before = flipped(path, generator)
        try:
            assert runs.read_added(tmp_path, "1").equals(whole)  # a statistic that nobody reads
        except ArtifactError:
            noticed += 1
        path.write_bytes(before)
    assert noticed > 100


def test_no_flipped_bit_of_an_audio_shard_is_silent(tmp_path):
    generator, noticed = np.random.default_rng(5), 0
    files = pl.DataFrame(
        {"path": ["a", "b"], "size": [3, 5], "modified": [7, 11]}, schema=shards.FILE
    )
    sounds = [
        Decoded(generator.normal(size=(x, BANDS, FRAMES)).astype(np.float16), 3.5) for x in (1, 2)
    ]
    shards.write_shard(tmp_path / "00000", files, sounds, run=0)

    def read():
        index = shards.index(tmp_path)
        places = (index[x].to_numpy() for x in ("shard", "first", "chunks"))
        sound = shards.LogMels(tmp_path, tuple(index["path"]), *places)
        return index, [sound.read(row) for row in range(2)]

    whole = read()
    for turn in range(120):
        path = tmp_path / ("00000.npy", "00000.parquet")[turn % 2]
        before = flipped(path, generator)
        try:
            index, chunks = read()
            assert index.equals(whole[0])
            assert path.suffix == ".parquet"
            assert all(map(np.array_equal, chunks, whole[1]))
        except ArtifactError:
            noticed += 1
        path.write_bytes(before)
    assert noticed > 80


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from undersong.io.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n    os.kill(os.getpid(), 9)"
    )
    for name in ("x[1].csv", "x1.csv"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    with replacing(tmp_path / "x[1].csv") as temporary:
        with replacing(tmp_path / "x[1].csv") as other:  # a writer that lives loses nothing
            other.write_text("1")
        temporary.write_text("2")
    names = sorted(x.name for x in tmp_path.iterdir())
    assert names == [next(x.name for x in left if x.name.startswith(".x1")), "x[1].csv"]


def test_an_export_that_was_killed_between_two_files_may_go_on(tmp_path, monkeypatch):
    out = tmp_path / "x.csv"

    def write(text):
        with rows.placing(out, {}, force=False) as (temporary,):
            temporary.write_text(text)

    class Killed(BaseException):
        pass

    write("1")
    with monkeypatch.context() as patch:
        patch.setattr(rows, "replacing", lambda path: killing(path, Killed))
        with pytest.raises(Killed):
            write("2")
    assert out.read_text() == "1"
    write("3")
    assert out.read_text() == "3"
    out.write_text("4")
    with pytest.raises(DataError, match="is not what `undersong export` left there"):
        write("5")


@contextmanager
def killing(path, error):
    """Do as ``replacing`` does, up to the moment at which the file would take its place."""
    yield path.with_name("temporary")
    raise error
