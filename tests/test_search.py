import itertools

import numpy as np
import polars as pl
import pytest

from undersong import search
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError, UnknownItem


def table(*rows):
    schema = {
        "id": pl.String,
        "name": pl.String,
        "about": pl.String,
        "relations": pl.Int64,
        "popularity": pl.Float64,
    }
    rows = [(item, name, f"about {item}", *rest) for item, name, *rest in rows]
    return pl.DataFrame(rows, schema=schema, orient="row")


ITEMS = table(
    ("1", "Sigur Rós", 4, 50.0),
    ("2", "Beyoncé", 9, 99.0),
    ("3", "Queen", 2, 20.0),
    ("4", "Queen", 8, 90.0),
    ("5", "QUEEN", 0, None),
    ("6", "AC/DC", 3, 80.0),
    ("7", "椎名林檎", 1, 40.0),
    ("8", "!!!", 1, 30.0),
    ("Queen II", "Another", 0, None),
)


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("1", "1"),  # an id
        ("sigur ros", "1"),
        ("  SIGUR  RÓS ", "1"),
        ("Sigur Ro\u0301s", "1"),  # the accent as a character of its own
        ("beyonce", "2"),
        ("ac dc", "6"),
        ("AC-DC", "6"),
        ("椎名林檎", "7"),
        ("!!!", "8"),
        ("Queen II", "Queen II"),
    ],
)
def test_a_name_is_found_however_it_is_typed(query, item):
    assert search.find(ITEMS, query).id == item


def test_of_several_the_best_known_is_taken_and_the_others_are_named():
    match = search.find(ITEMS, "Queen")
    assert (match.id, match.others) == ("4", ("3",))
    match = search.find(ITEMS, "queen")
    assert (match.id, match.others) == ("4", ("3", "5"))


def test_an_unknown_name_says_which_are_like_it():
    with pytest.raises(UnknownItem, match="no item 'Beyonse' among 9; did you mean 'Beyoncé'"):
        search.find(ITEMS, "Beyonse")
    with pytest.raises(UnknownItem, match="no name is like it"):
        search.find(ITEMS, "zzzzzzzzz")


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
    monkeypatch.setattr(search, "BLOCK", block)
    embeddings = random_embeddings(23, 6)
    queries, among = np.array([5, 0, 17, 9, 2]), np.array([1, 2, 3, 5, 8, 13, 21, 22, 9])
    found = list(search.nearest(search.Index(embeddings), queries, among=among, k=k))
    assert np.concatenate([x.rows for x in found]).tolist() == queries.tolist()
    for query, row in zip(queries, np.concatenate([x.neighbours for x in found]), strict=True):
        assert [x for x in row if x >= 0] == slow_nearest(embeddings, query, among, k)


def test_similar_names_its_answers():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    embeddings = Embeddings(("1", "2", "5"), vectors)
    match, found = search.similar(search.Index(embeddings), ITEMS, "sigur ros", k=9)
    assert (match.about, match.relations) == ("about 1", 4)
    assert [
        (x.rank, x.item, x.name, x.about, x.score, x.confidence, x.relations) for x in found
    ] == [
        (1, "2", "Beyoncé", "about 2", 0.8, None, 9),
        (2, "5", "QUEEN", "about 5", 0.0, None, 0),
    ]
    assert search.text(match, found).splitlines() == [
        "Sigur Rós (1): about 1; 4 known relations",
        "   1   0.800  Beyoncé (2)  about 2",
        "   2   0.000  QUEEN (5)    about 5  long tail",
    ]


def test_an_item_of_which_only_the_name_is_known_is_refused():
    embeddings = Embeddings(("1", "2"), np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match=r"nothing is known about 'AC/DC' \(6\) but its name"):
        search.similar(search.Index(embeddings), ITEMS, "ac/dc", k=3)


def test_the_table_of_neighbours_is_complete_and_ordered(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 4)
    embeddings = random_embeddings(23, 6)
    queries, among = np.array([5, 0, 17, 9, 2]), np.arange(11)
    out = tmp_path / "deep" / "neighbours.parquet"
    seen = []
    rows = search.write_neighbours(
        search.Index(embeddings),
        out,
        queries=queries,
        among=among,
        k=3,
        progress=lambda stage, done, total, note="": seen.append((done, total)),
    )
    found = pl.read_parquet(out)
    assert rows == len(found) == 15
    assert found.columns == ["item", "rank", "neighbour", "score"]
    assert seen == [(4, 5), (5, 5)]
    assert found["item"].unique(maintain_order=True).to_list() == [f"i{x}" for x in queries]
    for query, group in itertools.groupby(found.iter_rows(), key=lambda x: x[0]):
        ranks, names, scores = zip(*[x[1:] for x in group], strict=True)
        assert ranks == (1, 2, 3)
        row = int(query[1:])
        assert [int(x[1:]) for x in names] == slow_nearest(embeddings, row, among, 3)
        assert list(scores) == sorted(scores, reverse=True)
    assert [x.name for x in out.parent.iterdir()] == ["neighbours.parquet"]


def test_a_refused_table_leaves_the_old_one(tmp_path):
    out = tmp_path / "n.parquet"
    out.write_bytes(b"old")
    embeddings = random_embeddings(7, 3)
    with pytest.raises(DataError, match="k is 0; ask for 1 neighbour or more"):
        search.write_neighbours(
            search.Index(embeddings), out, queries=np.arange(7), among=np.arange(7), k=0
        )
    assert out.read_bytes() == b"old"


def test_items_without_an_embedding_are_counted():
    embeddings = Embeddings(("1", "2"), np.eye(2, dtype=np.float32))
    chosen = search.select(embeddings, ITEMS, ["2", "6", "2", "1"])
    assert (chosen.rows.tolist(), chosen.without) == ([1, 0], 1)
    assert search.select(embeddings, ITEMS, None).without == 7


def test_ids_that_are_not_in_the_catalogue_are_named():
    embeddings = Embeddings(("1",), np.ones((1, 1), np.float32))
    with pytest.raises(UnknownItem, match="2 of 3 ids are not in the catalogue, first 'Queen I'"):
        search.select(embeddings, ITEMS, ["1", "Queen I", "x"])


def test_ids_are_read_from_text_csv_and_parquet(tmp_path):
    (tmp_path / "a.txt").write_text("007\n\n b c \n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("name,id\nx,007\ny,b c\n", encoding="utf-8")
    pl.DataFrame({"id": ["007", "b c"]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.txt", "a.csv", "a.parquet"):
        assert search.read_ids(tmp_path / name) == ["007", "b c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no id; write one a line"),
        ("a.txt", b"\xff\xfe", "cannot be read as a list of ids"),
        ("a.csv", b"item\n1\n", "has no column 'id'; it has item"),
        ("a.parquet", b"PK", "cannot be read as a list of ids"),
    ],
)
def test_a_bad_list_of_ids_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        search.read_ids(tmp_path / name)
