"""Tags that CbRM may guess while it learns: what is known of a piece, the head, its loss (2.1).

The head is there while training only: the encoder that is kept has the same weights with and
without it.
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
from undersong.errors import DataError
from undersong.features import Modality, TagEncoder
from undersong.models.content.inputs import Clips
from undersong.models.content.network import ContentModel

FEWEST = 5  # training items that must have a word
MOST = 200  # words that are guessed, the commonest


@dataclass(frozen=True)
class TagTargets:
    """What the fields of words say about n pieces.

    Parameters
    ----------
    has : (n, w) bool, sparse; which piece has which word, by its track or by its artist
    field : (w,) int, the field of each word
    said : (n, fields) bool
        Whether a field says anything about a piece. Where it is silent no word of it is wrong.
    """

    has: sparse.csr_matrix
    field: NDArray[np.int64]
    said: NDArray[np.bool_]

    def of(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Words of some pieces as float32 0 or 1, and where that is known, (m, w) each."""
        known = torch.from_numpy(self.said[rows][:, self.field])
        return torch.from_numpy(self.has[rows].toarray()).float(), known


def read_tags(catalogue: Catalogue, pieces: Clips, trains: NDArray[np.bool_]) -> TagTargets:
    """Read the fields of words that models may read: the commonest words of the training items.

    Parameters
    ----------
    trains : (artists,) bool, whose words and whose tracks' words count

    Raises
    ------
    DataError
        If no word is had by 5 training items.
    """
    row = {artist: index for index, artist in enumerate(catalogue.ids("artist"))}
    of_track = trains[[row[x] for x in catalogue.tracks["artist"]]]
    sides: tuple[tuple[Kind, NDArray[np.int64], NDArray[np.bool_]], ...] = (
        ("artist", pieces.artist, trains),
        ("track", pieces.track, of_track),
    )
    columns, counts, said = [], [], []
    for kind, rows, train in sides:
        for source in _fields(catalogue, kind, train):
            has = source.values > 0
            counts.append(np.asarray(has[train].sum(axis=0)).ravel())
            nothing = sparse.csr_matrix((1, source.width), dtype=bool)
            # An artist's own vector has track -1: the row that says nothing.
            columns.append(sparse.vstack([has, nothing]).tocsr()[rows])
            said.append(np.append(~source.missing, False)[rows])
    count = np.concatenate([np.empty(0, dtype=np.int64), *counts])
    kept = np.argsort(-count, kind="stable")[:MOST]
    kept = kept[count[kept] >= FEWEST]
    if not len(kept):
        raise DataError(
            f"no tags to guess: no word of a category or of tags is had by {FEWEST} training "
            "items; map such a field, or set `tags` under [content] to 0"
        )
    field = np.repeat(np.arange(len(columns)), [x.shape[1] for x in columns])
    return TagTargets(sparse.hstack(columns).tocsr()[:, kept], field[kept], np.stack(said, axis=1))


def _fields(catalogue: Catalogue, kind: Kind, train: NDArray[np.bool_]) -> list[Modality]:
    """Fields of words of one kind of item, each read as GRM reads it."""
    encoders = [x for x in features.fit(catalogue, kind, train) if isinstance(x, TagEncoder)]
    return list(features.read(catalogue.items(kind), encoders, {}))


class Tagger(nn.Module):
    """An encoder with a head that guesses tags from E_C before it is brought to length 1."""

    def __init__(self, encoder: ContentModel, words: int):
        super().__init__()
        self.encoder = encoder
        self.guess = nn.Linear(encoder.settings.width, words)

    def forward(self, pieces: Tensor) -> Tensor:
        """Embed pieces as the encoder does, (n, ...) -> (n, width), length 1."""
        embedded: Tensor = self.encoder(pieces)
        return embedded


def tag_loss(logits: Tensor, has: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over what is known; 0 if that is nothing.

    Parameters
    ----------
    logits : (n, w), of a piece having a word
    has : (n, w) float, 0 or 1
    known : (n, w) bool
    """
    total = F.binary_cross_entropy_with_logits(logits, has, weight=known.float(), reduction="sum")
    return total / known.sum().clamp(min=1)
