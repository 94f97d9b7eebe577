from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from test_evaluation import GROUP, PARTS, SETTINGS, TAIL, N, knows_groups, world
from undersong import runs
from undersong.errors import DataError
from undersong.evaluation.compare import compare_truth
from undersong.evaluation.protocols import EvaluationSettings
from undersong.evaluation.scoring import traits
from undersong.evaluation.truth import judge_truth, read_truth
from undersong.relations import Task, known

HOME = Path(__file__).parent / "fixtures" / "format-1"
IDS = world().ids("artist")


def written(folder, lines, *, encoding="utf-8"):
    path = folder / "later.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def later():
    """A later list: it relates each unlinked item to two linked ones of its group, and others."""
    generator = np.random.default_rng(3)
    truth = np.zeros((N, N), dtype=bool)
    for item in np.flatnonzero(TAIL):
        near = np.flatnonzero((GROUP[item] == GROUP) & ~TAIL)
        truth[item, generator.choice(near, 2, replace=False)] = True
    fresh = ~known(world(), "artist").toarray() & (GROUP[:, None] == GROUP) & ~TAIL[:, None]
    truth |= fresh & ~TAIL & (generator.random((N, N)) < 0.1)
    np.fill_diagonal(truth, False)
    return sparse.csr_matrix(truth | truth.T)


def judged(method):
    visible = known(world(), "artist")
    return {
        x.name: x
        for x in judge_truth(
            [method],
            later(),
            visible,
            kind="artist",
            traits=traits(Task(world(), "artist", PARTS)),
            reference=method.name,
            settings=SETTINGS,
        )
    }


def test_both_questions_are_what_a_plain_loop_finds():
    method = knows_groups(0.05)
    protocols = judged(method)
    assert list(protocols) == ["ask, labelled", "ask", "found", "more"]
    truth, visible = later().toarray(), known(world(), "artist").toarray()
    scores = method.scores(np.arange(N))
    recalls: dict[str, list[float]] = {"ask, labelled": [], "ask": [], "found": [], "more": []}
    for row in range(N):
        order = [x for x in np.argsort(-scores[row], kind="stable") if x != row]
        fresh = [x for x in order if not visible[row, x]]
        tail, linked = (set(np.flatnonzero(truth[row] & x)) for x in (TAIL, ~TAIL))
        questions = (
            [("ask", order, linked | tail), ("ask, labelled", order, linked | tail)]
            if TAIL[row]
            else [("found", fresh, tail), ("more", fresh, linked)]
        )
        for name, answers, right in questions:
            if name == "ask, labelled":
                answers = [x for x in answers if visible[x].any() or truth[x].any()]
            if right:
                recalls[name].append(len(right & set(answers[:4])) / min(4, len(right)))
    for name, expected in recalls.items():
        whole = protocols[name].slices[0]
        assert whole.answerable == len(expected) > 10, name
        value = whole.numbers["groups"]["recall@4"].mean.value
        assert value == pytest.approx(np.mean(expected)), name


def test_what_is_known_already_or_unknown_is_counted_and_left_out(tmp_path):
    visible = known(world(), "artist")
    a, b = (x[0] for x in visible.nonzero())
    fresh = np.flatnonzero(TAIL)[:3]
    lines = [
        "a,b,source",
        f"{IDS[a]},{IDS[b]},s",
        f"{IDS[fresh[0]]},{IDS[fresh[1]]},s",
        f"{IDS[fresh[1]]},{IDS[fresh[0]]},s",
        f"{IDS[fresh[2]]},{IDS[fresh[2]]},s",
        f"{IDS[fresh[2]]},nobody,s",
        f"{IDS[fresh[2]]},,s",
    ]
    truth = read_truth(written(tmp_path, lines), IDS, visible)
    assert (truth.pairs, truth.shown, truth.unknown, truth.twice) == (1, 1, 2, 2)
    assert set(zip(*truth.relations.nonzero(), strict=True)) == {
        (fresh[0], fresh[1]),
        (fresh[1], fresh[0]),
    }
    assert truth.note.startswith("1 pairs that the run never saw; left out: 1 that it was trained")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x,b", "i1,i2"], "later.csv has no column 'a', only x, b"),
        (["a,b", "who,what"], "none of its 1 pairs can judge: 1 name an id"),
        (["a,b"], "none of its 0 pairs can judge"),
    ],
)
def test_a_file_that_cannot_judge_is_named(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_truth(written(tmp_path, lines), IDS, known(world(), "artist"))


def test_a_file_that_is_absent_or_no_text_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_truth(tmp_path / "none.csv", IDS, known(world(), "artist"))
    strange = written(tmp_path, ["a,b", "\xe4,\xf6"], encoding="utf-16")
    with pytest.raises(DataError, match=r"later\.csv"):
        read_truth(strange, IDS, known(world(), "artist"))


def test_a_run_is_judged_by_a_file_beside_the_baselines(tmp_path):
    run = runs.read(HOME / "run")
    items = run.trained_items("artist")
    lines = ["a,b"] + [
        f"{items['id'][x]},{items['id'][(5 * x + 2) % len(items)]}" for x in range(19)
    ]
    report, note = compare_truth(
        run,
        truth=written(tmp_path, lines),
        catalogue_folder=HOME / "catalogue",
        settings=EvaluationSettings(resamples=100),
    )
    assert "pairs that the run never saw" in note
    names = [name for name, _ in report.methods]
    assert names[:2] == ["random", "GRM"]
    assert "all sources" in names
    assert not {"PageRank", "Adamic-Adar"} & set(names)
    for protocol in report.protocols:
        assert set(protocol.slices[0].numbers) == set(names)
