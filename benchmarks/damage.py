"""Kills, second writers, flipped bits and full disks, and what is left of what a command writes.

    PYTHONPATH=src:tests python benchmarks/damage.py kills [500 [SEED]]
    PYTHONPATH=src:tests python benchmarks/damage.py flips [1000 [SEED]]
    PYTHONPATH=src:tests python benchmarks/damage.py disks              (as root: mounts a tmpfs)

kills: every writing command is killed at a random moment, each second time beside another one that
writes the same; what is left must be the old or the new, and the next command must end well. flips:
one bit of a catalogue, a run, a shelf, added items or extracted audio; a read must notice, or give
what was there. disks: every writing command on a full and on a read-only disk; one line, and
nothing changed. Commands run in forks of a process that has loaded everything, so that thousands
take minutes. Exits 1 at any fault, and lists it.
"""

import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import undersong
from planted import QUICK_SETTINGS, small_world
from test_publishing import make_run
from undersong import runs
from undersong.audio import shards
from undersong.catalogue import tables
from undersong.cli.main import main as command_line
from undersong.errors import UndersongError
from undersong.io.files import sha256
from undersong.pipeline.publish import publish
from undersong.report import formats

SHELF = Path(__file__).parent.parent / "tests" / "fixtures" / "shelf-1"
SECONDS = 600.0  # that a command may take
LISTENS = "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
# What says how far something is, for the next time; the demo goes on from the songs that it has.
PROGRESS = ("audio/audio.json", "study.json", "data/demo.partial.json", "data/audio/")
Words = list[str]


def in_child(work: Callable[[], Any], *, log: Path, seconds: float = SECONDS) -> int:
    """Start a fork that does some work; return its process id. What it prints goes to ``log``."""
    if pid := os.fork():
        return pid
    os.setpgid(0, 0)
    signal.alarm(int(seconds))
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 1
    try:
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a fork; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(words: Words) -> Callable[[], None]:
    """Return the work of one command line."""

    def work() -> None:
        sys.argv = ["undersong", *words]
        command_line()

    return work


def answer(work: Callable[[], Any], home: Path) -> Any:
    """Return what some work returns, done in a fork."""
    out = home / "answer.json"
    out.unlink(missing_ok=True)
    code = ended(in_child(lambda: out.write_text(json.dumps(work())), log=home / "log"))
    if code:
        raise RuntimeError((home / "log").read_text())
    return json.loads(out.read_text())


def make_sources(home: Path) -> None:
    """Write what the commands read: a history, tables, music, a run, two catalogues."""
    lines = [f"{1_500_000_000 + x},,Band {x % 7},,,,Song {x % 11},\n" for x in range(60)]
    (home / "plays.csv").write_text(LISTENS + "".join(lines))
    (home / "mapping.toml").write_text(
        '[artists]\nfile = "artists.csv"\nid = "id"\nname = "name"\n'
    )
    (home / "artists.csv").write_text("id,name\n" + "".join(f"{x},Name {x}\n" for x in range(5)))
    (home / "settings.toml").write_text(QUICK_SETTINGS)
    (home / "truth.csv").write_text("a,b\na80,a00\na81,a06\n")
    (home / "ids.txt").write_text("".join(f"a{x:02}\n" for x in range(13)))
    np.save(home / "x.npy", np.ones((13, 3), np.float32))
    noise = np.random.default_rng(1)
    for number in range(5):
        path = home / "music" / f"Band {number % 3}" / "First" / f"0{number} Song.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * noise.normal(size=16_000 * (3 + number)), 16_000)
    tables.write_catalogue(small_world(), home / "catalogue", source="tables")
    make_run(home / "plain")
    make_run(home / "second", seed=2)
    publish(home / "plain", home / "shelf")


def old_states(home: Path) -> dict[str, list[Words]]:
    """Commands that make what stands at a command's place before it, where something does."""
    s = str
    return {
        "import tables": [["import", "tables", s(home / "mapping.toml"), "{}"]],
        "import lastfm": [["import", "lastfm", s(home / "plays.csv"), "{}", "--user", "v"]],
        "import folder": [["import", "folder", s(home / "music"), "{}"]],
        "extract": [["import", "folder", s(home / "music"), "{}"]],
    }


