"""How long a playlist takes, and how often an artist follows itself, among very many tracks.

    python benchmarks/playlists.py RUN [--tracks 30000] [--playlists 200]

The run has tracks. More of them grow from their E_G as in ``approximate.py``, each by the artist
of the track that it grows from. Each playlist has 50 songs and begins with three random artists;
beside it stand the 50 first answers to the same question, in their order. One thread.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from approximate import near_neighbours
from threadpoolctl import threadpool_limits

from undersong import runs
from undersong.catalogue import ATTRIBUTES_FILE, write_attributes
from undersong.embeddings import Embeddings, unit
from undersong.model import load

SONGS, SEEDS = 50, 3


def grow(model, folder, *, tracks, seed):
    """Write a run of so many tracks, the real ones first."""
    draw = np.random.default_rng(seed)
    real = model.embeddings("track")
    origin = np.concatenate([np.arange(len(real.ids)), draw.integers(len(real.ids), size=tracks)])
    origin = origin[:tracks]
    vectors = real.vectors[origin]
    neighbours = near_neighbours(real.vectors)[0]
    n = len(real.ids)
    share = draw.random((max(tracks - n, 0), 1), dtype=np.float32)
    other = neighbours[origin[n:], draw.integers(neighbours.shape[1], size=max(tracks - n, 0))]
    vectors[n:] = unit(vectors[n:] + share * (real.vectors[other] - vectors[n:]))
    ids = [x if at < n else f"{x} {at}" for at, x in enumerate(np.array(real.ids)[origin])]
    rows = pl.DataFrame({"id": real.ids, "row": np.arange(n)})
    place = pl.Series("row", origin)
    items = rows.join(model.items("track"), on="id", how="left", maintain_order="left")[place]
    facts = model.attributes(real.ids, kind="track")[place]
    artists = model.items("artist").with_columns(kind=pl.lit("artist"))
    with runs.publishing(folder, {"kind": "track", "settings": {}}) as home:
        Embeddings(tuple(ids), vectors).write(home / "embeddings" / "track.general.parquet")
        named = items.drop("row").with_columns(pl.Series("id", ids), kind=pl.lit("track"))
        pl.concat([artists, named], how="diagonal").write_parquet(home / "items.parquet")
        known = facts.with_columns(pl.Series("id", ids), kind=pl.lit("track"))
        whole = pl.read_parquet(model.run.file(ATTRIBUTES_FILE)).filter(kind="artist")
        write_attributes(home / ATTRIBUTES_FILE, pl.concat([whole, known.select(whole.columns)]))


def following(artists):
    """Share of adjacent pairs by one artist."""
    return np.mean([a == b for a, b in zip(artists, artists[1:], strict=False)])


def measure(model, *, playlists, seed):
    """Print the time of a playlist and how often an artist follows itself."""
    draw = np.random.default_rng(seed)
    names = sorted(x for x, own in model.of("track").by_artist.items() if len(own) > 1)
    model.playlist(names[:SEEDS], k=SONGS)
    spent, repeated, plain, songs = [], [], [], []
    for _ in range(playlists):
        seeds = draw.choice(names, SEEDS, replace=False).tolist()
        started = time.perf_counter()
        playlist = model.playlist(seeds, k=SONGS)
        spent.append(time.perf_counter() - started)
        repeated.append(following([x.item.about for x in playlist]))
        songs.append(len(playlist))
        stand_ins = [y for x in seeds for y in model.of("track").by_artist[x][:5]]
        answers = model.similar(stand_ins, kind="track", k=SONGS)
        plain.append(following([x.item.about for x in answers]))
    print(model)
    middle, late = 1e3 * np.quantile(spent, [0.5, 0.95])
    print(f"milliseconds: median {middle:.1f}, 95 % {late:.1f}")
    print(f"songs: {min(songs)} to {max(songs)}")
    pairs = f"{np.mean(repeated):.3f}; the plain order {np.mean(plain):.3f}"
    print(f"adjacent pairs by one artist: {pairs}")


def main():
    """Measure the run as it is, and grown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--tracks", type=int, default=30_000)
    parser.add_argument("--playlists", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with threadpool_limits(1), TemporaryDirectory() as folder:
        model = load(arguments.run)
        measure(model, playlists=arguments.playlists, seed=arguments.seed)
        grow(model, Path(folder), tracks=arguments.tracks, seed=arguments.seed)
        measure(load(folder), playlists=arguments.playlists, seed=arguments.seed)


if __name__ == "__main__":
    main()
