import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import mutagen
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import tagged
from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.catalogue.tables import PLAYS, RELATIONS, Catalogue, Field
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.importers.music import folder
from undersong.importers.music.folder import import_folder, text
from undersong.importers.music.library import slug
from undersong.importers.music.scan import Failure
from undersong.io.table_files import write_table

DATA = Path(os.environ.get("UNDERSONG_DATA", Path(__file__).parents[2] / "shared" / "data"))
ANN, BOB, OTHER = (f"{x}383dadf-2a4e-4d10-a46a-e9e041da8eb3" for x in "abc")
ONE, TWO = (f"{x}c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1" for x in "12")

KILLS = 4


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path):
    return tmp_path / "catalogue"


def tracks_of(catalogue, *columns):
    return tables.read_catalogue(catalogue).tracks.select(columns).rows()


def failures_of(catalogue):
    return dict(pl.read_csv(catalogue / "failures.csv").select("file", "reason").iter_rows())


def counts(summary):
    return summary.new, summary.changed, summary.removed, summary.unchanged


def test_tags_become_artists_tracks_and_fields(music, home):
    tagged.write(
        music / "1.flac",
        title="Öne",
        artist="Ann feat. Bob",
        album="First",
        genre=["Rock", "Pop"],
        date="1994",
        artistcountry="NO",
        releasecountry="GB",
    )
    tagged.write(music / "2.mp3", title="Two", artist="Ann", genre="Pop", date="1998")
    tagged.write(music / "3.ogg", title="Three", artist="Ann", genre="pop", date="2001")
    tagged.write(music / "4.ogg", title="Four", artist="Bob", recording_id=TWO, artist_id=BOB)
    summary = import_folder(music, home)
    assert counts(summary) == (4, 0, 0, 0)
    assert check_catalogue(home) == ()
    found = tables.read_catalogue(home)
    assert found.artists.to_dicts() == [
        {
            "id": "ann",
            "name": "Ann",
            "split": None,
            "genre": ["pop", "rock"],
            "country": "NO",
            "release_country": "GB",
            "decade": "1990s",
            "year": 1998.0,
            "credited": ["Ann", "Bob"],
        },
        {"id": BOB, "name": "Bob", "split": None, "credited": ["Ann", "Bob"]}
        | dict.fromkeys(["genre", "country", "release_country", "decade", "year"]),
    ]
    assert found.tracks.select("id", "artist", "title", "path", "album", "credited").rows() == [
        ("ann/öne", "ann", "Öne", "1.flac", "First", ["Ann", "Bob"]),
        ("ann/two", "ann", "Two", "2.mp3", None, None),
        ("ann/three", "ann", "Three", "3.ogg", None, None),
        (TWO, BOB, "Four", "4.ogg", None, None),
    ]
    roles = {(x.kind, x.role): x.name for x in found.fields if x.role}
    assert roles == {
        ("artist", "genre"): "genre",
        ("artist", "region"): "country",
        ("artist", "year"): "year",
        ("track", "genre"): "genre",
        ("track", "region"): "country",
        ("track", "year"): "year",
        ("track", "album"): "album",
    }
    assert [x.name for x in found.fields if x.withheld] == ["album"]
    assert found.audio_root == music.resolve()


def test_a_field_that_no_file_has_is_left_out(music, home):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    import_folder(music, home)
    assert tables.read_catalogue(home).fields == ()


def test_a_name_without_an_id_is_the_one_artist_of_that_name(music, home):
    tagged.write(music / "1.flac", title="One", artist="Ann", artist_id=ANN)
    tagged.write(music / "2.flac", title="Two", artist="ANN")
    tagged.write(music / "3.flac", title="Three", artist="Cy", artist_id=BOB)
    tagged.write(music / "4.flac", title="Four", artist="Cy", artist_id=OTHER)
    tagged.write(music / "5.flac", title="Five", artist="Cy")
    import_folder(music, home)
    assert tracks_of(home, "artist") == [(ANN,), (ANN,), (BOB,), (OTHER,), ("cy",)]
    assert tables.read_catalogue(home).artists.select("id", "name").rows() == [
        *((ANN, "ANN"), (BOB, "Cy"), (OTHER, "Cy"), ("cy", "Cy")),
    ]


