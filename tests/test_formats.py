"""Files that an earlier version wrote load for ever: one folder of fixtures for each format."""

from pathlib import Path

import numpy as np
import pytest

from planted import small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.evaluation.comparison import sources_of
from undersong.stages import content, general

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("format-*"))


@pytest.mark.parametrize("home", FIXTURES, ids=lambda x: x.name)
def test_a_catalogue_of_every_format_loads(home):
    found, expected = tables.read(home / "catalogue"), small_world()
    for name in ("artists", "tracks", "plays", "relations"):
        assert getattr(found, name).equals(getattr(expected, name)), name
    assert found.fields == expected.fields
    key = ("descriptors", "track")
    np.testing.assert_array_equal(found.features[key].vectors, expected.features[key].vectors)


@pytest.mark.parametrize("home", FIXTURES, ids=lambda x: x.name)
def test_a_run_of_every_format_answers_and_its_models_embed_as_they_did(home):
    run, catalogue = runs.read(home / "run"), tables.read(home / "catalogue")
    stored = run.embeddings("artist", "general")
    sources = sources_of(run, catalogue, "artist")
    assert [x.name for x in sources][:2] == ["content", "interaction"]
    model = general.load(run.file("weights/general.safetensors"))
    vectors = general.embed(model, sources, device="cpu")
    known = ~np.all([x.missing for x in sources], axis=0)
    np.testing.assert_allclose(vectors[known], stored.vectors, atol=1e-4)
    encoder = content.load_content(run.file("weights/content.safetensors"))
    assert encoder.settings.width == run.embeddings("track", "content").vectors.shape[1]
    assert run.items("artist")["part"].is_in(["train", "validation", "test"]).all()


def test_there_is_a_fixture_of_the_current_format():
    assert f"format-{runs.FORMAT}" in {x.name for x in FIXTURES}
