import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from undersong import relations
from undersong.catalogue.tables import PLAYS, RELATIONS, Catalogue, Field
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError
from undersong.evaluation.baselines import classical, network
from undersong.evaluation.method import from_embeddings, from_vectors
from undersong.features import Modality, weigh
from undersong.relations import Task
from undersong.training import Schedule

IDS = ("a", "b", "c", "d", "e", "f", "g")
EVERY = np.arange(7)


def catalogue(*, pairs=(), heard=(), **columns):
    artists = pl.DataFrame({"id": IDS, "name": IDS, "split": [None] * 7, **columns})
    return Catalogue(
        artists=artists.with_columns(pl.col("split").cast(pl.String)),
        plays=pl.LazyFrame([("artist", *x) for x in heard], schema=PLAYS, orient="row"),
        relations=pl.DataFrame(
            [("artist", a, b, "s") for a, b in pairs], schema=RELATIONS, orient="row"
        ),
        fields=(
            Field("genre", "artist", "tags", "genre"),
            Field("fame", "artist", "number", "popularity"),
            Field("secret", "artist", "category", "", withheld=True),
        ),
    )


def test_an_item_without_a_vector_is_last_for_others_and_has_no_idea_itself():
    found = Embeddings(("b", "a", "g"), np.array([[3, 0], [0, 2], [4, 3]], dtype=np.float32))
    scores = from_embeddings("x", found, IDS).scores(np.array([6, 1, 3]))
    assert scores[0, [0, 1, 6]] == pytest.approx([0.6, 0.8, 1])
    assert np.isneginf(scores[:2, 2:6]).all()
    assert scores[2].tolist() == [0] * 7


def test_sparse_and_dense_vectors_score_alike():
    generator = np.random.default_rng(0)
    dense = generator.random((7, 5)).astype(np.float32) * (generator.random((7, 5)) < 0.5)
    dense[3] = 0
    missing = np.arange(7) == 5
    both = [from_vectors("x", v, missing=missing) for v in (dense, sparse.csr_matrix(dense))]
    np.testing.assert_allclose(both[0].scores(EVERY), both[1].scores(EVERY), atol=1e-6)
    assert np.isneginf(both[0].scores(EVERY)[0, [3, 5]]).all()


def test_chance_does_not_depend_on_the_block():
    method = classical.random(13, seed=4)
    whole = method.scores(np.arange(9))
    np.testing.assert_array_equal(whole[[2, 7]], method.scores(np.array([2, 7])))
    assert len(np.unique(whole)) == whole.size


def test_popularity_takes_the_field_then_plays_then_relations_of_training_items():
    splits = np.where(np.arange(7) < 5, "train", "test")
    heard = [("u", "b", 4.0), ("v", "b", 1.0), ("u", "g", 9.0)]
    pairs = [("a", "b"), ("a", "c"), ("a", "f"), ("f", "g")]
    full = catalogue(pairs=pairs, heard=heard, fame=[1.0, None, 3.0, 2.0, 0.5, 7.0, 1.0])
    values, measure = classical.item_popularity(Task(full, "artist", splits))
    assert values.tolist() == [1, -np.inf, 3, 2, 0.5, 7, 1]
    assert measure == "by fame"
    by_plays = catalogue(pairs=pairs, heard=heard)
    values, measure = classical.item_popularity(Task(by_plays, "artist", splits))
    assert values.tolist() == [0, 5, 0, 0, 0, 0, 9]
    assert measure == "by number of plays"
    values, measure = classical.item_popularity(Task(catalogue(pairs=pairs), "artist", splits))
    assert values.tolist() == [2, 1, 1, 0, 0, 0, 0]
    assert measure == "by number of relations among training items"
    method = classical.popularity(Task(catalogue(pairs=pairs), "artist", splits))
    assert method.scores(np.array([5, 1])).tolist() == [values.tolist()] * 2


def test_tags_weigh_rare_words_more_and_never_read_withheld_fields():
    genre = [["rock", "odd"], ["rock"], ["odd"], ["rock"], None, [], ["rock", "rock"]]
    found = catalogue(genre=genre, fame=[None] * 7, secret=["x"] * 7)
    rock, odd = np.log(7 / 4) + 1, np.log(7 / 2) + 1
    scores = classical.tags(found, "artist").scores(EVERY)
    assert scores[0, 1] == pytest.approx(rock / np.hypot(rock, odd))
    assert scores[0, 2] == pytest.approx(odd / np.hypot(rock, odd))
    assert scores[6, 1] == pytest.approx(1)
    assert np.isneginf(scores[0, [4, 5]]).all()
    assert scores[4].tolist() == [0] * 7


