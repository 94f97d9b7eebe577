"""Features from array files: .npy, .npz and .safetensors beside a file of ids."""

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from planted import small_world
from undersong.catalogue import fingerprint, read_catalogue, write_catalogue
from undersong.catalogue.schema import read_manifest
from undersong.cli.main import cli
from undersong.errors import DataError, SettingsError, UndersongError
from undersong.importers.tables import conversion

# 3 artists, 5 tracks, 7 columns.
IDS = [f"t{x}" for x in range(5)]
VALUES = np.arange(35, dtype=np.float64).reshape(5, 7) / 8


@pytest.fixture
def mapped(tmp_path):
    """Write a mapping of features with the given keys, and import it."""
    (tmp_path / "artists.csv").write_text("id\na0\na1\na2\n")
    rows = "".join(f"{track},a{row % 3}\n" for row, track in enumerate(IDS))
    (tmp_path / "tracks.csv").write_text("id,artist\n" + rows)
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n")

    def read(keys):
        text = '[artists]\nfile = "artists.csv"\n[tracks]\nfile = "tracks.csv"\n'
        text += f'[[features]]\nname = "own"\nkind = "track"\n{keys}\n'
        (tmp_path / "mapping.toml").write_text(text)
        return conversion.import_tables(tmp_path / "mapping.toml")

    return read


def imported(mapped, keys):
    return mapped(keys)[0].features["own", "track"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_a_matrix_of_any_number_becomes_the_features_of_its_ids(mapped, tmp_path, dtype):
    np.save(tmp_path / "own.npy", (VALUES * 8).astype(dtype))
    found = imported(mapped, 'file = "own.npy"\nids = "ids.txt"')
    assert found.ids == tuple(IDS)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, VALUES * 8)


@pytest.mark.parametrize("name", ["own.npz", "own.safetensors"])
def test_one_of_several_arrays_is_named_and_the_only_one_need_not_be(mapped, tmp_path, name):
    def write(**arrays):
        if name.endswith(".npz"):
            np.savez(tmp_path / name, **arrays)
        else:
            save_file(arrays, tmp_path / name)

    keys = f'file = "{name}"\nids = "ids.txt"'
    write(deep=VALUES)
    np.testing.assert_array_equal(imported(mapped, keys).vectors, VALUES)
    write(deep=VALUES, flat=VALUES + 1)
    found = imported(mapped, f'{keys}\narray = "flat"')
    np.testing.assert_array_equal(found.vectors, VALUES + 1)
    with pytest.raises(DataError, match="name one as `array`"):
        mapped(keys)
    with pytest.raises(DataError, match="did you mean 'flat'"):
        mapped(f'{keys}\narray = "flt"')


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_may_stand_in_a_table_in_any_column(mapped, tmp_path, suffix):
    np.save(tmp_path / "own.npy", VALUES)
    table = pl.DataFrame({"other": range(5), "track": IDS[::-1]})
    getattr(table, f"write_{suffix}")(tmp_path / f"ids.{suffix}")
    found = imported(mapped, f'file = "own.npy"\nids = "ids.{suffix}"\nid = "track"')
    assert found.ids == tuple(IDS[::-1])
    np.testing.assert_array_equal(found.vectors, VALUES)


def test_vectors_of_unknown_items_are_a_fault_or_left_out_and_counted(mapped, tmp_path):
    np.save(tmp_path / "own.npy", VALUES)
    (tmp_path / "ids.txt").write_text("t0\nt1\nstranger\nt3\nt4")
    keys = 'file = "own.npy"\nids = "ids.txt"'
    with pytest.raises(DataError, match="stranger"):
        mapped(keys)
    catalogue, summary = mapped(f'{keys}\nunknown = "leave out"')
    assert catalogue.features["own", "track"].ids == ("t0", "t1", "t3", "t4")
    (account,) = (x for x in summary.tables if x.file == "own.npy")
    assert (account.rows, account.kept) == (5, 4)
    assert account.left_out == (("of an unknown track", 1),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:4], "holds 4 vectors, but ids.txt 5 ids"),
        (lambda x: np.where(x == 1, np.nan, x), r"row 2.*vector of 't1' .* not finite"),
        (lambda x: np.where(x == 1, -np.inf, x), r"row 2.*vector of 't1' .* not finite"),
        (lambda x: x * 1e300, r"row 1.*vector of 't0' .* not finite"),
        (lambda x: x[0], r"shape \(7,\), not a matrix"),
        (lambda x: x.astype(str), r"not a matrix of numbers"),
        (lambda x: x[:, :0], r"shape \(5, 0\), not a matrix"),
        (lambda x: x.astype(object), "cannot be read .*without Python objects"),
    ],
)
def test_an_array_that_cannot_be_features_says_why(mapped, tmp_path, change, message):
    np.save(tmp_path / "own.npy", change(VALUES), allow_pickle=True)
    with pytest.raises(DataError, match=message):
        mapped('file = "own.npy"\nids = "ids.txt"')


def test_an_id_given_twice_names_both_rows(mapped, tmp_path):
    np.save(tmp_path / "own.npy", VALUES)
    (tmp_path / "ids.txt").write_text("t0\nt1\nt2\nt1\nt4\n")
    with pytest.raises(DataError, match=r"row 4.*'t1' stands in 2 already"):
        mapped('file = "own.npy"\nids = "ids.txt"')