def test_untagged_files_take_names_from_their_path(music, home):
    tagged.write(music / "Ann/First/01 One.wav")
    tagged.write(music / "Bob - Two.wav")
    tagged.write(music / "Three.wav", title="Three")
    summary = import_folder(music, home)
    assert tracks_of(home, "id", "album") == [("ann/one", "First"), ("bob/two", None)]
    assert failures_of(home) == {"Three.wav": "no artist in its tags or path"}
    assert summary.guessed == 2
    assert "2 files lack tags" in text(summary)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_pairs_name_paths_whichever_way_accents_are_written(music, home, tmp_path, form):
    path = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "Vénus.flac")
    tagged.write(music / path, title="One", artist="Ann")
    tagged.write(music / "b.flac", title="Two", artist="Bob")
    typed = unicodedata.normalize(form, path)
    (tmp_path / "web.csv").write_text(f"a,b\n{typed},b.flac\n")
    import_folder(music, home, relations=tmp_path / "web.csv")
    related = [("track", "ann/one", "bob/two", "web")]
    assert tables.read_catalogue(home).relations.rows() == related


def test_a_damaged_catalogue_is_made_again_as_the_message_says(music, home):
    tagged.write(music / "a.flac", title="One", artist="Ann")
    import_folder(music, home)
    path = home / "tables-1" / "artists.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    done = command(music, home)
    assert done.exit_code == 1
    assert "make the catalogue again with `undersong import` and --replace" in done.output
    assert command(music, home, "--replace").exit_code == 0
    assert check_catalogue(home) == ()


def test_what_is_proven_goes_before_what_is_guessed(music, home):
    tagged.write(music / "a.flac", seconds=4, title="One", artist="Ann", recording_id=ONE)
    tagged.write(music / "b.flac", seconds=4, title="One", artist="Ann", recording_id=TWO)
    tagged.write(music / "c.flac", seconds=4.5, title="One", artist="Ann")
    for name, seconds in (("d", 10), ("e", 11.5), ("f", 13), ("g", 14.5)):
        tagged.write(music / f"{name}.flac", seconds=seconds, title="Two", artist="Ann")
    import_folder(music, home)
    assert tracks_of(home, "path") == [("a.flac",), ("b.flac",), ("d.flac",), ("f.flac",)]
    assert failures_of(home) == {
        "c.flac": "a copy of a.flac",
        "e.flac": "a copy of d.flac",
        "g.flac": "a copy of f.flac",
    }


