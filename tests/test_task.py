from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from undersong import relations
from undersong.catalogue import Catalogue, Field
from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS
from undersong.progress import silent
from undersong.relations import Task
from undersong.training import Compute

PAIRS = ["ab", "bc", "cd", "de", "ef"]


@pytest.fixture
def task():
    columns = {"id": list("abcdef"), "name": [None] * 6, "split": [None] * 6}
    columns["mood"] = ["glad", None, "sad", "glad", "calm", "sad"]
    catalogue = Catalogue(
        artists=pl.DataFrame(columns, schema=ITEMS["artist"] | {"mood": pl.String()}),
        relations=pl.DataFrame(
            [("artist", a, b, "s") for a, b in PAIRS], schema=RELATIONS, orient="row"
        ),
        plays=pl.LazyFrame([], schema=PLAYS),
        fields=(Field("mood", "artist", "category", "genre"),),
    )
    splits = np.array(["train", "train", "validation", "validation", "test", "train"])
    return Task(catalogue, "artist", splits)


def pairs_of(related):
    return {"abcdef"[i] + "abcdef"[j] for i, j in np.argwhere(related.toarray()) if i < j}


def test_relations_are_those_within_a_split_or_all(task):
    assert pairs_of(task.related()) == set(PAIRS)
    assert pairs_of(task.related("train")) == {"ab"}
    assert pairs_of(task.related("validation")) == {"cd"}
    assert task.within("validation").tolist() == [False, False, True, True, False, False]


def test_relations_are_looked_up_once(task, monkeypatch):
    first, everything = task.related("train"), task.related()
    monkeypatch.setattr(relations.similarity, "known", None)
    assert task.related("train") is first
    assert task.related() is everything


def test_other_splits_have_relations_of_their_own(task):
    task.related("train")
    assert pairs_of(replace(task, splits=np.full(6, "train")).related("train")) == set(PAIRS)


def test_validation_asks_and_codes_come_as_the_task_splits(task):
    queries, truth = task.held_out
    assert queries.tolist() == [2, 3]
    assert pairs_of(truth) == {"ab", "bc", "cd"}
    expected = relations.meta_codes(task.catalogue, "artist", task.splits == "train")
    np.testing.assert_array_equal(task.codes, expected)
    assert task.codes[1].tolist() == [-1]
    assert len(np.unique(task.codes)) == 4


def test_a_folder_inside_keeps_everything_else():
    compute = Compute(seed=7, device="cpu", work=Path("work"))
    assert compute.inside("fold-3") == Compute(7, "cpu", Path("work/fold-3"), silent)
