"""What hearing a 30 s MP3 costs, beside its decoding alone and beside librosa, and two processes.

    python benchmarks/decode.py [--rounds 15] [--files 120]

Medians of interleaved rounds on one core: on a busy machine ratios hold, milliseconds do not.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import av
import librosa
import numpy as np
import soundfile

from undersong.audio import file
from undersong.audio.decode import decode
from undersong.audio.logmel import log_mel

RATE = 44_100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, default=120, help="for one process against two")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, long = (write(Path(folder) / f"{x}.mp3", seconds=x) for x in (30, 300))
        compare(short, long, asked.rounds)
        scale(short, asked.files)


def write(path: Path, *, seconds: int) -> Path:
    """Write chords with some noise: 44,100 Hz, stereo, about 192 kbit/s."""
    generator = np.random.default_rng(seconds)
    time_ = np.arange(seconds * RATE) / RATE
    sound = 0.02 * generator.standard_normal((len(time_), 2))
    for hertz in (110, 220, 277, 330, 880, 3_520):
        sound += 0.08 * np.sin(2 * np.pi * hertz * (time_ + 0.001 * np.sin(time_)))[:, None]
    soundfile.write(path, sound, RATE, bitrate_mode="CONSTANT", compression_level=0.4)
    return path


def with_av(path: Path) -> None:
    """Decode on one thread."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_type = "NONE"
        for frame in container.decode(stream):
            frame.to_ndarray()


def with_torchcodec(path: Path) -> None:
    """Decode by the FFmpeg of the system, where torchcodec is installed."""
    from torchcodec.decoders import AudioDecoder

    AudioDecoder(str(path)).get_all_samples()


def with_librosa(path: Path) -> None:
    """Decode, mix, resample and count mel power, as its documentation shows."""
    sound, rate = librosa.load(path, sr=22_050)
    np.log1p(librosa.feature.melspectrogram(y=sound, sr=rate, n_fft=1024, hop_length=512))


def compare(short: Path, long: Path, rounds: int) -> None:
    """Time every way in turn, ``rounds`` times."""
    decoders = {
        "soundfile decodes": lambda: soundfile.read(short, dtype="float32"),
        "PyAV decodes": lambda: with_av(short),
    }
    if importlib.util.find_spec("torchcodec"):
        decoders["torchcodec decodes"] = lambda: with_torchcodec(short)
    ways = decoders | {
        "undersong, file to log-mel": lambda: log_mel(file.read(short).chunks),
        "librosa, file to log-mel": lambda: with_librosa(short),
        "undersong, of 300 s": lambda: log_mel(file.read(long).chunks),
        "soundfile decodes 300 s": lambda: soundfile.read(long, dtype="float32"),
    }
    for way in ways.values():
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - begin)
    for name, each in spent.items():
        print(f"{name:28} {1e3 * statistics.median(each):7.1f} ms (least {1e3 * min(each):.1f})")
    ours = "undersong, file to log-mel"
    fastest = min(decoders, key=lambda name: statistics.median(spent[name]))
    ratio(f"ours / {fastest}", spent[ours], spent[fastest], "at most 1.15")
    ratio("librosa / ours", spent["librosa, file to log-mel"], spent[ours], "at least 1.3")


def ratio(name: str, above: list[float], below: list[float], target: str) -> None:
    """Print how many times as long one way takes as another."""
    of_medians = statistics.median(above) / statistics.median(below)
    print(f"{name}: {of_medians:.2f}, of the least {min(above) / min(below):.2f} ({target})")


def scale(path: Path, files: int) -> None:
    """Time one process and two on the same files, three times in turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for workers, found in rates.items():
            sounds = decode([path] * files, workers=workers)
            for _ in range(workers):  # not the start of the processes
                next(sounds)
            begin = time.perf_counter()
            left = sum(1 for _ in sounds)
            found.append(left / (time.perf_counter() - begin))
    one, two = (statistics.median(rates[x]) for x in (1, 2))
    print(f"files/s with 1 process {one:.1f}, with 2 {two:.1f}: {two / one:.2f} x (at least 1.8)")


if __name__ == "__main__":
    main()
