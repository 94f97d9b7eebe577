"""Who plays: the credit of a file -> its artists, each with the MusicBrainz id if known.

Names are never split blindly. Tags that list them come first, then marks that no
name has in it (``feat.``, ``;``, ``•``, a slash between spaces), then others (``&``, commas, any
slash), but those only where the number of ids or the artist of the album proves that they part
names.

Names and ids of nobody stand where an artist is not known, or where there are many: one list for
every importer. MusicBrainz calls its seven "special purpose artists". A name without brackets is
on the list only if hardly any artist is called so: "[data]" is nobody, "Data" is not. What programs
write for no value at all ("N/A", "(none)", "???") is nobody, too.

Several names of one artist come from a person's table with the columns alias, name, id. ``id`` is
of MusicBrainz and may be left out, as the column may; other columns are passed over. Where an
importer finds an alias, it takes the name in its place.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import polars as pl

from undersong.catalogue import Catalogue, fold, name_key
from undersong.errors import DataError
from undersong.importers.music.tags import UUID, Tags, something
from undersong.io.files import reading
from undersong.io.table_files import PolarsError, read_user_table

NOBODY_NAMES = (
    r"[<\[(]?(?:unknown(?: artists?)?|no artists?|untitled artist|various(?: artists?)?"
    r"|v\.?a\.?|compilations?|verschiedene (?:interpreten|künstler)"
    r"|unbekannter (?:interpret|künstler)"
    r"|artistes divers|artistes variés|artiste inconnu|varios artistas|artista desconocido"
    r"|vários artistas|artista desconhecido|artisti vari|artista sconosciuto|diverse artiesten"
    r"|diverse artister|różni wykonawcy|разные исполнители|сборник|неизвестный исполнитель"
    r"|ヴァリアス・アーティスト|群星)[>\])]?"
    r"|<unknown>|<untagged>|n/a|[<\[(](?:none|n/a)[>\])]|\?{3,}"
    r"|\[(?:unknown|anonymous|data|dialogue|traditional|no artist)\]"
)
NOBODY_IDS = frozenset(
    (
        "89ad4ac3-39f7-470e-963a-56509c546377",  # Various Artists
        "125ec42a-7229-4250-afc5-e057484327fe",  # [unknown]
        "eec63d3c-3b81-4ad4-b1e4-7c147d4d2b61",  # [no artist]
        "f731ccc4-e22a-43af-a747-64213329e088",  # [anonymous]
        "33cf029c-63b0-41a0-9855-be2a3665fb3b",  # [data]
        "314e1c25-dde7-4e4d-b2f4-0a7b9f7c56dc",  # [dialogue]
        "9be7f096-97ec-4615-8957-8d40b5dcbc41",  # [traditional]
    )
)
_NAME = re.compile(NOBODY_NAMES, re.I)


def is_nobody(name: str) -> bool:
    """Return whether a name, or an id of MusicBrainz, is nobody's."""
    return _NAME.fullmatch(name.strip()) is not None or name.strip().lower() in NOBODY_IDS


def nobodies(name: str) -> pl.Expr:
    """Return whether the names of a column are nobody's (``is_nobody``)."""
    text = pl.col(name).str.strip_chars()
    return text.str.contains(f"(?i)^(?:{NOBODY_NAMES})$") | text.str.to_lowercase().is_in(
        sorted(NOBODY_IDS)
    )


def nobodies_note(catalogue: Catalogue) -> str:
    """Return a line about artists of a table or data set who are nobody; empty without any.

    Whoever wrote it says who is an artist, and published results depend on it, so they stay.
    """
    rows = catalogue.artists.filter(nobodies("name") | nobodies("id"))
    if rows.is_empty():
        return ""
    names = rows.select(pl.format("{} ({})", pl.coalesce("name", "id"), "id")).to_series()
    shown = ", ".join(names.head(3)) + (", ..." if len(names) > 3 else "")
    return (
        f"{len(names):,} artists are nobody's name, and stay since the data say so: {shown}; "
        "take their rows out if you do not want them as answers"
    )


# One space each, and the parts are stripped: runs of spaces would take quadratic time.
CERTAIN = re.compile(r"[;•]|\s/\s|\s[\[(]?(?:feat\.?|ft\.?|featuring)\s", re.I)
POSSIBLE = re.compile(r"[,+]\s|\s(?:&|\+|and|x|with|vs\.?|og|und|et|y|e)\s", re.I)
# As ID3v2.3 and Japanese write lists; AC/DC is one.
DENSE = re.compile(rf"{POSSIBLE.pattern}|[/／、，]", re.I)


