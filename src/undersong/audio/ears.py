"""Pretrained ears: networks that hear a few seconds of a track, beside the log-mel chunks.

    NAME.toml           the contract (``Contract``), which says what the network reads and answers
    NAME.SHA256.onnx    the network, of which the contract has the sha256

Both lie in one folder of the user's (``ears_folder``). A network computes in a child process that
can do nothing but read (``undersong.audio.decode``). That process imports this module, so it loads
nothing that has threads of its own.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from undersong import settings as settings_file
from undersong.audio.logmel import RATE, Mel, mel_power
from undersong.errors import ArtifactError, DataError, nearest_known
from undersong.io.onnx_files import OnnxNetwork

AUTO, NONE = "auto", "none"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
TAKEN = (AUTO, NONE, "audio", "content", "interaction")  # names of other sources
INPUTS = ("waveform", "log-mel")
LOGARITHMS = {"log10": np.log10, "ln": np.log}
WIDEST = 1 << 14  # numbers that a network answers
Hear = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Contract:
    """What a network reads and answers; a TOML file with these keys.

    Parameters
    ----------
    name : of the ears, small letters
    licence, training : of the weights, and what they were trained on, for the model card
    sha256 : of the ONNX file
    rate : Hz of the sound that it reads
    seconds : of a piece; a piece of more than 3.97 s is repeated sound
    pieces : of a track that it hears at most; their vectors are averaged
    input : "waveform", (1, samples) float32, or "log-mel", (1, bands, frames) float32
    window, hop, bands : of log-mel pictures: samples of a frame and between two, number of bands
    logarithm : "log10" or "ln", of 1 + 10,000 times the power in a band
    output : name of the output (1, width) that is the vector of a piece
    width : of it
    tags : name of the output (1, len(words)) of probabilities of words; "" for none
    words : those words
    """

    name: str = ""
    licence: str = ""
    training: str = ""
    sha256: str = ""
    rate: int = 0
    seconds: float = 0.0
    pieces: int = 5
    input: str = "waveform"
    window: int = 0
    hop: int = 0
    bands: int = 0
    logarithm: str = "log10"
    output: str = ""
    width: int = 0
    tags: str = ""
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pictures = 1 <= self.hop <= self.window <= 1 << 14 and 1 <= self.bands <= self.window // 2
        named = NAME.fullmatch(self.name) and self.name not in TAKEN
        for needed, well in {
            f"name is {self.name!r}; take small letters, and no name of another source": named,
            "needs `licence`; write 'unknown' where it is": self.licence.strip(),
            "needs `training`, what it was trained on; write 'unknown' where it is": self.training,
            "needs `output`, the name of the output that is a vector": self.output,
            "needs `sha256`, that of the ONNX file": re.fullmatch("[0-9a-f]{64}", self.sha256),
            f"rate is {self.rate}, expected 8000 to 192000 Hz": 8_000 <= self.rate <= 192_000,
            f"seconds is {self.seconds:g}, expected 0.5 to 30": 0.5 <= self.seconds <= 30,
            f"pieces is {self.pieces}, expected 1 to 8": 1 <= self.pieces <= 8,
            f"width is {self.width}, expected 1 to {WIDEST}": 1 <= self.width <= WIDEST,
            f"input is {self.input!r}, expected waveform or log-mel": self.input in INPUTS,
            "log-mel needs window, hop up to window, and bands up to half of window": (
                self.input != "log-mel" or pictures
            ),
            f"logarithm is {self.logarithm!r}, expected log10 or ln": self.logarithm in LOGARITHMS,
            "words must be those of `tags`, each once": (
                bool(self.tags) == bool(self.words) and len(set(self.words)) == len(self.words)
            ),
        }.items():
            if not well:
                raise ValueError(needed)

    @property
    def digest(self) -> str:
        """The sha256 of all that changes what is heard: the network's, and how it is asked."""
        about = {k: v for k, v in asdict(self).items() if k not in ("licence", "training")}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def key(self) -> str:
        """Name and digest: what is heard by equal keys can be compared."""
        return f"{self.name} {self.digest}"

    @property
    def numbers(self) -> int:
        """How many are heard of a track: its vector, then the probabilities of the words."""
        return self.width + len(self.words)


@dataclass(frozen=True)
class Ears:
    """A contract, and the TOML file that holds it beside the network."""

    contract: Contract
    path: Path

    @property
    def network(self) -> Path:
        """The ONNX file; a new one has another name, so that a crash mixes no two."""
        return self.path.with_name(f"{self.contract.name}.{self.contract.sha256[:16]}.onnx")


