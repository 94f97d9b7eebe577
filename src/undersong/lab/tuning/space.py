"""What `undersong tune` searches: settings by their dotted paths, and a range for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from undersong.errors import SettingsError, nearest_known
from undersong.pipeline.run_settings import Settings
from undersong.settings import with_changes

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

    @property
    def distribution(self) -> BaseDistribution:
        """The same, as Optuna calls it."""
        if isinstance(self.start, int):
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


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
    """Return the paths to search: all of a stage that have a range, or those that ``only`` names.

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
    named = {path for word in only for path in _named(word, paths, stage)}
    return tuple(x for x in paths if x in named or not only)


def _named(word: str, paths: Sequence[str], stage: str) -> list[str]:
    whole = word if word.startswith(f"{stage}.") else f"{stage}.{word}"
    matches = [x for x in paths if f"{x}.".startswith(f"{whole}.") or x.endswith(f".{word}")]
    if matches:
        return matches
    settings = [x for x in flat(Settings()) if x.startswith(f"{stage}.")]
    short = [x.removeprefix(f"{stage}.") for x in paths]
    if any(x == whole or x.endswith(f".{word}") for x in settings):
        raise SettingsError(f"{word!r} of [{stage}] is not searched; known: {', '.join(short)}")
    known = sorted({name for path in short for name in _names(path)})
    raise SettingsError(f"{word!r} is no setting of [{stage}]; {nearest_known(word, known)}")


def _names(path: str) -> set[str]:
    """What may stand for a path: itself, the tables it is in, its last word."""
    parts = path.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts) + 1)} | {parts[-1]}


def ranges(
    settings: Settings, paths: Sequence[str], *, most: Mapping[str, int]
) -> dict[str, Range]:
    """Fit the ranges to the settings: each holds its start, none goes beyond the data.

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
    """Change settings to the values of a trial; one at its start leaves its setting as it is."""
    changes = {path: rounded(x) for path, x in values.items() if x != within[path].start}
    return with_changes(settings, changes, where="the trial's")


def rounded(value: float) -> float:
    """Round a fraction to the digits that mean something, so that a file has what was tried."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def value_of(settings: Settings, path: str) -> Any:
    """Return a setting by its dotted path, such as ``general.loss.known.alpha``."""
    return reduce(getattr, path.split("."), settings)


def flat(settings: Settings) -> dict[str, Any]:
    """Return every setting by its dotted path."""
    return dict(_leaves(asdict(settings), ""))


def _leaves(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
