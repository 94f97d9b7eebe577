import hashlib
import json
import re
from functools import partial
from importlib import metadata

import numpy as np
import polars as pl
import pytest

from undersong.errors import ArtifactError, DataError, UndersongError, install, needs
from undersong.io.files import read_json, replacing, sha256, write_json
from undersong.io.table_files import (
    read_metadata,
    read_table,
    read_user_table,
    scan_table,
    write_table,
)
from undersong.io.tensors import map_array, read_about, read_tensors, write_array, write_tensors


def test_a_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "x.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_unescaped_and_ends_its_line(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": [1.5, None], "a": "é", "format": 3})
    text = '{\n  "a": "é",\n  "b": [\n    1.5,\n    null\n  ],\n  "format": 3\n}\n'
    assert path.read_text(encoding="utf-8") == text
    assert read_json(path, version=3, hint="again")["a"] == "é"


def test_a_number_that_is_not_finite_is_no_json_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"format": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path, version=1, hint="again") == {"format": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "x.json is missing; run it again"),
        (b"{", "x.json is not JSON .*; run it again"),
        (b'{"a": "\xff"}', "x.json is not JSON .*; run it again"),
        (b'{"format": 4}', "x.json: format 4, but this version reads 3; run it again"),
        (b"{}", "format None, but this version reads 3"),
        (b"[3]", "format None, but this version reads 3"),
    ],
)
def test_json_of_another_form_is_refused_with_the_remedy(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_json(path, version=3, hint="run it again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "x.json is not JSON .it is nested too deep.; run it again"),
        (b'{"format": ' + b"9" * 5_000 + b"}", "x.json is not JSON .*; run it again"),
        (b'{"format": 1e400}', "format inf, but this version reads 3"),
        (b'{"format": true}', "format True, but this version reads 3"),
    ],
)
def test_odd_json_is_one_sentence(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_json(tmp_path / "x.json", version=3, hint="run it again")


def test_a_folder_in_the_place_of_json_is_one_sentence(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read .Is a directory.; run it again"):
        read_json(tmp_path, version=3, hint="run it again")


def test_json_with_a_sum_tells_every_bit_that_changed(tmp_path):
    path, content = tmp_path / "x.json", {"format": 3, "a": [1.5, "é"], "b": {"7": None, "12": 4}}
    write_json(path, content, summed=True)
    assert read_json(path, version=3, hint="again") == content
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            read = read_json(path, version=3, hint="again")
        except ArtifactError:
            continue
        assert {x: read[x] for x in content} == content  # white space, or the name of the sum


def test_the_hash_is_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"undersong" * 100_003)
    assert sha256(path) == hashlib.sha256(b"undersong" * 100_003).hexdigest()


def test_a_table_is_read_by_the_format_in_its_metadata(tmp_path):
    path, table = tmp_path / "new" / "x.parquet", pl.DataFrame({"id": ["a", "b"], "n": [5, 3]})
    write_table(path, table, metadata={"undersong.x": "2", "note": "é"})
    assert read_table(path, hint="again", metadata={"undersong.x": "2"}).equals(table)
    assert read_table(path, hint="again", columns=["n"]).columns == ["n"]
    assert read_metadata(path, hint="again")["note"] == "é"
    assert scan_table(path, hint="again").collect().equals(table)
    with pytest.raises(ArtifactError, match="x.parquet: format 2, but this version reads 3; again"):
        read_table(path, hint="again", metadata={"undersong.x": "3"})
    with pytest.raises(ArtifactError, match="x.parquet cannot be read .*; again"):
        read_table(path, hint="again", columns=["gone"])


def test_a_file_that_is_no_table_is_refused_as_the_caller_says(tmp_path):
    path = tmp_path / "x.parquet"
    for read in (read_table, scan_table, read_metadata):
        with pytest.raises(ArtifactError, match="x.parquet cannot be read .*; again"):
            read(path, hint="again")
    path.write_bytes(b"PK")
    for read in (read_table, scan_table, read_metadata):
        with pytest.raises(DataError, match="x.parquet is no list .*; write one"):
            read(path, hint="write one", fault="is no list", error=DataError)


def test_a_table_of_the_users_own_is_parquet_or_text(tmp_path):
    pl.DataFrame({"n": [7]}).write_parquet(tmp_path / "x.PARQUET")
    (tmp_path / "x.csv").write_text("n\n7\n")
    assert read_user_table(tmp_path / "x.PARQUET")["n"].to_list() == [7]
    assert read_user_table(tmp_path / "x.csv")["n"].to_list() == ["7"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_by_memory_map(tmp_path, order):
    array = np.asarray(np.arange(12, dtype=np.float32).reshape(4, 3), order=order)
    write_array(tmp_path / "x.npy", array)
    mapped = map_array(tmp_path / "x.npy", hint="again")
    np.testing.assert_array_equal(mapped, array)
    assert mapped.flags.c_contiguous
    assert not mapped.flags.writeable


def test_a_file_that_is_no_array_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    with pytest.raises(ArtifactError, match="x.npy cannot be read .*; again"):
        map_array(path, hint="again")
    np.save(path, np.array([{}, "x"]), allow_pickle=True)
    with pytest.raises(ArtifactError, match="x.npy holds no lists .*; again"):
        map_array(path, hint="again", fault="holds no lists")
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(
        ArtifactError, match="x.npy cannot be read .it holds several arrays.; again"
    ):
        map_array(path, hint="again")


@pytest.mark.parametrize("framework", ["numpy", "pt"])
def test_tensors_come_back_in_either_framework_with_the_words_about_them(tmp_path, framework):
    torch = pytest.importorskip("torch", reason="torch is missing: scripts/setup dev")
    path, values = tmp_path / "x.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3).T
    last = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {"w": values} if framework == "numpy" else {"w": torch.from_numpy(values), "c": last}
    write_tensors(path, tensors, version=4, about={"names": "é"})
    about, read = read_tensors(path, version=4, framework=framework)
    assert about == read_about(path) == {"names": "é", "format": "4"}
    assert set(read) == set(tensors)
    assert isinstance(read["w"], type(tensors["w"]))
    np.testing.assert_array_equal(np.asarray(read["w"]), values)
    if framework == "pt":
        assert torch.equal(read["c"], last)


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for read in (read_about, partial(read_tensors, version=4)):
        with pytest.raises(ArtifactError, match="x.safetensors cannot be read .*; train again"):
            read(path)
    write_tensors(path, {"w": np.zeros(5)}, version=4, about={})
    with pytest.raises(ArtifactError, match="format 4, but this version reads 6; delete it"):
        read_tensors(path, version=6, hint="delete it")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="x.safetensors is damaged .*; delete it"):
        read_tensors(path, version=4, hint="delete it", fault="is damaged")


def test_a_missing_package_is_named_with_what_installs_it():
    message = re.escape(f"drawing needs nowhere; install it with: {install('plot')}")
    with pytest.raises(UndersongError, match=message), needs("plot", "drawing"):
        import nowhere.at.all  # noqa: F401


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {"url": "file:///src", "dir_info": {"editable": True}},
            "pip install -e 'file:///src[plot]'",
        ),
        (
            {"url": "file:///a/undersong-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'undersong[plot] @ file:///a/undersong-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://git.example/undersong", "vcs_info": {"vcs": "git"}},
            "pip install 'undersong[plot] @ git+https://git.example/undersong'",
        ),
        (None, "pip install '.[plot]' in a checkout of undersong"),
    ],
)
def test_what_installs_a_part_comes_from_where_the_package_came_from(
    monkeypatch, tmp_path, record, line
):
    if record is not None:
        (tmp_path / "direct_url.json").write_text(json.dumps(record))
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(tmp_path))
    assert install("plot") == line


def test_without_a_record_of_an_installation_the_checkout_is_named(monkeypatch):
    monkeypatch.setattr(metadata.Distribution, "discover", classmethod(lambda *_, **__: iter(())))
    assert install("plot").endswith("in a checkout of undersong")
