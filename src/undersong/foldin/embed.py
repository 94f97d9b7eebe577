"""E_C and E_G of added items, from what is stored of them and the encoders of the run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import features
from undersong.audio.decode import Decoded, decode
from undersong.audio.ears import Ears
from undersong.audio.logmel import Undecodable
from undersong.catalogue import KINDS, Kind, words_about
from undersong.embeddings import Embeddings, beside, unit
from undersong.errors import DataError
from undersong.features import AUDIO, CONTENT, read_items
from undersong.foldin.added import (
    Reference,
    catalogue_of,
    read_added,
    read_encoders,
    read_reference,
    vectors,
)
from undersong.foldin.drift import nearest_cosine
from undersong.foldin.encoders import Encoders, ears_of, open_encoders
from undersong.foldin.new_items import merge
from undersong.runs import ADDED_COLUMNS, Run

DERIVED = ""  # digest of an artist of whom nothing is known but by its tracks
BLOCK = 256  # items embedded at a time

Row = dict[str, Any]


@dataclass(frozen=True)
class FoldIn:
    """What new items are embedded with, each part read when it is first needed."""

    run: Run

    @cached_property
    def ears(self) -> tuple[Ears, ...]:
        """The pretrained ears that heard the trained items; Unavailable if they are not here."""
        return ears_of(self.run)

    @cached_property
    def known(self) -> Reference:
        """The trained items."""
        return read_reference(self.run)

    @cached_property
    def encoders(self) -> Encoders:
        """CbRM and GRM."""
        return open_encoders(self.run)

    @cached_property
    def trained(self) -> dict[Kind, frozenset[str]]:
        """Ids of the trained items."""
        return {kind: self.known.ids(kind) for kind in KINDS}

    @cached_property
    def general(self) -> dict[Kind, Embeddings]:
        """E_G of the trained items."""
        kinds = [x for x in KINDS if self.run.has_embeddings(x, "general")]
        return {kind: self.run.embeddings(kind, "general") for kind in kinds}

    @cached_property
    def names(self) -> dict[Kind, dict[str, str]]:
        """Names of the trained items by id."""
        return {x: dict(self.run.trained_items(x).select("id", "name").rows()) for x in KINDS}

    @cached_property
    def learned(self) -> dict[Kind, NDArray[np.float32]]:
        """E_C of the items that were learned from, (n, width) each."""
        learned: dict[Kind, NDArray[np.float32]] = {}
        for kind in KINDS:
            if self.run.has_embeddings(kind, CONTENT):
                vectors, missing = self.run.embeddings(kind, CONTENT).align(
                    self.known.learned(kind)
                )
                learned[kind] = vectors[~missing]
        return learned


def embed_pieces(pieces: Mapping[str, NDArray[np.floating]], encoders: Encoders) -> list[float]:
    """E_C of one item, of length 1; what a source does not know of it is zeros.

    Parameters
    ----------
    pieces : source -> log-mel chunks of its sound, or its feature vector as a single row
    """
    parts = []
    for source in encoders.sources:
        part = np.zeros((1, encoders.width), dtype=np.float32)
        if source in pieces:
            vectors = encoders.content(source, pieces[source].astype(np.float32))
            part = unit(vectors.mean(axis=0, keepdims=True))
        parts.append(part)
    return _floats(beside(parts))


def heard_pieces(sound: Decoded, ears: Sequence[Ears]) -> dict[str, NDArray[np.floating]]:
    """Return what a sound is to each source of CbRM that hears: log-mel chunks, and vectors."""
    pieces: dict[str, NDArray[np.floating]] = {AUDIO: sound.log_mel}
    for listener, numbers in zip(ears, sound.ears, strict=True):
        if np.isfinite(numbers).all():
            pieces[listener.contract.name] = numbers[None, : listener.contract.width]
    return pieces


def embed_file(path: Path, encoders: Encoders, ears: Sequence[Ears]) -> NDArray[np.float32]:
    """E_C of an audio file, which is decoded in a child process; Undecodable if it gives no sound.

    The child may write nothing, has no network, and is limited in memory and time.
    """
    (sound,) = decode([path], workers=1, ears=ears)
    if isinstance(sound, Undecodable):
        raise sound
    return np.array(embed_pieces(heard_pieces(sound, ears), encoders), dtype=np.float32)


def pieces_of(vector: Sequence[float], encoders: Encoders) -> dict[str, NDArray[np.float32]]:
    """Return a given vector as the piece of the only feature matrix that CbRM reads.

    Raises
    ------
    DataError
        If its length is another, or there is no such matrix, or several.
    """
    heard = (AUDIO, *encoders.ears)
    matrices = {name: columns for name, columns in encoders.sources.items() if name not in heard}
    if len(matrices) != 1:
        reads = "several feature matrices" if matrices else "no feature matrix"
        raise DataError(f"it has a vector, but the run reads {reads}; leave the vector out")
    (name, columns), *_ = matrices.items()
    if len(vector) != columns:
        raise DataError(
            f"its vector has {len(vector)} numbers; give {columns}, as in the features {name!r} of "
            "the catalogue"
        )
    return {name: np.array([vector], dtype=np.float32)}


def refresh(rows: Sequence[Row], fold_in: FoldIn, touched: Iterable[tuple[Kind, str]]) -> list[Row]:
    """Embed the items that were touched, beside all that were added so far.

    Artists whom nobody described take their metadata from their tracks; E_C of an artist is the
    mean over its first ``top`` tracks (equation 1), plus that of a vector of its own.
    """
    keys = set(touched)
    keys |= {("artist", str(x["artist"])) for x in rows if (x["kind"], x["id"]) in keys}
    refreshed = [
        _artist(row, rows, fold_in)
        if ("artist", row["id"]) in keys and row["kind"] == "artist"
        else dict(row)
        for row in rows
    ]
    table = pl.DataFrame(refreshed, schema=ADDED_COLUMNS)
    catalogue = catalogue_of(fold_in.known, table)
    encoders = read_encoders(fold_in.run)
    for kind in KINDS:
        rows_of_kind = [row for row in refreshed if row["kind"] == kind]
        places = np.array(
            [at for at, x in enumerate(rows_of_kind) if (kind, x["id"]) in keys], dtype=int
        )
        if not len(places):
            continue
        about = dict(zip(catalogue.ids(kind), words_about(catalogue, kind), strict=True))
        items = read_items(catalogue, kind)[: len(rows_of_kind)]
        words, unseen = features.count_unseen(items, encoders)
        general = _general(fold_in, table, kind, places)
        content = vectors(table.filter(pl.col("kind") == kind), CONTENT)
        for at, e_g in zip(places, general, strict=True):
            row = rows_of_kind[at]
            row |= {"about": about[row["id"]], "general": e_g}
            row |= {"said": int(words[at]), "unseen": int(unseen[at])}
            row["nearest"] = _nearest(content, row["id"], fold_in.learned.get(kind))
    return refreshed


def _artist(row: Row, rows: Sequence[Row], fold_in: FoldIn) -> Row:
    """An added artist with what its tracks say now."""
    tracks = [x for x in rows if x["kind"] == "track" and x["artist"] == row["id"]]
    fields = [x for x in fold_in.known.fields if x.kind == "artist"]
    artist = dict(row)
    if row["digest"] == DERIVED:
        metadata = merge([json.loads(x["fields"]) for x in tracks], fields)
        artist["fields"] = json.dumps(metadata, ensure_ascii=False, sort_keys=True)
    heard = [x["content"] for x in tracks if x["content"]][: fold_in.encoders.top]
    parts = [unit(np.mean(heard, axis=0, keepdims=True, dtype=np.float32))] if heard else []
    if row["given"]:
        own = embed_pieces(pieces_of(row["given"], fold_in.encoders), fold_in.encoders)
        parts.append(np.array([own], dtype=np.float32))
    artist["content"] = _floats(unit(np.sum(parts, axis=0))) if parts else None
    return artist


def _general(
    fold_in: FoldIn, table: pl.DataFrame, kind: Kind, places: NDArray[np.int64]
) -> list[list[float] | None]:
    """E_G of some added items of one kind; None where no source says anything."""
    if not fold_in.run.has_embeddings(kind, "general"):
        return [None] * len(places)
    sources = read_added(fold_in.run, fold_in.known, table, kind)
    embedded: list[list[float] | None] = []
    for start in range(0, len(places), BLOCK):
        rows = places[start : start + BLOCK]
        missing = np.stack([x.missing[rows] for x in sources], axis=1)
        e_g = fold_in.encoders.general([features.dense(x, rows) for x in sources], missing)
        unknown = np.asarray(missing.all(axis=1))
        embedded += [
            None if nothing else _floats(x) for x, nothing in zip(e_g, unknown, strict=True)
        ]
    return embedded


def _nearest(content: Embeddings, item: str, learned: NDArray[np.float32] | None) -> float | None:
    if learned is None or not len(learned) or item not in content.index:
        return None
    vector = content.vectors[[content.index[item]]]
    return float(nearest_cosine(vector, learned)[0])


def _floats(vector: NDArray[np.float32]) -> list[float]:
    return [float(x) for x in vector.ravel()]
