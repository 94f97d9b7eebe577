"""docs/ranking.md names every column of the evidence, in order, and the numbers of the code."""

import re
from pathlib import Path

import pytest

from undersong.ranking import candidates, context, training
from undersong.ranking.network import RankingSettings
from undersong.retrieval.index import BLOCK

PAGE = " ".join((Path(__file__).parent.parent / "docs/ranking.md").read_text().split())
SETTINGS = RankingSettings()


def short(number):
    """Write a number as the page does: .05, not 0.05."""
    return f"{number:g}".removeprefix("0")


def test_the_page_has_a_row_for_every_column():
    named = re.findall(r"\| `([^`]+)` \|", PAGE)
    assert named == [*context.EDGE_FREE, "same NAME", "no NAME", *context.ON_RELATIONS]


@pytest.mark.parametrize(
    "statement",
    [
        f"to its {context.HUB} nearest items",
        f"of the query to {context.SHOWN} of the candidate's relations",
        f"only {context.SHOWN} relations",
        f"the {context.NEAR} linked items nearest to the query, drawn by softmax(cosine / "
        f"{short(context.WARMTH)})",
        f"the {candidates.FAR} nearest, drawn by softmax(cosine / {short(2 * context.WARMTH)})",
        f"ln(p + {candidates.FLOOR:.4f}".replace("0.", "."),
        f"with chance {short(candidates.ONWARD)} before each step",
        f"fewer than {training.FEWEST} lists",
        f"fewer than {training.FEWEST} validation items",
        f"with {training.VISIBLE:.0%}".replace("%", " %"),
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
    words = {2: "Two", 5: "five"}
    assert (
        f"{words[SETTINGS.folds]} groups of a fifth of the training items that are linked" in PAGE
    )
    assert training.ASKERS == 1 / 4
    assert f"{100 * training.FORGOTTEN:.0f} % of their other relations" in PAGE
    assert SETTINGS.share == 1 / 5
    assert f"of one to {words[candidates.OWN_STEPS]} steps" in PAGE
