"""Files a second that undersong extract analyses here, and on a Ray cluster with as many cores.

    python benchmarks/cluster_extract.py [--files 600] [--rounds 3]

Two children here and two nodes of one core each take turns at the same generated files of 30 s
(stereo; WAV, FLAC and MP3). The cluster runs before the clock does. A job of two files, one for
each core, tells what a job costs before it works: the command, joining the cluster, the decoders.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
from two_nodes import Nodes

from undersong.catalogue import tables
from undersong.catalogue.tables import ITEMS, Catalogue

ENDINGS = ("wav", "flac", "mp3")
RATE, SECONDS = 44_100, 30
MADE = 90  # files that differ; the others are links to them
CORES = 2


def main() -> None:
    """Make the files, let both ways extract them in turns, print the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as folder:
        home = Path(folder)
        for name, files in (("few", CORES), ("many", asked.files)):
            write_catalogue(home / name, files)
        nodes = Nodes(home)
        try:
            nodes.gather()
            measure(nodes, home, files=asked.files, rounds=asked.rounds)
        finally:
            nodes.stop()


def measure(nodes: Nodes, home: Path, *, files: int, rounds: int) -> None:
    """Print the seconds of each round, then the medians."""
    ways = {"here": ((), ("--workers", str(CORES))), "cluster": (("--cluster", nodes.address), ())}
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way, (before, after) in ways.items():
            start, whole = (
                seconds(
                    nodes,
                    *before,
                    "extract",
                    home / name / "catalogue",
                    "--out",
                    out(home, way, name),
                    *after,
                )
                for name in ("few", "many")
            )
            took[way].append((start, whole))
            print(f"round {turn + 1}, {way}: {start:.1f} s for {CORES} files, {whole:.1f} for all")
        check(*(out(home, way, "many") for way in ways))
        for way in ways:
            for name in ("few", "many"):
                subprocess.run(["rm", "-r", out(home, way, name)], check=True)
    for way, of_way in took.items():
        start, whole = (statistics.median(x) for x in zip(*of_way, strict=True))
        rate = (files - CORES) / (whole - start)
        print(
            f"{way}: {files / whole:.1f} files/s, {rate:.1f} beyond the {start:.1f} s of its start"
        )
    whole, beyond = (
        statistics.median(here / there for here, there in zip(*both, strict=True))
        for both in (
            [[x[1] for x in of_way] for of_way in took.values()],
            [[x[1] - x[0] for x in of_way] for of_way in took.values()],
        )
    )
    print(f"the cluster's rate / that here: {whole:.2f}, beyond their starts {beyond:.2f}")


def seconds(nodes: Nodes, *words: object) -> float:
    """Wall time of one command."""
    started = time.monotonic()
    work = nodes.begin("-m", "undersong", *words)
    _, errors = work.communicate()
    if work.returncode:
        raise SystemExit(f"undersong ended with {work.returncode}: {errors}")
    return time.monotonic() - started


def out(home: Path, way: str, name: str) -> Path:
    """Where one way puts what it makes of one catalogue."""
    return home / f"{way}-{name}"


def check(one: Path, other: Path) -> None:
    """Refuse features that differ in a byte."""
    names = [sorted(x.name for x in folder.glob("*.npy")) for folder in (one, other)]
    if names[0] != names[1] or not names[0]:
        raise SystemExit(f"the shards differ: {names}")
    for name in names[0]:
        if (one / name).read_bytes() != (other / name).read_bytes():
            raise SystemExit(f"{name} is not the same here and on the cluster")
    print(f"{len(names[0])} shards are the same, byte for byte")


def write_catalogue(home: Path, files: int) -> None:
    """Write files of two tones that swell, and noise."""
    home.mkdir()
    generator = np.random.default_rng(0)
    times = np.arange(RATE * SECONDS) / RATE
    rows = []
    for number in range(files):
        name = f"{number:06}.{ENDINGS[number % len(ENDINGS)]}"
        rows.append({"id": name, "artist": "a", "path": name})
        if number >= MADE:
            (home / name).hardlink_to(home / rows[number % MADE]["path"])
            continue
        low, high = generator.uniform(80, 6_000, 2)
        tones = np.sin(2 * np.pi * times[:, None] * [low, high]) * np.sin(times[:, None] * [1, 3])
        noise = generator.standard_normal((len(times), 2), dtype=np.float32)
        soundfile.write(home / name, 0.2 * tones + 0.05 * noise, RATE)
    artists = pl.DataFrame([{"id": "a", "name": "A"}], schema=ITEMS["artist"])
    tracks = pl.DataFrame(rows, schema=ITEMS["track"])
    tables.write_catalogue(
        Catalogue(artists, tracks, fields=(), audio_root=home), home / "catalogue"
    )


if __name__ == "__main__":
    sys.exit(main())
