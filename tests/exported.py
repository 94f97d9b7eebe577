"""A small run with hostile names for the tests of exports; no training."""

import numpy as np
import polars as pl

from undersong import runs
from undersong.catalogue import attributes
from undersong.embeddings import Embeddings, unit

WIDTH = 12
HOSTILE = (
    "'Til Tuesday",
    '"Weird Al" Yankovic',
    "back\\slash \\N \\.",
    "\\.",
    "nul\0inside",
    "line\nbreak\rand\ttab\r\n",
    "'); DROP TABLE undersong_artists; --",
    '=HYPERLINK("http://x","y")',
    "'=1+1",
    "+44",
    "-5",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "＝1+1",
    "🎷 émoji 椎名林檎",
    "{a,b}",
    ":'x' :\"y\" :z $check$ %s %(a)s {table}",
    "a;b,c|d",
    "\u2028line separator\u202e",
    "",
    "NULL",
)


def make_run(folder, *, n=47, tracks=19, seed=3, with_facts=True, nul=False):
    """A run of n artists, most with a vector, and some tracks; names and ids are hostile.

    With ``nul`` some ids hold the character NUL, too.
    """
    generator = np.random.default_rng(seed)
    ids = [f"id {x} {HOSTILE[x % len(HOSTILE)]}" for x in range(n)]
    ids = ids if nul else [x.replace("\0", "") for x in ids]
    names = [HOSTILE[x % len(HOSTILE)] for x in range(n)]
    songs = [f"song-{x}" for x in range(tracks)]
    items = pl.DataFrame(
        {
            "kind": ["artist"] * n + ["track"] * tracks,
            "id": ids + songs,
            "name": names + [f"Song {x}" for x in range(tracks)],
            "about": [HOSTILE[(x + 5) % len(HOSTILE)] for x in range(n + tracks)],
            "part": [("train", "test", None)[x % 3] for x in range(n + tracks)],
            "relations": generator.integers(3, size=n + tracks),
            "popularity": [None if x % 4 == 0 else x / 8 for x in range(n + tracks)],
        }
    )
    table = pl.DataFrame(
        {
            "kind": items["kind"],
            "id": items["id"],
            "genres": [[HOSTILE[(x + k) % len(HOSTILE)] for k in range(x % 3)] for x in range(n)]
            + [[]] * tracks,
            "region": [f"r{x % 5}" if x % 7 else None for x in range(n + tracks)],
            "decade": [1900 + x if x % 6 else None for x in range(n + tracks)],
            "popularity": items["popularity"],
            "percentile": [None] * (n + tracks),
            "artist": items["id"],
            "album": [None] * (n + tracks),
            "mbid": [None] * (n + tracks),
        },
        schema=attributes.COLUMNS,
    )

    def vectors(names, width):
        return Embeddings(
            tuple(names), unit(generator.normal(size=(len(names), width)).astype(np.float32))
        )

    with runs.publishing(folder, {"kind": "artist"}) as home:
        order = generator.permutation(n - 4)
        vectors([ids[x] for x in order], WIDTH).write(home / "embeddings/artist.general.parquet")
        vectors(ids[:31], 7).write(home / "embeddings/artist.content.parquet")
        vectors(songs, 9).write(home / "embeddings/track.general.parquet")
        items.write_parquet(home / "items.parquet")
        if with_facts:
            attributes.write_attributes(home / attributes.ATTRIBUTES_FILE, table)
    return runs.read(folder)


def expected(run):
    """What is known of each artist with a vector, in the order of the vectors."""
    found = {x["id"]: x for x in run.items("artist").iter_rows(named=True)}
    return [found[item] for item in run.embeddings("artist", "general").ids]


def nearest_five(run, row):
    """Ids of the five artists nearest to one by cosine, best first: all of them in float64."""
    known = run.embeddings("artist", "general")
    vectors = known.vectors.astype(np.float64)
    scores = vectors @ vectors[row] / np.linalg.norm(vectors, axis=1)
    scores[row] = -np.inf
    return [known.ids[x] for x in np.argsort(-scores, kind="stable")[:5]]
