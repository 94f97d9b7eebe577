"""Weights of a model on disk: safetensors with a format number and what rebuilds the model."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from undersong.errors import ArtifactError
from undersong.io.files import replacing


def write(model: nn.Module, path: Path, *, form: int, about: Mapping[str, str]) -> None:
    """Write the weights of a model; ``form`` is their format number, ``about`` plain words."""
    tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={**about, "format": str(form)})


def read(path: Path, *, form: int) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read what ``write`` wrote, on the CPU: the words about the model, and its weights.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); train again") from error
    if about.get("format") != str(form):
        raise ArtifactError(
            f"{path}: format {about.get('format')}, but this version reads {form}; train again"
        )
    return about, tensors
