"""What is heard of a track: a few seconds of mono sound at one rate (section 2.1)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 22_050  # Hz; keeps everything below 11 kHz
HOP = 512  # samples between two frames: 23 ms
FRAMES = 172  # frames of one chunk: 4 s
CHUNK_SAMPLES = (FRAMES - 1) * HOP  # 87,552 samples, 3.97 s; centred frames give one more
CHUNKS = 8  # of a track at most: 32 s spread over its length
LOUDNESS = 0.1  # root mean square every track is brought to, 20 dB below full scale


class Undecodable(Exception):
    """One file gives no sound: ``reason`` says why and ``remedy`` what to do."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class AudioFile:
    """An open file, whatever reads it.

    Parameters
    ----------
    rate : Hz
    frames : length, as the header claims or as counted
    read : (first frame, number) -> mono float32, as many or fewer where the sound ends before
    """

    rate: int
    frames: int
    read: Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Sound:
    """Chunks of one track.

    Parameters
    ----------
    chunks : (n, CHUNK_SAMPLES) float32, 1 <= n <= CHUNKS
        In the order of time, mono, ``RATE`` Hz, root mean square ``LOUDNESS`` over all of them.
    seconds : length of the whole file
    """

    chunks: NDArray[np.float32]
    seconds: float


def starts(seconds: float) -> NDArray[np.float64]:
    """Seconds at which the chunks begin: as many as fit side by side, rounded up, spread evenly."""
    length = CHUNK_SAMPLES / RATE
    count = int(np.clip(np.ceil(seconds / length), 1, CHUNKS))
    return np.linspace(0, max(seconds - length, 0), count)