@pytest.mark.parametrize("name", ["own.npy", "own.npz", "own.safetensors"])
def test_a_damaged_or_absent_file_says_so(mapped, tmp_path, name):
    keys = f'file = "{name}"\nids = "ids.txt"'
    with pytest.raises(DataError, match="is no file"):
        mapped(keys)
    for content in (b"", b"something else", b"PK\x03\x04 torn"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"own.* cannot be read"):
            mapped(keys)


def test_ids_that_are_absent_or_no_text_say_so(mapped, tmp_path):
    np.save(tmp_path / "own.npy", VALUES)
    with pytest.raises(DataError, match="is no file"):
        mapped('file = "own.npy"\nids = "names.txt"')
    (tmp_path / "ids.txt").write_bytes(b"t0\n\xff\n")
    with pytest.raises(DataError, match=r"not UTF-8 \(at byte 3\)"):
        mapped('file = "own.npy"\nids = "ids.txt"')


@pytest.mark.parametrize(
    "keys",
    [
        'file = "own.npy"',
        'file = "own.npy"\nids = "ids.txt"\nvector = "v"',
        'file = "own.npy"\nids = "ids.txt"\nwhere = { a = 1 }',
        'file = "own.csv"\nids = "ids.txt"\nvector = "v"',
        'file = "own.parquet"\nprefix = "x"\narray = "deep"',
    ],
)
def test_keys_that_do_not_belong_together_are_refused(mapped, keys):
    with pytest.raises(SettingsError, match="`ids`"):
        mapped(keys)


# added to a catalogue that is there


@pytest.fixture
def added(tmp_path):
    """Add an array to the catalogue of a small world, whose features are 7 numbers a track."""
    write_catalogue(small_world(), tmp_path / "catalogue", source="folder")

    def add(values, ids, **named):
        np.save(tmp_path / "mine.npy", values)
        (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
        return conversion.import_features(
            tmp_path / "catalogue", tmp_path / "mine.npy", ids=tmp_path / "ids.txt", **named
        )

    return add


def test_an_array_joins_a_catalogue_of_which_all_else_stays(added, tmp_path):
    before = read_catalogue(tmp_path / "catalogue")
    plays = before.plays.collect()
    named = fingerprint(tmp_path / "catalogue")
    line = added(np.arange(22).reshape(2, 11), ["a05-0", "a03-1"])
    assert line == "features 'mine': 11 numbers for 2 of 168 tracks"
    after = read_catalogue(tmp_path / "catalogue")
    assert after.features["mine", "track"].ids == ("a05-0", "a03-1")
    np.testing.assert_array_equal(
        after.features["mine", "track"].vectors, np.arange(22).reshape(2, 11)
    )
    assert set(after.features) == {("descriptors", "track"), ("mine", "track")}
    assert after.tracks.equals(before.tracks)
    assert after.plays.collect().equals(plays)
    assert read_manifest(tmp_path / "catalogue").source == "folder"
    assert fingerprint(tmp_path / "catalogue") != named


def test_features_of_artists_are_known_by_their_ids_and_a_second_import_replaces_the_first(
    added, tmp_path
):
    assert "of 85 artists" in added(np.zeros((3, 5)), ["a01", "a02", "a03"], name="own")
    added(np.ones((1, 6)), ["a04"], name="own")
    found = read_catalogue(tmp_path / "catalogue").features["own", "artist"]
    assert (found.ids, found.vectors.tolist()) == (("a04",), [[1.0] * 6])


@pytest.mark.parametrize(
    ("values", "ids", "name", "message"),
    [
        (np.zeros((3, 5)), ["a01", "a02"], "", r"holds 3 vectors, but .*ids.txt 2 ids"),
        (np.zeros((2, 5)), ["a01", "a01"], "", "id 'a01' stands in 1 already"),
        (np.zeros((2, 5)), ["a01", "a999"], "", "id 'a999' is no artist"),
        (np.full((1, 5), np.nan), ["a01"], "", "vector of 'a01' holds a value that is not finite"),
        (np.array([[{}]]), ["a01"], "", "cannot be read .* without Python objects"),
        (np.zeros(5), ["a01"], "", "not a matrix of numbers"),
        (np.zeros((1, 5)), ["a01"], "../x", "needs a name of letters"),
        (np.zeros((1, 5)), ["a01"], "audio", "'audio' stands for something else"),
        (np.zeros((1, 5)), ["a01"], "descriptors", "5 values an artist, 7 a track"),
    ],
)
def test_a_faulty_array_is_refused_in_one_line_and_the_catalogue_stays(
    added, tmp_path, values, ids, name, message
):
    before = fingerprint(tmp_path / "catalogue")
    with pytest.raises(UndersongError, match=message) as refused:
        added(values, ids, name=name)
    assert "\n" not in str(refused.value)
    assert fingerprint(tmp_path / "catalogue") == before
    assert [x.name for x in (tmp_path / "catalogue").glob("tables-*")] == ["tables-1"]


def test_an_array_is_added_by_the_command_and_to_nothing_but_a_catalogue(added, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 3)))
    (tmp_path / "ids.csv").write_text("id\na01\n")
    words = ["import", "features", str(tmp_path / "catalogue"), str(tmp_path / "x.npy")]
    found = CliRunner().invoke(cli, [*words, "--ids", str(tmp_path / "ids.csv"), "--name", "y"])
    assert found.output == "features 'y': 3 numbers for 1 of 85 artists; train again to use them\n"
    words[2] = str(tmp_path / "nothing")
    found = CliRunner().invoke(cli, [*words, "--ids", str(tmp_path / "ids.csv")])
    assert found.exit_code == 1
    assert not (tmp_path / "nothing").exists()
