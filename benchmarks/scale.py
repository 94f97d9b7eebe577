"""What a catalogue of any size would take, derived from constants that were measured.

    python benchmarks/scale.py --growth growth.json --files 12

`growth.json` is what `benchmarks/growth.py` wrote. Each cost of a stage grows linearly from the
largest size that was measured there, but neighbours: exactly a query costs as many items as there
are, in cells the root of that.
"""

import argparse
import json
from pathlib import Path

CHUNK = 128 * 172 * 2  # bytes of a log-mel chunk, float16
CHUNKS = 8  # of a file at most
WIDTH = 256 * 4  # bytes of E_G
PLAY = 12  # bytes of a cell of the matrix of users and items: a column and a number, and its place
K = 50
QUERIES = 1024  # of the stage "nearest" of growth.py
IN_CELLS = 0.00055  # seconds of a query among a million items (benchmarks/approximate.py)


def main() -> None:
    """Print a table of stages: bytes, processor hours and their cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growth", type=Path, required=True)
    parser.add_argument("--files", type=float, required=True, help="Analysed a second and core.")
    parser.add_argument("--artists", type=float, default=12e6)
    parser.add_argument("--tracks", type=float, default=120e6)
    parser.add_argument("--plays", type=float, default=1e12)
    parser.add_argument("--pairs", type=float, default=2e10, help="Distinct users and artists.")
    parser.add_argument("--measured-pairs", type=float, default=20, help="Of an artist, in growth.")
    parser.add_argument("--price", type=float, default=0.04, help="Of an hour of one core.")
    options = parser.parse_args()
    last = {x: rows[-1] for x, rows in json.loads(options.growth.read_text())["stages"].items()}
    items = options.artists + options.tracks
    size, embedded, nearest = (last[x]["artists"] for x in ("R_U", "embed", "nearest"))

    def each(stage: str, count: float) -> float:
        return last[stage]["seconds"] / count

    rows = [
        ("extract", options.tracks * CHUNKS * CHUNK, options.tracks / options.files),
        ("R_U", options.pairs * PLAY, options.pairs * each("R_U", size * options.measured_pairs)),
        ("embed", items * WIDTH, items * each("embed", embedded)),
        (
            "neighbours, exact",
            items * K * 12,
            items * each("nearest", min(nearest, QUERIES)) * items / nearest,
        ),
        ("neighbours, in cells", items * K * 12, items * IN_CELLS * (items / 1e6) ** 0.5),
    ]
    print("| stage | bytes | core hours | cost |\n|---|---|---|---|")
    for stage, size_of, seconds in rows:
        hours = seconds / 3600
        print(
            f"| {stage} | {size_of / 1e12:.2f} TB | {hours:,.0f} | {hours * options.price:,.0f} |"
        )


if __name__ == "__main__":
    main()
