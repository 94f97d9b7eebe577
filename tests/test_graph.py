import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import sparse

from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.foldin.added import behind_graph
from undersong.models.graph.network import (
    GraphModel,
    GraphSettings,
    SageLayer,
    connect,
    hide,
    list_pairs,
    mean_of_neighbours,
    neighbourhood,
    with_duplicates,
)
from undersong.models.graph.training import (
    draw_negatives,
    embed_by,
    embed_graph,
    leaving,
    load_graph,
    log_rarity,
    random_vectors,
    save_graph,
    triplet,
)
from undersong.training import Compute, Schedule


def ring_with_chords(n=23, alone=(4, 22), seed=0):
    """Symmetric edges among n items, without those in ``alone``."""
    generator = np.random.default_rng(seed)
    dense = generator.random((n, n)) < 0.15
    dense |= np.roll(np.eye(n, dtype=bool), 1, axis=1)
    dense |= dense.T
    dense[list(alone)] = dense[:, list(alone)] = False
    np.fill_diagonal(dense, False)
    return sparse.csr_matrix(dense)


def planted(*, groups=5, size=48, seed=3):
    """Groups to be found: edges of training items, edges to ask with, validation rows, answers."""
    generator = np.random.default_rng(seed)
    n = groups * size
    group = generator.permutation(n) % groups
    pairs = (group[:, None] == group) & (np.triu(generator.random((n, n)), 1) > 0.6)
    related = pairs | pairs.T
    part = np.array(["train"] * 6 + ["validation", "validation", "test"] * 2)[np.arange(n) % 12]
    train, validation = part == "train", part == "validation"
    touches = train[:, None] | train[None, :]
    masks = {
        "training": related & train[:, None] & train[None, :],
        "visible": related & touches,
        "truth": related & ~(part == "test")[:, None] & ~(part == "test")[None, :],
    }
    edges = {name: sparse.csr_matrix(mask) for name, mask in masks.items()}
    return group, edges | {"queries": np.flatnonzero(validation)}, np.flatnonzero(part == "test")


QUICK = GraphSettings(
    layers=2,
    width=19,
    out=11,
    neighbours=7,
    pairs=90,
    others=40,
    training=Schedule(
        steps=40, learning_rate=0.01, weight_decay=0, validate_every=10, precision="float32"
    ),
)


def quick(**changes):
    values = {name: getattr(QUICK, name) for name in QUICK.__dataclass_fields__}
    return GraphSettings(**{**values, **changes})


def test_a_layer_equals_a_slow_loop():
    edges = ring_with_chords()
    torch.manual_seed(0)
    layer = SageLayer(5, 3)
    vectors = torch.randn(23, 5)
    found = layer(vectors, connect(edges, device="cpu"))
    for item in range(23):
        mean = torch.zeros(5)
        for other in range(23):
            if edges[item, other]:
                mean += vectors[other] / edges[item].nnz
        wanted = layer.own.weight @ vectors[item] + layer.own.bias + layer.neighbours.weight @ mean
        wanted = torch.where(wanted > 0, wanted, wanted.exp() - 1)
        torch.testing.assert_close(found[item], wanted / wanted.norm())


def test_the_mean_and_its_derivative_equal_those_of_a_dense_matrix():
    read = ring_with_chords()[:14]  # 14 items read 23
    dense = torch.from_numpy(read.toarray().astype(np.float32))
    dense = dense / dense.sum(dim=1, keepdim=True).clamp(min=1)
    torch.manual_seed(1)
    vectors, weights = torch.randn(23, 6, requires_grad=True), torch.randn(14, 6)
    found = mean_of_neighbours(vectors, connect(read, device="cpu"))
    torch.testing.assert_close(found, dense @ vectors)
    assert found[4].tolist() == [0] * 6
    (derivative,) = torch.autograd.grad((found * weights).sum(), vectors)
    torch.testing.assert_close(derivative, dense.T @ weights)