def test_of_two_copies_the_one_that_can_be_heard_is_kept(music, home):
    for name in "ab":
        tagged.write(music / f"{name}.flac", seconds=9, title="One", artist="Ann")
    data = (music / "a.flac").read_bytes()
    (music / "a.flac").write_bytes(data[: len(data) // 3])
    import_folder(music, home)
    assert tracks_of(home, "path") == [("b.flac",)]


def test_music_of_unknown_artists_is_found(music, home):
    tagged.write(music / "Unknown Artist/Tux Race/03 Ice.ogg", artist="Unknown Artist")
    tagged.write(music / "Unknown Artist/Tux Race/04 Snow.ogg")
    assert import_folder(music, home).guessed == 2
    assert tracks_of(home, "id") == [("tux-race/ice",), ("tux-race/snow",)]


def test_of_several_titles_the_one_in_the_file_name_counts(music, home):
    titles = ["Living Caves", "Graveyard"]
    tagged.write(music / "Ann/hr3-caves.ogg", title=titles, artist="Ann")
    tagged.write(music / "Ann/hr4-graveyard.ogg", title=titles, artist="Ann")
    tagged.write(music / "Ann/05.ogg", title=titles, artist="Ann")
    import_folder(music, home)
    assert tracks_of(home, "title") == [("Living Caves",), ("hr3-caves",), ("Graveyard",)]


def test_songs_that_share_a_title_are_told_apart_by_the_names_of_their_files(music, home):
    for name in ("Feelings", "Metal (live)", "07 Freedom"):
        tagged.write(music / f"Ann/{name}.ogg", title="song", artist="Ann", seconds=2)
    for name in ("One", "One (1)", "One - copy", "01"):
        tagged.write(music / f"Bob/{name}.ogg", title="Two", artist="Bob", seconds=3)
    import_folder(music, home)
    assert tracks_of(home, "id", "title") == [
        ("ann/freedom", "Freedom"),
        ("ann/feelings", "Feelings"),
        ("ann/metal-(live)", "Metal (live)"),
        ("bob/two", "Two"),
    ]


def test_a_compilation_is_by_the_artists_of_its_tracks(music, home):
    for number, name in enumerate(["Ann", "Bob", "Cy"]):
        tags = {"title": f"T{number}", "artist": name, "albumartist": "Various Artists"}
        tagged.write(music / f"{number}.flac", compilation="1", album="Hits", **tags)
    import_folder(music, home)
    assert tables.read_catalogue(home).ids("artist") == ("ann", "bob", "cy")


def test_names_and_songs_of_other_letters_are_others(music, home):
    pairs = [("モード", "ガラス"), ("モード", "カラス"), ("モート", "雨"), ("मीरा", "नदी"),
             ("मारी", "नदी"),
             ("นที", "ฟ้า"), ("นทู", "ฟ้า"), ("Kay", "Año"), ("Kay", "Ano"), ("Кай", "й"),
             ("Каи", "и")]  # fmt: skip
    for number, (artist, title) in enumerate(pairs):
        tagged.write(music / f"{number:02}.flac", seconds=2, artist=artist, title=title)
    assert counts(import_folder(music, home)) == (len(pairs), 0, 0, 0)
    catalogue = tables.read_catalogue(home)
    assert set(catalogue.names("artist")) == {artist for artist, _ in pairs}
    assert len(catalogue.tracks) == len(pairs)


def test_one_file_of_each_recording_is_kept(music, home):
    tagged.write(music / "a.flac", seconds=4, title="One", artist="Ann", compilation="1")
    tagged.write(music / "b.flac", seconds=5, title="one", artist="Ann")
    tagged.write(music / "c.flac", seconds=9, title="One", artist="Ann")
    tagged.write(music / "d.flac", seconds=4, title="One", artist="Bob")
    tagged.write(music / "e.flac", seconds=3, title="X", artist="Ann", recording_id=ONE)
    tagged.write(music / "f.flac", seconds=7, title="Y", artist="Ann", recording_id=ONE)
    summary = import_folder(music, home)
    assert tracks_of(home, "id", "path") == [
        ("ann/one", "b.flac"),
        ("ann/one/9", "c.flac"),
        ("bob/one", "d.flac"),
        (ONE, "e.flac"),
    ]
    assert summary.duplicates == 2
    assert "2 files are the recording of another" in text(summary)


def test_ids_are_unique_whatever_the_lengths(music, home):
    generator = np.random.default_rng(3)
    for number, seconds in enumerate(generator.uniform(0.2, 30, size=23)):
        tagged.write(music / f"{number}.flac", seconds=seconds, title="One", artist="Ann")
    summary = import_folder(music, home)
    ids = tables.read_catalogue(home).ids("track")
    assert len(set(ids)) == len(ids) == 23 - summary.duplicates
    assert check_catalogue(home) == ()


def test_what_cannot_be_found_or_read_costs_a_row(music, home):
    tagged.write(music / "good/1.flac", title="One", artist="Ann")
    (music / "good/loop").symlink_to(music)
    (music / "linked").symlink_to(music / "good")
    (music / "gone.mp3").symlink_to(music / "nowhere")
    (music / "round.mp3").symlink_to(music / "round.mp3")
    (music / "text.mp3").write_text("not a note of music\n" * 99)
    (music / "empty.flac").touch()
    (music / ".hidden.flac").touch()
    (music / "folder.flac").mkdir()
    (music / "cover.jpg").write_bytes(bytes(50))
    os.mkfifo(music / "pipe.ogg")
    shutil.copy(music / "good/1.flac", os.fsencode(music) + b"/caf\xe9.flac")
    summary = import_folder(music, home)
    assert tracks_of(home, "path") == [("good/1.flac",)]
    found = failures_of(home)
    assert "damaged, or no audio" in found.pop("text.mp3")
    assert found == {
        "good/loop": "a link to a folder that is searched already",
        "linked": "a link to a folder that is searched already",
        "gone.mp3": "a link that leads nowhere",
        "round.mp3": "cannot be read (Too many levels of symbolic links)",
        "empty.flac": "empty (0 bytes)",
        ".hidden.flac": "hidden",
        "pipe.ogg": "not a file, in spite of its name",
        "caf\\xe9.flac": "its name is not UTF-8",
    }
    assert summary.left_out == 9


def test_a_link_to_a_folder_elsewhere_is_followed(music, home, tmp_path):
    tagged.write(tmp_path / "elsewhere/1.flac", title="One", artist="Ann")
    (music / "more").symlink_to(tmp_path / "elsewhere")
    import_folder(music, home)
    assert tracks_of(home, "path") == [("more/1.flac",)]


def test_only_new_and_changed_files_are_read_again(music, home):
    for name in "abcd":
        tagged.write(music / f"{name}.flac", title=name, artist="Ann")
    assert counts(import_folder(music, home)) == (4, 0, 0, 0)
    first = tables.fingerprint(home)
    assert counts(import_folder(music, home)) == (0, 0, 0, 4)
    assert tables.fingerprint(home) == first
    tagged.write_tags(music / "b.flac", title="B, again", artist="Ann")
    (music / "c.flac").unlink()
    tagged.write(music / "e.flac", title="e", artist="Ann")
    before = (music / "a.flac").stat()
    with (music / "a.flac").open("r+b") as file:  # nobody reads it, so nobody can tell
        file.write(bytes(20))
    os.utime(music / "a.flac", ns=(before.st_atime_ns, before.st_mtime_ns))
    summary = import_folder(music, home)
    assert counts(summary) == (1, 1, 1, 2)
    assert text(summary).startswith("1 new, 1 changed, 1 removed, 2 unchanged")
    assert tracks_of(home, "title") == [("a",), ("B, again",), ("d",), ("e",)]


def test_a_folder_that_cannot_be_listed_keeps_what_was_known_of_it(music, home, monkeypatch):
    tagged.write(music / "away/1.flac", title="One", artist="Ann")
    tagged.write(music / "here/2.flac", title="Two", artist="Ann")
    import_folder(music, home)
    listdir = os.listdir

    def deny(folder):
        if str(folder).endswith("away"):
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", deny)
    summary = import_folder(music, home)
    assert counts(summary) == (0, 0, 0, 1)
    assert summary.reasons == {"away": "cannot be listed (Permission denied)"}
    assert failures_of(home) == {"away": "cannot be listed (Permission denied)"}
    assert tracks_of(home, "title") == [("One",), ("Two",)]


def test_no_audio_is_an_error_and_leaves_the_catalogue(music, home):
    with pytest.raises(DataError, match=r"music has no audio file in it or below.*\.flac"):
        import_folder(music, home)
    assert not home.exists()
    with pytest.raises(DataError, match="nowhere cannot be listed .*; name a folder of music"):
        import_folder(music / "nowhere", home)
    path = tagged.write(music / "1.flac", title="One", artist="Ann")
    import_folder(music, home)
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"no audio file in .* could be read, of 1: 1.flac is dam"):
        import_folder(music, home)
    assert tracks_of(home, "title") == [("One",)]


def test_a_catalogue_of_something_else_is_refused(music, home, tmp_path):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    tables.write_catalogue(
        Catalogue(artists=pl.DataFrame({"id": ["a"], "name": ["A"], "split": [""]}), fields=()),
        home,
    )
    with pytest.raises(DataError, match="`undersong import tables` made; choose another"):
        import_folder(music, home)
    shutil.rmtree(home)
    import_folder(music, home)


def with_plays(home):
    """Give a catalogue a play of each track, as a merge does."""
    known = tables.read_catalogue(home)
    plays = [("track", "pia", x, 3.0) for x in known.ids("track")]
    plays_frame = pl.LazyFrame(plays, schema=PLAYS, orient="row")
    tables.write_catalogue(replace(known, plays=plays_frame), home, source="folder")
    return sorted(plays)


def command(*words):
    return CliRunner().invoke(cli, ["import", "folder", *map(str, words)])


def test_music_that_has_moved_keeps_what_other_imports_brought(music, home, tmp_path):
    tagged.write(music / "ann/1.flac", title="One", artist="Ann")
    tagged.write(music / "ann/2.flac", title="Two", artist="Ann")
    import_folder(music, home)
    plays = with_plays(home)
    (tmp_path / "disk").mkdir()
    moved = music.rename(tmp_path / "disk" / "songs")
    refused = command(moved, home)
    assert refused.exit_code == 1
    assert "if the music has moved, add --moved" in refused.output
    done = command(moved, home, "--moved")
    assert done.exit_code == 0, done.output
    assert sorted(tables.read_catalogue(home).plays.collect().rows()) == plays
    assert tables.read_catalogue(home).audio_root == moved
    assert counts(import_folder(moved, home)) == (0, 0, 0, 2)


@pytest.mark.parametrize("damage", [lambda x: x.write_bytes(b"PAR1"), lambda x: x.unlink()])
def test_a_lost_files_table_is_made_again_as_the_message_says(music, home, damage):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    import_folder(music, home)
    plays = with_plays(home)
    damage(home / "files.parquet")
    refused = command(music, home)
    assert refused.exit_code == 1
    assert "if it was made from this music, add --moved" in refused.output
    assert command(music, home, "--moved").exit_code == 0
    assert tables.read_catalogue(home).plays.collect().rows() == plays
    assert counts(import_folder(music, home)) == (0, 0, 0, 1)


def empty_folder(music, tmp_path):
    (music / "away").rename(tmp_path / "unmounted")
    (music / "away").mkdir()


def emptied(music, tmp_path):
    shutil.move(music / "away/Band", tmp_path / "unmounted")


def dead_link(music, tmp_path):
    (music / "away").rename(tmp_path / "disk")
    (music / "away").symlink_to(tmp_path / "disk")
    import_folder(music, tmp_path / "catalogue")
    (tmp_path / "disk").rename(tmp_path / "unplugged")


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        (empty_folder, "an empty folder"),
        (emptied, "an empty folder"),
        (dead_link, "a link that leads nowhere"),
    ],
)
def test_what_is_not_seen_is_not_gone(music, home, tmp_path, lose, reason):
    for number in range(3):
        tagged.write(music / f"away/Band/{number}.flac", title=f"Far {number}", artist="Far")
    tagged.write(music / "here/x.flac", title="Near", artist="Near")
    import_folder(music, home)
    lose(music, tmp_path)
    done = command(music, home)
    assert done.exit_code == 0
    assert f"3 files cannot be seen now, and what is known of them stays: away ({reason})" in (
        done.output
    )
    assert len(tables.read_catalogue(home).tracks) == 4
    assert command(music, home, "--forget").exit_code == 0
    assert tracks_of(home, "title") == [("Near",)]
    assert "cannot be seen" not in command(music, home).output


