"""The trained encoders as ONNX files, for machines without torch (sections 2.1 and 2.3).

GENERATION/onnx/content.onnx      log-mel chunks or feature vectors -> E_C
GENERATION/onnx/content.X.onnx    instead, of each source X where several are read
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
from undersong.foldin.encoders import FOLDER, FORMAT, content_model, weights_of
from undersong.io.files import replacing, sha256, write_json
from undersong.io.tensors import read_about
from undersong.models.content.network import columns_of, load_content
from undersong.models.general.training import load_general
from undersong.runs import Run

OPSET = 18
EXAMPLES = 3  # items in the batch that shows the exporter the shapes
Example = tuple[Tensor | list[Tensor], ...]


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
    models = dict(_models(run))
    for name, (model, example, shapes) in models.items():
        with replacing(home / f"{name}.onnx") as temporary:
            _trace(model, example, shapes, temporary)
    weights = {name: weights_of(name.partition(".")[0]) for name in models}
    about = {
        "format": FORMAT,
        "opset": OPSET,
        "files": {name: sha256(home / f"{name}.onnx") for name in models},
        "weights": {name: run.manifest["files"][file] for name, file in weights.items()},
    }
    write_json(home / "encoders.json", about)
    return home


def _models(run: Run) -> Iterator[tuple[str, tuple[nn.Module, Example, tuple[Any, ...]]]]:
    """Yield each model by its name, with an example of its inputs and which axes have any size."""
    batch = {0: torch.export.Dim("items")}
    if run.has(file := weights_of("content")):
        about = read_about(run.file(file))
        for model in load_content(run.file(file)):
            columns = columns_of(model)
            size = (columns,) if columns else (BANDS, FRAMES)
            yield (
                content_model(about, model.source),
                (model, (torch.rand(EXAMPLES, *size),), (batch,)),
            )
    general = load_general(run.file(weights_of("general")))
    sources = [torch.rand(EXAMPLES, size) for size in general.sizes]
    missing = torch.zeros(EXAMPLES, len(sources), dtype=torch.bool)
    yield "general", (general, (sources, missing), ([batch] * len(sources), batch))


def _trace(
    model: nn.Module,
    example: Example,
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
