"""From audio files or given feature vectors to E_C of tracks and artists (section 2.1)."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import relations
from undersong import settings as settings_file
from undersong.audio.extract import FAILURES
from undersong.catalogue import Catalogue
from undersong.embeddings import Embeddings, unit
from undersong.errors import ArtifactError, SettingsError, nearest_known
from undersong.io.tensors import read_tensors, write_tensors
from undersong.losses import cosine, multi_similarity
from undersong.metrics import cold_ndcg
from undersong.models.content.inputs import Clips, of_audio, of_vectors
from undersong.models.content.network import (
    AudioEncoder,
    ContentModel,
    ContentSettings,
    VectorEncoder,
    artist_embedding,
)
from undersong.models.content.tag_heads import Tagger, read_tags, tag_loss
from undersong.progress import Progress, silent
from undersong.training import distributed
from undersong.training.batches import anchors_with_partners
from undersong.training.loop import History, mixed_precision, train

FORMAT = 1
AUDIO, AUTO, NONE = "audio", "auto", "none"
PACE = {"plain": 0.1, "encoder.plain": 0.1}  # what is whitened already learns slowly
JUDGED = 1000  # pieces that a validation compares at most, whole artists


@dataclass(frozen=True)
class Content:
    """E_C of tracks and of artists, the model that made them, how it learned.

    ``failed`` lists the audio files that gave no sound: track, file, reason, remedy.
    """

    tracks: Embeddings
    artists: Embeddings
    model: ContentModel
    outcome: History
    failed: pl.DataFrame


def embed_content(
    catalogue: Catalogue,
    parts: NDArray[np.str_],
    *,
    settings: ContentSettings,
    seed: int,
    device: str,
    work: Path,
    progress: Progress = silent,
) -> Content | None:
    """Train CbRM on R_C of the training artists and embed everything that can be heard.

    Parameters
    ----------
    parts : (artists,) "train", "validation" or "test"
    work : folder of the checkpoint and of the extracted log-mel chunks

    Returns
    -------
    Content, or None if the catalogue has neither features nor audio files
        An artist has the mean of equation 1 over its tracks, or the encoding of its own feature
        vector. With both it has their sum, brought to length 1: its own vector, mostly a mean over
        all its work, weighs as much as its tracks together (docs/choices.md). With neither it has
        no row. Where no two pieces of training artists are related nothing is learned: E_C is
        the standardised features, and the outcome has no step.

    Raises
    ------
    SettingsError
        If ``input`` names no feature matrix, or "auto" would have to choose between several.
    DataError
        If no audio file can be decoded.
    """
    source = choose_input(catalogue, settings)
    if source == NONE:
        return None
    torch.manual_seed(seed)
    failed = pl.DataFrame(schema=FAILURES)
    model: ContentModel
    if source == AUDIO:
        model = AudioEncoder(settings).to(device)
        pieces, failed = of_audio(
            catalogue, parts, model=model, work=work, device=device, progress=progress
        )
    else:
        columns = next(
            x.vectors.shape[1] for (n, _), x in catalogue.features.items() if n == source
        )
        model = VectorEncoder(source, columns, settings).to(device)
        pieces = of_vectors(catalogue, source, parts, model=model, device=device)
    outcome = _train(
        catalogue,
        parts,
        pieces,
        model=model,
        seed=seed,
        device=device,
        checkpoint=work / "content.safetensors",
        progress=progress,
    )
    with torch.no_grad():
        vectors = pieces.embed(model, np.arange(len(pieces.artist)))
    tracks, artists = of_items(catalogue, pieces, vectors, top=settings.top)
    return Content(tracks, artists, model, outcome, failed)


def choose_input(catalogue: Catalogue, settings: ContentSettings) -> str:
    """Say what CbRM reads: the name of a feature matrix, "audio" or "none"."""
    names = sorted({name for name, _ in catalogue.features})
    has_paths = catalogue.tracks["path"].count() > 0
    if settings.input == AUTO:
        if len(names) > 1:
            raise SettingsError(
                f"the catalogue has {len(names)} feature matrices; set `input` under [content] to "
                f"one of {', '.join(names)}" + (f" or {AUDIO}" if has_paths else "")
            )
        return names[0] if names else AUDIO if has_paths else NONE
    if settings.input == AUDIO and not has_paths:
        raise SettingsError(
            "[content] input is 'audio', but no track has a path; map one, or 'auto'"
        )
    known = [*names, AUDIO, AUTO, NONE]
    if settings.input not in known:
        raise SettingsError(
            f"[content] input {settings.input!r} is no feature matrix of the catalogue; "
            f"{nearest_known(settings.input, known)}"
        )
    return settings.input


def _train(
    catalogue: Catalogue,
    parts: NDArray[np.str_],
    pieces: Clips,
    *,
    model: ContentModel,
    seed: int,
    device: str,
    checkpoint: Path,
    progress: Progress,
) -> History:
    """Train on R_C: tracks of the same artist or of similar ones attract, all others repel.

    Without known relations that is the tracks of each artist alone.
    """
    settings = model.settings
    size = settings.artists or model.usual_artists
    heard = np.zeros(len(parts), dtype=bool)
    heard[pieces.artist] = True
    trains = heard & (parts == "train")
    similar = relations.known(catalogue, "artist", trains)
    rows_of = _pieces_of(pieces.artist, len(parts))
    if not _anything_related(pieces, trains, similar):
        if isinstance(model, VectorEncoder):
            model.begin_plain()
        model.eval()
        return History()
    tags = read_tags(catalogue, pieces, trains) if settings.tags else None
    tagger = Tagger(model, len(tags.field)).to(device) if tags else None
    learns: nn.Module = tagger or model

    def loss(generator: np.random.Generator) -> Tensor:
        artists = _draw_artists(generator, np.flatnonzero(trains), similar, size, settings.similar)
        rows = draw_pieces(
            generator, [rows_of[x] for x in artists], count=settings.tracks, repeats=pieces.repeats
        )
        inputs = pieces.draw(rows[distributed.shard(len(rows))], generator)
        with mixed_precision(settings.training, device):
            heard = model.unscaled(inputs)
        heard = distributed.all_gather(heard, len(rows))
        related = torch.from_numpy(related_pieces(pieces.artist[rows], similar)).to(device)
        similarity = cosine(F.normalize(heard, dim=1))
        value = multi_similarity(similarity, related, ~related, settings.loss)
        if tags and tagger:
            has, known = (x.to(device) for x in tags.of(rows))
            value = value + settings.tags * tag_loss(tagger.guess(heard), has, known)
        return value

    validate = _judge(catalogue, parts == "validation", pieces, seed=seed)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        untrained = distributed.broadcast(validate(model.eval()))
    outcome = train(
        learns,
        loss=loss,
        validate=validate,
        schedule=settings.training,
        seed=seed,
        checkpoint=checkpoint,
        pace=PACE,
        stage="CbRM",
        progress=progress,
    )
    if untrained > outcome.best_score:  # too little to learn from: the start is better
        model.load_state_dict(start)
        outcome.best_step, outcome.best_score = 0, untrained
    return outcome


def _anything_related(pieces: Clips, trains: NDArray[np.bool_], similar: sparse.csr_matrix) -> bool:
    """Say whether R_C holds any pair: two tracks of one training artist, or similar artists."""
    count = np.bincount(pieces.artist, minlength=len(trains))[trains]
    return bool(similar.nnz or (count >= (1 if pieces.repeats else 2)).any())


def _draw_artists(
    generator: np.random.Generator,
    trains: NDArray[np.int64],
    similar: sparse.csr_matrix,
    size: int,
    share: float,
) -> NDArray[np.int64]:
    """Draw random training artists and, for a share, pairs of similar ones, (size at most,)."""
    pairs = round(size * share / 2)
    others = min(size - 2 * pairs, len(trains))
    return anchors_with_partners(
        generator,
        similar,
        anchors=pairs,
        partners=1,
        others=generator.choice(trains, size=others, replace=False),
    )


def draw_pieces(
    generator: np.random.Generator,
    rows_of: list[NDArray[np.int64]],
    *,
    count: int,
    repeats: bool,
) -> NDArray[np.int64]:
    """Draw ``count`` random pieces of each artist; of fewer all, twice if ``repeats``."""
    drawn = []
    for rows in rows_of:
        order = generator.permutation(rows)
        drawn.append(np.resize(order, count) if repeats else order[:count])
    return np.concatenate(drawn)


def related_pieces(artist: NDArray[np.int64], similar: sparse.csr_matrix) -> NDArray[np.bool_]:
    """R_C among a batch of pieces, (n,) rows of artists -> (n, n) bool."""
    present, local = np.unique(artist, return_inverse=True)
    among = relations.same_or_similar_artist(local, similar[present][:, present])
    return np.asarray(among.toarray(), dtype=bool)


def _judge(
    catalogue: Catalogue, asks: NDArray[np.bool_], pieces: Clips, *, seed: int
) -> Callable[[nn.Module], float]:
    """NDCG@200 of pieces of validation artists that look for R_C among each other.

    Up to 1,000 pieces of whole artists take part. Where no two of them are related nothing can
    be judged: then the score is the number of the validation, and the last weights are kept.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(asks))
    candidates = np.flatnonzero(asks[pieces.artist])
    candidates = candidates[np.argsort(order[pieces.artist[candidates]], kind="stable")][:JUDGED]
    similar = relations.known(catalogue, "artist", asks)
    present, local = np.unique(pieces.artist[candidates], return_inverse=True)
    truth = relations.same_or_similar_artist(local, similar[present][:, present])
    queries = np.flatnonzero(truth.getnnz(axis=1))
    turn = count()  # the start is first and has 0

    def validate(model: nn.Module) -> float:
        if not len(queries):
            return float(next(turn))
        return cold_ndcg(pieces.embed(model, candidates), queries, truth)

    return validate


