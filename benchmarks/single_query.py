"""One query at a time, in process, one thread: searched, looked up, filtered.

    python benchmarks/single_query.py RUN [--kind artist] [--queries 500]

Makes the stored answers of the run in a folder of its own first; the run is left as it is.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from undersong import runs
from undersong.retrieval import precomputed
from undersong.retrieval.neighbours import search as retrieve
from undersong.retrieval.query import Query
from undersong.retrieval.run_index import attributes_of, open_index


def median(index, rows, request, facts):
    """Median milliseconds of one query."""
    spent = []
    for row in rows:
        started = time.perf_counter()
        next(retrieve(index, np.array([row]), query=request, attributes=facts))
        spent.append(1e3 * (time.perf_counter() - started))
    return float(np.median(spent))


def main():
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--kind", default="artist")
    parser.add_argument("--queries", type=int, default=500)
    given = parser.parse_args()
    run = runs.read(given.run)
    opened = replace(open_index(run, given.kind), lists=None)
    facts = attributes_of(run, given.kind, opened.embeddings.ids)
    n = len(opened.embeddings.ids)
    rows = np.random.default_rng(0).choice(n, min(n, given.queries), replace=False)
    top, cosine = Query(k=10), Query(k=10, paper=True)
    print(f"{n:,} items, top 10, one thread, median of {len(rows)} queries")
    print(f"cosine, searched             {median(opened, rows, cosine, facts):8.3f} ms")
    print(f"the run's order, searched    {median(opened, rows[:50], top, facts):8.3f} ms")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = precomputed.make_lists(opened, Path(folder), kind=given.kind)
        spent = time.perf_counter() - started
        read = precomputed.read(Path(folder) / precomputed.file_of(given.kind), n=n)
        stored = replace(opened, lists=read)
        print(f"the run's order, looked up   {median(stored, rows, top, facts):8.3f} ms")
        half = frozenset(opened.embeddings.ids[::2])
        some = Query(k=10, library=half)
        print(f"looked up, half a library    {median(stored, rows, some, facts):8.3f} ms")
        spread = Query(k=10, diversity=0.5)
        print(f"looked up, diversity 0.5     {median(stored, rows, spread, facts):8.3f} ms")
    print(f"{made.length} answers of each made in {spent:.0f} s; in nobody's first 10: ", end="")
    print(f"{made.unreached_before:.1%} without hub control, {made.unreached:.1%} with it")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
