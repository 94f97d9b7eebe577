import os
import random
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from click.testing import CliRunner

from undersong.audio import extract as extraction, file
from undersong.audio.extract import extract
from undersong.audio.logmel import BANDS, FRAMES, log_mel
from undersong.catalogue import tables
from undersong.catalogue.tables import ITEMS, Catalogue
from undersong.cli.main import cli
from undersong.errors import ArtifactError, DataError
from undersong.models.content import inputs
from undersong.models.content.network import ContentSettings
from undersong.models.content.training import embed_content
from undersong.relations import Task
from undersong.training import Compute

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import kill_extract


def tone(path, *, hertz=440.0, seconds=5.0, rate=22_050, channels=1, level=0.3):
    time = np.arange(round(seconds * rate)) / rate
    mono = level * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.repeat(mono[:, None], channels, axis=1), rate)
    return path


def catalogue(root, paths):
    rows = [
        {"id": f"t{row}", "artist": "a", "title": None, "path": path, "popularity": None}
        for row, path in enumerate(paths)
    ]
    artists = pl.DataFrame([{"id": "a", "name": "A", "split": None}], schema=ITEMS["artist"])
    return Catalogue(artists, pl.DataFrame(rows, schema=ITEMS["track"]), fields=(), audio_root=root)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(extraction, "SHARD", 2)


def contents(found):
    return {track: found.done.read(row) for row, track in enumerate(found.done.ids)}


def test_extraction_keeps_every_chunk_and_lists_every_failure(tmp_path, small_shards):
    tone(tmp_path / "a.wav", seconds=9)
    tone(tmp_path / "b.wav", hertz=900, seconds=2)
    tone(tmp_path / "c.wav", hertz=200, seconds=5)
    (tmp_path / "=bad.wav").touch()
    names = ["a.wav", "=bad.wav", None, "b.wav", "c.wav"]
    seen = []
    found = extract(
        catalogue(tmp_path, names),
        tmp_path / "mel",
        workers=1,
        progress=lambda stage, done, total, note="": seen.append((done, total, note)),
    )
    assert found.done.ids == ("t0", "t3", "t4")
    assert found.done.chunks.tolist() == [3, 1, 2]
    assert found.failed["track"].to_list() == ["t1"]
    assert seen[-1][:2] == (4, 4)
    assert seen[-1][2].endswith("x real time, 1 failed")
    for row, name in enumerate(["a.wav", "b.wav", "c.wav"]):
        want = log_mel(file.read(tmp_path / name).chunks)
        assert found.done.read(row).dtype == np.float16
        np.testing.assert_allclose(found.done.read(row), want, rtol=1e-3, atol=1e-3)


def test_a_random_chunk_is_one_of_its_track(tmp_path, small_shards):
    for name in "abc":
        tone(tmp_path / f"{name}.wav", hertz=200 + 90 * ord(name), seconds=9)
    mels = extract(catalogue(tmp_path, ["a.wav", "b.wav", "c.wav"]), tmp_path / "mel").done
    rows = np.array([2, 0, 2, 1])
    chunks = mels.read_one_each(rows, np.random.default_rng(0))
    assert chunks.shape == (4, BANDS, FRAMES)
    for row, chunk in zip(rows, chunks, strict=True):
        assert any(np.array_equal(chunk, known) for known in mels.read(row))


def test_no_spreadsheet_takes_a_file_name_for_a_formula(tmp_path):
    tone(tmp_path / "a.wav")
    extract(catalogue(tmp_path, ["a.wav"]), tmp_path / "mel")
    risky = catalogue(Path(), [str(tmp_path / "a.wav"), "=HYPERLINK(1).wav", "-x.wav", "ok.wav"])
    found = extract(risky, tmp_path / "mel")
    assert found.failed["file"].to_list() == ["=HYPERLINK(1).wav", "-x.wav", "ok.wav"]
    listed = pl.read_csv(tmp_path / "mel" / "failures.csv")
    assert listed.columns == ["track", "file", "reason", "remedy"]
    assert listed["file"].to_list() == ["'=HYPERLINK(1).wav", "'-x.wav", "ok.wav"]


