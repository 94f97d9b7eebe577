"""From a catalogue to a published run: resume or start, learn, write, publish."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undersong import runs
from undersong.catalogue import fingerprint, read_catalogue
from undersong.errors import ArtifactError
from undersong.io.files import read_json, write_json
from undersong.pipeline import write
from undersong.pipeline.learn import learn
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.runs import Run
from undersong.training import broadcast, rank

FORMAT = 1


def train_run(
    catalogue_folder: Path,
    folder: Path,
    *,
    settings: Settings,
    fresh: bool = False,
    progress: Progress = silent,
) -> tuple[Run, bool]:
    """Train every stage on a catalogue and publish the run; return it, and whether it is new.

    A run of the same catalogue and settings is left as it is unless ``fresh``. An interrupted
    one goes on from its last checkpoint. Where several processes train together all call this, with
    a folder that they share; the first one writes.

    Raises
    ------
    UndersongError
        For a catalogue that cannot be trained on; whatever was published before stays.
    """
    catalogue = read_catalogue(catalogue_folder)
    about: dict[str, Any] = {
        "settings": asdict(settings),
        "catalogue": fingerprint(catalogue_folder),
        "catalogue_folder": str(catalogue_folder.resolve()),
    }
    published = None if fresh else _published(folder, about)
    if broadcast(published is not None):
        return published or runs.read(folder), False
    first = rank() == 0
    work = _resume_or_start(folder, about, fresh=fresh) if first else folder / "work"
    broadcast(0)  # nobody looks for checkpoints before the folder is ready
    learned = learn(catalogue, settings, work=work, progress=progress if first else silent)
    if not first:
        broadcast(0)
        return runs.read(folder), True
    studied = write.studied(learned, settings)
    about |= write.about(learned, studied)
    with runs.publishing(folder, about) as home:
        write.write(learned, home, studied=studied)
    shutil.rmtree(work)
    broadcast(0)
    return runs.read(folder), True


def _published(folder: Path, about: Mapping[str, Any]) -> Run | None:
    """Open what was published, if it was made of the same catalogue and settings."""
    if not (folder / "current.json").exists():
        return None
    run = runs.read(folder)
    return run if _same(run.manifest, about) else None


def _resume_or_start(folder: Path, about: Mapping[str, Any], *, fresh: bool) -> Path:
    """Return the folder of checkpoints, emptied of those of another catalogue or settings."""
    work = folder / "work"
    started = work / "started.json"
    if started.exists() and not fresh:
        try:
            if _same(read_json(started, version=FORMAT, hint="train again"), about):
                return work
        except ArtifactError:
            pass  # left by another version: begin anew
    if work.exists():
        shutil.rmtree(work)
    write_json(started, {"format": FORMAT, **about})
    return work


def _same(manifest: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    plain = json.loads(json.dumps(about))
    return all(manifest.get(key) == plain[key] for key in ("settings", "catalogue"))
