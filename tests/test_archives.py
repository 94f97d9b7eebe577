"""Archives made to harm: nothing is written outside, and every one is a clear error."""

import bz2
import gzip
import io
import lzma
import tarfile
import time
import zipfile

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner

from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.importers import archives
from undersong.importers.archives import Member, members
from undersong.importers.result import Failures

LINE = b'{"user_name": "pia", "timestamp": 5, "track_metadata": {"artist_name": "Ann"}}\n'
NAMES = ("../../listens/out.listens", "/tmp/listens/out.listens", "a/../../listens/b.listens")


def tar(*entries):
    """A tar of pairs of a header and its bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def file(name, content=LINE):
    return tarfile.TarInfo(name), content


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def run(path, home):
    return CliRunner().invoke(cli, ["import", "listenbrainz", str(path), str(home)])


def everything(folder):
    return {x: x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def contents(path, wanted=r"\.txt$"):
    return [(x.name, x.stream.read()) for x in members(path, wanted)]


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
def test_whatever_packs_a_tar_is_known_by_its_bytes(tmp_path, pack):
    path = tmp_path / "without_an_ending"
    path.write_bytes(pack(tar(file("a/1.txt", b"one"), file("b.csv"), file("2.txt", b"two"))))
    assert contents(path) == [("a/1.txt", b"one"), ("2.txt", b"two")]


def test_a_folder_gives_its_files_and_those_of_its_archives(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1.txt").write_bytes(b"one")
    zipped(tmp_path / "x.zip", {"2.txt": b"two", "3.csv": b"no"})
    assert contents(tmp_path) == [("sub/1.txt", b"one"), ("x.zip/2.txt", b"two")]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_point_outside_write_nothing_there(tmp_path, form):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = inside / f"evil.{form}"
    if form == "zip":
        zipped(path, dict.fromkeys(NAMES, LINE))
    else:
        path.write_bytes(tar(*map(file, NAMES)))
    result = run(path, inside / "home")
    assert result.exit_code == 0, result.output
    assert f"{len(NAMES) - 1} others stood there twice" in result.output  # so all were read
    assert all(x == path or (inside / "home") in x.parents for x in everything(tmp_path))


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path):
    secret = tmp_path / "secret.listens"
    secret.write_bytes(LINE)
    path = tmp_path / "evil.tar"
    path.write_bytes(
        tar(
            link("listens/a.listens", str(secret), tarfile.SYMTYPE),
            link("listens/b.listens", "../secret.listens", tarfile.LNKTYPE),
            link("listens/c.listens", "", tarfile.FIFOTYPE),
            link("listens/d.listens", "", tarfile.CHRTYPE),
        )
    )
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "has no listens in it" in result.output


def test_an_archive_in_an_archive_is_not_opened(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"listens/1.jsonl": LINE}).read_bytes()
    result = run(zipped(tmp_path / "outer.zip", {"listens/in.zip": inner}), tmp_path / "home")
    assert "has no listens in it" in result.output


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.zst"])
def test_a_bomb_is_refused_before_it_fills_anything(tmp_path, form, monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 22)
    name, data = "listens/1.listens", bytes(1 << 25)
    path = tmp_path / f"bomb.{form}"
    if form == "zip":
        zipped(path, {name: data})
    else:
        pack = gzip.compress if form == "tar.gz" else zstandard.compress
        path.write_bytes(pack(tar(file(name, data))))
    assert path.stat().st_size < 1 << 17
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "unpacks to more than 4 MiB" in result.output
    assert not (tmp_path / "home" / "catalogue.json").exists()


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "my.zip", {"listens/1.jsonl": LINE})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "is encrypted" in result.output


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.zst", "tar.xz", "tar.bz2"])
def test_a_cut_archive_is_refused(tmp_path, form):
    packs = {
        "tar": bytes,
        "tar.gz": gzip.compress,
        "tar.zst": zstandard.compress,
        "tar.xz": lzma.compress,
        "tar.bz2": bz2.compress,
    }
    generator = np.random.default_rng(7)
    data = b"".join(LINE + generator.bytes(40).hex().encode() + b"\n" for _ in range(3_000))
    path = tmp_path / f"cut.{form}"
    if form == "zip":
        zipped(path, {"listens/1.jsonl": data})
    else:
        path.write_bytes(packs[form](tar(file("listens/1.listens", data))))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    home = tmp_path / "home"
    result = run(path, home)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert not (home / "catalogue.json").exists()


def test_a_line_without_an_end_is_passed_over_in_bounded_memory(tmp_path):
    path = tmp_path / "1.listens"
    path.write_bytes(LINE + b"x" * (3 << 20) + b"\n" + LINE)
    home = tmp_path / "home"
    result = run(path, home)
    assert result.exit_code == 0
    assert "1 others stood there twice" in result.output
    assert '2,"a line of more than 1 MiB"' in (home / "failures.csv").read_text()


def test_a_file_that_must_be_read_at_once_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_WHOLE", 1 << 10)
    (tmp_path / "a.txt").write_bytes(bytes(2_000))
    [member] = members(tmp_path / "a.txt", "txt")
    with pytest.raises(DataError, match=r"a\.txt is larger than"):
        member.whole()


def test_what_the_list_of_failures_shows_harms_no_terminal():
    failures = Failures()
    failures.add("a\x1b[2J\n.csv", 3, "bad\r\x07" + "x" * 500, remedy="none")
    file, line, reason, _ = failures.rows[0]
    assert file == "a\\x1b[2J\\x0a.csv"
    assert line == 3
    assert len(reason) < 250


def test_the_catalogue_of_a_music_folder_is_not_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "files.parquet").write_bytes(b"")
    path = tmp_path / "1.listens"
    path.write_bytes(LINE)
    assert "a catalogue that `undersong import folder` made" in run(path, tmp_path / "home").output


def test_a_failed_import_leaves_the_old_catalogue(tmp_path):
    path, home = tmp_path / "1.listens", tmp_path / "home"
    path.write_bytes(LINE)
    assert run(path, home).exit_code == 0
    before = everything(home)
    path.write_bytes(b"{}\n")
    assert run(path, home).exit_code == 1
    assert everything(home) == before


def test_a_file_without_a_name_is_passed_over(tmp_path):
    path = zipped(tmp_path / "my.zip", {"X": b"nothing", "listens/2.listens": LINE})
    path.write_bytes(path.read_bytes().replace(b"X", b"\0"))
    assert [x.name for x in members(path, r"listens$")] == ["listens/2.listens"]


def test_a_name_that_is_no_text_is_a_clear_error(tmp_path):
    name = "listens/å.listens"
    path = zipped(tmp_path / "my.zip", {name: LINE})
    path.write_bytes(path.read_bytes().replace(name.encode(), b"listens/\x82x.listens", 1))
    with pytest.raises(DataError, match="cannot be read .*; get the file again"):
        list(members(path, r"listens$"))


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_blocks_hold_all_lines_and_cut_those_that_are_too_long(monkeypatch, newline):
    monkeypatch.setattr(archives, "CHUNK", 11)
    monkeypatch.setattr(archives, "LONGEST_LINE", 30)
    lines = (b"one", b"", b"x" * 29, b"y" * 100, b"z" * 23)
    member = Member("a", io.BytesIO(b"\n".join(lines) + newline))
    assert list(member.blocks()) == [
        b"one\n\n" + b"x" * 29 + b"\n",
        b"y" * 41,
        b"z" * 23 + newline,
    ]


def sparse(name, size):
    """A tar of one sparse file: 2 kB that say that they are ``size`` bytes."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.map": f"{size - 1},1",
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.size": str(size),
        "GNU.sparse.name": name,
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    return data.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sparse_file_ends_at_the_limit_of_its_archive(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 23)
    path = tmp_path / "dump.tar"
    path.write_bytes(pack(sparse("listens/1.listens", 1 << 50)))
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "unpacks to more than 8 MiB" in result.output
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_megabytes_is_never_read(tmp_path, kind):
    info, content = file("listens/1.listens", bytes((1 << 20) + 5))
    info.type = kind
    path = tmp_path / "dump.tar.gz"
    path.write_bytes(gzip.compress(tar((info, content))))
    result = run(path, tmp_path / "home")
    assert result.exit_code == 1
    assert "a name of 1,048,581 bytes" in result.output


