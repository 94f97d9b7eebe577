"""Pairs of artists or tracks that users know to be similar -> relations of a music folder."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue import KINDS, RELATIONS, Catalogue, Kind, name_key, refuse, whole
from undersong.errors import DataError
from undersong.importers.tables.spreadsheets import header, read_sheet


@dataclass(frozen=True)
class KnownPairs:
    """Relations (kind, a, b, source), and how many pairs were not both in the catalogue.

    ``unknown`` has the names that are in no item, in the order of the file.
    """

    relations: pl.DataFrame
    left_out: int
    unknown: tuple[str, ...]


def known_pairs(path: Path, catalogue: Catalogue) -> KnownPairs:
    """Read pairs of two artists, or of two tracks, that a catalogue has.

    A pair of which it lacks one is left out, and so is one of an item with itself. Of several
    items of one name the one with the most tracks is meant, of tracks the first.

    Parameters
    ----------
    path : CSV or Parquet with a header; without a column ``source`` its name is the source

    Raises
    ------
    DataError
        If the file cannot be read, has fewer than two columns, or no pair that is known.
    """
    remedy = "give a header and two columns: who is similar to whom"
    names, issues = header(path, file=path.name)
    ends = [x for x in names if x != "source"][:2]
    if not issues and len(ends) < 2:
        issues = whole(path.name, f"has columns {names}", sort="one column", remedy=remedy)
    refuse(issues, remedy=remedy)
    columns = dict(zip("ab", ends, strict=True))
    if "source" in names:
        columns["source"] = "source"
    sheet, issues = read_sheet(path, columns, file=path.name)
    refuse(issues, remedy=remedy)
    rows = sheet.rows if sheet else pl.DataFrame(schema=RELATIONS)
    if "source" not in columns:
        rows = rows.with_columns(source=pl.lit(path.name.split(".")[0]))
    rows = rows.select(pl.col("a", "b", "source").cast(pl.String))
    return _resolve(rows, catalogue, file=path.name)


def _resolve(rows: pl.DataFrame, catalogue: Catalogue, *, file: str) -> KnownPairs:
    known = {kind: _known(catalogue, kind) for kind in KINDS}
    pairs, unknown = [], dict[str, None]()
    for a, b, source in rows.iter_rows():
        for kind in KINDS:
            one, other = (_find(known[kind], x) for x in (a, b))
            if one and other:
                pairs.append((kind, *sorted((one, other)), source))
                break
        else:
            lacking = (x for x in (a, b) if not any(_find(known[kind], x) for kind in KINDS))
            unknown |= dict.fromkeys(str(x) for x in lacking)
    if not pairs:
        named = ", ".join(map(repr, list(unknown)[:5]))
        raise DataError(
            f"{file} relates no two items of this music; it lacks {named}; "
            "give ids or names that `undersong similar` knows"
        )
    relations = pl.DataFrame(pairs, schema=RELATIONS, orient="row").filter(
        (pl.col("a") != pl.col("b")) & pl.col("source").is_not_null()
    )
    relations = relations.unique(maintain_order=True)
    return KnownPairs(relations, len(rows) - len(pairs), tuple(unknown))


def _known(catalogue: Catalogue, kind: Kind) -> dict[str, str]:
    """Return the id that each word means: ids before paths before names before their keys."""
    tracks = catalogue.tracks
    # The last of one name counts: of artists that with the most tracks, of tracks the first.
    pairs = list(zip(catalogue.ids(kind), catalogue.names(kind), strict=True))
    if kind == "artist":
        counts = dict(tracks["artist"].value_counts().iter_rows())
        pairs.sort(key=lambda x: counts.get(x[0], 0))
        paths: dict[str, str] = {}
    else:
        pairs.reverse()
        places = tracks.select("path", "id").drop_nulls().iter_rows()
        paths = {unicodedata.normalize("NFC", path): item for path, item in places}
    keyed = {name_key(name): item for item, name in pairs}
    return keyed | {name: item for item, name in pairs} | paths | {x: x for x, _ in pairs}


def _find(known: dict[str, str], word: str | None) -> str | None:
    if word is None:
        return None
    composed = unicodedata.normalize("NFC", word)
    return known.get(word) or known.get(composed) or known.get(name_key(word))
