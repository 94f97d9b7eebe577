"""Approximate against exact search on a million real-shaped vectors, one thread, one query.

    python benchmarks/approximate.py RUN [--items 1000000] [--width 128] [--queries 1000]

The vectors grow from the real E_G of a run, turned to its first principal axes. A new one lies
between two near neighbours, at a random place, plus a residual: the difference of two other near
neighbours, so that it points where real differences point. Its size is chosen such that a random
sample as large as the real set has the real median cosine to the tenth neighbour; the table prints
that, and the spectrum, of both.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from undersong import runs
from undersong.embeddings import Embeddings, unit
from undersong.retrieval import approximate
from undersong.retrieval.index import by_cosine

K = 10


def axes(vectors, width):
    """Turn vectors to their first principal axes, unit length again."""
    turn = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][:width]
    return unit(vectors @ turn.T)


def near_neighbours(vectors):
    """The ten nearest of each vector, and its cosine to the tenth."""
    found = by_cosine(
        Embeddings(tuple(map(str, range(len(vectors)))), vectors),
        np.arange(len(vectors)),
        among=np.arange(len(vectors)),
        k=K,
    )
    return found.neighbours, found.scores[:, -1]


def grow(real, neighbours, *, items, residual, generator):
    """Draw new vectors between real neighbours, with residuals of other neighbours."""
    made = np.empty((items, real.shape[1]), dtype=np.float32)
    for start in range(0, items, 50_000):
        q = min(50_000, items - start)
        one, other = generator.integers(len(real), size=(2, q))
        two = neighbours[one, generator.integers(K, size=q)]
        three = neighbours[other, generator.integers(K, size=q)]
        share = generator.random((q, 1), dtype=np.float32)
        drawn = real[one] + share * (real[two] - real[one]) + residual * (real[other] - real[three])
        made[start : start + q] = unit(drawn)
    return made


def fitting_residual(real, neighbours, tenth, *, seed):
    """Size of the residual with which a sample is as crowded as the real vectors."""
    low, high = 0.0, 2.0
    for _ in range(7):
        middle = (low + high) / 2
        generator = np.random.default_rng(seed)
        sample = grow(real, neighbours, items=len(real), residual=middle, generator=generator)
        if np.median(near_neighbours(sample)[1]) > np.median(tenth):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def spectrum(vectors):
    """Shares of the variance on the 1st, 10th and 50th principal axis."""
    values = np.linalg.eigvalsh(np.cov(vectors[:20_000].T))[::-1]
    return (values / values.sum())[[0, 9, 49]].round(4)


def seconds_each(ask, queries):
    """Median seconds of one query at a time."""
    spent = []
    for query in queries:
        started = time.perf_counter()
        ask(np.array([query]))
        spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def main():
    """Print how fast and how right, for each number of cells looked into."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--kind", default="artist")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--probed", type=int, nargs="*", default=[approximate.PROBED])
    given = parser.parse_args()
    real = axes(runs.read(given.run).embeddings(given.kind, "general").vectors, given.width)
    neighbours, tenth = near_neighbours(real)
    residual = fitting_residual(real, neighbours, tenth, seed=1)
    generator = np.random.default_rng(2)
    vectors = grow(real, neighbours, items=given.items, residual=residual, generator=generator)
    sample = vectors[generator.permutation(given.items)[: len(real)]]
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    print(f"residual {residual:.3f}")
    print("cosine to the 10th neighbour, real ", np.quantile(tenth, quantiles).round(3))
    print(
        "                     sample, grown ",
        np.quantile(near_neighbours(sample)[1], quantiles).round(3),
    )
    print("spectrum, real ", spectrum(real), " grown ", spectrum(vectors), flush=True)
    embeddings = Embeddings(tuple(map(str, range(given.items))), vectors)
    everyone = np.ones(given.items, dtype=bool)
    among = np.arange(given.items)
    started = time.perf_counter()
    cells = approximate.make(vectors)
    print(f"cells made in {time.perf_counter() - started:.0f} s", flush=True)
    asked = generator.choice(given.items, given.queries, replace=False)
    blocks = [
        by_cosine(embeddings, asked[at : at + 50], among=among, k=K).neighbours
        for at in range(0, given.queries, 50)
    ]
    truth = np.concatenate(blocks)
    exact = seconds_each(lambda x: by_cosine(embeddings, x, among=among, k=K), asked[:20])
    print(f"exact: {1e3 * exact:.1f} ms a query", flush=True)
    for probed in given.probed:
        approximate.PROBED = probed
        found = np.concatenate(
            [
                cells.search(embeddings, asked[[at]], allowed=everyone, k=K).neighbours
                for at in range(given.queries)
            ]
        )
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
        spent = seconds_each(lambda x: cells.search(embeddings, x, allowed=everyone, k=K), asked)
        print(
            f"{probed} cells: recall@10 {recall:.4f}, {1e3 * spent:.3f} ms a query, "
            f"{exact / spent:.0f} times as fast",
            flush=True,
        )


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
