import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from undersong.catalogue.tables import (
    ITEMS,
    Catalogue,
    Field,
    read_catalogue,
    rows_of,
    write_catalogue,
)
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    return Catalogue(
        artists=pl.DataFrame(
            {
                "id": ["007", "é", "c"],
                "name": ["Bond", None, "C"],
                "split": [None, "test", "train"],
                "tags": [["x", "y"], None, ["z"]],
                "year": [1990.0, None, 3.5],
            },
            schema=ITEMS["artist"] | {"tags": pl.List(pl.String), "year": pl.Float64()},
        ),
        tracks=pl.DataFrame(
            {"id": ["t1", "t2"], "artist": ["007", "c"]},
            schema={"id": pl.String, "artist": pl.String},
        ).with_columns(
            *(
                pl.lit(None, dtype).alias(name)
                for name, dtype in ITEMS["track"].items()
                if name not in ("id", "artist")
            )
        ),
        plays=pl.LazyFrame({"kind": "track", "user": ["u"], "item": ["t2"], "plays": [2.5]}),
        relations=pl.DataFrame({"kind": "artist", "a": ["007"], "b": ["é"], "source": ["s"]}),
        fields=(
            Field("tags", "artist", "tags", "genre", withheld=True),
            Field("year", "artist", "number"),
        ),
        features={
            ("sound", "track"): Embeddings(("t2",), np.array([[1, 2, 3, 4]], np.float32)),
        },
        audio_root=tmp_path / "audio",
    )


def test_a_catalogue_comes_back_as_it_was(catalogue, tmp_path):
    write_catalogue(catalogue, tmp_path / "c")
    found = read_catalogue(tmp_path / "c")
    for table in ("artists", "tracks", "plays", "relations"):
        one, two = (getattr(x, table).lazy().collect() for x in (found, catalogue))
        assert one.equals(two), table
    assert (found.fields, found.audio_root) == (catalogue.fields, catalogue.audio_root)
    assert found.features["sound", "track"].ids == ("t2",)
    assert found.features["sound", "track"].vectors.tolist() == [[1, 2, 3, 4]]


def test_items_have_names_roles_and_pairs(catalogue):
    assert catalogue.names("artist") == ("Bond", "é", "C")
    assert catalogue.names("track") == ("t1", "t2")
    assert catalogue.role("artist", "genre") == catalogue.fields[0]
    assert catalogue.role("artist", "region") is None
    assert catalogue.fields_of("track") == ()
    assert catalogue.pairs("artist").rows() == [("007", "é", "s")]
    assert catalogue.pairs("track").rows() == []


def test_writing_again_replaces_all_and_leaves_nothing_of_the_old(catalogue, tmp_path):
    write_catalogue(catalogue, tmp_path / "c")
    write_catalogue(
        replace(catalogue, artists=catalogue.artists.head(1), features={}), tmp_path / "c"
    )
    assert read_catalogue(tmp_path / "c").ids("artist") == ("007",)
    assert sorted(x.name for x in (tmp_path / "c").iterdir()) == ["catalogue.json", "tables-2"]


@pytest.mark.parametrize(("found", "named"), [(2, "2"), (None, "None"), ("1", "'1'")])
def test_a_catalogue_of_another_format_is_refused_and_left_alone(catalogue, tmp_path, found, named):
    write_catalogue(catalogue, tmp_path / "c")
    about = tmp_path / "c" / "catalogue.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": found}))
    before = about.read_bytes()
    with pytest.raises(ArtifactError, match=f"format {named}, but this version reads 1; make the"):
        read_catalogue(tmp_path / "c")
    assert about.read_bytes() == before


@pytest.mark.parametrize("table", ["artists", "tracks", "plays", "relations"])
def test_a_damaged_or_missing_table_is_named(catalogue, tmp_path, table):
    write_catalogue(catalogue, tmp_path / "c")
    path = tmp_path / "c" / "tables-1" / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtifactError, match=rf"{table}.parquet is missing or was changed"):
        read_catalogue(tmp_path / "c")
    path.unlink()
    with pytest.raises(ArtifactError, match=rf"{table}.parquet is missing or was changed"):
        read_catalogue(tmp_path / "c")


def test_a_column_of_another_type_is_named(catalogue, tmp_path):
    year = pl.col("year").cast(pl.String)
    write_catalogue(
        replace(catalogue, artists=catalogue.artists.with_columns(year)), tmp_path / "c"
    )
    with pytest.raises(ArtifactError, match="column 'year' is String, expected Float64"):
        read_catalogue(tmp_path / "c")


KILL = """
import os, sys
from dataclasses import replace
from pathlib import Path
from undersong.catalogue import tables

folder, stop = Path(sys.argv[1]), sys.argv[2]
catalogue = tables.read_catalogue(folder)
rename = os.replace

def replace_or_die(source, target):
    if Path(target).name == stop:
        os.kill(os.getpid(), 9)
    rename(source, target)

os.replace = replace_or_die
tables.write_catalogue(replace(catalogue, artists=catalogue.artists.head(1)), folder)
"""


@pytest.mark.parametrize("stop", ["artists.parquet", "relations.parquet", "catalogue.json"])
def test_a_kill_in_the_middle_of_writing_leaves_the_old_catalogue(catalogue, tmp_path, stop):
    folder = tmp_path / "c"
    write_catalogue(catalogue, folder)
    ended = subprocess.run([sys.executable, "-c", KILL, str(folder), stop])
    assert ended.returncode == -9
    assert read_catalogue(folder).ids("artist") == ("007", "é", "c")
    write_catalogue(replace(catalogue, artists=catalogue.artists.tail(2)), folder)  # and can go on
    assert read_catalogue(folder).ids("artist") == ("é", "c")
    assert len(list(folder.glob("tables-*"))) == 1


def test_a_catalogue_file_that_lacks_a_part_is_refused(tmp_path):
    (tmp_path / "catalogue.json").write_text('{"format": 1, "tables": "tables-1"}')
    with pytest.raises(ArtifactError, match="lacks audio_root, features, fields; make the"):
        read_catalogue(tmp_path)


def test_rows_are_found_by_id_in_any_order():
    wanted, ids = pl.Series(["c", "z", "a", "c"]), pl.Series(["a", "b", "c"])
    assert rows_of(wanted, ids).tolist() == [2, -1, 0, 2]
    assert rows_of(wanted.clear(), ids).tolist() == []
