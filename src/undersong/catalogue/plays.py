"""Who plays what, as numbers: plays are the one table that may not fit beside what reads it."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue.schema import Kind
from undersong.catalogue.tables import Catalogue
from undersong.errors import ArtifactError
from undersong.io.table_files import DAMAGE
from undersong.progress import Progress, silent, watched

AT_ONCE = 2**20  # rows whose users and items are looked up: names take most memory


@dataclass(frozen=True)
class NumberedPlays:
    """Plays above 0 of known items, as three columns of equal length; a pair may stand twice.

    Parameters
    ----------
    users : how many people play any item, 0 or more
    user : (rows,) int32, number of the one who plays, in the order of their ids
    item : (rows,) int32, row of the item in its table
    plays : (rows,) float32
    """

    users: int
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    plays: NDArray[np.float32]


def numbered(catalogue: Catalogue, kind: Kind, *, progress: Progress = silent) -> NumberedPlays:
    """Read the plays of one kind of item, ``AT_ONCE`` rows at a time: 12 bytes a row are kept.

    Raises
    ------
    ArtifactError
        If the file that the catalogue was read from is gone or damaged.
    """
    try:
        return _numbered(catalogue, kind, progress)
    except (OSError, *DAMAGE) as error:
        raise ArtifactError(
            f"the plays of the catalogue cannot be read any more ({error}); was it imported again "
            "meanwhile? Give the same command again"
        ) from error


def _numbered(catalogue: Catalogue, kind: Kind, progress: Progress) -> NumberedPlays:
    progress("plays", 0, 1)
    wanted = (pl.col("kind") == kind) & (pl.col("plays") > 0)
    items = pl.DataFrame({"item": catalogue.ids(kind)}, schema={"item": pl.String})
    items = items.select("item", row=pl.int_range(pl.len(), dtype=pl.Int32))
    rows = catalogue.plays.filter(wanted)
    named = rows.select(pl.col("user").unique().sort()).collect(engine="streaming")
    users = named.with_columns(number=pl.int_range(pl.len(), dtype=pl.Int32))
    most = rows.select(pl.len()).collect().item()
    user, item = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    plays = np.empty(most, dtype=np.float32)
    end = 0
    for start in watched(range(0, catalogue.count_plays(), AT_ONCE), progress, "plays"):
        some = catalogue.plays.slice(start, AT_ONCE).filter(wanted).collect()
        block = some.join(items, on="item").join(users, on="user")
        here, end = slice(end, end + len(block)), end + len(block)
        user[here], item[here] = block["number"].to_numpy(), block["row"].to_numpy()
        plays[here] = block["plays"].to_numpy()
    return NumberedPlays(len(users), user[:end], item[:end], plays[:end])
