"""Publish a run: gather what serving needs on a shelf, and move its readers there at once.

A shelf has the shape of a run (``undersong.runs``), so whatever reads a run reads a shelf. Beside
the files of the run a generation on a shelf holds ``report.json``, if the run was evaluated, and
the map (``undersong.map``).
"""

import shutil
from pathlib import Path
from typing import Any

from undersong import map, runs
from undersong.errors import ArtifactError
from undersong.files import replacing, sha256
from undersong.progress import Progress, silent
from undersong.report import files as report_files
from undersong.runs import Run

# Made anew here; and a list of audio files of the machine that trained, which answers nothing.
LEFT_OUT = (map.FILE, map.REGIONS_FILE, report_files.REPORT, "failures.csv")


def publish(folder: Path, shelf: Path, *, progress: Progress = silent) -> tuple[Run, bool]:
    """Publish the current generation of a run on a shelf; say whether it was new there.

    Every file is checked against the manifest of the run, as it arrived. Where the shelf shows the
    same training with the same report already, nothing is done. ``kill -9`` at any moment leaves
    readers with the old generation or the new one.

    Raises
    ------
    ArtifactError
        If ``folder`` holds no run, a file was changed since it was trained, or ``shelf`` is itself
        a run that was trained.
    UndersongError
        If openTSNE is not installed.
    """
    run = runs.read(folder)
    report = report_files.place(run)
    about = {name: value for name, value in run.manifest.items() if name != "files"}
    about |= {"trained": run.trained, "report": sha256(report) if report else None}
    if (there := _there(shelf)) and _shows(there, about):
        return there, False
    with runs.publishing(shelf, about) as home:
        for name in sorted(set(run.manifest["files"]) - set(LEFT_OUT)):
            _copy(run.home / name, home / name)
            runs.check(home / name, run.manifest["files"][name])
        if report:
            _copy(report, home / report_files.REPORT)
        seed = int(run.manifest["settings"]["run"]["seed"])
        map.make(run, home, seed=seed, progress=progress)
    return runs.read(shelf), True


def roll_back(shelf: Path) -> Run:
    """Move readers back to the generation before, which ``publish`` kept.

    Raises
    ------
    ArtifactError
        If there is none, or it was changed since it was published; readers then stay.
    """
    now = runs.read(shelf)
    before = [x for x in runs.numbers(shelf) if int(x) < int(now.generation)]
    if not before:
        raise ArtifactError(
            f"{shelf} keeps no generation before {now.generation}; publish a run to make a new one"
        )
    found = runs.read_generation(shelf, before[-1])
    for name in found.manifest["files"]:
        found.file(name)
    runs.point(shelf, found.generation)
    return found


def _there(shelf: Path) -> Run | None:
    """What a shelf shows; None where it shows nothing that can be read."""
    try:
        found = runs.read(shelf)
    except ArtifactError:
        return None
    if "trained" not in found.manifest:
        raise ArtifactError(f"{shelf} is a run that was trained; publish to another folder")
    return found


def _shows(there: Run, about: dict[str, Any]) -> bool:
    """Say whether a shelf shows this training and report, and every file of it is unchanged."""
    same = there.trained["content"] == about["trained"]["content"]
    if not same or there.manifest.get("report") != about["report"]:
        return False
    try:
        for name in there.manifest["files"]:
            there.file(name)
    except ArtifactError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    try:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except FileNotFoundError as error:
        raise ArtifactError(f"{source} is missing; {runs.REMEDY}") from error
