"""From a catalogue to a published run: content, interaction, general, in this order (figure 2)."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from undersong import evidence_file, inputs, relations, runs
from undersong import settings as settings_file
from undersong.additions import drift
from undersong.additions import known as known_file
from undersong.audio.extract import write_failures
from undersong.catalogue import splits, tables
from undersong.catalogue.about import words_about
from undersong.catalogue.splits import SplitSettings
from undersong.catalogue.tables import Catalogue, Kind
from undersong.cluster import workers
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, SettingsError
from undersong.explaining import writing as reasons
from undersong.files import read_json, replacing, write_json
from undersong.inputs import Encoder, Source
from undersong.models.content import ContentSettings
from undersong.models.general import GeneralModel, GeneralSettings
from undersong.models.interaction import InteractionSettings
from undersong.models.ranking import RankingSettings
from undersong.progress import Progress, silent
from undersong.retrieval import facts
from undersong.runs import Run
from undersong.stages import content, general, interaction, ranking
from undersong.stages.reading import CONTENT, INTERACTION, read_items, read_sources
from undersong.stages.rehearsal import rehearse
from undersong.training import Outcome

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1


@dataclass(frozen=True)
class RunSettings:
    """What a run is about.

    Parameters
    ----------
    kind : "artist" or "track"
        Items whose relations train GRM. With "artist", tracks are embedded too, by the same
        model, each as an artist of one track.
    seed : of splits, initial weights, batches and dropout
    device : "auto", "cpu", "cuda", "cuda:1", ...
    refit : whether the published E_G learns from all relations, once all is chosen and judged
        Evaluation judges the E_G that never saw relations of validation and test items.
    """

    kind: str = "artist"
    seed: int = 0
    device: str = "auto"
    refit: bool = True

    def __post_init__(self) -> None:
        if self.kind not in tables.KINDS:
            raise ValueError(f"kind {self.kind!r} must be 'artist' or 'track'")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be 0 or more")


@dataclass(frozen=True)
class Settings:
    """All settings of a training run, one table of the TOML file each."""

    run: RunSettings = field(default=RunSettings())
    split: SplitSettings = field(default=SplitSettings())
    content: ContentSettings = field(default=ContentSettings())
    interaction: InteractionSettings = field(default=InteractionSettings())
    general: GeneralSettings = field(default=GeneralSettings())
    ranking: RankingSettings = field(default=RankingSettings())


STAGES: Mapping[str, type["DataclassInstance"]] = {
    "run": RunSettings,
    "split": SplitSettings,
    "content": ContentSettings,
    "interaction": InteractionSettings,
    "general": GeneralSettings,
    "ranking": RankingSettings,
}


@dataclass(frozen=True)
class LearnedSources:
    """What is learned before GRM and read by it: E_C and E_U, and the split they keep to."""

    parts: NDArray[np.str_]
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    content: content.Content | None
    outcomes: Mapping[str, Outcome]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Learned:
    """All that training leaves, before it is written."""

    kind: Kind
    parts: NDArray[np.str_]
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    encoders: tuple[Encoder, ...]
    coverage: Mapping[str, float]
    sources: tuple[Source, ...]
    model: GeneralModel
    ranking: ranking.Fitted | None
    content: content.Content | None
    outcomes: Mapping[str, Outcome]
    seconds: Mapping[str, float]


def read_settings(path: Path | None) -> Settings:
    """Read a settings file; without one, the defaults.

    Raises
    ------
    SettingsError
        For a mistake in the file, with its place and the nearest known word.
    """
    return Settings(**cast(dict[str, Any], settings_file.read(path, STAGES)))


def train_run(
    catalogue_folder: Path,
    folder: Path,
    *,
    settings: Settings,
    fresh: bool = False,
    progress: Progress = silent,
) -> tuple[Run, bool]:
    """Train every stage on a catalogue and publish the run; say whether anything was to do.

    A run of the same catalogue and settings is left as it is unless ``fresh``. An interrupted
    one goes on from its last checkpoint. Where several processes train together all call this, with
    a folder that they share; the first one writes.

    Raises
    ------
    UndersongError
        For a catalogue that cannot be trained on; whatever was published before stays.
    """
    catalogue = tables.read(catalogue_folder)
    about: dict[str, Any] = {
        "settings": asdict(settings),
        "catalogue": tables.fingerprint(catalogue_folder),
        "catalogue_folder": str(catalogue_folder.resolve()),
    }
    found = None if fresh else _published(folder, about)
    if workers.agreed(found is not None):
        return found or runs.read(folder), False
    first = workers.number() == 0
    work = _resume_or_start(folder, about, fresh=fresh) if first else folder / "work"
    workers.agreed(0)  # nobody looks for checkpoints before the folder is ready
    learned = learn(catalogue, settings, work=work, progress=progress if first else silent)
    if not first:
        workers.agreed(0)
        return runs.read(folder), True
    about |= {
        "kind": learned.kind,
        "sources": dict(learned.coverage),
        "failed_files": len(learned.content.failed) if learned.content else 0,
        "training": {name: asdict(outcome) for name, outcome in learned.outcomes.items()},
        "seconds": dict(learned.seconds),
        "ranking": _about_ranking(learned.ranking),
    }
    studied = _studied(learned, catalogue, settings)
    about["held_out"] = _held_out(learned, catalogue, studied)
    with runs.publishing(folder, about) as home:
        _write(learned, catalogue, home)
        known_file.write(home / known_file.FILE, catalogue, studied)
    shutil.rmtree(work)
    workers.agreed(0)
    return runs.read(folder), True


def learn(
    catalogue: Catalogue, settings: Settings, *, work: Path, progress: Progress = silent
) -> Learned:
    """Train CbRM, UiRM and GRM, learn to rank, refit, and embed every item.

    ``work`` keeps the checkpoints. The embedding "judged" is E_G as evaluation may see it, without
    any relation of validation and test items; "general" is the E_G that answers.
    """
    kind = cast(Kind, settings.run.kind)
    device = find_device(settings.run.device)
    known = learn_sources(catalogue, settings, work=work, progress=progress)
    clock = _Clock(dict(known.seconds))
    encoders = inputs.fit(catalogue, kind, known.parts == "train")
    sources = read_sources(catalogue, kind, encoders, known.embeddings)

    def fit(parts: NDArray[np.str_], folder: Path, stage: str) -> tuple[GeneralModel, Outcome]:
        return general.train_general(
            catalogue,
            kind,
            parts,
            sources,
            settings=settings.general,
            seed=settings.run.seed,
            device=device,
            work=folder,
            stage=stage,
            progress=progress,
        )

    model, outcome = fit(known.parts, work, "GRM")
    judged = _embed_items(catalogue, kind, sources, model, device=device)
    clock.stop("general")
    ranked = rehearse(
        catalogue,
        kind,
        known.parts,
        encoders=encoders,
        embeddings=known.embeddings,
        judged=judged.align(catalogue.ids(kind))[0],
        content_settings=settings.content,
        general_settings=settings.general,
        settings=settings.ranking,
        seed=settings.run.seed,
        device=device,
        work=work,
        progress=progress,
    )
    clock.stop("ranking")
    if settings.run.refit:
        model, _ = fit(np.full_like(known.parts, "train"), work / "refit", "GRM, refit")
    embeddings = {**known.embeddings, (kind, "judged"): judged}
    embeddings |= _general_embeddings(
        catalogue, kind, encoders, embeddings=known.embeddings, model=model, device=device
    )
    clock.stop("refit")
    return Learned(
        kind=kind,
        parts=known.parts,
        embeddings=embeddings,
        encoders=encoders,
        coverage={x.name: 1 - float(x.missing.mean()) for x in sources},
        sources=sources,
        model=model,
        ranking=ranked,
        content=known.content,
        outcomes={
            **known.outcomes,
            "general": outcome,
            **({"ranking": ranked.outcome} if ranked else {}),
        },
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds that each stage took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.started = time.monotonic()

    def stop(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage], self.started = now - self.started, now


def learn_sources(
    catalogue: Catalogue, settings: Settings, *, work: Path, progress: Progress = silent
) -> LearnedSources:
    """Split the items, and train what stands before GRM: CbRM and UiRM."""
    kind = cast(Kind, settings.run.kind)
    seed, device = settings.run.seed, find_device(settings.run.device)
    parts = splits.split(catalogue, kind, settings.split, seed=seed)
    general.check_related(catalogue, kind, parts)  # before CbRM has spent its minutes
    artist_parts = (
        parts if kind == "artist" else splits.split(catalogue, "artist", settings.split, seed=seed)
    )
    started = time.monotonic()
    heard = content.embed_content(
        catalogue,
        artist_parts,
        settings=settings.content,
        seed=seed,
        device=device,
        work=work,
        progress=progress,
    )
    seconds = {CONTENT: time.monotonic() - started}
    played = interaction.embed_interaction(
        catalogue,
        kind,
        parts,
        settings=settings.interaction,
        seed=seed,
        device=device,
        work=work,
        progress=progress,
    )
    seconds[INTERACTION] = time.monotonic() - started - seconds[CONTENT]
    embeddings: dict[tuple[Kind, str], Embeddings] = {}
    if heard:
        embeddings |= {("artist", CONTENT): heard.artists, ("track", CONTENT): heard.tracks}
    if played:
        embeddings[(kind, INTERACTION)] = played.embeddings
    outcomes = {
        name: result.outcome for name, result in ((CONTENT, heard), (INTERACTION, played)) if result
    }
    return LearnedSources(parts, embeddings, heard, outcomes, seconds)


def find_device(asked: str) -> str:
    """Choose the device: what is asked for, or with "auto" a GPU if there is one.

    Raises
    ------
    SettingsError
        If PyTorch does not know the device or has none of it.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {asked!r} cannot be used ({reason}); try 'cpu'") from error
    return asked


