"""`undersong tune`: search the settings of one stage by TPE, resumable, on validation alone.

STUDY/study.json       what is searched, on which catalogue, and all results
STUDY/study.db         Optuna's storage: the truth about every trial
STUDY/best.toml        settings for `undersong train --settings`
STUDY/trials.csv       one row a trial
STUDY/embeddings/      E_C and E_U, where GRM is tuned
STUDY/queries/N.npy    NDCG@200 of each validation item in trial N, where the stage reports it
STUDY/work/            checkpoints and extracted audio

A trial that was cut short is queued again by hand. Optuna's heartbeat and retry callback would not
do: they act within ``Study.optimize`` alone and after a grace period, in which other trials are
drawn, and they give up the first settings like any others. Here the lock of the folder tells at
once that nobody is at work, and a resumed search draws what an uninterrupted one would have drawn.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from undersong.catalogue import fingerprint, read_catalogue
from undersong.errors import ArtifactError, SettingsError, UndersongError
from undersong.io.files import locked, read_json, replacing, write_json
from undersong.io.table_files import write_csv
from undersong.io.tensors import write_array
from undersong.lab.tuning import trials
from undersong.lab.tuning.trials import Bench, Range, flat
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.settings import first_difference

FORMAT = 1
FILE = "study.db"
TRIES = 3  # how often a trial may be cut short before it is given up: it may be what kills
FIRST, TRIED, ERROR, SECONDS = "given", "tried", "error", "seconds"  # stored with each trial
CONFIRMED, CONFIRMING = "confirmed", 2  # other seeds


@dataclass(frozen=True)
class Trial:
    """One training of the tuned stage.

    ``values`` are the settings that it tried, by path; ``score`` is its validation NDCG@200, None
    if it ended by the error named.
    """

    number: int
    values: Mapping[str, float]
    score: float | None
    seconds: float
    error: str


@dataclass(frozen=True)
class Confirmation:
    """The first and the best settings, trained again: the score for each seed."""

    seeds: tuple[int, ...]
    given: tuple[float, ...]
    best: tuple[float, ...]


@dataclass(frozen=True)
class Tuned:
    """All results of a search so far.

    Parameters
    ----------
    first : the trial of the settings where the search began
    best : the trial that scored highest; ``first`` if none was better
    settings : those of the best trial
    queries : how many validation items asked, where the stage reports it
    standard_error : of best minus first, over those queries
    """

    stage: str
    trials: tuple[Trial, ...]
    first: Trial
    best: Trial
    settings: Settings
    queries: int | None = None
    standard_error: float | None = None
    confirmation: Confirmation | None = None

    @property
    def gain(self) -> float:
        """Score of the best trial minus that of the first."""
        return _score(self.best) - _score(self.first)

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Settings that the best trial changed: first and best value, by path."""
        if self.best == self.first:
            return {}
        old, new = self.first.values, self.best.values
        return {path: (old[path], new[path]) for path in new if old[path] != new[path]}


