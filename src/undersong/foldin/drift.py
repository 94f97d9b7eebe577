"""Whether what was added is still like what the run learned from, or a retrain is due.

Training writes into the manifest how far items that it did not learn from stand from those that
it did: ``held_out``, for artists and tracks. Added items are compared with these, not with the
training items, which are nearer to each other than any new item is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from undersong import features
from undersong.catalogue import Kind
from undersong.embeddings import Embeddings
from undersong.features import Encoder

SHARE = 0.10  # of added items among all: from then on the run has missed a good deal
SURE = 0.01  # chance of a false alarm of one test
FARTHER = 0.65  # chance that an added item is farther away than a held-out one; .5 without drift
UNSEEN = 0.10  # how much larger the share of unseen words may be than among held-out items
SAMPLE = 500  # held-out items that are kept, at most
BLOCK = 256


def held_out(
    table: pl.DataFrame,
    learned: NDArray[np.bool_],
    *,
    encoders: Sequence[Encoder],
    content: Embeddings | None,
) -> dict[str, Any]:
    """Measure the items of one kind that training did not learn from.

    Parameters
    ----------
    table : (n,) items as GRM reads them
    learned : (n,) bool
    content : E_C of these items, if there is any

    Returns
    -------
    nearest : of up to 500 of them, the highest cosine of E_C to an item that was learned from
    said, unseen : words and numbers in their metadata, and how many of those no encoder knows
    """
    words, unseen = features.count_unseen(table.filter(~learned), encoders)
    measures: dict[str, Any] = {
        "nearest": [],
        "said": int(words.sum()),
        "unseen": int(unseen.sum()),
    }
    if content is None:
        return measures
    vectors, missing = content.align(tuple(table["id"]))
    asks = np.flatnonzero(~missing & ~learned)
    asks = np.sort(np.random.default_rng(0).permutation(asks)[:SAMPLE])
    values = nearest_cosine(vectors[asks], vectors[~missing & learned])
    return measures | {"nearest": [round(float(x), 6) for x in np.sort(values)]}


def nearest_cosine(vectors: NDArray[np.float32], among: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highest cosine of each unit vector, (q, d), to one of ``among``, (n, d); NaN if n is 0."""
    if not len(among):
        return np.full(len(vectors), np.nan, dtype=np.float32)
    blocks = range(0, len(vectors), BLOCK)
    best = [(vectors[x : x + BLOCK] @ among.T).max(axis=1) for x in blocks]
    return np.concatenate(best) if best else np.empty(0, dtype=np.float32)


def warnings(
    added: pl.DataFrame, manifest: Mapping[str, Any], *, trained: Mapping[Kind, int]
) -> tuple[str, ...]:
    """Return why a retrain is due, one sentence a reason; nothing if it is not.

    Parameters
    ----------
    added : rows of ``undersong.runs.read_added``
    manifest : of the run
    trained : kind -> number of trained items
    """
    reasons = []
    for kind, count in trained.items():
        rows = added.filter(pl.col("kind") == kind)
        if len(rows) == 0:
            continue
        if len(rows) > SHARE * (count + len(rows)):
            reasons.append(
                f"{len(rows)} of {count + len(rows)} {kind}s were added after training, "
                f"more than {SHARE:.0%}"
            )
        if known := manifest.get("held_out", {}).get(kind):
            reasons += _farther(kind, rows["nearest"], known["nearest"])
            reasons += _unseen(kind, rows, known)
    return tuple(reasons)


def _farther(kind: Kind, nearest: pl.Series, known: Sequence[float]) -> list[str]:
    """Mann and Whitney's test: are added items farther from the trained ones than held-out ones?"""
    values = nearest.drop_nulls().drop_nans().to_numpy()
    if not len(values) or not len(known):
        return []
    test = stats.mannwhitneyu(values, known, alternative="less")
    farther = 1 - float(test.statistic) / (len(values) * len(known))
    if test.pvalue >= SURE or farther < FARTHER:
        return []
    return [
        f"the added {kind}s sound unlike what was learned from: median cosine to the nearest "
        f"{np.median(values):.2f}, of strangers at training {np.median(known):.2f} "
        f"(p = {test.pvalue:.1g})"
    ]


def _unseen(kind: Kind, rows: pl.DataFrame, known: Mapping[str, Any]) -> list[str]:
    """Binomial test: do added items say more that the run does not know than held-out ones?"""
    words, unseen = int(rows["said"].sum()), int(rows["unseen"].sum())
    usual = known["unseen"] / known["said"] if known["said"] else 0.0
    if not words or unseen / words < usual + UNSEEN:
        return []
    if stats.binomtest(unseen, words, max(usual, SURE), alternative="greater").pvalue >= SURE:
        return []
    return [
        f"{unseen} of {words} words and numbers of the added {kind}s are new to the run "
        f"({unseen / words:.0%}; of strangers at training {usual:.0%})"
    ]
