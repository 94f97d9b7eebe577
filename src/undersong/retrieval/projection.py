"""The map: a place in the plane for every item, near what is similar, and names of its regions.

    map.parquet      kind, id, x, y: every item that has an E_G, x and y in [-1, 1]
    regions.parquet  genre, x, y, items: where a genre is densest, the commonest first

Beyond the paper. The layout is t-SNE (van der Maaten and Hinton 2008) of the cosine of E_G, made
by openTSNE. Distances between far places mean nothing; near places are similar items.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import ATTRIBUTES_FILE, KINDS, Kind, read_attributes
from undersong.embeddings import unit
from undersong.errors import needs
from undersong.io.table_files import read_table, write_table
from undersong.progress import Progress, silent, watched
from undersong.ranking.cells import highest
from undersong.retrieval import approximate
from undersong.runs import Run

FILE, REGIONS_FILE = "map.parquet", "regions.parquet"
PERPLEXITY = 30
STEPS = 750  # of t-SNE: 250 with exaggeration, 500 without
SHOWN_EVERY = 5  # of them: of 50,000 items they take a second
FEWEST = 10  # items below which t-SNE has nothing to do and two principal components are shown
LARGEST = 50_000  # items that are laid out; of more, a sample is, and the others join it
NEAREST = 10  # items that say where another joins
BLOCK = 512  # rows of similarities held at once
RADIUS = 0.05  # of the neighbourhood whose density is compared
MOST_REGIONS = 40
FEWEST_IN_REGION = 5
ZOOMS = (3, 6, 12)  # at which parts of regions are named: squares so many times smaller
SUBREGIONS = {"text": pl.String, "x": pl.Float32, "y": pl.Float32, "zoom": pl.Float64}


def make(run: Run, folder: Path, *, seed: int = 0, progress: Progress = silent) -> None:
    """Write the map of a run into a folder.

    The items that the run was trained for are laid out. Those of the other kind, such as the
    tracks of artists, join where the items most similar to them are. Regions are named by the
    main genre of those items, where the run has facts of them.

    Raises
    ------
    UndersongError
        If openTSNE is not installed.
    """
    main = cast(Kind, run.manifest["kind"])
    laid = run.embeddings(main, "general")
    positions = {main: lay_out(laid.vectors, seed=seed, progress=progress)}
    ids = {main: laid.ids}
    for kind in KINDS:
        if kind != main and run.has_embeddings(kind, "general"):
            others = run.embeddings(kind, "general")
            ids[kind] = others.ids
            positions[kind] = join(others.vectors, laid.vectors, positions[main])
    tables = [
        pl.DataFrame({"id": ids[kind], "x": places[:, 0], "y": places[:, 1]})
        .insert_column(0, pl.lit(kind).alias("kind"))
        .cast({"id": pl.String})
        for kind, places in positions.items()
    ]
    genres: list[str | None] = [None] * len(laid.ids)
    if run.has(ATTRIBUTES_FILE):
        known = read_attributes(run.file(ATTRIBUTES_FILE), main).of(laid.ids)
        genres = known.table["genres"].list.first().to_list()
    for name, table in (
        (FILE, pl.concat(tables)),
        (REGIONS_FILE, regions(positions[main], genres, progress=progress)),
    ):
        write_table(folder / name, table)


def read_map(run: Run, kind: Kind) -> pl.DataFrame | None:
    """Read the map: id, x, y; None before `undersong publish` has drawn it."""
    if not run.has(FILE):
        return None
    table = read_table(run.file(FILE), hint="publish the run again with `undersong publish`")
    return table.filter(pl.col("kind") == kind).select("id", "x", "y")


def read_regions(run: Run) -> pl.DataFrame | None:
    """Read the regions of the map: genre, x, y, items; None before it is drawn."""
    return (
        read_table(run.file(REGIONS_FILE), hint="publish the run again with `undersong publish`")
        if run.has(FILE)
        else None
    )


def lay_out(
    vectors: NDArray[np.float32], *, seed: int, progress: Progress = silent
) -> NDArray[np.float32]:
    """Return a place of every item, (n, d) -> (n, 2) in [-1, 1]: the same for the same seed.

    Of more than ``LARGEST`` items a random sample is laid out, and the others join it.
    """
    if len(vectors) < FEWEST or (vectors == vectors[0]).all():
        return _principal(vectors)
    if len(vectors) <= LARGEST:
        return _by_tsne(vectors, seed=seed, progress=progress)
    drawn = np.sort(np.random.default_rng(seed).choice(len(vectors), LARGEST, replace=False))
    sample = _by_tsne(vectors[drawn], seed=seed, progress=progress)
    places = join(vectors, vectors[drawn], sample, progress=progress)
    places[drawn] = sample
    return places


def join(
    vectors: NDArray[np.float32],
    laid: NDArray[np.float32],
    places: NDArray[np.float32],
    *,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Put more items into a layout, (n, 2): each at the median place of the nearest there.

    The median, as the mean of places in two regions would lie in neither. Very many items find the
    nearest in cells, if faiss is installed (``undersong.retrieval.approximate``).

    Parameters
    ----------
    laid, places : (m, d) vectors and (m, 2) places of the items that have one
    """
    k = min(NEAREST, len(laid))
    laid = unit(laid)
    joined = np.zeros((len(vectors), 2), dtype=np.float32)
    many = len(vectors) >= approximate.SIZE and approximate.available()
    cells = approximate.make(laid) if many else None
    for start in watched(range(0, len(vectors), BLOCK), progress, "map, others"):
        queries = unit(vectors[start : start + BLOCK])
        if cells:
            nearest = cells.nearest(queries, k=k)
        else:
            nearest = np.argpartition(-(queries @ laid.T), k - 1, axis=1)[:, :k]
        joined[start : start + BLOCK] = np.median(places[nearest], axis=1)
    return joined


