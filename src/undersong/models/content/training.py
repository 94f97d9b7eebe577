"""How CbRM is trained: on R_C, and on tags if that is asked (section 2.1).

Flow:
    catalogue -> clips: log-mel chunks or feature vectors (inputs.py)
    an encoder (network.py) learns on R_C: clips of the same or of similar artists attract
    clips -> E_C of tracks -> E_C of artists (equation 1)

Tags of clips may be learned, too. The head that predicts them exists while training only: a saved
encoder has the same weights with and without it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import features, relations
from undersong.catalogue import Catalogue, Kind, rows_of
from undersong.embeddings import Embeddings, beside, unit
from undersong.errors import DataError
from undersong.features import TagEncoder
from undersong.losses import cosine, multi_relationship
from undersong.metrics import average_precision
from undersong.models.content.inputs import Clips, choose_sources, new_encoder, read_clips
from undersong.models.content.network import (
    ContentModel,
    ContentSettings,
    artist_embedding,
    settle,
)
from undersong.relations import Task
from undersong.relations.similarity import symmetric
from undersong.training import (
    Compute,
    History,
    all_gather,
    anchors_with_partners,
    broadcast,
    mixed_precision,
    shard,
    train,
)

FEWEST = 5  # training items that must have a word
MOST = 200  # words that are predicted, the commonest
VOCABULARY = 20_000  # words by which artists are compared, the commonest
COMPARED, BLOCK = 50_000, 1024  # artists that are compared by words, and of those at a time
ALIKE = 0.5  # cosine that words of similar artists reach
LATENT = 256  # directions in which words are compared


@dataclass(frozen=True)
class TagTargets:
    """What the fields of words tell about n clips.

    Parameters
    ----------
    has : (n, w) bool, sparse; which clip has which word, by its track or by its artist
    field : (w,) int, the field of each word
    known : (n, fields) bool
        Whether a field has any value of a clip. Where it has none no word of it is wrong.
    """

    has: sparse.csr_matrix
    field: NDArray[np.int64]
    known: NDArray[np.bool_]

    def of(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the words of clips as float32 0 or 1, and where they are known, (m, w) each."""
        known = torch.from_numpy(self.known[rows][:, self.field])
        return torch.from_numpy(self.has[rows].toarray()).float(), known


def read_tags(
    catalogue: Catalogue, clips: Clips, trains: NDArray[np.bool_], *, most: int = MOST
) -> TagTargets:
    """Read the commonest words of training items, of fields that models may read.

    Parameters
    ----------
    trains : (artists,) bool, artists whose words and whose tracks' words count
    most : words at most

    Raises
    ------
    DataError
        If no 5 training items share a word.
    """
    row = {artist: index for index, artist in enumerate(catalogue.ids("artist"))}
    of_track = trains[[row[x] for x in catalogue.tracks["artist"]]]
    sides: tuple[tuple[Kind, NDArray[np.int64], NDArray[np.bool_]], ...] = (
        ("artist", clips.artist, trains),
        ("track", clips.track, of_track),
    )
    columns, counts, known = [], [], []
    for kind, rows, trained in sides:
        encoders = [x for x in features.fit(catalogue, kind, trained) if isinstance(x, TagEncoder)]
        for source in features.read(catalogue.items(kind), encoders, {}):
            has = source.values > 0
            counts.append(np.asarray(has[trained].sum(axis=0)).ravel())
            nothing = sparse.csr_matrix((1, source.width), dtype=bool)
            # An artist's own vector has track -1: the last row, of nothing.
            columns.append(sparse.vstack([has, nothing]).tocsr()[rows])
            known.append(np.append(~source.missing, False)[rows])
    count = np.concatenate([np.empty(0, dtype=np.int64), *counts])
    common = np.argsort(-count, kind="stable")[:most]
    common = common[count[common] >= FEWEST]
    if not len(common):
        raise DataError(
            f"no tags to learn from: no word of a category or of tags is had by {FEWEST} training "
            'items; map such a field, or set [content] tags = 0 and supervision = "relations"'
        )
    field = np.repeat(np.arange(len(columns)), [x.shape[1] for x in columns])
    has = sparse.hstack(columns).tocsr()[:, common]
    return TagTargets(has, field[common], np.stack(known, axis=1))


