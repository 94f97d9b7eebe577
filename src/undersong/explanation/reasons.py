"""Reasons as data, and in words: the command line, the service and notebooks show them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from undersong.explanation.data import LISTENERS, TAGS
from undersong.io.display import html_table, text_of, to_pandas

Whose = Literal["both", "asked", "answered", "neither"]


@dataclass(frozen=True)
class Contribution:
    """What one source adds to a score.

    Parameters
    ----------
    source : "audio", "listeners", "genres and tags", "relations", or the role or name of a field
    share : with ``Reasons.start`` the shares add up to the score; negative speaks against
    effect : how far the score would fall if both items were silent here; negative if it would rise
    known_of : of which of the two it says anything
    """

    source: str
    share: float
    effect: float
    known_of: Whose


@dataclass(frozen=True)
class SharedTag:
    """A genre or tag of both items, in lower case, and how many items have it."""

    tag: str
    items: int


@dataclass(frozen=True)
class TrackPair:
    """The two tracks, one of each artist, that sound most alike: ids, titles, cosine of E_C."""

    asked: str
    asked_title: str
    answered: str
    answered_title: str
    cosine: float


@dataclass(frozen=True)
class KnownOfItem:
    """What is known of one item.

    Parameters
    ----------
    item, name : id and name
    sources : that say something of it, as in ``Contribution.source``
    tags, relations : how many
    listeners : how many users played it; None where the run knows of no plays at all
    """

    item: str
    name: str
    sources: tuple[str, ...]
    tags: int
    relations: int
    listeners: int | None


@dataclass(frozen=True)
class Reasons:
    """Why one item is, or is not, similar to another.

    Parameters
    ----------
    asked, answered : what is known of each
    score : what orders answers: of the learned order, or the cosine of E_G, in [-1, 1]
    confidence : in [0, 1], the chance that a list of similar items names it; None for the cosine
    candidate : whether it is among those that are weighed at all; others have a score here, but
        are no answers
    start : score of a pair without any knowledge, and what no source can be credited with
    contributions : the source whose absence would change the score most first
    related_by : who says that the two are similar, such as "editors, fans"; None if nobody does
    tags : the rarest few in common; ``tags_shared`` counts them all
    listeners_shared : users who played both; None where the run knows of no plays at all
    relations_shared : how many items are related to both
    through : names of a few of those, with the fewest relations first
    tracks : the closest pair; None unless tracks of both were heard
    unknown : sentences on what is not known of either; empty if all is
    """

    asked: KnownOfItem
    answered: KnownOfItem
    score: float
    confidence: float | None
    candidate: bool
    start: float
    contributions: tuple[Contribution, ...]
    related_by: str | None
    tags: tuple[SharedTag, ...]
    tags_shared: int
    listeners_shared: int | None
    relations_shared: int
    through: tuple[str, ...]
    tracks: TrackPair | None
    unknown: tuple[str, ...]

    def frame(self) -> pl.DataFrame:
        """Return a polars table of what each source adds: source, share, effect, known_of."""
        schema = {"source": pl.String, "share": pl.Float64, "effect": pl.Float64}
        rows = [(x.source, x.share, x.effect, x.known_of) for x in self.contributions]
        return pl.DataFrame(rows, schema={**schema, "known_of": pl.String}, orient="row")

    def to_pandas(self) -> Any:
        """Return ``frame`` as pandas; UndersongError where that is not installed."""
        return to_pandas(self.frame())

    def details(self) -> str:
        """Return the numbers: what each source adds to the score, and the score without it."""
        lines = ["   share  without it  source", *map(_numbers, self.contributions)]
        lines += [f"{self.start:+8.3f}              starting point"]
        lines += [f"{self.score:+8.3f}              score"]
        return text_of(lines)

    def __str__(self) -> str:
        """Show how much each source speaks for the pair, what both share, and what is not known."""
        below = ["", *shared(self), *self.unknown]
        return text_of([f"{_pair(self)}{_sure(self)}", "", *_bars(self.contributions), *below])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        below = "\n".join((*shared(self), *self.unknown))
        return html_table(self.frame(), above=f"{_pair(self)}{_sure(self)}", below=below)


BAR = 24  # columns of the longest bar
WHOSE = {
    "both": "",
    "asked": " (known of the first alone)",
    "answered": " (known of the second alone)",
    "neither": " (known of neither)",
}


def unknown(item: KnownOfItem, groups: Iterable[str]) -> str | None:
    """Return a sentence on what is not known of an item and what is; None if nothing is lacking.

    Parameters
    ----------
    groups : of sources that the run has at all; nobody misses what was never gathered
    """
    lacking = [] if item.relations else ["links"]
    if item.listeners == 0:
        lacking.append("listeners")
    elif LISTENERS in groups and LISTENERS not in item.sources:
        lacking.append("enough listeners to learn from")
    lacking += [readable(x) for x in groups if x not in item.sources and x != LISTENERS]
    if not lacking:
        return None
    amounts = [_amount(item, x) for x in item.sources]
    if item.relations:
        amounts.append(count(item.relations, "known link"))
    rest = f" Answers rest on {listing(amounts)}." if amounts else ""
    return f"Not known about {item.name}: {listing(lacking)}.{rest}"


def shared(why: Reasons) -> list[str]:
    """Return what two items have in common, a sentence each."""
    lines = []
    if why.related_by:
        lines.append(f"They are known to be similar: {why.related_by}.")
    if why.relations_shared:
        named = [*why.through, *_others(why.relations_shared, why.through)]
        lines.append(f"Both are linked to {listing(named)}.")
    if why.tags_shared:
        named = [f"{x.tag} (of {x.items})" for x in why.tags]
        lines.append(f"Tags in common: {listing([*named, *_others(why.tags_shared, named)])}.")
    if why.listeners_shared and why.asked.listeners and why.answered.listeners:
        lines.append(
            f"Played by the same {count(why.listeners_shared, 'listener')}, of "
            f"{why.asked.listeners} and {why.answered.listeners}."
        )
    if why.tracks:
        pair = why.tracks
        lines.append(
            f"Closest tracks: {pair.asked_title!r} and {pair.answered_title!r}, cosine "
            f"{pair.cosine:.3f}."
        )
    return lines


def readable(source: str) -> str:
    """Write the name of a source as words."""
    return source.replace("_", " ")


def count(number: int, what: str) -> str:
    """Write how many of something there are: 1 tag, 2 tags."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listing(words: Iterable[str], last: str = "and") -> str:
    """Join words as people do: a, b and c."""
    *most, end = list(words)
    return f"{', '.join(most)} {last} {end}" if most else end


