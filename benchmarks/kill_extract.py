"""Kill an extraction at random moments, go on, and compare with one that nobody disturbed.

    python benchmarks/kill_extract.py [--kills 50] [--seed 0]

A kill takes the parent alone, as the kernel does when memory runs out; its children must end too.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from fuzz_audio import written

from undersong.catalogue import tables
from undersong.catalogue.tables import ITEMS, Catalogue

# Shards of 3 files: many moments between two writes.
CODE = """
import sys
from pathlib import Path
from undersong.audio import extract
from undersong.catalogue import tables
extract.SHARD = 3
extract.extract(tables.read_catalogue(Path(sys.argv[1])), Path(sys.argv[2]), workers=2)
"""


def main() -> None:
    """Kill until so many kills have hit a running extraction, several extractions long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_catalogue(home, files=60)
        want, seconds = undisturbed(home)
        kills = rounds = 0
        while kills < asked.kills:
            out = home / f"killed-{rounds}"
            kills += disturbed(home, out, seconds=seconds, kills=5, moments=moments)
            rounds += 1
            found = contents(out)
            if found != want:
                names = sorted(x for x in found | want if found.get(x) != want.get(x))
                raise SystemExit(f"after {kills} kills other bytes in {', '.join(names)}")
        print(f"{kills} kills in {rounds} extractions, each byte for byte the undisturbed one")


def write_catalogue(home: Path, *, files: int) -> None:
    """Write a catalogue of damaged and sound files of many formats."""
    paths = list(written(home, files=files, seed=1, keep=True))
    absent = pl.lit(None)
    tracks = pl.DataFrame({"id": [x.name for x in paths]}).with_columns(
        artist=pl.lit("a"), title=absent, path=pl.col("id"), popularity=absent, split=absent
    )
    artists = pl.DataFrame({"id": ["a"], "name": ["A"], "split": [None]}, schema=ITEMS["artist"])
    found = Catalogue(artists, tracks.cast(ITEMS["track"]), fields=(), audio_root=home)  # type: ignore[arg-type]
    tables.write_catalogue(found, home / "catalogue")


def undisturbed(home: Path) -> tuple[dict[str, str], float]:
    """Extract once; give what it left, and the seconds it took."""
    begin = time.monotonic()
    process = start(home, home / "whole")
    if process.wait():
        raise SystemExit(f"the extraction ended with {process.returncode}")
    return contents(home / "whole"), time.monotonic() - begin


def disturbed(home: Path, out: Path, *, seconds: float, kills: int, moments: random.Random) -> int:
    """Extract with up to ``kills`` kills at random moments, then to the end; count those that hit.

    A process that is taken up again has less to do, so each kill comes within half of the time.
    """
    for hit in range(kills):
        process = start(home, out)
        try:
            if process.wait(moments.uniform(0.2, 0.7) * seconds):
                raise SystemExit(f"the extraction ended with {process.returncode}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            return hit  # it came to its end before
        if finished(out):
            return hit  # killed on its way out; once more would be a new run, which tries again
    if start(home, out).wait():
        raise SystemExit("the extraction that went on failed")
    return kills


def finished(out: Path) -> bool:
    """Say whether all was done."""
    place = out / "audio.json"
    return place.exists() and bool(json.loads(place.read_text())["finished"])


def start(home: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Begin an extraction, or go on with it."""
    return subprocess.Popen([sys.executable, "-c", CODE, str(home / "catalogue"), str(out)])


def contents(folder: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    return {
        x.name: hashlib.sha256(x.read_bytes()).hexdigest()
        for x in sorted(folder.iterdir())
        if x.is_file()
    }


if __name__ == "__main__":
    main()
