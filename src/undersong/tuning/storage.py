"""The trials of a search on disk: which are done, which were cut short, what comes next.

What a trial tries follows from the seed and the trials that ended before it. So a search that was
killed and run again goes through the same trials as one that was not.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from undersong.errors import UndersongError
from undersong.tuning.space import Range

FILE = "study.db"
TRIES = 3  # how often a trial may be cut short before it is given up: it may be what kills
GIVEN, TRIED, ERROR, SECONDS = "given", "tried", "error", "seconds"


@contextmanager
def opened(folder: Path, ranges: Mapping[str, Range]) -> Iterator[optuna.Study]:
    """Open the storage and queue what must be tried: the given settings, and what was cut short.

    No other process may be at work on it: its trial would be taken for one that was cut short.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / FILE).resolve()}")
    try:
        study = optuna.create_study(
            storage=storage, study_name="undersong", direction="maximize", load_if_exists=True
        )
        _queue(study, ranges)
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _queue(study: optuna.Study, ranges: Mapping[str, Range]) -> None:
    if not study.get_trials(deepcopy=False):
        starts = {path: x.start for path, x in ranges.items()}
        study.enqueue_trial(starts, user_attrs={GIVEN: True})
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    every = study.get_trials(deepcopy=False)
    for trial in every:
        values = _values(trial)
        later = any(x.number > trial.number and _values(x) == values for x in every)
        whole = set(values) == set(ranges)  # else the same draw comes again by itself
        if trial.state == TrialState.FAIL and not has_ended(trial) and whole and not later:
            given = {GIVEN: True} if is_given(trial) else {}
            study.enqueue_trial(values, user_attrs={TRIED: _tries(trial) + 1, **given})


def ask(study: optuna.Study, ranges: Mapping[str, Range], *, seed: int) -> optuna.Trial:
    """Begin the next trial: one that is queued, or what TPE draws for this seed and history."""
    draw = np.random.SeedSequence([seed, len(ended(study))]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(draw))
    return study.ask({path: _distribution(x) for path, x in ranges.items()})


def tell_score(study: optuna.Study, trial: optuna.Trial, score: float, *, seconds: float) -> None:
    """End a trial that was scored."""
    trial.set_user_attr(SECONDS, seconds)
    study.tell(trial, score)


def tell_error(
    study: optuna.Study, trial: optuna.Trial, error: UndersongError, *, seconds: float
) -> None:
    """End a trial whose values cannot be trained with, such as a rate that diverges."""
    trial.set_user_attr(SECONDS, seconds)
    trial.set_user_attr(ERROR, str(error))
    study.tell(trial, state=TrialState.FAIL)


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that need not be tried again, in their order."""
    return [x for x in study.get_trials(deepcopy=False) if has_ended(x)]


def has_ended(trial: FrozenTrial) -> bool:
    """Scored, failed by an error, or given up; the given settings are never given up."""
    if trial.state != TrialState.FAIL:
        return trial.state == TrialState.COMPLETE
    return ERROR in trial.user_attrs or (_tries(trial) >= TRIES and not is_given(trial))


def is_given(trial: FrozenTrial | optuna.Trial) -> bool:
    """Say whether a trial is that of the given settings."""
    return GIVEN in trial.user_attrs


def error_of(trial: FrozenTrial) -> str:
    """Say why an ended trial has no score; "" if it has one."""
    if trial.state == TrialState.COMPLETE:
        return ""
    return str(trial.user_attrs.get(ERROR, f"cut short {TRIES} times: given up"))


def _tries(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(TRIED, 1))


def _values(trial: FrozenTrial) -> dict[str, Any]:
    """Values that a trial has, or waits with."""
    return dict(trial.system_attrs.get("fixed_params", trial.params))


def _distribution(values: Range) -> BaseDistribution:
    if isinstance(values.start, int):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
