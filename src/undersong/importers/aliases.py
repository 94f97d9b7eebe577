"""Several names of one artist, as a person lists them: a table with the columns alias, name, id.

``id`` is of MusicBrainz and may be left out, as the column may; other columns are passed over.
Where an importer finds an alias, it takes the name in its place.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import polars as pl

from undersong.catalogue import fold, name_key
from undersong.errors import DataError
from undersong.importers.music.credits import Credit
from undersong.importers.music.tags import UUID
from undersong.io.files import reading
from undersong.io.parquet import PolarsError, read_user_table

Aliases = Mapping[str, Credit]  # key of an alias (``name_key``) -> who it is
NONE: Aliases = MappingProxyType({})
PROPOSED = dict.fromkeys(("alias", "name", "why"), pl.String())
# Ann "Bee" Cee, in any quotes; Ann (Bee) Cee; Ann Cee (Bee).
OPENING, CLOSING = "\"'\u2018\u201c\u201e([", "\"'\u2019\u201d)\\]"
NICKNAME = re.compile(rf"(?:^|\s)[{OPENING}]([^\"()\[\]]{{2,40}})[{CLOSING}](?=\s|$)")
ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?([\w-]{2,60}(?:\.[\w-]{2,60}){1,3})((?:/[^\s/]{1,60}){0,4})/?"
)
ENDINGS = re.compile(r"(?:music|musik|band|official|sound|audio)$")
SHORTEST = 4  # letters of an address that may be the beginning of a name
HINT = "write a line alias,name and below it elysis,Gerd Raudenbusch"


def read_aliases(path: Path | None) -> Aliases:
    """Read a table of aliases; none without a path. An alias of an alias is followed.

    Raises
    ------
    DataError
        If it cannot be read, lacks a column, or a row has no name, an id that is none, or an alias
        that leads to two names or back to itself.
    """
    if path is None:
        return NONE
    with reading(path, UnicodeDecodeError, PolarsError, hint=HINT, error=DataError):
        table = read_user_table(path).cast(pl.String)
    table = table.rename({x: x.casefold() for x in table.columns}, strict=False)
    if lacking := {"alias", "name"} - set(table.columns):
        raise DataError(f"{path} has no column {min(lacking)!r}; {HINT}")
    named: dict[str, Credit] = {}
    for line, row in enumerate(table.iter_rows(named=True), start=2):
        alias, name, mbid = (str(row.get(x) or "").strip() for x in ("alias", "name", "id"))
        key, credit = name_key(alias), Credit(name, mbid.lower())
        if not (alias and name):
            raise DataError(f"{path} line {line}: alias {alias!r}, name {name!r}; fill in both")
        if mbid and not UUID.fullmatch(mbid):
            raise DataError(f"{path} line {line}: {mbid!r} is no id of MusicBrainz; leave it empty")
        if named.setdefault(key, credit) != credit:
            raise DataError(
                f"{path} line {line}: {alias!r} is {named[key].name!r} above and {name!r} here; "
                "take one of the lines out"
            )
    return {key: _end(key, named, path) for key in named}


def _end(alias: str, named: Aliases, path: Path) -> Credit:
    seen, credit = {alias}, named[alias]
    while (key := name_key(credit.name)) in named and key not in seen:
        seen.add(key)
        credit = named[key]
    if key in named and name_key(named[key].name) != key:
        raise DataError(f"{path}: {credit.name!r} is an alias of itself; take one of the lines out")
    return credit


def real(name: str, mbid: str, aliases: Aliases) -> tuple[str, str]:
    """Return the name and the id of an artist who may be called by an alias.

    An alias has the id that its line names, else that of the artist of its name, if one is known.
    """
    credit = aliases.get(name_key(name))
    return (name, mbid) if credit is None else (credit.name, credit.id)


def renamed(files: pl.DataFrame, aliases: Aliases) -> pl.DataFrame:
    """Put names in the place of aliases: columns ``artists`` and ``artist_ids`` of files."""
    if not aliases:
        return files
    columns = ("artists", "artist_ids")
    credits = [_once(x, y, aliases) for x, y in files.select(columns).iter_rows()]
    return files.with_columns(
        pl.Series(name, [x[place] for x in credits], dtype=pl.List(pl.String))
        for place, name in enumerate(columns)
    )


def _once(
    names: Iterable[str], ids: Iterable[str], aliases: Aliases
) -> tuple[list[str], list[str]]:
    """Return who is credited, each once, also who is by two names."""
    credits: dict[str, str] = {}
    for credit in zip(names, ids, strict=True):
        name, mbid = real(*credit, aliases)
        credits[name] = credits.get(name) or mbid
    return list(credits), list(credits.values())


def proposed(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Guess which names are one artist's: alias, name, why; a person decides.

    A nickname that stands in quotes or brackets within a longer name, and a web address whose host
    or page is a name or a nickname.
    """
    whole = {name_key(x): x for x in names if not ADDRESS.fullmatch(x)}
    known = {_letters(x): x for x in whole.values()}
    for name in whole.values():
        for match in NICKNAME.finditer(name):
            bare = whole.get(name_key(NICKNAME.sub(" ", name)))
            if bare and match[0].strip()[0] in "([":  # which tells two of one name apart
                continue
            known[_letters(match[1])] = name
            others = (whole.get(name_key(match[1])), "a nickname"), (bare, "without the nickname")
            yield from ((alias, name, why) for alias, why in others if alias)
    for address in names:
        if owner := _owner(address, known):
            yield address, owner, "a web address"


def _letters(name: str) -> str:
    return fold(name).replace(" ", "")


def _owner(address: str, known: Mapping[str, str]) -> str | None:
    """Return whose name or nickname the host or the page of a web address is."""
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        return None
    words = list(filter(None, map(_letters, (parts[1].split(".")[-2], parts[2].split("/")[-1]))))
    for word in words:
        if word in known:
            return known[word]
    stems = [x for x in (ENDINGS.sub("", word) for word in words) if len(x) >= SHORTEST]
    owners = {known[x] for x in known for stem in stems if x.startswith(stem)}
    return owners.pop() if len(owners) == 1 else None
