"""What a query means: an id or a name, however it is typed; and lists of ids from files."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue.schema import Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.io.files import reading
from undersong.io.table_files import DAMAGE, read_user_table
from undersong.processors import computed_once

# Letters that are no plain letter with an accent, and what people type in their place.
PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}
)

# Scripts whose marks are accents, which people leave out; in others they are letters.
ACCENTED = ("LATIN", "GREEK", "ARABIC", "HEBREW", "SYRIAC")
STRESS = "\u0300\u0301"  # marks of stress upon a Cyrillic vowel
# Signs that programs write in several ways, and what cannot be seen.
WRITTEN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-")
    | {"\u2026": "..."}
    | dict.fromkeys("\u00ad\u200b\u2060\ufeff")
)
PARTING = re.compile(r"(?<=\w)[-_,;:](?=\s*\w)|/")

PIECE = 1_000  # characters that are normalised as one
COMPARED = 3_000  # names, the best known of about the right length, that a mistyped one may mean


@dataclass(frozen=True, slots=True)
class Item:
    """An artist or a track, wherever it is listed; long tail: no relation of it is known."""

    id: str
    kind: Kind
    name: str
    about: str
    relations: int
    popularity: float | None
    long_tail: bool


@dataclass(frozen=True)
class Names:
    """The items of one kind by id and by name, kept ready so that many queries are answered fast.

    Parameters
    ----------
    table : (n,) rows of id, name, about, relations, popularity
    """

    table: pl.DataFrame
    kind: Kind = "artist"

    def item(self, row: int) -> Item:
        """Return the item in a row of the table."""
        item, name, about, relations, popularity = self.table.row(row)
        return Item(item, self.kind, name, about, relations, popularity, not relations)

    def find(self, query: str) -> tuple[Item, ...]:
        """Return the items that an id or a name may mean, the best known first.

        An exact id wins, and others who are called so follow it; then the exact name, the name
        without regard to case (``name_key``), or to accents and punctuation, too (``fold``); of
        several the one with the highest popularity, then the most relations.

        Raises
        ------
        UnknownItem
            If nothing fits, with the names that look most like the query; or it is empty.
        """
        items = self._fitting(query)
        if not items and not query.strip():
            raise UnknownItem("the name of an item is empty; give an id or a name")
        if not items:
            hint = self._hint(fold(query))
            raise UnknownItem(f"no item {query!r} among {len(self.table)}; {hint}")
        return items

    def knows(self, query: str) -> bool:
        """Whether an id or a name means any item."""
        return query in self.row or bool(self.named(query))

    def get(self, item_id: str) -> Item:
        """Return the item with an id.

        Raises
        ------
        UnknownItem
            If there is none, with those whose names are like it.
        """
        if item_id in self.row:
            return self.item(self.row[item_id])
        likely = ", ".join(f"{x.name!r} ({x.id})" for x in self.suggest(item_id, limit=3))
        hint = f"did you mean {likely}?" if likely else "search by name to find its id"
        raise UnknownItem(f"no {self.kind} has the id {item_id[:80]!r}; {hint}")

    def named(self, name: str) -> tuple[Item, ...]:
        """Return all items of a name, those first that are spelt so or nearly so (``find``)."""
        if rows := self._by_name.get(name):
            return self.best_known(rows)
        nearest = self._by_key.get(name_key(name), [])
        others = [x for x in self.by_folded.get(fold(name), []) if x not in nearest]
        return (*self.best_known(nearest), *self.best_known(others))

    def suggest(self, text: str, *, limit: int) -> tuple[Item, ...]:
        """Return items whose names somebody may mean who has typed this much (``suggest``)."""
        return suggest([self], text, limit=limit)

    def best_known(self, rows: Sequence[int]) -> tuple[Item, ...]:
        """Return the items of some rows, the best known first."""
        order = sorted(rows, key=lambda x: self.fame[x]) if len(rows) > 1 else rows
        return tuple(self.item(x) for x in order)

    def starting(self, text: str, *, limit: int) -> list[tuple[int, int]]:
        """Return the first rows of names that fit what was typed, each behind its group's number.

        The groups: the very name as it was typed, in other letters, names that begin with it as a
        whole word, that begin so, with a word that does, that hold it anywhere; in each the best
        known first.
        """
        names, folded = self.folded, fold(text)
        very = pl.Series(range(len(names))).is_in(self._by_key.get(name_key(text), []))
        group = (
            pl.when(very)
            .then(0)
            .when(names == folded)
            .then(1)
            .when(names.str.starts_with(f"{folded} "))
            .then(2)
            .when(names.str.starts_with(folded))
            .then(3)
            .when(names.str.contains(f" {folded}", literal=True))
            .then(4)
            .when(names.str.contains(folded, literal=True))
            .then(5)
        )
        grouped = pl.select(group.alias("group"), fame=pl.Series(self.fame)).with_row_index("row")
        first = grouped.drop_nulls().sort("group", "fame").head(limit)
        return list(first.select("group", "row").iter_rows())

    def alike(self, folded: str, *, limit: int) -> list[int]:
        """Return rows of names like a mistyped one, among the best known of about its length."""
        lengths = self.folded.str.len_chars().to_numpy().astype(np.int64)
        rows = np.flatnonzero(np.abs(lengths - len(folded)) <= 2)
        rows = rows[np.argsort(self.fame[rows], kind="stable")][:COMPARED].tolist()
        names = {self.folded[row]: row for row in reversed(rows)}
        return [names[x] for x in difflib.get_close_matches(folded, names, n=limit, cutoff=0.7)]

    @computed_once
    def linked(self) -> bool:
        """Whether any relation is known; else a mark for items without would be at all."""
        return bool((self.table["relations"] > 0).any())

    @computed_once
    def row(self) -> dict[str, int]:
        """Row of each id."""
        return {item: row for row, item in enumerate(self.table["id"])}

    @computed_once
    def folded(self) -> pl.Series:
        """Names as ``fold`` leaves them, in the order of the table."""
        return pl.Series([fold(x) for x in self.table["name"]], dtype=pl.String)

    @computed_once
    def by_folded(self) -> dict[str, list[int]]:
        """Rows of each folded name."""
        return _rows(self.folded)

    @computed_once
    def fame(self) -> NDArray[np.int64]:
        """Position of each row among all, the best known first: popularity, then relations."""
        order = self.table.with_row_index("row").sort(
            ["popularity", "relations"], descending=True, nulls_last=True, maintain_order=True
        )["row"]
        position = np.empty(len(order), dtype=np.int64)
        position[order.to_numpy()] = np.arange(len(order))
        return position

    @computed_once
    def _by_name(self) -> dict[str, list[int]]:
        return _rows(self.table["name"])

    def _fitting(self, query: str) -> tuple[Item, ...]:
        if not isinstance(query, str):
            raise UnknownItem(f"{query!r} is no id or name, which are text; write {str(query)!r}")
        if query in self.row:
            others = [x for x in self._by_name.get(query, []) if x != self.row[query]]
            return (self.item(self.row[query]), *self.best_known(others))
        return self.named(query)

    @computed_once
    def _by_key(self) -> dict[str, list[int]]:
        return _rows(map(name_key, self.table["name"]))

    def _hint(self, folded: str) -> str:
        near = difflib.get_close_matches(folded, self.by_folded, n=3, cutoff=0.6)
        likely = [repr(self.table["name"][self.by_folded[x][0]]) for x in near]
        return f"did you mean {', '.join(likely)}?" if likely else "no name is like it"


def suggest(tables: Sequence[Names], text: str, *, limit: int) -> tuple[Item, ...]:
    """Return items of several kinds whose names somebody may mean who has typed this much.

    Those that fit best come first (``Names.starting``), of equal ones those of the first kind, then
    the best known. Where nothing fits, names that look like it.
    """
    folded = fold(text)
    if not folded:
        return ()
    fitting = [
        (group, place, row)
        for place, names in enumerate(tables)
        for group, row in names.starting(text, limit=limit)
    ]
    ordered = [(place, row) for _, place, row in sorted(fitting, key=lambda x: x[:2])]
    ordered = ordered or [
        (place, row)
        for place, names in enumerate(tables)
        for row in names.alike(folded, limit=limit)
    ]
    return tuple(tables[place].item(row) for place, row in ordered[:limit])


def _rows(words: Iterable[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        rows.setdefault(word, []).append(row)
    return rows


def fold(text: str) -> str:
    """Reduce a name to what people type: no accents, no case, no punctuation, single spaces.

    A key to search by, and no identity: "M\u00d8" and "Mo" have the same (see ``name_key``). Marks
    that are letters, such as the vowels of Devanagari and the voicing of kana, stay.
    """
    bare = text if text.isascii() else _without_accents(text)
    plain = bare.casefold().translate(PLAIN)
    words = "".join(c if c.isalnum() or _is_mark(c) else " " for c in plain).split()
    return " ".join(words) or text.casefold().strip()


def _without_accents(text: str) -> str:
    base, kept = "", []
    for c in _normal("NFKD", text):
        if not _is_mark(c):
            base = c
        elif not _is_letter_mark(base, c):
            continue
        kept.append(c)
    return _normal("NFC", "".join(kept))


def _normal(form: Literal["NFC", "NFKD"], text: str) -> str:
    """Normalise a text, a long one in pieces: of a run of marks the time grows with the square."""
    pieces = (text[x : x + PIECE] for x in range(0, len(text), PIECE))
    return "".join(unicodedata.normalize(form, x) for x in pieces)


def _is_mark(c: str) -> bool:
    return not c.isascii() and unicodedata.category(c)[0] == "M"


def _is_letter_mark(base: str, mark: str) -> bool:
    """Return whether a mark makes another letter or syllable of its base, unlike an accent."""
    if not base.isalpha() or (script := unicodedata.name(base, "")).startswith(ACCENTED):
        return False
    return not script.startswith("CYRILLIC") or not (mark in STRESS or base in "\u0435\u0415")


def name_key(text: str) -> str:
    """Return the key by which two names are one: composed, without case, single spaces.

    No letter, accent or sign is lost, so other names have other keys. Alike are only ways to write
    a quote or dash, and a hyphen, comma, colon or slash between words and a space.
    """
    plain = _normal("NFC", text).casefold().translate(WRITTEN)
    key = " ".join(PARTING.sub(" ", plain).split())
    return _normal("NFC", key) or text.casefold().strip()


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
    wanted = list(dict.fromkeys(items["id"].to_list() if ids is None else ids))
    known = set(items["id"])
    strange = [item for item in wanted if item not in known]
    if strange:
        near = nearest_known(strange[0], known)
        raise UnknownItem(
            f"{len(strange)} of {len(wanted)} ids are not in the catalogue, first {strange[0]!r}; "
            f"{near}"
        )
    rows = [embeddings.index[item] for item in wanted if item in embeddings.index]
    return Selection(np.array(rows, dtype=np.int64), len(wanted) - len(rows))


def read_ids(path: Path) -> list[str]:
    """Read ids from a file: one a line, or the column ``id`` of a CSV or Parquet table.

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or holds no id.
    """
    fault, hint = "cannot be read as a list of ids", "write one a line"
    with reading(path, UnicodeDecodeError, *DAMAGE, fault=fault, hint=hint, error=DataError):
        if path.suffix.lower() in (".parquet", ".csv", ".tsv"):
            ids = _column(path, read_user_table(path))
        else:
            ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    named = [item for item in ids if item]
    if not named:
        raise DataError(f"{path} holds no id; write one a line")
    return named


def _column(path: Path, table: pl.DataFrame) -> list[str]:
    own = next((x for x in table.columns if x.casefold() == "id"), None)
    if own is None:
        raise DataError(f"{path} has no column 'id'; it has {', '.join(table.columns)}")
    return table[own].cast(pl.String).drop_nulls().to_list()
