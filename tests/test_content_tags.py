"""The tags that CbRM may guess while it learns: what is read, the loss, what is left of it."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue, Field
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError
from undersong.models.content import training
from undersong.models.content.inputs import Clips
from undersong.models.content.network import (
    AudioEncoder,
    ContentSettings,
    VectorEncoder,
    save_content,
)
from undersong.models.content.training import Tagger, embed_content, read_tags, tag_loss
from undersong.relations import Task
from undersong.training import Compute, Schedule

# Every size differs from every other: 41 artists in 4 groups, 2 tracks each, 7 columns, E_C of 11.
ARTISTS, GROUPS, TRACKS = 41, 4, 2
QUICK = Schedule(steps=60, validate_every=20, learning_rate=3e-3, average=0.9)
SMALL = ContentSettings(width=11, artists=13, tracks=2, judges=1, training=QUICK)
SPLITS = np.array(["train"] * 25 + ["validation"] * 16)


def planted(*, style=None, seed=0):
    """Features in which 2 of 7 columns tell the group and 5 the artist, who has no relation."""
    generator = np.random.default_rng(seed)
    group = np.arange(ARTISTS) % GROUPS
    centres = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    own = 2 * generator.standard_normal((ARTISTS, 5))
    values = np.repeat(np.hstack([centres[group], own]), TRACKS, axis=0)
    values += 0.6 * generator.standard_normal(values.shape)
    ids = [f"a{x}" for x in range(ARTISTS)]
    tracks = [{"id": f"{a}.{t}", "artist": a} for a in ids for t in range(TRACKS)]
    judged = [(a, b) for b in range(25, ARTISTS) for a in range(25, b) if group[a] == group[b]]
    related = [{"kind": "artist", "a": ids[a], "b": ids[b], "source": "friends"} for a, b in judged]
    artists = [
        {"id": x, "name": x, "style": None if style is None else style[g], "judge": f"j{g}"}
        for x, g in zip(ids, group, strict=True)
    ]
    schema = ITEMS["artist"] | {"style": pl.String, "judge": pl.String}
    return Catalogue(
        pl.DataFrame(artists, schema=schema),
        pl.DataFrame(tracks, schema=ITEMS["track"]),
        relations=pl.DataFrame(related, schema=RELATIONS),
        fields=(
            Field("style", "artist", "category", "genre"),
            Field("judge", "artist", "category", withheld=True),
        ),
        features={
            ("mood", "track"): Embeddings(tuple(x["id"] for x in tracks), values.astype(np.float32))
        },
    )


def learn(catalogue, folder, **changed):
    settings = dataclasses.replace(SMALL, **changed)
    compute = Compute(3, "cpu", folder)
    return embed_content(Task(catalogue, "artist", SPLITS), settings=settings, compute=compute)


# what is read


def worded(n, *, own):
    """Artists with a style and tags, and a track of each with a mood of its own."""
    ids = [f"a{x}" for x in range(n)]
    artists = {
        "id": ids,
        "style": ["folk" if x < 7 else "jazz" if x < 11 else None for x in range(n)],
        "tags": [["slow", "loud"] if x < 5 else ["slow"] if x < 9 else None for x in range(n)],
        "judge": ["secret"] * n,
        "fame": [float(x) for x in range(n)],
    }
    schema = {"style": pl.String, "tags": pl.List(pl.String), "judge": pl.String}
    tracks = {"id": [f"{x}.0" for x in ids], "artist": ids, "mood": own}
    return Catalogue(
        pl.DataFrame(artists, schema={"id": pl.String} | schema | {"fame": pl.Float64}),
        pl.DataFrame(tracks, schema={"id": pl.String, "artist": pl.String, "mood": pl.String}),
        fields=(
            Field("style", "artist", "category"),
            Field("tags", "artist", "tags"),
            Field("judge", "artist", "category", withheld=True),
            Field("fame", "artist", "number"),
            Field("mood", "track", "category"),
        ),
    )


def clips_of(track, artist):
    def nothing(*_):
        raise AssertionError

    return Clips(np.array(track), np.array(artist), nothing, nothing, nothing, repeats=False)


def test_words_of_five_training_items_are_read_of_the_track_and_of_its_artist():
    found = worded(14, own=["glad"] * 6 + [None] * 2 + ["sad"] * 6)
    trains = np.arange(14) < 12  # so 4 are jazz and 4 are sad: too few
    clips = clips_of([3, 8, -1, 6, -1], [3, 8, 2, 6, 13])
    tags = read_tags(found, clips, trains)
    has, known = tags.of(np.arange(5))
    of_field = [tags.field.tolist().count(x) for x in range(3)]
    assert of_field == [1, 4, 1]  # folk; slow and loud, whole and as words; glad
    style, said, mood = (tags.field == x for x in range(3))
    assert has[:, style].ravel().tolist() == [1, 0, 1, 1, 0]
    assert known[:, style].ravel().tolist() == [True, True, True, True, False]
    assert has[:, said].sum(dim=1).tolist() == [4, 2, 4, 2, 0]
    assert known[:, said].all(dim=1).tolist() == [True, True, True, True, False]
    assert has[:, mood].ravel().tolist() == [1, 0, 0, 0, 0]  # an artist's own vector has no mood
    assert known[:, mood].ravel().tolist() == [True, True, False, False, False]


def test_of_many_words_the_commonest_are_guessed():
    count = np.repeat(np.arange(230), [9] * 90 + [6] * 110 + [5] * 30)
    words = [f"w{x}" for x in count]
    found = worded(len(words), own=words)
    bare = dataclasses.replace(found, fields=found.fields[4:])
    rows = np.arange(len(words))
    tags = read_tags(bare, clips_of(rows, rows), rows >= 0)
    assert tags.has.shape == (len(words), 200)
    had = np.asarray(tags.has.sum(axis=0)).ravel()
    assert {int(x): int((had == x).sum()) for x in set(had)} == {6: 110, 9: 90}


def test_a_catalogue_without_common_words_has_nothing_to_guess(tmp_path):
    with pytest.raises(DataError, match="no word .* is had by 5 training items; .*tags = 0 and"):
        learn(planted(), tmp_path, tags=0.5)


# artists that are similar by their tags, or by who plays them


def test_artists_are_nearest_by_their_words_in_the_strongest_singular_directions(monkeypatch):
    monkeypatch.setattr(training, "LATENT", 3)
    monkeypatch.setattr(training, "BLOCK", 5)
    monkeypatch.setattr(training, "ALIKE", 0.9)
    n, generator = 23, np.random.default_rng(2)
    tags = [[f"w{y}" for y in np.flatnonzero(generator.random(9) < 0.5)] for _ in range(n)]
    tags[4] = tags[11] = None
    found = worded(n, own=[f"m{x}" for x in generator.integers(3, size=n)])
    column = pl.Series("tags", tags, dtype=pl.List(pl.String))
    found = dataclasses.replace(found, artists=found.artists.with_columns(column))
    found = dataclasses.replace(found, fields=found.fields[1:3])
    trains = np.arange(n) < 19
    clips = clips_of([*range(n), -1, -1, -1], [*range(n), 2, 7, 12])
    has = read_tags(found, clips, trains).has.toarray()
    share = np.array([has[clips.artist == x].mean(axis=0) for x in range(n)])
    rows = [x for x in range(19) if share[x].any()]
    assert len(rows) == 17
    weight = [math.log(len(rows) / (share[rows][:, w] > 0).sum()) + 1 for w in range(has.shape[1])]
    left, values, _ = np.linalg.svd(share[rows] * weight, full_matrices=False)
    vectors = unit((left * values)[:, :3].astype(np.float32))
    wanted = np.zeros((n, n), dtype=bool)
    for place, row in enumerate(rows):
        cosines = vectors @ vectors[place]
        cosines[place] = -1
        for other in [x for x in np.argsort(-cosines)[:4] if cosines[x] >= 0.9]:
            wanted[row, rows[other]] = wanted[rows[other], row] = True
    made = training.nearest_by_tags(found, clips, trains, top=4)
    np.testing.assert_array_equal(made.toarray(), wanted)
    assert min(wanted[rows].sum(axis=1)) < 4


@pytest.mark.parametrize("supervision", ["tags", "listening"])
def test_tags_or_listening_teach_where_relations_are_missing(supervision, tmp_path):
    world = planted(style=STYLES, seed=1)
    ids, generator = world.ids("artist"), np.random.default_rng(5)
    heard = [
        ("artist", f"u{user}", ids[x], 3.0)
        for user in range(60)
        for x in generator.choice(np.arange(user % GROUPS, ARTISTS, GROUPS), 4, replace=False)
    ]
    plays = pl.LazyFrame(heard, schema=PLAYS, orient="row")
    world = dataclasses.replace(world, plays=plays)
    without = learn(world, tmp_path / "a")
    having = learn(world, tmp_path / "b", supervision=supervision, form="triplet")
    scores = [x.outcomes["mood"].best_score for x in (having, without)]
    assert scores[0] > scores[1] + 0.02


def test_a_supervision_without_its_data_or_of_another_name_is_refused(tmp_path):
    with pytest.raises(DataError, match='nobody plays an artist .* supervision to "relations"'):
        learn(planted(), tmp_path, supervision="listening")
    with pytest.raises(ValueError, match="supervision 'tag'.*tags"):
        ContentSettings(supervision="tag")
    with pytest.raises(ValueError, match="form 'triple'.*triplet"):
        ContentSettings(form="triple")


# the loss


def test_the_loss_is_the_mean_cross_entropy_over_what_is_known():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 5, generator=generator)
    has = (torch.rand(7, 5, generator=generator) < 0.4).float()
    known = torch.rand(7, 5, generator=generator) < 0.6
    terms = []
    for piece in range(7):
        for word in range(5):
            if known[piece, word]:
                chance = 1 / (1 + math.exp(-logits[piece, word].item()))
                terms.append(-math.log(chance if has[piece, word] else 1 - chance))
    assert 5 < len(terms) < 35
    assert tag_loss(logits, has, known).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_a_clip_of_which_nothing_is_said_pulls_at_nothing():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    known = torch.ones(6, 4, dtype=torch.bool)
    known[2] = False
    tag_loss(logits, torch.zeros(6, 4), known).backward()
    assert not logits.grad[2].any()
    assert (logits.grad[[0, 1, 3, 4, 5]] > 0).all()
    assert tag_loss(logits, torch.zeros(6, 4), torch.zeros_like(known)).item() == 0


@pytest.mark.parametrize("heard", [True, False])
def test_an_encoder_and_the_same_with_a_head_embed_alike(heard):
    torch.manual_seed(0)
    model = AudioEncoder(SMALL) if heard else VectorEncoder("mood", 7, SMALL)
    inputs = torch.rand(5, 128, 90) if heard else torch.rand(5, 7)
    found = Tagger(model, 3).eval()(inputs)
    torch.testing.assert_close(found, model(inputs), rtol=0, atol=0)
    long = model.unscaled(inputs)
    torch.testing.assert_close(long / long.norm(dim=1, keepdim=True), found)
    assert (long.norm(dim=1) - 1).abs().min() > 1e-3


# what it does


STYLES = ("s0", "s1", "s2", "s3")


def test_planted_tags_help_where_relations_are_missing(tmp_path):
    told = planted(style=STYLES, seed=1)
    without = learn(told, tmp_path / "a")
    having = learn(told, tmp_path / "b", tags=3.0)
    scores = [x.outcomes["mood"].best_score for x in (having, without)]
    assert scores[0] > scores[1] + 0.02


def test_what_must_not_be_read_is_not_guessed(tmp_path):
    told = planted(style=STYLES)
    judge = told.artists.with_columns(pl.lit("same").alias("judge"))
    silent = dataclasses.replace(told, artists=judge)
    made, again = (learn(x, tmp_path / n, tags=1.0) for n, x in (("a", told), ("b", silent)))
    np.testing.assert_array_equal(made.artists.vectors, again.artists.vectors)


def test_tags_of_validation_artists_teach_nothing(tmp_path):
    told = planted(style=STYLES)
    trains = pl.Series(SPLITS == "train")
    hidden = told.artists.with_columns(
        pl.when(trains).then(pl.col("style")).otherwise(pl.lit("s0")).alias("style")
    )
    made = learn(told, tmp_path / "a", tags=1.0)
    again = learn(dataclasses.replace(told, artists=hidden), tmp_path / "b", tags=1.0)
    np.testing.assert_array_equal(made.artists.vectors, again.artists.vectors)


def test_the_kept_encoder_has_the_same_weights_with_and_without_tags(tmp_path):
    told = planted(style=STYLES)
    shapes = []
    for weight in (0.0, 1.0):
        made = learn(told, tmp_path / str(weight), tags=weight)
        save_content(made.models, path := tmp_path / f"{weight}.safetensors")
        shapes.append({name: x.shape for name, x in load_file(path).items()})
    assert shapes[0] == shapes[1]


def test_an_interrupted_training_with_tags_goes_on_to_the_same_result(tmp_path):
    told = planted(style=STYLES)
    whole = learn(told, tmp_path / "a", tags=1.0)

    def interrupt(stage, done, total, note=""):
        if done == 41:
            raise KeyboardInterrupt

    settings = dataclasses.replace(SMALL, tags=1.0)
    compute = Compute(3, "cpu", tmp_path / "b", interrupt)
    with pytest.raises(KeyboardInterrupt):
        embed_content(Task(told, "artist", SPLITS), settings=settings, compute=compute)
    resumed = learn(told, tmp_path / "b", tags=1.0)
    assert resumed.outcomes == whole.outcomes
    np.testing.assert_array_equal(resumed.artists.vectors, whole.artists.vectors)


def test_a_weight_below_zero_is_refused():
    with pytest.raises(ValueError, match="tags, workers and mask must be 0 or more"):
        ContentSettings(tags=-0.1)