def test_what_a_person_deleted_is_gone(music, home):
    for path in ("a/1.flac", "a/2.flac", "b/3.flac", "c/4.flac", "d/5.flac"):
        tagged.write(music / path, title=path, artist="Ann")
    (music / "b/cover.jpg").write_bytes(b"picture")
    import_folder(music, home)
    for path in ("a/1.flac", "a/2.flac", "b/3.flac"):  # all files of a folder that stays
        (music / path).unlink()
    shutil.rmtree(music / "c")
    assert counts(import_folder(music, home)) == (0, 0, 4, 1)


def test_a_file_link_that_leads_nowhere_is_not_gone(music, home, tmp_path):
    (music / "x.flac").symlink_to(tagged.write(tmp_path / "disk/x.flac", title="X", artist="Ann"))
    tagged.write(music / "y.flac", title="Y", artist="Ann")
    import_folder(music, home)
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert import_folder(music, home).unseen == 1
    assert len(tracks_of(home, "id")) == 2
    (music / "x.flac").unlink()
    assert counts(import_folder(music, home)) == (0, 0, 1, 1)


def test_a_disk_that_is_not_mounted_is_not_gone(music, home):
    disk = music / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this system lets nobody mount: {mounted.stderr.decode().strip()}")
    try:
        tagged.write(disk / "1.flac", title="Far", artist="Ann")
        tagged.write(music / "2.flac", title="Near", artist="Ann")
        import_folder(music, home)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert import_folder(music, home).reasons == {"disk": "an empty folder"}
    assert tracks_of(home, "title") == [("Near",), ("Far",)]


