"""One array in a .npy file, read by memory map, so that readers share one copy of it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undersong.errors import ArtifactError
from undersong.io.files import reading, replacing


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array row by row."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(array, order="C"), allow_pickle=False)


def map_array(path: Path, *, hint: str, fault: str = "cannot be read") -> np.memmap[Any, Any]:
    """Open an array for reading; the parts that are used are read when they are used.

    Raises
    ------
    ArtifactError
        If the file is absent or damaged, or holds anything else, Python objects among it.
    """
    with reading(path, ValueError, EOFError, hint=hint, fault=fault):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.memmap):
        raise ArtifactError(f"{path} {fault} (it holds several arrays); {hint}")
    return array
