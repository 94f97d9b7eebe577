import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from undersong import relations
from undersong.catalogue import tables, tables as catalogue_plays
from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue, Field
from undersong.errors import ArtifactError, DataError
from undersong.relations import colistening, similarity


def catalogue(*, pairs=(), plays=(), **fields):
    ids = "abcdefg"
    columns = {"id": list(ids), "name": [None] * 7, "split": [None] * 7}
    schema = dict(ITEMS["artist"])
    known = []
    for name, (kind, role, values) in fields.items():
        columns[name] = values
        schema[name] = {
            "category": pl.String(),
            "tags": pl.List(pl.String()),
            "number": pl.Float64(),
        }[kind]
        known.append(Field(name, "artist", kind, role))
    return Catalogue(
        artists=pl.DataFrame(columns, schema=schema),
        relations=pl.DataFrame(
            [("artist", a, b, "s") for a, b in pairs], schema=RELATIONS, orient="row"
        ),
        plays=pl.LazyFrame([("artist", *x) for x in plays], schema=PLAYS, orient="row"),
        fields=tuple(known),
    )


def test_known_relations_are_symmetric_and_not_closed():
    found = relations.known(catalogue(pairs=["ab", "bc"]), "artist").toarray()
    expected = np.zeros((7, 7), bool)
    for i, j in [(0, 1), (1, 2)]:
        expected[i, j] = expected[j, i] = True
    assert (found == expected).all()  # a and c are not related


def test_a_relation_with_one_hidden_end_is_hidden():
    visible = np.array([True, True, False, True, True, True, True])
    found = relations.known(catalogue(pairs=["ab", "bc", "cd"]), "artist", visible)
    assert found.nnz == 2
    assert found[0, 1]
    assert found[1, 0]


def test_relations_to_test_items_are_no_answers_of_validation():
    parts = np.array(["train", "validation", "test", "validation", "train", "train", "test"])
    queries, truth = relations.held_out(catalogue(pairs=["ab", "bc", "cd"]), "artist", parts)
    assert queries.tolist() == [1]
    assert np.argwhere(truth.toarray()).tolist() == [[0, 1], [1, 0]]


def test_a_validation_split_without_relations_is_named():
    parts = np.array(["train"] * 5 + ["validation"] * 2)
    with pytest.raises(DataError, match="none of the 2 validation artists has a relation"):
        relations.held_out(catalogue(pairs=["ab"]), "artist", parts)


def test_of_very_many_validation_items_some_ask_always_the_same(monkeypatch):
    known = catalogue(pairs=["ab", "bc", "cd", "de"])
    parts = np.array(["validation"] * 2 + ["train"] + ["validation"] * 3 + ["train"])
    everybody, truth = relations.held_out(known, "artist", parts)
    monkeypatch.setattr(similarity, "ASKING", 2)
    some, same = relations.held_out(known, "artist", parts)
    assert len(everybody) == 4
    assert len(set(some) & set(everybody)) == 2
    assert (some == relations.held_out(known, "artist", parts)[0]).all()
    assert (truth != same).nnz == 0


def test_among_some_items_everything_right_can_still_be_found():
    generator = np.random.default_rng(8)
    dense = np.triu(generator.random((97, 97)) < 0.03, 1)
    truth = sparse.csr_matrix(dense | dense.T)
    queries = np.array([3, 11, 12, 60])
    rows, asked, kept = relations.among_some(queries, truth, most=41)
    assert len(rows) == 41
    assert (rows[asked] == queries).all()
    for query, place in zip(queries, asked, strict=True):
        assert set(rows[kept[place].indices]) == set(truth[query].indices)
    assert (rows == relations.among_some(queries, truth, most=41)[0]).all()
    rows, asked, kept = relations.among_some(queries, truth, most=97)
    assert (rows == np.arange(97)).all()
    assert (asked == queries).all()
    assert (kept != truth).nnz == 0
    needed = len(set(queries) | set(truth[queries].indices))
    assert len(relations.among_some(queries, truth, most=5)[0]) == needed > 5