@dataclass(frozen=True)
class _Search:
    """A study that is open: where it begins, what it searches, and where it tries."""

    folder: Path
    stage: str
    settings: Settings
    seed: int
    ranges: Mapping[str, Range]
    bench: Bench
    study: optuna.Study
    about: Mapping[str, Any]

    @property
    def confirming_seeds(self) -> tuple[int, ...]:
        """Training seeds that the search never sees."""
        first = self.settings.run.seed + 1
        return tuple(range(first, first + CONFIRMING))

    def queries(self, number: int) -> Path:
        """Return the file of a trial's score by query."""
        return self.folder / "queries" / f"{number}.npy"


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
    """Search better settings of one stage, from ``settings`` on, and write them into ``folder``.

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
    confirm : train the best and the first settings with two other seeds too

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
    paths = trials.choose(stage, only)
    catalogue = read_catalogue(catalogue_folder)
    about: dict[str, Any] = {
        "catalogue": fingerprint(catalogue_folder),
        "stage": stage,
        "searched": list(paths),
        "seed": seed,
        "settings": trials.flat(settings),
    }
    with locked(folder, wait=False):
        _claim(folder, about)
        bench = trials.prepare(stage, catalogue, settings, folder=folder, progress=progress)
        active = [x for x in paths if x not in bench.idle]
        ranges = trials.ranges(settings, active, most=bench.most)
        if not ranges:
            raise SettingsError(
                f"of {', '.join(paths)} none makes a difference with this catalogue and these "
                "settings; search others"
            )
        with _opened(folder, ranges) as study:
            search = _Search(folder, stage, settings, seed, ranges, bench, study, about)
            _try_all(search, count, minutes, progress)
            if confirm:
                _confirm(search, progress)
            tuned = _tuned(search)
        write(tuned, folder, about=about)
        return tuned


def _try_all(search: _Search, count: int, minutes: float | None, progress: Progress) -> None:
    """Try until there are ``count`` ended trials or time is up, and write after each."""
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    done, late = len(_ended(search.study)), False
    while done < count and not late:
        _try_one(search)
        tuned = _tuned(search)
        write(tuned, search.folder, about=search.about)
        done, late = len(tuned.trials), time.monotonic() >= until
        note = f"best {tuned.best.score:.4f}, given {tuned.first.score:.4f}"
        progress("tune", done, done if late else count, note)


def _try_one(search: _Search) -> None:
    """Try one set of values: one that is queued, or what TPE draws for this seed and history.

    An error ends the trial, such as of a rate that diverges; of the first settings, the search.
    """
    study = search.study
    draw = np.random.SeedSequence([search.seed, len(_ended(study))]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(draw))
    trial = study.ask({path: x.distribution for path, x in search.ranges.items()})
    settings = trials.apply(search.settings, trial.params, search.ranges)
    started = time.monotonic()
    try:
        result = search.bench.judge(settings, settings.run.seed)
    except UndersongError as error:
        if FIRST in trial.user_attrs:
            raise
        trial.set_user_attr(SECONDS, time.monotonic() - started)
        trial.set_user_attr(ERROR, str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    if result.queries is not None:
        write_array(search.queries(trial.number), result.queries)
    trial.set_user_attr(SECONDS, time.monotonic() - started)
    study.tell(trial, result.score)


def _confirm(search: _Search, progress: Progress) -> None:
    """Train the first and the best settings with other seeds, unless that was done before."""
    tuned = _tuned(search)
    if tuned.best == tuned.first:
        return
    pairs = [(x, seed) for x in (tuned.first, tuned.best) for seed in search.confirming_seeds]
    for done, (trial, seed) in enumerate(pairs, start=1):
        key = f"{CONFIRMED} {trial.number} {seed}"
        if key not in search.study.user_attrs:
            settings = search.settings if trial == tuned.first else tuned.settings
            search.study.set_user_attr(key, search.bench.judge(settings, seed).score)
        progress("confirm", done, len(pairs))


def _tuned(search: _Search) -> Tuned:
    """Read all results so far from the storage."""
    frozen = _ended(search.study)
    ended = {x.number: _trial(search, x) for x in frozen}
    first = next(ended[x.number] for x in frozen if FIRST in x.user_attrs)
    scored = [x for x in ended.values() if x.score is not None]
    best = max(scored, key=lambda x: (x.score, x == first, -x.number))
    values = next(x.params for x in frozen if x.number == best.number)
    queries = [_read_queries(search.queries(x.number)) for x in (first, best)]
    return Tuned(
        stage=search.stage,
        trials=tuple(ended.values()),
        first=first,
        best=best,
        settings=trials.apply(search.settings, values, search.ranges),
        queries=None if queries[0] is None else len(queries[0]),
        standard_error=paired_error(*queries),
        confirmation=_confirmation(search, first, best),
    )


def _trial(search: _Search, frozen: FrozenTrial) -> Trial:
    settings = trials.apply(search.settings, frozen.params, search.ranges)
    error = frozen.user_attrs.get(ERROR, f"cut short {TRIES} times: given up")
    return Trial(
        number=frozen.number,
        values={path: trials.value_of(settings, path) for path in search.ranges},
        score=frozen.value,
        seconds=frozen.user_attrs.get(SECONDS, 0.0),
        error="" if frozen.state == TrialState.COMPLETE else error,
    )


def _confirmation(search: _Search, first: Trial, best: Trial) -> Confirmation | None:
    seeds, scores = search.confirming_seeds, search.study.user_attrs
    keys = [[f"{CONFIRMED} {x.number} {seed}" for seed in seeds] for x in (first, best)]
    if first == best or not all(key in scores for row in keys for key in row):
        return None
    of_first, of_best = (tuple(scores[key] for key in row) for row in keys)
    return Confirmation(seeds, of_first, of_best)


def _read_queries(path: Path) -> NDArray[np.float64] | None:
    return np.load(path) if path.exists() else None


@contextmanager
def _opened(folder: Path, ranges: Mapping[str, Range]) -> Iterator[optuna.Study]:
    """Open the storage and queue what must be tried: the first settings, and what was cut short.

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
    except optuna.exceptions.StorageInternalError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        remedy = "make room there, see that you may write there, or choose another folder"
        raise ArtifactError(f"{folder / FILE} cannot be written ({reason}); {remedy}") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _queue(study: optuna.Study, ranges: Mapping[str, Range]) -> None:
    if not study.get_trials(deepcopy=False):
        starts = {path: x.start for path, x in ranges.items()}
        study.enqueue_trial(starts, user_attrs={FIRST: True})
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    history = study.get_trials(deepcopy=False)
    for trial in history:
        values = _values(trial)
        later = any(x.number > trial.number and _values(x) == values for x in history)
        whole = set(values) == set(ranges)  # else the same draw comes again by itself
        if trial.state == TrialState.FAIL and not _has_ended(trial) and whole and not later:
            first = {FIRST: True} if FIRST in trial.user_attrs else {}
            study.enqueue_trial(values, user_attrs={TRIED: _tries(trial) + 1, **first})


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that need not be tried again, in their order."""
    return [x for x in study.get_trials(deepcopy=False) if _has_ended(x)]


def _has_ended(trial: FrozenTrial) -> bool:
    """Whether it was scored, failed by an error, or was given up; the first never is."""
    if trial.state != TrialState.FAIL:
        return trial.state == TrialState.COMPLETE
    given_up = _tries(trial) >= TRIES and FIRST not in trial.user_attrs
    return ERROR in trial.user_attrs or given_up


def _tries(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(TRIED, 1))


def _values(trial: FrozenTrial) -> dict[str, Any]:
    """Values that a trial has, or waits with."""
    return dict(trial.system_attrs.get("fixed_params", trial.params))


def _claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Begin a study, or check that the one in ``folder`` is the same search of the same data.

    Before the first trial only E_C and E_U must fit: they depend on catalogue and settings.
    """
    path, begun = folder / "study.json", (folder / FILE).exists()
    remedy = "choose another folder"
    if begun and not path.exists():
        raise ArtifactError(f"{path} is missing beside {FILE}; {remedy}")
    if path.exists():
        recorded = read_json(path, version=FORMAT, hint=remedy)
        expected = json.loads(json.dumps(about))
        for key in expected if begun else ("catalogue", "settings"):
            if recorded.get(key) != expected[key]:
                difference = _difference(key, recorded.get(key), expected[key])
                raise ArtifactError(
                    f"{folder} holds a study of {difference}; {remedy}, or delete it to begin anew"
                )
    if not begun:
        write_json(path, {"format": FORMAT, **about})


