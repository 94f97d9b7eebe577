"""What tells items apart and together: ids, names, and facts that two sources both know.

A name is reduced to what stays of it when people spell it their way:

    exact    Die Ärzte        AC/DC      The Beatles    Кино
    folded   die arzte        ac dc      the beatles    кино
    plain    die arzte        ac dc      beatles        кино
    key      diearzte         acdc       beatles        kino

Names of one key may be the same artist, and those of two keys are never taken for it. Brackets
stay in a name: "Nirvana (UK)" says that it is another one.

What several sources say of one item is made what the merged catalogue says of it:

    name, category   what most sources say; of equally many the first in the alphabet
    tags             all of them, what most sources say first
    number           the mean, but the highest popularity of a track
    split            test before validation before training, so that nothing is trained on that
                     one source keeps for a test
    path             the first; whole paths where the sources' audio begins at different folders
    features         the mean of the vectors
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from anyascii import anyascii

from undersong.catalogue import FIELD_TYPES, ITEMS, Catalogue, Field, Kind, Role, fold
from undersong.embeddings import Embeddings
from undersong.errors import DataError

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
YEARS_APART = 20.0  # first decades differ between good sources by one; by two they are two people

# One space each, and the parts are stripped: runs of spaces would take quadratic time.
FEATURING = re.compile(r"\s[\[(]?(?:feat\.?|ft\.?|featuring)\s", re.I)
TOGETHER = re.compile(r"[,+/;]\s|\s(?:&|\+|/|and|x|with|vs\.?|und|et|y|e)\s", re.I)
AND = re.compile(r"[&+]")

Key = tuple[str, str]


@dataclass(frozen=True)
class Spelling:
    """Forms of one name, each less particular than the one before; see the module's docstring.

    ``turned`` is the key of "Bach, Johann Sebastian" the other way round; else it is empty.
    ``letters`` are those of the name with their accents, whatever their order.
    """

    exact: str
    folded: str
    plain: str
    key: str
    turned: str
    letters: str

    @property
    def guest(self) -> bool:
        """Return whether the name is one of an artist with a guest."""
        return bool(main_artist(self.exact))

    def may_be(self, other: "Spelling") -> bool:
        """Return whether two names of one key may be one name.

        Transliteration makes one word of many, so two names in other letters than Latin ones
        must be spelt alike.
        """
        return self.plain == other.plain or self.plain.isascii() or other.plain.isascii()

    def differs_by_accents(self, other: "Spelling") -> bool:
        """Return whether two Latin names of one key are two by their letters: Mo and M\u00d8."""
        latin = self.plain.isascii() and other.plain.isascii()
        return latin and self.letters != other.letters

    def likeness(self, other: "Spelling") -> int:
        """How alike two names of one key are: 3 the same, 2 folded, 1 plain, 0 the key alone."""
        if self.exact == other.exact:
            return 3
        return 2 if self.folded == other.folded else int(self.plain == other.plain)


@dataclass(frozen=True)
class LinkedItem:
    """One item of one source.

    Parameters
    ----------
    key : source and id there
    mbids : MusicBrainz ids, of the artist or the recording
    codes : ISRCs of a track
    regions, genres : folded words
    years : of the field with the role year
    home : identity of a track's artist; empty for artists
    """

    key: Key
    spelling: Spelling
    mbids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    genres: frozenset[str] = frozenset()
    years: tuple[float, ...] = ()
    home: str = ""


def items_of(
    source: str,
    catalogue: Catalogue,
    kind: Kind,
    homes: Mapping[Key, str],
    redirects: Mapping[str, str],
) -> Iterator[LinkedItem]:
    """List the items of a source.

    Parameters
    ----------
    homes : which artist each of its artists is
    redirects : ids of MusicBrainz that were merged into others, with those
    """
    table = catalogue.items(kind)
    columns = [
        table["id"].to_list(),
        _words(catalogue, kind, "mbid"),
        _words(catalogue, kind, "isrc"),
        _words(catalogue, kind, _named(catalogue, kind, "region")),
        _words(catalogue, kind, _named(catalogue, kind, "genre")),
        _numbers(catalogue, kind),
        table["artist"].to_list() if kind == "track" else [""] * len(table),
    ]
    for name, (item, mbids, codes, regions, genres, year, artist) in zip(
        catalogue.names(kind), zip(*columns, strict=True), strict=True
    ):
        own = (x.lower() for x in (*mbids, item))
        ids = frozenset(redirects.get(x, x) for x in own if UUID.fullmatch(x))
        yield LinkedItem(
            key=(source, item),
            spelling=spell(name),
            mbids=ids,
            codes=frozenset(x.upper().replace("-", "") for x in codes),
            regions=frozenset(map(fold, regions)),
            genres=frozenset(map(fold, genres)),
            years=() if year is None else (year,),
            home=homes[source, artist] if kind == "track" else "",
        )


def likeness(one: Sequence[LinkedItem], other: Sequence[LinkedItem]) -> int:
    """How alike the two most alike names of two clusters are (``Spelling.likeness``)."""
    return max(a.spelling.likeness(b.spelling) for a in one for b in other)


def evidence(
    one: Sequence[LinkedItem],
    other: Sequence[LinkedItem],
    shared: Mapping[frozenset[str], frozenset[str]],
) -> tuple[int, int]:
    """Count the facts in which two clusters agree and those in which they contradict each other.

    Facts are region, genre and year. Two regions that differ count twice: sources err less about
    countries than about years (of birth, of the first record) and genres. They do not divide music
    into the same genres, so two that have no word in common contradict each other only if both use
    words that both of their sources know (``shared``, for each two sources).
    """
    agreed = opposed = 0
    regions = [frozenset().union(*(x.regions for x in items)) for items in (one, other)]
    if all(regions):
        agreed += bool(regions[0] & regions[1])
        opposed += 2 * (not regions[0] & regions[1])
    verdicts = [_genres(a, b, shared) for a in one for b in other]
    agreed += any(x > 0 for x in verdicts)
    opposed += any(x < 0 for x in verdicts) and not any(x > 0 for x in verdicts)
    years = [[year for x in items for year in x.years] for items in (one, other)]
    if all(years):
        apart = min(abs(a - b) for a in years[0] for b in years[1])
        agreed += apart < YEARS_APART
        opposed += apart >= YEARS_APART
    return agreed, opposed


def shared_words(items: Sequence[LinkedItem]) -> dict[frozenset[str], frozenset[str]]:
    """Genre words that each two sources both use."""
    words: dict[str, set[str]] = {}
    for x in items:
        words.setdefault(x.key[0], set()).update(x.genres)
    return {
        frozenset((a, b)): frozenset(words[a] & words[b]) for a in words for b in words if a <= b
    }


def _genres(
    one: LinkedItem, other: LinkedItem, shared: Mapping[frozenset[str], frozenset[str]]
) -> int:
    """Return 1 where two items share a genre, -1 where they could and do not, 0 else."""
    if one.genres & other.genres:
        return 1
    words = shared[frozenset((one.key[0], other.key[0]))]
    return -1 if one.genres & words and other.genres & words else 0


def _named(catalogue: Catalogue, kind: Kind, role: Role) -> str:
    field = catalogue.role(kind, role)
    return field.name if field else ""


def _words(catalogue: Catalogue, kind: Kind, name: str) -> list[list[str]]:
    table = catalogue.items(kind)
    if name not in table.columns:
        return [[]] * len(table)
    column = table[name]
    if isinstance(column.dtype, pl.List):
        return [x or [] for x in column.to_list()]
    return [[x] if x else [] for x in column.cast(pl.String).to_list()]


def _numbers(catalogue: Catalogue, kind: Kind) -> list[float | None]:
    name = _named(catalogue, kind, "year")
    table = catalogue.items(kind)
    return table[name].fill_nan(None).to_list() if name else [None] * len(table)


def spell(name: str) -> Spelling:
    """Reduce a name step by step: accents, case and punctuation; "the" and "&"; script and spaces.

    A name of signs alone, such as "!!!", keeps them.
    """
    front, _, behind = (x.strip() for x in name.rpartition(","))
    article = bool(front) and behind.casefold() == "the"
    plain = _plain(front if article else name)
    parted = front and behind and not article and not AND.search(behind)
    turned = _key(_plain(f"{behind} {front}")) if parted else ""
    return Spelling(name, fold(name), plain, _key(plain), turned, _letters(name))


def main_artist(name: str) -> str:
    """Return the name in front of "feat."; empty where nobody is featured."""
    front, *rest = FEATURING.split(name, maxsplit=1)
    return front.strip() if rest else ""


def together(name: str) -> tuple[str, ...]:
    """Split a name at "&", commas and the like, which the name of one band may contain, too."""
    parts = tuple(x.strip() for x in TOGETHER.split(name) if x.strip())
    return parts if len(parts) > 1 else ()


def _letters(name: str) -> str:
    """Return the letters and digits of a name, with their accents, in the alphabet's order."""
    plain = AND.sub(" and ", unicodedata.normalize("NFC", name).casefold())
    words = ("".join(x for x in word if x.isalnum()) for word in plain.split())
    return "".join(sorted("".join(x for x in words if x != "the")))


