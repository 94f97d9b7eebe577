"""Named tensors in a safetensors file with a format number, for NumPy or PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undersong.io.files import check_format, reading, replacing

if TYPE_CHECKING:
    from torch import Tensor

HINT = "train again"


def write_tensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any]] | Mapping[str, "Tensor"],
    *,
    version: int,
    about: Mapping[str, str],
) -> None:
    """Write NumPy arrays or PyTorch tensors, the number of their format, and words about them."""
    metadata = {**about, "format": str(version)}
    arrays = {name: x for name, x in tensors.items() if isinstance(x, np.ndarray)}
    with replacing(path) as temporary:
        if len(arrays) == len(tensors):
            from safetensors.numpy import save_file

            rows = {name: np.asarray(x, order="C") for name, x in arrays.items()}
            save_file(rows, temporary, metadata)
        else:
            _write_torch(temporary, tensors, metadata)


def _write_torch(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    import torch
    from safetensors.torch import save_file

    # Convolutions that run channels last have weights in that order; safetensors knows one order.
    order = torch.contiguous_format
    copies = {name: x.detach().cpu().clone(memory_format=order) for name, x in tensors.items()}
    save_file(copies, path, metadata)


@overload
def read_tensors(
    path: Path, *, version: int, hint: str = HINT, fault: str = ...
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]: ...


@overload
def read_tensors(
    path: Path,
    *,
    version: int,
    framework: Literal["pt"],
    device: str = ...,
    hint: str = HINT,
    fault: str = ...,
) -> tuple[dict[str, str], dict[str, "Tensor"]]: ...


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


def read_about(path: Path, *, hint: str = HINT) -> dict[str, str]:
    """Read the words about the tensors of a file alone; errors as for ``read_tensors``."""
    with reading(path, SafetensorError, hint=hint), safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})