def _difference(key: str, recorded: Any, expected: Any) -> str:
    """Return how a study differs from the search that is wanted."""
    if key == "catalogue":
        return "another catalogue, or of this one before it changed"
    if key == "settings":
        return f"other settings: {first_difference(recorded or {}, expected)}"
    if key == "searched":
        return f"other settings to search: {', '.join(recorded or [])}"
    return f"another {key}: {recorded!r}, not {expected!r}"


def paired_error(
    first: NDArray[np.float64] | None, second: NDArray[np.float64] | None
) -> float | None:
    """Return the standard error of the mean difference on the same queries, (q,) each.

    None where a trial does not report its queries, or there is only one.
    """
    if first is None or second is None or len(first) < 2:
        return None
    return float(np.std(second - first, ddof=1) / math.sqrt(len(first)))


def write(tuned: Tuned, folder: Path, *, about: Mapping[str, Any]) -> None:
    """Write best.toml, trials.csv and study.json; ``about`` is what study.json begins with."""
    with replacing(folder / "best.toml") as temporary:
        temporary.write_text(to_toml(tuned), encoding="utf-8")
    rows = [
        {"trial": x.number, "score": x.score, "seconds": round(x.seconds, 3), **x.values}
        | {"error": x.error}
        for x in tuned.trials
    ]
    with replacing(folder / "trials.csv") as temporary:
        write_csv(pl.LazyFrame(rows, infer_schema_length=None), temporary)
    results = {
        "trials": [asdict(x) for x in tuned.trials],
        "given": tuned.first.number,
        "best": tuned.best.number,
        "gain": tuned.gain,
        "queries": tuned.queries,
        "standard_error": tuned.standard_error,
        "confirmation": asdict(tuned.confirmation) if tuned.confirmation else None,
    }
    write_json(folder / "study.json", {"format": FORMAT, **about, "found": results})