def test_a_file_on_a_disk_that_is_away_stays_analysed(tmp_path):
    (tmp_path / "music").mkdir()
    for name in "ab":
        tone(tmp_path / f"music/{name}.wav")
    tracks = catalogue(tmp_path / "music", ["a.wav", "b.wav"])
    first = contents(extract(tracks, tmp_path / "mel"))
    (tmp_path / "music/b.wav").rename(tmp_path / "away.wav")
    again = extract(tracks, tmp_path / "mel")
    assert again.failed.is_empty()
    np.testing.assert_array_equal(contents(again)["t1"], first["t1"])


def test_what_was_analysed_is_not_analysed_again(tmp_path, small_shards, monkeypatch):
    for name in "abc":
        tone(tmp_path / f"{name}.wav")
    tracks = catalogue(tmp_path, ["a.wav", "b.wav", "c.wav"])
    first = contents(extract(tracks, tmp_path / "mel"))
    asked = []
    real = extraction.decode

    def spy(paths, **options):
        paths = list(paths)
        asked.extend(path.name for path in paths)
        return real(paths, **options)

    monkeypatch.setattr(extraction, "decode", spy)
    again = contents(extract(tracks, tmp_path / "mel"))
    assert asked == []
    tone(tmp_path / "b.wav", hertz=999)  # as many bytes as before
    os.utime(tmp_path / "b.wav", (1e9, 1e9))
    changed = contents(extract(tracks, tmp_path / "mel"))
    assert asked == ["b.wav"]
    for track in first:
        np.testing.assert_array_equal(first[track], again[track])
    np.testing.assert_array_equal(first["t2"], changed["t2"])
    assert first["t1"].shape == changed["t1"].shape
    assert not np.array_equal(first["t1"], changed["t1"])


def test_an_interrupted_extraction_goes_on_to_the_same_result(tmp_path, small_shards):
    for name in "abcde":
        tone(tmp_path / f"{name}.wav", hertz=100 * ord(name) - 9_000)
    tracks = catalogue(tmp_path, [f"{name}.wav" for name in "abcde"])

    def interrupt(stage, done, total, note=""):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tracks, tmp_path / "mel", workers=1, progress=interrupt)
    assert [x.name for x in (tmp_path / "mel").glob("*.parquet")] == ["00000.parquet"]
    resumed = contents(extract(tracks, tmp_path / "mel", workers=1))
    whole = contents(extract(tracks, tmp_path / "other", workers=1))
    assert list(resumed) == list(whole)
    for track in whole:
        np.testing.assert_array_equal(resumed[track], whole[track])


def test_a_run_in_which_nothing_was_analysed_is_no_success(tmp_path):
    (tmp_path / "a.ogg").write_text("not found")
    with pytest.raises(DataError, match=r"none of 2 .*a.ogg: text, not audio; get the file again"):
        extract(catalogue(tmp_path, ["a.ogg", "b.ogg"]), tmp_path / "mel")
    assert len(pl.read_csv(tmp_path / "mel" / "failures.csv")) == 2