def writers(home: Path, place: Path) -> dict[str, tuple[str, Words]]:
    """Every command that writes: what kind of thing it writes at ``place``, and its words."""
    h, p = str(home), str(place)
    run, catalogue, shelf = f"{h}/run", f"{h}/catalogue", str(SHELF)
    return {
        "import tables": ("catalogue", ["import", "tables", f"{h}/mapping.toml", p]),
        "import lastfm": ("catalogue", ["import", "lastfm", f"{h}/plays.csv", p, "--user", "u"]),
        "import folder": ("catalogue", ["import", "folder", f"{h}/music", p]),
        "import features": ("catalogue", ["import", "features", p, f"{h}/x.npy"]
                            + ["--ids", f"{h}/ids.txt"]),
        "merge": ("catalogue", ["merge", f"{h}/listens", catalogue, p]),
        "twin": ("catalogue", ["twin", p, "--artists", "101", "--tracks", "0", "--plays", "307"]),
        "extract": ("audio", ["extract", p, "--workers", "1"]),
        "train": ("run", ["train", catalogue, p, "--settings", f"{h}/settings.toml", "--fresh"]),
        "publish": ("run", ["publish", f"{h}/second", p]),
        "rollback": ("run", ["rollback", p]),
        "add": ("added", ["add", p, "--artist", "New", "--genre", "g1"]),
        "evaluate": ("report", ["evaluate", p]),
        "report": ("file", ["report", run, f"{p}/x.html"]),
        "export parquet": ("file", ["export", "parquet", shelf, f"{p}/x.parquet"]),
        "export numpy": ("file", ["export", "numpy", shelf, f"{p}/x.npy"]),
        "export csv": ("file", ["export", "csv", shelf, f"{p}/x.csv"]),
        "export faiss": ("file", ["export", "faiss", shelf, f"{p}/x.faiss"]),
        "export pgvector": ("file", ["export", "pgvector", shelf, f"{p}/x.sql"]),
        "export qdrant": ("file", ["export", "qdrant", shelf, f"{p}/x.jsonl"]),
        "neighbours": ("file", ["neighbours", shelf, "--out", f"{p}/n.parquet"]),
        "export lists": ("file", ["export", "lists", run, f"{h}/n.parquet", f"{p}/l.csv"]),
        "embed": ("file", ["embed", run, catalogue, "--out", f"{p}/e.parquet"]),
        "relations": ("file", ["relations", catalogue, "--out", f"{p}/r.parquet"]),
        "playlist": ("file", ["playlist", run, "--like", "a00", "-n", "3"]
                     + ["--out", f"{p}/p.jspf"]),
        "describe": ("file", ["describe", catalogue, "--plot", f"{p}/d.png"]),
        "identify": ("file", ["identify", p, "--same", "catalogue:a01", "catalogue:a02"]),
        "tune": ("study", ["tune", catalogue, p, "--settings", f"{h}/settings.toml"]
                 + ["--trials", "1"]),
        "demo": ("demo", ["demo", p, "--artists", "20"]),
    }  # fmt: skip


def prepare(home: Path) -> dict[str, tuple[Any, Any, float]]:
    """Make everything, run each command undisturbed; return old and new state, and its seconds."""
    if ended(in_child(lambda: make_sources(home), log=home / "log")):
        raise RuntimeError((home / "log").read_text())
    h = str(home)
    for words in (
        ["import", "lastfm", f"{h}/plays.csv", f"{h}/listens", "--user", "u"],
        ["train", f"{h}/catalogue", f"{h}/run", "--settings", f"{h}/settings.toml"],
        ["evaluate", f"{h}/run"],
        ["neighbours", f"{h}/run", "--out", f"{h}/n.parquet"],
        ["merge", f"{h}/listens", f"{h}/catalogue", f"{h}/merged"],
    ):
        done(words, home)
    measured = {}
    for name, (kind, words) in writers(home, home / "work").items():
        if name == "demo":  # minutes; each of its steps is a command here
            continue
        begin_with(home, name)
        shutil.copytree(home / "work", home / "old" / name)
        before = answer(lambda kind=kind: state(kind, home / "work"), home)  # type: ignore[misc]
        begin = time.monotonic()
        try:
            done(words, home)
        except RuntimeError as error:
            print(f"NOT TRIED {name}: {error}", flush=True)
            continue
        seconds = time.monotonic() - begin
        after = answer(lambda kind=kind: state(kind, home / "work"), home)  # type: ignore[misc]
        measured[name] = (before, after, seconds)
    return measured


