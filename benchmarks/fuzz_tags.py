"""Tags of damaged files by the thousand: nothing but a row or a reason may come of each.

    PYTHONPATH=src:tests python benchmarks/fuzz_tags.py [FILES]      default 5,000

Prints the reasons and how often each was given. Exits 1 if a reader died or took too long: then
``DAMAGED`` in undersong/sources/tags.py lacks something that mutagen raises.
"""

import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

import tagged
from undersong.importers.music.tag_readers import tag_readers
from undersong.importers.music.tags import Unreadable

TAGS = {
    "title": "Ein Lied",
    "artist": "Ann & Bob",
    "artists": ["Ann", "Bob"],
    "artist_id": ["0383dadf-2a4e-4d10-a46a-e9e041da8eb3"],
    "recording_id": "9c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1",
    "genre": "dream pop",
    "date": "1994-05-03",
}


def damage(whole: bytes, generator: np.random.Generator) -> bytes:
    """Cut, change, repeat or remove some of a file, mostly near its beginning."""
    data = bytearray(whole)
    for _ in range(generator.integers(1, 5)):
        if not data:
            break
        place = int(min(generator.exponential(300), len(data) - 1))
        length = int(generator.integers(1, 40))
        kind = generator.integers(5)
        if kind == 0:
            data[place : place + length] = generator.bytes(length)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length] * int(generator.integers(1, 200))
        elif kind == 3:
            data[place] ^= 1 << int(generator.integers(8))
        else:
            data = data[: int(generator.integers(len(data)))]
    return bytes(data)


def main(count: int) -> int:
    """Read ``count`` damaged files of all formats."""
    generator = np.random.default_rng(0)
    reasons: Counter[str] = Counter()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, tag_readers(2) as read:
        folder = Path(name)
        whole = {
            kind: tagged.write(folder / f"whole.{kind}", seconds=0.5, **TAGS).read_bytes()
            for kind in tagged.FORMATS
        }
        paths = []
        for number in range(count):
            kind = tagged.FORMATS[number % len(tagged.FORMATS)]
            suffix = str(generator.choice(tagged.FORMATS)) if number % 5 == 0 else kind
            paths.append(folder / f"{number}.{suffix}")
            paths[-1].write_bytes(damage(whole[kind], generator))
        for answer in read(paths):
            said = answer.reason if isinstance(answer, Unreadable) else "read"
            reasons[re.sub(r"'.*'|\d+", "N", said)] += 1
    for reason, times in reasons.most_common():
        print(f"{times:6} {reason}")
    bad = sum(times for x, times in reasons.items() if "died" in x or "within" in x)
    print(f"{count} files, {time.perf_counter() - begun:.1f} s, {bad} readers lost")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