def test_latent_tags_are_compared_in_the_strongest_singular_directions():
    genre = [["rock", "odd"], ["rock"], ["odd", "far"], ["rock", "far"], None, ["low"], ["low"]]
    found = catalogue(genre=genre, fame=[None] * 7, secret=["x"] * 7)
    weight = {x: np.log(7 / n) + 1 for x, n in (("rock", 3), ("odd", 2), ("far", 2), ("low", 2))}
    words = np.array([[(x in (tags or ())) * y for x, y in weight.items()] for tags in genre])
    words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-9)
    rows, values, _ = np.linalg.svd(words, full_matrices=False)
    wanted = unit((rows[:, :2] * values[:2]).astype(np.float32))
    scores = classical.latent_tags(found, "artist", width=2).scores(EVERY)
    seen = [0, 1, 2, 3, 5, 6]
    np.testing.assert_allclose(scores[seen][:, seen], (wanted @ wanted.T)[seen][:, seen], atol=1e-5)
    assert np.isneginf(scores[0, 4])


@pytest.mark.parametrize("method", [classical.tags, classical.latent_tags])
def test_tags_need_a_field(method):
    with pytest.raises(DataError, match="artists have no tags or category field"):
        method(Catalogue(artists=catalogue().artists, fields=()), "artist")


def test_sources_lie_side_by_side_weighed_by_how_little_random_pairs_agree():
    generator = np.random.default_rng(2)
    one = unit(generator.normal(size=(7, 3)).astype(np.float32))
    two = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 2, 2]]
    two[6] = 0
    missing = [np.zeros(7, dtype=bool), np.arange(7) == 6]
    sources = [
        Modality("one", one, missing[0]),
        Modality("two", sparse.csr_matrix(two), missing[1]),
    ]
    laid = []
    for values, absent in zip((one, two), missing, strict=True):
        cosine = (values @ values.T)[~absent][:, ~absent]
        laid.append(values / cosine[~np.eye(len(cosine), dtype=bool)].std())
    wanted = unit(np.hstack(laid))
    scores = classical.concatenation(weigh(sources)).scores(EVERY)
    np.testing.assert_allclose(scores, wanted @ wanted.T, atol=0.03)
    plain = unit(np.hstack([one, two]))
    assert abs(wanted @ wanted.T - plain @ plain.T).max() > 0.1


def test_a_source_that_says_the_same_of_all_items_has_no_weight():
    same = Modality("same", np.ones((7, 1), dtype=np.float32), np.zeros(7, dtype=bool))
    none = Modality("none", np.zeros((7, 2), dtype=np.float32), np.ones(7, dtype=bool))
    axes = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3, 3, 3]]
    axes[5:] = 0
    axes = Modality("axes", axes, np.arange(7) > 4)
    scores = classical.concatenation(weigh([same, axes, none])).scores(EVERY)
    assert scores[0, :5].tolist() == [1, 1, 0, 0, 0]
    assert np.isneginf(scores[0, 5:]).all()
    with pytest.raises(DataError, match="no source to compare items by"):
        classical.concatenation([])


def listening_in_two_groups():
    """Users 0-8 hear a, b, c and users 9-19 hear d, e, f; nobody hears g."""
    generator = np.random.default_rng(3)
    groups = [("a", "b", "c")] * 9 + [("d", "e", "f")] * 11
    return [
        (f"u{user}", item, float(generator.integers(1, 50)))
        for user, items in enumerate(groups)
        for item in generator.permutation(items)[:2]
    ]


def test_co_listening_is_the_cosine_of_log_plays():
    heard = [("u", "a", 3.0), ("v", "a", 1.0), ("u", "b", 7.0), ("w", "c", 2.0)]
    scores = classical.co_listening(catalogue(heard=heard), "artist").scores(EVERY)
    assert scores[0, 1] == pytest.approx(np.log(4) / np.hypot(np.log(4), np.log(2)))
    assert scores[0, 2] == 0
    assert np.isneginf(scores[0, 3:]).all()


