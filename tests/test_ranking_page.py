"""docs/ranking.md names every column of the evidence, in order, and the numbers of the code."""

import re
from pathlib import Path

import pytest

from undersong import evidence, gathering
from undersong.models.ranking import RankingSettings
from undersong.search import BLOCK
from undersong.stages import ranking

PAGE = " ".join((Path(__file__).parent.parent / "docs/ranking.md").read_text().split())
SETTINGS = RankingSettings()


def short(number):
    """Write a number as the page does: .05, not 0.05."""
    return f"{number:g}".removeprefix("0")


def test_the_page_has_a_row_for_every_column():
    named = re.findall(r"\| `([^`]+)` \|", PAGE)
    assert named == [*evidence.EDGE_FREE, "same NAME", "no NAME", *evidence.ON_RELATIONS]


@pytest.mark.parametrize(
    "statement",
    [
        f"to its {evidence.HUB} nearest items",
        f"of the query to {evidence.SHOWN} of the candidate's relations",
        f"only {evidence.SHOWN} relations",
        f"the {gathering.NEAR} linked items nearest to the query, drawn by softmax(cosine / "
        f"{short(gathering.WARMTH)})",
        f"the {gathering.FAR} nearest, drawn by softmax(cosine / {short(2 * gathering.WARMTH)})",
        f"ln(p + {gathering.FLOOR:.4f}".replace("0.", "."),
        f"with chance {short(gathering.ONWARD)} before each step",
        f"fewer than {ranking.FEWEST} lists",
        f"fewer than {ranking.FEWEST} validation items",
        f"with {ranking.VISIBLE:.0%}".replace("%", " %"),
        f"each query {SETTINGS.candidates} candidates",
        f"the {SETTINGS.candidates // 3} best by cosine",
        f"`-k` above {SETTINGS.candidates}",
        f"two layers of {SETTINGS.hidden} weigh",
        f"In {SETTINGS.blind:.0%}".replace("%", " %") + " of the lists",
        f"a block of {BLOCK} queries",
    ],
)
def test_the_page_states_the_numbers_of_the_code(statement):
    assert statement in PAGE


def test_the_page_counts_folds_and_steps_as_the_code_does():
    words = {4: "Four", 5: "five"}
    assert f"{words[SETTINGS.folds]} groups of a fifth of the training items" in PAGE
    assert SETTINGS.share == 1 / 5
    assert f"of one to {words[gathering.OWN_STEPS]} steps" in PAGE