def test_a_damaged_shard_names_its_remedy(tmp_path):
    tone(tmp_path / "a.wav")
    tracks = catalogue(tmp_path, ["a.wav"])
    extract(tracks, tmp_path / "mel")
    (tmp_path / "mel" / "00000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ArtifactError, match="delete 00000.parquet beside it"):
        extract(tracks, tmp_path / "mel").done.read(0)
    (tmp_path / "mel" / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="00000.parquet cannot be read"):
        extract(tracks, tmp_path / "mel")


def test_killed_at_random_moments_it_leaves_the_same_bytes(tmp_path):
    kill_extract.write_catalogue(tmp_path, files=21)
    want, seconds = kill_extract.undisturbed(tmp_path)
    assert sum(x.endswith(".parquet") for x in want) == 7
    out = tmp_path / "killed"
    hit = kill_extract.disturbed(tmp_path, out, seconds=seconds, kills=3, moments=random.Random(0))
    assert hit > 0
    assert kill_extract.contents(out) == want


def test_failed_files_are_tried_again_by_the_next_run(tmp_path, small_shards):
    tone(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"\0" * 77)
    tracks = catalogue(tmp_path, ["a.wav", "b.wav", "c.wav"])
    first = extract(tracks, tmp_path / "mel")
    assert (first.new, first.failed["track"].to_list()) == (1, ["t1", "t2"])
    tone(tmp_path / "c.wav", hertz=300)
    second = extract(tracks, tmp_path / "mel")
    assert (second.new, second.failed["track"].to_list()) == (1, ["t1"])
    assert second.seconds == pytest.approx(10)


def test_tracks_of_one_file_are_analysed_once(tmp_path):
    tone(tmp_path / "a.wav")
    found = extract(catalogue(tmp_path, ["a.wav", "a.wav"]), tmp_path / "mel")
    assert (found.done.ids, found.new) == (("t0", "t1"), 1)


def test_a_folder_that_moved_with_its_files_is_not_analysed_again(tmp_path):
    (tmp_path / "here").mkdir()
    tone(tmp_path / "here" / "a.wav")
    extract(catalogue(tmp_path / "here", ["a.wav"]), tmp_path / "mel")
    (tmp_path / "here").rename(tmp_path / "there")
    assert extract(catalogue(tmp_path / "there", ["a.wav"]), tmp_path / "mel").new == 0


def test_a_catalogue_without_audio_files_says_so(tmp_path):
    with pytest.raises(DataError, match="no track of the catalogue has a path"):
        extract(catalogue(tmp_path, [None]), tmp_path / "mel")


def test_a_folder_of_another_format_is_refused(tmp_path):
    tone(tmp_path / "a.wav")
    (tmp_path / "mel").mkdir()
    (tmp_path / "mel" / "audio.json").write_text('{"format": 99}')
    with pytest.raises(ArtifactError, match="format 99.*delete .*mel to analyse all files again"):
        extract(catalogue(tmp_path, ["a.wav"]), tmp_path / "mel")


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    tone(tmp_path / "a.wav")
    with pytest.raises(ArtifactError, match="cannot be written"):
        extract(catalogue(tmp_path, ["a.wav"]), tmp_path / "a.wav" / "mel")


def test_training_extracts_beside_the_catalogue_so_that_a_retrain_finds_it(tmp_path, monkeypatch):
    tables.write_catalogue(catalogue(tmp_path, ["a.wav"]), tmp_path / "catalogue")
    asked = []

    def stop(catalogue, folder, **options):
        asked.append(folder)
        raise DataError("stop here")

    monkeypatch.setattr(inputs, "extract", stop)
    for found in (tables.read_catalogue(tmp_path / "catalogue"), catalogue(tmp_path, ["a.wav"])):
        with pytest.raises(DataError, match="stop here"):
            embed_content(
                Task(found, "artist", np.array(["train"])),
                settings=ContentSettings(),
                compute=Compute(0, "cpu", tmp_path / "work"),
            )
    assert asked == [tmp_path / "catalogue" / "audio", tmp_path / "work" / "log-mel"]


# the command


def run(*words, code):
    result = CliRunner().invoke(cli, ["extract", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_counts_what_failed_and_exits_1_unless_it_keeps_going(tmp_path):
    home = tmp_path / "catalogue"
    tone(tmp_path / "a.wav", seconds=9)
    (tmp_path / "b.mp3").write_text("no sound")
    tables.write_catalogue(catalogue(tmp_path, ["a.wav", "b.mp3"]), home)
    before = tables.fingerprint(home)
    said = run(home, "--workers", 1, code=1)
    assert "1 of 2 audio files analysed (1 of them now)" in said.stdout
    assert f"1 failed: {home / 'audio' / 'failures.csv'} says why" in said.stdout
    assert "x real time, 1 failed" in said.stderr
    assert "(0 of them now)" in run(home, "--keep-going", code=0).stdout
    assert tables.fingerprint(home) == before
    assert tables.read_catalogue(home).extracted == home / "audio"
    tables.write_catalogue(catalogue(tmp_path, ["b.mp3"]), home)
    assert "none of 1 audio files could be analysed" in run(home, "--keep-going", code=1).stderr


def test_features_may_go_elsewhere(tmp_path):
    tone(tmp_path / "a.wav")
    tables.write_catalogue(catalogue(tmp_path, ["a.wav"]), tmp_path / "catalogue")
    run(tmp_path / "catalogue", "--out", tmp_path / "other", code=0)
    assert (tmp_path / "other" / "00000.npy").exists()
    assert not (tmp_path / "catalogue" / "audio").exists()