@pytest.mark.parametrize("neighbours", [0, 22])
def test_drawing_all_neighbours_gives_what_the_whole_graph_gives(neighbours):
    edges = ring_with_chords(n=31)
    torch.manual_seed(2)
    model = GraphModel(7, quick(layers=3))
    vectors = torch.randn(31, 7)
    whole = model(vectors, [connect(edges, device="cpu")] * 3)
    rows = np.array([9, 2, 4, 17])
    items, hops = neighbourhood(
        edges, rows, layers=3, neighbours=neighbours, generator=np.random.default_rng(0)
    )
    assert [hop.shape[0] for hop in hops][-1] == 4
    part = model(vectors[torch.from_numpy(items)], [connect(x, device="cpu") for x in hops])
    torch.testing.assert_close(part, whole[torch.from_numpy(rows)])


def test_drawn_neighbours_are_related_and_each_comes_as_often():
    edges = ring_with_chords(n=41)
    rows = np.array([3, 11, 4])
    generator = np.random.default_rng(5)
    counts = np.zeros((3, 41))
    for _ in range(900):
        items, (hop,) = neighbourhood(edges, rows, layers=1, neighbours=2, generator=generator)
        assert np.diff(hop.indptr).tolist() == [2, 2, 0]
        assert items[:3].tolist() == rows.tolist()
        assert len(set(items)) == len(items)
        for row, place in zip(*hop.nonzero(), strict=True):
            counts[row, items[place]] += 1
    for row, item in enumerate(rows[:2]):
        degree = edges[item].nnz
        assert degree > 4
        assert set(np.flatnonzero(counts[row])) == set(edges[item].indices)
        np.testing.assert_allclose(counts[row, edges[item].indices], 1800 / degree, rtol=0.2)


def test_asked_pairs_and_items_cut_off_are_hidden_both_ways():
    edges = ring_with_chords()
    pairs = list_pairs(edges)
    assert len(pairs.a) == edges.nnz // 2
    assert (pairs.a < pairs.b).all()
    shown = hide(edges, pairs, hidden=np.array([1, 8]), cut_off=np.array([15])).toarray()
    wanted = edges.toarray()
    for pair in (1, 8):
        wanted[pairs.a[pair], pairs.b[pair]] = wanted[pairs.b[pair], pairs.a[pair]] = False
    wanted[15] = wanted[:, 15] = False
    np.testing.assert_array_equal(shown, wanted)


def test_duplicates_make_lone_items_their_own_neighbours_and_no_others():
    edges = ring_with_chords()
    added = with_duplicates(edges).toarray() & ~edges.toarray()
    assert np.argwhere(added).tolist() == [[4, 4], [22, 22]]
    assert with_duplicates(edges).nnz == edges.nnz + 2


def test_an_item_without_edges_is_embedded_from_its_own_vector_alone():
    connections = [connect(ring_with_chords(), device="cpu")] * 2
    torch.manual_seed(3)
    model = GraphModel(6, QUICK)
    vectors = torch.randn(23, 6)
    others_changed, own_changed = torch.randn(23, 6), vectors.clone()
    others_changed[4] = vectors[4]
    own_changed[4] = torch.randn(6)
    before = model(vectors, connections)
    torch.testing.assert_close(model(others_changed, connections)[4], before[4])
    assert (model(own_changed, connections)[4] - before[4]).abs().max() > 0.01
    torch.testing.assert_close(before.norm(dim=1), torch.ones(23))


@pytest.mark.parametrize("node_dup", [False, True])
def test_an_item_added_later_is_embedded_without_torch_as_one_without_edges(tmp_path, node_dup):
    edges = ring_with_chords()
    torch.manual_seed(5)
    model = GraphModel(6, quick(node_dup=node_dup, layers=3))
    vectors = np.random.default_rng(7).standard_normal((23, 6), dtype=np.float32)
    save_graph(model, tmp_path / "graph.safetensors")
    whole = embed_by(load_graph(tmp_path / "graph.safetensors"), vectors, edges)
    lone = Embeddings(("x", "y"), vectors[[4, 22]])
    added = behind_graph(tmp_path / "graph.safetensors", lone)
    np.testing.assert_allclose(added.vectors, whole[[4, 22]], atol=1e-6)
    assert added.ids == ("x", "y")