def _plain(name: str) -> str:
    words = fold(AND.sub(" and ", name))
    return words.removeprefix("the ") or words


def _key(plain: str) -> str:
    bare = "".join(x for x in anyascii(plain).casefold() if x.isalnum())
    return bare or plain


Named = Mapping[Kind, Mapping[str, Mapping[str, str]]]  # kind -> source -> its id -> new id
SEVERITY = {"test": 0, "validation": 1, "train": 2}


def fields_of(sources: Mapping[str, Catalogue]) -> tuple[Field, ...]:
    """Fields of the merged catalogue, by kind and name, and one with the MusicBrainz id.

    A field that is a category in one source and tags in another becomes tags; one that any source
    withholds stays withheld. A role that two fields would hold is held by the one that says
    something of more items. Raises DataError if a field is a number in one source and words in
    another.
    """
    fields: dict[tuple[Kind, str], Field] = {}
    known: dict[tuple[Kind, str], int] = {}
    for name in sorted(sources):
        for field in sources[name].fields:
            key = field.kind, field.name
            same = fields.get(key, field)
            if "number" in (same.type, field.type) and same.type != field.type:
                raise DataError(
                    f"the field {field.name!r} of {field.kind}s is {same.type} in one catalogue "
                    f"and {field.type} in {name}; rename one of them"
                )
            words = "tags" if "tags" in (same.type, field.type) else field.type
            role = same.role or field.role
            withheld = same.withheld or field.withheld
            fields[key] = replace(same, type=words, role=role, withheld=withheld)
            column = sources[name].items(field.kind)[field.name]
            known[key] = known.get(key, 0) + len(column) - column.null_count()
    for kind in ITEMS:
        ids = (x for one in sources.values() for x in one.ids(kind))
        if (kind, "mbid") not in fields and any(UUID.fullmatch(x.lower()) for x in ids):
            fields[kind, "mbid"] = Field("mbid", kind, "category", withheld=True)
    return tuple(_one_role(fields, known, key) for key in sorted(fields))


