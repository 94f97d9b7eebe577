"""One trial of a search: train one stage with some settings, and let validation judge it.

Stages before the tuned one are trained once for all, so a trial costs the tuned stage alone.

What `undersong tune` searches are settings by their dotted paths, and a range for each.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from undersong import embeddings, features, relations
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, SettingsError, nearest_known
from undersong.features import AUDIO, read_sources
from undersong.io.files import read_json, write_json
from undersong.metrics import cold_ndcg
from undersong.models.content.inputs import choose_sources
from undersong.models.content.training import embed_content
from undersong.models.general.training import embed, train_general
from undersong.models.interaction import embed_interaction
from undersong.pipeline.learn import find_device, learn_sources, task_of
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress
from undersong.relations import Task
from undersong.settings import as_recorded, with_changes
from undersong.training import Compute, History

FORMAT = 1
REMEDY = "delete it to train it again"


@dataclass(frozen=True)
class TrialScore:
    """How well validation is answered, NDCG@200, and by query, (q,), where a stage reports it."""

    score: float
    queries: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Bench:
    """Where one stage is tried: its data, ready to train on.

    Parameters
    ----------
    most : values of settings, by path, beyond which the data leaves nothing to change
    idle : paths that change nothing here, such as the noise on vectors where audio is heard
    judge : trains the stage with some settings and a seed, and scores it
    """

    most: Mapping[str, int]
    idle: frozenset[str]
    judge: Callable[[Settings, int], TrialScore]


MakeCompute = Callable[[Settings, int], Compute]


def prepare(
    stage: str, catalogue: Catalogue, settings: Settings, *, folder: Path, progress: Progress
) -> Bench:
    """Read what a stage learns from, and train what stands before it, unless ``folder`` has it.

    The split is that of ``settings``, whatever seed a trial trains with.

    Raises
    ------
    DataError
        If the catalogue has nothing that the stage could learn from or be judged by.
    """
    kind = cast(Kind, "artist" if stage == "content" else settings.run.kind)
    task = task_of(catalogue, kind, settings)

    def compute(changed: Settings, seed: int) -> Compute:
        device, work = find_device(changed.run.device), _work(folder, changed, seed)
        return Compute(seed, device, work, progress)

    if stage == "content":
        return _content(task, settings, compute)
    if stage == "interaction":
        return _interaction(task, compute)
    return _general(task, _embeddings(catalogue, settings, folder, progress), compute)


def _general(
    task: Task, known: Mapping[tuple[Kind, str], Embeddings], compute: MakeCompute
) -> Bench:
    train = task.within("train")
    encoders = features.fit(task.catalogue, task.kind, train)
    sources = read_sources(task.catalogue, task.kind, encoders, known)
    queries, truth = task.held_out
    linked = task.related("train").getnnz(axis=1) > 0

    def judge(changed: Settings, seed: int) -> TrialScore:
        how = compute(changed, seed)
        model, history = train_general(task, sources, settings=changed.general, compute=how)
        vectors = embed(model, sources, device=how.device)
        each = [cold_ndcg(vectors, queries[x : x + 1], truth) for x in range(len(queries))]
        return TrialScore(history.best_score, np.array(each))

    most = {
        "general.anchors": int(linked.sum()),
        "general.tail": int((train & ~linked).sum()),
    }
    return Bench(most, frozenset(), judge)


def _content(task: Task, settings: Settings, compute: MakeCompute) -> Bench:
    sources = choose_sources(task.catalogue, settings.content)
    if not sources:
        raise DataError(
            "there is no content to tune: the catalogue has neither feature vectors nor audio "
            "files, or `input` under [content] is 'none'"
        )

    def judge(changed: Settings, seed: int) -> TrialScore:
        learned = embed_content(task, settings=changed.content, compute=compute(changed, seed))
        if learned is None:
            raise DataError(
                f"the audio and features of {', '.join(sources)} are gone; import them again"
            )
        histories = list(learned.outcomes.values())
        return TrialScore(sum(_score(x, "content") for x in histories) / len(histories))

    idle = {"content.mask"} if AUDIO not in sources else set[str]()
    idle |= {"content.noise"} if sources == (AUDIO,) else set()
    return Bench({}, frozenset(idle), judge)


def _interaction(task: Task, compute: MakeCompute) -> Bench:
    played = int((relations.listeners(task.catalogue, task.kind).getnnz(axis=0) > 0).sum())

    def judge(changed: Settings, seed: int) -> TrialScore:
        how = compute(changed, seed)
        learned = embed_interaction(task, settings=changed.interaction, compute=how)
        if learned is None:
            raise DataError(f"too few {task.kind}s or users with plays to tune on; add [[plays]]")
        return TrialScore(_score(learned.outcome, "interaction"))

    most = {"interaction.batch": played, "interaction.width": played - 1}
    return Bench(most, frozenset(), judge)


def _score(outcome: History, stage: str) -> float:
    if not outcome.scores:
        raise DataError(
            f"nothing judges [{stage}]: no item to learn from, or no validation item with a "
            "known relation; give more plays or relations"
        )
    return outcome.best_score


def _embeddings(
    catalogue: Catalogue, settings: Settings, folder: Path, progress: Progress
) -> dict[tuple[Kind, str], Embeddings]:
    """E_C and E_U, trained once; ``kept.json`` comes last and says that they are whole."""
    home = folder / "embeddings"
    if not (home / "kept.json").exists():
        work = folder / "work" / "before"
        device = find_device(settings.run.device)
        compute = Compute(settings.run.seed, device, work, progress)
        known = learn_sources(catalogue, settings, compute)
        for (kind, name), learned in known.embeddings.items():
            learned.write(home / f"{kind}.{name}.parquet")
        names = sorted([kind, name] for kind, name in known.embeddings)
        write_json(home / "kept.json", {"format": FORMAT, "embeddings": names})
        shutil.rmtree(work, ignore_errors=True)
    names = read_json(home / "kept.json", version=FORMAT, hint=REMEDY)["embeddings"]
    return {(kind, name): embeddings.read(home / f"{kind}.{name}.parquet") for kind, name in names}


def _work(folder: Path, settings: Settings, seed: int) -> Path:
    """Return the folder of checkpoints; those of another trial go, extracted audio stays.

    A checkpoint does not know every setting that led to it, so it is taken up only by the trial
    that was cut short.
    """
    work = folder / "work" / "trial"
    about = {"format": FORMAT, "settings": as_recorded(settings), "seed": seed}
    started = work / "started.json"
    try:
        if read_json(started, version=FORMAT, hint=REMEDY) == about:
            return work
    except ArtifactError:
        pass  # the first trial, or one of another version: begin anew
    for checkpoint in work.glob("*.safetensors"):
        checkpoint.unlink()
    write_json(started, about)
    return work


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
    return dict(_leaves(as_recorded(settings), ""))


def _leaves(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
