"""Research sets: HetRec, OLGA, Deezer, MLHD+."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli

DATA = Path(os.environ.get("UNDERSONG_DATA", Path(__file__).parents[2] / "shared" / "data"))
ANN, BOB = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "ab")
ONE, TWO = (f"{x}c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1" for x in "12")
HETREC = {
    "artists.dat": "id\tname\turl\tpictureURL\n1\tÄnn\thttp://a\thttp://b\n2\tBob \thttp://a\t\n"
    "3\tCas\n",
    "tags.dat": "tagID\ttagValue\r\n7\tchillout\r\n8\tcaf\xe9\r\n",
    "user_artists.dat": "userID\tartistID\tweight\r\n5\t1\t13883\r\n5\t2\t11\r\n6\t1\t3\r\n"
    "6\t9\t3\r\n6\t2\tmany\r\n",
    "user_taggedartists.dat": "userID\tartistID\ttagID\tday\tmonth\tyear\r\n5\t1\t7\t1\t4\t2009\r\n"
    "5\t1\t8\t1\t4\t2009\r\n6\t1\t8\t1\t4\t2009\r\n",
    "user_friends.dat": "userID\tfriendID\r\n5\t6\r\n",
}


def run(command, path, home):
    return CliRunner().invoke(cli, ["import", command, str(path), str(home)])


def imported(command, path, home):
    result = run(command, path, home)
    assert result.exit_code == 0, result.output
    assert check_catalogue(home) == ()
    return tables.read_catalogue(home)


def failed_lines(home):
    return pl.read_csv(home / "failures.csv").select("file", "line").rows()


def hetrec(path, files=HETREC):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode("latin-1" if name == "tags.dat" else "utf-8"))
    return path


def test_hetrec_gives_plays_and_the_tags_of_most_users_first(tmp_path):
    catalogue = imported("hetrec", hetrec(tmp_path / "set.zip"), tmp_path / "home")
    assert catalogue.artists.select("id", "name", "tags").rows() == [
        ("1", "Änn", ["café", "chillout"]),
        ("2", "Bob", None),
    ]
    assert catalogue.plays.collect().select("user", "item", "plays").rows() == [
        ("5", "1", 13883),
        ("5", "2", 11),
        ("6", "1", 3),
    ]
    assert failed_lines(tmp_path / "home") == [
        ("artists.dat", 4),
        ("user_artists.dat", 5),
        ("user_artists.dat", 6),
    ]


def test_the_original_of_hetrec_is_read_whole(tmp_path):
    path = DATA / "lastfm2k" / "hetrec2011-lastfm-2k.zip"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    catalogue = imported("hetrec", path, tmp_path / "home")
    assert (len(catalogue.artists), catalogue.count_plays()) == (17_632, 92_834)
    assert catalogue.plays.collect()["user"].n_unique() == 1_892
    assert failed_lines(tmp_path / "home") == []


def test_hetrec_without_a_file_is_refused(tmp_path):
    path = hetrec(tmp_path / "set.zip", {"artists.dat": HETREC["artists.dat"]})
    result = run("hetrec", path, tmp_path / "home")
    assert result.exit_code == 1
    assert "lacks tags.dat" in result.output


def olga(folder):
    folder.mkdir()
    (folder / "artists.csv").write_text(
        "index,partition,allmusic_id,name,musicbrainz_tags\n"
        '0,train,mn01,"Ann, Queen",folk:3|rock:5|live\n1,val,,,\n2,test,mn02,Bob,\n3,train\n'
    )
    (folder / "relations.csv").write_text("a,b\n1,0\n0,1\n0,2\n2,2\n0,9\n")
    return folder


def test_olga_gives_its_split_relations_and_tags_by_votes(tmp_path):
    catalogue = imported("olga", olga(tmp_path / "olga"), tmp_path / "home")
    assert catalogue.artists.rows() == [
        ("0", "Ann, Queen", "train", ["rock", "folk", "live"]),
        ("1", None, "validation", None),
        ("2", "Bob", "test", None),
    ]
    assert catalogue.pairs("artist").rows() == [("0", "1", "allmusic"), ("0", "2", "allmusic")]
    assert failed_lines(tmp_path / "home") == [
        ("artists.csv", 5),
        ("relations.csv", 5),
        ("relations.csv", 6),
    ]
    known = pl.read_parquet(tmp_path / "home" / "identities.parquet")
    assert known.select("id", "source", "source_id").rows() == [
        ("0", "allmusic", "mn01"),
        ("2", "allmusic", "mn02"),
    ]


def test_a_column_of_olga_that_is_lacking_is_named(tmp_path):
    (olga(tmp_path / "olga") / "relations.csv").write_text("from,to\n0,1\n")
    result = run("olga", tmp_path / "olga", tmp_path / "home")
    assert result.exit_code == 1
    assert "relations.csv has no column 'a'" in result.output


def test_the_olga_at_hand_is_the_same_as_by_its_mapping(tmp_path):
    path = DATA / "olga"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    catalogue = imported("olga", path, tmp_path / "home")
    assert (len(catalogue.artists), len(catalogue.relations)) == (17_673, 100_145)
    assert catalogue.artists["split"].value_counts(sort=True)["count"].to_list() == [
        14_139,
        1_767,
        1_767,
    ]


def deezer(folder, artists=10):
    folder.mkdir()
    generator = np.random.default_rng(5)
    lines, edges = [], []
    for artist in range(artists):
        genre, mood = generator.normal(size=32), generator.normal(size=4)
        country = np.eye(20)[artist % 7]
        lines.append(",".join(map(repr, [float(artist), *map(float, (*genre, *country, *mood))])))
        others = [artist, (artist + 1) % artists, (artist + 3) % artists]
        edges += [f"{float(artist)},{float(x)},{1 / (1 + rank)}" for rank, x in enumerate(others)]
    (folder / "deezer_features.csv").write_text("\n".join(lines))
    (folder / "deezer_graph.csv").write_text("\n".join(edges))
    return folder


def test_deezer_gives_its_split_features_and_pairs_without_loops(tmp_path):
    catalogue = imported("deezer", deezer(tmp_path / "data"), tmp_path / "home")
    assert catalogue.artists["split"].to_list() == ["train"] * 8 + ["test", "validation"]
    assert catalogue.artists["country"].to_list()[:3] == ["country 1", "country 2", "country 3"]
    assert catalogue.artists["popularity"].to_list()[6:9] == [0.25, 0.125, None]
    shapes = {name: x.vectors.shape for (name, _), x in catalogue.features.items()}
    assert shapes == {"descriptors": (10, 36)}
    line = (tmp_path / "data" / "deezer_features.csv").read_text().splitlines()[3].split(",")
    own = [float(x) for x in (*line[1:33], *line[53:])]
    vectors = catalogue.features["descriptors", "artist"].vectors
    np.testing.assert_allclose(vectors[3], own, rtol=1e-6)
    assert len(catalogue.relations) == 20
    directed = pl.read_parquet(tmp_path / "home" / "directed.parquet")
    assert directed.filter(a="9").rows() == [("9", "0", 0.5), ("9", "2", 1 / 3)]


def test_a_line_of_deezer_that_is_no_numbers_costs_itself(tmp_path):
    folder = deezer(tmp_path / "data")
    with (folder / "deezer_graph.csv").open("a") as file:
        file.write("\n1.0,2.0\n1.0,x,0.5\n1.0,2.0,nan\n")
    assert len(imported("deezer", folder, tmp_path / "home").relations) == 20
    assert [x for _, x in failed_lines(tmp_path / "home")] == [31, 32, 33]


@pytest.mark.parametrize("pack", [zstandard.compress, gzip.compress])
def test_mlhd_is_read_from_packed_files_in_an_archive(tmp_path, pack):
    lines = f"1200000000\t{ANN},{BOB}\t\t{ONE}\n1200000300\t{ANN}\t{TWO}\t{ONE}\n"
    lines += f"soon\t\t\t\n12\t{BOB}\t\t\n"
    path = tmp_path / "mlhdplus-complete-0.tar"
    with tarfile.open(path, "w") as archive:
        for user in ("u1", "u2"):
            data = pack(lines.encode())
            info = tarfile.TarInfo(f"0/0{user}/{user}.txt.zst")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    catalogue = imported("mlhd", path, tmp_path / "home")
    assert catalogue.artists.select("id", "name").rows() == [(ANN, None), (BOB, None)]
    assert catalogue.tracks.select("id", "artist", "title").rows() == [(ONE, ANN, None)]
    assert catalogue.played("artist").collect().rows() == [
        ("u1", ANN, 2),
        ("u1", BOB, 1),
        ("u2", ANN, 2),
        ("u2", BOB, 1),
    ]
    assert [x for _, x in failed_lines(tmp_path / "home")] == [3, 3]
