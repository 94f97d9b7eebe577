"""Effects behind the first answers of every item, computed once: reasons are then looked up.

An .npy file of records, (n, 20), a row an item of the learned order, best answer first: answered
(int32, -1 where there are fewer), score, confidence, start, and the effects of all sources.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undersong.evidence import Evidence
from undersong.explaining.attribution import effects_in_order
from undersong.explaining.background import Background
from undersong.files import replacing
from undersong.progress import Progress, silent
from undersong.ranker import Ranker, answer

LENGTH = 20
BLOCK = 256


def write(
    path: Path,
    ranker: Ranker,
    evidence: Evidence,
    *,
    background: Background,
    rows: NDArray[np.int64],
    progress: Progress = silent,
) -> None:
    """Write the effects behind the first answers of n items, block by block.

    Parameters
    ----------
    rows : (n,) row in ``background`` of each item of ``evidence``
    """
    n = len(rows)
    single = "<f4"
    record = np.dtype(
        [("answered", "<i4"), ("score", single), ("confidence", single), ("start", single)]
        + [("effects", single, (len(background.groups) + 1,))]
    )
    with replacing(path) as temporary:
        out = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=record, shape=(n, min(LENGTH, ranker.candidates))
        )
        for begin in range(0, n, BLOCK):
            asked = np.arange(begin, min(begin + BLOCK, n))
            found = answer(ranker, evidence, asked)
            out["answered"][asked] = -1
            for at, row in enumerate(asked):
                places = np.flatnonzero(found.candidates[at, : out.shape[1]] >= 0)
                others = found.candidates[at, places]
                without, bare = background.compare(rows[row], rows[others])
                start, effects = effects_in_order(
                    ranker,
                    evidence,
                    found,
                    (at, places),
                    groups=background.groups,
                    without=without,
                    told=background.told(rows[row], rows[others]),
                    bare=bare,
                )
                listed = out[row, : len(places)]
                listed["answered"], listed["start"], listed["effects"] = others, start, effects
                listed["score"] = found.scores[at, places]
                listed["confidence"] = found.confidence[at, places]
            progress("reasons of first answers", int(asked[-1]) + 1, n)
        out.flush()


def look_up(
    first: NDArray[np.void] | None, asked: int, others: NDArray[np.int64]
) -> NDArray[np.void] | None:
    """Give the records of some answers of one item, (p,); None unless all were computed."""
    if first is None:
        return None
    listed = first[asked]
    same = listed["answered"] == others[:, None]  # (p, m)
    if not same.any(axis=1).all():
        return None
    return np.asarray(listed[same.argmax(axis=1)])
