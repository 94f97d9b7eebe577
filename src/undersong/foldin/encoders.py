"""The encoders of a run, ready to embed new items: by ONNX where it is there, else by torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undersong.errors import ArtifactError, Unavailable, UndersongError, install
from undersong.features import AUDIO, sources_in
from undersong.io.files import read_json, sha256
from undersong.io.onnx_files import OnnxNetwork
from undersong.io.tensors import read_about
from undersong.runs import Run

if TYPE_CHECKING:
    from undersong.audio.ears import Ears

FORMAT = 1
FOLDER, ABOUT = "onnx", "encoders.json"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoders:
    """What embeds a new item.

    Parameters
    ----------
    engine : "ONNX" or "PyTorch"
    sources : what CbRM reads, in order, "audio" or a feature matrix -> its columns, 0 for audio
    ears : of these, names of pretrained ears
    width : of the E_C of one source
    top : K of equation 1, the tracks that make an artist
    content : source, and log-mel chunks (n, 128, 172) or feature vectors (n, columns) -> (n, width)
    widths : of the sources of GRM, in order
    general : [(n, width), ...], missing (n, s) bool -> E_G (n, out)
    """

    engine: str
    sources: Mapping[str, int]
    ears: tuple[str, ...]
    width: int
    top: int
    content: Callable[[str, Floats], Floats]
    widths: tuple[int, ...]
    general: Callable[[Sequence[Floats], NDArray[np.bool_]], Floats]


def open_encoders(run: Run) -> Encoders:
    """Open the encoders of a run's generation.

    Raises
    ------
    Unavailable
        If neither onnxruntime with exported encoders nor torch is there; says what to install.
    ArtifactError
        If the weights or the ONNX files are damaged, or those are of other weights.
    """
    engine = engine_of(run)
    if engine is None:
        raise Unavailable(
            f"nothing here can run the encoders of {run.folder}; {install('train')}, or, without "
            f"PyTorch, {install('onnx')} and run `undersong export onnx {run.folder}` where "
            "PyTorch is"
        )
    models = _open_onnx(run) if engine == "ONNX" else _open_torch(run)
    about = _about_content(run)
    settings = json.loads(about.get("settings", "{}"))
    return Encoders(
        engine=engine,
        sources=dict(sources_in(about)),
        ears=tuple(x["name"] for x in run.manifest.get("ears", ())),
        width=int(settings.get("width", 0)),
        top=int(settings.get("top", 0)),
        content=lambda source, pieces: models[content_model(about, source)]([pieces]),
        widths=tuple(json.loads(read_about(run.file(weights_of("general")))["widths"])),
        general=lambda sources, missing: models["general"]([*sources, missing]),
    )


def engine_of(run: Run) -> str | None:
    """Return what would run the encoders of a run here: "ONNX", "PyTorch", or None."""
    exported = (run.home / FOLDER / ABOUT).exists()
    if exported and find_spec("onnxruntime") is not None:
        return "ONNX"
    return "PyTorch" if _present("torch") else None


def ears_of(run: Run) -> "tuple[Ears, ...]":
    """Return the installed ears that a run heard its tracks with.

    Raises
    ------
    Unavailable
        If one is not installed, or has other weights.
    """
    # Imported when first needed: it would slow down the start of every answer.
    from undersong.audio.ears import installed

    there = {x.contract.key: x for x in installed()}
    wanted = {f"{x['name']} {x['sha256']}": x for x in run.manifest.get("ears", ())}
    for key, about in wanted.items():
        if key not in there or find_spec("onnxruntime") is None:
            raise Unavailable(
                f"{run.folder} heard its tracks with the ears {about['name']!r} (sha256 "
                f"{about['sha256'][:16]}), and they are not installed here; run `undersong ears "
                f"install {about['name']}` and {install('onnx')}, or train again"
            )
    return tuple(there[x] for x in wanted)


def content_model(about: Mapping[str, str], source: str) -> str:
    """Name the model of one source among those of a run, by the head of its weights of CbRM."""
    return "content" if len(sources_in(about)) == 1 else f"content.{source}"


def weights_of(name: str) -> str:
    """File of a generation that holds the weights of a model."""
    return f"weights/{name}.safetensors"


def _present(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a finder that refuses it
        return False


def _open_onnx(run: Run) -> Mapping[str, Callable[[Sequence[NDArray[Any]]], Floats]]:
    home = run.home / FOLDER
    remedy = f"run `undersong export onnx {run.folder}` again"
    about = read_json(home / ABOUT, version=FORMAT, hint=remedy)
    sessions = {}
    for name, digest in about["files"].items():
        path = home / f"{name}.onnx"
        weights = weights_of(name.partition(".")[0])
        of_these = about["weights"][name] == run.manifest["files"].get(weights)
        if not of_these or not path.exists() or sha256(path) != digest:
            raise ArtifactError(f"{path} is not what was exported of this generation; {remedy}")
        sessions[name] = _session(path)
    return sessions


def _session(path: Path) -> Callable[[Sequence[NDArray[Any]]], Floats]:
    network = OnnxNetwork(path)

    def embed(inputs: Sequence[NDArray[Any]]) -> Floats:
        outputs = network.run(dict(zip(network.inputs, inputs, strict=True)))
        return np.asarray(outputs[0], dtype=np.float32)

    return embed


def _open_torch(run: Run) -> Mapping[str, Callable[[Sequence[NDArray[Any]]], Floats]]:
    import torch

    from undersong.models.content.network import load_content
    from undersong.models.general.training import load_general

    general = load_general(run.file(weights_of("general")))
    models: dict[str, torch.nn.Module] = {}
    if run.has(weights_of("content")):
        about = _about_content(run)
        heard = load_content(run.file(weights_of("content")))
        models = {content_model(about, x.source): x for x in heard}

    def embed(inputs: Sequence[NDArray[Any]], model: torch.nn.Module) -> Floats:
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in inputs]
            output = model(tensors[:-1], tensors[-1]) if model is general else model(*tensors)
        return np.asarray(output.numpy(), dtype=np.float32)

    models["general"] = general
    return {name: partial(embed, model=model) for name, model in models.items()}


def _about_content(run: Run) -> dict[str, str]:
    file = weights_of("content")
    return read_about(run.file(file)) if run.has(file) else {}


def audio_unavailable(run: Run) -> str | None:
    """Return what keeps audio files from being embedded, and what to do; None where nothing does.

    Reads the head of one file only, as every reader of the map waits for it.

    Raises
    ------
    ArtifactError
        If the weights are damaged.
    """
    sources = dict(sources_in(_about_content(run)))
    if not sources or not run.has_embeddings(run.manifest["kind"], "content"):
        return f"this run learned the sound of no {run.manifest['kind']}; use an id"
    if AUDIO not in sources and not run.manifest.get("ears"):
        return "this run learned from feature vectors, not from sound; use an id"
    try:
        ears_of(run)
    except UndersongError as error:
        return str(error)
    if find_spec("soundfile") is None:
        return f"nothing here decodes audio; install it with: {install('audio')}"
    if engine_of(run) is None:
        return (
            f"nothing here embeds sound; {install('train')}, or, without PyTorch, "
            f"{install('onnx')} and run `undersong export onnx` where PyTorch is"
        )
    return None