def test_other_order_of_items_gives_the_same_embeddings_in_that_order():
    edges = ring_with_chords()
    order = np.random.default_rng(1).permutation(23)
    torch.manual_seed(4)
    model = GraphModel(6, QUICK)
    vectors = torch.randn(23, 6)
    before = model(vectors, [connect(edges, device="cpu")] * 2)
    turned = connect(edges[order][:, order].tocsr(), device="cpu")
    torch.testing.assert_close(model(vectors[order], [turned] * 2), before[order])


def test_the_triplet_loss_equals_its_formula():
    torch.manual_seed(5)
    a, b, c = (F.normalize(torch.randn(9, 4), dim=1) for _ in range(3))
    found = triplet(a, b, c, margin=0.3)
    for row in range(9):
        near, far = (a[row] - b[row]).norm(), (a[row] - c[row]).norm()
        assert found[row].item() == pytest.approx(max(0, 0.3 + (near - far).item()), abs=1e-5)
    assert (found == 0).any()
    assert (found > 0.3).any()


def test_rarity_is_one_over_how_often_random_unit_vectors_are_so_far_apart():
    d, edges = 6, np.linspace(0.6, 1.4, 9)
    generator = np.random.default_rng(2)
    sample = generator.normal(size=(200_000, 2, d))
    sample /= np.linalg.norm(sample, axis=2, keepdims=True)
    distance = np.linalg.norm(sample[:, 0] - sample[:, 1], axis=1)
    often, _ = np.histogram(distance, edges)
    middle = torch.from_numpy((edges[:-1] + edges[1:]) / 2)
    rarity = log_rarity(middle.square(), d=d, nearest=0.5).exp().numpy()
    np.testing.assert_allclose(often * rarity / (often * rarity).mean(), 1, atol=0.05)


def test_wrong_answers_are_drawn_by_rarity_and_never_from_related_items():
    torch.manual_seed(6)
    items = F.normalize(torch.randn(5, 7), dim=1)
    anchor = F.normalize(torch.randn(1, 7), dim=1)
    related = torch.tensor([[False, True, False, False, False]])
    many = 20_000
    drawn, possible = draw_negatives(
        anchor.expand(many, 7), items, related.expand(many, 5), nearest=0.5
    )
    assert possible.all()
    weight = log_rarity(2 - 2 * (anchor @ items.T)[0], d=7, nearest=0.5).exp()
    weight[1] = 0
    share = torch.bincount(drawn, minlength=5) / many
    torch.testing.assert_close(share, weight / weight.sum(), atol=0.02, rtol=0)
    assert not draw_negatives(anchor, items, torch.ones(1, 5, dtype=bool), nearest=0.5)[1].any()


def share_in_group(embedded, group, rows):
    scores = embedded[rows] @ embedded[rows].T
    np.fill_diagonal(scores, -np.inf)
    near = rows[np.argsort(-scores, axis=1)[:, :2]]
    return (group[near] == group[rows][:, None]).mean()


def test_planted_groups_are_found_from_random_vectors_by_edges(tmp_path):
    group, edges, test = planted()
    vectors = random_vectors(len(group), 17, seed=0)
    embedded, outcome = embed_graph(
        vectors, **edges, settings=QUICK, compute=Compute(0, "cpu", tmp_path / "x")
    )
    assert embedded.shape == (240, 11)
    assert share_in_group(vectors, group, test) < 0.3
    assert share_in_group(embedded, group, test) > 0.8
    assert outcome.best_score > 0.6


