import io
import json
import tarfile

import polars as pl
import pytest
from click.testing import CliRunner

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.cli.main import cli

ANN, BOB, OLD, OLDER = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "abcd")
AREA = {"id": OLD, "name": "Bergen", "sort-name": "Bergen", "iso-3166-1-codes": None}
NORWAY = {"id": OLD, "name": "Norway", "sort-name": "Norway", "iso-3166-1-codes": ["NO"]}


def artist(mbid, name, **others):
    return {
        "id": mbid,
        "name": name,
        "sort-name": name,
        "disambiguation": "",
        "type": None,
        "type-id": None,
        "gender": None,
        "country": None,
        "area": None,
        "begin-area": None,
        "end-area": None,
        "life-span": {"begin": None, "end": None, "ended": False},
        "aliases": [],
        "tags": [],
        "genres": [],
        "rating": {"value": None, "votes-count": 0},
        "isnis": [],
        "ipis": [],
        "relations": [],
        **others,
    }


def dump(path, lines):
    with tarfile.open(path, "w:xz") as archive:
        for name, data in {
            "JSON_DUMPS_SCHEMA_NUMBER": b"1",
            "COPYING": b"CC0",
            "mbdump/artist": b"".join(x + b"\n" for x in lines),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def encoded(*artists):
    return [json.dumps(x).encode() for x in artists]


def run(path, home, *words):
    return CliRunner().invoke(cli, ["import", "musicbrainz", str(path), str(home), *words])


FULL = artist(
    ANN,
    "Ann",
    type="Person",
    gender="Female",
    country="NO",
    area=NORWAY,
    **{"begin-area": AREA},
    disambiguation="the singer",
    **{"life-span": {"begin": "1994-05", "end": "2003", "ended": True}},
    aliases=[{"name": "Änn", "locale": "de"}, {"name": "Ann", "locale": None}],
    tags=[
        {"name": "norwegian", "count": 1},
        {"name": "folk", "count": 3},
        {"name": "x", "count": -2},
    ],
    genres=[{"id": OLD, "name": "folk", "count": 3, "disambiguation": ""}],
)


def test_an_artist_keeps_what_is_known_of_it(tmp_path):
    bob = artist(BOB, "Bob", begin_area=NORWAY)
    result = run(dump(tmp_path / "artist.tar.xz", encoded(FULL, bob)), tmp_path / "home")
    assert result.exit_code == 0, result.output
    assert check_catalogue(tmp_path / "home") == ()
    first, second = tables.read_catalogue(tmp_path / "home").artists.to_dicts()
    assert first == {
        "id": ANN,
        "name": "Ann",
        "split": None,
        "genre": ["folk"],
        "tags": ["folk", "norwegian"],
        "country": "NO",
        "area": "Norway",
        "begin_area": "Bergen",
        "type": "Person",
        "gender": "Female",
        "year": 1994.0,
        "decade": "1990s",
        "end_year": 2003.0,
        "aliases": ["Änn"],
        "disambiguation": "the singer",
    }
    assert (second["country"], second["begin_area"], second["genre"]) == ("NO", "Norway", None)


def test_core_leaves_out_what_is_not_free(tmp_path):
    path = dump(tmp_path / "artist.tar.xz", encoded(FULL))
    assert run(path, tmp_path / "all").exit_code == 0
    assert run(path, tmp_path / "core", "--core").exit_code == 0
    whole, core = tables.read_catalogue(tmp_path / "all"), tables.read_catalogue(tmp_path / "core")
    assert set(whole.artists.columns) - set(core.artists.columns) == {"genre", "tags"}
    assert (core.origins[0].licence, "NC" in whole.origins[0].licence) == ("CC0", True)


def test_merged_ids_lead_to_the_artist_that_is_left(tmp_path):
    folder = tmp_path / "dump"
    (folder / "mbdump").mkdir(parents=True)
    (folder / "mbdump" / "artist").write_bytes(b"\n".join(encoded(FULL, artist(BOB, "Bob"))))
    redirects = f"old,id\n{OLDER},{OLD}\n{OLD},{ANN}\nnothing\n"
    (folder / "artist_gid_redirect.csv").write_text(redirects)
    assert run(folder, tmp_path / "home").exit_code == 0
    known = pl.read_parquet(tmp_path / "home" / "identities.parquet")
    assert known.select("id", "source_id").rows() == [
        (ANN, ANN),
        (ANN, OLD),
        (ANN, OLDER),
        (BOB, BOB),
    ]
    assert pl.read_csv(tmp_path / "home" / "failures.csv")["line"].to_list() == [4]


def test_redirects_in_a_circle_come_to_an_end(tmp_path):
    (tmp_path / "artist").write_bytes(encoded(FULL)[0])
    (tmp_path / "artist_gid_redirect.tsv").write_text(f"{ANN}\t{BOB}\n{BOB}\t{ANN}\n")
    assert run(tmp_path, tmp_path / "home").exit_code == 0


def test_a_malformed_line_costs_itself(tmp_path):
    bad = [b"{", b"[]", b'{"id": "x", "name": "X"}', json.dumps(artist(BOB, " ")).encode()]
    path = dump(tmp_path / "artist.tar.xz", [*bad, *encoded(FULL, FULL), b'{"id": 5}'])
    result = run(path, tmp_path / "home")
    assert result.exit_code == 0, result.output
    assert pl.read_csv(tmp_path / "home" / "failures.csv")["line"].to_list() == [1, 2, 3, 4, 7]
    assert tables.read_catalogue(tmp_path / "home").ids("artist") == (ANN,)


@pytest.mark.parametrize("lines", [[], [b"{}"]])
def test_a_dump_without_artists_is_refused(tmp_path, lines):
    result = run(dump(tmp_path / "artist.tar.xz", lines), tmp_path / "home")
    assert result.exit_code == 1
    assert "has no artists in it" in result.output