def test_items_at_one_remove_are_those_that_two_steps_reach_most():
    # a-b, b-c, b-d, c-e, d-e: from a two steps reach c and d; from b they reach e by two ways
    related = relations.known(catalogue(pairs=["ab", "bc", "bd", "ce", "de"]), "artist")
    assert related_pairs(relations.at_one_remove(related, top=9)) == {"ac", "ad", "be", "cd"}
    # alone, d takes c, by b and by e; a takes the first of two alike
    assert related_pairs(relations.at_one_remove(related, top=1)) == {"ac", "be", "cd"}
    assert relations.at_one_remove(related, top=0).nnz == 0


@pytest.mark.parametrize("block", [4, 23])
def test_items_at_one_remove_equal_the_slow_walk(monkeypatch, block):
    monkeypatch.setattr(similarity, "WALKS", block)
    generator = np.random.default_rng(6)
    dense = np.triu(generator.random((19, 19)) < 0.2, 1)
    dense |= dense.T
    walk = dense / np.maximum(dense.sum(axis=1, keepdims=True), 1)
    two = walk @ walk
    two[dense | np.eye(19, dtype=bool)] = 0
    expected = np.zeros((19, 19), dtype=bool)
    for row in range(19):
        for column in sorted(np.flatnonzero(two[row]), key=lambda j: (-two[row, j], j))[:3]:
            expected[row, column] = expected[column, row] = True
    steps = []
    found = relations.at_one_remove(
        sparse.csr_matrix(dense), top=3, progress=lambda *step: steps.append(step)
    )
    assert steps[-1][1] == steps[-1][2] > 0
    assert (found.toarray() == expected).mean() > 0.98  # equal but for ties of rounding


def test_tracks_relate_within_an_artist_and_among_similar_artists():
    similar = relations.known(catalogue(pairs=["ab"]), "artist")
    artist = np.array([0, 0, 1, 2, 2])  # c, long tail, has tracks 3 and 4
    found = relations.same_or_similar_artist(artist, similar).toarray()
    for i in range(5):
        for j in range(5):
            same = artist[i] == artist[j] or {artist[i], artist[j]} == {0, 1}
            assert found[i, j] == (same and i != j)


# shared users: a-b 3, a-c 2, b-c 2, a-d 1, b-d 1, c-d 1
PLAYS_OF = [("1", "a", 2.0), ("1", "b", 1.0), ("1", "c", 5.0), ("1", "d", 1.0)]
PLAYS_OF += [("2", "a", 1.0), ("2", "b", 1.0), ("2", "c", 1.0), ("3", "a", 9.0), ("3", "b", 9.0)]


def related_pairs(matrix):
    return {"abcdefg"[i] + "abcdefg"[j] for i, j in np.argwhere(matrix.toarray()) if i < j}


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize(
    ("threshold", "top", "expected"),
    [
        (2, 0, {"ab", "ac", "bc"}),  # by threshold
        (3, 0, {"ab"}),
        (1, 1, {"ab", "ac", "cd"}),  # by top K: d takes c, which fewer users know; union
        (2, 1, {"ab", "ac"}),  # both: d shares too few users with anybody
    ],
)
def test_users_define_similarity_in_three_ways(threshold, top, expected, block):
    plays = relations.listeners(catalogue(plays=PLAYS_OF), "artist")
    found = relations.shared_listeners(plays, threshold=threshold, top=top, block=block)
    assert related_pairs(found) == expected
    assert (found != found.T).nnz == 0


def test_r_u_by_degrees_joins_the_threshold_and_the_closest():
    heard = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]])
    plays = sparse.csr_matrix(3.0 * heard)
    related = relations.shared_listeners(plays, threshold=1, top=2)
    scores = relations.listening_scores(related, plays, threshold=2).toarray()
    users, shared = heard.sum(axis=0), heard.T @ heard
    cosine = np.where(related.toarray(), shared / np.sqrt(np.outer(users, users)), 0)
    highest = cosine.max(axis=1)
    expected = cosine / np.minimum(highest[:, None], highest) * shared / (shared + 2)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert 0 < scores[0, 3] < scores[0, 1] == pytest.approx(3 / 5)


SOURCES = {"good": 1.0, "half": 0.5, "noise": 0.0}


