"""Publish a run: gather what serving needs on a shelf, and move its readers there at once.

A shelf has the shape of a run (``undersong.runs``), so whatever reads a run reads a shelf. Beside
the files of the run a generation on a shelf holds ``report.json``, if the run was evaluated, its
exported encoders, the map (``undersong.retrieval.projection``), the vectors that readers map into
memory, and the first answers of every item or, of very many, the cells that they are searched in
(``undersong.retrieval.precomputed``, ``approximate``).
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from undersong import runs
from undersong.catalogue import KINDS, Kind
from undersong.errors import ArtifactError
from undersong.explanation import data, explain
from undersong.foldin.encoders import ABOUT, FOLDER
from undersong.io.files import locked, replacing, sha256
from undersong.progress import Progress, part_of, silent, watched
from undersong.report.formats import REPORT, path_of
from undersong.retrieval import Index, approximate, open_index, precomputed, projection
from undersong.runs import Run

# Items of a kind whose answers are all computed, by cosine and in a learned order, of which a query
# takes ten times as long: beyond, it would be hours.
LARGEST_LISTED, LARGEST_WEIGHED = 200_000, 50_000

COPIED = 1 << 25  # bytes of a file that are copied at a time
MAPPED = ("general", "content")  # embeddings of which readers map the vectors

# Made anew here; and a list of audio files of the machine that trained, which answers nothing.
LEFT_OUT = {
    projection.FILE,
    projection.REGIONS_FILE,
    REPORT,
    data.FIRST,
    "failures.csv",
}.union(
    *({precomputed.file_of(kind), approximate.file_of(kind)} for kind in KINDS),
    *({f"embeddings/{kind}.{name}.npy" for name in MAPPED} for kind in KINDS),
)


def publish(folder: Path, shelf: Path, *, progress: Progress = silent) -> tuple[Run, bool]:
    """Publish the current generation of a run on a shelf; return it, and whether it is new there.

    Every file is checked against the manifest of the run, as it arrived. Where the shelf shows the
    same training with the same report already, nothing is done. ``kill -9`` at any moment leaves
    readers with the old generation or the new one. Another writer of the shelf is waited for.

    Raises
    ------
    ArtifactError
        If ``folder`` holds no run, a file was changed since it was trained, or ``shelf`` is itself
        a run that was trained.
    UndersongError
        If openTSNE is not installed.
    """
    run = runs.read(folder)
    with locked(shelf):
        return _publish(run, shelf, progress=progress)


def _publish(run: Run, shelf: Path, *, progress: Progress) -> tuple[Run, bool]:
    report = path_of(run)
    added = runs.added_path(run.folder, run.generation)
    exported = run.home / FOLDER / ABOUT
    about = {name: value for name, value in run.manifest.items() if name != "files"}
    about |= {
        "trained": run.trained,
        "report": sha256(report) if report else None,
        "added": sha256(added) if added.exists() else None,
        "onnx": sha256(exported) if exported.exists() else None,
    }
    if (shown := _shown_on(shelf)) and _shows(shown, about):
        return shown, False
    with runs.publishing(shelf, about) as home:
        files = {x: y for x, y in run.manifest["files"].items() if x not in LEFT_OUT}
        for done, name in enumerate(sorted(files)):
            report_copied = part_of(progress, "files", done, len(files), "")
            _copy(run.home / name, home / name, report=report_copied)
            runs.check(home / name, files[name])
        progress("files", 100 * len(files), 100 * len(files))
        if report:
            _copy(report, home / REPORT)
        for path in sorted(exported.parent.glob("*") if exported.exists() else ()):
            _copy(path, home / FOLDER / path.name)
        copied = Run(shelf, home.name, run.manifest | {"files": files})
        about["lists"] = _compute(copied, progress=progress)
        beside = runs.added_path(shelf, home.stem)
        beside.unlink(missing_ok=True)  # of a publication that failed or was killed
        if added.exists():
            _copy(added, beside)
    return runs.read(shelf), True


def _compute(copied: Run, *, progress: Progress) -> dict[str, Any]:
    """Compute, once for all readers, what follows from the files of a generation.

    Returns
    -------
    what became of the stored lists of each kind of item, for the manifest (``lists.Made``)
    """
    seed = int(copied.manifest["settings"]["run"]["seed"])
    projection.make(copied, copied.home, seed=seed, progress=progress)
    for kind, name in watched(_mapped(copied), progress, "vectors"):
        vectors = copied.embeddings(kind, name)
        vectors.write_vectors(copied.home / f"embeddings/{kind}.{name}.npy")
    lists: dict[str, Any] = {}
    for kind in KINDS:
        if copied.has_embeddings(kind, "general"):
            index = open_index(copied, kind)
            approximate.make_cells(index.embeddings, copied.home, kind=kind, progress=progress)
            largest = LARGEST_WEIGHED if index.ranker else LARGEST_LISTED
            if len(index.embeddings.ids) <= largest:
                listed = precomputed.make_lists(index, copied.home, kind=kind, progress=progress)
                lists[kind] = asdict(listed)
                _explain(copied, kind, index, progress=progress)
    return lists


def unlisted(shelf: Run) -> tuple[Kind, ...]:
    """Kinds of items on a shelf of whose answers none are stored, since there are very many."""
    stored = shelf.manifest.get("lists", {})
    return tuple(x for x in KINDS if shelf.has_embeddings(x, "general") and x not in stored)


def _mapped(run: Run) -> list[tuple[Kind, str]]:
    """Kind and name of the embeddings that readers of a run map."""
    return [(kind, name) for kind in KINDS for name in MAPPED if run.has_embeddings(kind, name)]


def _explain(copied: Run, kind: Kind, index: Index, *, progress: Progress) -> None:
    """Compute the reasons of the first answers, which take longest where an order was learned."""
    if index.ranker is None or index.evidence is None or not copied.has(data.ITEMS):
        return
    known = data.read_background(copied, kind)
    rows = np.array([known.index[x] for x in index.embeddings.ids], dtype=np.int64)
    path = copied.home / data.FIRST
    explain.write(
        path, index.ranker, index.evidence, background=known, rows=rows, progress=progress
    )


def roll_back(shelf: Path) -> Run:
    """Move readers back to the generation before, which ``publish`` kept.

    Raises
    ------
    ArtifactError
        If there is none, or it was changed since it was published; readers then stay.
    """
    runs.read(shelf)  # a folder that is no shelf gets no lock
    with locked(shelf):
        now = runs.read(shelf)
        before = [x for x in runs.numbers(shelf) if int(x) < int(now.generation)]
        if not before:
            raise ArtifactError(
                f"{shelf} keeps no generation before {now.generation}; publish a run to make a new "
                "one"
            )
        earlier = runs.read_generation(shelf, before[-1])
        for name in earlier.manifest["files"]:
            earlier.file(name)
        runs.point(shelf, earlier.generation, before=now.generation)
        return earlier


def _shown_on(shelf: Path) -> Run | None:
    """What a shelf shows; None where it shows nothing that can be read."""
    try:
        shown = runs.read(shelf)
    except ArtifactError:
        return None
    if "trained" not in shown.manifest:
        raise ArtifactError(f"{shelf} is a run that was trained; publish to another folder")
    return shown


def _shows(shown: Run, about: dict[str, Any]) -> bool:
    """Whether a shelf shows this training and report, and every file of it is unchanged.

    One without vectors to map is of an earlier version; it is made anew.
    """
    if not all(shown.has(f"embeddings/{kind}.{name}.npy") for kind, name in _mapped(shown)):
        return False
    same = shown.trained["content"] == about["trained"]["content"]
    if not same or any(shown.manifest.get(x) != about[x] for x in ("report", "added", "onnx")):
        return False
    try:
        for name in shown.manifest["files"]:
            shown.file(name)
    except ArtifactError:
        return False
    return True


def _copy(
    source: Path, target: Path, *, report: Callable[[int, int], None] = lambda here, whole: None
) -> None:
    try:
        size = source.stat().st_size
        with replacing(target) as temporary, source.open("rb") as read, temporary.open("wb") as to:
            while block := read.read(COPIED):
                to.write(block)
                report(to.tell(), size)
    except FileNotFoundError as error:
        raise ArtifactError(f"{source} is missing; {runs.REMEDY}") from error
