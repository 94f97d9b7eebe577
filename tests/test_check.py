import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from undersong.catalogue.check import LISTED, Fault, Issues, check_catalogue, issues_text
from undersong.catalogue.tables import Catalogue, Field, write_catalogue
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.importers.tables.conversion import check_tables
from undersong.io.files import write_json

MAPPING = """
[artists]
file = "artists.csv"
split = "part"
[artists.fields.year]
type = "number"
[tracks]
file = "tracks.csv"
path = "path"
[plays]
file = "plays.csv"
item = "artist"
plays = "plays"
[[relations]]
file = "relations.csv"
source = "press"
[[features]]
name = "sound"
file = "sound.csv"
columns = ["f1", "f2", "f3"]
"""
SOUND = {
    "artists.csv": "id,year,part\nabba,1972,train\nbjörk,1977,\nc,,test\nd,,\n",
    "tracks.csv": "id,artist,path\nt1,abba,song.ogg\nt2,c,\n",
    "plays.csv": "user,artist,plays\nu,abba,3\nu,c,1\n",
    "relations.csv": "a,b\nabba,björk\nc,abba\n",
    "sound.csv": "id,f1,f2,f3\nabba,1,2,3\nc,3,4,5\n",
}


def put(folder: Path, mapping: str = MAPPING, **changed: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "song.ogg").write_bytes(b"")
    (folder / "mapping.toml").write_text(mapping)
    for name, content in {**SOUND, **{f"{k}.csv": v for k, v in changed.items()}}.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "mapping.toml"


def faults(path: Path) -> list[Fault]:
    return [y for x in check_tables(path) for y in x.first]


def test_sound_tables_have_no_fault_though_an_artist_has_no_source(tmp_path):
    assert check_tables(put(tmp_path)) == ()
    assert issues_text(()) == "no fault found"


@pytest.mark.parametrize(
    ("table", "content", "row", "what"),
    [
        ("artists", "id,year,part\na,,\nb,,\na,,\n", 4, "id 'a' stands in 2 already"),
        ("artists", "id,year,part\na,,\n,,\nc,,\n", 3, "has no id"),
        ("artists", "id,year,part\na,soon,\n", 2, "year is 'soon', not a number"),
        ("artists", "id,year,part\na,1e999,\n", 2, "year is inf"),
        ("artists", "id,year,part\na,,trian\n", 2, "split 'trian' is none of train, val"),
        ("artists", "id,year,part\n", None, "has no row below its header"),
        ("artists", "", None, "has no row below its header"),
        ("artists", "id,yaer,part\na,,\n", None, "has no column 'year'"),
        ("artists", "id,year,year,part\na,,,\n", None, "has two columns 'year'"),
        ("artists", "id,year,part\na,,\nb,,,\n", 3, "has 4 values, but the header 3"),
        ("artists", "id,year,part\na,,\nb,7\nc,,\n", 3, "has 2 values, but the header 3"),
        ("artists", '"id,year,part\na,,\n', 1, "a quote opens here"),
        ("artists", 'id,year,part\na,"x\ny",\nb,"7\n', 4, "a quote opens here"),
        ("artists", "id,year,part\nBjörk,,\n".encode("latin1"), 2, "is not UTF-8 near"),
        ("artists", "id,year,part\na,,\n".encode("utf-16"), None, "is UTF-16"),
        ("tracks", "id,artist,path\nt,abab,\n", 2, "artist 'abab' is no artist; did you mean"),
        ("tracks", "id,artist,path\nt,Abba ,\n", 2, "'Abba' is no artist; did you mean 'abba'"),
        ("tracks", "id,artist,path\nt,,\n", 2, "has no artist"),
        ("tracks", "id,artist,path\nt,c,\nu,c,no.ogg\n", 3, "path 'no.ogg' is no file in"),
        ("plays", "user,artist,plays\nu,abba,-2\n", 2, "plays is -2"),
        ("plays", "user,artist,plays\nu,abba,\n", 2, "has no plays"),
        ("plays", "user,artist,plays\nu,abba,inf\n", 2, "plays is inf"),
        ("plays", "user,artist,plays\nu,abba,few\n", 2, "plays is 'few', not a number"),
        ("plays", "user,artist,plays\n,abba,1\n", 2, "has no user"),
        ("plays", "user,artist,plays\nu,ghost,1\n", 2, "item 'ghost' is no artist"),
        ("relations", "a,b\nabba,c\nc,c\n", 3, "'c' is related to itself"),
        ("relations", "a,b\nc,c\n", None, "relates nothing but 'c'"),
        ("relations", "a,b\nabba,x\n", 2, "b 'x' is no artist"),
        ("relations", "a,b\nabba,\n", 2, "has no b"),
        ("sound", "id,f1,f2,f3\nabba,1,2,1e39\n", 2, "holds a value that is not finite"),
        ("sound", "id,f1,f2,f3\nabba,1,2,x\n", 2, "f3 is 'x', not a number"),
        ("sound", "id,f1,f2,f3\nabba,1,2,3\nabba,1,2,3\n", 3, "id 'abba' stands in 2"),
        ("sound", "id,f1,f2,f3\nabba,1,,3\n", None, r"keeps none of its 1 rows (1 with a value"),
    ],
)
def test_a_fault_is_found_with_its_place(tmp_path, table, content, row, what):
    found = [x for x in faults(put(tmp_path, **{table: content})) if x.what.find(what) >= 0]
    assert [(x.file, x.row) for x in found[:1]] == [(f"{table}.csv", row)]
    assert found[0].remedy