def _general_embeddings(
    catalogue: Catalogue,
    kind: Kind,
    encoders: tuple[Encoder, ...],
    *,
    embeddings: Mapping[tuple[Kind, str], Embeddings],
    model: GeneralModel,
    device: str,
) -> dict[tuple[Kind, str], Embeddings]:
    """E_G of every item about which anything is known; of an artist run also of its tracks."""
    kinds: tuple[Kind, ...] = ("track",) if kind == "track" else ("artist", "track")
    found: dict[tuple[Kind, str], Embeddings] = {}
    for one in kinds:
        if not len(catalogue.items(one)):
            continue
        sources = read_sources(catalogue, one, encoders, embeddings)
        found[(one, "general")] = _embed_items(catalogue, one, sources, model, device=device)
    return found


def _embed_items(
    catalogue: Catalogue,
    kind: Kind,
    sources: tuple[Source, ...],
    model: GeneralModel,
    *,
    device: str,
) -> Embeddings:
    """E_G of every item of which any source says something."""
    vectors = general.embed(model, sources, device=device)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(x for x, kept in zip(catalogue.ids(kind), known, strict=True) if kept)
    return Embeddings(ids, vectors[known])


def _write(learned: Learned, catalogue: Catalogue, home: Path) -> None:
    for (kind, name), embeddings in learned.embeddings.items():
        embeddings.write(home / "embeddings" / f"{kind}.{name}.parquet")
    general.save(learned.model, home / "weights" / "general.safetensors")
    if learned.content:
        content.save_content(learned.content.model, home / "weights" / "content.safetensors")
        if len(learned.content.failed):
            write_failures(home / "failures.csv", learned.content.failed)
    if learned.ranking:
        ranking.save(learned.ranking, home / "weights" / "ranking.safetensors")
        known = relations.known(catalogue, learned.kind)
        ids = learned.embeddings[(learned.kind, "general")].ids
        embedded = np.isin(catalogue.ids(learned.kind), ids)
        rows = np.flatnonzero(embedded | (known.getnnz(axis=1) > 0))
        sources = inputs.rows_of(learned.sources, rows)
        evidence_file.write(home / "evidence.safetensors", sources, known[rows][:, rows].tocsr())
    encoders = inputs.to_json(learned.encoders)
    write_json(home / "encoders.json", {"format": FORMAT, "encoders": encoders})
    items = [
        _items(catalogue, kind, learned.parts if kind == learned.kind else None)
        for kind in tables.KINDS
    ]
    with replacing(home / "items.parquet") as temporary:
        pl.concat(items).write_parquet(temporary)
    facts.write(home / facts.FILE, facts.make(catalogue))
    _write_reasons(learned, catalogue, home)