def items(
    sources: Mapping[str, Catalogue], kind: Kind, named: Named, fields: tuple[Field, ...]
) -> pl.DataFrame:
    """Table of one kind: a row for each new id, in their order."""
    own = {x.name: x.type for x in fields if x.kind == kind}
    schema = ITEMS[kind] | {name: FIELD_TYPES[own[name]] for name in own}
    root = audio_root(sources)
    tables = [
        _renamed(one, kind, named, source, schema, root) for source, one in sorted(sources.items())
    ]
    rows = pl.concat(tables)
    whole = rows.select("id").unique().sort("id")
    for name, dtype in schema.items():
        if name != "id":
            whole = whole.join(_most(rows, name, dtype), on="id", how="left", maintain_order="left")
    return whole.select(*schema)


def features(sources: Mapping[str, Catalogue], named: Named) -> dict[tuple[str, Kind], Embeddings]:
    """Features of one name and kind are one space; an item with several vectors has their mean.

    Raises DataError if they have two widths.
    """
    vectors_of: dict[tuple[str, Kind], list[tuple[list[str], Embeddings]]] = {}
    for source, one in sorted(sources.items()):
        for key, vectors in one.features.items():
            now = named[key[1]][source]
            vectors_of.setdefault(key, []).append(([now[x] for x in vectors.ids], vectors))
    whole = {}
    for key, parts in vectors_of.items():
        widths = {x.vectors.shape[1] for _, x in parts}
        if len(widths) > 1:
            raise DataError(
                f"features {key[0]!r} of {key[1]}s have the widths "
                f"{', '.join(map(str, sorted(widths)))}; rename them in one of the catalogues"
            )
        ids, row = np.unique([x for part, _ in parts for x in part], return_inverse=True)
        sums = np.zeros((len(ids), widths.pop()))
        np.add.at(sums, row, np.concatenate([x.vectors for _, x in parts]))
        mean = sums / np.bincount(row, minlength=len(ids))[:, None]
        whole[key] = Embeddings(tuple(ids.tolist()), mean.astype(np.float32))
    return whole


