"""What somebody plays: of a file, or of a user of a catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue.tables import Catalogue, Kind
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.names import Names

TABLES = (".csv", ".parquet")
LIKELY = (*TABLES, ".txt", ".tsv")  # endings of a file of plays, and hardly of a user's id


@dataclass(frozen=True)
class Seeds:
    """What somebody plays, most played first: ids and plays; ``unknown`` words were left out."""

    ids: tuple[str, ...]
    plays: tuple[float, ...]
    unknown: tuple[str, ...] = ()


def read_seeds(path: Path, names: Names) -> Seeds:
    """Read what somebody plays: a CSV or Parquet table, or text with an id or name a line.

    A table has the column ``id`` or ``name`` and may have ``plays``; a row without is one play.
    Words that nobody is called are left out and listed.

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or plays are no numbers.
    UnknownItem
        If nothing in it is known.
    """
    try:
        table = _table(path)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a table of plays: {error}") from error
    played: dict[str, float] = {}
    unknown: list[str] = []
    for word, plays in table.group_by("word", maintain_order=True).agg(pl.sum("plays")).rows():
        try:
            item = names.find(word).id
        except UnknownItem:
            unknown.append(word)
            continue
        played[item] = played.get(item, 0.0) + plays
    if not played:
        raise UnknownItem(
            f"{path}: none of {len(unknown)} words is an id or a name here, first "
            f"{next(iter(unknown), '')!r}"
        )
    return _seeds(played, unknown)


def seeds_of_user(catalogue: Catalogue | None, kind: Kind, user: str) -> Seeds:
    """List what a user of a catalogue plays.

    Raises
    ------
    DataError
        If there is no catalogue, or nobody of this id plays anything of this kind; where the id
        looks like the path of a file, which was then mistyped, this is said.
    """
    of_user = pl.col("user") == user
    named = catalogue is not None and len(catalogue.plays.filter(of_user).head(1).collect())
    if not named and _names_a_file(user):
        beside = (x.name for x in Path(user).parent.glob("*") if x.suffix.lower() in LIKELY)
        near = nearest_known(Path(user).name, sorted(beside))
        raise DataError(f"there is no file {user}, nor a user of that name; {near}")
    if catalogue is None:
        raise DataError(
            f"{user!r} is no file, and the catalogue in which it could be a user is not where it "
            "was; say where with --catalogue"
        )
    own = catalogue.played(kind).filter(of_user).collect()
    if own.is_empty():
        users = catalogue.played(kind).select(pl.col("user").unique().sort()).collect()
        near = nearest_known(user, users["user"])
        raise DataError(f"no user {user!r} plays {kind}s in this catalogue; {near}")
    return _seeds(dict(own.select("item", "plays").rows()), ())


def _names_a_file(word: str) -> bool:
    return Path(word).suffix.lower() in LIKELY or len(Path(word).parts) > 1


def _table(path: Path) -> pl.DataFrame:
    """Read the file of seeds as a table of word and plays."""
    if path.suffix.lower() not in TABLES:
        lines = [x.strip() for x in path.read_text(encoding="utf-8-sig").splitlines()]
        return pl.DataFrame({"word": [x for x in lines if x]}, schema={"word": pl.String}).select(
            "word", plays=pl.lit(1.0)
        )
    parquet = path.suffix.lower() == ".parquet"
    table = pl.read_parquet(path) if parquet else pl.read_csv(path, infer_schema=False)
    column = next((x for x in ("id", "name") if x in table.columns), None)
    if column is None:
        raise DataError(f"{path} has no column 'id' or 'name'; it has {', '.join(table.columns)}")
    plays = pl.col("plays").cast(pl.Float64) if "plays" in table.columns else pl.lit(1.0)
    read = table.select(word=pl.col(column).cast(pl.String), plays=plays.fill_null(1.0))
    wrong = read.filter(~pl.col("plays").is_finite() | (pl.col("plays") < 0))
    if len(wrong):
        word, found = wrong.row(0)
        raise DataError(f"{path}: {found} plays of {word!r}; plays are 0 or more")
    return read.drop_nulls("word").filter(pl.col("plays") > 0)


def _seeds(played: dict[str, float], unknown: Sequence[str]) -> Seeds:
    order = sorted(played, key=lambda x: (-played[x], x))
    return Seeds(tuple(order), tuple(played[x] for x in order), tuple(unknown))