@dataclass(frozen=True)
class Credit:
    """One artist as a file names it; ``id`` is of MusicBrainz, or empty."""

    name: str
    id: str = ""


def credits_of(tags: Tags) -> tuple[Credit, ...]:
    """Name the artists of a file, the main one first; none where the tags name nobody."""
    ids = tuple(x for x in tags.artist_ids if x not in NOBODY_IDS)
    names = _names(tags, len(ids))
    if not names and is_somebody(tags.album_artist):
        return (Credit(str(tags.album_artist)),)  # ids are those of the artist, not of the album
    if len(names) == len(ids):
        return tuple(Credit(*x) for x in zip(names, ids, strict=True))
    # Which name the ids belong to is sure of the first one alone.
    main = ids[0] if ids and len(tags.artist_ids) == len(ids) else ""
    return tuple(Credit(x, main if place == 0 else "") for place, x in enumerate(names))


def is_somebody(name: str | None) -> bool:
    """Return whether a name is one of an artist, unlike "Various Artists"."""
    return bool(name) and not is_nobody(str(name))


def _names(tags: Tags, ids: int) -> list[str]:
    for listed in (tags.artists, tags.artist):
        if len(listed) > 1:
            return _somebodies(listed)
    whole = next(iter(tags.artist or tags.artists), "")
    names = _somebodies(_part(CERTAIN, whole))
    for mark in (POSSIBLE, DENSE) if len(names) == 1 else ():
        possible = _somebodies(_part(mark, names[0]))
        proven = len(possible) == ids or possible[:1] == [tags.album_artist]
        if len(possible) > 1 and proven:
            return possible
    return names


def _part(mark: re.Pattern[str], text: str) -> list[str]:
    parts = (x.strip() for x in mark.split(text))
    return [x if "(" in x or "[" in x else x.rstrip(")] ") for x in parts]


def _somebodies(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(x for x in names if is_somebody(x)))


def artist_ids(names: Sequence[str], mbids: Sequence[str]) -> list[str]:
    """Return the id of each credited artist.

    A name without an id has that of the one artist of that name who has one. Of several none is
    taken: they are other people, and this may be yet another. Then the id is made of the name.

    Parameters
    ----------
    names : as keys (``catalogue.name_key``)
    mbids : of MusicBrainz; empty where none is known
    """
    known: dict[str, set[str]] = {}
    for name, mbid in zip(names, mbids, strict=True):
        if mbid:
            known.setdefault(name, set()).add(mbid)
    only = {name: min(ids) for name, ids in known.items() if len(ids) == 1}
    pairs = zip(names, mbids, strict=True)
    return [mbid or only.get(name, name.replace(" ", "-")) for name, mbid in pairs]


NUMBER = re.compile(r"^(?:[a-d]?\d{1,3}(?:[-.]\d{1,3})?)(?:\s*[-._]\s*|\s+)(?=\S)", re.I)
DISC = re.compile(r"(?:cd|disc|disk|dis[ck] no|side|lp)[\s._-]*(?:\d{1,2}|[a-d])", re.I)


@dataclass(frozen=True)
class PathNames:
    """Names that a path contains; None where it has none."""

    artist: str | None
    album: str | None
    title: str


def path_names(path: str) -> PathNames:
    """Take artist, album and title from a path below the music folder.

    ``Artist/Album/01 Title.mp3`` and ``Artist/Title.mp3``, folders of discs passed over; a name
    ``Artist - Title`` tells the artist where no folder does, or where the folder is of many. Below
    ``Unknown Artist`` the folder of the album stands in for its artist, so that music is found.
    """
    place = PurePosixPath(path)
    folders = [x for x in place.parts[:-1] if not DISC.fullmatch(x)]
    bare = " ".join(place.stem.replace("_", " ").split())
    title = NUMBER.sub("", bare) or bare or place.name
    artist = folders[-2] if len(folders) > 1 else folders[-1] if folders else None
    album = folders[-1] if len(folders) > 1 else None
    before, dash, after = title.partition(" - ")
    if dash and before.strip() and after.strip():
        if not is_somebody(artist):
            artist, title = before.strip(), after.strip()
        elif artist is not None and before.strip().casefold() == artist.casefold():
            title = after.strip()
    if artist and not is_somebody(artist) and "unknown" in artist.casefold():
        artist = something(album)
    return PathNames(artist if is_somebody(artist) else None, album, title)


Aliases = Mapping[str, Credit]  # key of an alias (``name_key``) -> who it is
NO_ALIASES: Aliases = MappingProxyType({})
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
        return NO_ALIASES
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
