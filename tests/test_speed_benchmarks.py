"""Stages of scripts/bench at their smallest sizes, in this process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "speed"


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import side_by_side
    import stages

    yield side_by_side, stages
    for name in ("side_by_side", "stages", "sides", "peaks", "plain", "waiting"):
        sys.modules.pop(name, None)


def test_the_page_shows_every_way_of_a_stage(speed, tmp_path):
    side_by_side, stages = speed
    assert set(side_by_side.NAMES) == set(stages.STAGES)
    cases = [*stages.judging(True), *stages.loss(True), *stages.training(True)]
    assert [list(x["sides"])[0] for x in cases] == ["undersong"] * 3
    assert all(side["seconds"] > 0 for x in cases for side in x["sides"].values())
    found = {"cores": "1 core", "machine": stages.machine(True), "cases": cases}
    found["waiting"] = side_by_side.waiting(items=3, steps=2, rounds=1)
    assert len(found["waiting"]) == 6
    assert min(found["waiting"].values()) > 0
    side_by_side.write_page(tmp_path, found)
    page = (tmp_path / "speed.md").read_text()
    assert page.count("| pytorch-metric-learning |") == 1
    assert page.count("| as libraries set it |") == 1
    assert "| metrics | 31 rankings of 203 items | ir-measures |" in page
    assert (tmp_path / "speed.svg").read_text().startswith("<?xml")


def test_the_page_is_drawn_again_from_what_was_measured(tmp_path):
    script, measured = FOLDER / "side_by_side.py", ROOT / "docs" / "speed.json"
    words = [sys.executable, str(script), "--from", str(measured), "--out", str(tmp_path)]
    subprocess.run(words, check=True, timeout=60)
    assert (tmp_path / "speed.md").read_text() == (ROOT / "docs" / "speed.md").read_text()
    drawn, kept = ((x / "speed.svg").read_text() for x in (tmp_path, ROOT / "docs"))
    # The words and figures of the plot; its lines may differ with the version of matplotlib.
    said = [re.findall("<!-- (.+) -->", x) for x in (drawn, kept)]
    assert len(said[0]) > 20
    assert said[0] == said[1]


def test_what_was_measured_keeps_its_order(speed, tmp_path):
    side_by_side, _ = speed
    found = {"cores": "2 cores", "machine": {"z": 1.5}, "cases": [{"undersong": 3, "faiss": 4}]}
    side_by_side.write_found(tmp_path / "speed.json", found)
    assert list(re.findall(r'"(\w+)":', (tmp_path / "speed.json").read_text())) == [
        "cores",
        "machine",
        "z",
        "cases",
        "undersong",
        "faiss",
    ]
