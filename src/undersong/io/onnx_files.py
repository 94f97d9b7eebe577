"""Networks in ONNX files, run by ONNX Runtime."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undersong.errors import ArtifactError, needs

# ONNX Runtime reports to its makers from its import on, by a thread of its own, unless this is set.
SILENCE = {"ORT_DISABLE_TELEMETRY": "1"}
CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


class OnnxNetwork:
    """An open network: it runs where it is asked, and only on the processor.

    Parameters
    ----------
    path : of a file that holds its weights, too
    threads : that it may use; 0 for as many as there are processors

    Raises
    ------
    Unavailable
        If ONNX Runtime is not installed.
    ArtifactError
        If it does not take the file.
    """

    def __init__(self, path: Path, *, threads: int = 0):
        os.environ.update(SILENCE)
        with needs("onnx", "an ONNX file"):
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        self._path = path
        kinds = (x for x in vars(state).values() if isinstance(x, type))
        self._faults: tuple[type[Exception], ...] = (
            ValueError,  # no such input or output
            *(x for x in kinds if issubclass(x, Exception)),
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it has to say is in its errors
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except self._faults as error:
            raise ArtifactError(f"{path} cannot be loaded ({_reason(error)})") from error
        self.inputs = tuple(x.name for x in self._session.get_inputs())

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """Compute some outputs, or all, in their order.

        Raises
        ------
        ArtifactError
            If the network does not take these inputs, or fails.
        """
        try:
            return [np.asarray(x) for x in self._session.run(outputs, dict(inputs))]
        except self._faults as error:
            raise ArtifactError(f"{self._path} cannot be run ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return CODE.sub("", " ".join(str(error).split()))[:300].rstrip(". ")
