"""What the command line shows of long work, and of a word that nobody knows."""

import itertools

import pytest

from undersong.cli import group
from undersong.cli.group import ProgressDisplay
from undersong.errors import nearest_known


def test_a_log_has_a_line_now_and_then_which_says_how_long_the_rest_takes(monkeypatch, capsys):
    clock = itertools.count(100, 10)
    monkeypatch.setattr(group.time, "monotonic", lambda: float(next(clock)))
    with ProgressDisplay() as progress:
        for done in (4, 5, 6, 7, 9):
            progress("listen", done, 9, "loud" if done == 6 else "")
        progress("listen", 9, 9)
    assert capsys.readouterr().err.splitlines() == [
        "listen: 6 of 9, 20 s, 30 s left  loud",
        "listen: 9 of 9, 40 s",
    ]


@pytest.mark.parametrize(
    ("word", "count", "end"),
    [("wrod-7", 23, "did you mean 'word-7'?"), ("xyz", 0, "known: none"), ("xyz", 2, "word-1")]
    + [("WORD-3", 5, "did you mean 'word-3'?"), ("xyz", 1_023, "word-19 and 1,003 more")],
)
def test_a_strange_word_is_told_its_nearest_or_some_that_are_known(word, count, end):
    assert nearest_known(word, (f"word-{x}" for x in range(count))).endswith(end)
