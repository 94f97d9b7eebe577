import hashlib

import pytest

from undersong.errors import ArtifactError
from undersong.io.files import read_json, replacing, sha256, write_json


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
    assert read_json(path, form=3, remedy="again")["a"] == "é"


def test_a_number_that_is_not_finite_is_no_json_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"format": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path, form=1, remedy="again") == {"format": 1}


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
        read_json(path, form=3, remedy="run it again")


def test_the_hash_is_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"undersong" * 100_003)
    assert sha256(path) == hashlib.sha256(b"undersong" * 100_003).hexdigest()
