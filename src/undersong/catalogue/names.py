"""What a query means: an id or a name, however it is typed; and lists of ids from files."""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.embeddings import Embeddings
from undersong.errors import DataError, UnknownItem, nearest_known

# Letters that are no plain letter with an accent, and what people type in their place.
PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}
)

WIDEST = 48  # characters of a name with its id; a longer one widens its own line alone


@dataclass(frozen=True)
class Match:
    """The item that a query was taken for, and the others it could have meant."""

    id: str
    name: str
    about: str
    relations: int
    others: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """Names of the items of a run, kept ready so that many queries are found fast.

    Parameters
    ----------
    items : table of id, name, about, relations, popularity
    """

    items: pl.DataFrame

    def find(self, query: str) -> Match:
        """Find the item that an id or a name means.

        An exact id wins, then the exact name, then the name without regard to accents, case and
        punctuation; of several the one with the highest popularity, then the most relations. The
        others are named in the answer.

        Raises
        ------
        UnknownItem
            If nothing fits, with the names that look most like the query; or nothing is asked.
        """
        same = self._fitting(query)
        if not same and not query.strip():
            raise UnknownItem("the name of an item is empty; give an id or a name")
        if not same:
            hint = self._hint(fold(query))
            raise UnknownItem(f"no item {query!r} among {len(self.items)}; {hint}")
        taken, *others = sorted(same, key=self._fame)
        row = self.items.row(taken, named=True)
        also = tuple(self.items["id"][x] for x in others)
        return Match(row["id"], row["name"], row["about"], row["relations"], also)

    def about(self, item: str) -> tuple[str, str, int]:
        """Name of an item, what is said about it, and how many relations are known of it."""
        row = self._by_id[item]
        return self._names[row], self.items["about"][row], self.items["relations"][row]

    def knows(self, query: str) -> bool:
        """Say whether an id or a name means any item."""
        return bool(self._fitting(query))

    def _fitting(self, query: str) -> list[int]:
        own = self._by_id.get(query)
        same = [own] if own is not None else self._by_name.get(query, [])
        return same or self._by_folded.get(fold(query), [])

    def _hint(self, folded: str) -> str:
        near = difflib.get_close_matches(folded, self._by_folded, n=3, cutoff=0.6)
        likely = [repr(self.items["name"][self._by_folded[x][0]]) for x in near]
        return f"did you mean {', '.join(likely)}?" if likely else "no name is like it"

    def _fame(self, row: int) -> tuple[bool, float, int]:
        popularity = self.items["popularity"][row]
        return popularity is None, -(popularity or 0), -self.items["relations"][row]

    @cached_property
    def linked(self) -> bool:
        """Say whether any relation is known; else a mark for items without would be at all."""
        return bool((self.items["relations"] > 0).any())

    @cached_property
    def _names(self) -> list[str]:
        return self.items["name"].to_list()

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.items["id"])}

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return _rows(self._names)

    @cached_property
    def _by_folded(self) -> dict[str, list[int]]:
        return _rows([fold(name) for name in self._names])


def _rows(words: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        found.setdefault(word, []).append(row)
    return found


def fold(text: str) -> str:
    """Reduce a name to what people type: no accents, no case, no punctuation, single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = bare.casefold().translate(PLAIN)
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    return " ".join(words) or text.casefold().strip()


def find_item(items: pl.DataFrame, query: str) -> Match:
    """Find the item that one query means; for many queries keep a ``Names``."""
    return Names(items).find(query)


@dataclass(frozen=True)
class Selection:
    """Rows of the items that were asked for, and how many of them have no embedding."""

    rows: NDArray[np.int64]
    without: int


def select(embeddings: Embeddings, items: pl.DataFrame, ids: Sequence[str] | None) -> Selection:
    """Find the rows of some items, in their order, each once; of all items without ``ids``.

    An item that is known but has no embedding, since nothing but its name is known, is counted.

    Raises
    ------
    UnknownItem
        For ids that are not in the table ``items``, with the first of them and their number.
    """
    asked = list(dict.fromkeys(items["id"].to_list() if ids is None else ids))
    known = set(items["id"])
    strange = [item for item in asked if item not in known]
    if strange:
        near = nearest_known(strange[0], known)
        raise UnknownItem(
            f"{len(strange)} of {len(asked)} ids are not in the catalogue, first {strange[0]!r}; "
            f"{near}"
        )
    rows = [embeddings.index[item] for item in asked if item in embeddings.index]
    return Selection(np.array(rows, dtype=np.int64), len(asked) - len(rows))


def read_ids(path: Path) -> list[str]:
    """Read ids from a file: one a line, or the column ``id`` of a CSV or Parquet table.

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or holds no id.
    """
    try:
        if path.suffix.lower() == ".parquet":
            ids = _column(path, pl.read_parquet(path))
        elif path.suffix.lower() == ".csv":
            ids = _column(path, pl.read_csv(path, infer_schema=False))
        else:
            ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a list of ids: {error}") from error
    given = [item for item in ids if item]
    if not given:
        raise DataError(f"{path} holds no id; write one a line")
    return given


def _column(path: Path, table: pl.DataFrame) -> list[str]:
    if "id" not in table.columns:
        raise DataError(f"{path} has no column 'id'; it has {', '.join(table.columns)}")
    return table["id"].cast(pl.String).drop_nulls().to_list()


def width_of(named: Sequence[str]) -> int:
    """Characters of the column of names with their ids."""
    return max((min(len(x), WIDEST) for x in named), default=0)


def mark(relations: int, *, linked: bool) -> str:
    """Mark an item of which no relation is known, where relations of others are."""
    return "long tail" if linked and not relations else ""