def test_a_disk_whose_folder_goes_with_it_is_not_gone(music, home):
    disk = music / "media" / "stick"
    disk.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this system lets nobody mount: {mounted.stderr.decode().strip()}")
    try:
        for number in range(3):
            tagged.write(disk / f"Ann/{number}.flac", title=f"Far {number}", artist="Ann")
        tagged.write(music / "media/near.flac", title="Near", artist="Ann")
        import_folder(music, home)
        (disk / "Ann/2.flac").unlink()  # what is deleted while the disk is there is gone
        assert counts(import_folder(music, home)) == (0, 0, 1, 3)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    disk.rmdir()
    assert import_folder(music, home).reasons == {"media/stick": "a disk that is not mounted"}
    assert len(tracks_of(home, "id")) == 3
    import_folder(music, home, forget=True)
    assert tracks_of(home, "title") == [("Near",)]


def test_an_album_in_one_file_with_a_cue_sheet_is_told_of(music, home):
    tagged.write(music / "Ann/Whole.flac", title="Whole", artist="Ann", seconds=7)
    (music / "Ann/Whole.cue").write_text('FILE "Whole.flac" WAVE\n')
    inside = tagged.write(music / "Bob/Inside.flac", title="Inside", artist="Bob", seconds=5)
    file = mutagen.File(inside)
    file["CUESHEET"] = "TRACK 01 AUDIO\nTRACK 02 AUDIO\n"
    file.save()
    tagged.write(music / "Cy/1.flac", title="One", artist="Cy")
    (music / "Cy/Album.cue").write_text('FILE "1.flac" WAVE\n')
    assert "2 files with a cue sheet are albums in one file" in text(import_folder(music, home))


