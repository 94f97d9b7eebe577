"""MusiCNN without TensorFlow: its checkpoint read, its network built, and what it answers.

Where TensorFlow and the published wheel are, the answers are compared with the original's:
MUSICNN_WHEEL=musicnn-0.1.0-py3-none-any.whl pytest tests/test_musicnn.py
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from undersong.audio import installation
from undersong.audio.ears import installed
from undersong.cli.main import cli
from undersong.errors import DataError
from undersong.io.tensor_bundle import crc32c, read_bundle

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

BANDS, FRAMES, WORDS, WIDTH = 11, 13, 6, 10
# Time, bands, channels in, out: of the front, then of the middle.
KERNELS = [(7, 4, 1, 3), (7, 9, 1, 5), (8, 1, 1, 2), (6, 1, 1, 4), (3, 1, 1, 7)]
MIDDLE = 12


def random_weights(*, kernels=KERNELS, middle=MIDDLE, width=WIDTH, words=WORDS):
    """Weights of a small network, every size another one, and levels that each term changes."""
    rng = np.random.default_rng(0)
    joined = sum(x[3] for x in kernels)
    kernels = [*kernels, (7, joined, 1, middle), *[(7, middle, 1, middle)] * 2]
    pooled = 2 * (joined + 3 * middle)
    sizes = {f"conv2d{f'_{x}' if x else ''}/kernel": size for x, size in enumerate(kernels)}
    sizes |= {"dense/kernel": (pooled, width), "dense_1/kernel": (width, words)}
    sizes |= {x.replace("kernel", "bias"): size[-1:] for x, size in sizes.items()}
    for number, size in enumerate([1, *(x[3] for x in kernels), pooled, width]):
        layer = f"batch_normalization{f'_{number}' if number else ''}"
        sizes |= {f"{layer}/{x}": (size,) for x in installation.NORM}
    weights = {}
    for name, size in sizes.items():
        values = rng.normal(size=size) / np.sqrt(np.prod(size[:-1]))
        positive = name.endswith(("variance", "gamma"))
        weights[name] = (np.abs(values) + 0.02 if positive else values).astype(np.float32)
    return weights


def answers(weights, pictures):
    session = onnxruntime.InferenceSession(
        installation.build_network(weights), providers=["CPUExecutionProvider"]
    )
    names = ["mean_pool", "penultimate", "tags"]
    return dict(zip(names, session.run(names, {"log_mel": pictures}), strict=True))


def part(weights, kind, number, name):
    return weights[f"{kind}{f'_{number}' if number else ''}/{name}"].astype(np.float64)


def normalised(weights, values, number):
    """Values with their channels last."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (part(weights, "batch_normalization", number, x) for x in names)
    return gamma * (values - mean) / np.sqrt(variance + 0.001) + beta


def convolved(weights, values, number):
    """Values (time, bands) -> (time, places, out); before it lie (k - 1) // 2 zeros."""
    kernel, bias = (part(weights, "conv2d", number, x) for x in ("kernel", "bias"))
    length, height, _, out = kernel.shape
    result = np.zeros((len(values), values.shape[1] - height + 1, out))
    for time, place, step, band in np.ndindex(*result.shape[:2], length, height):
        at = time + step - (length - 1) // 2
        if 0 <= at < len(values):
            result[time, place] += values[at, place + band] * kernel[step, band, 0]
    return normalised(weights, np.maximum(result + bias, 0), number + 1)


def slow(weights, picture):
    """The network in loops, for one picture (bands, frames)."""
    scaled = normalised(weights, picture.T[..., None].astype(np.float64), 0)[..., 0]
    front = [convolved(weights, scaled, x).max(axis=1) for x in range(5)]
    parts = [np.concatenate(front, axis=1)]
    for number in (5, 6, 7):
        new = convolved(weights, parts[-1], number)[:, 0]
        parts.append(new if number == 5 else new + parts[-1])
    every = np.concatenate(parts, axis=1)
    pooled = np.stack([every.max(axis=0), every.mean(axis=0)], axis=1).ravel()
    flat = normalised(weights, pooled, 9)
    dense = flat @ part(weights, "dense", 0, "kernel") + part(weights, "dense", 0, "bias")
    vector = normalised(weights, np.maximum(dense, 0), 10)
    logits = vector @ part(weights, "dense", 1, "kernel") + part(weights, "dense", 1, "bias")
    return every.mean(axis=0), vector, 1 / (1 + np.exp(-logits))


