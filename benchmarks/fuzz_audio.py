"""Decode thousands of damaged and random files: no hang, no crash, every one answered.

    python benchmarks/fuzz_audio.py [--files 5000] [--workers 2] [--seed 0]

Every format that soundfile and PyAV write here, half a second each, is mutated: bytes changed, cut
off, repeated, filled with zeros, two formats spliced, headers kept and the rest made up.
"""

import argparse
import io
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

from undersong.audio.decode import Decoded, decode

RATE = 48_000  # which all of these formats may have
SOUNDFILE = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "FLOAT"),
    "aiff": ("AIFF", "PCM_24"),
    "au": ("AU", "ULAW"),
    "caf": ("CAF", "ALAC_16"),
    "w64": ("W64", "PCM_16"),
}
PYAV = {
    "m4a": ("mp4", "aac"),
    "alac.m4a": ("mp4", "alac"),
    "aac": ("adts", "aac"),
    "wma": ("asf", "wmav2"),
    "mka": ("matroska", "aac"),
    "ac3": ("ac3", "ac3"),
    "wv": ("wv", "wavpack"),
    "tta": ("tta", "tta"),
}


def main() -> None:
    """Decode seeds and mutants, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), files=asked.files, seed=asked.seed)
        became: Counter[str] = Counter()
        for found in decode(paths, workers=asked.workers):
            became[
                "heard" if isinstance(found, Decoded) else found.reason.split("(")[0].strip()
            ] += 1
    for reason, count in became.most_common():
        print(f"{count:6} {reason}")
    answered = sum(became.values())
    print(f"{answered} of {asked.files} answered in {time.monotonic() - begin:.0f} s")
    if answered != asked.files:
        raise SystemExit(1)


def written(folder: Path, *, files: int, seed: int, keep: bool = False) -> Iterator[Path]:
    """Write one mutant after the other; unless ``keep``, three dozen stand at a time."""
    generator = np.random.default_rng(seed)
    seeds = seed_files(generator)
    names = sorted(seeds)
    for number in range(files):
        name = names[number % len(names)]
        # Every seventh is called what it is not.
        ending = names[generator.integers(len(names))] if number % 7 == 0 else name
        path = folder / f"{number:06}.{ending}"
        other = seeds[names[generator.integers(len(names))]]
        path.write_bytes(mutated(seeds[name], other, generator))
        yield path
        if not keep:
            for past in folder.glob(f"{number - 36:06}.*"):
                past.unlink()


def seed_files(generator: np.random.Generator) -> dict[str, bytes]:
    """Half a second of a noisy tone in every format."""
    sound = 0.1 * generator.standard_normal(int(0.6 * RATE)).astype(np.float32)
    sound += 0.3 * np.sin(np.arange(len(sound)) / 7).astype(np.float32)
    found = {}
    for ending, (container, codec) in SOUNDFILE.items():
        target = io.BytesIO()
        soundfile.write(target, sound, RATE, format=container, subtype=codec)
        found[ending] = target.getvalue()
    for ending, (container, codec) in PYAV.items():
        found[ending] = with_av(sound, container=container, codec=codec)
    return found


def with_av(sound: np.ndarray, *, container: str, codec: str) -> bytes:
    """Encode mono sound by FFmpeg."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE, layout="mono")
        stream.codec_context.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray(sound[None, :], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=RATE,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return target.getvalue()


def mutated(whole: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """Damage a file in one of eight ways."""
    data = np.frombuffer(whole, dtype=np.uint8).copy()
    size = len(data)
    low, high = sorted(int(x) for x in generator.integers(0, size, size=2))
    match int(generator.integers(8)):
        case 0:  # a few bytes anywhere
            places = generator.integers(0, size, size=int(generator.integers(1, 30)))
            data[places] = generator.integers(0, 256, size=len(places))
        case 1:  # a few bytes of the header
            places = generator.integers(0, min(size, 128), size=int(generator.integers(1, 9)))
            data[places] = generator.integers(0, 256, size=len(places))
        case 2:
            return data[:high].tobytes()
        case 3:
            data[low:high] = 0
        case 4:
            return np.concatenate([data[:high], data[low:]]).tobytes()
        case 5:
            data[min(64, size) :] = generator.integers(0, 256, size=size - min(64, size))
        case 6:
            return data[:high].tobytes() + other[int(generator.integers(len(other))) :]
        case _:  # the largest and smallest numbers, where sizes and counts stand
            place = int(generator.integers(0, min(size, 256)))
            data[place : place + 4] = generator.choice([0, 0x7F, 0x80, 0xFF])
    return data.tobytes()


if __name__ == "__main__":
    main()