def test_lines_count_within_quoted_values(tmp_path):
    content = 'id,year,part\n"a\nb\nc",1,\n\nd,word,\n'
    assert [x.row for x in faults(put(tmp_path, artists=content)) if "word" in x.what] == [6]


def test_faults_of_every_table_are_listed_at_once(tmp_path):
    path = put(
        tmp_path,
        artists="id,year,part\nabba,x,\nabba,,\nc,,\n",
        plays="user,artist,plays\nu,abba,-1\n",
        relations="a,b\nc,c\nc,abba\n",
    )
    assert [x.sort for x in check_tables(path)] == [
        "year not a number",
        "id given twice",
        "negative plays",
        "relation of an item to itself",
    ]


def test_missing_files_columns_and_sources_name_the_nearest(tmp_path):
    mapping = MAPPING.replace("plays.csv", "pals.csv").replace('"f1"', '"f1 "')
    mapping = mapping.replace('source = "press"', 'source_column = "b"\nsources = ["bjork"]')
    found = faults(put(tmp_path, mapping))
    assert "did you mean 'plays.csv'?" in next(x.remedy for x in found if x.file == "pals.csv")
    assert "did you mean 'f1'?" in next(x.remedy for x in found if "'f1 '" in x.what)
    source = next(x for x in found if "has no source 'bjork'" in x.what)
    assert "did you mean 'björk'?" in source.remedy


@pytest.mark.parametrize("keep", [7, 4000], ids=["header", "later"])
def test_a_compressed_file_that_ends_early_is_a_fault(tmp_path, keep):
    rows = "".join(f"u{x},abba,{x * x}\n" for x in range(3001))
    raw = gzip.compress(("user,artist,plays\n" + rows).encode())[:keep]
    path = put(tmp_path, MAPPING.replace("plays.csv", "plays.csv.gz"))
    (tmp_path / "plays.csv.gz").write_bytes(raw)
    assert [x.sort for x in check_tables(path)] == ["unreadable file"]


def test_a_file_that_is_no_parquet_is_a_fault(tmp_path):
    path = put(tmp_path, MAPPING.replace("plays.csv", "plays.parquet"))
    (tmp_path / "plays.parquet").write_bytes(b"user,artist,plays")
    assert [x.sort for x in check_tables(path)] == ["unreadable file"]


def test_a_where_that_keeps_nothing_says_what_the_column_holds(tmp_path):
    mapping = MAPPING.replace('split = "part"', 'where = { part = "tarin" }')
    assert faults(put(tmp_path, mapping))[0].what == (
        "no row has part = 'tarin'; it holds 'test', 'train'"
    )


def test_relations_of_tracks_without_tracks_are_a_fault(tmp_path):
    mapping = MAPPING.replace('source = "press"', 'source = "press"\nkind = "track"')
    mapping = mapping.replace('[tracks]\nfile = "tracks.csv"\npath = "path"\n', "")
    assert "belongs to tracks, which are not there" in {
        x.what for x in faults(put(tmp_path, mapping))
    }


def test_features_of_two_widths_are_a_fault(tmp_path):
    mapping = MAPPING + (
        '[[features]]\nname = "sound"\nkind = "track"\nfile = "t.csv"\ncolumns = ["f1", "f2"]\n'
    )
    path = put(tmp_path, mapping, t="id,f1,f2\nt1,1,2\n")
    assert [x.what for x in faults(path)] == ["features 'sound': 3 values an artist, 2 a track"]


def test_vectors_of_another_width_and_fractional_ids_are_faults_in_parquet(tmp_path):
    mapping = MAPPING.replace('columns = ["f1", "f2", "f3"]', 'vector = "v"')
    path = put(tmp_path, mapping.replace("sound.csv", "sound.parquet"))
    table = pl.DataFrame({"id": ["abba", "c", "d"], "v": [[1.0, 2.0], [3.0], [5.0, 6.0]]})
    table.write_parquet(tmp_path / "sound.parquet")
    assert [(x.row, x.what) for x in faults(path)] == [(2, "v has 1 values, most others 2")]
    table.with_columns(id=pl.Series([1.0, 2.0, 3.0])).write_parquet(tmp_path / "sound.parquet")
    assert "holds fractional numbers, such as 1.0" in faults(path)[0].what


def test_a_hundred_thousand_faults_are_counted_and_a_few_are_listed(tmp_path):
    lines = "".join(f"u,ghost{x},-1\n" for x in range(100_003))
    (found, *_) = check_tables(put(tmp_path, plays="user,artist,plays\n" + lines))
    assert (found.count, len(found.first)) == (100_003, LISTED)
    told = issues_text([found])
    assert "plays.csv: unknown artist, 100,003 times" in told
    assert f"... and {100_003 - LISTED:,} more" in told
    assert told.endswith("100,003 faults")
    assert len(told.splitlines()) == LISTED + 4


