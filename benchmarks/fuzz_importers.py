"""Exports damaged by the thousand: nothing but a catalogue or one clear error may come of each.

    PYTHONPATH=src:tests python benchmarks/fuzz_importers.py [EXPORTS]      default 5,000

Cuts, changes, repeats and removes bytes of a small export of each source, and imports what is
left. Prints how each source fared. Exits 1 if anything but an ``UndersongError`` was raised,
something was written outside the catalogue's folder, or a catalogue has faults.
"""

import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from fuzzed import damage, originals, outcome


def main(exports: int = 5_000) -> int:
    """Import damaged exports of every source in turn, and say what came of them."""
    generator = np.random.default_rng(20_261_122)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        found = originals(Path(folder) / "originals")
        for number in range(exports):
            command, name, whole = found[number % len(found)]
            data = damage(whole, generator)
            try:
                result = outcome(command, name, data, Path(folder) / str(number))
            except Exception:  # any error that is none of ours is what is looked for
                result, wrong = "WRONG", wrong + 1
                traceback.print_exc()
            counts[command, result] += 1
    for (command, result), count in sorted(counts.items()):
        print(f"{command:<14} {result:<12} {count:>6,}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
