import numpy as np
import polars as pl
import pytest

from undersong.embeddings import Embeddings, read, unit
from undersong.errors import ArtifactError, DataError


def some(n: int = 3, d: int = 5) -> Embeddings:
    vectors = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    return Embeddings(tuple(f"i{x}" for x in range(n)), vectors)


def test_a_file_of_embeddings_comes_back_as_it_was(tmp_path):
    some().write(tmp_path / "e.parquet")
    found = read(tmp_path / "e.parquet")
    assert found.ids == ("i0", "i1", "i2")
    np.testing.assert_array_equal(found.vectors, some().vectors)
    assert found.vectors.dtype == np.float32


def test_any_data_tool_reads_the_file(tmp_path):
    some().write(tmp_path / "e.parquet")
    table = pl.read_parquet(tmp_path / "e.parquet")
    assert table.schema == {"id": pl.String, "vector": pl.Array(pl.Float32, 5)}


def test_no_item_is_an_embedding_too(tmp_path):
    Embeddings((), np.zeros((0, 4), np.float32)).write(tmp_path / "e.parquet")
    found = read(tmp_path / "e.parquet")
    assert (found.ids, found.vectors.shape) == ((), (0, 4))


def test_align_puts_zeros_where_an_item_has_no_vector():
    aligned, missing = some().align(["i2", "ghost", "i0", "i2"])
    assert missing.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(aligned, some().vectors[[2, 0, 0, 2]] * ~missing[:, None])


def test_align_to_nothing_keeps_the_width():
    aligned, missing = some().align([])
    assert (aligned.shape, missing.shape) == ((0, 5), (0,))


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (("a",), np.zeros((2, 3)), r"1 ids but vectors of shape \(2, 3\); expected \(n, d\)"),
        (("a",), np.zeros(1), r"shape \(1,\)"),
        (("a", "b", "a"), np.zeros((3, 2)), "id 'a' has two vectors"),
        (("a", "b"), np.array([[0, 0], [1, np.nan]]), r"vector of 'b' \(row 1\)"),
        (("a", "b"), np.array([[0, -np.inf], [1, 1]]), r"vector of 'a' \(row 0\)"),
    ],
)
def test_vectors_that_fit_no_ids_are_refused(ids, vectors, message):
    with pytest.raises(DataError, match=message):
        Embeddings(ids, vectors.astype(np.float32))


def test_unit_rows_have_length_one_and_zeros_stay():
    vectors = np.array([[3, 4, 0], [0, 0, 0], [0, 0, 1e-10]], np.float32)
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8, 0], [0, 0, 0], [0, 0, 1]], rtol=1e-6)
    assert vectors[0, 0] == 3


def test_another_format_or_file_is_refused(tmp_path):
    path = tmp_path / "e.parquet"
    with pytest.raises(ArtifactError, match="is no embedding file .*; train again"):
        read(path)
    path.write_bytes(b"nonsense that is no Parquet")
    with pytest.raises(ArtifactError, match="is no embedding file .*; train again"):
        read(path)
    table = pl.DataFrame({"id": ["a"], "vector": [[1.0]]})
    table.write_parquet(path)
    with pytest.raises(ArtifactError, match="format None, but this version reads 1; train again"):
        read(path)
    table.write_parquet(path, metadata={"undersong.embeddings": "2"})
    with pytest.raises(ArtifactError, match="format 2, but this version reads 1"):
        read(path)


def test_mapped_vectors_are_those_that_were_written_and_cannot_be_changed(tmp_path):
    written = Embeddings(("a", "b", "c"), np.arange(15, dtype=np.float32).reshape(5, 3).T)
    written.write(tmp_path / "e.parquet")
    written.write_vectors(tmp_path / "e.npy")
    found = read(tmp_path / "e.parquet", mapped=tmp_path / "e.npy")
    assert found.ids == written.ids
    np.testing.assert_array_equal(found.vectors, written.vectors)
    assert found.vectors.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0, 0] = 7


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, 5)), "holds no float32 vectors; publish the run again"),
        (np.zeros((2, 5), np.float32), "3 ids but vectors of shape .2, 5.*; publish the run again"),
        (np.full((3, 5), np.inf, np.float32), "vector of 'a' .row 0. holds a value that is not"),
        (np.array([{}, "x", None]), "holds no vectors .*; publish the run again"),
    ],
)
def test_vectors_of_something_else_are_refused(tmp_path, vectors, message):
    Embeddings(("a", "b", "c"), np.ones((3, 5), np.float32)).write(tmp_path / "e.parquet")
    np.save(tmp_path / "e.npy", vectors, allow_pickle=True)
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path / "e.parquet", mapped=tmp_path / "e.npy")


def test_lists_and_arrays_of_a_notebook_become_embeddings():
    found = Embeddings(np.array(["a", "b"]), [[1, 2, 3], [4, 5, 6]])
    assert found.ids == ("a", "b")
    assert type(found.ids[0]) is str
    assert found.vectors.dtype == np.float32
    for vectors in ([[1, 2], [3]], [["x", "y"], ["z", "w"]]):
        with pytest.raises(
            DataError, match=r"vectors are no matrix of numbers \(.*\); give \(n, d"
        ):
            Embeddings(["a", "b"], vectors)
