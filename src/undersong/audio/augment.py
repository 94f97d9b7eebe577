"""Chunks as one training step hears them: cut, louder, higher, masked (section 2.1)."""

import numpy as np
from numpy.typing import NDArray


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
