import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undersong.audio import decode as decoding, file
from undersong.audio.decode import Decoded, decode
from undersong.audio.logmel import (
    BANDS,
    CHUNK_SAMPLES,
    CHUNKS,
    COMPRESSION,
    FRAMES,
    LOUDNESS,
    RATE,
    Undecodable,
    log_mel,
    mel_bank,
    mel_power,
    starts,
)
from undersong.errors import install

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from fuzz_audio import seed_files, with_av, written

CHUNK_SECONDS = CHUNK_SAMPLES / RATE


def tone(path, *, hertz=440.0, seconds=5.0, rate=22_050, channels=1, level=0.3):
    time = np.arange(round(seconds * rate)) / rate
    mono = level * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.repeat(mono[:, None], channels, axis=1), rate)
    return path


def loudest_hertz(chunk):
    return np.abs(np.fft.rfft(chunk)).argmax() * RATE / len(chunk)


def middle_hertz(chunk):
    power = np.abs(np.fft.rfft(chunk)) ** 2
    return (power * np.arange(len(power))).sum() / power.sum() * RATE / len(chunk)


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
    found = mel_power(sounds)
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
    pictures = log_mel(np.zeros((3, CHUNK_SAMPLES), dtype=np.float32))
    assert pictures.shape == (3, BANDS, FRAMES)
    assert not pictures.any()


# one file

SEEDS = seed_files(np.random.default_rng(0))


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


def write_amplitude(path, level):
    soundfile.write(path, np.full(31_000, level, dtype=np.float32), RATE, subtype="FLOAT")


HOSTILE = {
    "missing.ogg": (lambda path: None, "no such file"),
    "empty.mp3": (lambda path: path.touch(), r"empty \(0 bytes\)"),
    "text.ogg": (lambda path: path.write_text("I am no music\n" * 9), "text, not audio"),
    "noise.wav": (lambda path: path.write_bytes(bytes(range(256)) * 9), "no audio that can be"),
    "folder.wav": (lambda path: path.mkdir(), "not a file"),
    "phone.m4a": (lambda path: path.write_bytes(b"\0\0\0\x20ftypM4A \0\0"), "no audio that can be"),
    "click.wav": (lambda path: tone(path, seconds=0.2), "only 0.20 s of sound"),
    "silence.wav": (lambda path: tone(path, level=0), "silence"),
    "nan.wav": (write_not_finite, "not finite"),
    "rate.wav": (lambda path: tone(path, rate=1_000), "claims a rate of 1000 Hz"),
    "pipe.wav": (lambda path: os.mkfifo(path), "not a file"),
    "device.wav": (lambda path: path.symlink_to("/dev/zero"), "not a file"),
    "dangling.mp3": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "loop.mp3": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "endless.wav": (lambda path: write_amplitude(path, np.inf), "not finite"),
    "huge.wav": (lambda path: write_amplitude(path, 1e30), "of no meaning"),
    "list.mp3": (lambda path: path.write_text("#EXTM3U\nhttp://127.0.0.1/a.mp3\n"), "text"),
    "disguised.m4a": (lambda path: path.write_bytes(PLAYLIST), "no audio that can be"),
    b"name \xff.mp3": (lambda path: path.write_bytes(bytes(700)), "no audio that can be"),
}
# FFmpeg would follow it to other files and addresses, were it one of the formats that we allow.
PLAYLIST = b"ffconcat version 1.0\nfile /etc/hostname\n\x00"


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_file_has_one_clear_reason(tmp_path, name):
    write, reason = HOSTILE[name]
    path = tmp_path / os.fsdecode(name)
    write(path)
    with pytest.raises(Undecodable, match=reason) as caught:
        file.read(path)
    assert caught.value.remedy


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_format_is_heard_whatever_its_name_says(tmp_path, name):
    path = tmp_path / ("wrong.wma" if name == "mp3" else "wrong.mp3")
    path.write_bytes(SEEDS[name])
    sound = file.read(path)
    assert sound.chunks.shape == (1, CHUNK_SAMPLES)
    assert sound.seconds == pytest.approx(0.6, abs=0.05)
    assert loudest_hertz(sound.chunks[0]) == pytest.approx(48_000 / 14 / np.pi, rel=0.02)


