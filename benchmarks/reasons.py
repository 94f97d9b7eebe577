"""Whether reasons add up, name the right source first, and what they cost, on a run of one's own.

    python benchmarks/reasons.py RUN [--pairs 1000] [--seed 0]

Half of the pairs are answers (one of the first ten of a random artist), half any two artists.
Removing a source is done for real: E_G is computed again by the trained network with the source
hidden from both, and the change of the score is compared with all others. For the learned order
that goes further than docs/reasons.md, where a source is removed from the columns of the pair: here
the whole answer is gathered again, its list, walks, crowds and places included, for 100 pairs.
Times are of one thread, of the processor, for reasons of ten answers.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import sparse

from undersong import runs
from undersong.explanation import ablation, data, explain
from undersong.features import rows_of
from undersong.models.general import training
from undersong.ranking.context import RankingContext
from undersong.ranking.ranker import rerank
from undersong.retrieval.index import Index
from undersong.retrieval.run_index import open_index

AGAIN = 100


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    run = runs.read(asked.run)
    kind = run.manifest["kind"]
    index = open_index(run, kind)
    known = data.read_background(run, kind)
    model = training.load_general(run.file("weights/general.safetensors"))
    pairs = drawn(index, np.random.default_rng(asked.seed), asked.pairs)
    print(json.dumps({"order": "cosine", **judged_by_cosine(index, known, model, pairs)}))
    if index.ranker is not None:
        print(json.dumps({"order": "learned", **judged_by_order(index, known, model, pairs)}))
    print(json.dumps(timed(index, known, np.random.default_rng(asked.seed + 1))))


def drawn(index, generator, count):
    """Rows of pairs; half of them answers."""
    rows = np.flatnonzero(index.evidence.embedded)
    first = generator.choice(rows, count)
    other = generator.choice(rows, count)
    for at in range(0, count, 2):
        found = rerank(index.ranker, index.evidence, first[at : at + 1]).candidates[0][:10]
        other[at] = generator.choice(found[found >= 0])
    return [(int(a), int(b)) for a, b in zip(first, other, strict=True) if a != b]


def hidden_vectors(known, model, sources, pair):
    """E_G of both items of a pair without each group."""
    mine = rows_of(sources, np.array(pair))
    return {
        name: ablation.without(model, mine, members, device="cpu")
        for name, members in known.groups.items()
    }


def judged_by_cosine(index, known, model, pairs):
    """Sums, and the source named first, of the cosine."""
    plain, right, gap = Index(index.embeddings), [], []
    for a, b in pairs:
        (why,) = explain.explain_pairs(plain, known, a, np.array([b]))
        gap.append(abs(why.start + sum(x.share for x in why.contributions) - why.score))
        vectors = hidden_vectors(known, model, index.evidence.sources, (a, b))
        change = {name: abs(why.score - float(x[0] @ x[1])) for name, x in vectors.items()}
        right.append(change[why.contributions[0].source] >= max(change.values()))
    return summary(gap, {"removed for real": right})


def judged_by_order(index, known, model, pairs):
    """Sums, and the source named first, of the learned order."""
    gap, again = [], []
    for a, b in pairs:
        (why,) = explain.explain_pairs(index, known, a, np.array([b]))
        gap.append(abs(why.start + sum(x.share for x in why.contributions) - why.score))
        effects = {x.source: x.effect for x in why.contributions}
        if len(again) >= AGAIN:
            continue
        vectors = hidden_vectors(known, model, index.evidence.sources, (a, b))
        score = scored(index, index.evidence, a, b)
        change = {
            name: abs(score - scored(index, silent(index.evidence, known, name, (a, b), x), a, b))
            for name, x in vectors.items()
        }
        change["relations"] = abs(effects["relations"])
        again.append(change[why.contributions[0].source] >= max(change.values()))
    return summary(gap, {f"all gathered again, {AGAIN} pairs": again})


def silent(evidence: RankingContext, known, name, pair, vectors) -> RankingContext:
    """The evidence had a group said nothing of the two items of a pair."""
    changed = evidence.vectors.copy()
    changed[list(pair)] = vectors
    sources = []
    for source in evidence.sources:
        if source.name in known.groups[name]:
            kept = np.ones(len(changed), dtype=np.float32)
            kept[list(pair)] = 0
            values = source.values
            values = (
                values * kept[:, None]
                if isinstance(values, np.ndarray)
                else (sparse.diags(kept) @ values).tocsr()
            )
            missing = source.missing.copy()
            missing[list(pair)] = True
            source = replace(source, values=values, missing=missing)
        sources.append(source)
    found = RankingContext(changed, tuple(sources), evidence.relations)
    crowd = evidence.crowd.copy()
    for row in pair:
        cosines = found.cosines(np.array([row]))[0]
        crowd[row] = np.sort(cosines)[-10:].mean()
    vars(found).update(
        {x: getattr(evidence, x) for x in ("degree", "cells", "nearest", "common_weight")}
    )
    vars(found)["crowd"] = crowd
    return found


def scored(index, evidence, a, b):
    """Score of b as an answer to a, made a candidate where it is none."""
    found = rerank(index.ranker, evidence, np.array([a]), also=(b,))
    return float(found.scores[0][found.candidates[0] == b].max(initial=-np.inf))


def summary(gap, right):
    """What is printed of one order."""
    return {
        "pairs": len(gap),
        "largest gap": float(max(gap)),
        **{f"named first is largest, {x}": float(np.mean(y)) for x, y in right.items()},
    }


def timed(index, known, generator):
    """Milliseconds of reasons for ten answers."""
    found = {}
    for name, one in (("learned", index), ("cosine", Index(index.embeddings))):
        if one.ranker is None and name == "learned":
            continue
        seconds = []
        for row in generator.choice(np.flatnonzero(index.evidence.embedded), 200):
            if one.ranker is not None:
                listed = rerank(one.ranker, one.evidence, np.array([row])).candidates[0][:10]
            else:
                cosines = one.embeddings.vectors @ one.embeddings.vectors[row]
                cosines[row] = -np.inf
                listed = np.argsort(-cosines)[:10]
            begun = time.thread_time()
            explain.explain_pairs(one, known, int(row), listed[listed >= 0])
            seconds.append(time.thread_time() - begun)
        found[f"ms of reasons for ten answers, {name}, median"] = 1e3 * float(np.median(seconds))
        found[f"the same, 95 of 100, {name}"] = 1e3 * float(np.quantile(seconds, 0.95))
    return found


if __name__ == "__main__":
    main()
