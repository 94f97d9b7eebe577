"""Named arrays of a safetensors file with a format number, read without torch."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from undersong.errors import ArtifactError


def read(path: Path, *, form: int) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Read the words about the arrays of a file, and the arrays.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); train again") from error
    if about.get("format") != str(form):
        raise ArtifactError(
            f"{path}: format {about.get('format')}, but this version reads {form}; train again"
        )
    return about, arrays