def audio_root(sources: Mapping[str, Catalogue]) -> Path | None:
    """Folder at which paths of audio begin: the one of all sources, or what they have in common."""
    roots = {x.audio_root.absolute() for x in sources.values() if x.audio_root}
    return Path(os.path.commonpath(roots)) if roots else None


def _one_role(
    fields: Mapping[tuple[Kind, str], Field],
    known: Mapping[tuple[Kind, str], int],
    key: tuple[Kind, str],
) -> Field:
    """Take a role from a field if another of its kind says something of more items."""
    field = fields[key]
    rivals = [
        x for x, one in fields.items() if field.role and (x[0], one.role) == (key[0], field.role)
    ]
    first = min(rivals, key=lambda x: (-known[x], x), default=key)
    return field if first == key else replace(field, role="")


def _renamed(
    one: Catalogue,
    kind: Kind,
    named: Named,
    source: str,
    schema: Mapping[str, pl.DataType],
    root: Path | None,
) -> pl.DataFrame:
    table = one.items(kind)
    new_ids = pl.Series("id", [named[kind][source][x] for x in table["id"]], dtype=pl.String)
    columns = []
    for name, dtype in schema.items():
        if name == "mbid" and dtype == pl.String:
            columns.append(_mbids(table))
        elif name not in table.columns:
            columns.append(pl.Series(name, [None] * len(table), dtype=dtype))
        elif isinstance(dtype, pl.List) and not isinstance(table[name].dtype, pl.List):
            words = [[x] if x is not None else None for x in table[name].cast(pl.String)]
            columns.append(pl.Series(name, words, dtype=dtype))
        else:
            columns.append(table[name].cast(dtype))
    whole = pl.DataFrame(columns).with_columns(new_ids)
    if kind == "track":
        homes = [named["artist"][source][x] for x in table["artist"]]
        paths = [_path(x, one.audio_root, root) for x in table["path"]]
        whole = whole.with_columns(
            pl.Series("artist", homes, dtype=pl.String), pl.Series("path", paths, dtype=pl.String)
        )
    return whole.with_columns(pl.lit(source).alias(" source"))


def _mbids(table: pl.DataFrame) -> pl.Series:
    noted = table["mbid"].cast(pl.String) if "mbid" in table.columns else [None] * len(table)
    own = (x.lower() if UUID.fullmatch(x.lower()) else None for x in table["id"])
    return pl.Series("mbid", [a or b for a, b in zip(noted, own, strict=True)], dtype=pl.String)


def _path(path: str | None, mine: Path | None, root: Path | None) -> str | None:
    if path is None or mine is None or root is None or mine.absolute() == root:
        return path
    return os.path.relpath(mine.absolute() / path, root)


def _most(rows: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.DataFrame:
    """One value of a column for each id, as the module's docstring says."""
    value = pl.col(name)
    stated = rows.select("id", name, " source").drop_nulls()
    if name in ("split", "path"):
        order = value.replace_strict(SEVERITY, default=3) if name == "split" else " source"
        return stated.sort(order, name).group_by("id", maintain_order=True).agg(value.first())
    if dtype == pl.Float64:
        one = value.max() if name == "popularity" else value.sort().mean()
        return stated.group_by("id").agg(one)
    place, guest = pl.lit(0), pl.lit(False)
    if name == "name":
        guest = pl.col(name).map_elements(lambda x: bool(main_artist(x)), return_dtype=pl.Boolean)
    if isinstance(dtype, pl.List):
        stated = stated.with_columns(place=pl.int_ranges(pl.col(name).list.len())).explode(
            name, "place"
        )
        place = pl.col("place")
    ordered = (
        stated.drop_nulls(name)
        .group_by("id", name)
        .agg(guest.min().alias(" guest"), pl.len().alias(" times"), place.min().alias(" place"))
        .sort(
            "id", " guest", " times", " place", name, descending=[False, False, True, False, False]
        )
        .group_by("id", maintain_order=True)
    )
    return ordered.agg(pl.col(name) if isinstance(dtype, pl.List) else pl.col(name).first())
