import numpy as np
import polars as pl
import pytest

from undersong.catalogue import (
    EXTRACTED,
    Heard,
    describe_catalogue,
    fingerprint,
    read_catalogue,
    write_catalogue,
    write_heard,
)
from undersong.catalogue.tables import Catalogue
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError


def written(folder, *, tracks=("t0", "t1", "t2")):
    artists = pl.DataFrame({"id": ["a"], "name": ["A"]})
    rows = {"id": list(tracks), "artist": ["a"] * len(tracks), "title": [None] * len(tracks)}
    write_catalogue(Catalogue(artists, pl.DataFrame(rows, schema_overrides={"title": str})), folder)
    return folder


def heard(ids, *, name="tiny", sha256="f00d", seed=0):
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 5)).astype(np.float32)
    return Heard(name, sha256, "ISC", "songs of ours", Embeddings(tuple(ids), vectors))


def test_what_was_heard_is_a_source_beside_the_features_and_no_part_of_the_tables(tmp_path):
    folder = written(tmp_path / "catalogue")
    before = fingerprint(folder)
    ear = heard(["t2", "gone", "t0"])
    write_heard(folder / EXTRACTED, [ear])
    assert fingerprint(folder) != before
    catalogue = read_catalogue(folder)
    assert [x.about for x in catalogue.heard] == [ear.about]
    source = catalogue.vectors()["tiny", "track"]
    assert source.ids == ("t2", "t0")
    np.testing.assert_array_equal(source.vectors, ear.vectors.vectors[[0, 2]])
    (of_tracks,) = (x for x in describe_catalogue(catalogue).kinds if x.kind == "track")
    assert {x.source: x.items for x in of_tracks.coverage}["tiny"] == 2
    write_catalogue(catalogue, folder)
    assert not read_catalogue(folder).features
    write_heard(folder / EXTRACTED, [])
    assert not read_catalogue(folder).heard
    assert fingerprint(folder) == before


def test_vectors_that_were_changed_are_refused_and_those_of_before_a_crash_stay(tmp_path):
    folder = written(tmp_path / "catalogue")
    write_heard(folder / EXTRACTED, [heard(["t1"])])
    (file,) = (folder / EXTRACTED / "ears").glob("*.parquet")
    new = heard(["t1"], seed=7)
    new.vectors.write(file.with_name("tiny.half.track.parquet"))  # killed before ears.json
    assert read_catalogue(folder).heard[0].vectors.ids == ("t1",)
    new.vectors.write(file)
    with pytest.raises(ArtifactError, match="was changed since.*run `undersong extract`"):
        read_catalogue(folder)
    write_heard(folder / EXTRACTED, [new])
    assert len(list((folder / EXTRACTED / "ears").glob("*.parquet"))) == 1
