"""What each part of GRM and CbRM is worth: rows of changed settings, each beside the default."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from undersong import embeddings
from undersong.catalogue import Catalogue, Kind
from undersong.evaluation.method import Method, from_embeddings
from undersong.features import KNOWN_OF_EACH
from undersong.lab.reproduction.datasets import (
    DataSet,
    ModelAnswers,
    ask,
    read_answers,
    write_answers,
)
from undersong.lab.reproduction.job_runner import Job
from undersong.lab.reproduction.methods import (
    SeedRun,
    learn_content,
    make_general,
    method_of,
    train,
    vectors_of,
)
from undersong.lab.reproduction.outcomes import ALL, COLD, LONG_TAIL, Estimate, Results
from undersong.lab.reproduction.plan import Plan, measure
from undersong.lab.reproduction.pooling import MEAN, POOLINGS, pooled, without_hubs
from undersong.progress import Progress, silent
from undersong.relations import LEARNED
from undersong.settings import with_changes

Changes = Mapping[str, Any]
GENERAL, CONTENT, CONTENT_POOLING, HUBS = "general", "content", "pooling", "hubs"
DEFAULT, CBRM = "GRM", "CbRM"
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Ablation:
    """One row.

    Parameters
    ----------
    name : as tables print it
    choices : changed settings by dotted path; of several the one that validates best counts
    without : sources that GRM does not read
    way : "general" trains GRM again, "content" CbRM, "pooling" another way from tracks to artists
        on the same E_C, "hubs" scores the default GRM otherwise
    """

    name: str
    choices: tuple[Changes, ...] = ({},)
    without: tuple[str, ...] = ()
    way: str = GENERAL

    @property
    def tries(self) -> tuple["Try", ...]:
        """What is trained for this row, one a choice."""
        numbers = range(1, len(self.choices) + 1)
        names = [f"{self.name} {x}" for x in numbers] if len(numbers) > 1 else [self.name]
        return tuple(Try(self, *x) for x in zip(names, self.choices, strict=True))


@dataclass(frozen=True)
class Try:
    """One choice of a row: how it is named, and what it changes."""

    row: Ablation
    name: str
    changes: Changes

    @property
    def file(self) -> str:
        """Name of its file; other changes under the same name have another file."""
        about = json.dumps([self.changes, self.row.without, self.row.way], sort_keys=True)
        return f"ablation {self.name} {hashlib.sha256(about.encode()).hexdigest()[:8]}"

    @property
    def note(self) -> str:
        """What it changes, for the reader of a table."""
        changes = [f"{path} = {value}" for path, value in self.changes.items()]
        return ", ".join([*changes, *(f"without {x}" for x in self.row.without)])


# The equal budget: six settings for every loss, around what its own papers recommend.
MULTI_SIMILARITY = (
    (2.0, 12.0, 0.8),
    (2.0, 12.0, 0.6),
    (2.0, 20.0, 0.5),
    (4.0, 15.0, 0.3),
    (1.0, 12.0, 0.6),
    (2.0, 50.0, 0.5),
)
KNOWN = "loss.known"


def _other_loss(form: str, name: str, values: Sequence[float]) -> tuple[Changes, ...]:
    return tuple({"loss.form": form, f"loss.{name}": x} for x in values)


LOSSES: Mapping[str, tuple[Changes, ...]] = {
    "multi-similarity": tuple(
        {f"{KNOWN}.alpha": alpha, f"{KNOWN}.beta": beta, f"{KNOWN}.gamma": gamma}
        for alpha, beta, gamma in MULTI_SIMILARITY
    ),
    "contrastive": _other_loss("contrastive", "margin", (-0.1, 0.0, 0.1, 0.2, 0.3, 0.5)),
    "triplet": _other_loss("triplet", "margin", (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)),
    "InfoNCE": _other_loss("info-nce", "temperature", (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)),
    "1.5-entmax": _other_loss("entmax", "temperature", (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)),
}


def ablations_of(catalogue: Catalogue, kind: Kind) -> tuple[Ablation, ...]:
    """List every row that a catalogue allows; the default comes first."""
    sources = sources_in(catalogue, kind)
    rows = [
        Ablation(DEFAULT),
        *(Ablation(f"lambda {x:g}", ({"loss.prior_weight": x},)) for x in LAMBDAS),
        Ablation("equation 2 as printed", ({"loss.form": "as printed"},)),
        Ablation("no mining", ({f"{KNOWN}.margin": -1.0},)),
        *(Ablation(f"{name}, best of 6", choices) for name, choices in LOSSES.items()),
        *(Ablation(f"without {source}", without=(source,)) for source in sources),
        Ablation("no modality dropout", ({"hide_source": 0.0, "hide_interaction": 0.0},)),
        Ablation("no feature crossing", ({"crossing": False},)),
        Ablation("fields crossed by inner products", ({"product": "inner"},)),
        Ablation("no third layer", ({"weigh_fields": False},)),
        Ablation("no linear skip", ({"skip": False},)),
        Ablation("long tail as negatives", ({"tail_is_negative": True},)),
        Ablation("graded prior", ({"graded": True},)),
        Ablation("R_A alone, nothing at one remove", ({"indirect": 0},)),
        Ablation("GRM, CSLS", way=HUBS),
    ]
    if catalogue.pairs(kind)["source"].n_unique() > 1:
        rows.append(Ablation("sources by learned reliability", ({"reliability": LEARNED},)))
    if catalogue.features:
        rows += _content_rows(catalogue, played="interaction" in sources)
    if kind == "artist" and len(catalogue.tracks) and sources[0] == "content":
        rows += [Ablation(name, way=CONTENT_POOLING) for name in (MEAN, *POOLINGS)]
    return tuple(rows)


def _content_rows(catalogue: Catalogue, *, played: bool) -> Iterator[Ablation]:
    """CbRM with other losses, and with other artists taken for similar."""
    on_tags: Changes = {"supervision": "tags"}
    rows: dict[str, tuple[Changes, ...]] = {
        f"{name}, best of 6": tuple(
            {path.removeprefix("loss."): value for path, value in choice.items()}
            for choice in LOSSES[name]
        )
        for name in ("triplet", "InfoNCE", "1.5-entmax")
    }
    if any(x.type != "number" and not x.withheld for x in catalogue.fields):
        rows["tags"] = (on_tags,)
        rows["tags, triplet, best of 6"] = tuple(
            {**choice, **on_tags} for choice in rows["triplet, best of 6"]
        )
    if played:
        rows["listening"] = ({"supervision": "listening"},)
    yield Ablation(CBRM, way=CONTENT)
    yield from (Ablation(f"{CBRM}, {x}", y, way=CONTENT) for x, y in rows.items())


def sources_in(catalogue: Catalogue, kind: Kind) -> tuple[str, ...]:
    """Name the sources that GRM may read: E_C, E_U and the fields that are not withheld."""
    heard = bool(catalogue.features) or catalogue.tracks["path"].count() > 0
    played = len(catalogue.played(kind).head(1).collect()) > 0
    learned = [x for x, there in zip(KNOWN_OF_EACH, (heard, played), strict=True) if there]
    return (*learned, *(x.name for x in catalogue.fields_of(kind) if not x.withheld))


def ablate(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Results, ...]:
    """Measure every row of each set; its results name a row as its model.

    Raises
    ------
    UndersongError
        As ``plan.measure`` does.
    """
    return measure(plan, sets, jobs_of=_jobs, read_answers=_read_answers, progress=progress)


def _jobs(seed_run: SeedRun) -> Iterator[Job]:
    yield seed_run.job("train", 14, seed_run.home / "run" / "current.json", train)
    for row in ablations_of(seed_run.task.catalogue, seed_run.task.kind):
        seconds = {GENERAL: 12, CONTENT: 1}.get(row.way, 2)
        for one in row.tries:
            work = partial(_answer, one=one)
            yield seed_run.job(one.name, seconds, seed_run.answers(one.file), work, "train")


def _answer(seed_run: SeedRun, progress: Progress, *, one: Try) -> None:
    """Train what a row tries, ask it, and leave the answers alone behind."""
    method = _method(seed_run, one, progress)
    method = replace(method, note=", ".join(x for x in (one.note, method.note) if x))
    write_answers(ask(method, seed_run.questions()), seed_run.answers(one.file))
    seed_run.vectors(one.file).unlink(missing_ok=True)


def _method(seed_run: SeedRun, one: Try, progress: Progress) -> Method:
    kind, ids = seed_run.task.kind, seed_run.task.ids
    default = from_embeddings(DEFAULT, seed_run.run.embeddings(kind, "judged"), ids)
    if one.row.way == HUBS:
        return without_hubs(default, len(ids))
    if one.row.way == CONTENT_POOLING:
        return pooled(seed_run, one.name, progress)
    if one.row.way == CONTENT:
        return _content_method(seed_run, one, progress)
    general, without = seed_run.settings.general, one.row.without
    settings = with_changes(general, one.changes, where="[general]")
    if settings == general and not without:
        return default
    path = seed_run.vectors(one.file)
    if not path.exists():
        make_general(seed_run, one.file, settings=settings, without=without, progress=progress)
    return from_embeddings(one.row.name, embeddings.read(path), ids)


def _content_method(seed_run: SeedRun, one: Try, progress: Progress) -> Method:
    """Compare by E_C of CbRM as one row trains it; the note says where nothing was gained."""
    ids, default = seed_run.task.ids, seed_run.settings.content
    settings = with_changes(default, one.changes, where="[content]")
    if settings == default:
        return method_of(seed_run, CBRM)
    content = learn_content(seed_run, settings=settings, progress=progress)
    learned = any(x.learned for x in content.choices.values())
    note = "" if learned else "no better than its start, which stays"
    return from_embeddings(one.row.name, vectors_of(content, seed_run), ids, note=note)


CHOOSING = "ndcg@200"  # cold, on the items that ask: the best of several tries is the best by it


def _read_answers(by_seed: Sequence[SeedRun]) -> dict[str, Mapping[int, ModelAnswers]]:
    """Read what every row answered: of several tries the one that validates best."""

    def validated(answers: Mapping[int, ModelAnswers]) -> float:
        scores = [x.pools[COLD].accuracy[CHOOSING] for x in answers.values()]
        return float(np.mean([np.nanmean(x) for x in scores]))

    best: dict[str, Mapping[int, ModelAnswers]] = {}
    for row in ablations_of(by_seed[0].task.catalogue, by_seed[0].task.kind):
        tried = [{x.seed: read_answers(x.answers(one.file)) for x in by_seed} for one in row.tries]
        best[row.name] = max(tried, key=validated)
    return best


COLUMNS = (
    ("cold NDCG@200", "ndcg@200", ALL),
    ("cold NDCG@10", "ndcg@10", ALL),
    ("withheld tail", "withheld_consistent@10", LONG_TAIL),
)


@dataclass(frozen=True)
class Row:
    """One ablation: its numbers by column, and how far each is above the row beside it."""

    name: str
    numbers: tuple[Estimate | None, ...]
    differences: tuple[Estimate | None, ...]
    beside: str
    note: str

    @property
    def differs(self) -> bool:
        """Whether the interval of any difference leaves out 0."""
        return any(x is not None and (x.above_0 or x.below_0) for x in self.differences)


def rows_of(results: Results) -> tuple[Row, ...]:
    """Return each row with its differences: to the default, or of a pooling to the mean."""
    rows = []
    for name in results.answers:
        beside = MEAN if name in (MEAN, *POOLINGS) else CBRM if name.startswith(CBRM) else DEFAULT
        numbers = (results.number(name, x, pool=COLD, of=of) for _, x, of in COLUMNS)
        differences = (
            None if name == beside else results.difference(name, beside, x, pool=COLD, of=of)
            for _, x, of in COLUMNS
        )
        note = results.notes[name]
        rows.append(Row(name, tuple(numbers), tuple(differences), beside, note))
    return tuple(rows)
