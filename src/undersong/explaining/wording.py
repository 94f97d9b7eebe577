"""Reasons in words. Every sentence says what the data says, and no more."""

from collections.abc import Iterable

from undersong.explaining.background import AUDIO, LISTENERS, TAGS
from undersong.explaining.reasons import Contribution, Known, Reasons

WHOSE = {"both": "", "asked": " (of the first alone)", "answered": " (of the second alone)"}


def unknown(item: Known, groups: Iterable[str]) -> str | None:
    """Say what is not known of an item, and what there is; None where nothing is lacking.

    Parameters
    ----------
    groups : of sources that the run has at all; nobody misses what was never gathered
    """
    lacking = [] if item.relations else ["no relation is known"]
    if item.listeners == 0:
        lacking.append("nobody in the data has played it")
    elif LISTENERS in groups and LISTENERS not in item.sources:
        lacking.append("too few have played it to learn from")
    silent = [x for x in groups if x not in item.sources and x != LISTENERS]
    if silent:
        lacking.append(f"nothing tells its {listing(map(readable, silent), 'or')}")
    if not lacking:
        return None
    told = [_amount(item, x) for x in item.sources]
    if item.relations:
        told.append(count(item.relations, "known relation"))
    return f"{item.name}: {', '.join(lacking)}; what is said of it rests on {listing(told)}."


def text(why: Reasons) -> str:
    """Show reasons in the terminal."""
    one, two = why.asked, why.answered
    lines = [f"{one.name} ({one.item}) and {two.name} ({two.item}): {_sure(why)}", ""]
    lines += ["   share  without it  source", *map(_line, why.contributions)]
    lines += [f"{why.start:+8.3f}              where a pair begins of which nothing is known"]
    lines += [f"{why.score:+8.3f}              score", "", *shared(why), *why.unknown]
    return "\n".join(lines)


def shared(why: Reasons) -> list[str]:
    """Say what two items have in common, a sentence each."""
    lines = []
    if why.related_by:
        lines.append(f"They are known to be similar: {why.related_by}.")
    if why.relations_shared:
        named = [*why.through, *_others(why.relations_shared, why.through)]
        lines.append(f"Known relations in common: {listing(named)}.")
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


def _sure(why: Reasons) -> str:
    sure = "" if why.confidence is None else f", confidence {why.confidence:.0%}"
    return f"score {why.score:.3f}{sure}{'' if why.candidate else ', not among the candidates'}"


def _line(part: Contribution) -> str:
    whose = " (none is known)" if part.known_of == "neither" else WHOSE[part.known_of]
    return f"{part.share:+8.3f}    {-part.effect:+8.3f}  {readable(part.source)}{whose}"


def _amount(item: Known, source: str) -> str:
    """Say how much of a source there is, where that can be counted."""
    if source == TAGS:
        return count(item.tags, "tag")
    if source == LISTENERS and item.listeners:
        return count(item.listeners, "listener")
    return "audio" if source == AUDIO else f"its {readable(source)}"


def _others(total: int, named: Iterable[str]) -> list[str]:
    left = total - len(list(named))
    return [f"{left} more"] if left else []
