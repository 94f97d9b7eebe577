"""One trial of a search: train one stage with some settings, and let validation judge it.

Stages before the tuned one are trained once for all, so a trial costs the tuned stage alone.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from undersong import embeddings, features, relations
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError
from undersong.features import AUDIO, read_sources
from undersong.io.files import read_json, write_json
from undersong.metrics import cold_ndcg
from undersong.models.content.inputs import choose_sources
from undersong.models.content.training import embed_content
from undersong.models.general import embed, train_general
from undersong.models.interaction.training import embed_interaction
from undersong.pipeline.learn import find_device, learn_sources, task_of
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress
from undersong.training import Compute, History, Task

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
    about = {"format": FORMAT, "settings": asdict(settings), "seed": seed}
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
