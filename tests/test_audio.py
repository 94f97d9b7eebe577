import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from undersong.audio import decode as decoding
from undersong.audio import extract as extraction
from undersong.audio import file
from undersong.audio.decode import decode
from undersong.audio.extract import extract
from undersong.audio.logmel import BANDS, COMPRESSION, log_mel, mel_bank, mel_power
from undersong.audio.waveform import (
    CHUNK_SAMPLES,
    CHUNKS,
    FRAMES,
    LOUDNESS,
    RATE,
    Sound,
    Undecodable,
    starts,
)
from undersong.catalogue.tables import ITEMS, Catalogue
from undersong.errors import ArtifactError, DataError

CHUNK_SECONDS = CHUNK_SAMPLES / RATE


def tone(path, *, hertz=440.0, seconds=5.0, rate=22_050, channels=1, level=0.3):
    time = np.arange(round(seconds * rate)) / rate
    mono = level * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.repeat(mono[:, None], channels, axis=1), rate)
    return path


def loudest_hertz(chunk):
    return np.abs(np.fft.rfft(chunk)).argmax() * RATE / len(chunk)


def catalogue(root, paths):
    rows = [
        {"id": f"t{row}", "artist": "a", "title": None, "path": path, "popularity": None}
        for row, path in enumerate(paths)
    ]
    artists = pl.DataFrame([{"id": "a", "name": "A", "split": None}], schema=ITEMS["artist"])
    return Catalogue(artists, pl.DataFrame(rows, schema=ITEMS["track"]), audio_root=root)


# log-mel


def test_mel_power_is_that_of_librosa():
    librosa = pytest.importorskip("librosa", reason="librosa is not installed: pip install librosa")
    generator = np.random.default_rng(0)
    time = np.arange(31_000) / RATE
    sounds = np.stack(
        [
            0.1 * generator.standard_normal(len(time)),
            0.5 * np.sin(2 * np.pi * 300 * time**2),
            np.sin(2 * np.pi * 3_000 * time) * (time < 0.7),
        ]
    ).astype(np.float32)
    found = mel_power(torch.from_numpy(sounds)).numpy()
    for sound, ours in zip(sounds, found, strict=True):
        theirs = librosa.feature.melspectrogram(
            y=sound, sr=RATE, n_fft=1024, hop_length=512, n_mels=128
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            np.log1p(COMPRESSION * ours), np.log1p(COMPRESSION * theirs), atol=1e-4
        )


def test_every_band_has_an_area_of_one():
    area = mel_bank().sum(axis=1) * RATE / 1024
    assert mel_bank().shape == (128, 513)
    np.testing.assert_allclose(area[60:], 1, atol=0.03)  # lower bands hold a few bins only


def test_log_mel_is_bands_by_frames_and_zero_for_silence():
    pictures = log_mel(torch.zeros(3, CHUNK_SAMPLES))
    assert pictures.shape == (3, BANDS, FRAMES)
    assert not pictures.any()


# one file


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.6, 1), (3.9, 1), (4.1, 2), (8.0, 3), (30.0, 8), (36_000.0, 8)]
)
def test_chunks_reach_from_the_beginning_to_the_end(seconds, count):
    begin = starts(seconds)
    assert len(begin) == count
    assert begin[0] == 0
    assert begin[-1] == pytest.approx(max(seconds - CHUNK_SECONDS, 0))


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 8_000, 1), ("b.flac", 192_000, 2), ("c.ogg", 44_100, 2), ("d.wav", 22_050, 8)],
)
def test_every_rate_and_number_of_channels_sounds_the_same(tmp_path, name, rate, channels):
    sound = file.read(tone(tmp_path / name, hertz=700, rate=rate, channels=channels))
    assert sound.chunks.shape == (2, CHUNK_SAMPLES)
    assert sound.chunks.dtype == np.float32
    assert sound.seconds == pytest.approx(5)
    assert loudest_hertz(sound.chunks[1]) == pytest.approx(700, abs=1)


def test_the_gain_of_a_file_is_removed(tmp_path):
    loud, quiet = (
        file.read(tone(tmp_path / f"{level}.wav", level=level)).chunks for level in (0.9, 0.009)
    )
    assert np.sqrt(np.mean(loud**2)) == pytest.approx(LOUDNESS, rel=1e-5)
    np.testing.assert_allclose(loud, quiet, atol=2e-3)  # 16 bits of a quiet tone


def test_a_short_file_is_repeated_to_fill_a_chunk(tmp_path):
    chunks = file.read(tone(tmp_path / "short.wav", hertz=1_000, seconds=0.75)).chunks
    assert chunks.shape == (1, CHUNK_SAMPLES)
    length = round(0.75 * RATE)
    np.testing.assert_array_equal(chunks[0, :length], chunks[0, length : 2 * length])


