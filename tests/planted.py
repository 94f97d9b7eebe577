"""A small world with planted groups, for tests that go from a catalogue to answers."""

from dataclasses import replace

import numpy as np
import polars as pl

from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue, Field
from undersong.embeddings import Embeddings

QUICK_SETTINGS = """
[content]
width = 10
judges = 1
[content.training]
steps = 6
validate_every = 3
[interaction]
width = 9
threshold = 2
[interaction.training]
steps = 6
validate_every = 3
[general]
width = 32
fields = 4
heads = 2
out = 12
anchors = 40
tail = 16
[general.training]
steps = 12
validate_every = 4
"""


def small_world(*, groups=5, size=17, users=45, seed=4):
    """85 artists in 5 groups with 2 tracks each; a third has no relation, the last no source."""
    generator = np.random.default_rng(seed)
    n = groups * size
    label = np.arange(n) % groups
    ids = [f"a{x:02}" for x in range(n)]
    artists = {
        "id": ids,
        "name": [f"Artist {x:02}" for x in range(n - 2)] + ["Änderung", None],
        "split": [None] * n,
        "genre": [f"g{x}" if generator.random() < 0.8 else None for x in label],
        "country": [("x", "y", None)[x] for x in generator.integers(3, size=n)],
        "fame": [float(x) for x in generator.integers(100, size=n)],
        "judge": [[f"t{x}"] for x in label],
    }
    for name in ("genre", "country", "fame"):
        artists[name][-1] = None
    schema = ITEMS["artist"] | {
        "genre": pl.String,
        "country": pl.String,
        "fame": pl.Float64,
        "judge": pl.List(pl.String),
    }
    tracks = [
        (f"{item}-{k}", item, f"Song {item} {k}", None, float(k), None)
        for item in ids[:-1]
        for k in range(2)
    ]
    centre = generator.normal(size=(groups, 7))
    vectors = np.concatenate(
        [centre[label[x]] + 0.8 * generator.normal(size=(2, 7)) for x in range(n - 1)]
    )
    linked = generator.random(n) < 0.67
    linked[-1] = False
    pairs = [
        ("artist", ids[a], ids[b], "editors")
        for a in range(n)
        for b in range(a + 1, n)
        if label[a] == label[b] and linked[a] and linked[b] and generator.random() < 0.5
    ]
    plays = [
        ("artist", f"u{user}", ids[x], float(1 + generator.integers(30)))
        for user in range(users)
        for x in range(n - 5)
        if generator.random() < (0.5 if label[x] == user % groups else 0.05)
    ]
    return Catalogue(
        artists=pl.DataFrame(artists, schema=schema),
        tracks=pl.DataFrame(tracks, schema=ITEMS["track"], orient="row"),
        plays=pl.LazyFrame(plays, schema=PLAYS, orient="row"),
        relations=pl.DataFrame(pairs, schema=RELATIONS, orient="row"),
        fields=(
            Field("genre", "artist", "category", "genre"),
            Field("country", "artist", "category", "region"),
            Field("fame", "artist", "number", "popularity"),
            Field("judge", "artist", "tags", withheld=True),
        ),
        features={
            ("descriptors", "track"): Embeddings(
                tuple(x[0] for x in tracks), vectors.astype(np.float32)
            )
        },
    )


def wide_world(*, more=0.0, seed=6):
    """300 artists in 5 groups, enough of them for validation that an order of answers is learned.

    ``more`` adds so large a share of the pairs that touch validation or test items of a group,
    between items that have relations already, and as many to long-tail items of the test part.
    """
    world = small_world(groups=5, size=60, users=11)
    generator = np.random.default_rng(seed)
    n = len(world.artists)
    parts = generator.choice(["train", "validation", "test"], size=n, p=[0.6, 0.27, 0.13])
    ids = world.ids("artist")
    linked = set(world.relations["a"]) | set(world.relations["b"])
    drawn = np.random.default_rng(seed + 1).random((n, n)) < more
    pairs = [
        ("artist", ids[a], ids[b], "others")
        for a, b in zip(*np.nonzero(np.triu(drawn, 1)), strict=True)
        if a % 5 == b % 5
        and (parts[a] != "train" or parts[b] != "train")
        and all(ids[x] in linked or parts[x] == "test" for x in (a, b))
    ]
    extra = pl.DataFrame(pairs, schema=RELATIONS, orient="row")
    return replace(
        world,
        artists=world.artists.with_columns(pl.Series("split", parts)),
        relations=pl.concat([world.relations, extra]).unique(["a", "b"], maintain_order=True),
    )
