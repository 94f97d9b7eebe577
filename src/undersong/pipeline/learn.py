"""What is learned from a catalogue, in its order: content, interaction, general (figure 2)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from undersong import features
from undersong.catalogue import Catalogue, Kind, split
from undersong.embeddings import Embeddings
from undersong.errors import SettingsError
from undersong.features import CONTENT, INTERACTION, Encoder, Modality, read_sources
from undersong.models.content import training
from undersong.models.general import training as general
from undersong.models.general.network import GeneralModel
from undersong.models.interaction import training as interaction
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent
from undersong.ranking import training as ranking
from undersong.ranking.crossfit import cross_fit
from undersong.training import Compute, History, Task


@dataclass(frozen=True)
class LearnedSources:
    """What is learned before GRM and read by it: E_C and E_U, and the split they keep to."""

    parts: NDArray[np.str_]
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    content: training.Content | None
    outcomes: Mapping[str, History]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Learned:
    """All that training leaves, before it is written."""

    kind: Kind
    parts: NDArray[np.str_]
    embeddings: Mapping[tuple[Kind, str], Embeddings]
    encoders: tuple[Encoder, ...]
    coverage: Mapping[str, float]
    sources: tuple[Modality, ...]
    model: GeneralModel
    ranking: ranking.Fitted | None
    content: training.Content | None
    outcomes: Mapping[str, History]
    seconds: Mapping[str, float]


def learn(
    catalogue: Catalogue, settings: Settings, *, work: Path, progress: Progress = silent
) -> Learned:
    """Train CbRM, UiRM and GRM, learn to rank, refit, and embed every item.

    ``work`` keeps the checkpoints. The embedding "judged" is E_G as evaluation may see it, without
    any relation of validation and test items; "general" is the E_G that answers.
    """
    kind, seed = cast(Kind, settings.run.kind), settings.run.seed
    device = find_device(settings.run.device)
    known = learn_sources(catalogue, settings, work=work, progress=progress)
    clock = _StageClock(dict(known.seconds))
    encoders = features.fit(catalogue, kind, known.parts == "train")
    sources = read_sources(catalogue, kind, encoders, known.embeddings)
    fit = partial(
        general.train_general,
        catalogue,
        kind,
        sources=sources,
        settings=settings.general,
        seed=seed,
        device=device,
        progress=progress,
    )
    model, outcome = fit(known.parts, work=work)
    judged = _embed_items(catalogue, kind, sources, model, device=device)
    clock.stop("general")
    ranked = cross_fit(
        catalogue,
        kind,
        known.parts,
        encoders=encoders,
        embeddings=known.embeddings,
        judged=judged.align(catalogue.ids(kind))[0],
        content_settings=settings.content,
        general_settings=settings.general,
        settings=settings.ranking,
        seed=seed,
        device=device,
        work=work,
        progress=progress,
    )
    clock.stop("ranking")
    if settings.run.refit and outcome.steps:
        everything = np.full_like(known.parts, "train")
        model, _ = fit(everything, work=work / "refit", stage="GRM, refit")
    answering = _general_embeddings(
        catalogue, kind, encoders, embeddings=known.embeddings, model=model, device=device
    )
    clock.stop("refit")
    outcomes = {**known.outcomes, "general": outcome}
    return Learned(
        kind=kind,
        parts=known.parts,
        embeddings={**known.embeddings, (kind, "judged"): judged, **answering},
        encoders=encoders,
        coverage={x.name: 1 - float(x.missing.mean()) for x in sources},
        sources=sources,
        model=model,
        ranking=ranked,
        content=known.content,
        outcomes=outcomes | ({"ranking": ranked.outcome} if ranked else {}),
        seconds=clock.seconds,
    )


class _StageClock:
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
    parts = split(catalogue, kind, settings.split, seed=seed)
    general.check_related(catalogue, kind, parts)  # before CbRM has spent its minutes
    artist_parts = (
        parts if kind == "artist" else split(catalogue, "artist", settings.split, seed=seed)
    )
    clock = _StageClock({})
    compute = Compute(seed, device, work, progress)
    heard = training.embed_content(
        Task(catalogue, "artist", artist_parts), settings=settings.content, compute=compute
    )
    clock.stop(CONTENT)
    played = interaction.embed_interaction(
        Task(catalogue, kind, parts), settings=settings.interaction, compute=compute
    )
    clock.stop(INTERACTION)
    embeddings: dict[tuple[Kind, str], Embeddings] = {}
    if heard:
        embeddings |= {("artist", CONTENT): heard.artists, ("track", CONTENT): heard.tracks}
    if played:
        embeddings[(kind, INTERACTION)] = played.embeddings
    outcomes = {
        name: result.outcome for name, result in ((CONTENT, heard), (INTERACTION, played)) if result
    }
    return LearnedSources(parts, embeddings, heard, outcomes, clock.seconds)


def find_device(name: str) -> str:
    """Choose the device: what is asked for, or with "auto" a GPU if there is one.

    Raises
    ------
    SettingsError
        If PyTorch does not know the device or has none of it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {name!r} cannot be used ({reason}); try 'cpu'") from error
    return name


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
    general_of: dict[tuple[Kind, str], Embeddings] = {}
    for one in kinds:
        if not len(catalogue.items(one)):
            continue
        sources = read_sources(catalogue, one, encoders, embeddings)
        general_of[(one, "general")] = _embed_items(catalogue, one, sources, model, device=device)
    return general_of


def _embed_items(
    catalogue: Catalogue,
    kind: Kind,
    sources: tuple[Modality, ...],
    model: GeneralModel,
    *,
    device: str,
) -> Embeddings:
    """E_G of every item of which any source says something."""
    vectors = general.embed(model, sources, device=device)
    known = ~np.all([x.missing for x in sources], axis=0)
    ids = tuple(x for x, is_known in zip(catalogue.ids(kind), known, strict=True) if is_known)
    return Embeddings(ids, vectors if known.all() else vectors[known])
