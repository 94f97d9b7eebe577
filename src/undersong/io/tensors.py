"""Numbers in files: one array in .npy, read by memory map, so that readers share one copy of it;
named tensors in safetensors with a format number, for NumPy or PyTorch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undersong.errors import ArtifactError
from undersong.io.files import check_format, reading, replacing

HINT = "train again"
# of arrays that are mapped
DTYPES = {"F16": "<f2", "F32": "<f4", "I32": "<i4", "I64": "<i8", "BOOL": "?"}


def write_tensors(
    path: Path, tensors: Mapping[str, Any], *, version: int, about: Mapping[str, str]
) -> None:
    """Write NumPy arrays or PyTorch tensors, the number of their format, and words about them."""
    metadata = {**about, "format": str(version)}
    with replacing(path) as temporary:
        _save(temporary, tensors, metadata)
        _sort_header(temporary)


def _save(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    if all(isinstance(x, np.ndarray) for x in tensors.values()):
        arrays = {name: np.asarray(x, order="C") for name, x in tensors.items()}
        safetensors.numpy.save_file(arrays, path, metadata)
        return
    import torch
    from safetensors.torch import save_file

    # Convolutions that run channels last have weights in that order; the file knows one order.
    order = torch.contiguous_format
    copies = {name: x.detach().cpu().clone(memory_format=order) for name, x in tensors.items()}
    save_file(copies, path, metadata)


def _sort_header(path: Path) -> None:
    """Sort the header of a file, which safetensors writes in random order: equal content, equal
    bytes. It is the length of some JSON, 8 bytes, and the JSON; spaces fill it up.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        file.seek(8)
        file.write(text.encode().ljust(length))


def read_tensors(
    path: Path,
    *,
    version: int,
    framework: Literal["numpy", "pt"] = "numpy",
    device: str = "cpu",
    hint: str = HINT,
    fault: str = "cannot be read",
) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the words about the tensors of a file, and the tensors.

    Parameters
    ----------
    framework : "numpy", which needs no PyTorch, or "pt"
    device : where PyTorch puts them
    hint, fault : as for ``undersong.io.files.reading``

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    with (
        reading(path, SafetensorError, hint=hint, fault=fault),
        safe_open(path, framework=framework, device=device) as file,
    ):
        about = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_format(path, about.get("format"), str(version), hint=hint)
    return about, tensors


def map_tensors(
    path: Path, *, version: int, hint: str = HINT
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Open the tensors of a file for reading, as ``read_tensors``; only what is used is read.

    Readers share one copy in memory. Errors as for ``read_tensors``.
    """
    about = read_about(path, hint=hint)
    check_format(path, about.get("format"), str(version), hint=hint)
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(begin - 8))
    tensors: dict[str, NDArray[Any]] = {}
    for name, x in header.items():
        if name != "__metadata__":
            (start, end), kind, shape = x["data_offsets"], DTYPES[x["dtype"]], tuple(x["shape"])
            # A map of its own each: scipy copies what is part of a larger array.
            mapped = np.memmap(path, kind, "r", begin + start, shape) if end > start else None
            tensors[name] = np.empty(shape, kind) if mapped is None else np.asarray(mapped)
    return about, tensors


def read_about(path: Path, *, hint: str = HINT) -> dict[str, str]:
    """Read the words about the tensors of a file alone; errors as for ``read_tensors``."""
    with reading(path, SafetensorError, hint=hint), safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


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
