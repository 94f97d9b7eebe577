"""`undersong tune`: search the settings of one stage by TPE, resumable, on validation alone.

STUDY/study.json       what is searched, on which catalogue, and all that was found
STUDY/study.db         Optuna's storage: the truth about every trial
STUDY/best.toml        settings for `undersong train --settings`
STUDY/trials.csv       one row a trial
STUDY/embeddings/      E_C and E_U, where GRM is tuned
STUDY/queries/N.npy    NDCG@200 of each validation item in trial N, where the stage tells
STUDY/work/            checkpoints and extracted audio
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from undersong.catalogue import fingerprint, read_catalogue
from undersong.errors import ArtifactError, SettingsError, UndersongError
from undersong.io.arrays import write_array
from undersong.io.files import read_json, write_json
from undersong.lab.tuning import space, trials, trials_table
from undersong.lab.tuning.space import Range
from undersong.lab.tuning.trials import Bench
from undersong.lab.tuning.trials_table import Confirmation, Trial, Tuned
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.settings import first_difference

CONFIRMING = 2  # other seeds
CONFIRMED = "confirmed"


@dataclass(frozen=True)
class _Search:
    """A study that is open: what is given, what is searched, and where it is tried."""

    folder: Path
    stage: str
    settings: Settings
    seed: int
    ranges: Mapping[str, Range]
    bench: Bench
    study: optuna.Study
    about: Mapping[str, Any]


def tune(
    catalogue_folder: Path,
    folder: Path,
    *,
    settings: Settings,
    stage: str = "general",
    count: int = 40,
    minutes: float | None = None,
    only: Sequence[str] = (),
    seed: int = 0,
    confirm: bool = False,
    progress: Progress = silent,
) -> Tuned:
    """Search better settings of one stage, from the given ones on, and write them into ``folder``.

    Run again with the same arguments it goes on; a higher ``count`` adds trials. A trial that was
    cut short is tried again.

    Parameters
    ----------
    settings : where the search begins, which is its first trial; all other stages keep to it
    stage : "general", "content" or "interaction"
        Judged by its own validation score. E_C and E_U that are better by themselves need not
        make GRM better.
    count : trials in all, those of earlier calls included
    minutes : start no further trial after so long; at least one is tried
    only : settings or tables to search; nothing for all that have a range
    seed : of the search; that of splits and training stands in ``settings``
    confirm : train the best and the given settings with two other seeds too

    Raises
    ------
    SettingsError
        If ``only`` or ``stage`` names nothing that can be searched.
    ArtifactError
        If ``folder`` holds a study of another catalogue, stage, search or settings, or another
        process is at work there.
    DataError
        If nothing can be learned or judged.
    """
    if count < 1 or seed < 0:
        raise SettingsError(f"{count} trials with seed {seed}: take 1 or more, and 0 or more")
    paths = space.choose(stage, only)
    catalogue = read_catalogue(catalogue_folder)
    about: dict[str, Any] = {
        "catalogue": fingerprint(catalogue_folder),
        "stage": stage,
        "searched": list(paths),
        "seed": seed,
        "settings": space.flat(settings),
    }
    with _alone(folder):
        _take_up(folder, about)
        bench = trials.prepare(stage, catalogue, settings, folder=folder, progress=progress)
        active = [x for x in paths if x not in bench.idle]
        ranges = space.ranges(settings, active, most=bench.most)
        if not ranges:
            raise SettingsError(
                f"of {', '.join(paths)} none makes a difference with this catalogue and these "
                "settings; search others"
            )
        with space.opened(folder, ranges) as study:
            search = _Search(folder, stage, settings, seed, ranges, bench, study, about)
            _try_all(search, count, minutes, progress)
            if confirm:
                _confirm(search, progress)
            found = _found(search)
        trials_table.write(found, folder, about=about)
        return found


def _try_all(search: _Search, count: int, minutes: float | None, progress: Progress) -> None:
    """Try until there are ``count`` ended trials or time is up, and write after each."""
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    done, late = len(space.ended(search.study)), False
    while done < count and not late:
        _try_one(search)
        found = _found(search)
        trials_table.write(found, search.folder, about=search.about)
        done, late = len(found.trials), time.monotonic() >= until
        note = f"best {found.best.score:.4f}, given {found.given.score:.4f}"
        progress("tune", done, done if late else count, note)


def _try_one(search: _Search) -> None:
    """Try one set of values. An error ends the trial; of the given settings, the search."""
    study = search.study
    trial = space.ask(study, search.ranges, seed=search.seed)
    settings = space.apply(search.settings, trial.params, search.ranges)
    started = time.monotonic()
    try:
        scored = search.bench.judge(settings, settings.run.seed)
    except UndersongError as error:
        if space.is_given(trial):
            raise
        space.tell_error(study, trial, error, seconds=time.monotonic() - started)
        return
    if scored.queries is not None:
        write_array(_queries(search.folder, trial.number), scored.queries)
    space.tell_score(study, trial, scored.score, seconds=time.monotonic() - started)


def _confirm(search: _Search, progress: Progress) -> None:
    """Train the given and the best settings with other seeds; what is done already is kept."""
    found = _found(search)
    if found.best == found.given:
        return
    first = search.settings.run.seed + 1
    pairs = [(x, s) for x in (found.given, found.best) for s in range(first, first + CONFIRMING)]
    for done, (trial, seed) in enumerate(pairs, start=1):
        key = f"{CONFIRMED} {trial.number} {seed}"
        if key not in search.study.user_attrs:
            settings = search.settings if trial == found.given else found.settings
            search.study.set_user_attr(key, search.bench.judge(settings, seed).score)
        progress("confirm", done, len(pairs))


def _found(search: _Search) -> Tuned:
    """Read from the storage what was found so far."""
    frozen = space.ended(search.study)
    known = {x.number: _trial(search, x) for x in frozen}
    given = next(known[x.number] for x in frozen if space.is_given(x))
    scored = [x for x in known.values() if x.score is not None]
    best = max(scored, key=lambda x: (x.score, x == given, -x.number))
    values = next(x.params for x in frozen if x.number == best.number)
    first, second = (_read_queries(search.folder, x) for x in (given, best))
    return Tuned(
        stage=search.stage,
        trials=tuple(known.values()),
        given=given,
        best=best,
        settings=space.apply(search.settings, values, search.ranges),
        queries=len(first) if first is not None else None,
        standard_error=trials_table.paired_error(first, second),
        confirmation=_confirmation(search, given, best),
    )


def _trial(search: _Search, frozen: FrozenTrial) -> Trial:
    settings = space.apply(search.settings, frozen.params, search.ranges)
    return Trial(
        number=frozen.number,
        values={path: space.value_of(settings, path) for path in search.ranges},
        score=frozen.value,
        seconds=frozen.user_attrs.get(space.SECONDS, 0.0),
        error=space.error_of(frozen),
    )


def _confirmation(search: _Search, given: Trial, best: Trial) -> Confirmation | None:
    first = search.settings.run.seed + 1
    seeds = tuple(range(first, first + CONFIRMING))
    attributes = search.study.user_attrs
    keys = [[f"{CONFIRMED} {x.number} {seed}" for seed in seeds] for x in (given, best)]
    if given == best or not all(key in attributes for row in keys for key in row):
        return None
    of_given, of_best = (tuple(attributes[key] for key in row) for row in keys)
    return Confirmation(seeds, of_given, of_best)


def _queries(folder: Path, number: int) -> Path:
    return folder / "queries" / f"{number}.npy"


def _read_queries(folder: Path, trial: Trial) -> NDArray[np.float64] | None:
    path = _queries(folder, trial.number)
    return np.load(path) if path.exists() else None


def _take_up(folder: Path, about: Mapping[str, Any]) -> None:
    """Begin a study, or check that the one in ``folder`` is the same search of the same data.

    Before the first trial only what is kept must fit: E_C and E_U of a catalogue and settings.
    """
    path = folder / "study.json"
    begun = (folder / space.FILE).exists()
    if begun and not path.exists():
        raise ArtifactError(f"{path} is missing beside {space.FILE}; give another folder")
    if path.exists():
        found = read_json(path, version=trials_table.FORMAT, hint="give another folder")
        wanted = json.loads(json.dumps(about))
        for key in wanted if begun else ("catalogue", "settings"):
            if found.get(key) != wanted[key]:
                raise ArtifactError(
                    f"{folder} holds a study of {_difference(key, found.get(key), wanted[key])}; "
                    "give another folder, or delete it to begin anew"
                )
    if not begun:
        write_json(path, {"format": trials_table.FORMAT, **about})


def _difference(key: str, found: Any, wanted: Any) -> str:
    """Say how a study differs from what is asked for."""
    if key == "catalogue":
        return "another catalogue, or of this one before it changed"
    if key == "settings":
        return f"other settings: {first_difference(found or {}, wanted)}"
    if key == "searched":
        return f"other settings to search: {', '.join(found or [])}"
    return f"another {key}: {found!r}, not {wanted!r}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep every other process out while a search runs; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArtifactError(
                    f"another process tunes in {folder}; wait for it, or give another folder"
                ) from error
        yield