def read_pieces(
    catalogue: Catalogue, model: ContentModel, *, work: Path, progress: Progress = silent
) -> Clips:
    """What a trained encoder reads of a catalogue, on the CPU; the encoder stays as it is."""
    nobody = np.full(len(catalogue.artists), "none")
    if isinstance(model, VectorEncoder):
        return of_vectors(catalogue, model.source, nobody, model=model, device="cpu")
    return of_audio(catalogue, nobody, model=model, work=work, device="cpu", progress=progress)[0]


def of_items(
    catalogue: Catalogue, pieces: Clips, vectors: NDArray[np.float32], *, top: int
) -> tuple[Embeddings, Embeddings]:
    """E_C of tracks and of artists (equation 1) from those of all pieces, (n, width)."""
    is_track = pieces.track >= 0
    track_ids = catalogue.ids("track")
    track, heard = pieces.track[is_track], vectors[is_track]
    popularity = catalogue.tracks["popularity"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    of_artist, missing = artist_embedding(
        heard,
        pieces.artist[is_track],
        popularity=popularity[track],
        top=top,
        artists=len(catalogue.artists),
    )
    own = ~is_track
    of_artist[pieces.artist[own]] += vectors[own]
    missing[pieces.artist[own]] = False
    ids = tuple(x for x, absent in zip(catalogue.ids("artist"), missing, strict=True) if not absent)
    return (
        Embeddings(tuple(track_ids[row] for row in track), heard),
        Embeddings(ids, unit(of_artist[~missing])),
    )


def _pieces_of(artist: NDArray[np.int64], artists: int) -> list[NDArray[np.int64]]:
    """Rows of the pieces of each artist."""
    order = np.argsort(artist, kind="stable")
    return np.split(order, np.cumsum(np.bincount(artist, minlength=artists))[:-1])


def save_content(model: ContentModel, path: Path) -> None:
    """Write the weights of an encoder, its settings and what it reads, as safetensors."""
    source, columns = (
        (model.source, len(model.mean)) if isinstance(model, VectorEncoder) else (AUDIO, 0)
    )
    about = {
        "source": source,
        "columns": str(columns),
        "settings": json.dumps(asdict(model.settings)),
    }
    write_tensors(path, model.state_dict(), version=FORMAT, about=about)


def load_content(path: Path) -> ContentModel:
    """Read what ``save_content`` wrote, on the CPU and ready to embed.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format.
    """
    about, tensors = read_tensors(path, version=FORMAT, framework="pt")
    table = json.loads(about["settings"])
    settings = cast(ContentSettings, settings_file.build(ContentSettings, table, f"{path}:"))
    model: ContentModel = (
        AudioEncoder(settings)
        if about["source"] == AUDIO
        else VectorEncoder(about["source"], int(about["columns"]), settings)
    )
    if set(tensors) != set(model.state_dict()):
        raise ArtifactError(f"{path} is an encoder of an earlier version; train again")
    model.load_state_dict(tensors)
    model.eval()
    return model