def test_the_list_names_place_fault_and_remedy():
    fault = Fault("a.parquet", 7, "has no id", "fill it in")
    listed = issues_text([Issues("empty id", 1, (fault,))])
    assert listed == "a.parquet: empty id\n  row 7: has no id\n  -> fill it in\n1 fault"


@pytest.fixture
def catalogue():
    return Catalogue(
        artists=pl.DataFrame(
            {"id": ["a", "b", "c"], "name": ["A", "B", None], "split": [None, "train", "test"]},
            schema={"id": pl.String, "name": pl.String, "split": pl.String},
        ),
        relations=pl.DataFrame({"kind": "artist", "a": ["a"], "b": ["c"], "source": ["press"]}),
        plays=pl.LazyFrame({"kind": "artist", "user": ["u"], "item": ["b"], "plays": [2.0]}),
        features={("sound", "artist"): Embeddings(("a", "c"), np.ones((2, 4), np.float32))},
    )


def written(catalogue: Catalogue, folder: Path) -> list[str]:
    write_catalogue(catalogue, folder)
    return [x.what for y in check_catalogue(folder) for x in y.first]


def test_a_catalogue_just_written_has_no_fault(catalogue, tmp_path):
    assert written(catalogue, tmp_path / "c") == []


def test_faults_of_a_written_catalogue_are_all_listed(catalogue, tmp_path):
    broken = replace(
        catalogue,
        artists=pl.concat([catalogue.artists, catalogue.artists.head(1)]),
        relations=pl.DataFrame(
            {
                "kind": "artist",
                "a": ["c", "b", "b", "a"],
                "b": ["a", "b", "x", "c"],
                "source": "press",
            }
        ),
        plays=catalogue.plays.with_columns(plays=pl.lit(-3.0)),
        features={("sound", "artist"): Embeddings(("a", "z"), np.ones((2, 4), np.float32))},
    )
    assert written(broken, tmp_path / "c") == [
        "id 'a' stands in 1 already",
        "b 'x' is no artist",
        "'b' is related to itself",
        "'c', 'a' from 'press'",
        "plays is -3",
        "id 'z' is no artist",
    ]


def test_plays_are_checked_block_by_block_and_their_faults_stand_together(
    catalogue, tmp_path, monkeypatch
):
    rows = {"user": ["u", "", "v", "w"] * 13, "item": ["b", "a", "zz", "c"] * 13}
    plays = pl.LazyFrame({"kind": "artist", **rows, "plays": [1.0, 2.0, 3.0, -4.0] * 13})
    write_catalogue(replace(catalogue, plays=plays), tmp_path / "c")
    whole, seen = check_catalogue(tmp_path / "c"), []
    monkeypatch.setattr("undersong.catalogue.check.AT_ONCE", 5)
    assert check_catalogue(tmp_path / "c", progress=lambda *x: seen.append(x[:3])) == whole
    assert [(x.sort, x.count) for x in whole] == [
        ("unknown artist", 13),
        ("empty user", 13),
        ("negative plays", 13),
    ]
    assert [x.row for x in whole[2].first] == list(range(4, 53, 4))
    assert ("check, plays", 7, 11) in seen


def test_two_fields_of_one_role_are_a_fault_of_a_catalogue(catalogue, tmp_path):
    fields = tuple(Field(x, "artist", "category", "genre") for x in ("g", "h"))
    artists = catalogue.artists.with_columns(g=pl.lit("x"), h=pl.lit("y"))
    assert written(replace(catalogue, artists=artists, fields=fields), tmp_path / "c") == [
        "g and h both have the role 'genre' of artists"
    ]


def test_damaged_and_lacking_tables_are_faults_of_their_own(catalogue, tmp_path):
    folder = tmp_path / "c"
    write_catalogue(catalogue, folder)
    home = folder / json.loads((folder / "catalogue.json").read_text())["tables"]
    (home / "plays.parquet").write_bytes(b"PAR1 no")
    (home / "features" / "sound.artist.parquet").unlink()
    pl.DataFrame({"kind": ["artist"]}).write_parquet(home / "relations.parquet")
    found = {x.first[0].file: x.sort for x in check_catalogue(folder)}
    damaged = ("plays.parquet", "relations.parquet", "features/sound.artist.parquet")
    assert found == dict.fromkeys(damaged, "changed table")
    about = json.loads((folder / "catalogue.json").read_text())
    write_json(folder / "catalogue.json", {x: about[x] for x in about if x not in ("sums", "sum")})
    found = {x.first[0].file: x.sort for x in check_catalogue(folder)}  # as earlier versions wrote
    assert found == {
        "plays.parquet": "unreadable table",
        "relations.parquet": "another column type",
        "sound.artist.parquet": "unreadable table",
    }


def test_a_folder_that_is_no_catalogue_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"catalogue.json is missing; make the catalogue again"):
        check_catalogue(tmp_path)