def sourced(*, genres=6, size=30, seed=3):
    """Items of some genres, related within theirs; of one source half is true, of another none."""
    generator = np.random.default_rng(seed)
    n = genres * size
    genre, ids = np.arange(n) % genres, [f"i{x:03}" for x in range(n)]
    pairs = []
    for name, true in SOURCES.items():
        for a in np.repeat(np.arange(n), 3):
            right = generator.random() < true
            b = generator.choice(np.flatnonzero(genre == genre[a]) if right else n)
            if a != b:
                pairs.append(("artist", ids[min(a, b)], ids[max(a, b)], name))
    artists = pl.DataFrame(
        {"id": ids, "name": ids, "split": [None] * n, "genre": [f"g{x}" for x in genre]},
        schema=ITEMS["artist"] | {"genre": pl.String},
    )
    table = pl.DataFrame(pairs, schema=RELATIONS, orient="row").unique(maintain_order=True)
    return Catalogue(
        artists=artists, relations=table, fields=(Field("genre", "artist", "category", "genre"),)
    )


def test_a_source_is_as_reliable_as_its_pairs_agree_beyond_chance():
    world = sourced()
    task = relations.Task(world, "artist", np.full(180, "train"))
    learned = relations.reliability(task, "learned")
    assert learned == pytest.approx(SOURCES, abs=0.1)
    assert relations.reliability(task, "equal") == dict.fromkeys(SOURCES, 1.0)
    given = relations.reliability(task, "half 0.4, noise 0")
    assert given == {"good": 1.0, "half": 0.4, "noise": 0.0}
    with pytest.raises(DataError, match=r"names the source 'nose', which no .* mean 'noise'\?"):
        relations.reliability(task, "nose 0.4")
    compared = relations.relation_sources(world, "artist")
    assert [x.name for x in compared] == list(SOURCES)
    good, _, noise = (x.confirmed / x.both_known for x in compared)
    assert good > 2 * noise
    assert relations.relation_sources(catalogue(pairs=["ab"]), "artist") == ()


def test_no_relation_of_an_item_that_is_not_for_training_says_how_reliable_a_source_is():
    world, parts = sourced(), np.where(np.arange(180) % 4, "train", "validation")
    ids = pl.Series(world.ids("artist")).filter(pl.Series(parts == "train")).implode()
    trained = world.relations.filter(pl.col("a").is_in(ids), pl.col("b").is_in(ids))
    alone = Catalogue(artists=world.artists, relations=trained, fields=world.fields)
    one, two = (
        relations.reliability(relations.Task(x, "artist", parts), "learned") for x in (world, alone)
    )
    assert one == two


def test_a_pair_of_several_sources_is_as_likely_right_as_any_of_them():
    known = catalogue(pairs=["ab", "ab", "bc", "cd"])
    sources = pl.Series("source", ["s", "t", "t", None])
    known = dataclasses.replace(known, relations=known.relations.with_columns(sources))
    parts = np.array(["train"] * 3 + ["test"] + ["train"] * 3)
    weights = relations.weighed(
        relations.Task(known, "artist", parts), {"s": 0.5, "t": 0.4, "": 1.0}
    ).toarray()
    expected = np.zeros((7, 7))
    expected[0, 1] = expected[1, 0] = 0.7
    expected[1, 2] = expected[2, 1] = 0.4
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_plays_read_block_by_block_are_those_of_the_whole_table(monkeypatch):
    said = [("u", "a", 2.0), ("v", "c", 5.0), ("u", "a", 1.5), ("w", "e", 0.0), ("t", "b", 3.0)]
    known = catalogue(plays=[*said, ("v", "a", 7.0), ("s", "strange", 4.0)])
    whole = relations.listeners(known, "artist").toarray()
    monkeypatch.setattr(catalogue_plays, "AT_ONCE", 2)
    by_blocks = relations.listeners(known, "artist")
    assert (by_blocks.toarray() == whole).all()
    assert whole.shape == (4, 7)  # s, t, u, v: nobody plays less than something
    assert whole[2].tolist() == [3.5, 0, 0, 0, 0, 0, 0]
    assert whole[3].tolist() == [7, 0, 5, 0, 0, 0, 0]
    assert relations.listeners(catalogue(), "artist").shape == (0, 7)


def test_plays_that_another_import_replaced_are_said_to_be_gone(tmp_path):
    tables.write_catalogue(catalogue(plays=PLAYS_OF), tmp_path)
    opened = tables.read_catalogue(tmp_path)
    assert relations.listeners(opened, "artist").nnz == len(PLAYS_OF)
    tables.write_catalogue(catalogue(plays=PLAYS_OF), tmp_path)
    with pytest.raises(ArtifactError, match="any more .*plays.parquet.*; was it imported again"):
        relations.listeners(opened, "artist")


