"""Memory of undersong extract and its children over a run of generated files, as a curve.

    python benchmarks/extract_memory.py [--files 2000] [--workers 2]

Counts the proportional share (PSS) of every process, so that pages shared by children count once.
Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from undersong.catalogue import tables
from undersong.catalogue.tables import ITEMS, Catalogue

ENDINGS = ("mp3", "ogg", "flac", "wav", "aiff", "opus")
RATE = 16_000


def main() -> None:
    """Make the files, extract them, print a line for each twentieth of the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_catalogue(home, asked.files)
        words = ("extract", str(home / "catalogue"), "--workers", str(asked.workers))
        process = subprocess.Popen([sys.executable, "-m", "undersong", *words])
        curve = []
        while process.poll() is None:
            done = 64 * len(list((home / "catalogue" / "audio").glob("*.parquet")))
            curve.append((min(done, asked.files), memory(process.pid)))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"undersong extract ended with {process.returncode}")
    print("files done    MiB in all, most")
    for part in range(20):
        low, high = (asked.files * x // 20 for x in (part, part + 1))
        found = [used for done, used in curve if low <= done < high]
        if found:
            print(f"{low:6} to {high:6}  {max(found) / 2**20:8.0f}")
    half = [max(x for d, x in curve if (d < asked.files / 2) == first) for first in (True, False)]
    print(f"most in the second half / most in the first: {half[1] / half[0]:.3f}")
    print(f"most in all: {max(x for _, x in curve) / 2**20:.0f} MiB (below 1024)")


def write_catalogue(home: Path, files: int) -> None:
    """Write short files of every ending, of other lengths and pitches."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(files):
        name = f"{number:06}.{ENDINGS[number % len(ENDINGS)]}"
        time_ = np.arange(round(generator.uniform(0.6, 3) * RATE)) / RATE
        sound = 0.2 * np.sin(2 * np.pi * generator.uniform(100, 4_000) * time_)
        kind = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
        soundfile.write(home / name, sound, RATE, **kind)
        rows.append({"id": name, "artist": "a", "path": name})
    tracks = pl.DataFrame(rows, schema={x: ITEMS["track"][x] for x in ("id", "artist", "path")})
    tracks = tracks.with_columns(
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in ITEMS["track"].items()
        if name not in tracks.columns
    )
    artists = pl.DataFrame([{"id": "a", "name": "A", "split": None}], schema=ITEMS["artist"])
    tables.write_catalogue(
        Catalogue(artists, tracks.select(list(ITEMS["track"])), fields=(), audio_root=home),
        home / "catalogue",
    )


def memory(process: int) -> int:
    """Bytes of a process and all its children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    used, asked = 0, [process]
    while asked:
        one = asked.pop()
        asked += children.get(one, [])
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            used += sum(1024 * int(x.split()[1]) for x in lines if x.startswith("Pss:"))
    return used


if __name__ == "__main__":
    main()
