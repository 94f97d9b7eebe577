import sys
from pathlib import Path

import httpx
import pytest

from spoken import NAMES, mbid
from undersong.catalogue.names import Item
from undersong.retrieval.query import Neighbour, Neighbours
from undersong.service.dialects.messages import scored

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from fuzz_dialects import READ, fuzz


def test_no_question_is_answered_by_a_fault_or_by_half_a_reply(port):
    known = [*NAMES, "artist 1", "track 3", "track 7", mbid("artist", 4), mbid("track", 6)]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        counted = fuzz(client, known=known, requests=500, seed=7)
    # Every dialect was reached, and answered some of it.
    assert {path for path, _ in counted} == {x.split("/")[1][:8] for x in READ}
    assert {path for path, status in counted if status == 200} == {path for path, _ in counted}


def found(*scored):
    items = [Item(f"i{x}", "artist", "", "", 1, None, False) for x in range(len(scored) + 1)]
    ranked = [
        Neighbour(rank, item, score, confidence)
        for rank, (item, (score, confidence)) in enumerate(zip(items[1:], scored, strict=True), 1)
    ]
    return Neighbours((items[0],), tuple(ranked))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(0.9, None), (0.4, None), (-0.2, None)], [0.9, 0.4, 0]),
        ([(7.5, 1.0), (3.0, 0.62), (-1.5, 0.04)], [1, 0.62, 0.04]),
        # A forgotten item was raised above its score: it may not seem nearer than the one before.
        ([(2.0, 0.5), (0.3, 0.1), (1.8, 0.45)], [0.5, 0.1, 0.1]),
        ([], []),
    ],
)
def test_how_similar_is_the_confidence_else_the_cosine_and_never_rises(scores, expected):
    assert [similarity for _, similarity in scored(found(*scores))] == expected
