"""What the last import knew of a music folder (``files.parquet``), and pairs that users know.

The file holds the tags of every file, and the size, time and inode that it had then.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue import KINDS, RELATIONS, Catalogue, Kind, fold, refuse, whole
from undersong.errors import DataError
from undersong.importers.music.library import FILES
from undersong.importers.music.scan import ScannedFile, Walk
from undersong.importers.tables.spreadsheets import header, read_sheet
from undersong.io.tables import read_metadata, read_table, write_table

FORMAT = "1"  # of the file, and of how tags are understood: a new one reads them all again
STAMP = ("path", "size", "modified", "inode")


def read_files(catalogue: Path, root: Path) -> pl.DataFrame:
    """Read what is known of the files below ``root``, one row each, columns ``library.FILES``.

    Nothing is known where nothing was imported, or another version of undersong did it.

    Raises
    ------
    DataError
        If the file is damaged, or about another folder.
    """
    path = catalogue / "files.parquet"
    if not path.exists():
        return pl.DataFrame(schema=FILES)
    hint = "delete it and import again"
    about = read_metadata(path, hint=hint, error=DataError)
    files = read_table(path, hint=hint, error=DataError)
    if about.get("root") != str(root):
        raise DataError(
            f"{catalogue} was made from {about.get('root')}, not from {root}; import into another "
            f"catalogue, or, if the music has moved, delete {path} and import again"
        )
    return files if about.get("format") == FORMAT else pl.DataFrame(schema=FILES)


def write_files(catalogue: Path, root: Path, files: pl.DataFrame) -> None:
    """Write what is known of the files."""
    metadata = {"format": FORMAT, "root": str(root)}
    write_table(catalogue / "files.parquet", files, metadata=metadata)


def compare(scan: Walk, before: pl.DataFrame) -> tuple[pl.DataFrame, tuple[ScannedFile, ...]]:
    """Part what is known already from the files to read, which are new or have changed.

    Nothing is known of a folder that cannot be listed now, so what was below it stays: a disk
    that is not mounted is no music removed.
    """
    there = pl.DataFrame(
        [(x.path, x.size, x.modified, x.inode) for x in scan.files],
        schema={name: FILES[name] for name in STAMP},
        orient="row",
    )
    hidden = pl.lit(value=False)
    for folder in scan.unlisted:
        hidden |= pl.col("path").str.starts_with(f"{folder}/")
    same = before.join(there, on=STAMP, how="semi", maintain_order="left")
    known = set(same["path"])
    pending = tuple(x for x in scan.files if x.path not in known)
    return pl.concat([same, before.filter(hidden)]), pending


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
    names, findings = header(path, file=path.name)
    ends = [x for x in names if x != "source"][:2]
    if not findings and len(ends) < 2:
        findings = whole(path.name, f"has columns {names}", sort="one column", remedy=remedy)
    refuse(findings, remedy=remedy)
    columns = dict(zip("ab", ends, strict=True)) | (
        {"source": "source"} if "source" in names else {}
    )
    sheet, findings = read_sheet(path, columns, file=path.name)
    refuse(findings, remedy=remedy)
    rows = sheet.rows if sheet else pl.DataFrame(schema=RELATIONS)
    if "source" not in columns:
        rows = rows.with_columns(source=pl.lit(path.name.split(".")[0]))
    return _resolve(
        rows.select(pl.col("a", "b", "source").cast(pl.String)), catalogue, file=path.name
    )


def _resolve(rows: pl.DataFrame, catalogue: Catalogue, *, file: str) -> KnownPairs:
    known = {kind: _known(catalogue, kind) for kind in KINDS}
    pairs, unknown = [], dict[str, None]()
    for a, b, source in rows.iter_rows():
        for kind in KINDS:
            ends = [_find(known[kind], x) for x in (a, b)]
            if None not in ends:
                pairs.append((kind, *sorted(map(str, ends)), source))
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
    """Return the id that each word means: ids before paths before names before folded names."""
    tracks = catalogue.tracks
    ids, names = catalogue.ids(kind), catalogue.names(kind)
    if kind == "artist":
        counts = dict(tracks["artist"].value_counts().iter_rows())
        order = sorted(zip(ids, names, strict=True), key=lambda x: counts.get(x[0], 0))
        paths: dict[str, str] = {}
    else:
        order = list(reversed(list(zip(ids, names, strict=True))))
        paths = dict(tracks.select("path", "id").drop_nulls().iter_rows())
    folded = {fold(name): item for item, name in order}
    return folded | {name: item for item, name in order} | paths | {x: x for x in ids}


def _find(known: dict[str, str], word: str | None) -> str | None:
    return None if word is None else known.get(word) or known.get(fold(word))
