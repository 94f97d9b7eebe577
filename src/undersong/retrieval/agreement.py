"""What several runs agree on: their answers fused by rank, never a mean of their vectors.

Vectors of two trainings lie in two spaces, and a mean of answers to two questions fits neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from undersong.errors import DataError
from undersong.retrieval.facts import Facts
from undersong.retrieval.nearest import Index
from undersong.retrieval.request import Request
from undersong.retrieval.retrieve import retrieve

OFFSET = 60  # of Cormack et al.: how little the first ranks stand out
DEEP = 100  # answers of each run that are fused, or k if that is more


@dataclass(frozen=True)
class Agreed:
    """Answers of several runs to one query, best first.

    Parameters
    ----------
    ids : of the k answers
    scores : (k,), sum over the runs of 1 / (60 + rank)
    confidence : (k,), mean of the runs that name the answer and know how sure they are, else NaN
    runs : (k,), how many of the runs name it among their first answers
    note : why there is none, if filters left none
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    runs: NDArray[np.int64]
    note: str = ""


def agreement(
    indexes: Sequence[Index],
    query: str,
    *,
    request: Request,
    facts: Sequence[Facts | None] | None = None,
) -> Agreed:
    """List what several runs together find most similar to an item, given by its id.

    Parameters
    ----------
    indexes : of runs of one kind of item; an item that one of them does not know is named by none
    facts : of each run, or None without filters

    Raises
    ------
    DataError
        If a run knows nothing of the item, with the run's place in the list.

    Source
    ------
    Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009.
    """
    deep = replace(request, k=max(request.k, DEEP))
    scores: dict[str, float] = {}
    sure: dict[str, list[float]] = {}
    notes = []
    for place, index in enumerate(indexes):
        if query not in index.embeddings.index:
            raise DataError(
                f"run {place + 1} of {len(indexes)} knows nothing of {query!r}; leave the run out"
            )
        row = np.array([index.embeddings.index[query]])
        found = next(retrieve(index, row, request=deep, facts=facts[place] if facts else None))
        notes.append(found.note)
        for rank, (other, chance) in enumerate(
            zip(found.neighbours[0].tolist(), found.confidence[0].tolist(), strict=True), start=1
        ):
            if other >= 0:
                item = index.embeddings.ids[other]
                scores[item] = scores.get(item, 0.0) + 1 / (OFFSET + rank)
                sure.setdefault(item, []).append(chance)
    best = sorted(scores, key=lambda item: (-scores[item], item))[: request.k]
    return Agreed(
        tuple(best),
        np.array([scores[x] for x in best]),
        np.array([_mean(sure[x]) for x in best]),
        np.array([len(sure[x]) for x in best], dtype=np.int64),
        "" if best else next((x for x in notes if x), ""),
    )


def _mean(values: Sequence[float]) -> float:
    given = [x for x in values if not np.isnan(x)]
    return sum(given) / len(given) if given else float("nan")
