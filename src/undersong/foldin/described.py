"""A described item: words about an artist or track, embedded to ask with and written nowhere.

    genre=dark ambient    a field of the catalogue by its name, or by its role, with a value
    dark ambient from NO, 1990s    a phrase: its words are looked for among all values

GRM embeds it as an item with metadata alone. Beside that stands what the run knows: the mean E_G of
its items, each weighed by how much of the description it has.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import features
from undersong.catalogue import Field, Role, fold
from undersong.embeddings import unit
from undersong.errors import DataError, nearest_known
from undersong.features import Encoder, Modality, TagEncoder
from undersong.foldin.added import ENCODERS, FILE, read_added
from undersong.foldin.embed import FoldIn
from undersong.foldin.encoders import weights_of
from undersong.foldin.new_items import Value
from undersong.runs import ADDED_COLUMNS

ROLES: dict[str, Role] = {
    "genre": "genre",
    "region": "region",
    "country": "region",
    "year": "year",
    "decade": "year",
}
YEAR = re.compile(r"'?((?:1[0-9]|20)?\d\d)('?s)?")
PASSED = {"a", "an", "and", "by", "from", "in", "like", "of", "the", "with"}
PASSED |= {"artist", "artists", "band", "bands", "music"}
LANGUAGES = ("en", "de")
RECENT = 30  # '30s are of the last century, '20s of this one
LONGEST = 5  # words of a value in a phrase
MOST = 100  # words of a description
NEEDED = (ENCODERS, FILE, weights_of("general"))  # files of a run
PART = "*"  # before a word of a tag (``features.TagEncoder``)
SHARP = 20.0  # how fast the weight of an item falls with what it lacks of the description
OWN = 0.5  # of GRM's own vector beside the mean of the items that fit


@dataclass(frozen=True)
class DescribedItem:
    """What is said of an item, as the run's fields have it.

    Parameters
    ----------
    fields : by their names
    unknown : words that nothing here is called, each with what it may have meant
    """

    fields: dict[str, Value]
    unknown: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was understood and what was not, in a sentence."""
        known = "; ".join(
            f"{name} {', '.join(value) if isinstance(value, list) else _plain(value)}"
            for name, value in self.fields.items()
        )
        lost = "; ".join(self.unknown)
        return f"described by {known}" + (f"; not known here: {lost}" if lost else "")


