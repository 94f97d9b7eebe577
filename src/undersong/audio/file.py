"""One audio file -> the sound of a track, read by seeking (section 2.1).

Only what is needed of a long file is read, so ten hours cost no more memory than ten minutes.
"""

import os
import stat
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from undersong.audio.waveform import (
    CHUNK_SAMPLES,
    LOUDNESS,
    RATE,
    Sound,
    Undecodable,
    starts,
)

SHORTEST = 0.5  # seconds; less is no music
SILENCE = 1e-4  # peak amplitude, 80 dB below full scale
RATES = (4_000, 768_000)  # Hz, that a header may claim

CONVERT = "convert it to FLAC, OGG, MP3 or WAV"
FETCH = "get the file again"


def read(path: Path) -> Sound:
    """Read up to ``CHUNKS`` chunks spread evenly over a file, from its beginning to its end.

    A file shorter than one chunk is repeated to fill it. Silent chunks are left out. The gain of
    the file is removed (how loud a master is says little of the music), dynamics within it stay.

    Raises
    ------
    Undecodable
        If the file is missing, not readable, empty, no audio, cut off, too short or silent, or
        holds samples that are not finite.
    """
    _check_regular(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            _check_header(file)
            seconds = file.frames / file.samplerate
            kept = [x for x in _chunks(file, seconds) if np.abs(x).max() > SILENCE]
    except soundfile.LibsndfileError as error:
        raise _guess(path, error) from error
    except MemoryError as error:
        raise Undecodable("decoding needs more memory than it may use", CONVERT) from error
    if not kept:
        raise Undecodable("silence in every part that was read", "remove the track") from None
    chunks = np.stack(kept)
    level = np.sqrt(np.mean(np.square(chunks, dtype=np.float64)))
    return Sound((chunks * (LOUDNESS / level)).astype(np.float32), seconds)


def _chunks(file: soundfile.SoundFile, seconds: float) -> list[NDArray[np.float32]]:
    return [_chunk(file, start) for start in starts(seconds)]


def _chunk(file: soundfile.SoundFile, start: float) -> NDArray[np.float32]:
    first = round(start * file.samplerate)
    wanted = min(-(-CHUNK_SAMPLES * file.samplerate // RATE), file.frames - first)
    file.seek(first)
    samples = file.read(wanted, dtype="float32", always_2d=True)
    if len(samples) < wanted:
        heard = (first + len(samples)) / file.samplerate
        promised = file.frames / file.samplerate
        raise Undecodable(
            f"cut off: sound ends after {heard:.1f} s of the {promised:.1f} s in its header", FETCH
        )
    if not np.isfinite(samples).all():
        raise Undecodable("holds samples that are not finite (NaN or infinite)", CONVERT)
    mono = samples.mean(axis=1)
    if file.samplerate != RATE:
        mono = soxr.resample(mono, file.samplerate, RATE)
    return np.resize(mono, CHUNK_SAMPLES).astype(np.float32)  # repeats what is too short


def _check_regular(path: Path) -> None:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Undecodable("not a file", "give the path of an audio file")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise Undecodable(
            "no such file", "correct the path, or the folder where audio paths begin"
        ) from error
    except (OSError, ValueError) as error:
        raise Undecodable(
            f"cannot be opened ({getattr(error, 'strerror', None) or error})",
            "make the file readable",
        ) from error
    if found.st_size == 0:
        raise Undecodable("empty (0 bytes)", FETCH)


def _check_header(file: soundfile.SoundFile) -> None:
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise Undecodable(f"its header claims a rate of {file.samplerate} Hz", CONVERT)
    if not file.seekable():
        raise Undecodable("cannot be read in parts", CONVERT)
    if file.frames / file.samplerate < SHORTEST:
        raise Undecodable(
            f"only {file.frames / file.samplerate:.2f} s of sound", f"{FETCH}, or remove the track"
        )


def _guess(path: Path, error: soundfile.LibsndfileError) -> Undecodable:
    """Say what a file that does not decode may be, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return Undecodable("MP4 or AAC sound, which is not read", CONVERT)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return Undecodable("text, not audio", f"{FETCH}, or correct the path")
    said = error.error_string.strip().rstrip(".")
    return Undecodable(f"no audio that can be decoded ({said})", f"{FETCH}, or {CONVERT}")