def regions(
    places: NDArray[np.float32], genres: list[str | None], *, progress: Progress = silent
) -> pl.DataFrame:
    """Name regions: for each of the commonest genres the place where its items stand densest.

    Parameters
    ----------
    places : (n, 2) in [-1, 1]
    genres : of each item, the main one; None where none is known

    Returns
    -------
    genre, x, y, items (how many have it), the commonest first; genres of few items are left out
    """
    named = pl.Series("genre", genres, dtype=pl.String).to_frame().with_row_index("row")
    common = (
        named.drop_nulls()
        .group_by("genre")
        .agg("row", pl.len().cast(pl.Int64).alias("items"))
        .filter(pl.col("items") >= FEWEST_IN_REGION)
        .sort(["items", "genre"], descending=[True, False])
        .head(MOST_REGIONS)
    )
    each = watched(list(common["row"]), progress, "map, regions")
    peaks = np.array([_peak(places[np.sort(rows)]) for rows in each]).reshape(-1, 2)
    return common.select(
        "genre", pl.Series("x", peaks[:, 0]), pl.Series("y", peaks[:, 1]), "items"
    ).cast({"x": pl.Float32, "y": pl.Float32})


def subregions(items: pl.DataFrame, *, known: Sequence[str]) -> pl.DataFrame:
    """Name parts of the map by the word that stands out there, for a reader who comes nearer.

    The map is cut into squares, smaller at every zoom. The word of a square is the one whose count
    there is the most surprising, given how common the word is on the whole map.

    Parameters
    ----------
    items : x, y, words, a row an item
    known : names of regions, which name no part

    Returns
    -------
    text, x, y, zoom (times the whole map, from which the name helps)
    """
    names = [x.lower() for x in known]
    words = items.explode("words").drop_nulls()
    words = words.filter(~pl.col("words").str.to_lowercase().is_in(names))
    total = words.group_by("words").agg(pl.len().alias("all"))
    parts = [pl.DataFrame(schema=SUBREGIONS)]
    for zoom in ZOOMS:
        squares = [
            ((pl.col(x) + 1) * zoom).floor().cast(pl.Int32).alias(f"{x} square") for x in "xy"
        ]
        place = ["x square", "y square"]
        sizes = items.select(squares).group_by(place).agg(pl.len().alias("size"))
        counted = (
            words.with_columns(squares)
            .group_by(*place, "words")
            .agg(pl.len().alias("count"), pl.col("x", "y").median())
            .filter(pl.col("count") >= FEWEST_IN_REGION)
            .join(total, on="words")
            .join(sizes, on=place)
        )
        expected = pl.col("all") * pl.col("size") / max(len(items), 1)
        surprise = pl.col("count") * (pl.col("count") / expected).log()
        standing = counted.with_columns(surprise.alias("surprise")).filter(pl.col("surprise") > 0)
        best = standing.sort("surprise", "words", descending=[True, False])
        first = best.unique(place, keep="first", maintain_order=True)
        parts.append(
            first.select(pl.col("words").alias("text"), "x", "y", zoom=pl.lit(float(zoom)))
        )
    return pl.concat(parts, how="vertical_relaxed")


