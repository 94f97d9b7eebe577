"""A few seconds of sound, their log-mel spectrogram, and chunks changed at random (section 2.1).

By NumPy and SciPy alone, for processes that decode and for answers without torch. For so little
work they are as fast as torch, whose threads would wait for each other.

128 bands are those of Won et al., Evaluation of CNN-based automatic music tagging models (2020);
window and hop are the same times as theirs at 16,000 Hz, rounded up to the next power of two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

RATE = 22_050  # Hz; keeps everything below 11 kHz
HOP = 512  # samples between two frames: 23 ms
FRAMES = 172  # frames of one chunk: 4 s
CHUNK_SAMPLES = (FRAMES - 1) * HOP  # 87,552 samples, 3.97 s; centred frames give one more
CHUNKS = 8  # of a track at most: 32 s spread over its length
LOUDNESS = 0.1  # root mean square every track is brought to, 20 dB below full scale
WINDOW = 1024  # samples, 46 ms: neighbouring semitones part from about 370 Hz upwards
BANDS = 128  # m
COMPRESSION = 10_000.0  # per unit of mel power

# Slaney's mel scale: straight below 1,000 Hz, then 27 steps for each factor of 6.4.
_LINEAR_HERTZ = 200 / 3  # a mel
_BREAK_HERTZ = 1_000.0
_BREAK_MEL = _BREAK_HERTZ / _LINEAR_HERTZ  # 15
_LOG_STEP = np.log(6.4) / 27  # a mel


@dataclass(frozen=True)
class Mel:
    """How a log-mel picture is made: at which rate (Hz), of how many samples, how many bands."""

    rate: int
    window: int
    hop: int
    bands: int


MEL = Mel(RATE, WINDOW, HOP, BANDS)


class Undecodable(Exception):
    """A file gives no sound: ``reason`` says why and ``remedy`` what to do."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Damaged(Undecodable):
    """One decoder cannot read a file, or not all of it; another one may."""


@dataclass(frozen=True)
class AudioFile:
    """An open sound file, whichever library reads it.

    Parameters
    ----------
    rate : Hz
    frames : length, as the header claims or as counted
    read : (first frame, number) -> mono float32, as many or fewer where the sound ends before
    lost : frames that could not be decoded
    """

    rate: int
    frames: int
    read: Callable[[int, int], NDArray[np.float32]]
    lost: int = 0


@dataclass(frozen=True)
class Sound:
    """Chunks of one track.

    Parameters
    ----------
    chunks : (n, CHUNK_SAMPLES) float32, 1 <= n <= CHUNKS
        In the order of time, mono, ``RATE`` Hz, root mean square ``LOUDNESS`` over all of them.
    gain : by which they were made louder for that
    seconds : length of the whole file, as far as it is sound
    damage : what could not be heard, in words; empty for a whole file
    """

    chunks: NDArray[np.float32]
    gain: float
    seconds: float
    damage: str = ""


def starts(seconds: float) -> NDArray[np.float64]:
    """Return the seconds at which chunks begin: as many as fill the file, spread evenly."""
    length = CHUNK_SAMPLES / RATE
    count = int(np.clip(np.ceil(seconds / length), 1, CHUNKS))
    return np.linspace(0, max(seconds - length, 0), count)