def rising(seconds, rate):
    """Two halves by their pitch: 500 Hz, then 2,000 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * np.where(time < seconds / 2, 500, 2_000) * time)).astype("f4")


def written_flac_of_unknown_length(path):
    soundfile.write(path, rising(31, RATE), RATE, format="FLAC")
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:42] = bytes(20)  # total samples, and the sum of all sound
    path.write_bytes(data)


def written_wav_of_a_pipe(path):
    soundfile.write(path, rising(31, RATE), RATE, format="WAV", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    place = data.index(b"data")
    data[4:8] = data[place + 4 : place + 8] = bytes(4)
    path.write_bytes(data)


def written_mp3_without_its_first_frame(path):
    """Half of it is silence, so that a length guessed of the bit rate at the start is wrong."""
    sound = np.concatenate([np.zeros(1), rising(31, 44_100)])
    sound[: 15 * 44_100] *= 1e-3
    mode = {"bitrate_mode": "VARIABLE", "compression_level": 0.3}
    soundfile.write(path, sound, 44_100, format="MP3", **mode)
    data = path.read_bytes()
    place = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[data.find(data[:2], place) :])


def written_mp3_behind_mp3(path):
    """The frame that counts the others is of the first alone."""
    parts = (rising(31, RATE)[: 7 * RATE], rising(31, RATE)[7 * RATE :])
    data = b""
    for part in parts:
        soundfile.write(path, part, RATE, format="MP3", bitrate_mode="VARIABLE")
        data += path.read_bytes()
    path.write_bytes(data)


def written_ogg_behind_ogg(path):
    parts = (rising(31, RATE)[: 15 * RATE], rising(31, RATE)[15 * RATE :])
    data = b""
    for part in parts:
        soundfile.write(path, part, RATE, format="OGG")
        data += path.read_bytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    "write",
    [
        written_flac_of_unknown_length,
        written_wav_of_a_pipe,
        written_mp3_without_its_first_frame,
        written_mp3_behind_mp3,
        written_ogg_behind_ogg,
    ],
)
def test_a_length_that_no_header_tells_is_that_of_the_sound(tmp_path, write):
    path = tmp_path / "sound"
    write(path)
    sound = file.read(path)
    assert sound.seconds == pytest.approx(31, abs=0.1)
    assert sound.damage == ""
    assert sound.chunks.shape == (CHUNKS, CHUNK_SAMPLES)
    assert [loudest_hertz(x) for x in sound.chunks[[0, -1]]] == pytest.approx([500, 2_000], abs=3)


@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_a_file_cut_off_is_heard_as_far_as_it_goes(tmp_path, kind):
    path = tmp_path / "cut"
    soundfile.write(path, rising(31, RATE), RATE, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    sound = file.read(path)
    assert 17 < sound.seconds < 24
    assert loudest_hertz(sound.chunks[-1]) == pytest.approx(2_000, abs=3)
    lost = float(sound.damage.split()[0])
    assert lost + sound.seconds == pytest.approx(31, abs=0.2)


def test_damage_in_the_middle_costs_the_damaged_seconds(tmp_path):
    path = tmp_path / "sound.flac"
    noise = np.random.default_rng(0).normal(0, 0.1, 29 * RATE)
    soundfile.write(path, noise, RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    sound = file.read(path)
    assert 24 < sound.seconds < 27
    assert float(sound.damage.split()[0]) == pytest.approx(29 - sound.seconds, abs=0.2)


def test_a_raw_ending_asks_for_nothing(tmp_path):
    path = tmp_path / "sound.raw"
    path.write_bytes(SEEDS["flac"])
    assert len(file.read(path).chunks) == 1


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("asf", "wmav2")])
def test_chunks_of_other_formats_lie_where_they_were_asked_for(tmp_path, container, codec):
    time = np.arange(41 * 48_000) / 48_000
    rising = (0.3 * np.sin(2 * np.pi * (300 + 25 * time) * time)).astype(np.float32)
    path = tmp_path / "long.bin"
    path.write_bytes(with_av(rising, container=container, codec=codec))
    sound = file.read(path)
    soundfile.write(tmp_path / "long.wav", rising, 48_000)
    want = file.read(tmp_path / "long.wav")
    assert sound.seconds == pytest.approx(want.seconds, abs=0.1)
    assert sound.chunks.shape == want.chunks.shape == (CHUNKS, CHUNK_SAMPLES)
    for ours, theirs in zip(sound.chunks, want.chunks, strict=True):  # they rise by 260 Hz each
        assert middle_hertz(ours) == pytest.approx(middle_hertz(theirs), abs=10)


@pytest.mark.parametrize(
    ("name", "said"), [("m4a", "MP4 sound"), ("wma", "Windows Media"), ("wv", "WavPack")]
)
def test_without_pyav_other_formats_name_the_extra(tmp_path, monkeypatch, name, said):
    monkeypatch.setitem(sys.modules, "undersong.audio.ffmpeg", None)
    monkeypatch.delattr("undersong.audio.ffmpeg", raising=False)
    path = tmp_path / f"sound.{name}"
    path.write_bytes(SEEDS[name])
    with pytest.raises(Undecodable, match=f"{said}.*needs PyAV") as caught:
        file.read(path)
    assert caught.value.remedy.startswith(install("av"))


def test_ten_hours_of_silence_cost_no_more_than_a_minute(tmp_path):
    path = tmp_path / "silence.flac"
    hour = np.zeros(3_600 * 8_000, dtype=np.int16)
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_16") as out:
        for _ in range(10):
            out.write(hour)
    with pytest.raises(Undecodable, match="silence in every part"):
        file.read(path)


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
        assert isinstance(sound, Decoded)
        want = log_mel(file.read(path).chunks).astype(np.float16)
        np.testing.assert_array_equal(sound.log_mel, want)


BOMB = """
import os
from undersong.audio import decode, file
read = file.read
file.read = lambda path: os._exit(9) if path.name == "bomb.wav" else read(path)
decode.run_child()
"""


def test_a_file_that_kills_its_decoder_costs_that_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHILD", BOMB)
    good = tone(tmp_path / "good.wav")
    before, bomb, after = decode([good, tmp_path / "bomb.wav", good], workers=1)
    assert bomb.reason == "the decoder died of it (exit code 9)"
    np.testing.assert_array_equal(before.log_mel, after.log_mel)


def test_a_file_that_takes_too_long_is_given_up(tmp_path):
    (late,) = decode([tone(tmp_path / "good.wav")], workers=1, seconds=0.001)
    assert late.reason == "not decoded within 0.001 s"


def test_a_decoder_without_memory_fails_and_does_not_hang(tmp_path):
    (dead,) = decode([tone(tmp_path / "good.wav")], workers=1, memory=1_000_000)
    assert dead.reason == "decoding needs more memory than it may use"


def test_damaged_files_of_every_format_are_all_answered(tmp_path):
    paths = written(tmp_path, files=180, seed=3)
    found = list(decode(paths, workers=2, seconds=30))
    assert len(found) == 180
    reasons = [x.reason for x in found if isinstance(x, Undecodable)]
    assert len(reasons) > 40
    assert not [x for x in reasons if "died" in x or "not decoded within" in x]


CONFINED = """
import socket, sys
from undersong.sandbox import confine
from undersong.sandbox import close_standard_streams
requests, answers = close_standard_streams()
confine(memory=1 << 30)
assert sys.stdin.read() == ""
def refused(what):
    try:
        what()
    except (OSError, MemoryError):
        return True
    return False
def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
lines = [refused(connect), refused(lambda: bytearray(1 << 31))]
open(answers, "w").write(str(lines))
"""


def test_a_child_reaches_no_network_and_has_no_more_memory_than_it_may():
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", CONFINED, str(server.getsockname()[1])]
        found = subprocess.run(command, input=b"not for a library", capture_output=True, check=True)
    if found.stdout == b"[False, True]":
        pytest.skip("this system does not let a process leave the network")
    assert found.stdout == b"[True, True]"


def test_a_child_whose_parent_is_gone_computes_no_longer_than_it_may():
    code = "from undersong.sandbox import allow_processor; allow_processor(0.1)\nwhile 1: pass"
    found = subprocess.run([sys.executable, "-c", code], check=False)
    assert found.returncode == -signal.SIGXCPU


def test_decoding_may_be_given_up_half_way(tmp_path):
    paths = [tone(tmp_path / "good.wav")] * 30
    sounds = decode(paths, workers=2)
    assert isinstance(next(sounds), Decoded)
    sounds.close()
