"""How good answers to a described artist are: validation artists ask by their own words alone.

    python benchmarks/described.py RUN [--fields genre,country,first_decade] [--one]

GRM is trained again without the relations of validation and test artists, as ``judged`` is. Each
validation artist with a known relation is described by some of its fields and asks all others, by
the order of `undersong similar --described`, by GRM's own vector of the words, and by tag kNN: the
cosine of TF-IDF vectors of the same words (a decade is one). Candidates are those that some list
mentions. Intervals are 95 %, paired, over the artists that ask.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from scipy import sparse

from undersong import runs
from undersong.catalogue import read_catalogue
from undersong.embeddings import unit
from undersong.evaluation.baselines.classical import word_matrix
from undersong.evaluation.protocols import EvaluationSettings, pools_of
from undersong.features import CONTENT, INTERACTION, read_sources, rows_of
from undersong.foldin.added import read_encoders
from undersong.foldin.described import DescribedItem, embed_description
from undersong.foldin.embed import FoldIn
from undersong.models.general.training import embed, load_general, save_general, train_general
from undersong.pipeline.learn import task_of
from undersong.pipeline.run_settings import make_settings
from undersong.training import Compute

K = 200


def ndcg(scores, rows, pool):
    """NDCG@200 of each query, (q,)."""
    discount = 1 / np.log2(np.arange(2, K + 2))
    allowed = np.zeros(scores.shape[1], dtype=bool)
    allowed[pool.candidates] = True
    values = []
    for row, own in zip(rows, scores, strict=True):
        may = allowed.copy()
        may[row] = False
        relevant = pool.truth[[row]].toarray().ravel().astype(bool) & may
        best = np.argsort(-np.where(may, own, -np.inf), kind="stable")[:K]
        ideal = discount[: min(K, relevant.sum())].sum()
        values.append((relevant[best] * discount).sum() / ideal)
    return np.array(values)


def tag_knn(asking, table, fields):
    """Cosine of TF-IDF vectors of the words in some fields, (q, n)."""
    blocks = []
    for name in fields:
        both = pl.concat([table[name], asking[name]])
        blocks.append(word_matrix(both.cast(pl.String) if both.dtype.is_numeric() else both))
    words = sparse.hstack(blocks).tocsr()
    counts = np.asarray(words[: len(table)].sum(axis=0)).ravel()
    words = words @ sparse.diags(np.log(len(table) / np.maximum(counts, 1)) + 1)
    length = np.sqrt(np.asarray(words.multiply(words).sum(axis=1)).ravel())
    words = sparse.diags(1 / np.maximum(length, 1e-9)) @ words
    return (words[len(table) :] @ words[: len(table)].T).toarray()


def described(asking, fields, one, seed):
    """What each artist says of itself: a field's value; of tags one at random, if that is all."""
    draw, said = np.random.default_rng(seed), []
    for row in asking.select(fields).iter_rows(named=True):
        values = {x: y for x, y in row.items() if y not in (None, [])}
        for name, value in values.items():
            if one and isinstance(value, list):
                values[name] = [value[draw.integers(len(value))]]
        said.append(values)
    return said


def print_row(name, values, base):
    """Print a mean, and the difference to tag kNN with its interval."""
    draw = np.random.default_rng(0)
    gain = values - base
    means = [gain[draw.integers(len(gain), size=len(gain))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    print(f"{name:24} {values.mean():.4f}  {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


def main():
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--fields", default="genre,country,first_decade")
    parser.add_argument("--one", action="store_true", help="one tag of each field of tags")
    parser.add_argument("--weights", type=Path, help="keep GRM's weights here, or read them")
    arguments = parser.parse_args()
    run, fields = runs.read(arguments.run), arguments.fields.split(",")
    catalogue = read_catalogue(Path(run.manifest["catalogue_folder"]))
    settings = make_settings(json.loads(json.dumps(run.manifest["settings"])))
    task = task_of(catalogue, "artist", settings)
    known = {("artist", x): run.embeddings("artist", x) for x in (CONTENT, INTERACTION)}
    sources = read_sources(catalogue, "artist", read_encoders(run), known)
    weights = arguments.weights
    if weights is not None and weights.exists():
        model = load_general(weights)
    else:
        with TemporaryDirectory() as work:
            compute = Compute(settings.run.seed, "cpu", Path(work))
            model, _ = train_general(task, sources, settings=settings.general, compute=compute)
        if weights is not None:
            save_general(model, weights)
    model = model.eval()
    vectors = embed(model, sources, device="cpu")
    pool = pools_of(task, "validation", settings=EvaluationSettings())["cold, labelled"]
    table = catalogue.artists
    rows = pool.queries[pool.truth[pool.queries].getnnz(axis=1) > 0]
    some = [x for x in rows.tolist() if any(table[y][x] is not None for y in fields)]
    rows, asking = np.array(some), table[some]
    said = described(asking, fields, arguments.one, seed=0)
    fold_in = FoldIn(run)
    import torch

    def general(values, missing):
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in values]
            return model(tensors, torch.from_numpy(missing)).numpy()

    vars(fold_in)["encoders"] = replace(fold_in.encoders, general=general)
    alone, whole = [], []
    for row, values in zip(rows, said, strict=True):
        description = DescribedItem(values, ())
        others = np.delete(np.arange(len(table)), row)
        alone.append(embed_description(description, fold_in))
        whole.append(
            embed_description(
                description, fold_in, sources=rows_of(sources, others), vectors=vectors[others]
            )
        )
    words = asking.with_columns(
        pl.Series(x, [y.get(x) for y in said], dtype=asking[x].dtype) for x in fields
    )
    base = ndcg(tag_knn(words, table, fields), rows, pool)
    print(f"{len(rows)} artists ask by {', '.join(fields)}{', one tag' if arguments.one else ''}")
    print_row("tag kNN", base, base)
    print_row("GRM's own vector", ndcg(np.stack(alone) @ vectors.T, rows, pool), base)
    print_row("similar --described", ndcg(np.stack(whole) @ vectors.T, rows, pool), base)
    print_row("all that is known", ndcg(unit(vectors[rows]) @ vectors.T, rows, pool), base)


if __name__ == "__main__":
    main()
