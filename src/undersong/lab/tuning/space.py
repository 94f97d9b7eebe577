"""What `undersong tune` searches: settings by their dotted paths, and a range for each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from undersong.errors import SettingsError, UndersongError, nearest_known
from undersong.pipeline.run_settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DIGITS = 4  # of a searched fraction: more would say nothing


@dataclass(frozen=True)
class Range:
    """Values that a search may try, both ends included; whole numbers if the setting is one.

    ``log`` searches factors, not differences. ``start`` is the value that the settings give, which
    ``ranges`` fills in.
    """

    low: float
    high: float
    log: bool = False
    start: float = 0.0


# Not searched: sizes of the networks and lengths of training, where more is mostly better and
# only costs time; and whatever is there to be switched off for an ablation.
SPACE: Mapping[str, Range] = {
    "general.loss.known.alpha": Range(1, 20, log=True),
    "general.loss.known.beta": Range(5, 160, log=True),
    "general.loss.known.gamma": Range(0.2, 0.9),
    "general.loss.known.margin": Range(0.05, 0.7),
    "general.loss.prior_weight": Range(0, 0.5),
    "general.loss.prior.alpha": Range(1, 20, log=True),
    "general.loss.prior.beta": Range(5, 160, log=True),
    "general.loss.prior.gamma": Range(0.2, 0.9),
    "general.hide_source": Range(0, 0.5),
    "general.hide_interaction": Range(0, 0.8),
    "general.input_dropout": Range(0, 0.7),
    "general.indirect": Range(0, 30),
    "general.tail": Range(0, 800),
    "general.anchors": Range(100, 1700, log=True),
    "general.training.learning_rate": Range(2e-4, 5e-3, log=True),
    "general.training.weight_decay": Range(0, 0.2),
    "content.loss.alpha": Range(1, 20, log=True),
    "content.loss.beta": Range(5, 160, log=True),
    "content.loss.gamma": Range(0.1, 0.9),
    "content.loss.margin": Range(0.05, 0.7),
    "content.tracks": Range(2, 8),
    "content.similar": Range(0, 1),
    "content.mask": Range(0, 48),
    "content.noise": Range(0, 0.5),
    "content.dropout": Range(0, 0.5),
    "content.training.learning_rate": Range(3e-4, 1e-2, log=True),
    "content.training.weight_decay": Range(0, 0.2),
    "interaction.width": Range(16, 256, log=True),
    "interaction.threshold": Range(1, 5),
    "interaction.top": Range(5, 60, log=True),
    "interaction.batch": Range(64, 1024, log=True),
    "interaction.loss.alpha": Range(1, 20, log=True),
    "interaction.loss.beta": Range(5, 160, log=True),
    "interaction.loss.gamma": Range(0.1, 0.9),
    "interaction.loss.margin": Range(0.05, 0.7),
    "interaction.training.learning_rate": Range(2e-5, 2e-3, log=True),
    "interaction.training.weight_decay": Range(0, 0.1),
}
STAGES = ("general", "content", "interaction")


def choose(stage: str, only: Sequence[str]) -> tuple[str, ...]:
    """Give the paths to search: all of a stage that have a range, or those that ``only`` names.

    A word of ``only`` names a setting or a table, such as ``loss.known``, from the stage on or
    by its end: ``prior_weight`` is ``general.loss.prior_weight``.

    Raises
    ------
    SettingsError
        If there is no such stage, or a word names no setting of it or one without a range.
    """
    if stage not in STAGES:
        raise SettingsError(f"no stage {stage!r} can be tuned; {nearest_known(stage, STAGES)}")
    paths = [x for x in SPACE if x.startswith(f"{stage}.")]
    if not only:
        return tuple(paths)
    found = {path for word in only for path in _named(word, paths, stage)}
    return tuple(x for x in paths if x in found)


def ranges(
    settings: Settings, paths: Sequence[str], *, most: Mapping[str, int]
) -> dict[str, Range]:
    """Fit the ranges to what is given: each holds its start, none goes beyond the data.

    A setting is left out where it has nothing to choose from, or where its start switches off
    what it belongs to: a margin of -1 is no mining.

    Parameters
    ----------
    most : values beyond which a setting changes nothing, such as the number of long-tail items
    """
    fitted = {}
    for path in paths:
        start, known = value_of(settings, path), SPACE[path]
        if path.endswith(".margin") and start < 0:
            continue
        low, high = min(known.low, start), max(known.high, start)
        if path in most and most[path] < high:
            high = most[path]
            low = max(min(low, high // 4), min(known.low, 1))
        if low < high:
            fitted[path] = Range(low, high, known.log, min(start, high))
    return fitted


def apply(settings: Settings, values: Mapping[str, float], within: Mapping[str, Range]) -> Settings:
    """Change settings as a trial says. A value at its start leaves its setting as it is."""
    for path, value in values.items():
        if value != within[path].start:
            settings = _changed(settings, path.split("."), rounded(value))
    return settings


def rounded(value: float) -> float:
    """Keep the digits of a fraction that mean something, so that a file says what was tried."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def value_of(settings: Settings, path: str) -> Any:
    """Find a setting by its dotted path, such as ``general.loss.known.alpha``."""
    return reduce(getattr, path.split("."), settings)


def flat(settings: Settings) -> dict[str, Any]:
    """Give every setting by its dotted path."""
    return dict(_leaves(asdict(settings), ""))


def _named(word: str, paths: Sequence[str], stage: str) -> list[str]:
    whole = word if word.startswith(f"{stage}.") else f"{stage}.{word}"
    found = [x for x in paths if x == whole or x.startswith(f"{whole}.") or x.endswith(f".{word}")]
    if found:
        return found
    short = [x.removeprefix(f"{stage}.") for x in paths]
    every = [x for x in flat(Settings()) if x.startswith(f"{stage}.")]
    if any(x == whole or x.endswith(f".{word}") for x in every):
        raise SettingsError(f"{word!r} of [{stage}] is not searched; known: {', '.join(short)}")
    known = sorted({name for path in short for name in _names(path)})
    raise SettingsError(f"{word!r} is no setting of [{stage}]; {nearest_known(word, known)}")


def _names(path: str) -> set[str]:
    """What may stand for a path: itself, the tables it is in, its last word."""
    parts = path.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)} | {parts[-1]}


def _changed(settings: Any, names: Sequence[str], value: float) -> Any:
    name, *rest = names
    inner = _changed(getattr(settings, name), rest, value) if rest else value
    return replace(cast("DataclassInstance", settings), **{name: inner})


def _leaves(table: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        path = f"{before}{name}"
        found += _leaves(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return found


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
