"""What GRM reads of each item: one source per field of metadata, E_C and E_U (section 2.3).

The encoders learn words, weights and scales from the training items and are kept with the run,
so a new item is read in the same way.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError

KNOTS = 12
RARE = 2
WORD = re.compile(r"\w+")
PAIRS = 10_000  # random pairs of items that tell how much a source varies


@dataclass(frozen=True)
class Modality:
    """One source of knowledge about n items.

    Parameters
    ----------
    name : str
    values : (n, width) float32, dense or sparse
        Rows of about unit length, zeros where missing.
    missing : (n,) bool
    weight : how much it counts before anything is learned, 0 or more (``weigh``)
    """

    name: str
    values: NDArray[np.float32] | scipy.sparse.csr_matrix
    missing: NDArray[np.bool_]
    weight: float = 1.0

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])


@dataclass(frozen=True)
class TagEncoder:
    """Reads a category or tags: inverse document frequency, rows of length 1.

    A tag is read whole and word by word, ``hard rock`` as itself, ``*hard`` and ``*rock``: so a
    rare tag is not alone, which long-tail items often have.
    """

    name: str
    words: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class QuantileEncoder:
    """Reads a number: its place among ``knots`` (quantiles of the training items).

    A value between two knots is shared between them, so that close numbers read alike and the
    network can bend the scale as it likes.
    """

    name: str
    knots: tuple[float, ...]


Encoder = TagEncoder | QuantileEncoder


def fit(catalogue: Catalogue, kind: Kind, train: NDArray[np.bool_]) -> tuple[Encoder, ...]:
    """Learn one encoder per metadata field that is not withheld, from the items in ``train``.

    Words that fewer than 2 training items have are left out; a field that says nothing about
    the training items gets no encoder.
    """
    table = catalogue.items(kind).filter(train)
    encoders: list[Encoder] = []
    for field in catalogue.fields_of(kind):
        if field.withheld:
            continue
        if field.type == "number":
            known = table[field.name].drop_nulls().to_numpy()
            knots = np.unique(np.quantile(known, np.linspace(0, 1, KNOTS))) if len(known) else known
            if len(knots) > 1:
                encoders.append(QuantileEncoder(field.name, tuple(float(x) for x in knots)))
            continue
        counts = Counter(word for words in _words_of(table[field.name]) for word in words)
        words = tuple(sorted(word for word, count in counts.items() if count >= RARE))
        if words:
            weights = tuple(math.log(len(table) / counts[word]) + 1 for word in words)
            encoders.append(TagEncoder(field.name, words, weights))
    return tuple(encoders)


def read(
    table: pl.DataFrame, encoders: Sequence[Encoder], embeddings: Mapping[str, Embeddings]
) -> tuple[Modality, ...]:
    """Read the sources of n items: embeddings (E_C, E_U) first, then the metadata fields.

    ``table`` has a row per item with ``id`` and a column per encoder; an absent column is a
    source that misses everywhere.
    """
    ids = tuple(table["id"])
    sources = []
    for name, known in embeddings.items():
        vectors, missing = known.align(ids)
        sources.append(Modality(name, vectors, missing))
    for encoder in encoders:
        absent = pl.Series([None] * len(ids))
        column = table[encoder.name] if encoder.name in table.columns else absent
        if isinstance(encoder, TagEncoder):
            words, missing = _read_words(column, encoder)
            sources.append(Modality(encoder.name, words, missing))
        else:
            places, missing = _read_scale(column, encoder)
            sources.append(Modality(encoder.name, places, missing))
    return weigh(sources)


def count_unseen(
    table: pl.DataFrame, encoders: Sequence[Encoder]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count what the metadata of n items say, and how much of it no encoder knows, (n,) each.

    A tag, a category or a number counts as one; a number is unknown beyond those of training.
    """
    stated = np.zeros(len(table), dtype=np.int64)
    unseen = stated.copy()
    for encoder in encoders:
        if encoder.name not in table.columns:
            continue
        column = table[encoder.name]
        if isinstance(encoder, QuantileEncoder):
            value = column.cast(pl.Float64).to_numpy()
            stated += np.isfinite(value)
            unseen += (value < encoder.knots[0]) | (value > encoder.knots[-1])
            continue
        known = set(encoder.words)
        words = [x if isinstance(x, list) else [x] for x in column.to_list()]
        stated += [sum(word is not None for word in x) for x in words]
        unseen += [sum(word is not None and word not in known for word in x) for x in words]
    return stated, unseen