def nearest_by_tags(
    catalogue: Catalogue, clips: Clips, trains: NDArray[np.bool_], *, top: int
) -> sparse.csr_matrix:
    """Relate each training artist to at most ``top`` whose words are most alike, (n, n) bool.

    Words count by TF-IDF, tf being the share of an artist's clips that have one, and are compared
    in the space of their 256 strongest singular directions (LSI), where similar ones have a cosine
    of .5 or more. Of more than 50,000 artists random ones are related.

    Raises
    ------
    DataError
        As ``read_tags``.

    Source
    ------
    Schindler and Knees, Multi-Task Music Representation Learning from Multi-Label Embeddings,
    CBMI 2019, who draw triplets by the distance in that space.
    """
    has = read_tags(catalogue, clips, trains, most=VOCABULARY).has
    cells = (np.ones(len(clips.artist), dtype=np.float32), (clips.artist, np.arange(has.shape[0])))
    words = sparse.csr_matrix(cells, shape=(len(trains), has.shape[0])) @ has
    rows = np.flatnonzero(trains & (words.getnnz(axis=1) > 0))
    if len(rows) > COMPARED:
        rows = np.sort(np.random.default_rng(0).choice(rows, COMPARED, replace=False))
    words = words[rows] / np.bincount(clips.artist, minlength=len(trains))[rows, None]
    common = np.maximum(words.getnnz(axis=0), 1)
    vectors = features.latent(words @ sparse.diags(np.log(len(rows) / common) + 1), LATENT)
    vectors, near = unit(vectors), min(top, len(rows) - 1)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for start in range(0, len(rows), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        partners = np.argpartition(-cosines, near - 1, axis=1)[:, :near]
        asking, place = np.nonzero(np.take_along_axis(cosines, partners, axis=1) >= ALIKE)
        pairs.append(np.stack([start + asking, partners[asking, place]]))
    a, b = rows[np.concatenate(pairs, axis=1)]
    return symmetric(a, b, len(trains))


class Tagger(nn.Module):
    """An encoder with a head that predicts tags from E_C before it is brought to length 1."""

    def __init__(self, encoder: ContentModel, words: int):
        super().__init__()
        self.encoder = encoder
        self.guess = nn.Linear(encoder.settings.width, words)

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips as the encoder does, (n, ...) -> (n, width), length 1."""
        embedded: Tensor = self.encoder(clips)
        return embedded


def tag_loss(logits: Tensor, has: Tensor, known: Tensor) -> Tensor:
    """Return the binary cross-entropy, the mean over known words; 0 if there is none.

    Parameters
    ----------
    logits : (n, w), that a clip has a word
    has : (n, w) float, 0 or 1
    known : (n, w) bool
    """
    total = F.binary_cross_entropy_with_logits(logits, has, weight=known.float(), reduction="sum")
    return total / known.sum().clamp(min=1)


LR_MULTIPLIERS = {"plain": 0.1, "encoder.plain": 0.1}  # whitened already, so it learns slowly
CANDIDATES = 1000  # clips that a validation compares at most; half of them may ask
NEAREST = 10  # artists that tags or listening take for similar to each
SURE = 2.0  # standard errors by which what was learned must be better than the start


@dataclass(frozen=True)
class Choice:
    """Whether a source is heard as it was learned or by the start, and by what number.

    Parameters
    ----------
    learned : whether what was learned is used
    asked : clips of validation artists that judge
    start, trained : mean average precision of each, over all clips that are compared, in [0, 1]
        NaN where nothing was learned. 1 is: all clips of the same artist, or of a similar one,
        before all others.
    error : standard error of the difference, over artists
    """

    learned: bool = False
    asked: int = 0
    start: float = math.nan
    trained: float = math.nan
    error: float = math.nan


@dataclass(frozen=True)
class Content:
    """E_C of tracks and of artists, the model of each source, and the history of its training.

    ``failed`` lists the audio files that gave no sound: track, file, reason, remedy.
    """

    tracks: Embeddings
    artists: Embeddings
    models: tuple[ContentModel, ...]
    outcomes: dict[str, History]
    choices: dict[str, Choice]
    failed: pl.DataFrame


def embed_content(task: Task, *, settings: ContentSettings, compute: Compute) -> Content | None:
    """Train CbRM on R_C of the training artists and embed everything with sound or features.

    Each source has an encoder of its own, which learns for itself; side by side they are E_C.

    Parameters
    ----------
    task : the artists
    compute : ``work`` also gets the log-mel chunks that lie not beside the catalogue

    Returns
    -------
    Content, or None if the catalogue has neither features nor audio files
        An artist has the mean of equation 1 over its tracks, or the encoding of its own feature
        vectors. With both it has their sum, brought to length 1: its own, mostly means over all
        its work, weigh as much as its tracks together (docs/choices.md). With neither it has
        no row. Where no two clips of training artists are related, or too few judge, nothing is
        learned: E_C is the start, and the history has no step.

    Raises
    ------
    SettingsError
        If ``input`` names no feature matrix, or audio where no track has a file.
    DataError
        If no audio file can be decoded.
    """
    catalogue = task.catalogue
    models, heard = [], []
    outcomes: dict[str, History] = {}
    choices: dict[str, Choice] = {}
    for source in choose_sources(catalogue, settings):
        torch.manual_seed(compute.seed)
        model = new_encoder(catalogue, source, settings).to(compute.device)
        clips = read_clips(
            catalogue,
            model,
            trains=task.within("train"),
            work=compute.work,
            progress=compute.progress,
        )
        outcomes[source], choices[source] = _train(model, clips, task, compute)
        with torch.no_grad():
            vectors = clips.embed(model, np.arange(len(clips.artist)))
        models.append(model)
        heard.append((clips, vectors))
    if not models:
        return None
    tracks, artists = of_items(catalogue, heard, top=settings.top)
    failed = pl.concat([clips.failed for clips, _ in heard])
    return Content(tracks, artists, tuple(models), outcomes, choices, failed)


def _train(
    model: ContentModel, clips: Clips, task: Task, compute: Compute
) -> tuple[History, Choice]:
    """Train on R_C: tracks of the same artist or of similar ones attract, all others repel.

    Without similar artists only tracks of the same artist attract. The start stays where what was
    learned is not surely better for artists that nothing was learned from.
    """
    settings = model.settings
    trains = task.within("train") & (np.bincount(clips.artist, minlength=len(task.splits)) > 0)
    similar = similar_artists(task.catalogue, clips, trains, settings.supervision)
    candidates, queries, truth = _questions(clips, task, seed=compute.seed)
    model.eval()
    if not _anything_related(clips, trains, similar) or len(queries) < settings.judges:
        begin_anew(model, clips)
        return History(), Choice(asked=len(queries))

    def precision(model: nn.Module) -> NDArray[np.float64]:
        with torch.no_grad():
            return average_precision(clips.embed(model, candidates), queries, truth)

    tags = read_tags(task.catalogue, clips, trains) if settings.tags else None
    tagger = Tagger(model, len(tags.field)).to(compute.device) if tags else None
    start = {name: value.clone() for name, value in model.state_dict().items()}
    before = precision(model)
    history = train(
        tagger or model,
        loss=_loss(model, clips, trains, similar, tags=tags, tagger=tagger, device=compute.device),
        validate=lambda model: float(precision(model).mean()),
        schedule=settings.training,
        seed=compute.seed,
        checkpoint=compute.work / f"content.{model.source}.safetensors",
        lr_multipliers=LR_MULTIPLIERS,
        stage=f"CbRM, {model.source}",
        progress=compute.progress,
    )
    choice = _choose(before, precision(model), clips.artist[candidates[queries]])
    if not broadcast(choice.learned):
        model.load_state_dict(start)
        begin_anew(model, clips)
    return history, choice


def similar_artists(
    catalogue: Catalogue, clips: Clips, trains: NDArray[np.bool_], supervision: str
) -> sparse.csr_matrix:
    """Return whom R_C takes for similar among the training artists, (artists, artists) bool.

    Raises
    ------
    DataError
        Without the tags or the plays of artists that the supervision asks for.
    """
    if supervision == "tags":
        return nearest_by_tags(catalogue, clips, trains, top=NEAREST)
    if supervision == "relations":
        return relations.known(catalogue, "artist", trains)
    plays = relations.listeners(catalogue, "artist")
    if not plays.nnz:
        raise DataError(
            "nobody plays an artist of the catalogue; give plays, or set [content] supervision to "
            '"relations"'
        )
    return relations.shared_listeners(plays.multiply(trains).tocsr(), threshold=1, top=NEAREST)


def begin_anew(model: ContentModel, clips: Clips) -> None:
    """Whiten the start by the tracks of all artists: nothing is left that others must judge."""
    clips.whiten(model, np.arange(len(clips.artist)))
    settle(model)


def _choose(
    before: NDArray[np.float64], after: NDArray[np.float64], artist: NDArray[np.int64]
) -> Choice:
    """Choose what was learned if it is better by two standard errors, (q,) each.

    Clips of one artist are no independent questions: the error is that of a mean over artists.
    """
    _, place, count = np.unique(artist, return_inverse=True, return_counts=True)
    gain = after - before
    apart = np.bincount(place, weights=gain - gain.mean())
    m = len(count)
    error = float(np.sqrt((apart**2).sum() * m / max(m - 1, 1)) / len(gain))
    learned = bool(gain.mean() > SURE * error)
    return Choice(learned, len(gain), float(before.mean()), float(after.mean()), error)


def _questions(
    clips: Clips, task: Task, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], sparse.csr_matrix]:
    """Who asks whom to judge an encoder: clips of validation artists ask for R_C among them.

    Up to 500 of whole artists ask, and up to 1,000 are compared, clips of training artists too.

    Returns
    -------
    rows of the candidates, (n,); places among them of those that ask, (q,); R_C, (n, n) bool
    """
    generator = np.random.default_rng([seed, 1])
    order = generator.permutation(len(task.splits))
    asks = np.flatnonzero(task.within("validation")[clips.artist])
    asks = asks[np.argsort(order[clips.artist[asks]], kind="stable")][: CANDIDATES // 2]
    others = np.flatnonzero(task.within("train")[clips.artist])
    some = min(len(others), CANDIDATES - len(asks))
    candidates = np.concatenate([asks, np.sort(generator.choice(others, some, replace=False))])
    truth = _related(clips.artist[candidates], task.related("validation"))
    places = np.arange(len(asks))
    return candidates, places[truth.getnnz(axis=1)[places] > 0], truth


def _anything_related(clips: Clips, trains: NDArray[np.bool_], similar: sparse.csr_matrix) -> bool:
    """Whether R_C holds any pair: two tracks of one training artist, or similar artists."""
    clip_count = np.bincount(clips.artist, minlength=len(trains))[trains]
    return bool(similar.nnz or (clip_count >= (1 if clips.repeats else 2)).any())


def _loss(
    model: ContentModel,
    clips: Clips,
    trains: NDArray[np.bool_],
    similar: sparse.csr_matrix,
    *,
    tags: TagTargets | None,
    tagger: Tagger | None,
    device: str,
) -> Callable[[np.random.Generator], Tensor]:
    """Loss of a batch of training clips: on R_C and, with a tagger, on their tags."""
    settings = model.settings
    size = settings.artists or model.usual_artists
    order = np.argsort(clips.artist, kind="stable")
    counts = np.bincount(clips.artist, minlength=len(trains))
    rows_of = np.split(order, np.cumsum(counts)[:-1])  # rows of the clips of each artist

    def loss(generator: np.random.Generator) -> Tensor:
        artists = _draw_artists(generator, np.flatnonzero(trains), similar, size, settings.similar)
        rows = draw_clips(
            generator, [rows_of[x] for x in artists], count=settings.tracks, repeats=clips.repeats
        )
        inputs = clips.draw(rows[shard(len(rows))], generator)
        with mixed_precision(settings.training, device):
            vectors = model.unscaled(inputs)
        vectors = all_gather(vectors, len(rows))
        related = torch.from_numpy(related_clips(clips.artist[rows], similar)).to(device)
        similarity = cosine(F.normalize(vectors, dim=1))
        pairs = {"related": related, "unrelated": ~related}
        no_prior = {"consistent": related, "inconsistent": ~related}  # of weight 0
        value = multi_relationship(similarity, **pairs, **no_prior, settings=settings.whole_loss)
        if tags and tagger:
            has, known = (x.to(device) for x in tags.of(rows))
            value = value + settings.tags * tag_loss(tagger.guess(vectors), has, known)
        return value

    return loss


def _draw_artists(
    generator: np.random.Generator,
    trains: NDArray[np.int64],
    similar: sparse.csr_matrix,
    size: int,
    share: float,
) -> NDArray[np.int64]:
    """Draw random training artists and, for a share, pairs of similar ones, (size at most,)."""
    pairs = round(size * share / 2)
    others = generator.choice(trains, size=min(size - 2 * pairs, len(trains)), replace=False)
    return anchors_with_partners(generator, similar, anchors=pairs, partners=1, others=others)


def draw_clips(
    generator: np.random.Generator,
    rows_of: list[NDArray[np.int64]],
    *,
    count: int,
    repeats: bool,
) -> NDArray[np.int64]:
    """Draw ``count`` random clips of each artist; of fewer all, twice if ``repeats``."""
    drawn = []
    for rows in rows_of:
        order = generator.permutation(rows)
        drawn.append(np.resize(order, count) if repeats else order[:count])
    return np.concatenate(drawn)


def related_clips(artist: NDArray[np.int64], similar: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Return R_C among a batch of clips, (n,) rows of artists -> (n, n) bool."""
    return np.asarray(_related(artist, similar).toarray(), dtype=bool)


def _related(artist: NDArray[np.int64], similar: sparse.csr_matrix) -> sparse.csr_matrix:
    present, local = np.unique(artist, return_inverse=True)
    return relations.same_or_similar_artist(local, similar[present][:, present])


def of_items(
    catalogue: Catalogue, heard: Sequence[tuple[Clips, NDArray[np.float32]]], *, top: int
) -> tuple[Embeddings, Embeddings]:
    """Return E_C of tracks and of artists (equation 1) from those of all clips of each source.

    Parameters
    ----------
    heard : clips of each source, and the unit vector of each, (n, width)
    """
    n = len(catalogue.tracks)
    known = np.zeros(n + len(catalogue.artists), dtype=bool)  # an artist's own behind the tracks
    parts = []
    for clips, vectors in heard:
        place = np.where(clips.track < 0, n + clips.artist, clips.track)
        part = np.zeros((len(known), vectors.shape[1]), dtype=np.float32)
        part[place], known[place] = vectors, True
        parts.append(part)
    vectors = beside(parts)
    track, own = np.flatnonzero(known[:n]), np.flatnonzero(known[n:])
    popularity = catalogue.tracks["popularity"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    of_artists, missing = artist_embedding(
        vectors[track],
        rows_of(catalogue.tracks["artist"], catalogue.artists["id"])[track],
        popularity=popularity[track],
        top=top,
        artists=len(catalogue.artists),
    )
    of_artists[own] += vectors[n + own]
    missing[own] = False
    track_ids, artist_ids = catalogue.ids("track"), catalogue.ids("artist")
    return (
        Embeddings(tuple(track_ids[row] for row in track), vectors[track]),
        Embeddings(
            tuple(artist_ids[row] for row in np.flatnonzero(~missing)), unit(of_artists[~missing])
        ),
    )
