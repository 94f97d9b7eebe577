"""Ids of other services that importers noted of their items -> the same of merged items.

In ``identities.parquet`` of a merged catalogue their source is "catalogue/service", such as
"listens/musicbrainz": an id of MusicBrainz that the catalogue "listens" knew. Ids that were
redirected, there or in a catalogue that was merged itself, are among them.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from undersong.errors import ArtifactError
from undersong.identity.records import IDENTITIES, MARK


def read_services(folder: Path) -> pl.DataFrame:
    """Read which ids of which service mean the items of a catalogue; no row where none is noted.

    Raises
    ------
    ArtifactError
        If the file is damaged.
    """
    path = folder / "identities.parquet"
    if not path.exists():
        return pl.DataFrame(schema=IDENTITIES)
    try:
        return pl.read_parquet(path).select(*IDENTITIES).cast(pl.String())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); import {folder} again") from error


def carry(identities: pl.DataFrame, services: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Add the ids of services to who is who.

    Parameters
    ----------
    identities : of the merged catalogue
    services : source -> its own identities; rows about items that it has not are left out
    """
    carried = [
        noted.rename({"id": "own"})
        .join(
            identities.filter(pl.col("source") == name).select("kind", "id", own="source_id"),
            on=["kind", "own"],
        )
        .with_columns(source=pl.lit(f"{name}{MARK}") + pl.col("source"))
        .select(*IDENTITIES)
        for name, noted in sorted(services.items())
    ]
    return pl.concat([identities, *carried]).unique().sort("kind", "source", "source_id", "id")
