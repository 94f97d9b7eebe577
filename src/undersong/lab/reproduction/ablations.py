"""What each part of GRM is worth: rows of changed settings, each beside the default."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from undersong import embeddings, relations, runs
from undersong.catalogue import Catalogue, Kind
from undersong.errors import SettingsError
from undersong.evaluation.method import Method, from_embeddings
from undersong.evaluation.scoring import Judged
from undersong.features import KNOWN_OF_EACH
from undersong.lab.reproduction import estimates, pooling
from undersong.lab.reproduction.datasets import DataSet
from undersong.lab.reproduction.estimates import Estimate
from undersong.lab.reproduction.experiment import Plan, open_folder, places
from undersong.lab.reproduction.methods import Place, make_general, train
from undersong.lab.reproduction.outcomes import ALL, COLD, LONG_TAIL, Results
from undersong.lab.reproduction.plan import Piece, carry_out
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Changes = Mapping[str, Any]
GENERAL, CONTENT_POOLING, HUBS = "general", "pooling", "hubs"


@dataclass(frozen=True)
class Ablation:
    """One row.

    Parameters
    ----------
    name : as tables print it
    choices : changed settings of GRM by dotted path; of several the one that validates best counts
    without : sources that GRM does not read
    way : "general" trains GRM again, "pooling" another way from tracks to artists on the same E_C,
        "hubs" scores the default GRM otherwise
    beside : the row that differences are taken to
    """

    name: str
    choices: tuple[Changes, ...] = ({},)
    without: tuple[str, ...] = ()
    way: str = GENERAL
    beside: str = "GRM"

    @property
    def tries(self) -> tuple[str, ...]:
        """Names of what is trained for this row, one a choice."""
        many = len(self.choices) > 1
        return tuple(
            f"{self.name} {number}" if many else self.name
            for number, _ in enumerate(self.choices, start=1)
        )


DEFAULT = Ablation("GRM")
MEAN = "mean of 5"
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

# The equal budget: six settings for every loss, around what its own papers recommend.
KNOWN = "loss.known"
LOSSES: Mapping[str, tuple[Changes, ...]] = {
    "multi-similarity": tuple(
        {f"{KNOWN}.alpha": alpha, f"{KNOWN}.beta": beta, f"{KNOWN}.gamma": gamma}
        for alpha, beta, gamma in (
            (2.0, 12.0, 0.8),
            (2.0, 12.0, 0.6),
            (2.0, 20.0, 0.5),
            (4.0, 15.0, 0.3),
            (1.0, 12.0, 0.6),
            (2.0, 50.0, 0.5),
        )
    ),
    "contrastive": tuple(
        {"loss.form": "contrastive", "loss.margin": x} for x in (-0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
    ),
    "triplet": tuple(
        {"loss.form": "triplet", "loss.margin": x} for x in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
    ),
    "InfoNCE": tuple(
        {"loss.form": "info-nce", "loss.temperature": x} for x in (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
    ),
}


def ablations_of(catalogue: Catalogue, kind: Kind) -> tuple[Ablation, ...]:
    """List every row that a catalogue allows; ``DEFAULT`` comes first."""
    return tuple(_rows(catalogue, kind))


def _rows(catalogue: Catalogue, kind: Kind) -> Iterator[Ablation]:
    yield DEFAULT
    for value in LAMBDAS:
        yield Ablation(f"lambda {value:g}", ({"loss.prior_weight": value},))
    yield Ablation("equation 2 as printed", ({"loss.form": "as printed"},))
    yield Ablation("no mining", ({f"{KNOWN}.margin": -1.0},))
    for name, choices in LOSSES.items():
        yield Ablation(f"{name}, best of 6", choices)
    for source in sources_in(catalogue, kind):
        yield Ablation(f"without {source}", without=(source,))
    shown = {"hide_source": 0.0, "hide_interaction": 0.0}
    yield Ablation("no modality dropout", (shown,))
    yield Ablation("no feature crossing", ({"crossing": False},))
    yield Ablation("no third layer", ({"weigh_fields": False},))
    yield Ablation("no linear skip", ({"skip": False},))
    yield Ablation("long tail as negatives", ({"tail_is_negative": True},))
    yield Ablation("graded prior", ({"graded": True},))
    yield Ablation("R_A alone, nothing at one remove", ({"indirect": 0},))
    yield Ablation("GRM, CSLS", way=HUBS)
    if kind == "artist" and len(catalogue.tracks) and sources_in(catalogue, kind)[0] == "content":
        yield Ablation(MEAN, way=CONTENT_POOLING, beside=MEAN)
        for name in ("attention", "1 prototype", *(f"{x} prototypes" for x in (2, 3, 4))):
            yield Ablation(name, way=CONTENT_POOLING, beside=MEAN)


def sources_in(catalogue: Catalogue, kind: Kind) -> tuple[str, ...]:
    """Name the sources that GRM may read: E_C, E_U and the fields that are not withheld."""
    heard = bool(catalogue.features) or catalogue.tracks["path"].count() > 0
    played = len(catalogue.played(kind).head(1).collect()) > 0
    learned = [x for x, there in zip(KNOWN_OF_EACH, (heard, played), strict=True) if there]
    return (*learned, *(x.name for x in catalogue.fields_of(kind) if not x.withheld))


def changed(settings: Settings, changes: Changes) -> Settings:
    """Change settings of GRM by their dotted paths, such as ``loss.known.alpha``.

    Raises
    ------
    SettingsError
        If there is no such setting, or it refuses the value.
    """
    general: Any = settings.general
    for path, value in changes.items():
        try:
            reduce(getattr, path.split("."), general)
            general = _replaced(general, path.split("."), value)
        except (AttributeError, ValueError) as error:
            raise SettingsError(f"[general] {path} = {value!r}: {error}") from error
    return replace(settings, general=general)


def _replaced(table: Any, names: Sequence[str], value: Any) -> Any:
    name, *rest = names
    inner = _replaced(getattr(table, name), rest, value) if rest else value
    return replace(cast("DataclassInstance", table), **{name: inner})


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
    asked = estimates.questions(place.catalogue, place.kind, parts=place.parts, part=place.part)
    method = _method(place, row, number, progress)
    estimates.write(estimates.ask(method, asked), place.answers(file), note=_note(row, number))
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
            {x.seed: estimates.read(x.answers(_file(row, number, name))) for x in made}
            for number, name in enumerate(row.tries)
        ]
        best = max(tried, key=_validates)
        found[row.name] = {seed: judged for seed, (judged, _) in best.items()}
        notes[row.name] = next(iter(best.values()))[1]
    asked = estimates.questions(first.catalogue, first.kind, parts=first.parts, part=first.part)
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
