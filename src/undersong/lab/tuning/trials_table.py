"""Results of a search: as a settings file, as tables, and as text that does not oversell it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.io.files import replacing, write_json
from undersong.io.table_files import write_csv
from undersong.lab.tuning.trials import flat
from undersong.pipeline.run_settings import Settings

FORMAT = 1


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
