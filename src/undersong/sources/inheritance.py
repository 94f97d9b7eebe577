"""What tracks take over from their artists: fields that they do not have themselves."""

from dataclasses import replace

import polars as pl

from undersong.catalogue.tables import Catalogue


def with_artist_fields(catalogue: Catalogue) -> Catalogue:
    """Give each track the fields of its artist, as fields of the track.

    A field that tracks have under the same name stays theirs. A role that a field of the tracks
    holds is not given away a second time: the artist's field comes without its role. A withheld
    field stays withheld.
    """
    own = {x.name for x in catalogue.fields_of("track")} | set(catalogue.tracks.columns)
    roles = {x.role for x in catalogue.fields_of("track")}
    taken = [x for x in catalogue.fields_of("artist") if x.name not in own]
    columns = [pl.col("id").alias("artist"), *(x.name for x in taken)]
    tracks = catalogue.tracks.join(
        catalogue.artists.select(columns), on="artist", how="left", maintain_order="left"
    )
    inherited = [replace(x, kind="track", role="" if x.role in roles else x.role) for x in taken]
    return replace(catalogue, tracks=tracks, fields=(*catalogue.fields, *inherited))
