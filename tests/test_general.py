import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from undersong.catalogue.tables import ITEMS, RELATIONS, Catalogue, Field
from undersong.errors import ArtifactError, DataError
from undersong.features import Modality
from undersong.losses import MultiRelationship, MultiSimilarity
from undersong.models.general import training
from undersong.models.general.network import GeneralModel, GeneralSettings
from undersong.relations import Task
from undersong.training import Compute, Schedule

# n = 11, sources of 9 and 5, width 24 = 4 fields of 6 with 3 heads, out 7: no swapped axis passes.
SMALL = GeneralSettings(width=24, fields=4, heads=3, out=7, dropout=0.0, input_dropout=0.0)


def small(**changed):
    """A model with a say in every part: as it begins, most parts end in zeros."""
    torch.manual_seed(0)
    model = GeneralModel((9, 5), dataclasses.replace(SMALL, **changed)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("skip", [True, False])
def test_a_missing_source_does_not_change_the_embedding(skip):
    model, content = small(skip=skip), torch.randn(11, 9)
    missing = torch.tensor([[False, True]] * 11)
    a = model([content, torch.randn(11, 5)], missing)
    b = model([content, torch.randn(11, 5)], missing)
    assert a.shape == (11, 7)
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(a.norm(dim=1), torch.ones(11))


def test_an_item_does_not_depend_on_its_neighbours_in_the_batch():
    model, missing = small(), torch.zeros(11, 2, dtype=torch.bool)
    sources = [torch.randn(11, 9), torch.randn(11, 5)]
    whole = model(sources, missing)
    alone = model([x[3:4] for x in sources], missing[3:4])
    torch.testing.assert_close(whole[3:4], alone)


def test_a_layer_computes_what_the_transformer_layer_of_torch_does():
    layer = small().fuse[0]
    other = torch.nn.TransformerEncoderLayer(
        24, 3, 48, 0.0, activation="gelu", batch_first=True, norm_first=True
    )
    other.load_state_dict(layer.state_dict())
    tokens = torch.randn(11, 5, 24)
    torch.testing.assert_close(layer(tokens), other(tokens))


def test_every_source_and_every_part_has_a_say():
    model = small()
    sources = [torch.randn(11, 9, requires_grad=True), torch.randn(11, 5, requires_grad=True)]
    out = model(sources, torch.zeros(11, 2, dtype=torch.bool))
    (out * torch.randn(11, 7)).sum().backward()
    assert all((x.grad.abs().sum(dim=1) > 0).all() for x in sources)
    out = model(
        sources, torch.tensor([[False, False], [True, False], [False, True]] + [[False] * 2] * 8)
    )
    (out * torch.randn(11, 7)).sum().backward()
    silent = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []


def test_without_the_third_layer_or_the_crossing_there_is_less_to_learn():
    sizes = {}
    for name in ("as it is", "weigh_fields", "crossing"):
        model = small(**({} if name == "as it is" else {name: False}))
        out = model([torch.randn(11, 9), torch.randn(11, 5)], torch.zeros(11, 2, dtype=torch.bool))
        assert out.shape == (11, 7)
        sizes[name] = sum(x.numel() for x in model.parameters())
    assert sizes["as it is"] - sizes["crossing"] == 6 * 6 * 2 * 24  # 6 pairs of width 6 -> 48
    assert not any(x.startswith("weigh.") for x in small(weigh_fields=False).state_dict())
    assert sizes["weigh_fields"] < sizes["as it is"]


def test_it_begins_as_a_projection_that_keeps_cosines():
    torch.manual_seed(0)
    settings = dataclasses.replace(SMALL, out=4096)
    model = GeneralModel((9, 5), settings, weights=(1.0, 0.5)).eval()
    sources = [torch.nn.functional.normalize(torch.randn(11, size), dim=1) for size in (9, 5)]
    out = model(sources, torch.zeros(11, 2, dtype=torch.bool))
    joined = torch.cat([sources[0], 0.5 * sources[1]], dim=1)
    expected = torch.nn.functional.normalize(joined, dim=1)
    torch.testing.assert_close(out @ out.T, expected @ expected.T, atol=0.1, rtol=0)


@pytest.mark.parametrize("product", ["hadamard", "inner"])
def test_feature_crossing_multiplies_every_pair_of_fields(product):
    seen = {}
    model = small(product=product)
    model.weigh.register_forward_hook(lambda m, i, out: seen.__setitem__("fields", out))
    model.head[0].register_forward_hook(lambda m, i, out: seen.__setitem__("head", i[0]))
    model([torch.randn(11, 9), torch.randn(11, 5)], torch.zeros(11, 2, dtype=torch.bool))
    fields, head = seen["fields"], seen["head"]
    assert fields.shape == (11, 4, 6)
    crossed = [fields[:, i] * fields[:, j] for i in range(4) for j in range(i + 1, 4)]
    if product == "inner":
        crossed = [x.sum(dim=1, keepdim=True) for x in crossed]
    expected = torch.cat([fields.flatten(1), torch.cat(crossed, dim=1)], dim=1)
    torch.testing.assert_close(head, expected)


def sources_of(vectors, tags):
    never = np.zeros(len(vectors), bool)
    return (
        Modality("content", vectors.astype(np.float32), never),
        Modality("tags", sparse.csr_matrix(tags.astype(np.float32)), ~tags.any(axis=1)),
    )


def planted(*, groups=6, size=35):
    """Items of a group share a direction, hidden under louder noise; two in three are linked."""
    generator = np.random.default_rng(5)
    n = groups * size
    label = np.arange(n) % groups
    signal = generator.normal(size=(groups, 8))[label] + 0.4 * generator.normal(size=(n, 8))
    vectors = np.concatenate([signal, 1.5 * generator.normal(size=(n, 13))], axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tags = (generator.random((n, groups + 3)) < 0.15).astype(float)
    linked = generator.random(n) < 0.67
    pairs = [
        (f"i{a:03}", f"i{b:03}")
        for a in range(n)
        for b in range(a + 1, n)
        if label[a] == label[b] and linked[a] and linked[b] and generator.random() < 0.3
    ]
    parts = generator.choice(["train", "validation", "test"], size=n, p=[0.7, 0.15, 0.15])
    catalogue = Catalogue(
        artists=pl.DataFrame(
            {
                "id": [f"i{x:03}" for x in range(n)],
                "name": [None] * n,
                "split": [None] * n,
                "genre": [f"g{x}" if x % 5 else None for x in label],
            },
            schema=ITEMS["artist"] | {"genre": pl.String},
        ),
        relations=pl.DataFrame(
            [("artist", a, b, "s") for a, b in pairs], schema=RELATIONS, orient="row"
        ),
        fields=(Field("genre", "artist", "category", "genre"),),
    )
    return catalogue, parts.astype("<U10"), sources_of(vectors, tags), label


QUICK = GeneralSettings(
    width=32,
    fields=4,
    heads=2,
    out=12,
    anchors=40,
    tail=16,
    loss=MultiRelationship(known=MultiSimilarity(alpha=4, beta=15, gamma=0.3, margin=0.5)),
    training=Schedule(steps=12, validate_every=4, learning_rate=3e-3, precision="float32"),
)
LONG = dataclasses.replace(
    QUICK,
    input_dropout=0.0,
    hide_source=0.0,  # the tags are noise: without its vector an item could not be placed at all
    training=Schedule(
        steps=200, validate_every=25, learning_rate=1e-3, weight_decay=0.1, precision="float32"
    ),
)


def fit(tmp_path, settings=QUICK, seed=0):
    catalogue, parts, sources, label = planted()
    model, outcome = training.train_general(
        Task(catalogue, "artist", parts),
        sources,
        settings=settings,
        compute=Compute(seed, "cpu", tmp_path),
    )
    return training.embed(model, sources, device="cpu"), outcome, label, parts, model


def same_group(vectors, label, rows):
    scores = vectors[rows] @ vectors.T
    scores[np.arange(len(rows)), rows] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :5]
    return (label[best] == label[rows][:, None]).mean()


def test_planted_groups_are_found_for_items_that_nobody_linked(tmp_path):
    vectors, outcome, label, parts, _ = fit(tmp_path, LONG)
    unseen = np.flatnonzero(parts != "train")
    before = same_group(planted()[2][0].values, label, unseen)
    after = same_group(vectors, label, unseen)
    assert after > before + 0.1
    assert outcome.best_score > outcome.scores[0][1] + 0.05


def test_the_same_seed_gives_the_same_embeddings(tmp_path):
    first, *_ = fit(tmp_path / "a")
    second, *_ = fit(tmp_path / "b")
    other, *_ = fit(tmp_path / "c", seed=1)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.1


def test_a_saved_model_embeds_alike(tmp_path):
    vectors, _, _, _, model = fit(tmp_path)
    training.save_general(model, tmp_path / "g.safetensors")
    loaded = training.load_general(tmp_path / "g.safetensors")
    again = training.embed(loaded, planted()[2], device="cpu")
    np.testing.assert_array_equal(vectors, again)
    assert loaded.settings == QUICK


def test_a_model_file_of_another_format_is_refused(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(training, "FORMAT", 7)
    training.save_general(small(), tmp_path / "g.safetensors")
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="format 7, but this version reads 1; train again"):
        training.load_general(tmp_path / "g.safetensors")


def test_hiding_never_takes_the_last_source_of_an_item():
    missing = np.array([[False, True], [True, False], [False, False]] * 50)
    sources = sources_of(np.ones((150, 3)), np.ones((150, 2)))
    settings = dataclasses.replace(SMALL, hide_source=0.9)
    hidden = training._hide(np.random.default_rng(0), missing, sources, settings)
    assert not hidden.all(axis=1).any()
    assert (hidden >= missing).all()
    assert hidden.mean() > missing.mean()


def test_an_unlinked_item_is_pushed_from_nobody():
    related = sparse.csr_matrix(([True, True], ([0, 1], [1, 0])), shape=(4, 4))
    codes = np.array([[0], [0], [0], [1]], dtype=np.int32)  # 2 and 3 are unlinked
    unlinked = np.array([False, False, True, True])
    pairs = training._pairs(np.arange(4), related, codes, unlinked, SMALL)
    np.testing.assert_array_equal(pairs["unrelated"][:2, :2], np.eye(2, dtype=bool))
    assert not pairs["unrelated"][2:].any()
    assert not pairs["unrelated"][:, 2:].any()
    strict = dataclasses.replace(SMALL, tail_is_negative=True)
    assert training._pairs(np.arange(4), related, codes, unlinked, strict)["unrelated"][0, 2]


def test_a_graded_prior_weighs_pairs_by_their_share_of_equal_fields():
    related = sparse.csr_matrix((4, 4), dtype=bool)
    codes = np.array([[0, 1], [0, 2], [0, 1], [-1, -1]], dtype=np.int32)
    graded = dataclasses.replace(SMALL, graded=True)
    pairs = training._pairs(np.arange(4), related, codes, np.ones(4, dtype=bool), graded)
    toward, away = pairs["consistent"], pairs["inconsistent"]
    assert (toward[0, 1], toward[0, 2], toward[0, 3]) == (0.5, 1, 0)
    assert (away[0, 1], away[0, 2], away[0, 3]) == (0.5, 0, 0)
    assert (toward.dtype, away.dtype) == (np.float32, np.float32)


def test_no_relation_of_validation_or_test_is_trained_on(tmp_path, monkeypatch):
    catalogue, parts, sources, _ = planted()
    rows_seen, masks_seen = [], []
    true_pairs = training._pairs

    def record(rows, *rest):
        found = true_pairs(rows, *rest)
        rows_seen.append(rows)
        masks_seen.append(found["related"])
        return found

    monkeypatch.setattr(training, "_pairs", record)
    training.train_general(
        Task(catalogue, "artist", parts),
        sources,
        settings=QUICK,
        compute=Compute(0, "cpu", tmp_path),
    )
    hidden = parts != "train"
    for rows, related in zip(rows_seen, masks_seen, strict=True):
        assert not related[hidden[rows]].any()
        assert related.any()


def test_a_relation_table_with_one_relation_is_too_few(tmp_path):
    catalogue, parts, sources, _ = planted()
    train = [x for x, part in zip(catalogue.ids("artist"), parts, strict=True) if part == "train"]
    one = pl.DataFrame([("artist", train[0], train[1], "s")], schema=RELATIONS, orient="row")
    with pytest.raises(DataError, match="1 relation between training artists: too few"):
        training.train_general(
            Task(dataclasses.replace(catalogue, relations=one), "artist", parts),
            sources,
            settings=QUICK,
            compute=Compute(0, "cpu", tmp_path),
        )


def test_a_catalogue_that_knows_only_relations_is_refused(tmp_path):
    catalogue, parts, _, _ = planted()
    with pytest.raises(DataError, match="nothing is known about the artists that they"):
        training.train_general(
            Task(catalogue, "artist", parts),
            (),
            settings=QUICK,
            compute=Compute(0, "cpu", tmp_path),
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 28}, "width 28 must divide into 4 fields of 3 heads"),
        ({"dropout": 1.0}, r"dropout 1.0 must be in \[0, 1\)"),
        ({"reliability": "editors"}, "must be 'equal', 'learned', or names of sources with"),
        ({"product": "outer"}, "product 'outer' must be 'hadamard' or 'inner'"),
        ({"reliability": "editors 2"}, "with numbers from 0 to 1"),
        ({"anchors": 0}, "anchors and partners must be 1 or more"),
    ],
)
def test_refuses_settings_out_of_range(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changed)