def done(words: Words, home: Path) -> None:
    """Run a command that must end well."""
    if code := ended(in_child(command(words), log=home / "log")):
        raise RuntimeError(f"{' '.join(words)} ended with {code}: {(home / 'log').read_text()}")


def begin_with(home: Path, name: str) -> None:
    """Make what stands at a command's place before it is tried for the first time."""
    place = home / "work"
    shutil.rmtree(place, ignore_errors=True)
    source = {
        **dict.fromkeys(("import features",), "catalogue"),
        **dict.fromkeys(("train", "add", "evaluate"), "run"),
        **dict.fromkeys(("publish",), "shelf"),
        "identify": "merged",
    }.get(name)
    if source:
        shutil.copytree(home / source, place)
    else:
        place.mkdir()
    for words in old_states(home).get(name, []):
        done([x.replace("{}", str(place)) for x in words], home)
    if name == "rollback":
        shutil.rmtree(place)
        shutil.copytree(home / "shelf", place)
        done(["publish", str(home / "second"), str(place)], home)
    if name == "import tables":  # the new one has other rows
        (home / "artists.csv").write_text("id,name\n" + "".join(f"{x},N\n" for x in range(7)))


def state(kind: str, place: Path) -> Any:
    """Read what a command wrote as its readers do, every sum checked; None where nothing is."""
    if kind == "catalogue":
        if not (place / "catalogue.json").exists():
            return None
        read = tables.read_catalogue(place)
        return [tables.fingerprint(place), read.plays.collect().height, len(read.artists)]
    if kind in ("run", "added"):
        if not (place / "current.json").exists():
            return None
        one = runs.read(place)
        sums = [sha256(one.file(x)) for x in one.manifest["files"]]
        there = runs.read_added(place, one.generation).height if kind == "added" else 0
        return [one.generation, len(sums), there]
    if kind == "report":
        path = place / "report.json"
        return formats.read(path).content if path.exists() else None
    if kind == "audio":
        folder = place / "audio"
        return shards.index(folder)["path"].sort().to_list() if folder.exists() else None
    if kind == "study":
        return (place / "best.toml").exists()
    files = [x for x in sorted(place.rglob("*")) if x.is_file() and not is_remnant(x)]
    return [[x.name, x.stat().st_size > 0] for x in files]


def is_remnant(path: Path) -> bool:
    """Return whether a file is one that the next command removes, or a lock."""
    return ".partial" in path.name or path.name == ".lock"


def kills(home: Path, count: int, seed: int) -> Iterator[str]:
    """Kill every command at random moments; yield what went wrong."""
    measured = prepare(home)
    moments, hits = random.Random(seed), 0
    slow = [x for x in measured if measured[x][2] > 4]
    order = [x for x in measured if x not in slow] * 3 + slow
    for number in range(count):
        name = order[number % len(order)]
        shutil.rmtree(home / "work")
        shutil.copytree(home / "old" / name, home / "work")
        beside = number // len(order) % 2 == 1
        moment = moments.random() * measured[name][2] * (2 if beside else 1)
        hit, faults = killed(home, name, measured[name], moment=moment, beside=beside)
        hits += hit
        label = f"{name}{' beside another' if beside else ''} (kill {number})"
        yield from (f"{label}: {x}" for x in faults)
        if number % 50 == 49:
            print(f"{number + 1} kills, {hits} of them before the end", flush=True)
    print(f"{count} kills of {len(measured)} commands, {hits} of them before the end")


