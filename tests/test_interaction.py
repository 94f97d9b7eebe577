import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from undersong import relations
from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue
from undersong.models import interaction
from undersong.models.interaction import (
    InteractionModel,
    InteractionSettings,
    embed_interaction,
    factorise,
)
from undersong.relations import Task
from undersong.training import Compute, Schedule


def world(*, groups=4, size=9, users=60):
    """Users of a taste play items of one group; the last item is played by nobody."""
    generator = np.random.default_rng(2)
    n = groups * size
    plays = [
        ("artist", f"u{user}", f"i{item}", float(1 + generator.integers(9)))
        for user in range(users)
        for item in range(n - 1)
        if generator.random() < (0.5 if item % groups == user % groups else 0.06)
    ]
    pairs = [
        ("artist", f"i{a}", f"i{b}", "s")
        for a in range(n)
        for b in range(a + 1, n)
        if a % groups == b % groups and generator.random() < 0.5
    ]
    schema = ITEMS["artist"]
    artists = pl.DataFrame(
        {"id": [f"i{x}" for x in range(n)], "name": [None] * n, "split": [None] * n}, schema=schema
    )
    catalogue = Catalogue(
        artists,
        plays=pl.LazyFrame(plays, schema=PLAYS, orient="row"),
        relations=pl.DataFrame(pairs, schema=RELATIONS, orient="row"),
        fields=(),
    )
    splits = np.array(["train", "validation", "train", "train", "test"] * n)[:n].astype("<U10")
    return catalogue, splits, np.arange(n) % groups


def slow_information(plays):
    """Positive pointwise mutual information, one pair of items at a time."""
    heard = [set(np.flatnonzero(column)) for column in plays.toarray().T]
    n = len(heard)
    shared = [[len(heard[i] & heard[j]) if i != j else 0 for j in range(n)] for i in range(n)]
    totals = [sum(row) for row in shared]
    everything = sum(totals)
    context = [x**0.75 * everything / sum(y**0.75 for y in totals) for x in totals]
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if shared[i][j]:
                chance = totals[i] * context[j] / everything
                found[i, j] = max(np.log(shared[i][j] / chance), 0)
    return found


def test_factors_reproduce_the_information_of_listeners():
    catalogue, _, _ = world()
    plays = relations.listeners(catalogue, "artist")[:, :35]
    steps = []
    factors = factorise(plays, 34, seed=0, progress=lambda *step: steps.append(step))
    ends = [(done, total) for stage, done, total, *_ in steps if stage == "UiRM, factors"]
    assert ends[-1][0] == ends[-1][1] == len(ends) - 1  # each product is one more
    information = slow_information(plays)
    assert factors.shape == (35, 34)
    expected = information @ information.T
    assert np.abs(factors @ factors.T - expected).max() < 0.01 * expected.max()


def test_only_the_strongest_co_listening_is_kept(monkeypatch):
    plays = relations.listeners(world()[0], "artist")[:, :35]
    monkeypatch.setattr(interaction, "STRONGEST", 3)
    kept = interaction._information(plays, block=4).toarray()
    information = slow_information(plays)
    for row, found in zip(information, kept, strict=True):
        expected = np.sort(row)[-3:]
        np.testing.assert_allclose(np.sort(found)[-3:], expected, atol=1e-6)


def test_of_very_many_items_fewer_are_kept_by_information_times_shared_users(monkeypatch):
    plays = relations.listeners(world()[0], "artist")[:, :35]
    monkeypatch.setattr(interaction, "CELLS", 4 * 35 + 9)
    kept = interaction._information(plays, block=6).toarray()
    information, heard = slow_information(plays), (plays > 0).astype(int).toarray()
    strength = information * (heard.T @ heard)
    for row, strong, found in zip(information, strength, kept, strict=True):
        expected = np.where(strong >= np.sort(strong)[-4], row, 0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_item_whose_listeners_hear_nothing_else_shares_no_information():
    plays = sparse.csr_matrix(np.array([[1, 2, 0], [3, 1, 0], [0, 0, 5], [1, 0, 0]], dtype=float))
    information = interaction._information(plays).toarray()
    assert information[0, 1] > 0
    assert not information[2].any()
    assert not information[:, 2].any()


def test_it_begins_as_the_plain_factorisation():
    factors = np.random.default_rng(0).normal(size=(13, 6)).astype(np.float32)
    model = InteractionModel(factors)
    rows = torch.tensor([4, 0, 11])
    expected = factors[[4, 0, 11]] / np.linalg.norm(factors[[4, 0, 11]], axis=1, keepdims=True)
    np.testing.assert_allclose(model(rows).detach().numpy(), expected, atol=1e-6)


def embed(tmp_path, **settings):
    catalogue, splits, label = world()
    quick = Schedule(steps=40, validate_every=10, learning_rate=3e-3, precision="float32")
    made = embed_interaction(
        Task(catalogue, "artist", splits),
        settings=InteractionSettings(width=11, threshold=2, training=quick, **settings),
        compute=Compute(0, "cpu", tmp_path),
    )
    return made, label


def test_items_of_one_taste_end_together(tmp_path):
    made, label = embed(tmp_path, top=6)
    vectors = made.embeddings.vectors
    rows = [int(x[1:]) for x in made.embeddings.ids]
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    assert (label[rows][similarity.argmax(axis=1)] == label[rows]).mean() > 0.9


class Killed(BaseException):
    """What ends a process in the midst of anything."""


@pytest.mark.parametrize(("last", "again"), [("factorise", 1), ("train", 0)])
def test_interrupted_it_goes_on_from_what_it_begins_with(tmp_path, monkeypatch, last, again):
    expected = embed(tmp_path / "whole", top=6)[0].embeddings.vectors

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(interaction, last, killed)
        with pytest.raises(Killed):
            embed(tmp_path / "run", top=6)
    counted = []

    def counting(*arguments, **options):
        counted.append("factorise")
        return factorise(*arguments, **options)

    monkeypatch.setattr(interaction, "factorise", counting)
    monkeypatch.setattr(interaction, "related_by_listening", killed)
    made = embed(tmp_path / "run", top=6)[0].embeddings.vectors
    assert len(counted) == again
    np.testing.assert_array_equal(made, expected)
    with pytest.raises(Killed):  # other settings begin anew
        embed(tmp_path / "run", top=7)


def test_an_item_that_nobody_plays_has_no_vector(tmp_path):
    made, label = embed(tmp_path)
    assert "i35" not in made.embeddings.index
    assert len(made.embeddings.ids) == len(label) - 1


def test_without_plays_there_is_no_embedding(tmp_path):
    catalogue, splits, _ = world()
    unplayed = Catalogue(catalogue.artists, relations=catalogue.relations, fields=())
    made = embed_interaction(
        Task(unplayed, "artist", splits),
        settings=InteractionSettings(),
        compute=Compute(0, "cpu", tmp_path),
    )
    assert made is None
