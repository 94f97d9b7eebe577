import numpy as np
import polars as pl
import pytest

from undersong.catalogue import names
from undersong.embeddings import Embeddings
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
    assert names.Names(ITEMS).find(query)[0].id == item


def test_of_several_the_best_known_is_taken_and_the_others_are_named():
    known = names.Names(ITEMS)
    assert [x.id for x in known.find("Queen")] == ["4", "3"]
    assert [x.id for x in known.find("queen")] == ["4", "3", "5"]


def test_an_unknown_name_says_which_are_like_it():
    with pytest.raises(UnknownItem, match="no item 'Beyonse' among 9; did you mean 'Beyoncé'"):
        names.Names(ITEMS).find("Beyonse")
    with pytest.raises(UnknownItem, match="no name is like it"):
        names.Names(ITEMS).find("zzzzzzzzz")


def test_items_without_an_embedding_are_counted():
    embeddings = Embeddings(("1", "2"), np.eye(2, dtype=np.float32))
    chosen = names.select(embeddings, ITEMS, ["2", "6", "2", "1"])
    assert (chosen.rows.tolist(), chosen.without) == ([1, 0], 1)
    assert names.select(embeddings, ITEMS, None).without == 7


def test_ids_that_are_not_in_the_catalogue_are_named():
    embeddings = Embeddings(("1",), np.ones((1, 1), np.float32))
    with pytest.raises(UnknownItem, match="2 of 3 ids are not in the catalogue, first 'Queen I'"):
        names.select(embeddings, ITEMS, ["1", "Queen I", "x"])


def test_ids_are_read_from_text_csv_and_parquet(tmp_path):
    (tmp_path / "a.txt").write_text("007\n\n b c \n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("name,id\nx,007\ny,b c\n", encoding="utf-8")
    pl.DataFrame({"id": ["007", "b c"]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name.upper()).write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "b.csv").write_text("\ufeffsep=;\nName;ID\nx;007\u200b\ny;b\u00a0c\n")
    (tmp_path / "a.tsv").write_text("Id\tname\n007\tx\nb c\ty\n")
    for name in ("a.txt", "a.csv", "a.parquet", "A.CSV", "A.PARQUET", "b.csv", "a.tsv"):
        assert names.read_ids(tmp_path / name) == ["007", "b c"]


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
        names.read_ids(tmp_path / name)


def test_many_queries_are_found_by_names_kept_ready():
    known = names.Names(ITEMS)
    assert [known.find(x)[0].id for x in ("beyonce", "7", "!!!")] == ["2", "7", "8"]
    assert known.get("3") == names.Item("3", "artist", "Queen", "about 3", 2, 20.0, False)
    with pytest.raises(UnknownItem, match="no artist has the id '33'; search by name to find"):
        known.get("33")
    with pytest.raises(UnknownItem, match="7 is no id or name, which are text; write '7'"):
        known.find(7)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("The Ulveikløv Harbour", "the ulveiklov harbour"),
        ("Łódź", "lodz"),
        ("Æther & Þórr", "aether thorr"),
        ("Straße", "strasse"),
    ],
)
def test_letters_that_are_no_accents_are_typed_plainly(name, typed):
    assert names.fold(name) == typed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ハル", "バル"),
        ("バル", "パル"),
        ("राजा", "राजू"),
        ("กี", "กู"),
        ("কবি", "কবে"),
        ("й", "и"),
        ("Її", "Іі"),
    ],
)
def test_marks_that_are_letters_tell_names_apart_in_searching_too(one, other):
    assert names.fold(one) != names.fold(other)
    assert names.name_key(one) != names.name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("MØ", "Mo"), ("+44", "44"), ("Año", "Ano"), ("-M-", "M"), ("Ёлка", "Елка"), ("Zoë", "Zoe")],
)
def test_a_key_to_search_by_is_no_identity(one, other):
    assert names.fold(one) == names.fold(other)
    assert names.name_key(one) != names.name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoë", " ZOE\u0308 "),
        ("Guns N\u2019 Roses", "guns n' roses"),
        ("AC/DC", "AC DC"),
        ("Jay\u2013Z", "Jay-Z"),
        ("Jay Z", "jay-z"),
        ("ガ", "カ\u3099"),
        ("Moon\u200b", "moon"),
    ],
)
def test_ways_to_write_one_name_have_one_key(one, other):
    assert names.name_key(one) == names.name_key(other)


TYPED = table(
    ("mo", "Mo", 9, 90.0), ("mø", "MØ", 1, 10.0), ("haru", "ハル", 9, 80.0),
    ("baru", "バル", 2, 5.0), ("44", "44", 8, 70.0), ("plus", "+44", 1, 7.0),
    ("311", "Nobody Else", 3, 2.0),
    ("band", "311", 5, 60.0), ("other", "311", 6, 65.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("MØ", ["mø"]),
        ("Mø", ["mø", "mo"]),
        ("バル", ["baru"]),
        ("+44", ["plus"]),
        ("311", ["311", "other", "band"]),
    ],
)
def test_who_is_spelt_so_comes_first_and_an_id_mentions_who_is_called_so(typed, ids):
    assert [x.id for x in names.Names(TYPED).find(typed)] == ids


@pytest.mark.parametrize(
    ("typed", "ids"),
    [("MØ", ["mø", "mo"]), ("mo", ["mo", "mø"]), ("+44", ["plus", "44"]), ("バル", ["baru"])],
)
def test_what_is_typed_letter_by_letter_is_suggested_first(typed, ids):
    assert [x.id for x in names.suggest([names.Names(TYPED)], typed, limit=9)] == ids