def killed(
    home: Path, name: str, measured: tuple[Any, Any, float], *, moment: float, beside: bool
) -> tuple[bool, list[str]]:
    """Kill one command, and give it again; return whether the kill hit, and what went wrong."""
    place, (before, after, _) = home / "work", measured
    kind, words = writers(home, place)[name]
    first = in_child(command(words), log=home / "log")
    second = in_child(command(words), log=home / "log2") if beside else 0
    time.sleep(moment)
    with suppress(ProcessLookupError):
        os.killpg(first, signal.SIGKILL)
    hit, faults = ended(first) == -signal.SIGKILL, []
    if beside:
        faults += ends_badly(ended(second), home / "log2", done=name in ONCE)
    left = answer(lambda: state(kind, place), home)  # which raises where a sum is wrong
    # Files may come one by one, songs and added items too; two publications make two.
    several = kind in ("file", "added", "audio") or (kind == "run" and beside)
    if left not in (before, after) and not several:
        faults.append(f"neither old nor new: {left}")
    if kind == "file" and not all(size for _, size in left):
        faults.append(f"an empty file among {left}")
    if not beside:
        next_one = ended(in_child(command(words), log=home / "log"))
        faults += ends_badly(next_one, home / "log", done=name in ONCE)
        answer(lambda: state(kind, place), home)
        remnants = [x.name for x in place.rglob("*") if is_remnant(x)]
        faults += [f"left behind: {remnants}"] if remnants else []
    return hit, faults


ONCE = ("rollback", "tune", "import features", "add", "identify")  # refuse to do it once more


def ends_badly(code: int, log: Path, *, done: bool) -> list[str]:
    """Return a fault unless a command ended well, or with one line where it may be done already."""
    text = log.read_text()
    if code == 0 or (code == 1 and done and "Traceback" not in text):
        return []
    return [f"another one ended with {code}: {text[-300:]}"]


def flips(home: Path, count: int, seed: int) -> Iterator[str]:
    """Flip bits one at a time; yield those that change what is read in silence, or end badly."""
    prepare_flips(home)
    kinds = {
        "catalogue": home / "catalogue",
        "run": home / "run",
        "shelf": home / "shelf",
        "added": home / "grown" / "added",
        "audio": home / "music catalogue" / "audio",
        "report": home / "run" / "report.json",
    }
    for name, place in kinds.items():
        each = count // len(kinds) + 1
        found = answer(
            lambda name=name, place=place, each=each: flipped(name, place, each, seed),  # type: ignore[misc]
            home,
        )
        counts = Counter(found["results"])
        print(f"{name:<10} {each:>5} flips: " + ", ".join(f"{y} {x}" for x, y in counts.items()))
        yield from found["faults"]


def prepare_flips(home: Path) -> None:
    """Make one of each kind."""
    if ended(in_child(lambda: make_sources(home), log=home / "log")):
        raise RuntimeError((home / "log").read_text())
    h = str(home)
    for words in (
        ["train", f"{h}/catalogue", f"{h}/run", "--settings", f"{h}/settings.toml"],
        ["evaluate", f"{h}/run"],
        ["import", "folder", f"{h}/music", f"{h}/music catalogue"],
        ["extract", f"{h}/music catalogue", "--workers", "1"],
    ):
        done(words, home)
    shutil.copytree(home / "run", home / "grown")
    for name in ("New", "Newer"):
        done(["add", f"{h}/grown", "--artist", name, "--genre", "g1"], home)


def whole(name: str, place: Path) -> Any:
    """Read all of one kind as those do who learn or answer from it."""
    if name == "catalogue":
        read = tables.read_catalogue(place)
        frames = [read.artists, read.tracks, read.relations, read.plays.collect()]
        arrays = [(x, y.ids, y.vectors.tobytes()) for x, y in sorted(read.features.items())]
        return [[x.to_dict(as_series=False) for x in frames], arrays, read.fields]
    if name in ("run", "shelf"):
        one = runs.read(place)
        return [one.manifest, [one.file(x).read_bytes() for x in one.manifest["files"]]]
    if name == "added":
        generation = runs.read(place.parent).generation
        return runs.read_added(place.parent, generation).to_dict(as_series=False)
    if name == "report":
        return formats.read(place)
    index = shards.index(place)
    rows = (index[x].to_numpy() for x in ("shard", "first", "chunks"))
    sound = shards.LogMels(place, tuple(index["path"]), *rows)
    return [index.to_dict(as_series=False), [sound.read(x).tobytes() for x in range(len(index))]]


