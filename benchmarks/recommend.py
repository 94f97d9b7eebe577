"""Held-out plays found again: undersong recommend beside popularity, ALS and co-listening.

    python benchmarks/recommend.py split MAPPING DATA WORK
    undersong train WORK/catalogue WORK/run  # sees no held-out play
    python benchmarks/recommend.py measure WORK [--users 400] [--from 0]

A fifth of the artists of each user is held out at random. Asked are users with at least 5 left and
one held out, in an order that was drawn once: the first 400 are for the published numbers, those
after them (--from 400) for choices. Everything that they are not known to play competes. Recall@20
is the share of the held-out artists (of at most 20) among the first 20, with 95 % bootstrap
intervals over users, also of the difference to ALS. "Tail" is recall of held-out artists without
any relation, "unheard" of those whom nobody plays any more once plays are held out.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from undersong import runs
from undersong.catalogue import tables
from undersong.embeddings import unit
from undersong.evaluation.results import bootstrap, percentile_interval
from undersong.importers.tables.conversion import import_tables
from undersong.relations import listeners
from undersong.retrieval import recommend
from undersong.retrieval.query import Query
from undersong.retrieval.recommend import Seeds
from undersong.retrieval.run_index import attributes_of, open_index

K = 20


def split(mapping, data, work):
    """Write a catalogue without a fifth of each user's plays."""
    made, _ = import_tables(mapping, data=data)
    plays = made.plays.collect().sort("user", "item")
    out = np.random.default_rng(11).random(len(plays)) < 0.2
    tables.write_catalogue(replace(made, plays=plays.filter(~out).lazy()), work / "catalogue")
    plays.filter(out).write_parquet(work / "held_out.parquet")


def measure(work, *, users, first):
    """Print recall of every method."""
    catalogue = tables.read_catalogue(work / "catalogue")
    run = runs.read(work / "run")
    index = open_index(run, "artist", paper=True)
    asked = questions(catalogue, pl.read_parquet(work / "held_out.parquet"))
    asked = asked[first : first + users]
    facts = attributes_of(run, "artist", index.embeddings.ids)
    linked = set(catalogue.relations["a"]) | set(catalogue.relations["b"])
    print(f"{len(asked)} users, {len(index.embeddings.ids)} artists, recall@{K}")
    heard = set(catalogue.plays.collect()["item"])
    rows = {}
    for name, method in methods(catalogue, index, facts).items():
        found = [recall(method(x, seeds), held, linked, heard) for x, seeds, held in asked]
        rows[name] = np.array(found, dtype=float)
    base = rows["ALS"][:, 0]
    for name, values in rows.items():
        means = bootstrap(np.stack([values[:, 0], values[:, 0] - base], 1), resamples=2000, seed=0)
        low, high = percentile_interval(means)
        _, tail, share, unheard = np.nanmean(values, axis=0)
        print(
            f"{name:22} {values[:, 0].mean():.4f} [{low[0]:.4f}, {high[0]:.4f}]  to ALS "
            f"{(values[:, 0] - base).mean():+.4f} [{low[1]:+.4f}, {high[1]:+.4f}]  "
            f"tail {tail:.4f}  unheard {unheard:.4f}  share of unlinked answers {share:.3f}"
        )


def questions(catalogue, out):
    """Users in a random order, what they are known to play, and what was held out."""
    kept = catalogue.plays.sort("user", "plays", "item", descending=[False, True, False])
    kept = {
        user: Seeds(tuple(items), tuple(plays))
        for user, items, plays in kept.group_by("user").agg("item", "plays").collect().rows()
    }
    held = dict(out.group_by("user").agg("item").rows())
    able = sorted(x for x in held if x in kept and len(kept[x].ids) >= 5)
    chosen = np.random.default_rng(0).permutation(able)
    return [(str(x), kept[x], set(held[x])) for x in chosen]


def recall(answers, held, linked, heard):
    """Recall of all, unlinked and unheard held-out artists, and the share of unlinked answers."""
    tail, unheard = held - linked, held - heard
    found = set(answers[:K])
    return (
        len(found & held) / min(len(held), K),
        len(found & tail) / min(len(tail), K) if tail else np.nan,
        np.mean([x not in linked for x in answers[:K]]) if answers else np.nan,
        len(found & unheard) / min(len(unheard), K) if unheard else np.nan,
    )


def methods(catalogue, index, facts):
    """Name -> function of user and seeds that lists ids, best first."""
    from implicit.als import AlternatingLeastSquares

    ids = np.array(catalogue.ids("artist"), dtype=object)
    row = {item: number for number, item in enumerate(ids)}
    plays = listeners(catalogue, "artist")
    users = catalogue.plays.collect()["user"].unique().sort().to_list()
    heard = (plays > 0).astype(np.float32)
    popular = np.asarray(heard.sum(axis=0)).ravel()
    weighed = plays.copy()
    weighed.data = np.log1p(weighed.data)
    confidence = (2.0 * weighed).astype(np.float32)
    als = AlternatingLeastSquares(
        factors=64, regularization=0.05, iterations=15, num_threads=1, random_state=0, use_gpu=False
    )
    als.fit(confidence.tocsr(), show_progress=False)
    columns = unit(weighed.T.toarray())
    who = recommend.listeners_of(catalogue, "artist", index.embeddings.ids)

    def best(scores, seeds):
        scores = np.array(scores, dtype=float)
        scores[[row[x] for x in seeds.ids]] = -np.inf
        return list(ids[np.argsort(-scores, kind="stable")[:K]])

    def weights(seeds):
        return np.log1p(np.array(seeds.plays)), [row[x] for x in seeds.ids]

    def by_listeners(_, seeds):
        weight, rows = weights(seeds)
        return best(columns @ (weight @ columns[rows]), seeds)

    def ours(tastes, heard):
        def ask(_, seeds):
            request = Query(k=K)
            found = recommend.recommend(
                index, seeds, query=request, attributes=facts, heard=heard, tastes=tastes
            )
            return [index.embeddings.ids[x] for x in found.rows]

        return ask

    factors = als.user_factors
    return {
        "popularity": lambda _, seeds: best(popular, seeds),
        "ALS": lambda user, seeds: best(als.item_factors @ factors[users.index(user)], seeds),
        "co-listening": by_listeners,
        "recommend": ours(1, who),
        "recommend, 3 tastes": ours(3, who),
        "E_G alone": ours(1, None),
    }


def main():
    """Split or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("split")
    for name in ("mapping", "data", "work"):
        first.add_argument(name, type=Path)
    second = commands.add_parser("measure")
    second.add_argument("work", type=Path)
    second.add_argument("--users", type=int, default=400)
    second.add_argument("--from", dest="first", type=int, default=0)
    asked = parser.parse_args()
    if asked.command == "split":
        split(asked.mapping, asked.data, asked.work)
    else:
        measure(asked.work, users=asked.users, first=asked.first)


if __name__ == "__main__":
    main()