def test_the_network_answers_as_its_layers_written_in_loops():
    weights = random_weights()
    pictures = np.random.default_rng(1).uniform(0, 4, (2, BANDS, FRAMES)).astype(np.float32)
    result = answers(weights, pictures)
    assert result["penultimate"].shape == (2, WIDTH)
    for row, picture in enumerate(pictures):
        pool, vector, tags = slow(weights, picture)
        np.testing.assert_allclose(result["mean_pool"][row], pool, atol=1e-5)
        np.testing.assert_allclose(result["penultimate"][row], vector, atol=1e-5)
        np.testing.assert_allclose(result["tags"][row], tags, atol=1e-6)
    assert np.ptp(result["tags"]) > 0.05


def test_weights_and_answers_are_those_of_the_original(tmp_path):
    tensorflow = pytest.importorskip("tensorflow", reason="needs TensorFlow, 274 MB")
    wheel = Path(os.environ.get("MUSICNN_WHEEL", "absent"))
    if not wheel.exists():
        pytest.skip("needs MUSICNN_WHEEL, the path of the published wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path, [x for x in archive.namelist() if "MSD_musicnn/." in x])
    weights = installation.read_wheel(wheel)
    reader = tensorflow.compat.v1.train.NewCheckpointReader(f"{tmp_path}/musicnn/MSD_musicnn/")
    for name, values in weights.items():
        np.testing.assert_array_equal(values, reader.get_tensor(name))
    pictures = np.random.default_rng(3).uniform(0, 4.5, (3, 96, 187)).astype(np.float32)
    graph = (tmp_path / "musicnn/MSD_musicnn/.meta").read_bytes()
    expected = original(tensorflow, graph, weights, pictures.transpose(0, 2, 1))
    result = answers(weights, pictures)
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values.reshape(3, -1), atol=1e-4)


def original(tensorflow, graph, weights, pictures):
    """What TensorFlow answers with the graph of the wheel."""
    from tensorflow.core.protobuf import meta_graph_pb2

    v1, outputs = tensorflow.compat.v1, {"tags": "model/Sigmoid"}
    outputs["mean_pool"] = "model/moments/mean"
    outputs["penultimate"] = "model/batch_normalization_10/batchnorm/add_1"
    meta = meta_graph_pb2.MetaGraphDef()
    meta.ParseFromString(graph)
    answering = v1.graph_util.extract_sub_graph(meta.graph_def, [*outputs.values(), *weights])
    with v1.Graph().as_default(), v1.Session() as session:  # the gradients would not load
        tensorflow.import_graph_def(answering, name="")
        inputs = {"model/Placeholder:0": pictures, "model/Placeholder_2:0": False}
        inputs |= {f"{name}:0": values for name, values in weights.items()}
        names = [f"{x}:0" for x in outputs.values()]
        return dict(zip(outputs, session.run(names, inputs), strict=True))


# checkpoints


def varint(number):
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def summed(data):
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")


def block(entries):
    """A block of a LevelDB table, each key without what it shares with the one before."""
    body, last = b"", b""
    for key, value in entries:
        shared = len(os.path.commonprefix([key, last]))
        sizes = varint(shared) + varint(len(key) - shared) + varint(len(value))
        body, last = body + sizes + key[shared:] + value, key
    body += bytes(4) + (1).to_bytes(4, "little")
    return body + b"\0" + summed(body + b"\0")


