"""Songs that look for others of their artist: what is counted, who asks, and how sure it is."""

import dataclasses

import numpy as np
import pytest

from planted import QUICK_SETTINGS, small_world
from undersong import relations, runs
from undersong.catalogue import write_catalogue
from undersong.evaluation.compare import task_of
from undersong.evaluation.same_artist import _numbers, _scores, judge_same_artist
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run

ARTIST = np.array([4, 4, 4, 2, 2, 7])


def test_hit_precision_and_average_precision_are_those_of_the_whole_order():
    angles = np.radians([0, 10, 90, 12, 100, 11])  # 0 and 1 are near, 2 is far from both
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    nobody = relations.known(small_world(), "artist", np.zeros(85, dtype=bool))
    truth = relations.same_or_similar_artist(ARTIST, nobody)
    found = _scores(vectors, np.array([0, 2]), truth, k=1)
    # 0 has 1, 5, 3, 2, 4: its two are first and fourth. 2 has 4, 3, 5, 1, 0: fourth and fifth.
    np.testing.assert_allclose(
        found, [[1, 2 / 5, (1 + 2 / 4) / 2], [0, 2 / 5, (1 / 4 + 2 / 5) / 2]]
    )


def test_intervals_are_over_artists_whose_songs_are_no_independent_questions():
    artist = np.repeat(np.arange(9), 11)
    alike = np.repeat(np.arange(9) % 2, 11).astype(float)[:, None]
    apart = np.tile(np.arange(11) % 2, 9).astype(float)[:, None]
    one, two = (_numbers(x, artist, 1000, 0)[0].mean for x in (alike, apart))
    assert one.value == pytest.approx(4 / 9)
    assert one.high - one.low > 0.5
    assert two.high - two.low == pytest.approx(0, abs=1e-9)


def test_all_artists_ask_where_nothing_was_learned_and_else_those_of_the_split(tmp_path):
    world = small_world()
    bare = dataclasses.replace(world, relations=world.relations.head(0))
    write_catalogue(bare, tmp_path / "catalogue")
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS.replace("judges = 1", "judges = 1000"))
    settings = read_settings(tmp_path / "quick.toml")
    run, _ = train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    task = task_of(run, None)

    def asked(run):
        found, rows = judge_same_artist(run, task, split="test", k=3, resamples=100, seed=0)
        (numbers,) = (x.numbers for x in found.slices if x.name == "all")
        return found.slices[0].queries, set(numbers), dict(rows)

    queries, rows, notes = asked(run)
    assert (queries, rows) == (168, {"random", "start"})
    assert set(notes) == {"start"}
    hearing = {"descriptors": run.manifest["hearing"]["descriptors"] | {"learned": True}}
    learned = runs.read(tmp_path / "run")
    learned.manifest["hearing"] = hearing
    queries, rows, _ = asked(learned)
    tests = set(np.array(task.ids)[task.within("test")])
    assert queries == world.tracks["artist"].is_in(tests).sum()
    assert rows == {"random", "start", "learned"}
