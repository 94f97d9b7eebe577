"""Hub control on validation artists: who is in nobody's first ten answers, and what it costs.

    python benchmarks/hubs.py RUN CATALOGUE [--keep lists.npz]

Every artist asks by the order that evaluation judges, which saw no relation of validation and test
artists. Compared, paired over those that ask, in the protocols `cold, labelled` and `found`:
nothing; a penalty on how often an item is shown; local scaling of the scores (CSLS); the same of
the plain cosine; and what `undersong.retrieval.precomputed` does with several limits.
"""

import argparse
from pathlib import Path

import numpy as np

from undersong import relations, runs
from undersong.catalogue import tables
from undersong.evaluation.compare import sources_of
from undersong.ranking import ranker as ranker_file
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import KNOWN, rerank
from undersong.retrieval import precomputed

DEEP, SHORT, BLOCK, NEAR = 200, 10, 128, 10
LONG = 2 * DEEP  # of a list, of which unlabelled and known items are left out


def collect(ranker, evidence):
    """Candidates of every item, best first, with scores and confidence."""
    n, count = len(evidence.vectors), ranker.candidates
    rows = np.full((n, count), -1, np.int64)
    scores = np.full((n, count), -np.inf, np.float32)
    confidence = np.zeros((n, count), np.float32)
    for start in range(0, n, BLOCK):
        some = np.arange(start, min(start + BLOCK, n))
        found = rerank(ranker, evidence, some)
        rows[some], scores[some] = found.candidates, found.scores
        confidence[some] = found.confidence
    return {"rows": rows, "scores": scores, "confidence": confidence}


def without(rows, excluded):
    """Rows with the items that each query may not name (q, n) at the end, as -1."""
    queries = np.arange(len(rows))[:, None]
    allowed = (rows >= 0) & ~excluded[queries, np.maximum(rows, 0)]
    turn = np.argsort(~allowed, axis=1, kind="stable")
    return np.take_along_axis(np.where(allowed, rows, -1), turn, axis=1)


def hits_of(rows, right):
    """Whether each answer is right, and how many right ones there are."""
    hits = (rows >= 0) & right[np.arange(len(rows))[:, None], np.maximum(rows, 0)]
    return hits, right.sum(axis=1)


def ndcg(rows, right, k):
    """NDCG@k of each query, from the definition."""
    hits, total = hits_of(rows[:, :k], right)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(discount)[np.minimum(total, k) - 1]
    return hits @ discount[: hits.shape[1]] / best


def recall(rows, right, k):
    """Recall@k of each query, of at most k."""
    hits, total = hits_of(rows[:, :k], right)
    return hits.sum(axis=1) / np.minimum(total, k)


def turned(rows, scores):
    """Rows in the order of other scores."""
    return np.take_along_axis(rows, np.argsort(-scores, axis=1, kind="stable"), axis=1)


def shown(rows):
    """How many lists name each item among their first ten, (n,)."""
    return np.bincount(rows[:, :SHORT].ravel(), minlength=len(rows))


def local_scale(rows, scores):
    """Mean of the ten best scores that each item gets from anybody, (n,)."""
    turn = np.lexsort((-scores.ravel(), rows.ravel()))
    item, score = rows.ravel()[turn], scores.ravel()[turn]
    starts, least = np.searchsorted(item, np.arange(len(rows) + 1)), np.quantile(score, 0.01)
    found = np.full((len(rows), NEAR), least)
    for one in range(len(rows)):
        best = score[starts[one] : starts[one + 1]][:NEAR]
        found[one, : len(best)] = best
    return found.mean(axis=1)


def by_cosine(vectors, penalty):
    """The nearest of each item by cosine less a penalty of the answer, (n, 400)."""
    found = np.empty((len(vectors), LONG), np.int64)
    for start in range(0, len(vectors), BLOCK):
        near = vectors[start : start + BLOCK] @ vectors.T - penalty
        near[np.arange(len(near)), np.arange(start, start + len(near))] = -np.inf
        best = np.argpartition(-near, LONG, axis=1)[:, :LONG]
        found[start : start + len(near)] = turned(best, np.take_along_axis(near, best, axis=1))
    return found


