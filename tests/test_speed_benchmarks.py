"""Stages of scripts/bench at their smallest sizes, in this process."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "speed"


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import side_by_side
    import stages

    yield side_by_side, stages
    for name in ("side_by_side", "stages", "sides", "peaks", "plain"):
        sys.modules.pop(name, None)


def test_the_page_shows_every_way_of_a_stage(speed, tmp_path):
    side_by_side, stages = speed
    assert set(side_by_side.NAMES) == set(stages.STAGES)
    cases = [*stages.judging(True), *stages.loss(True), *stages.training(True)]
    assert [list(x["sides"])[0] for x in cases] == ["undersong"] * 3
    assert all(side["seconds"] > 0 for x in cases for side in x["sides"].values())
    side_by_side.write_page(tmp_path, {"machine": stages.machine(True), "cases": cases})
    page = (tmp_path / "speed.md").read_text()
    assert page.count("| pytorch-metric-learning |") == 1
    assert "| metrics | 31 rankings of 203 items | ir-measures |" in page
    assert (tmp_path / "speed.svg").read_text().startswith("<?xml")
