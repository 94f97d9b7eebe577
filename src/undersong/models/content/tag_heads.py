"""Tags that CbRM may learn from: those of a clip, a head that predicts them, who has alike (2.1).

The head exists while training only: a saved encoder has the same weights with and without it.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from undersong import features
from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import unit
from undersong.errors import DataError
from undersong.features import TagEncoder
from undersong.models.content.inputs import Clips
from undersong.models.content.network import ContentModel
from undersong.relations.similarity import symmetric

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
    for kind, rows, train in sides:
        encoders = [x for x in features.fit(catalogue, kind, train) if isinstance(x, TagEncoder)]
        for source in features.read(catalogue.items(kind), encoders, {}):
            has = source.values > 0
            counts.append(np.asarray(has[train].sum(axis=0)).ravel())
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
