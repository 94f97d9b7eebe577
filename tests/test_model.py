"""The model as a notebook asks it: every question, what its answers show, and what is refused."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from spoken import make_shelf
from undersong.errors import ArtifactError, DataError, Unavailable, UndersongError, UnknownItem
from undersong.io import display
from undersong.model import load, make_query
from undersong.retrieval.query import Query

FIXTURES = Path(__file__).parent / "fixtures"
SHELF, RANKED = FIXTURES / "shelf-1", FIXTURES / "ranked-1"


@pytest.fixture(scope="module")
def model():
    """34 artists, answered by cosine, and 64 tracks with stored answers."""
    return load(str(SHELF))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """23 artists with awkward names; nothing but its name is known of artist 21."""
    folder = tmp_path_factory.mktemp("hostile")
    make_shelf(folder)
    return load(folder)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path):
    with pytest.raises(ArtifactError, match="there is no folder .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="nothing has been published to"):
        load(str(tmp_path))


def test_an_item_is_named_by_id_name_or_itself_and_a_query_by_its_fields(model):
    (item,) = model.find("ARTIST 05")
    expected = model.similar("a05", k=4)
    assert expected == model.similar("artist 05", k=4) == model.similar(item, query=Query(k=4))
    assert expected.queries == (item,)
    assert len(expected) == 4
    assert model.similar("a05", k=6, genres="g1") == model.similar(
        "a05", query=Query(k=6, genres=frozenset(["g1"]))
    )
    (track,) = model.similar("a04-1", kind="track", k=3).queries
    assert model.similar(track, k=3) == model.similar("a04-1", kind="track", k=3)
    with pytest.raises(DataError, match="give query or k, genres, not both"):
        model.similar("a05", query=Query(), k=4, genres={"g1"})


def test_options_become_the_query_that_they_name():
    assert make_query() == Query()
    assert make_query(long_tail=0.0, library=["a", "b", "a"], exclude=()) == Query(
        library=frozenset(["a", "b"])
    )
    assert make_query(regions="x", long_tail=0.5) == Query(regions=frozenset(["x"]), long_tail=0.5)


def test_what_is_looked_up_opens_no_index_and_equals_what_is_searched():
    stored, searched = load(SHELF), load(SHELF)
    found = stored.similar("a04-1", kind="track", k=7)
    assert "index" not in vars(stored.of("track"))
    # A library of everybody is no stored question.
    everybody = searched.items("track")["id"].to_list()
    assert found == searched.similar("a04-1", kind="track", k=7, library=everybody)
    assert "index" in vars(searched.of("track"))


@pytest.mark.parametrize("options", [{}, {"genres": "g0"}, {"exclude": ["a130", "a10"]}])
def test_the_cosine_answers_alike_whether_the_learned_order_is_open_or_not(options):
    alone, both = load(RANKED), load(RANKED)
    both.similar("a00", k=3, diversity=0.1)
    assert "index" in vars(both.of())
    assert "index" not in vars(alone.of())
    first = alone.similar("a00", k=8, paper=True, **options)
    second = both.similar("a00", k=8, paper=True, **options)
    assert first.ids == second.ids
    np.testing.assert_allclose(first.scores, second.scores, atol=2e-4)
    assert np.isnan(first.confidence).all()
    assert first.ids != both.similar("a00", k=8, **options).ids


def test_neighbours_are_a_table_in_every_shape(model):
    neighbours = model.similar(["a05", "Artist 09"], k=5)
    table = neighbours.frame()
    assert table["id"].to_list() == list(neighbours.ids)
    assert table["rank"].to_list() == [1, 2, 3, 4, 5]
    assert table["score"].to_list() == neighbours.scores.tolist()
    assert set(table["near"].explode()) == {"Artist 05", "Artist 09"}
    assert repr(neighbours) == str(neighbours)
    assert str(neighbours).splitlines()[0].startswith("Artist 05 (a05): ")
    assert neighbours[0].item == model.of().names.get(neighbours.ids[0])
    confidence = load(RANKED).similar("a00", k=4).confidence
    assert ((confidence > 0) & (confidence <= 1)).all()


def test_names_are_escaped_in_a_notebook(hostile):
    shown = hostile.similar("artist 0", k=9)._repr_html_()
    assert "AC/DC &amp; &lt;b&gt;Friends&lt;/b&gt; (artist 0)" in shown
    assert "<b>" not in shown
    path = hostile.path("artist 0", "artist 4")
    assert "<b>" not in path._repr_html_()
    assert "<td>artist 4</td>" in path._repr_html_()


def test_pandas_is_needed_for_pandas_alone(model, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    neighbours = model.similar("a05", k=3)
    monkeypatch.setattr(display, "import_module", absent)
    with pytest.raises(UndersongError, match=r"to_pandas\(\) needs pandas; pip install pandas"):
        neighbours.to_pandas()
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    table = neighbours.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["id"]) == list(neighbours.ids)


def test_paths_lead_from_one_to_the_other_and_back(model):
    way = model.path("a04", "Artist 09")
    assert (way.ids[0], way.ids[-1]) == ("a04", "a09")
    assert model.path("a09", "a04").ids == way.ids[::-1]
    assert way.frame()["similarity"].to_list()[0] is None
    assert [x.place for x in way] == list(range(1, len(way) + 1))
    with pytest.raises(DataError, match="steps is 0; allow 1 or more"):
        model.path("a04", "a09", steps=0)


def test_a_path_that_is_too_long_says_how_long_it_is(hostile):
    """Groups of alike tracks: from one to another it takes more than a step."""
    whole = hostile.path("track 0", "track 1", kind="track")
    if len(whole) > 2:
        short = hostile.path("track 0", "track 1", kind="track", steps=1)
        assert not short
        assert f"the nearest way has {len(whole) - 1}" in str(short)
    else:
        pytest.fail("the world has no path of two steps or more")


def test_recommendations_name_what_they_are_near_to_and_what_nobody_is_called(model):
    plays = {"Artist 04": 12, "a09": 3, "nobody": 2}
    neighbours = model.recommend(plays, k=5, tastes=2)
    assert not {"a04", "a09"} & set(neighbours.ids)
    near = {name for x in neighbours for name in neighbours.near(x)}
    assert near <= {"Artist 04", "Artist 09"}
    assert {x.taste for x in neighbours} == {1, 2}
    assert neighbours.note == "left out, since nobody is called so: 'nobody'"
    assert str(neighbours).splitlines()[0].startswith("   1  taste 1  ")
    with pytest.raises(UnknownItem, match="none of 1 words is an id or a name here"):
        model.recommend({"nobody": 1})
    with pytest.raises(DataError, match="-2 plays of 'a04'; plays are 0 or more"):
        model.recommend({"a04": -2})
    with pytest.raises(DataError, match="many plays of 'a04'"):
        model.recommend({"a04": "many"})


def test_reasons_show_and_add_up(model):
    reasons = model.explain("a04", "a05")
    assert str(reasons).startswith("Artist 04 (a04) and Artist 05 (a05): cosine 0.7")
    assert reasons.frame().columns == ["source", "share", "effect", "known_of"]
    assert reasons.start + reasons.frame()["share"].sum() == pytest.approx(reasons.score, abs=1e-5)


def test_embeddings_are_those_of_every_item_that_has_one(model):
    embeddings = model.embeddings("artist")
    assert embeddings.ids == model.of().ids
    assert "new-band" in embeddings.ids  # was added after the training
    np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)
    best = model.similar("a04", k=1)
    pair = embeddings.vectors[[embeddings.index[x] for x in ("a04", *best.ids)]]
    assert float(pair[0] @ pair[1]) == pytest.approx(best.scores[0], abs=1e-4)


def test_what_is_added_answers_at_once(tmp_path):
    shutil.copytree(SHELF, tmp_path / "shelf")
    model = load(tmp_path / "shelf")
    with pytest.raises(UnknownItem):
        model.similar("Brand New")
    (tmp_path / "no.wav").write_bytes(b"no sound")
    results = model.add([{"name": "Brand New", "genre": "g2"}, tmp_path / "no.wav"])
    assert [getattr(x, "what", "failed") for x in results] == ["failed", "added"]
    assert model.similar("brand new", k=3).queries[0].id == results[1].id
    assert results[1].id in model.similar("a05", k=34).ids
    with pytest.raises(DataError, match="entry 1: the run knows no field 'genr'"):
        model.add([{"name": "Other", "genr": "g2"}])


def test_a_run_that_knows_no_sound_says_so(model, hostile):
    for one in (model, hostile):
        with pytest.raises(Unavailable, match="; use an id"):
            one.sounds_like("x.wav")


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda x: x.similar("Zoé?", k=3), None, ""),
        (lambda x: x.similar("Artist 77"), UnknownItem, "no item 'Artist 77' among 23; did you"),
        (lambda x: x.similar(3), UnknownItem, "3 is no id or name"),
        (lambda x: x.similar(["artist 1", 3]), UnknownItem, "3 is no id or name.*write '3'"),
        (lambda x: x.similar([]), DataError, "no item is named; give an id or a name"),
        (lambda x: x.similar("artist 1", kind="album"), DataError, "kind is 'album'; choose 'art"),
        (lambda x: x.similar("artist 21"), DataError, "but its name: .*; add some to the catalo"),
        (lambda x: x.explain("artist 1", "artist 2"), ArtifactError, "answers had reasons"),
        (lambda x: x.similar("artist 1", k=0), DataError, "k is 0; it must be 1 or more"),
        (lambda x: x.similar("artist 1", genres={"jaz"}), DataError, "no item has the genre 'jaz'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(hostile, ask, error, message):
    if error is None:
        assert len(ask(hostile)) == 3
        return
    with pytest.raises(error, match=message) as raised:
        ask(hostile)
    assert "\n" not in str(raised.value)


def test_many_threads_share_a_model():
    model = load(RANKED)
    names = [f"a{x:02}" for x in range(24)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda x: model.similar(x, k=5, diversity=0.2).ids, names))
    alone = load(RANKED)
    assert together == [alone.similar(x, k=5, diversity=0.2).ids for x in names]


def test_a_model_answers_without_torch_and_shows_what_it_is():
    program = (
        "import sys; from undersong.model import load\n"
        f"model = load({str(SHELF)!r})\n"
        "print(model)\n"
        "print(len(model.similar('a04-1', kind='track', k=6)))\n"
        "print('torch' in sys.modules, 'scipy.sparse' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == f"model {SHELF}, version 1: 34 artists and 64 tracks"
    assert lines[1:] == ["6", "False False"]