def _peak(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Middle of the neighbourhood that holds the most places, (2,)."""
    # Imported here, since whoever only reads maps need not wait for it.
    from scipy.spatial import cKDTree

    tree = cKDTree(places)
    crowd = tree.query_ball_point(places, RADIUS, return_length=True)
    there = tree.query_ball_point(places[int(np.argmax(crowd))], RADIUS)
    return np.asarray(places[sorted(there)].mean(axis=0), dtype=np.float32)


def _by_tsne(vectors: NDArray[np.float32], *, seed: int, progress: Progress) -> NDArray[np.float32]:
    with needs("map", "the map"):
        from openTSNE import TSNE
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    near = PrecomputedNeighbors(*_nearest(vectors, int(3 * perplexity), progress=progress))
    progress("map", 0, STEPS)
    # One thread: several would add in another order each time.
    likeness = PerplexityBasedNN(perplexity=perplexity, knn_index=near, n_jobs=1)
    done = 0

    def show(step: int, error: float, embedding: NDArray[np.float64]) -> None:
        nonlocal done
        done = min(done + SHOWN_EVERY, STEPS - 1)
        progress("map", done, STEPS)

    # Small at first, as openTSNE asks: from far apart the points would hardly move.
    start = 1e-4 * _principal(vectors)
    layout = TSNE(n_jobs=1, random_state=seed, callbacks=show, callbacks_every_iters=SHOWN_EVERY)
    places = _in_the_square(np.asarray(layout.fit(affinities=likeness, initialization=start)))
    progress("map", STEPS, STEPS)
    return places


def _nearest(
    vectors: NDArray[np.float32], k: int, *, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k others nearest to each by cosine, best first, and 1 - cosine, (n, k) each."""
    vectors = unit(vectors)
    near = np.empty((len(vectors), k), dtype=np.int64)
    apart = np.empty((len(vectors), k))
    for start in watched(range(0, len(vectors), BLOCK), progress, "map, neighbours"):
        rows = slice(start, start + BLOCK)
        cosines = vectors[rows] @ vectors.T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        best = highest(cosines, k)
        values = np.take_along_axis(cosines, best, axis=1).astype(np.float64)
        turn = np.argsort(-values, axis=1, kind="stable")
        near[rows] = np.take_along_axis(best, turn, axis=1)
        apart[rows] = np.maximum(1 - np.take_along_axis(values, turn, axis=1), 0)
    return near, apart


def _principal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """First two principal components, (n, 2); zeros where there are fewer."""
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    left, length, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    count = min(2, len(length))
    places[:, :count] = left[:, :count] * length[:count]
    return _in_the_square(places)


def _in_the_square(places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move the middle to 0 and scale both axes alike, so that all lie within [-1, 1]."""
    if not len(places):
        return places.astype(np.float32)
    centred = places - (places.max(axis=0) + places.min(axis=0)) / 2
    return np.asarray(centred / max(np.abs(centred).max(), 1e-12), dtype=np.float32)