def test_user_based_is_the_cosine_of_what_the_users_most_alike_predict(monkeypatch):
    monkeypatch.setattr(classical, "USERS", 6)
    heard = listening_in_two_groups() + [("u3", "e", 5.0), ("u12", "b", 2.0)]
    world = catalogue(heard=heard)
    users = sorted({x[0] for x in heard})
    plays = np.zeros((len(users), 7))
    for user, item, count in heard:
        plays[users.index(user), IDS.index(item)] = np.log1p(count)
    predicted = np.zeros_like(plays)
    for one in range(len(users)):
        length = [np.linalg.norm(plays[x]) * np.linalg.norm(plays[one]) for x in range(len(users))]
        alike = [plays[one] @ plays[x] / length[x] for x in range(len(users))]
        alike[one] = 1.0
        least = sorted(alike, reverse=True)[4]  # itself and 4 others, more where they are equal
        for other in range(len(users)):
            predicted[one] += plays[other] * alike[other] * (alike[other] >= least)
    scores = classical.user_based(world, "artist", neighbours=4).scores(EVERY)
    for a in range(6):
        for b in range(6):
            length = np.linalg.norm(predicted[:, a]) * np.linalg.norm(predicted[:, b])
            expected = predicted[:, a] @ predicted[:, b] / length
            assert scores[a, b] == pytest.approx(expected, abs=1e-5)
    assert np.isneginf(scores[0, 6])
    few = classical.user_based(world, "artist", neighbours=4, most=11).scores(EVERY)
    assert np.isfinite(few[:6, :6]).all()
    assert abs(few[:6, :6] - scores[:6, :6]).max() > 0.01