def rows_of(sources: Sequence[Modality], rows: NDArray[np.int64]) -> tuple[Modality, ...]:
    """Keep some items of each source, in the order of ``rows``."""
    return tuple(replace(x, values=x.values[rows], missing=x.missing[rows]) for x in sources)


def side_by_side(sources: Sequence[Modality]) -> scipy.sparse.csr_matrix:
    """Lay sources side by side, each times its weight, (n, sum of widths); missing is zeros.

    Raises
    ------
    DataError
        Without any source.
    """
    if not sources:
        raise DataError("no source to compare items by; give metadata fields or embeddings")
    blocks = [scipy.sparse.csr_matrix(x.values) * x.weight for x in sources]
    return scipy.sparse.hstack(blocks).tocsr().astype(np.float32)


def latent(matrix: scipy.sparse.csr_matrix, width: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return rows in the space of their strongest singular vectors (LSI), (n, m) -> (n, width).

    Parameters
    ----------
    matrix : (n, m), of words as a rule
    width : of the space; of few rows or columns one less than their number, 1 at least

    Source
    ------
    Deerwester et al., Indexing by Latent Semantic Analysis, JASIS 1990.
    """
    least = min(matrix.shape)
    if least < 2:
        return np.asarray(matrix.toarray(), dtype=np.float32)
    start = np.random.default_rng(seed).standard_normal(least)
    rows, values, _ = scipy.sparse.linalg.svds(
        matrix.astype(np.float64), k=min(width, least - 1), v0=start
    )
    return np.ascontiguousarray((rows * values)[:, ::-1], dtype=np.float32)


def weigh(sources: Sequence[Modality], *, seed: int = 0) -> tuple[Modality, ...]:
    """Weigh each source by 1 / standard deviation of its cosine among random pairs.

    In a cosine a source then counts by 1 / variance. Otherwise sources in which many pairs agree,
    such as a country or a popularity, drown the tags: on real artists that costs the untrained
    concatenation a third of its NDCG@200 (docs/evaluation.md). No relation is read. Of the weights
    the most telling source has 1; one that never varies has 0.
    """
    weights = np.array([_telling(source, seed) for source in sources])
    weights /= max(weights.max(initial=0), np.finfo(float).tiny)
    return tuple(replace(x, weight=float(w)) for x, w in zip(sources, weights, strict=True))


def _telling(source: Modality, seed: int) -> float:
    """1 / standard deviation of the cosine of random pairs; 0 where it never varies."""
    present = np.flatnonzero(~source.missing)
    if len(present) < 2:
        return 0.0
    a, b = np.random.default_rng([seed, len(present)]).choice(present, (2, PAIRS))
    a, b = a[a != b], b[a != b]
    first, second = source.values[a], source.values[b]
    if isinstance(first, scipy.sparse.csr_matrix):
        cosine = np.asarray(first.multiply(second).sum(axis=1))
    else:
        cosine = np.einsum("pw,pw->p", first, second)
    deviation = float(cosine.std())
    return 1 / deviation if deviation > 0 else 0.0


def dense(source: Modality, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Take some items of a source, (len(rows), width)."""
    values = source.values[rows]
    return values.toarray() if isinstance(values, scipy.sparse.csr_matrix) else values


def to_json(encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """Encoders as plain JSON."""
    return [asdict(x) for x in encoders]


def from_json(content: Sequence[dict[str, Any]]) -> tuple[Encoder, ...]:
    """Encoders from what ``to_json`` gave."""
    return tuple(
        TagEncoder(x["name"], tuple(x["words"]), tuple(x["weights"]))
        if "words" in x
        else QuantileEncoder(x["name"], tuple(x["knots"]))
        for x in content
    )


def _words_of(column: pl.Series) -> Iterator[set[str]]:
    """Read the words of each item in a category or in tags: these, and of tags also their parts."""
    if column.dtype != pl.List(pl.String):
        yield from ({word} if word is not None else set() for word in column)
        return
    for tags in column.to_list():
        known = [tag for tag in tags or () if tag is not None]
        yield {f"*{word}" for tag in known for word in WORD.findall(tag.casefold())} | set(known)


def _read_words(
    column: pl.Series, encoder: TagEncoder
) -> tuple[scipy.sparse.csr_matrix, NDArray[np.bool_]]:
    number = {word: index for index, word in enumerate(encoder.words)}
    rows, columns = [], []
    for row, words in enumerate(_words_of(column)):
        numbers = sorted(number[word] for word in words if word in number)
        rows += [row] * len(numbers)
        columns += numbers
    weights = np.array(encoder.weights, dtype=np.float32)[columns]
    shape = (len(column), len(encoder.words))
    values = scipy.sparse.csr_matrix((weights, (rows, columns)), shape=shape)
    length = np.sqrt(np.asarray(values.multiply(values).sum(axis=1)).ravel())
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return (scipy.sparse.diags(scale) @ values).tocsr().astype(np.float32), length == 0


def _read_scale(
    column: pl.Series, encoder: QuantileEncoder
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    value = column.cast(pl.Float64).to_numpy()
    missing = ~np.isfinite(value)
    place = np.interp(np.where(missing, 0, value), encoder.knots, np.arange(len(encoder.knots)))
    distance = np.abs(place[:, None] - np.arange(len(encoder.knots)))
    values = np.clip(1 - distance, 0, None).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[missing] = 0
    return values, missing


CONTENT, INTERACTION = "content", "interaction"
KNOWN_OF_EACH = (CONTENT, INTERACTION)
AUDIO = "audio"  # the source of E_C that is no feature matrix


def sources_in(about: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Return the sources of E_C and their columns, 0 for audio, by the head of a weights file."""
    if "source" in about:  # written before there could be several
        return ((about["source"], int(about["columns"])),)
    return tuple((name, columns) for name, columns in json.loads(about.get("sources", "[]")))


def read_sources(
    catalogue: Catalogue,
    kind: Kind,
    encoders: tuple[Encoder, ...],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
) -> tuple[Modality, ...]:
    """Read what GRM knows of every item of one kind: E_C, E_U, then the metadata fields.

    A track has the metadata of its artist where it has none of its own.
    """
    by_name = {
        name: embeddings.get((kind, name), _none_like(embeddings, name))
        for name in KNOWN_OF_EACH
        if any(known == name for _, known in embeddings)
    }
    return read(read_items(catalogue, kind), encoders, by_name)


def read_items(catalogue: Catalogue, kind: Kind) -> pl.DataFrame:
    """Items of one kind with all metadata that GRM may read of them."""
    return catalogue.artists if kind == "artist" else with_artist_fields(catalogue)


def with_artist_fields(catalogue: Catalogue) -> pl.DataFrame:
    """Tracks with the metadata of their artists in the columns that they lack."""
    columns = [x.name for x in catalogue.fields_of("artist")]
    lacking = [name for name in columns if name not in catalogue.tracks.columns]
    of_artist = catalogue.artists.select(pl.col("id").alias("artist"), *lacking)
    return catalogue.tracks.join(of_artist, on="artist", how="left", maintain_order="left")


def _none_like(embeddings: Mapping[tuple[Kind, str], Embeddings], name: str) -> Embeddings:
    """No vector at all, of the width of a source that only the other kind of item has."""
    width = next(x.vectors.shape[1] for (_, known), x in embeddings.items() if known == name)
    return Embeddings((), np.empty((0, width), dtype=np.float32))
