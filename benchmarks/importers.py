"""How fast, and in how much memory, the big dumps are imported.

    PYTHONPATH=src python benchmarks/importers.py [LISTENS [ARTISTS]]      default 1,000,000 100,000

Makes a ListenBrainz dump and a MusicBrainz dump of these sizes (few tracks and users have most
listens, lines as long as the real ones), imports each in a process of its own, and prints rows per
second of processor time and of wall time, with the peak of memory; beside it what unpacking alone
and decoding alone would take, the machine's limits. POLARS_MAX_THREADS=1 measures one core.
"""

import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import zstandard

from undersong.importers.archives import members
from undersong.importers.datasets import musicbrainz
from undersong.importers.listens import listenbrainz

TRACKS, ARTISTS, USERS = 200_000, 30_000, 5_000
LIKED = 1_500  # tracks a user has heard
PART = 200_000  # lines of one file in the archive


def mbid(kind: int, number: int) -> str:
    """Make an id; each kind of thing has its own."""
    return str(uuid.UUID(int=(kind << 120) + number * 2_654_435_761))


def track_lines() -> list[str]:
    """The part of a line that is the same whenever a track is heard."""
    lines = []
    for track in range(TRACKS):
        artist = track % ARTISTS
        ids = {"artist_mbids": [mbid(1, artist)], "recording_mbid": mbid(2, track)}
        info = {"tags": [], "media_player": "mpd", "submission_client": "x", "duration_ms": 215_000}
        about: dict[str, object] = {
            "artist_name": f"Artist number {artist}",
            "track_name": f"A track called {track}",
            "release_name": f"Album {track // 12}",
            "additional_info": info | (ids if track % 3 == 0 else {}),
        }
        if track % 5:
            about["mbid_mapping"] = ids | {
                "release_mbid": mbid(3, track // 12),
                "caa_id": track,
                "recording_name": f"A track called {track}",
                "artists": [
                    {
                        "artist_mbid": mbid(1, artist),
                        "artist_credit_name": f"Artist number {artist}",
                        "join_phrase": "",
                    }
                ],
            }
        lines.append(f'"recording_msid": "{mbid(4, track)}", "track_metadata": {json.dumps(about)}')
    return lines


def listens(count: int) -> Iterator[bytes]:
    """Make the lines of a dump, ``PART`` at a time; few tracks and users have most listens."""
    generator = np.random.default_rng(5)
    about = track_lines()
    for start in range(0, count, PART):
        size = min(PART, count - start)
        users = (USERS * generator.random(size) ** 2).astype(int)
        # Of what a user likes some is heard again and again, and much of it by many others.
        liked = (LIKED * generator.random(size) ** 3).astype(int)
        tracks = (TRACKS * ((users * 0.618034 + liked * 0.754878) % 1) ** 3).astype(int)
        when = range(1_500_000_000 + start, 1_500_000_000 + start + size)
        yield "".join(
            f'{{"user_id": {user}, "user_name": "user {user}", "timestamp": {at}, {about[x]}}}\n'
            for user, at, x in zip(users, when, tracks, strict=True)
        ).encode()


def write_dump(path: Path, count: int) -> None:
    """Write a dump of ListenBrainz."""
    with (
        path.open("wb") as file,
        zstandard.ZstdCompressor(3).stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for number, data in enumerate(listens(count)):
            info = tarfile.TarInfo(f"listenbrainz-dump/listens/2020/{number}.listens")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_artists(path: Path, count: int) -> None:
    """Write a dump of MusicBrainz' artists."""
    rows = []
    for number in range(count):
        area = {"id": mbid(5, number % 200), "name": f"Area {number % 200}", "type": "Country"}
        words = [
            {"name": f"genre {(number * k) % 300}", "count": k, "id": mbid(6, k)} for k in (1, 2)
        ]
        alias = {"name": f"Alias {number}", "sort-name": "A", "locale": None, "primary": None}
        row = {
            "id": mbid(1, number),
            "name": f"Artist number {number}",
            "sort-name": f"Artist number {number}",
            "disambiguation": "",
            "type": "Group",
            "country": "NO",
            "area": area | {"iso-3166-1-codes": ["NO"]},
            "begin-area": area,
            "life-span": {"begin": f"{1950 + number % 70}-04", "end": None, "ended": False},
            "aliases": [alias] * (number % 3),
            "tags": words,
            "genres": words,
            "relations": [{"type": "member of band", "target": mbid(1, number), "ended": False}]
            * 4,
        }
        rows.append(json.dumps(row) + "\n")
    data = "".join(rows).encode()
    with tarfile.open(path, "w:xz") as archive:
        info = tarfile.TarInfo("mbdump/artist")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def measure(command: str, path: Path, rows: int) -> None:
    """Import a dump in a process of its own, and print how fast it was."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    home = path.with_suffix(".catalogue")
    words = ["/usr/bin/env", sys.executable, "-c", CHILD, command, str(path), str(home)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(said.split()[-1]) / 1024
    print(
        f"{command}: {rows:,} rows, {rows / busy:,.0f}/s of processor, "
        f"{rows / wall:,.0f}/s of wall, peak {peak:,.0f} MiB, file {path.stat().st_size >> 20:,}",
        flush=True,
    )
    print(said)
    for what, decode in (("unpacking", None), ("unpacking and decoding", DECODERS[command])):
        taken = limit(path, command, decode)
        print(f"{what} alone: {rows / taken:,.0f}/s of processor, {taken / busy:.0%} of the import")


def limit(path: Path, command: str, decode: Callable[[bytes], object] | None) -> float:
    """Seconds of processor time that the lines of a dump take without anything made of them."""
    start = time.process_time()
    for member in members(path, WANTED[command]):
        for data in member.blocks():
            if decode:
                decode(data)
    return time.process_time() - start


WANTED = {"listenbrainz": listenbrainz.WANTED, "musicbrainz": musicbrainz.WANTED}
DECODERS = {
    "listenbrainz": listenbrainz.LISTEN.decode_lines,
    "musicbrainz": msgspec.json.Decoder(musicbrainz._ArtistEntity).decode_lines,
}
CHILD = """
import sys
from undersong.cli.main import cli
cli(["import", *sys.argv[1:]], standalone_mode=False)
# Not ru_maxrss, which begins with what the process that made the dump needed.
print(*(x.split()[1] for x in open("/proc/self/status") if x.startswith("VmHWM")))
"""


def main(count: int = 1_000_000, artists: int = 100_000) -> None:
    """Make and import both dumps."""
    with tempfile.TemporaryDirectory() as folder:
        for command, rows, write in (
            ("listenbrainz", count, write_dump),
            ("musicbrainz", artists, write_artists),
        ):
            path = Path(folder) / f"{command}.tar"
            if rows:
                write(path, rows)
                measure(command, path, rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