def test_a_file_that_cannot_be_opened_keeps_what_was_known_of_it(music, home, monkeypatch):
    changed = tagged.write(music / "1.flac", title="One", artist="Ann")
    tagged.write(music / "2.flac", title="Two", artist="Ann")
    import_folder(music, home)
    os.utime(changed, ns=(1, 1))
    monkeypatch.setattr(
        folder, "row_of", lambda file, tags: Failure(file.path, "slow", "wait", damaged=False)
    )
    assert import_folder(music, home).unseen == 1
    assert failures_of(home) == {"1.flac": "slow"}
    assert len(tracks_of(home, "id")) == 2


def test_another_version_reads_all_again_and_keeps_what_is_away(music, home, tmp_path):
    tagged.write(music / "away/Band/1.flac", title="Far", artist="Ann")
    tagged.write(music / "2.flac", title="Near", artist="Ann")
    import_folder(music, home)
    rows = pl.read_parquet(home / "files.parquet").drop("folder")
    write_table(
        home / "files.parquet", rows, metadata={"format": "1", "root": str(music.resolve())}
    )
    empty_folder(music, tmp_path)
    summary = import_folder(music, home)
    assert (counts(summary), summary.unseen) == ((0, 1, 0, 0), 1)


def test_endings_that_are_passed_over_are_counted(music, home):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    for name in ("a.xm", "b.jpg", "c.JPG", "README"):
        (music / name).write_bytes(b"no audio")
    summary = import_folder(music, home)
    assert "passed over by the end of their names: 2 .jpg, 1 without, 1 .xm" in text(summary)


