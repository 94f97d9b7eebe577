"""Files of a merged catalogue: the ids of each item in each source, and corrections by hand.

identities.parquet   kind, source, source_id, id: every item of every source. Rows of the source
                     ``former`` are redirects: ids that this catalogue itself gave earlier. Rows of
                     "catalogue/service" are ids of services (``identity.services``).
doubts.parquet       kind, reason, a, b, name, other: pairs that stay apart, as source:id
corrections.csv      kind, verdict (same, different), a, b, as source:id; made by hand or by
                     `undersong identify`, read at every merge, never written by one
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue import KINDS, Kind
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.io.files import reading, replacing
from undersong.io.table_files import DAMAGE, read_table, read_user_table, write_csv, writing_tables
from undersong.linkage.items import UUID, Key

FORMER = "former"
MARK = "/"  # between a catalogue and a service whose ids it knew
IDENTITIES = {x: pl.String() for x in ("kind", "source", "source_id", "id")}
AMBIGUOUS = {x: pl.String() for x in ("kind", "reason", "a", "b", "name", "other")}
CORRECTIONS = {x: pl.String() for x in ("kind", "verdict", "a", "b")}
VERDICTS = ("same", "different")
REMEDY = "merge again with `undersong merge`"
METADATA = {"undersong.identities": "1"}


@dataclass(frozen=True)
class Correction:
    """A correction by hand: two items of sources are the same, or are not."""

    kind: Kind
    verdict: str
    a: Key
    b: Key


def writing_records(
    folder: Path, identities: pl.DataFrame, ambiguous: pl.DataFrame
) -> AbstractContextManager[None]:
    """Write identities and ambiguous pairs at the end of a block; not if it raises."""
    records = {folder / "identities.parquet": identities, folder / "doubts.parquet": ambiguous}
    return writing_tables(records, metadata=METADATA)


def read_identities(folder: Path) -> pl.DataFrame:
    """Read the ids of each item; no row where the folder was never merged into.

    Raises ArtifactError, as ``read_ambiguous`` does, if the file is damaged or of another format.
    """
    return _read(folder / "identities.parquet", IDENTITIES, metadata=METADATA, hint=REMEDY)


def read_ambiguous(folder: Path) -> pl.DataFrame:
    """Read which pairs are ambiguous and stay apart."""
    return _read(folder / "doubts.parquet", AMBIGUOUS, metadata=METADATA, hint=REMEDY)


def read_corrections(folder: Path) -> list[Correction]:
    """Read the corrections; none where there is no such file.

    Raises DataError if a line is not one, with its number.
    """
    path = folder / "corrections.csv"
    if not path.exists():
        return []
    causes = (UnicodeDecodeError, *DAMAGE)
    with reading(path, *causes, hint="see docs/identity.md", error=DataError):
        table = read_user_table(path)
    if table.columns != list(CORRECTIONS):
        raise DataError(
            f"{path} has the columns {', '.join(table.columns)}; they are {', '.join(CORRECTIONS)}"
        )
    return [_correction(row, f"{path} line {number}") for number, row in enumerate(table.rows(), 2)]


def add_correction(folder: Path, correction: Correction) -> None:
    """Write a correction; an earlier one about the same two items goes."""
    others = [
        x
        for x in read_corrections(folder)
        if (x.kind, {x.a, x.b}) != (correction.kind, {correction.a, correction.b})
    ]
    rows = [(x.kind, x.verdict, word(x.a), word(x.b)) for x in (*others, correction)]
    with replacing(folder / "corrections.csv") as temporary:
        write_csv(pl.LazyFrame(rows, schema=CORRECTIONS, orient="row"), temporary)


def word(key: Key) -> str:
    """Write source and id as one word, "lastfm:17355"."""
    return ":".join(key)


def item_of(query: str, identities: pl.DataFrame) -> Key:
    """Find the item of a source that "source:id" or an id of the merged catalogue means.

    An id stands for the first of its items.

    Raises
    ------
    UnknownItem
        If it is neither.
    """
    source, _, item = query.partition(":")
    rows = items_alone(identities)
    if not rows.filter(pl.col("source") == source, pl.col("source_id") == item).is_empty():
        return source, item
    current = follow(query, identities)
    keys: list[Key] = rows.filter(pl.col("id") == current).select("source", "source_id").rows()
    if not keys:
        known = map(word, rows.select("source", "source_id").iter_rows())
        raise UnknownItem(
            f"{query!r} is no id and no source:id of this catalogue; {nearest_known(query, known)}"
        )
    return min(keys)


def items_alone(identities: pl.DataFrame) -> pl.DataFrame:
    """Rows of the items of the sources: neither redirects nor ids of services."""
    service = pl.col("source").str.contains(MARK, literal=True)
    return identities.filter(pl.col("source") != FORMER, ~service)


def follow(item: str, identities: pl.DataFrame) -> str:
    """Return the id that a former id is now; any other stays."""
    rows = identities.filter(pl.col("source") == FORMER, pl.col("source_id") == item)
    return item if rows.is_empty() else str(rows["id"][0])


def of_kind(corrections: Iterable[Correction], kind: Kind, verdict: str) -> list[tuple[Key, Key]]:
    """Return the pairs of items of one kind and verdict."""
    return [(x.a, x.b) for x in corrections if (x.kind, x.verdict) == (kind, verdict)]


def _correction(row: tuple[str | None, ...], where: str) -> Correction:
    kind, verdict, *items = (x or "" for x in row)
    if verdict not in VERDICTS:
        raise DataError(f"{where}: verdict {verdict!r}; {nearest_known(verdict, VERDICTS)}")
    if kind not in KINDS:
        raise DataError(f"{where}: kind {kind!r}; {nearest_known(kind, KINDS)}")
    keys = [(source, item) for source, _, item in (x.partition(":") for x in items)]
    for text, key in zip(items, keys, strict=True):
        if not all(key):
            raise DataError(f"{where}: {text!r} is no item; write source:id")
    return Correction(kind, verdict, *keys)


def read_services(folder: Path) -> pl.DataFrame:
    """Read which ids of which service mean the items of a catalogue; no row where none is noted.

    Raises ArtifactError if the file is damaged.
    """
    return _read(folder / "identities.parquet", IDENTITIES, hint=f"import {folder} again")


def redirects_of(services: Iterable[pl.DataFrame]) -> dict[str, str]:
    """Read which ids of MusicBrainz were merged into others: those that several items' ids mean.

    An importer notes each id that means an item; the item's own id is the one of today.
    """
    return {
        old.lower(): item.lower()
        for table in services
        for item, old in table.filter(
            pl.col("source") == "musicbrainz",
            pl.col("kind") == "artist",
            pl.col("id") != pl.col("source_id"),
        )
        .select("id", "source_id")
        .iter_rows()
        if UUID.fullmatch(item.lower()) and UUID.fullmatch(old.lower())
    }


def _read(
    path: Path,
    columns: dict[str, pl.String],
    *,
    metadata: Mapping[str, str] | None = None,
    hint: str,
) -> pl.DataFrame:
    """Read a table of words; of any format where no ``metadata`` names it."""
    if not path.exists():
        return pl.DataFrame(schema=columns)
    with reading(path, *DAMAGE, hint=hint):
        return read_table(path, hint=hint, metadata=metadata, columns=list(columns)).cast(
            pl.String()
        )


def carry(identities: pl.DataFrame, services: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Add the ids of services to the ids of sources.

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