def _studied(
    learned: Learned, catalogue: Catalogue, settings: Settings
) -> dict[Kind, NDArray[np.bool_]]:
    """Say which artists, and which tracks, something was learned from before the refit."""
    whole = learned.kind == "artist"
    artists = (
        learned.parts
        if whole
        else splits.split(catalogue, "artist", settings.split, seed=settings.run.seed)
    )
    trained = set(np.array(catalogue.ids("artist"), dtype=object)[artists == "train"])
    tracks = np.array([x in trained for x in catalogue.tracks["artist"]], dtype=bool)
    return {
        "artist": artists == "train",
        "track": tracks | (not whole and learned.parts == "train"),
    }


def _held_out(
    learned: Learned, catalogue: Catalogue, studied: Mapping[Kind, NDArray[np.bool_]]
) -> dict[str, Any]:
    """How far the items that nothing was learned from stand from the others, by kind."""
    return {
        kind: drift.held_out(
            read_items(catalogue, kind),
            studied[kind],
            encoders=learned.encoders,
            content=learned.embeddings.get((kind, CONTENT)),
        )
        for kind, name in learned.embeddings
        if name == "general"
    }


def _write_reasons(learned: Learned, catalogue: Catalogue, home: Path) -> None:
    reasons.write(
        home,
        catalogue,
        learned.kind,
        sources=learned.sources,
        embeddings=learned.embeddings,
        model=learned.model,
    )


