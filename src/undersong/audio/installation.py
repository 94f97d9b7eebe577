"""Ears are installed once they have heard something, in a child like those that hear all music.

MusiCNN, a network that was trained to tag music, is built here from its published wheel, as one
ONNX file. The wheel is fetched with pip, which cannot resolve it as a dependency (it wants a
TensorFlow of 2019). Only the checkpoint trained on the Million Song Dataset is taken from it, by
our own reader of that format, so neither TensorFlow nor PyTorch is needed.

Source
------
Pons and Serra, musicnn: Pre-trained convolutional neural networks for music audio tagging (2019);
the network is that of Pons et al., End-to-end learning for music audio tagging at scale (2018).
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from undersong import settings as settings_file
from undersong.audio.decode import Decoder
from undersong.audio.ears import Contract, Ears, ears_folder, read_ears
from undersong.audio.logmel import RATE, Undecodable
from undersong.errors import ArtifactError, DataError, UndersongError, nearest_known, needs
from undersong.io.files import locked, reading, replacing, sha256
from undersong.io.tensor_bundle import read_bundle
from undersong.io.tensors import write_tensors

PACKAGE = "musicnn==0.1.0"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"  # of the wheel
FETCHING = 120.0  # seconds that pip may take for 29 MB
MEMBERS = "musicnn/MSD_musicnn/.index", "musicnn/MSD_musicnn/.data-00000-of-00001"
LARGEST_MEMBER = 1 << 24  # bytes of one of them; they have 5 kB and 9.5 MB
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
            if max(archive.getinfo(x).file_size for x in MEMBERS) > LARGEST_MEMBER:
                raise ValueError(f"a file in it is larger than {LARGEST_MEMBER:,} bytes")
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


def build_network(tensors: Tensors) -> bytes:
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


TRIAL = 20.0  # seconds that ears may take to hear 32 s of noise
NOISE = 32  # seconds
LARGEST = 1 << 31  # bytes of a network


def install_musicnn(wheel: Path | None = None) -> Ears:
    """Install MusiCNN from a wheel, or else from the one that pip fetches.

    Its weights are written as safetensors, too, for use elsewhere.

    Raises
    ------
    Unavailable
        If onnx is not installed.
    DataError
        If the wheel is not there, or is not the published one.
    ArtifactError
        As ``install_ears``.
    """
    with needs("onnx", "building MusiCNN"):  # before 29 MB are fetched
        import onnx  # noqa: F401
    weights = read_wheel(wheel) if wheel else fetch_weights()
    network = build_network(weights)
    with tempfile.TemporaryDirectory() as home:
        contract = Path(home) / "musicnn.toml"
        contract.with_suffix(".onnx").write_bytes(network)
        digest = hashlib.sha256(network).hexdigest()
        contract.write_text(CONTRACT.replace("SHA256", digest), encoding="utf-8")
        ears = install_ears(contract)
    about = {"licence": ears.contract.licence, "training": ears.contract.training}
    write_tensors(ears.path.with_suffix(".safetensors"), weights, version=1, about=about)
    return ears


def install_ears(contract: Path) -> Ears:
    """Install a user's contract, ``STEM.toml``, and the network ``STEM.onnx`` beside it.

    When anything is wrong, all ears stay as they were.

    Raises
    ------
    SettingsError, DataError
        For a mistake in the contract, or another network than the one that it names.
    ArtifactError
        If the network does not load, wants other files, does not keep to the contract, answers
        what is no number, or takes too long.
    """
    table = settings_file.read_toml(contract)
    about = cast(Contract, settings_file.build(Contract, table, f"{contract}:"))
    network = contract.with_suffix(".onnx")
    with reading(network, hint="put the network beside its contract", error=DataError):
        size, digest = network.stat().st_size, sha256(network)
    if size > LARGEST or digest != about.sha256:
        raise DataError(
            f"{network} has {size:,} bytes and the sha256 {digest}; expected {LARGEST:,} at most "
            f"and {about.sha256}, as {contract.name} says"
        )
    folder = ears_folder()
    with tempfile.TemporaryDirectory() as home:
        ears = Ears(about, Path(home) / f"{about.name}.toml")
        shutil.copyfile(network, ears.network)  # alone, so that it finds no other file
        shutil.copyfile(contract, ears.path)
        try:
            _try(ears)
        except UndersongError as error:
            reason = str(error).replace(str(ears.network), network.name)
            raise ArtifactError(f"{contract}: these ears do not work: {reason}") from error
        with locked(folder):
            for file in (ears.network, ears.path):  # the contract last: it makes them ears
                with replacing(folder / file.name) as temporary:
                    shutil.copyfile(file, temporary)
            _remove_files(about.name, but=(ears.network.name, ears.path.name))
    return read_ears(folder / ears.path.name)


def remove_ears(name: str) -> None:
    """Remove installed ears.

    Raises
    ------
    DataError
        If they are not installed.
    """
    folder = ears_folder()
    names = [x.stem for x in folder.glob("*.toml")]
    if name not in names:
        raise DataError(f"no ears {name!r} are in {folder}; {nearest_known(name, names)}")
    with locked(folder):
        _remove_files(name)


def _remove_files(name: str, *, but: tuple[str, ...] = ()) -> None:
    """Remove what lies there of some ears, the contract first."""
    folder = ears_folder()
    for file in [folder / f"{name}.toml", *folder.glob(f"{name}.*")]:
        if file.name not in but:
            file.unlink(missing_ok=True)


def _try(ears: Ears) -> None:
    """Let ears hear some noise.

    Raises
    ------
    ArtifactError
        If they do not, or not in time.
    """
    noise = np.random.default_rng(0).normal(size=NOISE * RATE, scale=0.1).astype(np.float32)
    decoder = Decoder(ears=(ears,), seconds=TRIAL)
    with tempfile.TemporaryDirectory() as home:
        wavfile.write(Path(home) / "noise.wav", RATE, noise)
        try:
            sound = decoder.decode(Path(home) / "noise.wav")
        finally:
            decoder.stop()
    if isinstance(sound, Undecodable) or sound.damage:
        reason = sound.reason if isinstance(sound, Undecodable) else sound.damage
        raise ArtifactError(f"{NOISE} s of noise: {reason}")
