"""What the last import knew of each file of a music folder: two files in the catalogue's folder.

files.parquet    what the tags of every file said, and the size, time and inode it had then
failures.csv     file, reason, remedy
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from undersong.errors import DataError
from undersong.files import replacing
from undersong.sources.library import FILES
from undersong.sources.walk import Failure, Found, Walk

FORMAT = "1"  # of the file, and of how tags are understood: a new one reads them all again
STAMP = ("path", "size", "modified", "inode")
FAILURES = dict.fromkeys(("file", "reason", "remedy"), pl.String())


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
    try:
        about = pl.read_parquet_metadata(path)
        files = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and import again") from error
    if about.get("root") != str(root):
        raise DataError(
            f"{catalogue} was made from {about.get('root')}, not from {root}; import into another "
            f"catalogue, or, if the music has moved, delete {path} and import again"
        )
    return files if about.get("format") == FORMAT else pl.DataFrame(schema=FILES)


def write_files(catalogue: Path, root: Path, files: pl.DataFrame) -> None:
    """Write what is known of the files."""
    with replacing(catalogue / "files.parquet") as temporary:
        files.write_parquet(temporary, metadata={"format": FORMAT, "root": str(root)})


def compare(found: Walk, before: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Found, ...]]:
    """Part what is known already from the files to read, which are new or have changed.

    Nothing is known of a folder that cannot be listed now, so what was below it stays: a disk
    that is not mounted is no music removed.
    """
    there = pl.DataFrame(
        [(x.path, x.size, x.modified, x.inode) for x in found.files],
        schema={name: FILES[name] for name in STAMP},
        orient="row",
    )
    hidden = pl.lit(value=False)
    for folder in found.unlisted:
        hidden |= pl.col("path").str.starts_with(f"{folder}/")
    same = before.join(there, on=STAMP, how="semi", maintain_order="left")
    known = set(same["path"])
    pending = tuple(x for x in found.files if x.path not in known)
    return pl.concat([same, before.filter(hidden)]), pending


def write_failures(catalogue: Path, failures: Iterable[Failure]) -> None:
    """List what was left out, as a table that a spreadsheet opens; an empty one says: nothing."""
    rows = [(x.file, x.reason, x.remedy) for x in failures]
    with replacing(catalogue / "failures.csv") as temporary:
        pl.DataFrame(rows, schema=FAILURES, orient="row").write_csv(temporary)
