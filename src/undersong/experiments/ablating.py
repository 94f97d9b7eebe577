"""Train and ask every ablation of a data set, each once, and compare it with the default."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from undersong import embeddings, relations, runs
from undersong.evaluation.judging import Judged
from undersong.evaluation.methods import Method, from_embeddings
from undersong.experiments import answers, pooling
from undersong.experiments.ablations import (
    CONTENT_POOLING,
    GENERAL,
    HUBS,
    MEAN,
    Ablation,
    ablations_of,
    changed,
)
from undersong.experiments.estimates import Estimate
from undersong.experiments.models import Place, make_general, train
from undersong.experiments.plan import Piece, carry_out
from undersong.experiments.reproduction import Plan, open_folder, places
from undersong.experiments.results import ALL, COLD, LONG_TAIL, Results
from undersong.experiments.sets import DataSet
from undersong.progress import Progress, silent

CHOOSING = "ndcg@200"  # cold, on the items that ask: the best of several tries is the best by it
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


@dataclass(frozen=True)
class Ablated:
    """All rows of one data set, and its answers."""

    results: Results
    rows: tuple[Row, ...]


def ablate(
    plan: Plan, sets: Sequence[DataSet], *, progress: Progress = silent
) -> tuple[Ablated, ...]:
    """Train and ask what is not there yet, and compare each row with the default.

    Raises
    ------
    UndersongError
        As ``reproduction.reproduce`` does.
    """
    open_folder(plan, sets)
    whole = [(x, places(plan, x)) for x in sets]
    pieces = [
        piece for data_set, made in whole for place in made for piece in _pieces(data_set, place)
    ]
    carry_out(pieces, progress=progress, processes=plan.processes)
    return tuple(_gather(plan, data_set, made) for data_set, made in whole)


def _pieces(data_set: DataSet, place: Place) -> Iterator[Piece]:
    """Everything that the rows of one seed need, in order."""
    seed = f"{data_set.name}, seed {place.seed}"
    work = len(place.parts) / 1000
    current = place.home / "run" / "current.json"
    trained = f"{seed}: train"
    yield Piece(trained, 14 * work, current.exists, partial(_train, place))
    for row in ablations_of(place.catalogue, place.kind):
        for number, name in enumerate(row.tries):
            yield Piece(
                f"{seed}: {name}",
                (12 if row.way == GENERAL else 2) * work,
                place.answers(_file(row, number, name)).exists,
                partial(_make, place, row, number),
                (trained,),
            )


def _train(place: Place, progress: Progress) -> None:
    train(place, progress=progress)


def _make(place: Place, row: Ablation, number: int, progress: Progress) -> None:
    """Train what a row tries, ask it, and keep the answers alone."""
    file = _file(row, number, row.tries[number])
    asked = answers.questions(place.catalogue, place.kind, parts=place.parts, part=place.part)
    method = _method(place, row, number, progress)
    answers.write(answers.ask(method, asked), place.answers(file), note=_note(row, number))
    place.vectors(file).unlink(missing_ok=True)


def _method(place: Place, row: Ablation, number: int, progress: Progress) -> Method:
    run = runs.read(place.home / "run")
    ids = place.catalogue.ids(place.kind)
    default = from_embeddings("GRM", run.embeddings(place.kind, "judged"), ids)
    if row.way == HUBS:
        return pooling.without_hubs(default, len(ids))
    if row.way == CONTENT_POOLING:
        return _pooled(place, row.name, run, progress)
    settings = changed(place.settings, row.choices[number]).general
    if settings == place.settings.general and not row.without:
        return default
    file = _file(row, number, row.tries[number])
    if not place.vectors(file).exists():
        make_general(place, file, run, settings=settings, without=row.without, progress=progress)
    return from_embeddings(row.name, embeddings.read(place.vectors(file)), ids)


def _pooled(place: Place, name: str, run: runs.Run, progress: Progress) -> Method:
    """Artists by another way of pooling E_C of their tracks."""
    catalogue, seed = place.catalogue, place.seed
    tracks, artists = (run.embeddings(x, "content") for x in ("track", "artist"))
    bags = pooling.bags_of(catalogue, tracks=tracks, artists=artists)
    if name == MEAN:
        return pooling.mean_pooling(bags, top=place.settings.content.top)
    if name == "attention":
        queries, truth = relations.held_out(catalogue, "artist", place.parts)
        known = relations.known(catalogue, "artist", place.parts == "train")
        return pooling.attention_pooling(
            bags,
            known,
            queries=queries,
            truth=truth,
            seed=seed,
            schedule=pooling.SCHEDULE,
            progress=progress,
        )
    return pooling.prototypes(bags, count=int(name.split()[0]), seed=seed)


def _gather(plan: Plan, data_set: DataSet, made: Sequence[Place]) -> Ablated:
    """Read what every row answered, and take differences."""
    first = made[0]
    rows = ablations_of(first.catalogue, first.kind)
    found: dict[str, dict[int, Mapping[str, Judged]]] = {}
    notes: dict[str, str] = {}
    for row in rows:
        tried = [
            {x.seed: answers.read(x.answers(_file(row, number, name))) for x in made}
            for number, name in enumerate(row.tries)
        ]
        best = max(tried, key=_validates)
        found[row.name] = {seed: judged for seed, (judged, _) in best.items()}
        notes[row.name] = next(iter(best.values()))[1]
    asked = answers.questions(first.catalogue, first.kind, parts=first.parts, part=first.part)
    results = Results(
        data_set=data_set,
        kind=first.kind,
        part=plan.part,
        seeds=tuple(x.seed for x in made),
        items=len(first.parts),
        asked=asked,
        answers=found,
        notes=notes,
    )
    return Ablated(results, tuple(_row(results, row) for row in rows))


def _row(results: Results, row: Ablation) -> Row:
    numbers = [results.number(row.name, x, pool=COLD, of=of) for _, x, of in COLUMNS]
    apart = [
        results.difference(row.name, row.beside, x, pool=COLD, of=of)
        if row.name != row.beside
        else None
        for _, x, of in COLUMNS
    ]
    note = results.notes[row.name]
    return Row(row.name, tuple(numbers), tuple(apart), row.beside, note)


def _validates(tried: Mapping[int, tuple[Mapping[str, Judged], str]]) -> float:
    """Mean over seeds by which the best of several tries is chosen."""
    return float(
        np.mean([np.nanmean(judged[COLD].accuracy[CHOOSING]) for judged, _ in tried.values()])
    )


def _note(row: Ablation, number: int) -> str:
    """Say what was changed."""
    said = [f"{path} = {value}" for path, value in row.choices[number].items()]
    return ", ".join([*said, *(f"without {x}" for x in row.without)])


def _file(row: Ablation, number: int, name: str) -> str:
    """Name the file of one try, so that other changes under the same name have another file."""
    about = json.dumps([row.choices[number], row.without, row.way], sort_keys=True)
    return f"ablation {name} {hashlib.sha256(about.encode()).hexdigest()[:8]}"