def log_mel(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-mel spectrograms ``ln(1 + 10 000 power)``, (n, samples) -> (n, 128, t), all >= 0.

    ``t = 1 + samples // 512``: frames are centred, with zeros beyond both ends.

    Source
    ------
    The compression is that of Dieleman and Schrauwen, End-to-end learning for music audio (2014).
    Unlike decibels it does not stretch the noise below -40 dB over half of the range.
    """
    return np.asarray(np.log1p(COMPRESSION * mel_power(waveforms)), dtype=np.float32)


def mel_power(waveforms: NDArray[np.float32], mel: Mel = MEL) -> NDArray[np.float32]:
    """Measure the power in mel bands, (n, samples) -> (n, bands, t) float32, as librosa does."""
    samples, half = waveforms.shape[1], mel.window // 2
    bank = sparse.csr_array(mel_bank(mel))  # of 65,664 numbers 1,008 are not 0: nine times as fast
    power = np.empty((len(waveforms), mel.bands, 1 + samples // mel.hop), dtype=np.float32)
    centred = np.zeros(samples + mel.window, dtype=np.float32)
    for row, waveform in enumerate(waveforms):  # one at a time stays in the cache
        centred[half : half + samples] = waveform
        cut = np.lib.stride_tricks.sliding_window_view(centred, mel.window)[:: mel.hop]
        spectrum = fft.rfft(cut * _hann(mel.window), axis=1, overwrite_x=True)  # (t, bins)
        power[row] = bank @ np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
    return power


@cache
def _hann(window: int) -> NDArray[np.float32]:
    turn = 2 * np.pi * np.arange(window) / window
    return np.asarray((1 - np.cos(turn)) / 2, dtype=np.float32)


@cache
def mel_bank(mel: Mel = MEL) -> NDArray[np.float32]:
    """Return triangular bands of one unit of area (per Hz), (128, 513), up to half the rate.

    Source
    ------
    Slaney, Auditory Toolbox (1998).
    """
    bins = np.arange(mel.window // 2 + 1) * mel.rate / mel.window
    edges = _hertz(np.linspace(0, _mel(mel.rate / 2), mel.bands + 2))
    width = np.diff(edges)[:, None]
    distance = edges[:, None] - bins[None, :]
    rising = -distance[:-2] / width[:-1]
    falling = distance[2:] / width[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    area = (edges[2:] - edges[:-2])[:, None] / 2
    return np.asarray(triangles / area, dtype=np.float32)


def _mel(hertz: float) -> float:
    """Mel of a frequency from 1,000 Hz upwards."""
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HERTZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, _LINEAR_HERTZ * mel, above)


def augment(
    chunks: NDArray[np.float16],
    generator: np.random.Generator,
    *,
    frames: int,
    gain: float,
    shift: int,
    mask: int,
) -> NDArray[np.float32]:
    """Change each chunk at random, (n, m, t) float16 -> (n, m, frames) float32.

    Parameters
    ----------
    frames : of the cut, at a random place
    gain : decibels by which a chunk gets louder or softer at most; 0 for none
    shift : mel bands by which a chunk gets higher or lower at most; 0 for none
    mask : bands, and frames, hidden at most at a random place by the chunk's mean; 0 for none

    Source
    ------
    The masks are those of Park et al., SpecAugment (2019), one a side.
    """
    n, bands, length = chunks.shape
    begin = generator.integers(length - frames + 1, size=n)
    cut = np.stack([x[:, b : b + frames] for x, b in zip(chunks, begin, strict=True)])
    cut = cut.astype(np.float32)
    if gain:
        power = np.expm1(cut) * 10 ** (generator.uniform(-gain, gain, size=(n, 1, 1)) / 10)
        cut = np.log1p(power, dtype=np.float32)
    if shift:
        cut = _higher(cut, generator.integers(-shift, shift + 1, size=(n,)))
    for size, axis in ((bands, 1), (frames, 2)) if mask else ():
        width = generator.integers(mask + 1, size=(n, 1))
        first = generator.integers(size - width + 1)  # (n, 1)
        place = np.arange(size) - first  # (n, size)
        hidden = np.expand_dims((place >= 0) & (place < width), 3 - axis)
        cut = np.where(hidden, cut.mean(axis=axis, keepdims=True), cut)
    return cut


def _higher(chunks: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move the bands of each chunk up by its number of steps; what comes in is silence."""
    bands = chunks.shape[1]
    source = np.arange(bands) - steps[:, None]  # (n, m)
    moved = np.take_along_axis(chunks, source.clip(0, bands - 1)[:, :, None], axis=1)
    outside = (source < 0) | (source >= bands)
    return np.where(outside[:, :, None], np.float32(0), moved)
