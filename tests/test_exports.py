"""Exports are read back by the libraries that people use."""

import csv
import json
import re
import signal
import subprocess
import sys

import faiss
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from exported import WIDTH, expected, make_run, nearest_five
from undersong.cli.main import cli
from undersong.errors import ArtifactError, DataError
from undersong.export import rows, vector_files
from undersong.export.rows import open_rows
from undersong.export.vector_files import write_faiss, write_lists, write_numpy, write_parquet
from undersong.io import table_files
from undersong.io.files import sha256


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("home") / "run")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that every export takes several."""
    monkeypatch.setattr(rows, "BLOCK", 8)


def known(run):
    return run.embeddings("artist", "general")


def call(*words, code=0):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == code, result.output + result.stderr
    return result


# Rows


def test_rows_come_in_blocks_in_the_order_of_the_vectors(run):
    blocks = list(open_rows(run, "artist").blocks())
    assert len(blocks) > 2
    assert max(len(x) for x in blocks) <= 8
    whole = pl.concat(blocks)
    assert whole["id"].to_list() == list(known(run).ids)
    assert np.array_equal(whole["vector"].to_numpy(), known(run).vectors)
    assert whole["name"].to_list() == [x["name"] for x in expected(run)]
    assert whole["long_tail"].to_list() == [x["relations"] == 0 for x in expected(run)]


def test_a_run_without_facts_exports_what_it_has(tmp_path):
    found = open_rows(make_run(tmp_path / "run", with_facts=False), "artist")
    assert list(found.known()) == ["name", "about", "part", "relations", "popularity", "long_tail"]


def test_facts_join_what_is_known(run):
    found = open_rows(run, "artist")
    assert {"genres", "region", "decade", "mbid"} < set(found.known())
    decades = {f"{x}": d for x, d in found.frame.select("id", "decade").collect().iter_rows()}
    position = {item: x for x, item in enumerate(run.items("artist")["id"])}
    assert decades == {
        item: 1900 + position[item] if position[item] % 6 else None for item in known(run).ids
    }


def test_an_embedding_that_is_not_there_is_named(run):
    with pytest.raises(ArtifactError, match=r"holds no embeddings/track.content.parquet; it holds"):
        open_rows(run, "track", embedding="content")


# Parquet


def test_pyarrow_reads_the_parquet_file(run, tmp_path):
    write_parquet(open_rows(run, "artist"), tmp_path / "a.parquet")
    found = pq.read_table(tmp_path / "a.parquet")
    assert str(found.schema.field("vector").type) == f"fixed_size_list<element: float>[{WIDTH}]"
    vectors = found["vector"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
    assert np.array_equal(vectors, known(run).vectors)
    assert found["name"].to_pylist() == [x["name"] for x in expected(run)]
    about = json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"undersong.export"])
    assert (about["generation"], about["embedding"], about["kind"]) == ("1", "general", "artist")


# NumPy


def test_numpy_maps_the_array_and_each_line_names_its_row(run, tmp_path):
    write_numpy(open_rows(run, "artist"), tmp_path / "a.npy")
    found = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert found.dtype == np.float32
    assert np.array_equal(found, known(run).vectors)
    with (tmp_path / "a.npy.items.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    assert [(x["id"], x["name"]) for x in items] == [(x["id"], x["name"]) for x in expected(run)]
    row = 11
    order = np.argsort(-(found @ found[row]))
    assert [items[x]["id"] for x in order if x != row][:5] == nearest_five(run, row)


# CSV


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def back(cell):
    """Text of a cell as docs/export.md says to read it."""
    text = re.sub(r"^'('*(\s*[=+\-@＝＋－＠]|[\t\r\n]))", r"\1", cell)
    return re.sub(
        r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))", lambda x: chr(int(x[1] or x[2], 16)), text
    )


def test_csv_gives_back_every_text_and_number(run, tmp_path):
    vector_files.write_vectors(open_rows(run, "artist"), tmp_path / "a.csv")
    found = read_csv(tmp_path / "a.csv")
    assert [back(x["name"]) for x in found] == [x["name"] for x in expected(run)]
    assert [back(x["id"]) for x in found] == list(known(run).ids)
    vectors = np.array([[x[f"v{k}"] for k in range(WIDTH)] for x in found], dtype=np.float32)
    assert np.array_equal(vectors, known(run).vectors)
    assert (vectors < 0).any()
    popularity = [x["popularity"] for x in expected(run)]
    assert [x["popularity"] for x in found] == ["" if x is None else str(x) for x in popularity]


def test_no_cell_of_text_is_a_formula_to_a_spreadsheet(run, tmp_path):
    """Cells as a spreadsheet takes them: numbers, or text that begins with none of its signs."""
    vector_files.write_vectors(open_rows(run, "artist"), tmp_path / "a.csv")
    number = re.compile(r"-?[0-9.]+(e-?[0-9]+)?")
    formulas = [
        (column, cell)
        for line in read_csv(tmp_path / "a.csv")
        for column, cell in line.items()
        if re.match(r"\s*[=+\-@＝＋－＠]|[\t\r\n]", cell) and not number.fullmatch(cell)
    ]
    assert formulas == []
    minus = [x["v0"] for x in read_csv(tmp_path / "a.csv") if x["v0"].startswith("-")]
    assert minus


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("-5", "'-5"),
        ("'=1", "''=1"),
        ("  @x", "'  @x"),
        ("\t", "'\t"),
        ("＋1", "'＋1"),
        ("'Til", "'Til"),
        ("a=b", "a=b"),
        ("", ""),
        (None, None),
    ],
)
def test_text_that_would_be_calculated_is_quoted_and_comes_back(text, cell):
    table = pl.DataFrame({"x": pl.Series([text], dtype=pl.String)})
    assert table.select(table_files.safe(pl.col("x")))["x"].to_list() == [cell]
    assert cell is None or back(cell) == text


def test_pandas_and_polars_read_the_csv(run, tmp_path):
    import pandas as pd

    vector_files.write_vectors(open_rows(run, "artist"), tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv")
    assert frame["v3"].dtype == np.float64
    assert len(frame) == len(known(run).ids) == len(pl.read_csv(tmp_path / "a.csv"))
    assert frame.columns[0] == "id"


# faiss


def test_faiss_finds_the_same_five(run, tmp_path):
    write_faiss(open_rows(run, "artist"), tmp_path / "a.faiss")
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    with (tmp_path / "a.faiss.items.jsonl").open(encoding="utf-8") as file:
        ids = [json.loads(line)["id"] for line in file]
    scores, found = index.search(known(run).vectors, 6)
    for row in range(len(ids)):
        assert [ids[x] for x in found[row] if x != row][:5] == nearest_five(run, row)
    assert scores[:, 0] == pytest.approx(1, abs=1e-5)


def test_lists_of_faiss_are_read_until_recall_is_reached(tmp_path):
    run = make_run(tmp_path / "run", n=1700)
    write_faiss(open_rows(run, "artist"), tmp_path / "a.faiss", form="ivf")
    about = json.loads((tmp_path / "a.faiss.json").read_text())
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    assert index.nprobe == about["nprobe"]
    assert 1 < index.nprobe < index.nlist == about["lists"]
    vectors = known(run).vectors
    exact = np.argsort(-(vectors @ vectors.T), axis=1)[:, :11]
    found = index.search(vectors, 11)[1]
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]) / 11
    assert recall > 0.98
    assert about["recall@10"] >= 0.99


# Lists


@pytest.fixture
def neighbours(run, tmp_path):
    """The table that `undersong neighbours` writes, of three items with two neighbours each."""
    ids = known(run).ids
    lists = {"item": [ids[x // 2] for x in range(6)], "rank": [1, 2] * 3}
    lists |= {"neighbour": list(ids[5:11]), "score": [x / 8 for x in range(6)]}
    pl.DataFrame(lists).write_parquet(tmp_path / "n.parquet")
    return tmp_path / "n.parquet"


def read_lists(path):
    if path.suffix == ".csv":
        return [{x: back(y) for x, y in line.items()} for line in read_csv(path)]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_lists_have_the_names_of_both(run, neighbours, tmp_path, ending):
    out = tmp_path / f"lists.{ending}"
    said = call("export", "lists", run.folder, neighbours, out).stdout
    assert said == f"{out}: 6 rows, named by generation 1\n"
    found, facts = read_lists(out), expected(run)
    assert [x["name"] for x in found] == [facts[x // 2]["name"] for x in range(6)]
    assert [x["neighbour_name"] for x in found] == [x["name"] for x in facts[5:11]]
    assert [int(x["rank"]) for x in found] == [1, 2] * 3
    assert [float(x["score"]) for x in found] == [x / 8 for x in range(6)]
    tails = [str(x["relations"] == 0).lower() for x in facts[5:11]]
    assert [str(x["neighbour_long_tail"]).lower() for x in found] == tails
    assert json.loads(rows.note(out).read_text())["neighbours"]["sha256"] == sha256(neighbours)


def test_a_table_that_is_no_list_is_named(run, neighbours, tmp_path):
    with pytest.raises(DataError, match="no form of lists ends in '.xlsx'; known: .csv"):
        write_lists(run, neighbours, tmp_path / "a.xlsx", kind="artist")
    with pytest.raises(DataError, match="n.parquet names 'id .* is no track of this run"):
        write_lists(run, neighbours, tmp_path / "a.csv", kind="track")
    with pytest.raises(DataError, match="is no table of neighbours .*make one with"):
        write_lists(run, tmp_path / "none.parquet", tmp_path / "a.csv", kind="artist")
    pl.DataFrame({"item": ["x"], "rank": [1]}).write_parquet(neighbours)
    with pytest.raises(DataError, match="has no column 'neighbour', it has item, rank"):
        write_lists(run, neighbours, tmp_path / "a.csv", kind="artist")


# What stands at OUT


def test_a_note_names_the_generation_and_the_hash_of_each_file(run, tmp_path):
    write_numpy(open_rows(run, "artist"), tmp_path / "a.npy")
    about = json.loads((tmp_path / "a.npy.json").read_text())
    assert (about["generation"], about["content"]) == (run.generation, run.content)
    assert about["files"] == {
        name: {"sha256": sha256(tmp_path / name)} for name in ("a.npy", "a.npy.items.jsonl")
    }
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        "a.npy",
        "a.npy.items.jsonl",
        "a.npy.json",
    ]


def test_an_export_replaces_an_export(run, tmp_path):
    write_parquet(open_rows(run, "artist"), tmp_path / "a")
    write_numpy(open_rows(run, "track"), tmp_path / "a")
    assert np.load(tmp_path / "a").shape == (19, 9)


@pytest.mark.parametrize("name", ["a.npy", "a.npy.items.jsonl", "a.npy.json"])
def test_what_is_no_export_stays_unless_forced(run, tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(DataError, match=f"{name} exists and is no.*--force"):
        write_numpy(open_rows(run, "artist"), tmp_path / "a.npy")
    assert [x.name for x in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'
    write_numpy(open_rows(run, "artist"), tmp_path / "a.npy", force=True)
    assert len(np.load(tmp_path / "a.npy")) == len(known(run).ids)


def test_an_export_that_was_changed_since_is_foreign(run, tmp_path):
    write_parquet(open_rows(run, "artist"), tmp_path / "a")
    (tmp_path / "a").write_bytes(b"edited")
    with pytest.raises(DataError, match="not what `undersong export` left there"):
        write_parquet(open_rows(run, "artist"), tmp_path / "a")


def test_a_folder_is_no_place_for_an_export(run, tmp_path):
    with pytest.raises(DataError, match=r"is a folder; name the file to write, such as .*export"):
        write_parquet(open_rows(run, "artist"), tmp_path, force=True)


def fail_in_the_middle(out):
    with rows.placing(out, {"n": 2}, beside=("b",), force=False) as (a, b):
        a.write_text("new")
        b.write_text("new beside")
        raise DataError("a block is wrong")


def test_when_writing_fails_everything_stays(tmp_path):
    with rows.placing(tmp_path / "a", {"n": 1}, beside=("b",), force=False) as (a, b):
        a.write_text("old")
        b.write_text("old beside")
    before = {x.name: x.read_bytes() for x in tmp_path.iterdir()}
    with pytest.raises(DataError, match="a block is wrong"):
        fail_in_the_middle(tmp_path / "a")
    assert {x.name: x.read_bytes() for x in tmp_path.iterdir()} == before


def test_a_killed_export_leaves_what_was_there(run, tmp_path):
    """The process is killed with signal 9 in the middle of its blocks."""
    write_numpy(open_rows(run, "artist"), tmp_path / "a.npy")
    before = sha256(tmp_path / "a.npy")
    code = (
        "import sys, time; from pathlib import Path; from undersong import runs\n"
        "from undersong.export import rows, vector_files\n"
        "rows.BLOCK = 8\n"
        "def slow(*_):\n"
        "    print('block', flush=True); time.sleep(60)\n"
        "found = rows.open_rows(runs.read(Path(sys.argv[1])), 'artist', embedding='content')\n"
        "vector_files.write_numpy(found, Path(sys.argv[2]), progress=slow)\n"
    )
    words = [sys.executable, "-c", code, str(run.folder), str(tmp_path / "a.npy")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "block\n"
        process.send_signal(signal.SIGKILL)
    assert sha256(tmp_path / "a.npy") == before
    write_numpy(open_rows(run, "artist", embedding="content"), tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").shape == (31, 7)


# The command line


@pytest.mark.parametrize("target", ["parquet", "numpy", "csv", "faiss", "pgvector", "qdrant"])
def test_every_target_exports_tracks_and_names_the_generation(run, tmp_path, target):
    out = tmp_path / "out"
    said = call("export", target, run.folder, out, "--tracks").stdout
    assert said == f"{out}: 19 tracks x 9, general embedding of generation 1\n"
    about = json.loads((tmp_path / "out.json").read_text())
    assert (about["target"], about["kind"], about["items"]) == (target, "track", 19)
    (tmp_path / "out").write_text("mine")
    assert "--force" in call("export", target, run.folder, out, code=1).stderr
    assert (
        "31 artists x 7"
        in call("export", target, run.folder, out, "--embedding", "content", "--force").stdout
    )


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    said = call("export", "csv", tmp_path, tmp_path / "a.csv", code=1).stderr
    assert said.count("\n") == 1
    assert "current.json is missing" in said