def crowd(vectors):
    """Mean cosine of each item to its ten nearest, (n,)."""
    found = []
    for start in range(0, len(vectors), BLOCK):
        near = np.partition(vectors[start : start + BLOCK] @ vectors.T, -NEAR - 1, axis=1)
        found.append((near[:, -NEAR - 1 :].sum(axis=1) - 1) / NEAR)
    return np.concatenate(found)


def variants(lists, vectors):
    """Each way, as a group and a name, with its lists of rows; the first of a group is plain."""
    rows, scores = lists["rows"], lists["scores"]
    yield "learned", "off", rows
    for weight in (0.1, 0.2, 0.3):
        yield (
            "learned",
            f"shown {weight}",
            turned(rows, scores - weight * np.log1p(shown(rows))[rows]),
        )
    scale = local_scale(rows, np.where(scores > KNOWN / 2, scores - KNOWN, scores))
    for weight in (0.1, 0.25):
        yield "learned", f"local scaling {weight}", turned(rows, scores - weight * scale[rows])
    for cost in (0.0025, 0.005, 0.0075):
        precomputed.COST = cost
        raised = precomputed.raise_unreached(rows[:, :DEEP], lists["confidence"][:, :DEEP])
        stored = np.take_along_axis(rows[:, :DEEP], raised.places, axis=1)
        yield "learned", f"raised {cost}", np.hstack([stored, rows[:, DEEP:]])
    yield "cosine", "off", by_cosine(vectors, 0)
    for weight in (0.25, 0.5):
        yield "cosine", f"CSLS {weight}", by_cosine(vectors, weight * crowd(vectors))


def main():
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--keep", type=Path, help="where the lists are kept between two calls")
    given = parser.parse_args()
    run, catalogue = runs.read(given.run), tables.read_catalogue(given.catalogue)
    parts = run.items("artist")["part"].to_numpy().astype("<U10")
    vectors = run.embeddings("artist", "judged").align(catalogue.ids("artist"))[0]
    if given.keep and given.keep.exists():
        lists = dict(np.load(given.keep))
    else:
        ranker = ranker_file.read(run.file("weights/ranking.safetensors"))
        sources = sources_of(run, catalogue, "artist")
        seen = relations.known(catalogue, "artist", parts == "train")
        lists = collect(ranker, RankingContext(vectors, sources, seen))
        if given.keep:
            np.savez(given.keep, **lists)
    truth = relations.known(catalogue, "artist", parts != "test").toarray().astype(bool)
    visible = relations.known(catalogue, "artist", parts == "train").toarray().astype(bool)
    unlinked, unlabelled = ~visible.any(axis=1), ~truth.any(axis=1)
    cold = np.flatnonzero((parts == "validation") & ~unlabelled)
    sought = truth & (parts == "validation")
    finding = np.flatnonzero(~unlinked & sought.any(axis=1))
    plain = {}
    for group, name, rows in variants(lists, vectors):
        lone = shown(rows) == 0
        asked = without(rows[cold], np.broadcast_to(unlabelled, truth.shape)[cold])
        known = without(rows[finding], visible[finding])
        judged = {
            "cold NDCG@200": ndcg(asked, truth[cold], DEEP),
            "cold NDCG@10": ndcg(asked, truth[cold], SHORT),
            "found recall@10": recall(known, sought[finding], SHORT),
            "found recall@50": recall(known, sought[finding], 50),
        }
        line = f"{group:8} {name:20} in nobody's ten {lone.mean():6.2%}"
        line += f", of the unlinked {lone[unlinked].mean():6.2%}"
        for metric, values in judged.items():
            change = values - plain.setdefault((group, metric), values)
            error = 1.96 * change.std() / len(change) ** 0.5
            line += f"  {metric} {values.mean():.4f} ({change.mean():+.5f} +- {error:.5f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