def test_als_finds_the_groups_and_is_the_same_twice():
    world = catalogue(heard=listening_in_two_groups())
    scores = classical.als(world, "artist", seed=5, factors=2).scores(EVERY)
    for item in range(6):
        others = np.delete(np.arange(6), item)
        near = others[np.argsort(-scores[item, others])[:2]]
        assert set(near // 3) == {item // 3}
    assert np.isneginf(scores[0, 6])
    again = classical.als(world, "artist", seed=5, factors=2).scores(EVERY)
    np.testing.assert_array_equal(scores, again)


@pytest.mark.parametrize(
    "method",
    [
        classical.co_listening,
        classical.user_based,
        lambda c, k: classical.als(c, k, seed=0),
    ],
)
def test_baselines_of_plays_need_plays(method):
    with pytest.raises(DataError, match="no plays of artists; leave the baselines of plays out"):
        method(catalogue(), "artist")


def test_only_edges_that_touch_training_are_visible_and_none_of_the_other_part():
    parts = np.array(["train", "train", "train", "test", "test", "validation", "validation"])
    pairs = [("a", "b"), ("a", "d"), ("d", "e"), ("d", "f"), ("b", "f"), ("f", "g")]
    world = catalogue(pairs=pairs)
    wanted = {"test": {(0, 1), (0, 3)}, "validation": {(0, 1), (1, 5)}}
    for part, edges in wanted.items():
        found = classical.visible_edges(Task(world, "artist", parts), part).tocoo()
        assert {(a, b) for a, b in zip(found.row, found.col, strict=True) if a < b} == edges
        assert found.nnz == 2 * len(edges)


PAIRS = [("a", "b"), ("b", "c"), ("a", "d"), ("d", "c"), ("d", "e"), ("c", "f")]


def test_pagerank_is_where_the_walk_ends_up():
    edges = relations.known(catalogue(pairs=PAIRS), "artist")
    walk = edges.toarray() / np.maximum(edges.toarray().sum(axis=1, keepdims=True), 1)
    ended = 0.4 * np.linalg.inv(np.eye(7) - 0.6 * walk)  # row q: a walk that starts at q
    scores = classical.personalised_pagerank(edges, restart=0.4, steps=60).scores(EVERY)
    np.testing.assert_allclose(scores[:6], ended[:6], atol=1e-6)
    assert scores[6, :6].tolist() == [0] * 6


def test_adamic_adar_sums_over_common_relations():
    edges = relations.known(catalogue(pairs=PAIRS), "artist").toarray()
    degree = edges.sum(axis=1)
    scores = classical.adamic_adar(sparse.csr_matrix(edges)).scores(np.array([0, 6, 4]))
    for row, query in enumerate((0, 6, 4)):
        for other in set(range(7)) - {query}:
            common = np.flatnonzero(edges[query] & edges[other])
            assert scores[row, other] == pytest.approx(sum(1 / np.log(degree[x]) for x in common))


def test_common_neighbours_are_counted():
    edges = relations.known(catalogue(pairs=[*PAIRS, ("b", "d")]), "artist").toarray()
    scores = classical.common_neighbours(sparse.csr_matrix(edges)).scores(np.array([2, 6, 0]))
    for row, query in enumerate((2, 6, 0)):
        for other in set(range(7)) - {query}:
            assert scores[row, other] == (edges[query] & edges[other]).sum()
    assert scores[0, 0] == 2


def test_the_network_learns_groups_that_the_untrained_sources_hide():
    """Group is one weak column among loud noise; relations of training items reveal it."""
    n, groups = 240, 4
    generator = np.random.default_rng(7)
    group = generator.permutation(n) % groups
    noise = generator.normal(size=(n, 10)).astype(np.float32)
    values = unit(np.hstack([noise, 0.9 * np.eye(groups, dtype=np.float32)[group]]))
    sources = [Modality("all", values, np.zeros(n, dtype=bool))]
    truth = sparse.csr_matrix((group[:, None] == group) & ~np.eye(n, dtype=bool))
    train = np.arange(n) < 180
    few = np.triu(generator.random((n, n)) < 0.1)
    visible = truth.multiply(train[:, None] & train[None, :] & (few | few.T)).astype(bool).tocsr()
    settings = network.NetworkSettings(
        hidden=32,
        width=8,
        anchors=60,
        schedule=Schedule(steps=80, validate_every=40, learning_rate=0.02),
    )
    about = {"queries": np.arange(180, 210), "truth": truth, "seed": 0, "settings": settings}
    learnt = [learn(sources, visible, **about) for learn in (network.mlp, network.gravity)]
    unseen = np.arange(210, n)
    shares = []
    for method in (classical.concatenation(sources), *learnt):
        scores = method.scores(unseen)
        scores[np.arange(len(unseen)), unseen] = -np.inf
        near = np.argsort(-scores, axis=1)[:, :10]
        shares.append((group[near] == group[unseen][:, None]).mean())
    assert shares[1] > 0.9 > shares[0] + 0.2
    assert shares[2] > shares[0] + 0.05  # a newcomer has no neighbours to be smoothed by


def test_gravity_orders_by_mass_and_distance(monkeypatch):
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(7, 6)).astype(np.float32)
    monkeypatch.setattr(network, "_learn", lambda *_, **__: vectors)
    values = np.eye(7, 3, dtype=np.float32)
    sources = [Modality("one", values, ~values.any(axis=1))]
    edges = relations.known(catalogue(pairs=[("a", "b"), ("d", "c")]), "artist")
    method = network.gravity(sources, edges, queries=EVERY[:2], truth=edges, seed=0, pull=1.7)
    scores = method.scores(np.array([1, 6]))
    # d knows nothing of itself and something of c; e, f and g know nothing at all.
    assert np.isfinite(scores[0, :4]).all()
    assert np.isneginf(scores[0, 4:]).all()
    assert not scores[1, :4].any()
    gap = np.square(vectors[1, :5] - vectors[:4, :5]).sum(axis=1) + network._NEAREST
    assert (
        np.argsort(scores[0, :4]).tolist()
        == np.argsort(vectors[:4, 5] - 1.7 * np.log(gap)).tolist()
    )


def test_attraction_costs_the_cross_entropy_of_both_directions():
    torch.manual_seed(0)
    vectors = torch.randn(7, 4, dtype=torch.float64)
    related = torch.rand(7, 7) < 0.3
    related.fill_diagonal_(False)
    costs = {True: [], False: []}
    for i in range(7):
        for j in range(7):
            if i != j:
                gap = sum((vectors[i, x] - vectors[j, x]).item() ** 2 for x in range(3))
                liking = vectors[j, 3].item() - 1.3 * math.log(gap + network._NEAREST)
                sign = 1 if related[i, j] else -1
                costs[related[i, j].item()].append(math.log1p(math.exp(-sign * liking)))
    expected = sum(sum(x) / len(x) for x in costs.values()) / 2
    loss = network.attraction_loss(vectors.requires_grad_(), related, pull=1.3)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert vectors.grad.isfinite().all()


def test_the_network_needs_a_relation_to_learn_from():
    sources = [Modality("one", np.eye(7, 3, dtype=np.float32), np.zeros(7, dtype=bool))]
    none = sparse.csr_matrix((7, 7), dtype=bool)
    with pytest.raises(DataError, match="no training item has a relation"):
        network.mlp(sources, none, queries=EVERY[:2], truth=none, seed=0)
