"""Exports damaged by the thousand: nothing but a catalogue or one clear error may come of each.

    PYTHONPATH=src:tests python benchmarks/fuzz_importers.py [EXPORTS [SECONDS]]

Cuts, changes, repeats and removes bytes of small exports of each source, and imports what is
left: EXPORTS of each (5,000), or as many as SECONDS allow. Prints how each source fared, and the
slowest import. Exits 1 if anything but an ``UndersongError`` was raised, something was written
outside the catalogue's folder, or a catalogue has faults.
"""

import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from fuzzed import damage, originals, outcome


def main(exports: int = 5_000, seconds: int = 36_000) -> int:
    """Import damaged exports of every source in turn, and say what came of them."""
    begin, slowest = time.monotonic(), (0.0, "")
    generator = np.random.default_rng(20_261_122)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        found = originals(Path(folder) / "originals")
        kinds = {x[0]: [y for y in found if y[0] == x[0]] for x in found}
        for number in range(exports * len(kinds)):
            choice = list(kinds.values())[number % len(kinds)]
            command, name, whole = choice[number // len(kinds) % len(choice)]
            data, start = damage(whole, generator), time.monotonic()
            if start - begin > seconds:
                break
            try:
                result = outcome(command, name, data, Path(folder) / str(number))
            except Exception:  # any error that is none of ours is what is looked for
                result, wrong = "WRONG", wrong + 1
                traceback.print_exc()
            counts[command, result] += 1
            slowest = max(slowest, (time.monotonic() - start, command))
    for (command, result), count in sorted(counts.items()):
        print(f"{command:<14} {result:<12} {count:>6,}")
    print(f"slowest: {slowest[1]}, {slowest[0]:.2f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