def test_a_long_file_gives_eight_chunks_and_its_silent_parts_none(tmp_path):
    path = tmp_path / "long.flac"
    half = np.zeros(60 * 8_000)
    rest = 0.1 * np.random.default_rng(0).standard_normal(60 * 8_000)
    soundfile.write(path, rest, 8_000)
    assert len(file.read(path).chunks) == CHUNKS
    soundfile.write(path, np.concatenate([half, rest]), 8_000)
    assert len(file.read(path).chunks) == CHUNKS // 2


def write_not_finite(path):
    sound = np.full(30_000, 0.1, dtype=np.float32)
    sound[12_345] = np.nan
    soundfile.write(path, sound, RATE, subtype="FLOAT")


def write_cut_off(path):
    tone(path.with_suffix(".flac"), seconds=20)
    whole = path.with_suffix(".flac").read_bytes()
    path.write_bytes(whole[: len(whole) // 3])


HOSTILE = {
    "missing.ogg": (lambda path: None, "no such file"),
    "empty.mp3": (lambda path: path.touch(), r"empty \(0 bytes\)"),
    "text.ogg": (lambda path: path.write_text("I am no music\n" * 9), "text, not audio"),
    "noise.wav": (lambda path: path.write_bytes(bytes(range(256)) * 9), "no audio that can be"),
    "folder.wav": (lambda path: path.mkdir(), "not a file"),
    "phone.m4a": (lambda path: path.write_bytes(b"\0\0\0\x20ftypM4A \0\0"), "MP4 or AAC"),
    "click.wav": (lambda path: tone(path, seconds=0.2), "only 0.20 s of sound"),
    "silence.wav": (lambda path: tone(path, level=0), "silence"),
    "nan.wav": (write_not_finite, "not finite"),
    "cut.wav": (write_cut_off, "cut off|no audio that can be"),
    "rate.wav": (lambda path: tone(path, rate=1_000), "claims a rate of 1000 Hz"),
    "pipe.wav": (lambda path: os.mkfifo(path), "not a file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_file_has_one_clear_reason(tmp_path, name):
    write, reason = HOSTILE[name]
    write(tmp_path / name)
    with pytest.raises(Undecodable, match=reason) as caught:
        file.read(tmp_path / name)
    assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_says_so(tmp_path):
    path = tone(tmp_path / "secret.wav")
    path.chmod(0)
    with pytest.raises(Undecodable, match=r"cannot be opened \(Permission denied\)"):
        file.read(path)


# child processes


def test_decoding_in_children_gives_the_same_sound_in_the_order_asked(tmp_path):
    paths = [tone(tmp_path / f"{hertz}.wav", hertz=hertz) for hertz in range(300, 1_000, 100)]
    paths.insert(3, tmp_path / "missing \udcff.wav")  # a name that is not UTF-8
    found = list(decode(paths, workers=2))
    assert isinstance(found.pop(3), Undecodable)
    paths.pop(3)
    for path, sound in zip(paths, found, strict=True):
        assert isinstance(sound, Sound)
        np.testing.assert_array_equal(sound.chunks, file.read(path).chunks)


BOMB = """
import os
from undersong.audio import decode, file
read = file.read
file.read = lambda path: os._exit(9) if path.name == "bomb.wav" else read(path)
decode._main()
"""


def test_a_file_that_kills_its_decoder_costs_that_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHILD", ("-c", BOMB))
    good = tone(tmp_path / "good.wav")
    before, bomb, after = decode([good, tmp_path / "bomb.wav", good], workers=1)
    assert bomb.reason == "the decoder died of it (exit code 9)"
    np.testing.assert_array_equal(before.chunks, after.chunks)


def test_a_file_that_takes_too_long_is_given_up(tmp_path):
    (late,) = decode([tone(tmp_path / "good.wav")], workers=1, seconds=0.001)
    assert late.reason == "not decoded within 0.001 s"


def test_a_decoder_without_memory_fails_and_does_not_hang(tmp_path):
    (dead,) = decode([tone(tmp_path / "good.wav")], workers=1, memory=1_000_000)
    assert "died" in dead.reason


def test_decoding_may_be_given_up_half_way(tmp_path):
    paths = [tone(tmp_path / "good.wav")] * 30
    sounds = decode(paths, workers=2)
    assert isinstance(next(sounds), Sound)
    sounds.close()


# extraction


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
    assert seen[-1] == (4, 4, "1 failed")
    for row, name in enumerate(["a.wav", "b.wav", "c.wav"]):
        want = log_mel(torch.from_numpy(file.read(tmp_path / name).chunks)).numpy()
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


def test_what_was_analysed_is_not_analysed_again(tmp_path, small_shards, monkeypatch):
    for name in "abc":
        tone(tmp_path / f"{name}.wav")
    tracks = catalogue(tmp_path, ["a.wav", "b.wav", "c.wav"])
    first = contents(extract(tracks, tmp_path / "mel"))
    asked = []
    real = extraction.decode

    def spy(paths, *, workers):
        asked.extend(paths := [path.name for path in paths])
        return real([tmp_path / path for path in paths], workers=workers)

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