def test_names_that_begin_with_dots_are_names_and_bins_are_none(music, home):
    for path in ("...And Then/...Again/...One.flac", ".Trash/2.flac", "Ann/._Three.flac"):
        tagged.write(music / path)
    for path in (
        "#recycle/4.flac",
        "$RECYCLE.BIN/S-1/5.flac",
        "@Recycle/6.flac",
        "lost+found/7.flac",
    ):
        tagged.write(music / path)
    import_folder(music, home)
    assert tracks_of(home, "path") == [("...And Then/...Again/...One.flac",)]
    assert {x.lstrip("'"): why for x, why in failures_of(home).items()} == {
        ".Trash": "hidden",
        "Ann/._Three.flac": "hidden",
        **dict.fromkeys(("#recycle", "$RECYCLE.BIN", "@Recycle", "lost+found"), "a recycle bin"),
    }


def test_what_other_imports_brought_stays(music, home):
    one = tagged.write(music / "1.flac", title="One", artist="Ann")
    tagged.write(music / "2.flac", title="Two", artist="Bob")
    gone = tagged.write(music / "3.flac", title="Three", artist="Cy")
    tagged.write(music / "4.flac", title="Four", artist="Dan")
    import_folder(music, home)
    known = tables.read_catalogue(home)
    plays = [
        *(("artist", "u", "ann", 3.0), ("track", "u", "ann/one", 2.0), ("artist", "v", "cy", 5.0)),
        ("track", "v", "cy/three", 7.0),
    ]
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    tables.write_catalogue(
        replace(
            known,
            artists=known.artists.with_columns(
                pl.Series("split", ["train", "test", None, None]), pl.Series("mood", list("xyzw"))
            ),
            fields=(*known.fields, Field("mood", "artist", "category")),
            plays=pl.LazyFrame(plays, schema=PLAYS, orient="row"),
            relations=pl.DataFrame(
                [("artist", "ann", "bob", "web"), ("artist", "bob", "cy", "web")],
                schema=RELATIONS,
                orient="row",
            ),
            features={("heard", "track"): Embeddings(("ann/one", "bob/two"), vectors)},
        ),
        home,
    )
    tagged.write_tags(one, title="One", artist="Ann", artist_id=ANN, recording_id=ONE)
    gone.unlink()
    (music / "4.flac").unlink()
    import_folder(music, home)
    assert check_catalogue(home) == ()
    found = tables.read_catalogue(home)
    assert found.artists.select("id", "split", "mood").rows() == [
        *((ANN, "train", "x"), ("bob", "test", "y"), ("cy", None, "z")),
    ]
    assert found.tracks.select("id", "artist", "path").rows() == [
        *((ONE, ANN, "1.flac"), ("bob/two", "bob", "2.flac"), ("cy/three", "cy", None)),
    ]
    plays = found.plays.collect()
    assert sorted(plays.rows()) == sorted(
        [
            *(("artist", "u", ANN, 3.0), ("track", "u", ONE, 2.0), ("artist", "v", "cy", 5.0)),
            ("track", "v", "cy/three", 7.0),
        ]
    )
    assert sorted(found.relations.select("a", "b").rows()) == [(ANN, "bob"), ("bob", "cy")]
    assert found.features["heard", "track"].ids == (ONE, "bob/two")
    assert [x.name for x in found.fields] == ["mood"]
    assert counts(import_folder(music, home)) == (0, 0, 0, 2)
    assert tables.read_catalogue(home).plays.collect().equals(plays)


