import numpy as np
import polars as pl
import pytest

from undersong import runs
from undersong.catalogue import attributes
from undersong.embeddings import Embeddings, unit
from undersong.retrieval import projection

GROUPS, SIZE, WIDTH = 4, 29, 11


def grouped(*, spread=0.25, seed=3):
    """Vectors of four groups in turn, and the group of each."""
    generator = np.random.default_rng(seed)
    label = np.arange(GROUPS * SIZE) % GROUPS
    centre = generator.normal(size=(GROUPS, WIDTH))
    vectors = centre[label] + spread * generator.normal(size=(len(label), WIDTH))
    return vectors.astype(np.float32), label


@pytest.fixture(scope="module")
def laid():
    return projection.lay_out(grouped()[0], seed=7)


def test_similar_items_are_neighbours_on_the_map(laid):
    _, label = grouped()
    apart = np.linalg.norm(laid[:, None] - laid[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :5]
    assert (label[nearest] == label[:, None]).mean() > 0.98


def test_the_map_is_the_same_for_the_same_seed_and_fills_the_square(laid):
    np.testing.assert_array_equal(laid, projection.lay_out(grouped()[0], seed=7))
    assert laid.dtype == np.float32
    assert np.abs(laid).max() == 1
    np.testing.assert_allclose(laid.max(axis=0) + laid.min(axis=0), 0, atol=1e-5)


def test_the_neighbours_on_which_the_map_rests_are_those_of_a_slow_search(monkeypatch):
    monkeypatch.setattr(projection, "BLOCK", 13)
    vectors = np.random.default_rng(2).normal(size=(61, 5)).astype(np.float32)
    steps = []
    near, apart = projection._nearest(vectors, 7, progress=lambda *step: steps.append(step))
    exact = 1 - unit(vectors).astype(np.float64) @ unit(vectors).T.astype(np.float64)
    np.fill_diagonal(exact, np.inf)
    np.testing.assert_array_equal(near, np.argsort(exact, axis=1)[:, :7])
    np.testing.assert_allclose(apart, np.sort(exact, axis=1)[:, :7], atol=1e-6)
    assert [x[1] for x in steps] == [0, 1, 2, 3, 4, 5]


def test_the_length_of_a_vector_does_not_matter(laid):
    vectors, _ = grouped()
    scale = np.random.default_rng(1).uniform(0.5, 3, (len(vectors), 1)).astype(np.float32)
    np.testing.assert_array_equal(
        projection.join(vectors[:9] * scale[:9], vectors, laid),
        projection.join(vectors[:9], vectors, laid),
    )


def test_an_item_joins_the_region_of_those_it_is_most_similar_to(laid):
    vectors, label = grouped()
    others, label_of_others = grouped(seed=3, spread=0.2)
    joined = projection.join(others[:17], vectors, laid)
    apart = np.linalg.norm(joined[:, None] - laid[None], axis=2)
    assert (label[apart.argmin(axis=1)] == label_of_others[:17]).all()


def test_of_too_many_items_a_sample_is_laid_out_and_the_others_join(monkeypatch):
    monkeypatch.setattr(projection, "LARGEST", 67)
    vectors, label = grouped()
    places = projection.lay_out(vectors, seed=5)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (label[apart.argmin(axis=1)] == label).mean() > 0.95


def test_very_many_items_join_by_cells_where_they_would_join_one_by_one(monkeypatch):
    pytest.importorskip("faiss", reason="cells need faiss: pip install 'undersong[faiss]'")
    generator = np.random.default_rng(3)
    centre = generator.normal(size=(7, 24))
    group = generator.integers(7, size=1_301)
    vectors = (centre[group] + generator.normal(0, 0.3, (1_301, 24))).astype(np.float32)
    laid, places = vectors[:500], (group[:500, None] + np.array([[0.0, 9.0]])).astype(np.float32)
    exact = projection.join(vectors[500:], laid, places)
    monkeypatch.setattr(projection.approximate, "SIZE", 801)
    by_cells = projection.join(vectors[500:], laid, places)
    assert (by_cells == exact).all(axis=1).mean() > 0.99
    assert (by_cells[:, 0] == group[500:]).mean() > 0.99


@pytest.mark.parametrize("n", [0, 1, 2, 9, 10, 13])
def test_a_few_items_and_equal_ones_have_places_too(n):
    for vectors in (np.ones((n, 3), np.float32), np.eye(max(n, 1), 17, dtype=np.float32)[:n]):
        places = projection.lay_out(vectors, seed=1)
        assert places.shape == (n, 2)
        assert np.isfinite(places).all()


def test_a_region_is_named_where_its_genre_is_densest_and_the_commonest_come_first():
    generator = np.random.default_rng(2)
    dense = np.array([0.6, -0.4]) + 0.01 * generator.normal(size=(31, 2))
    strays = generator.uniform(-1, 1, (23, 2))
    other = np.array([-0.7, 0.7]) + 0.01 * generator.normal(size=(8, 2))
    few, unnamed = generator.uniform(-1, 1, (4, 2)), generator.uniform(-1, 1, (6, 2))
    places = np.concatenate([strays, dense, other, few, unnamed]).astype(np.float32)
    genres = ["folk"] * 54 + ["noise"] * 8 + ["rare"] * 4 + [None] * 6
    found = projection.regions(places, genres)
    assert found.select("genre", "items").rows() == [("folk", 54), ("noise", 8)]
    np.testing.assert_allclose(found.select("x", "y")[0].row(0), (0.6, -0.4), atol=0.02)
    np.testing.assert_allclose(found.select("x", "y")[1].row(0), (-0.7, 0.7), atol=0.02)
    assert projection.regions(places, [None] * len(places)).is_empty()


def test_a_run_has_one_map_of_artists_tracks_and_genres(tmp_path):
    vectors, label = grouped()
    ids = tuple(f"a{x}" for x in range(len(vectors)))
    with runs.publishing(tmp_path / "run", {"kind": "artist"}) as home:
        Embeddings(ids, vectors).write(home / "embeddings/artist.general.parquet")
        tracks = Embeddings(tuple(f"t{x}" for x in range(37)), vectors[:37])
        tracks.write(home / "embeddings/track.general.parquet")
        about = {"kind": "artist", "id": ids, "genres": [[f"g{x}", "other"] for x in label]}
        missing = [pl.lit(None, kind).alias(x) for x, kind in attributes.COLUMNS.items()]
        table = pl.DataFrame(about | {"kind": ["artist"] * len(ids)})
        rest = [x for x in missing if x.meta.output_name() not in about]
        attributes.write_attributes(
            home / attributes.ATTRIBUTES_FILE, table.with_columns(rest).select(*attributes.COLUMNS)
        )
    projection.make(runs.read(tmp_path / "run"), tmp_path, seed=7)
    places = pl.read_parquet(tmp_path / projection.FILE)
    assert places["id"].to_list() == [*ids, *tracks.ids]
    regions = pl.read_parquet(tmp_path / projection.REGIONS_FILE)
    assert regions.select("genre", "items").rows() == [(f"g{x}", SIZE) for x in range(GROUPS)]
    artists = places.filter(pl.col("kind") == "artist").select("x", "y").to_numpy()
    for group, (x, y) in enumerate(regions.select("x", "y").iter_rows()):
        assert label[np.linalg.norm(artists - (x, y), axis=1).argmin()] == group


def test_a_part_is_named_by_the_word_that_stands_out_there():
    rng = np.random.default_rng(5)
    places = rng.uniform(-1, 1, (900, 2)).astype(np.float32)
    corner = (places > 1 / 3).all(axis=1)
    words = [["rock", "pop", *(["Shoegaze"] if x else [])] for x in corner]
    items = pl.DataFrame({"x": places[:, 0], "y": places[:, 1], "words": words})
    found = projection.subregions(items, known=["Rock"])
    assert "rock" not in found["text"].to_list()
    far = found.filter(pl.col("zoom") == projection.ZOOMS[0])
    named = far.filter(pl.col("text") == "Shoegaze")
    assert len(named) > 0
    assert (named.select("x", "y").to_numpy() > 1 / 3).all()
    assert len(far) <= (2 * projection.ZOOMS[0]) ** 2
    nothing = items.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("words"))
    assert projection.subregions(nothing, known=[]).is_empty()
