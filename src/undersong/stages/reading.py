"""What GRM reads of every item of a catalogue: E_C, E_U, metadata (the arrows into figure 3)."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from undersong import inputs
from undersong.catalogue.tables import Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.inputs import Encoder, Source

CONTENT, INTERACTION = "content", "interaction"
KNOWN_OF_EACH = (CONTENT, INTERACTION)


def read_sources(
    catalogue: Catalogue,
    kind: Kind,
    encoders: tuple[Encoder, ...],
    embeddings: Mapping[tuple[Kind, str], Embeddings],
) -> tuple[Source, ...]:
    """Read what GRM knows of every item of one kind: E_C, E_U, then the metadata fields.

    A track has the metadata of its artist where it has none of its own.
    """
    given = {
        name: embeddings.get((kind, name), _none_like(embeddings, name))
        for name in KNOWN_OF_EACH
        if any(known == name for _, known in embeddings)
    }
    return inputs.read(read_items(catalogue, kind), encoders, given)


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