def _plain(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Vocabulary:
    """What GRM of a run reads of an item: its fields, and the words that it has learned."""

    fields: Sequence[Field]
    encoders: Sequence[Encoder]

    @cached_property
    def words(self) -> dict[str, dict[str, str]]:
        """Of each field of text, its whole values by their folded form; countries by name, too."""
        regions = {x.name for x in self.fields if x.role == "region"}
        return {
            x.name: (_countries(x.words) if x.name in regions else {})
            | {fold(word): word for word in x.words if not word.startswith(PART)}
            for x in self.encoders
            if isinstance(x, TagEncoder)
        }

    @cached_property
    def parts(self) -> dict[str, frozenset[str]]:
        """Of each field of tags, the single words of its values."""
        tags = {x.name for x in self.fields if x.type == "tags"}
        return {
            x.name: frozenset(word[1:] for word in x.words if word.startswith(PART))
            for x in self.encoders
            if isinstance(x, TagEncoder) and x.name in tags
        }

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Names of the fields that hold a number."""
        return tuple(x.name for x in self.encoders if not isinstance(x, TagEncoder))

    def named(self, key: str) -> list[str]:
        """Return the fields that a key names: by name, by role, or by a word of the name.

        Raises
        ------
        DataError
            If there is none.
        """
        readable = [x for x in self.fields if x.name in {y.name for y in self.encoders}]
        role, word = ROLES.get(key, key), key.casefold()
        own = [x.name for x in readable if x.name == key or (x.role and x.role == role)]
        if not own or role == "year":
            times = {"year", "decade"} if role == "year" else {word}
            own += [x.name for x in readable if times & set(x.name.casefold().split("_"))]
        if not own:
            raise DataError(
                f"nothing here is called {key!r}; {nearest_known(key, [x.name for x in readable])}"
            )
        return list(dict.fromkeys(own))

    def values(self, names: Iterable[str], text: str) -> dict[str, Value]:
        """Return what a text is in those fields of text that know it, whole or word by word."""
        whole = {x: self.words[x][fold(text)] for x in names if fold(text) in self.words.get(x, ())}
        if whole:
            return {x: [word] if x in self.parts else word for x, word in whole.items()}
        words = set(features.WORD.findall(text.casefold()))
        return {x: [text] for x in names if words and words <= self.parts.get(x, frozenset())}

    @cached_property
    def times(self) -> list[str]:
        """Names of the fields that hold years or decades."""
        try:
            return self.named("year")
        except DataError:
            return []

    def near(self, text: str, names: Iterable[str]) -> str:
        """Return a text that nothing is called, with what it may have meant."""
        hint = nearest_known(text, (x for name in names for x in self.words.get(name, {}).values()))
        return f"{text!r}, {hint}" if hint.startswith("did") else repr(text)


def _countries(codes: Iterable[str]) -> dict[str, str]:
    """Return the codes of countries by their folded names, in the languages of the page."""
    from babel import Locale

    known = set(codes)
    return {
        fold(name): code
        for language in LANGUAGES
        for code, name in Locale(language).territories.items()
        if code in known
    }


def read_description(texts: Sequence[str], vocabulary: Vocabulary) -> DescribedItem:
    """Match a description to what a run knows; each text is NAME=VALUE, or a phrase.

    A value that a genre or region does not have is looked for in every field of text.

    Raises
    ------
    DataError
        If no field has a name, a number is none, or no value is known; or it is too long.
    """
    if sum(len(x.split()) for x in texts) > MOST:
        raise DataError(f"the description has more than {MOST} words; say less")
    fields: dict[str, Value] = {}
    unknown: list[str] = []
    for text in texts:
        name, equals, value = (x.strip() for x in text.partition("="))
        for values, lost in (
            [_of_name(name, value, vocabulary)] if equals else _of_phrase(text, vocabulary)
        ):
            for field, known in values.items():
                before = fields.get(field)
                if isinstance(before, list) and isinstance(known, list):
                    known = [*dict.fromkeys(before + known)]
                fields[field] = known
            unknown += [lost] if lost else []
    if not fields:
        raise DataError(f"nothing of the description is known here: {'; '.join(unknown) or texts}")
    return DescribedItem(fields, tuple(unknown))


Part = tuple[dict[str, Value], str]  # values by field, or what is unknown


def _of_name(name: str, text: str, vocabulary: Vocabulary) -> Part:
    fields = vocabulary.named(name)
    numbers = [x for x in fields if x in vocabulary.numbers]
    values: dict[str, Value] = {}
    if ROLES.get(name) == "year":
        values = _years(text, fields, vocabulary, decade=name == "decade")
    elif numbers:
        values = dict.fromkeys(numbers, _number(name, text))
    values = values or vocabulary.values(fields, text)
    if not values and ROLES.get(name) == "year":
        raise DataError(f"{name} is {text!r}, expected a year, such as 1990")
    if not values and name in ROLES:
        fields = list(vocabulary.words)
        values = vocabulary.values(fields, text)
    return values, "" if values else vocabulary.near(text, fields)


def _of_phrase(text: str, vocabulary: Vocabulary) -> Iterator[Part]:
    """Take the longest values first, then years, then single words of tags."""
    words = re.findall(r"[^\s,;]+", text)
    while words:
        for count in range(min(LONGEST, len(words)), 0, -1):
            several = " ".join(words[:count])
            known = _years(several, vocabulary.times, vocabulary, decade=True)
            known = known or _whole(several, vocabulary)
            if known and (count > 1 or several.casefold() not in PASSED):
                yield known, ""
                break
        else:
            count, word = 1, words[0]
            if word.casefold() not in PASSED:
                values = vocabulary.values(vocabulary.parts, word)
                yield values, "" if values else vocabulary.near(word, vocabulary.words)
        words = words[count:]


def _whole(text: str, vocabulary: Vocabulary) -> dict[str, Value]:
    """Return the fields that have a text as a whole value; two letters must be written so."""
    values = vocabulary.values(
        (x for x, words in vocabulary.words.items() if fold(text) in words), text
    )
    exact = len(text) > 2 or any(text in (x, [text]) for x in values.values())
    return values if exact else {}


def _years(
    text: str, fields: Iterable[str], vocabulary: Vocabulary, *, decade: bool
) -> dict[str, Value]:
    """Return a year in those fields that hold years or decades; nothing for another text."""
    match = YEAR.fullmatch(text)
    if match is None:
        return {}
    year = int(match[1])
    year += 0 if year > 99 else 1900 if year >= RECENT else 2000
    first, whole = year // 10 * 10, decade or bool(match[2])
    values: dict[str, Value] = {}
    for name in fields:
        if name in vocabulary.numbers:
            of_decade = "decade" in name.casefold()
            values[name] = float(first if of_decade else first + 5 if whole else year)
        else:
            for written in (text, str(year), f"{first}s", str(first)):
                values |= vocabulary.values([name], written) if name not in values else {}
    return values


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise DataError(f"{name} is {text!r}, expected a number") from error
    if not np.isfinite(number):
        raise DataError(f"{name} is {text!r}, expected a number")
    return number


def embed_description(
    description: DescribedItem,
    fold_in: FoldIn,
    *,
    sources: Sequence[Modality] = (),
    vectors: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return a unit vector for a description, (d,), among E_G of the run's items.

    Parameters
    ----------
    sources, vectors : what GRM reads of the run's n items, metadata at least, and their E_G;
        without them GRM's own vector of the description stands alone

    Notes
    -----
    Item i has the weight exp(20 (c_i - the greatest c)), where c_i is the share of the description
    that it has: the product of their sources, each by its weight, over that of the description
    with itself. The mean of E_G by these weights, of unit length, plus half of GRM's own vector is
    what asks (docs/retrieval.md).
    """
    kind = fold_in.run.manifest["kind"]
    row = {"kind": kind, "id": "described", "name": "", "artist": ""}
    row["fields"] = json.dumps(description.fields)
    table = pl.DataFrame([row], schema=ADDED_COLUMNS)
    read = read_added(fold_in.run, fold_in.known, table, kind)
    first = np.zeros(1, dtype=np.int64)
    missing = np.stack([x.missing for x in read], axis=1)
    own = fold_in.encoders.general([features.dense(x, first) for x in read], missing)
    if vectors is None or not sources:
        return np.asarray(unit(own)[0])
    shares, length = np.zeros(len(vectors)), 0.0
    said_of = {x.name: x for x in read}
    for known in sources:
        said = said_of[known.name]
        value = known.weight * features.dense(said, first)[0]
        shares += np.asarray(known.values @ value) * known.weight
        length += float(value @ value)
    shares /= max(length, np.finfo(float).tiny)
    weights = np.exp(SHARP * (shares - shares.max())).astype(np.float32)
    mean = unit((weights @ vectors)[None])
    return np.asarray(unit(mean + OWN * unit(own))[0])
