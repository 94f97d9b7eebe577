"""From a catalogue to a published run: resume or start, learn, write, publish."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl

from undersong import runs
from undersong.audio.ears import Ears, choose_ears
from undersong.audio.extract import extract
from undersong.catalogue import EXTRACTED, Catalogue, fingerprint, read_catalogue
from undersong.errors import ArtifactError, DataError, SettingsError
from undersong.io.files import locked, writing
from undersong.models.content.inputs import AUTO, NONE
from undersong.models.content.network import ContentSettings
from undersong.pipeline import write
from undersong.pipeline.learn import learn
from undersong.pipeline.run_settings import Settings, make_settings
from undersong.progress import OverallProgress, Progress, silent
from undersong.runs import Run
from undersong.settings import as_recorded
from undersong.training import broadcast, rank

FORMAT = 1  # of the checkpoints


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
    one goes on from its last checkpoint, and never from one of another catalogue or other settings.
    Another writer of the folder is waited for. Where several processes train together all call
    this, with a folder that they share; the first one writes.

    Raises
    ------
    UndersongError
        For a catalogue that cannot be trained on; whatever was published before stays.
    """
    progress("catalogue", 0, 1)
    catalogue, about = _read(catalogue_folder, settings)
    _check_not_one_listener(catalogue)
    progress("catalogue", 1, 1)
    with locked(folder) if rank() == 0 else nullcontext():
        ears = _ears(settings.content)
        keys = {x.contract.key for x in ears or ()}
        known = ears is None or keys == {x.key for x in catalogue.heard}
        if rank() == 0 and (fresh or not known or not _published(folder, about)):
            _listen(catalogue, catalogue_folder, settings.content, ears=ears, progress=progress)
        broadcast(0)  # until all is heard
        catalogue, about = _read(catalogue_folder, settings)
        return _train(catalogue, folder, about, settings=settings, fresh=fresh, progress=progress)


def _read(folder: Path, settings: Settings) -> tuple[Catalogue, dict[str, Any]]:
    """Read a catalogue, and what a run says of that and its settings."""
    named, catalogue = fingerprint(folder), read_catalogue(folder)
    if fingerprint(folder) != named:
        raise ArtifactError(
            f"{folder} was imported again while it was read; give the same command again"
        )
    return catalogue, {
        "settings": as_recorded(settings),
        "catalogue": named,
        "catalogue_folder": str(folder.resolve()),
    }


def _ears(settings: ContentSettings) -> tuple[Ears, ...] | None:
    """Return the ears whose vectors CbRM is to read; None leaves alone what was heard before."""
    ears = choose_ears(settings.ears)
    if ears is None or settings.input == AUTO:
        return ears
    return tuple(x for x in ears if x.contract.name in _inputs(settings)) or None


def _inputs(settings: ContentSettings) -> set[str]:
    return {x.strip() for x in settings.input.split(",")} - {NONE}


def _listen(
    catalogue: Catalogue,
    folder: Path,
    settings: ContentSettings,
    *,
    ears: tuple[Ears, ...] | None,
    progress: Progress,
) -> None:
    """Extract the sound of a catalogue, also by pretrained ears, if CbRM is to read any."""
    matrices = {name for name, _ in catalogue.features}
    if _inputs(settings) <= matrices or not catalogue.tracks["path"].count():
        return
    workers = settings.workers or None
    extract(catalogue, folder / EXTRACTED, workers=workers, ears=ears, progress=progress)


def _train(
    catalogue: Catalogue,
    folder: Path,
    about: dict[str, Any],
    *,
    settings: Settings,
    fresh: bool,
    progress: Progress,
) -> tuple[Run, bool]:
    published = None if fresh else _published(folder, about)
    if broadcast(published is not None):
        return published or runs.read(folder), False
    first, work = rank() == 0, _work_folder(folder, about)
    if first:
        _clear(work, fresh=fresh)
    broadcast(0)  # nobody looks for checkpoints before the folder is ready
    whole = OverallProgress(progress, "train", expected_shares(settings)) if first else silent
    learned = learn(catalogue, settings, work=work, progress=whole)
    if not first:
        broadcast(0)
        return runs.read(folder), True
    studied = write.studied(learned, settings)
    about |= write.about(learned, studied)
    with runs.publishing(folder, about) as home:
        write.write(learned, home, studied=studied, progress=whole)
    shutil.rmtree(work.parent)
    broadcast(0)
    return runs.read(folder), True


def expected_shares(settings: Settings) -> dict[str, float]:
    """Return the stages of a training, and about how many steps of GRM each is worth.

    How long CbRM and UiRM take has nothing to do with that: 0. Ratios as on sets A and B.
    """
    groups = settings.ranking.folds + 1 if settings.ranking.folds else 0
    steps = float(settings.general.training.steps)
    return {
        "CbRM": 0.0,
        "UiRM": 0.0,
        "GRM": steps,
        **{f"GRM, rehearsal {x + 1} of {groups}": 0.53 * steps for x in range(groups)},
        **({"ranking": 0.3 * steps} if groups else {}),
        **({"GRM, refit": steps} if settings.run.refit else {}),
        **({"graph": 0.5 * steps} if settings.graph.enabled else {}),
        **({"graph, refit": 0.5 * steps} if settings.graph.enabled and settings.run.refit else {}),
        "reasons": 0.1 * steps,
    }


def _check_not_one_listener(catalogue: Catalogue) -> None:
    """Refuse plays of one listener alone: what one plays says of no two items how alike they are.

    Raises
    ------
    DataError
        If nothing but such plays is known.
    """
    described = any(not x.withheld for x in catalogue.fields) or catalogue.features
    if described or len(catalogue.relations) or catalogue.tracks["path"].count():
        return
    users = catalogue.plays.select(pl.col("user").unique().head(2)).collect()
    if len(users) == 1:
        raise DataError(
            f"the catalogue has the plays of one listener, {users['user'][0]!r}, and nothing else, "
            "which compares no two artists; import what describes them (`undersong import "
            "musicbrainz`), your music (`undersong import folder`) or plays of many (`undersong "
            "import listenbrainz`), join both with `undersong merge`, and train on that; "
            "`undersong describe` works already"
        )


def _published(folder: Path, about: Mapping[str, Any]) -> Run | None:
    """Open what was published, if it was made of the same catalogue and settings."""
    if not (folder / "current.json").exists():
        return None
    run = runs.read(folder)
    return run if _same(run.manifest, about) else None


def _work_folder(folder: Path, about: Mapping[str, Any]) -> Path:
    """Return the folder of checkpoints of this catalogue and these settings alone."""
    bound = [FORMAT, about["settings"], about["catalogue"]]
    return folder / "work" / hashlib.sha256(json.dumps(bound).encode()).hexdigest()[:16]


def _clear(work: Path, *, fresh: bool) -> None:
    """Remove the checkpoints of another catalogue or settings; if ``fresh``, all."""
    for other in work.parent.glob("*"):
        if other != work or fresh:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)


def _same(manifest: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether a run was made of the same; what its version did not know of it had the default."""
    try:
        recorded = as_recorded(make_settings(manifest["settings"]))
    except SettingsError:  # it knew a setting that is no more
        return False
    same: bool = (recorded, manifest["catalogue"]) == (about["settings"], about["catalogue"])
    return same