def _pair(why: Reasons) -> str:
    one, two = why.asked, why.answered
    return f"{one.name} ({one.item}) and {two.name} ({two.item})"


def _sure(why: Reasons) -> str:
    sure = f"cosine {why.score:.3f}" if why.confidence is None else f"{why.confidence:.0%} sure"
    return f": {sure}{'' if why.candidate else ', not among the candidates'}"


def _bars(contributions: Iterable[Contribution]) -> list[str]:
    """Draw what each source adds as its part of all that is added, for or against."""
    parts = [(x, abs(x.share)) for x in contributions]
    total, longest = sum(y for _, y in parts), max((y for _, y in parts), default=0.0)
    return [
        f"   {'for' if x.share > 0 else 'against':<7} {part / total:>4.0%}  "
        f"{'█' * round(BAR * part / longest):<{BAR}}  {readable(x.source)}{WHOSE[x.known_of]}"
        for x, part in parts
        if part > 0 and round(100 * part / total)
    ]


def _numbers(part: Contribution) -> str:
    source = f"{readable(part.source)}{WHOSE[part.known_of]}"
    return f"{part.share:+8.3f}    {-part.effect:+8.3f}  {source}"


def _amount(item: KnownOfItem, source: str) -> str:
    """Return how much of a source there is, where that can be counted."""
    if source == TAGS:
        return count(item.tags, "tag")
    if source == LISTENERS and item.listeners:
        return count(item.listeners, "listener")
    return readable(source)


def _others(total: int, named: Iterable[str]) -> list[str]:
    left = total - len(list(named))
    return [f"{left} more"] if left else []
