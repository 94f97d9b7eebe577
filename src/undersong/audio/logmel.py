"""Waveform -> log-mel spectrogram, the picture of sound that the encoder reads (section 2.1).

By numpy and scipy alone, for children that decode and for answers without torch; here it is as
fast as torch, which spreads so little work over threads that wait for each other.

128 bands are those of Won et al., Evaluation of CNN-based automatic music tagging models (2020);
window and hop are the same times as theirs at 16,000 Hz, rounded up to the next power of two.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from undersong.audio.waveform import HOP, RATE

WINDOW = 1024  # samples, 46 ms: neighbouring semitones part from about 370 Hz upwards
BANDS = 128  # m
COMPRESSION = 10_000.0  # per unit of mel power

# Slaney's mel scale: straight below 1,000 Hz, then 27 steps for each factor of 6.4.
_LINEAR_HERTZ = 200 / 3  # a mel
_BREAK_HERTZ = 1_000.0
_BREAK_MEL = _BREAK_HERTZ / _LINEAR_HERTZ  # 15
_LOG_STEP = np.log(6.4) / 27  # a mel


def log_mel(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel spectrograms ``ln(1 + 10 000 power)``, (n, samples) -> (n, 128, t), all >= 0.

    ``t = 1 + samples // 512``: frames are centred, with zeros beyond both ends.

    Source
    ------
    The compression is that of Dieleman and Schrauwen, End-to-end learning for music audio (2014).
    Unlike decibels it does not stretch the noise below -40 dB over half of the range.
    """
    return np.asarray(np.log1p(COMPRESSION * mel_power(waveforms)), dtype=np.float32)


def mel_power(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power in 128 mel bands, (n, samples) float32 -> (n, 128, t), as librosa counts it."""
    samples = waveforms.shape[1]
    bank = sparse.csr_array(mel_bank())  # of 65,664 numbers 1,008 are not 0: nine times as fast
    found = np.empty((len(waveforms), BANDS, 1 + samples // HOP), dtype=np.float32)
    centred = np.zeros(samples + WINDOW, dtype=np.float32)
    for place, waveform in enumerate(waveforms):  # one at a time stays in the cache
        centred[WINDOW // 2 : WINDOW // 2 + samples] = waveform
        cut = np.lib.stride_tricks.sliding_window_view(centred, WINDOW)[::HOP]  # (t, samples)
        spectrum = fft.rfft(cut * _hann(), axis=1, overwrite_x=True)  # (t, bins)
        found[place] = bank @ np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
    return found


@cache
def _hann() -> NDArray[np.float32]:
    turn = 2 * np.pi * np.arange(WINDOW) / WINDOW
    return np.asarray((1 - np.cos(turn)) / 2, dtype=np.float32)


@cache
def mel_bank() -> NDArray[np.float32]:
    """Triangular bands of one unit of area each (per Hz), (128, 513), from 0 Hz to half the rate.

    Source
    ------
    Slaney, Auditory Toolbox (1998).
    """
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    edges = _hertz(np.linspace(0, _mel(RATE / 2), BANDS + 2))
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