def test_broken_entries_take_linear_time(tmp_path):
    path = tmp_path / "Streaming_History_Audio_1.json"
    path.write_text("[" + "\n".join(["{x},"] * 60_000) + "{}]")
    failures, start = Failures(), time.process_time()
    for member in members(path, r"\.json$"):
        assert list(archives.entries(member, failures)) == [(60_001, {})]
    assert (failures.count, len(failures.kinds)) == (60_000, 1)
    assert time.process_time() - start < 4


def test_a_table_in_another_encoding_is_refused_with_the_remedy(tmp_path):
    data = "a,b\nCafé,1\n".encode("latin-1")
    member = Member("artists.csv", io.BytesIO(data))
    with pytest.raises(DataError, match=r"artists.csv line 2 is not UTF-8 near .*iconv -f latin1"):
        list(archives.separated(member, Failures(), mark=",", width=2))
    lines = archives.separated(
        Member("tags.dat", io.BytesIO(data)), Failures(), mark=",", width=2, encoding="latin-1"
    )
    assert [x for _, x in lines] == [["a", "b"], ["Café", "1"]]
    failures = Failures()
    mixed = Member("artists.csv", io.BytesIO("Né,1\n".encode() + data))
    lines = archives.separated(mixed, failures, mark=",", width=2)
    assert [x for _, x in lines] == [["Né", "1"], ["a", "b"]]
    assert failures.rows[0][1] == 3