def open_ears(ears: Ears) -> Hear:
    """Open a network: chunks of a track (n, CHUNK_SAMPLES) -> (numbers,), its mean over pieces.

    Chunks are as loud as in the file, as what networks were trained on: the level tells something.

    Raises
    ------
    ArtifactError
        If it does not load; and of what it opens, if it answers anything but the contract.
    """
    contract, network = ears.contract, OnnxNetwork(ears.network, threads=1)
    outputs = [contract.output, *([contract.tags] if contract.tags else [])]
    widths = (contract.width, len(contract.words))[: len(outputs)]
    if len(network.inputs) != 1:
        raise ArtifactError(f"{ears.network} has {len(network.inputs)} inputs, expected one")

    def hear(chunks: NDArray[np.float32]) -> NDArray[np.float32]:
        count = min(len(chunks), contract.pieces)
        rows = np.linspace(0, len(chunks) - 1, count).round().astype(int)
        heard = np.zeros(contract.numbers, dtype=np.float64)
        for piece in cut_pieces(chunks[rows], contract):  # together they take twice the memory
            answers = network.run({network.inputs[0]: piece[None]}, outputs)
            for answer, width in zip(answers, widths, strict=True):
                if answer.shape != (1, width):
                    raise ArtifactError(f"answers {answer.shape}, expected (1, {width})")
            heard += np.concatenate(answers, axis=1)[0] / count
        if not np.isfinite(heard).all():
            raise ArtifactError("answers what is no number")
        return np.asarray(heard, dtype=np.float32)

    return hear


def cut_pieces(chunks: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:
    """Cut the middle of each chunk as a network reads it; a chunk that is too short is repeated."""
    import soxr

    waves = [soxr.resample(x, RATE, contract.rate) if contract.rate != RATE else x for x in chunks]
    samples = round(contract.seconds * contract.rate)
    times = math.ceil(samples / len(waves[0]))
    sound = np.stack([np.tile(x, times) for x in waves]).astype(np.float32)
    if contract.input == "waveform":
        return _middle(sound, samples)
    mel = Mel(contract.rate, contract.window, contract.hop, contract.bands)
    compressed = LOGARITHMS[contract.logarithm](1 + 10_000 * mel_power(sound, mel))
    return _middle(compressed.astype(np.float32), samples // contract.hop)


def _middle(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    first = (values.shape[-1] - count) // 2
    return np.ascontiguousarray(values[..., first : first + count])


VARIABLE = "UNDERSONG_EARS"


def ears_folder() -> Path:
    """Return where ears are: UNDERSONG_EARS, or else a folder of the user's cache."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return home / "undersong" / "ears"


def installed() -> tuple[Ears, ...]:
    """Return the ears that are installed, by name; errors as for ``read_ears``."""
    return tuple(read_ears(x) for x in sorted(ears_folder().glob("*.toml")))


def choose_ears(wanted: str) -> tuple[Ears, ...] | None:
    """Return the ears that hear: "auto" for all that are installed, "none", or names with commas.

    None where "auto" finds none, or nothing that could run them: what was heard before stays.

    Raises
    ------
    DataError
        If a name is not installed.
    """
    if wanted == NONE:
        return ()
    if wanted == AUTO:
        return installed() or None if find_spec("onnxruntime") else None
    known = {x.contract.name: x for x in installed()}
    names = [x.strip() for x in wanted.split(",")]
    if unknown := [x for x in names if x not in known]:
        near = nearest_known(unknown[0], known)
        raise DataError(f"no ears {unknown[0]!r} are installed in {ears_folder()}; {near}")
    return tuple(known[x] for x in names)


def read_ears(path: Path) -> Ears:
    """Read a contract, and see that its network is the one that it names.

    Raises
    ------
    SettingsError
        For a mistake in the contract.
    ArtifactError
        If the network is missing or another one.
    """
    table = settings_file.read_toml(path)
    contract = cast(Contract, settings_file.build(Contract, table, f"{path}:"))
    ears, hint = Ears(contract, path), f"run `undersong ears install {contract.name}` again"
    # Not above: polars comes with it, whose threads a child that decodes must not have.
    from undersong.io.files import reading, sha256

    with reading(ears.network, hint=hint):
        if sha256(ears.network) != contract.sha256:
            raise ArtifactError(f"{ears.network} was changed since it was installed; {hint}")
    return ears