PAIRS = "who,whom,source\nAnn,BOB,web\nbob,ann,web\nann,Nobody,web\n1.flac,bob/two,web\nann,ann,x\n"


def test_known_pairs_name_artists_and_tracks_as_people_do(music, home, tmp_path):
    tagged.write(music / "1.flac", title="One", artist="Ann", artist_id=ANN)
    tagged.write(music / "2.flac", title="Two", artist="Bob")
    (tmp_path / "pairs.csv").write_text(PAIRS)
    summary = import_folder(music, home, relations=tmp_path / "pairs.csv")
    related = [("artist", ANN, "bob", "web"), ("track", f"{ANN}/one", "bob/two", "web")]
    assert tables.read_catalogue(home).relations.rows() == related
    assert "1 known pairs left out: this music lacks 'Nobody'" in text(summary)
    import_folder(music, home)
    assert tables.read_catalogue(home).relations.rows() == related
    (tmp_path / "web.csv").write_text("a,b\nBob,Ann\n")
    import_folder(music, home, relations=tmp_path / "web.csv")
    assert tables.read_catalogue(home).relations.rows() == related[:1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nZoe,Yan\n", r"p.csv relates no two items of this music; it lacks 'Zoe', 'Yan'"),
        ("a,source\nAnn,web\n", r"p.csv: has columns \['a', 'source'\]; give a header and two"),
        ("a,b\n", "has no row below its header"),
    ],
)
def test_pairs_that_tell_nothing_are_refused(music, home, tmp_path, content, message):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        import_folder(music, home, relations=tmp_path / "p.csv")


def test_kill_at_any_moment_leaves_the_old_catalogue_or_the_new_one(music, home, tmp_path):
    sound = tagged.write(music / "old/0.flac", seconds=0.1, title="0", artist="Ann")
    import_folder(music, home)
    old = tables.fingerprint(home)
    for number in range(1, 200):
        path = music / f"{number}.flac"
        shutil.copy(sound, path)
        tagged.write_tags(path, title=str(number), artist=f"A{number % 7}")
    command = [sys.executable, "-m", "undersong", "import", "folder", str(music)]
    begun = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    duration = time.monotonic() - begun
    new = tables.fingerprint(tmp_path / "whole")
    command.append(str(home))
    generator = np.random.default_rng(5)
    for delay in duration * generator.uniform(0.3, 1.0, size=KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert tables.fingerprint(home) in (old, new)
    subprocess.run(command, check=True, capture_output=True)
    assert tables.fingerprint(home) == new
    assert sorted(x.name for x in home.iterdir() if x.name[0] != ".") == sorted(
        ["catalogue.json", "failures.csv", "files.parquet", next(home.glob("tables-*")).name]
    )


def test_the_command_says_what_became_of_the_folder(music, home):
    tagged.write(music / "1.flac", title="One", artist="Ann")
    (music / "2.flac").write_bytes(b"broken")
    done = CliRunner().invoke(cli, ["import", "folder", str(music), str(home)])
    assert done.exit_code == 0, done.output
    assert "1 new, 0 changed, 0 removed, 0 unchanged" in done.stdout
    assert "1 artists, 1 tracks, 0 plays, 0 relations" in done.stdout
    assert f"1 were left out: {home / 'failures.csv'} says why" in done.stderr


def test_lieder_from_their_tags_are_those_of_its_tables(home):
    songs = DATA / "lieder"
    if not songs.is_dir():
        pytest.skip(f"no real data in {DATA}; set UNDERSONG_DATA")
    import_folder(songs / "audio", home, relations=songs / "relations.csv")
    found = tables.read_catalogue(home)
    theirs = pl.read_csv(songs / "tracks.csv")
    names = pl.read_csv(songs / "artists.csv")["name"]
    assert found.artists.select("id", "name").rows() == sorted((slug(x), x) for x in names)
    paths = theirs.select(pl.col("path").str.strip_prefix("audio/"), "title", "set").sort("path")
    assert found.tracks.select("path", "title", "album").rows() == paths.rows()
    assert len(found.relations) == 28