def _about_ranking(fitted: ranking.Fitted | None) -> dict[str, Any] | None:
    """How the learned ranking did on validation items; None where cosine was not beaten."""
    if fitted is None:
        return None
    return {
        "ndcg@200": fitted.ndcg,
        "ndcg@200 of cosine": fitted.cosine,
        "reliability": [list(row) for row in fitted.reliability],
    }


def _items(catalogue: Catalogue, kind: Kind, parts: NDArray[np.str_] | None) -> pl.DataFrame:
    """What answers need to know of each item: name, what it is, part, relations, popularity."""
    table = catalogue.items(kind)
    role = catalogue.role(kind, "popularity")
    column = role.name if role else "popularity"
    known = table[column] if column in table.columns else pl.Series([None] * len(table))
    return pl.DataFrame(
        {
            "kind": pl.repeat(kind, len(table), dtype=pl.String, eager=True),
            "id": table["id"],
            "name": pl.Series(catalogue.names(kind), dtype=pl.String),
            "about": words_about(catalogue, kind),
            "part": pl.Series(parts if parts is not None else [None] * len(table), dtype=pl.String),
            "relations": pl.Series(relations.known(catalogue, kind).getnnz(axis=1)).cast(pl.Int64),
            "popularity": known.cast(pl.Float64),
        }
    )


def _published(folder: Path, about: Mapping[str, Any]) -> Run | None:
    """Open what was published, if it was made of the same catalogue and settings."""
    if not (folder / "current.json").exists():
        return None
    run = runs.read(folder)
    return run if _same(run.manifest, about) else None


def _resume_or_start(folder: Path, about: Mapping[str, Any], *, fresh: bool) -> Path:
    """Give the folder of checkpoints; one that another catalogue or settings left is emptied."""
    work = folder / "work"
    started = work / "started.json"
    if started.exists() and not fresh:
        try:
            if _same(read_json(started, form=FORMAT, remedy="train again"), about):
                return work
        except ArtifactError:
            pass  # left by another version: begin anew
    if work.exists():
        shutil.rmtree(work)
    write_json(started, {"format": FORMAT, **about})
    return work


def _same(manifest: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    plain = json.loads(json.dumps(about))
    return all(manifest.get(key) == plain[key] for key in ("settings", "catalogue"))