def bundle(tensors, *, kind=1):
    """A checkpoint as TensorFlow writes it: index, of two blocks, and data."""
    data, entries = b"", [(b"", field(1, 1))]
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], dtype="<f4")
        shape = b"".join(field(2, field(1, x)) for x in values.shape)
        raw = values.tobytes()
        entry = field(1, kind) + field(2, shape) + field(4, len(data)) + field(5, len(raw))
        entries.append((name.encode(), entry + varint(6 << 3 | 5) + summed(raw)))
        data += raw
    index, handles = b"", []
    for some in (entries[: len(entries) // 2], entries[len(entries) // 2 :]):
        handles.append((some[-1][0], varint(len(index)) + varint(len(block(some)) - 5)))
        index += block(some)
    places = block(handles)
    footer = varint(0) + varint(0) + varint(len(index)) + varint(len(places) - 5)
    return index + places + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"), data


SMALL = {
    "layer/kernel": np.arange(30, dtype=np.float32).reshape(2, 3, 5),
    "layer/kernel/Adam": np.zeros((2, 3, 5), dtype=np.float32),
    "layer/bias": np.array([1.5, -2, 7, 0.25], dtype=np.float32),
    "scalar": np.array(3.0, dtype=np.float32),
}


def test_the_checksum_is_that_of_iscsi():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_tensors_of_a_checkpoint_are_read_by_name():
    names = ("layer/kernel", "scalar", "layer/bias")
    tensors = read_bundle(*bundle(SMALL), names=names, where="x")
    assert tuple(tensors) == names
    for name in names:
        np.testing.assert_array_equal(tensors[name], SMALL[name])
        assert tensors[name].dtype == np.float32


def test_a_checkpoint_cut_off_anywhere_is_refused_in_a_sentence():
    index, data = bundle(SMALL)
    cases = [(index[:size], data) for size in range(len(index))]
    cases += [(index, data[:size]) for size in range(len(data) - 8)]  # the last is not read
    for cut_index, cut_data in cases:
        with pytest.raises(DataError, match="^x: .*; it is cut off or damaged; get it again$"):
            read_bundle(cut_index, cut_data, names=["layer/kernel", "scalar"], where="x")


def test_a_checkpoint_with_any_bit_turned_is_refused():
    index, data = bundle(SMALL)
    generator = np.random.default_rng(0)
    tables = len(index) - 48
    for place in generator.choice(tables, size=60, replace=False):
        turned = bytearray(index)
        turned[place] ^= 1 << generator.integers(8)
        with pytest.raises(DataError, match="cannot be read"):
            read_bundle(bytes(turned), data, names=SMALL, where="x")
    for place in generator.choice(len(data), size=60, replace=False):
        turned = bytearray(data)
        turned[place] ^= 1 << generator.integers(8)
        with pytest.raises(DataError, match="wrong checksum"):
            read_bundle(index, bytes(turned), names=SMALL, where="x")


def test_other_types_and_other_models_are_refused():
    index, data = bundle(SMALL, kind=2)
    with pytest.raises(DataError, match="'scalar' cannot be read .not float32"):
        read_bundle(index, data, names=["scalar"], where="x")
    with pytest.raises(DataError, match="no tensor .vgg. in it; it is another"):
        read_bundle(*bundle(SMALL), names=["vgg"], where="x")


# installing


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel like the published one, of random weights of the same sizes."""
    monkeypatch.setenv("UNDERSONG_EARS", str(tmp_path / "ears"))
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), *((x, 1, 1, 51) for x in (128, 64, 32))]
    index, data = bundle(random_weights(kernels=kernels, middle=64, width=200, words=50))
    path = tmp_path / "musicnn-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in zip(installation.MEMBERS, (index, data), strict=True):
            archive.writestr(name, content)
    monkeypatch.setattr(installation, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def command(*words, code=0):
    result = CliRunner().invoke(cli, ["ears", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_wheel_is_installed_listed_and_removed(tmp_path, wheel):
    assert "musicnn is installed" in command("install", "musicnn", "--wheel", wheel)
    (ears,) = installed()
    assert ears.contract.name == "musicnn"
    assert len(ears.contract.words) == 50
    assert command("list").startswith(f"musicnn  {ears.contract.digest[:16]}  ISC, ")
    assert (tmp_path / "ears/musicnn.safetensors").exists()
    first = ears.network.read_bytes()
    command("install", "musicnn", "--wheel", wheel)
    assert installed()[0].network.read_bytes() == first
    command("remove", "musicnn")
    assert not list((tmp_path / "ears").glob("*"))
    assert "no ears 'musicnn' are in" in command("remove", "musicnn", code=1)


def test_another_wheel_is_refused_and_nothing_is_written(tmp_path, wheel):
    wheel.write_bytes(wheel.read_bytes() + b" ")
    said = command("install", "musicnn", "--wheel", wheel, code=1)
    assert "is not the published wheel of musicnn==0.1.0: its sha256 is" in said
    assert "cannot be read (No such file" in command(
        "install", "musicnn", "--wheel", tmp_path / "none.whl", code=1
    )
    assert "'vgg' is neither musicnn nor" in command("install", "vgg", code=1)
    assert not (tmp_path / "ears").exists()


def test_without_an_index_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSONG_EARS", str(tmp_path / "ears"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = command("install", "musicnn", code=1)
    assert said.startswith("Error: pip could not fetch musicnn==0.1.0 (ERROR: No matching")
    assert "--wheel" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(installation, "FETCHING", 0.01)
    assert "pip did not fetch musicnn==0.1.0 within 0.01 s" in command("install", "musicnn", code=1)
    assert not (tmp_path / "ears").exists()


def test_without_onnx_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSONG_EARS", str(tmp_path / "ears"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(installation, "fetch_weights", lambda: pytest.fail("fetched"))
    said = command("install", "musicnn", code=1)
    assert "building MusiCNN needs onnx; install it with: pip install" in said
