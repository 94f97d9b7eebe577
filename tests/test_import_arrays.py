"""Features from array files: .npy, .npz and .safetensors beside a file of ids."""

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from undersong.errors import DataError, SettingsError
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
