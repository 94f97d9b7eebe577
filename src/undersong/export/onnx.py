"""The trained encoders as ONNX files, for machines without torch (sections 2.1 and 2.3).

GENERATION/onnx/content.onnx      log-mel chunks or feature vectors -> E_C
GENERATION/onnx/general.onnx      one vector a source, and which are missing -> E_G
GENERATION/onnx/encoders.json     opset, sha256 of both and of the weights they are; written last
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undersong.audio.logmel import BANDS, FRAMES
from undersong.errors import UndersongError, needs
from undersong.foldin.encoders import FOLDER, FORMAT, MODELS, weights_of
from undersong.io.files import replacing, sha256, write_json
from undersong.models.content.network import VectorEncoder, load_content
from undersong.models.general import load_general
from undersong.runs import Run

OPSET = 18
EXAMPLES = 3  # items in the batch that shows the exporter the shapes


def export(run: Run) -> Path:
    """Write the encoders of a run's generation as ONNX, any number of items at once.

    Returns the folder they are in. They stand beside the published files, which stay as they are.

    Raises
    ------
    UndersongError
        If the exporter is not installed.
    """
    with needs("onnx", "an ONNX file"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    home = run.home / FOLDER
    for name in MODELS:
        if run.has(weights_of(name)):
            with replacing(home / f"{name}.onnx") as temporary:
                _write(run, name, temporary)
    present = [name for name in MODELS if run.has(weights_of(name))]
    about = {
        "format": FORMAT,
        "opset": OPSET,
        "files": {name: sha256(home / f"{name}.onnx") for name in present},
        "weights": {name: run.manifest["files"][weights_of(name)] for name in present},
    }
    write_json(home / "encoders.json", about)
    return home


def _write(run: Run, name: str, path: Path) -> None:
    weights = run.file(weights_of(name))
    batch = {0: torch.export.Dim("items")}
    if name == "content":
        model = load_content(weights)
        columns = (len(model.mean),) if isinstance(model, VectorEncoder) else (BANDS, FRAMES)
        _trace(model, (torch.rand(EXAMPLES, *columns),), (batch,), path)
        return
    general = load_general(weights)
    sources = [torch.rand(EXAMPLES, size) for size in general.sizes]
    missing = torch.zeros(EXAMPLES, len(sources), dtype=torch.bool)
    _trace(general, (sources, missing), ([batch] * len(sources), batch), path)


def _trace(
    model: nn.Module,
    example: tuple[Tensor | list[Tensor], ...],
    shapes: tuple[Any, ...],
    path: Path,
) -> None:
    """Follow the model with an example; ``shapes`` says which axes may have any size."""
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            model.eval(),
            example,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise UndersongError("this torch exports no ONNX program; install torch 2.6 or later")
    program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says to its own developers from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
