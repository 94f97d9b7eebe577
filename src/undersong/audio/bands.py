"""The mel bands, and log-mel spectrograms where torch is absent (section 2.1).

128 bands are those of Won et al., Evaluation of CNN-based automatic music tagging models (2020);
window and hop are the same times as theirs at 16,000 Hz, rounded up to the next power of two.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

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
    """Log-mel spectrograms as ``undersong.audio.logmel.log_mel`` gives them, without torch.

    (n, samples) float32 -> (n, 128, 1 + samples // 512) float32, all >= 0.
    """
    around = np.pad(waveforms, ((0, 0), (WINDOW // 2, WINDOW // 2)))
    frames = sliding_window_view(around, WINDOW, axis=1)[:, ::HOP]  # (n, t, window)
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    spectrum = fft.rfft(frames * hann, axis=2)  # (n, t, bins)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    found = np.log1p(COMPRESSION * (mel_bank() @ power.transpose(0, 2, 1)))
    return np.asarray(found, dtype=np.float32)


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