def flipped(name: str, place: Path, count: int, seed: int) -> dict[str, list[str]]:
    """Flip bits of the files at a place, each alone; return what came of each, and the faults."""
    generator = random.Random(seed)
    files = [place] if place.is_file() else [x for x in sorted(place.rglob("*")) if x.is_file()]
    used = [x for x in files if x.suffix not in (".csv", ".md", ".html")] if name != "run" else [
        *(place / "generations").rglob("*.*"), place / "current.json"
    ]  # fmt: skip
    good = whole(name, place)
    results, faults = [], []
    for _ in range(count):
        path = generator.choice(used)
        data = path.read_bytes()
        bit = generator.randrange(8 * len(data))
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            result = "harmless" if whole(name, place) == good else "SILENT"
        except UndersongError:
            result = "noticed"
        except BaseException as error:  # Rust panics are no Exception
            result = f"TRACEBACK {type(error).__name__}"
        path.write_bytes(data)
        results.append(result)
        if result.isupper() or "TRACEBACK" in result:
            faults.append(f"{name}: bit {bit} of {path.name}: {result}")
    return {"results": results, "faults": faults}


def disks(home: Path) -> Iterator[str]:
    """Run every command on a full and on a read-only disk; yield what is not one line."""
    measured = prepare(home)
    tried, whole_there = [*measured, "demo"], 0
    for how in (0, 4, 16, 64, "read-only"):  # blocks that are left
        for name in tried:
            with mounted(home / "work") as place:
                if name in measured:
                    shutil.copytree(home / "old" / name, place, dirs_exist_ok=True)
                _, words = writers(home, place)[name]
                begun = contents(place)
                if isinstance(how, int):
                    fill(place, left=how)
                else:
                    remount = ["mount", "-o", "remount,ro", str(place)]
                    subprocess.run(remount, check=True)
                code = ended(in_child(command(words), log=home / "log"))
                log = (home / "log").read_text().strip().splitlines() or [""]
                if code == 0 and how in (4, 16, 64):
                    whole_there += 1
                elif code != 1 or "Error: " not in log[-1] or "cannot be" not in log[-1]:
                    yield f"disk {how}, {name}: {code}: {' | '.join(log[-3:])[-400:]}"
                elif changed := {
                    x
                    for x, _ in contents(place).items() ^ begun.items()
                    if not x.startswith(PROGRESS)
                }:
                    yield f"disk {how}, {name}: changed {sorted(changed)}"
    print(f"{5 * len(tried)} commands on full, nearly full and read-only disks")
    print(f"{whole_there} had room enough")


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Mount a small disk."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, left: int) -> None:
    """Fill a disk, but for some blocks."""
    with (place / "ballast").open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(file.tell() - 4096 * left, 0))


def contents(place: Path) -> dict[str, str]:
    """Hash the files of a folder, but for the ballast."""
    files = (x for x in place.rglob("*") if x.is_file() and x.name != "ballast")
    return {x.relative_to(place).as_posix(): sha256(x) for x in files}


def main(what: str, count: int = 0, seed: int = 1) -> int:
    """Do one kind of harm, and list what it broke."""
    for found in pkgutil.walk_packages(undersong.__path__, "undersong."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        faults = {
            "kills": lambda: kills(home, count or 500, seed),
            "flips": lambda: flips(home, count or 1_000, seed),
            "disks": lambda: disks(home),
        }[what]()
        listed = 0
        for fault in faults:
            listed += 1
            print(f"FAULT {fault}", flush=True)
    print(f"{listed} faults")
    return 1 if listed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
