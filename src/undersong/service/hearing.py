"""Whether a file can be heard here: what the run learned from, what decodes, what embeds."""

from importlib.util import find_spec

from undersong.encoders.opening import engine_of, source_of
from undersong.runs import Run

SOURCE = "audio"


def hindrance(run: Run) -> str | None:
    """Say what keeps files from being heard, and what to do; None where nothing does.

    Opens nothing but the head of one file, as all who ask for the map wait for it.

    Raises
    ------
    ArtifactError
        If the weights are damaged.
    """
    if source_of(run) == "none" or not run.has_embeddings(run.manifest["kind"], "content"):
        return f"this run knows the sound of no {run.manifest['kind']}; ask with an id"
    if source_of(run) != SOURCE:
        return "this run learned from feature vectors, not from sound; ask by id"
    if find_spec("soundfile") is None:
        return "nothing here decodes audio; install it with: pip install 'undersong[audio]'"
    if engine_of(run) is None:
        return (
            "nothing here embeds sound; pip install 'undersong[train]', or, without PyTorch, "
            "'undersong[onnx]' and `undersong export onnx` where PyTorch is"
        )
    return None