def test_an_item_that_nobody_plays_has_no_listeners():
    plays = relations.listeners(catalogue(plays=PLAYS_OF), "artist")
    assert plays.shape == (3, 7)
    assert plays.getnnz(axis=0).tolist() == [3, 3, 2, 1, 0, 0, 0]
    assert plays[0].toarray().ravel().tolist() == [2, 1, 5, 1, 0, 0, 0]


def test_popularity_is_cut_at_quantiles_of_the_training_items():
    train = np.array([True] * 5 + [False] * 2)
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 500.0, None]
    c = catalogue(fame=("number", "popularity", values))
    assert relations.meta_codes(c, "artist", train).ravel().tolist() == [0, 1, 2, 3, 4, 4, -1]


def test_the_first_tag_is_the_genre():
    tags = [["x", "y"], ["x"], ["y", "x"], [], None, ["z"], ["y"]]
    c = catalogue(tags=("tags", "genre", tags))
    codes = relations.meta_codes(c, "artist", np.ones(7, bool)).ravel()
    assert codes.tolist() == [0, 0, 1, -1, -1, 2, 1]


def test_meta_consistency_equals_pair_by_pair():
    generator = np.random.default_rng(3)
    codes = generator.integers(-1, 2, size=(17, 3)).astype(np.int32)
    agree, differ = relations.meta_consistent(codes)
    for i in range(17):
        for j in range(17):
            fields = list(zip(codes[i], codes[j], strict=True))
            known = [a == b for a, b in fields if a >= 0 and b >= 0]
            assert agree[i, j] == (i != j and len(known) == 3 and all(known))
            assert differ[i, j] == (not all(known))


def test_without_metadata_every_pair_is_unknown():
    codes = relations.meta_codes(catalogue(), "artist", np.ones(7, bool))
    agree, differ = relations.meta_consistent(codes)
    assert codes.shape == (7, 0)
    assert not agree.any()
    assert not differ.any()


def test_a_block_takes_rows_in_the_asked_order():
    matrix = sparse.csr_matrix(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool))
    assert relations.block(matrix, [2, 1]).tolist() == [[False, True], [True, False]]


def test_agreement_by_degrees_counts_the_fields_that_both_items_have():
    codes = np.array([[0, 1, 2], [0, 1, 3], [0, -1, 2], [-1, -1, -1], [4, 5, 6]], dtype=np.int32)
    share, compared = relations.meta_agreement(codes)
    assert share[0, 1] == pytest.approx(2 / 3)
    assert share[0, 2] == share[2, 0] == 1
    assert share[1, 2] == 0.5
    assert share[0, 4] == 0
    assert compared[0, 4]
    assert not compared[3].any()
    assert not compared.diagonal().any()
    assert not share.diagonal().any()


@pytest.mark.parametrize("sparse_below", [0, 10**6])  # all by sorting; all in a row of counts
@pytest.mark.parametrize("popular", [0, 3, 5000])
@pytest.mark.parametrize(("threshold", "top"), [(1, 4), (1, 2), (2, 0), (2, 3)])
def test_popular_items_counted_apart_are_related_as_all_others(
    monkeypatch, popular, threshold, top, sparse_below
):
    monkeypatch.setattr(colistening, "POPULAR", popular)
    monkeypatch.setattr(colistening, "USERS_AT_ONCE", 11)
    monkeypatch.setattr(colistening, "SPARSE", sparse_below)
    generator = np.random.default_rng(0)
    heard = generator.random((67, 29)) < np.linspace(0.02, 0.6, 29)
    users = heard.sum(axis=0)
    expected = np.zeros((29, 29), dtype=bool)
    for i in range(29):
        shared = [(heard[:, i] & heard[:, j]).sum() for j in range(29)]
        weight = np.float32(shared) * (1 / np.sqrt(np.maximum(users, 1).astype(np.float32)))
        close = [j for j in np.argsort(-weight, kind="stable") if j != i and shared[j] >= threshold]
        expected[i, close[: top or None]] = True
    found = relations.shared_listeners(
        sparse.csr_matrix(heard.astype(np.float32)), threshold=threshold, top=top, block=7
    )
    assert (found.toarray() == (expected | expected.T)).all()
