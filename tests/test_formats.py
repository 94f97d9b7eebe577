"""Files that an earlier version wrote load for ever: one folder of fixtures for each format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted import small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.evaluation.compare import sources_of
from undersong.model import Model
from undersong.models.content.network import load_content
from undersong.models.general.training import embed, load_general
from undersong.retrieval.index import BLOCK
from undersong.retrieval.neighbours import order
from undersong.retrieval.query import Query
from undersong.retrieval.run_index import open_index
from undersong.runs import RunReader
from undersong.service.snapshot import open_answers

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("format-*"))
RANKED = sorted((Path(__file__).parent / "fixtures").glob("ranked-*"))
SHELVES = sorted((Path(__file__).parent / "fixtures").glob("shelf-*"))


@pytest.mark.parametrize("home", FIXTURES, ids=lambda x: x.name)
def test_a_catalogue_of_every_format_loads(home):
    found, expected = tables.read_catalogue(home / "catalogue"), small_world()
    for name in ("artists", "tracks", "plays", "relations"):
        one, two = (getattr(x, name).lazy().collect() for x in (found, expected))
        assert one.equals(two), name
    assert found.fields == expected.fields
    key = ("descriptors", "track")
    np.testing.assert_array_equal(found.features[key].vectors, expected.features[key].vectors)


@pytest.mark.parametrize("home", FIXTURES, ids=lambda x: x.name)
def test_a_run_of_every_format_answers_and_its_models_embed_as_they_did(home):
    run, catalogue = runs.read(home / "run"), tables.read_catalogue(home / "catalogue")
    stored = run.embeddings("artist", "general")
    sources = sources_of(run, catalogue, "artist")
    assert [x.name for x in sources][:2] == ["content", "interaction"]
    model = load_general(run.file("weights/general.safetensors"))
    vectors = embed(model, sources, device="cpu")
    known = ~np.all([x.missing for x in sources], axis=0)
    np.testing.assert_allclose(vectors[known], stored.vectors, atol=1e-4)
    (encoder,) = load_content(run.file("weights/content.safetensors"))
    assert encoder.settings.width == run.embeddings("track", "content").vectors.shape[1]
    assert run.items("artist")["part"].is_in(["train", "validation", "test"]).all()


@pytest.mark.parametrize("home", SHELVES, ids=lambda x: x.name)
def test_a_shelf_of_every_format_serves_facts_reasons_lists_map_and_what_was_added(home):
    opened = RunReader(home, opening=open_answers).current
    plain = opened.similar("artist", "a04", Query(k=5))
    assert len(plain) == 5
    reasons, note = opened.reasons("artist", plain, Query(k=5))
    assert [bool(x and x.contributions) for x in reasons] == [True] * 5
    assert note == ""
    request = Query(k=5)  # lists of artists are out of date, since one was added
    stored = opened.look_up("track", "a04-1", request)
    assert stored == Model(replace(opened.model.run)).similar("a04-1", kind="track", k=5)
    about = opened.details("artist", "a07")
    assert (about.genres, about.region) == (("g1",), "y")
    assert -1 <= about.x <= 1
    added = opened.similar("artist", "new-band", Query(k=3))
    assert list(added.ids) == ["a27", "a19", "a13"]


@pytest.mark.parametrize("home", RANKED, ids=lambda x: x.name)
def test_a_learned_order_of_every_format_answers_as_it_did(home):
    """Its network and evidence give the answers, scores and confidence that were stored then."""
    index = open_index(runs.read(home), "artist")
    assert index.ranker is not None
    assert index.ranker.candidates == 60
    assert index.lists.rows.shape == (299, 12)
    everyone, rows = np.ones(299, dtype=bool), np.arange(BLOCK)
    found = order(replace(index, lists=None), rows, allowed=everyone, k=60, query=Query())
    same = 0
    for row in rows:  # hub control has changed the places of some
        place = {item: at for at, item in enumerate(found.neighbours[row].tolist())}
        stored = index.lists.rows[row].tolist()
        at = [place[item] for item in stored]
        same += at == list(range(12))
        np.testing.assert_allclose(found.scores[row][at], index.lists.scores[row], atol=1e-3)
        np.testing.assert_allclose(
            found.confidence[row][at], index.lists.confidence[row], atol=1e-4
        )
    assert same > 0.9 * BLOCK
    forgetful = Query(k=5, long_tail=1.0)
    other = order(index, rows[:7], allowed=everyone, k=5, query=forgetful)
    assert (other.neighbours != found.neighbours[:7, :5]).any()


def test_there_is_a_fixture_of_the_current_format():
    assert f"format-{runs.FORMAT}" in {x.name for x in FIXTURES}
    assert f"ranked-{runs.FORMAT}" in {x.name for x in RANKED}
    assert f"shelf-{runs.FORMAT}" in {x.name for x in SHELVES}
