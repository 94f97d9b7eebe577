"""What a notebook asks for in one line each: import, train, load, evaluate."""

import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from undersong import model as models
from undersong.catalogue import Catalogue, Kind, write_catalogue
from undersong.embeddings import Embeddings
from undersong.errors import DataError, nearest_known, needs
from undersong.importers.tables import conversion
from undersong.model import Model
from undersong.progress import Progress, silent
from undersong.report.formats import Report

if TYPE_CHECKING:
    from undersong.pipeline.run_settings import Settings

CATALOGUE = "catalogue"  # within the folder of a run: the catalogue that was given as frames
SPLITS = ("validation", "test")
LINE = 60  # columns of the line that shows progress


def import_tables(mapping: Path | str, data: Path | str | None = None) -> Catalogue:
    """Make a catalogue, in memory, of the tables that a mapping file names (docs/catalogue.md).

    Parameters
    ----------
    mapping : TOML file
    data : folder at which the paths in the mapping begin; by default the mapping's own

    Raises
    ------
    SettingsError
        If the mapping is wrong.
    DataError
        If the tables have any fault, with the first few of them.
    """
    folder = None if data is None else Path(data)
    return conversion.import_tables(Path(mapping), data=folder)[0]


def train(
    catalogue: Catalogue | Path | str,
    folder: Path | str | None = None,
    settings: "Settings | Mapping[str, Any] | Path | str | None" = None,
    *,
    progress: Progress | bool = False,
) -> Model:
    """Learn all embeddings of a catalogue and open what was learned.

    The same call again goes on where it was interrupted, and has nothing to do once it is done.

    Parameters
    ----------
    catalogue : a catalogue, which is then written to FOLDER/catalogue, or the folder of one
    folder : of the run; by default a temporary one that lives as long as the model
    settings : or tables of them, {"run": {"seed": 1}}, or a TOML file (docs/choices.md); by
        default those of ``Settings()``
    progress : True shows one line while it lasts; or a function that is told every step

    Raises
    ------
    UndersongError
        For a catalogue that cannot be trained on, or if PyTorch is not installed.
    """
    with needs("train", "training"):
        from undersong.pipeline.run_settings import make_settings
        from undersong.pipeline.train import train_run
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="undersong-"))
        show = stack.enter_context(_shown(progress))
        source = _folder_of(catalogue, Path(folder) / CATALOGUE)
        train_run(source, Path(folder), settings=make_settings(settings), progress=show)
        model = load(folder)
        weakref.finalize(model, stack.pop_all().close)
    return model


def load(folder: Path | str) -> Model:
    """Open a run, or a folder that runs are published to.

    Raises
    ------
    ArtifactError
        If the folder is neither, or was written by another version.
    """
    return models.load(folder)


def evaluate(
    model: Model | Path | str,
    split: str = "validation",
    *,
    embeddings: Mapping[str, Embeddings] | None = None,
    catalogue: Path | str | None = None,
    progress: Progress | bool = False,
) -> Report:
    """Judge a run beside random, the baselines, and embeddings of your own (docs/evaluation.md).

    Nothing is written; `undersong evaluate` writes report.json beside the run.

    Parameters
    ----------
    model : or the folder of a run
    split : whose items ask: "validation", or "test", once, at the end
    embeddings : name -> vectors of the run's kind of item, asked by cosine in the same protocols
    catalogue : folder of the catalogue, where it lies elsewhere than when the run was trained
    progress : as of ``train``

    Raises
    ------
    DataError
        For an unknown split, and for embeddings of items that the run does not know.
    ArtifactError
        If the catalogue is not the one that the run was trained on.
    """
    if split not in SPLITS:
        raise DataError(f"split is {split!r}; {nearest_known(split, SPLITS)}")
    with needs("train", "evaluation"):
        from undersong.evaluation.compare import compare
    run = (model if isinstance(model, Model) else load(model)).run
    known = set(run.trained_items(cast(Kind, run.manifest["kind"]))["id"])
    for name, vectors in (embeddings or {}).items():
        if not known & set(vectors.ids):
            raise DataError(
                f"embeddings {name!r} hold no {run.manifest['kind']} of {run.folder}, but ids "
                f"such as {vectors.ids[0]!r}; give them the ids of the catalogue"
            )
    with _shown(progress) as show:
        evaluation = compare(
            run,
            split=split,
            catalogue_folder=None if catalogue is None else Path(catalogue),
            embeddings=embeddings or {},
            progress=show,
        )
    return Report(evaluation)


def _folder_of(catalogue: Catalogue | Path | str, home: Path) -> Path:
    """Return the folder of a catalogue; one that is in memory alone is written to ``home``."""
    if not isinstance(catalogue, Catalogue):
        return Path(catalogue)
    if catalogue.extracted:
        raise DataError(
            f"this catalogue was read from {catalogue.extracted.parent}, where its extracted audio "
            "and its listens are; train on that folder"
        )
    write_catalogue(catalogue, home)
    return home


@contextmanager
def _shown(progress: Progress | bool) -> Iterator[Progress]:
    """Show progress as one line that is written over, or as the caller wants it, or not."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield silent
        return

    def line(stage: str, done: int, total: int, note: str = "") -> None:
        sys.stderr.write(f"\r{f'{stage}: {done} of {total}':<{LINE}}")
        sys.stderr.flush()

    try:
        yield line
    finally:
        sys.stderr.write(f"\r{'':<{LINE}}\r")
        sys.stderr.flush()
