"""Damaged exports; benchmarks/fuzz_importers.py imports 5,000 of them."""

import numpy as np

from fuzzed import damage, originals, outcome

EXPORTS = 75


def test_whatever_is_left_of_an_export_gives_a_catalogue_or_one_clear_error(tmp_path):
    generator = np.random.default_rng(41)
    found = originals(tmp_path / "originals")
    results = set()
    for number in range(EXPORTS):
        command, name, whole = found[number % len(found)]
        results.add(outcome(command, name, damage(whole, generator), tmp_path / str(number)))
    assert results == {"catalogue", "refused"}


def test_every_export_is_sound_before_it_is_damaged(tmp_path):
    for number, (command, name, whole) in enumerate(originals(tmp_path / "originals")):
        assert outcome(command, name, whole, tmp_path / str(number)) == "catalogue"
