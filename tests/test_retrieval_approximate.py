import numpy as np
import pytest

pytest.importorskip("faiss", reason="faiss is not installed: scripts/setup dev")

from undersong.embeddings import Embeddings, unit
from undersong.errors import ArtifactError
from undersong.retrieval import approximate
from undersong.retrieval.index import Index, by_cosine
from undersong.retrieval.neighbours import search
from undersong.retrieval.query import Query

N, WIDTH = 20_011, 16


@pytest.fixture(scope="module")
def index():
    """Items in 300 groups, with cells; there are so many that not all cells are looked into."""
    generator = np.random.default_rng(0)
    centre = unit(generator.normal(size=(300, WIDTH)).astype(np.float32))
    noise = generator.normal(size=(N, WIDTH)).astype(np.float32)
    vectors = unit(centre[generator.integers(300, size=N)] + 0.2 * noise)
    embeddings, shares = Embeddings(tuple(f"i{x}" for x in range(N)), vectors), []
    made = approximate.make(
        vectors, progress=lambda stage, done, total, note="": shares.append(done / total)
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) > 10 + 2  # also within the rounds of k-means
    return Index(embeddings, approximate=made)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.2, 0.004])
def test_cells_find_what_the_exact_search_finds(index, share):
    generator = np.random.default_rng(7)
    allowed = generator.random(N) < share if share < 1 else np.ones(N, dtype=bool)
    rows = generator.choice(N, 37, replace=False)
    found = index.approximate.search(index.embeddings, rows, allowed=allowed, k=10)
    exact = by_cosine(index.embeddings, rows, among=np.flatnonzero(allowed), k=10)
    recall = np.mean(
        [np.isin(a, b).mean() for a, b in zip(exact.neighbours, found.neighbours, strict=True)]
    )
    assert recall >= 0.9
    assert allowed[found.neighbours].all()
    assert (found.neighbours != rows[:, None]).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()
    cosines = np.einsum(
        "qkd,qd->qk", index.embeddings.vectors[found.neighbours], index.embeddings.vectors[rows]
    )
    assert found.scores == pytest.approx(cosines, abs=1e-6)


@pytest.mark.parametrize(("left", "k"), [(12, 20), (90, 20), (N, N), (0, 3)])
def test_where_few_are_left_or_all_are_asked_for_the_search_is_exact(index, left, k):
    library = frozenset(f"i{x}" for x in range(0, left * 3, 3)) if left < N else None
    request = Query(k=k, library=library or (frozenset(["nobody"]) if not left else None))
    rows = np.array([5, 9000])
    (found,) = search(index, rows, query=request)
    (exact,) = search(Index(index.embeddings), rows, query=request)
    assert found.neighbours.tolist() == exact.neighbours.tolist()


def test_cells_are_read_back_and_nothing_else_is(index, tmp_path):
    path = tmp_path / "cells.faiss"
    approximate.write(path, index.approximate)
    again, everyone = approximate.read(path, n=N), np.ones(N, dtype=bool)
    one, other = (
        x.search(index.embeddings, np.array([3]), allowed=everyone, k=7).neighbours.tolist()
        for x in (index.approximate, again)
    )
    assert one == other
    with pytest.raises(ArtifactError, match=f"holds cells of {N} items, not 17"):
        approximate.read(path, n=17)
    path.write_bytes(b"\x80\x04\x95pickle.")
    with pytest.raises(ArtifactError, match="holds no cells"):
        approximate.read(path, n=N)


def test_few_items_get_no_cells(index, tmp_path, monkeypatch):
    assert not approximate.make_cells(index.embeddings, tmp_path, kind="artist")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(approximate, "SIZE", N)
    assert approximate.make_cells(index.embeddings, tmp_path, kind="artist")
    assert (tmp_path / "approximate/artist.faiss").exists()