def to_toml(tuned: Tuned) -> str:
    """Return the best settings as the file that `undersong train --settings` reads.

    It holds whatever differs from the built-in defaults, so it needs no other file beside it;
    a comment marks what the search changed.
    """
    default = flat(Settings())
    lines = [
        f"# {tuned.stage}: best of {len(tuned.trials)} trials, validation NDCG@200 "
        f"{_score(tuned.best):.4f}; the given settings scored {_score(tuned.first):.4f}."
    ]
    table = ""
    for path, value in sorted(flat(tuned.settings).items(), key=lambda x: x[0].rpartition(".")):
        if value == default.get(path):
            continue
        before, _, name = path.rpartition(".")
        if before != table:
            lines += ["", f"[{before}]"]
            table = before
        note = f"  # was {_word(tuned.changes[path][0])}" if path in tuned.changes else ""
        lines.append(f"{name} = {_word(value)}{note}")
    return "\n".join(lines) + "\n"


def text(tuned: Tuned, *, catalogue: Path, folder: Path) -> str:
    """Return the results for the terminal."""
    failed = sum(x.score is None for x in tuned.trials)
    spent = sum(x.seconds for x in tuned.trials)
    items = f" of {tuned.queries} validation items" if tuned.queries else ""
    lines = [
        f"[{tuned.stage}] {len(tuned.trials)} trials, {failed} of them failed, {spent:.0f} s; "
        f"score: NDCG@200{items}",
        f"  given settings {_score(tuned.first):.4f}   (trial {tuned.first.number})",
    ]
    if not tuned.changes:
        return "\n".join([*lines, "No trial was better than the given settings: keep them."])
    lines += [
        f"  best           {_score(tuned.best):.4f}   (trial {tuned.best.number})",
        f"  difference     {tuned.gain:+.4f}   {_error(tuned)}",
    ]
    width = max(len(path) for path in tuned.changes)
    lines += [f"  {p:<{width}}  {_word(a)} -> {_word(b)}" for p, (a, b) in tuned.changes.items()]
    lines += _confirmed(tuned)
    lines.append(
        f"Mind: the best of {len(tuned.trials)} trials on one validation set is optimistic. Part "
        "of the difference is luck with these items and this seed, and the standard error does "
        "not know that the best was picked." + ("" if tuned.confirmation else " Try --confirm.")
    )
    lines.append(f"To use it: undersong train {catalogue} RUN --settings {folder / 'best.toml'}")
    return "\n".join(lines)


def _error(tuned: Tuned) -> str:
    if tuned.queries is None:
        return f"(no standard error: training of [{tuned.stage}] tells only its mean)"
    if tuned.standard_error is None:
        return "(no standard error: a single validation item asks)"
    return f"standard error {tuned.standard_error:.4f} over {tuned.queries} items, paired"


def _confirmed(tuned: Tuned) -> list[str]:
    again = tuned.confirmation
    if again is None:
        return []
    first, best = np.mean(again.given), np.mean(again.best)
    seeds = " and ".join(map(str, again.seeds))
    return [
        f"Trained again with seeds {seeds}, which the search never saw:",
        f"  given settings {first:.4f}   ({', '.join(f'{x:.4f}' for x in again.given)})",
        f"  best           {best:.4f}   ({', '.join(f'{x:.4f}' for x in again.best)})",
        f"  difference     {best - first:+.4f}   same validation items",
    ]


def _score(trial: Trial) -> float:
    return -math.inf if trial.score is None else trial.score


def _word(value: Any) -> str:
    """Write a setting as TOML: like JSON, but lists of words too are settings here."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