def test_a_stopped_training_goes_on_to_the_same_embeddings(tmp_path):
    group, edges, _ = planted()
    common = {**edges, "settings": quick(connection_dropout=0.2)}
    vectors = random_vectors(len(group), 17, seed=1)
    whole, _ = embed_graph(vectors, **common, compute=Compute(1, "cpu", tmp_path / "whole"))

    def stop(stage, done, total, note=""):
        if done == 25:
            raise InterruptedError

    compute = Compute(1, "cpu", tmp_path / "torn")
    with pytest.raises(InterruptedError):
        embed_graph(vectors, **common, compute=dataclasses.replace(compute, progress=stop))
    resumed, outcome = embed_graph(vectors, **common, compute=compute)
    np.testing.assert_array_equal(resumed, whole)
    assert [step for step, _, _ in outcome.scores][:3] == [10, 20, 30]


def test_an_item_cut_off_learns_nothing_from_edges(tmp_path):
    """Then it is all the same whether the pairs asked about are hidden; otherwise it is not."""
    group, edges, _ = planted()
    vectors = random_vectors(len(group), 17, seed=2)
    found = {}
    for dropout in (0.0, 1.0):
        for hidden in (False, True):
            settings = quick(
                connection_dropout=dropout,
                hide_asked=hidden,
                training=Schedule(steps=3, precision="float32"),
            )
            found[dropout, hidden], _ = embed_graph(
                vectors,
                **edges,
                settings=settings,
                compute=Compute(3, "cpu", tmp_path / f"{dropout}{hidden}"),
            )
    np.testing.assert_array_equal(found[1.0, False], found[1.0, True])
    assert np.abs(found[0.0, False] - found[0.0, True]).max() > 0.01


def test_items_of_which_nothing_is_known_get_zeros(tmp_path):
    group, edges, test = planted()
    vectors = random_vectors(len(group), 17, seed=0)
    linked, lone = test[:2]
    vectors[[linked, lone]] = 0
    visible = edges["visible"].toarray()
    visible[lone] = visible[:, lone] = False
    edges["visible"] = sparse.csr_matrix(visible)
    settings = quick(training=Schedule(steps=2, precision="float32"))
    embedded, _ = embed_graph(
        vectors, **edges, settings=settings, compute=Compute(0, "cpu", tmp_path / "x")
    )
    assert embedded[lone].tolist() == [0] * 11
    length = np.linalg.norm(np.delete(embedded, lone, axis=0), axis=1)
    np.testing.assert_allclose(length, 1, rtol=1e-5)


def test_only_relations_that_leave_the_asking_items_are_shown_to_them():
    edges = ring_with_chords()
    rows = np.array([2, 3, 7])
    shown = leaving(edges, rows).toarray()
    inside = np.isin(np.arange(23), rows)
    np.testing.assert_array_equal(shown, edges.toarray() & (inside[:, None] != inside[None, :]))
    assert edges[2, 3]


@pytest.mark.parametrize(
    ("table", "message"),
    [("training", "no two training items are related"), ("truth", "no two of the 80 validation")],
)
def test_a_graph_needs_relations_to_learn_from_and_to_ask_about(tmp_path, table, message):
    group, edges, _ = planted()
    edges[table] = sparse.csr_matrix((240, 240), dtype=bool)
    vectors = random_vectors(240, 5, seed=0)
    with pytest.raises(DataError, match=message):
        embed_graph(vectors, **edges, settings=QUICK, compute=Compute(0, "cpu", tmp_path / "x"))


def test_random_vectors_have_length_1_and_follow_the_seed():
    vectors = random_vectors(13, 5, seed=8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors, random_vectors(13, 5, seed=8))
    assert np.abs(vectors - random_vectors(13, 5, seed=9)).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width, out, pairs and others must be 1 or more"),
        ({"neighbours": -1}, "layers and neighbours must be 0 or more"),
        ({"connection_dropout": 1.1}, r"connection_dropout 1\.1 must be in \[0, 1\]"),
        ({"margin": 2.5}, r"margin 2\.5 must be in \[0, 2\]"),
        ({"nearest": 0.0}, r"nearest 0\.0 above 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes)
