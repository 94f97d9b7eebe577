import itertools

import numpy as np
import polars as pl
import pytest

from test_names import ITEMS
from undersong import runs
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError
from undersong.model import load
from undersong.retrieval import neighbours as retrieve
from undersong.retrieval.index import Index
from undersong.retrieval.neighbours import search, write_neighbours
from undersong.retrieval.query import Query


def random_embeddings(n, width, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return Embeddings(tuple(f"i{x}" for x in range(n)), unit(vectors))


def slow_nearest(embeddings, query, among, k):
    scores = [
        (-float(embeddings.vectors[query] @ embeddings.vectors[x]), x) for x in among if x != query
    ]
    return [x for _, x in sorted(scores)[:k]]


@pytest.mark.parametrize(("block", "k"), [(1, 3), (4, 7), (512, 40)])
def test_nearest_equals_the_slow_loop(monkeypatch, block, k):
    monkeypatch.setattr(retrieve, "BLOCK", block)
    embeddings = random_embeddings(23, 6)
    queries, among = np.array([5, 0, 17, 9, 2]), np.array([1, 2, 3, 5, 8, 13, 21, 22, 9])
    request = Query(k=k, library=frozenset(f"i{x}" for x in among))
    found = list(search(Index(embeddings), queries, query=request))
    assert np.concatenate([x.rows for x in found]).tolist() == queries.tolist()
    for query, row in zip(queries, np.concatenate([x.neighbours for x in found]), strict=True):
        assert [x for x in row if x >= 0] == slow_nearest(embeddings, query, among, k)


def write_run(folder, embeddings, items):
    """A model of artists that were written by hand, by cosine."""
    with runs.publishing(folder, {"kind": "artist"}) as home:
        embeddings.write(home / "embeddings/artist.general.parquet")
        table = items.with_columns(pl.col("relations").cast(pl.Int64), kind=pl.lit("artist"))
        table.write_parquet(home / "items.parquet")
    return load(folder)


def test_similar_names_its_answers(tmp_path):
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    embeddings = Embeddings(("1", "2", "5"), vectors)
    neighbours = write_run(tmp_path, embeddings, ITEMS).similar("sigur ros", k=9)
    assert [(x.about, x.relations) for x in neighbours.queries] == [("about 1", 4)]
    assert [
        (x.rank, x.item.id, x.item.name, x.item.about, x.score, x.confidence, x.item.relations)
        for x in neighbours
    ] == [
        (1, "2", "Beyoncé", "about 2", 0.8, None, 9),
        (2, "5", "QUEEN", "about 5", 0.0, None, 0),
    ]
    assert str(neighbours).splitlines() == [
        "Sigur Rós (1): about 1; 4 known links",
        "   1   0.800  Beyoncé (2)  about 2",
        "   2   0.000  QUEEN (5)    about 5  long tail",
    ]


def shown(folder, items, **changed):
    """The lines of the two answers about the first item."""
    embeddings = Embeddings(("1", "2", "5"), np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32))
    model = write_run(folder, embeddings, items.with_columns(**changed))
    return str(model.similar("1", k=9)).splitlines()[1:]


def test_the_mark_of_the_long_tail_follows_the_name_where_no_more_is_known(tmp_path):
    assert shown(tmp_path, ITEMS, about=pl.lit("")) == [
        "   1   0.800  Beyoncé (2)",
        "   2   0.000  QUEEN (5)    long tail",
    ]


def test_a_very_long_name_widens_its_own_line_alone(tmp_path):
    long = pl.when(pl.col("id") == "5").then(pl.lit("x" * 90)).otherwise(pl.col("name"))
    first, second = shown(tmp_path, ITEMS, name=long)
    assert first == f"   1   0.800  {'Beyoncé (2)':<48}  about 2"
    assert second == f"   2   0.000  {'x' * 90} (5)  about 5  long tail"


def test_where_nobody_is_linked_nobody_is_marked_as_long_tail(tmp_path):
    assert shown(tmp_path, ITEMS, relations=pl.lit(0)) == [
        "   1   0.800  Beyoncé (2)  about 2",
        "   2   0.000  QUEEN (5)    about 5",
    ]


def test_an_item_of_which_only_the_name_is_known_is_refused(tmp_path):
    embeddings = Embeddings(("1", "2"), np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match=r"nothing is known about 'AC/DC' \(6\) but its name"):
        write_run(tmp_path, embeddings, ITEMS).similar("ac/dc", k=3)


def test_the_table_of_neighbours_is_complete_and_ordered(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieve, "BLOCK", 4)
    embeddings = random_embeddings(23, 6)
    queries, among = np.array([5, 0, 17, 9, 2]), np.arange(11)
    request = Query(k=3, library=frozenset(f"i{x}" for x in among))
    out = tmp_path / "deep" / "neighbours.parquet"
    seen = []
    rows, note = write_neighbours(
        Index(embeddings),
        out,
        queries=queries,
        query=request,
        progress=lambda stage, done, total, note="": seen.append((done, total)),
    )
    found = pl.read_parquet(out)
    assert (rows, note) == (len(found), "") == (15, "")
    assert found.columns == ["item", "rank", "neighbour", "score"]
    assert seen == [(0, 5), (4, 5), (5, 5)]
    assert found["item"].unique(maintain_order=True).to_list() == [f"i{x}" for x in queries]
    for query, group in itertools.groupby(found.iter_rows(), key=lambda x: x[0]):
        ranks, names, scores = zip(*[x[1:] for x in group], strict=True)
        assert ranks == (1, 2, 3)
        row = int(query[1:])
        assert [int(x[1:]) for x in names] == slow_nearest(embeddings, row, among, 3)
        assert list(scores) == sorted(scores, reverse=True)
    assert [x.name for x in out.parent.iterdir()] == ["neighbours.parquet"]


def test_a_table_without_an_answer_says_why_and_has_its_columns(tmp_path):
    out, nobody = tmp_path / "n.parquet", Query(k=3, library=frozenset(["x"]))
    index = Index(random_embeddings(7, 3))
    rows, note = write_neighbours(index, out, queries=np.arange(7), query=nobody)
    assert rows == 0
    assert "library: 7 are left out" in note
    assert pl.read_parquet(out).columns == ["item", "rank", "neighbour", "score"]


def test_a_refused_table_leaves_the_old_one(tmp_path):
    out = tmp_path / "n.parquet"
    out.write_bytes(b"old")
    index, dial = Index(random_embeddings(7, 3)), Query(long_tail=0.5)
    with pytest.raises(DataError, match="long_tail is 0.5, but this run has no learned order"):
        write_neighbours(index, out, queries=np.arange(7), query=dial)
    assert [x.read_bytes() for x in tmp_path.iterdir()] == [b"old"]
