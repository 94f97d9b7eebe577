"""The id of each group of items: the one it had before, or a MusicBrainz id, or source and id."""

from collections.abc import Mapping, Sequence

from undersong.identity.items import Item, Key
from undersong.identity.records import word


def name_groups(groups: Sequence[Sequence[Item]], before: Mapping[Key, str]) -> list[str]:
    """Give each group its id, no two the same.

    A group keeps the id that its items had (``before``): of several the one that most of them had,
    then the first. Where a group was parted, the largest part keeps it. A new one has its
    MusicBrainz id, if it has one, or else is named after the first of its items, "lastfm:17355";
    neither depends on the other groups nor on the order of the sources.
    """
    claims = sorted(_claims(groups, before))
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for _, item, number in claims:
        if number not in ids and item not in taken:
            ids[number] = item
            taken.add(item)
    spoken = taken | set(
        before.values()
    )  # an id that was another's is a redirect, never given anew
    for number, items in enumerate(groups):
        if number not in ids:
            ids[number] = _fresh(items, spoken)
            spoken.add(ids[number])
    return [ids[number] for number in range(len(groups))]


def redirects(
    groups: Sequence[Sequence[Item]], ids: Sequence[str], before: Mapping[Key, str]
) -> dict[str, str]:
    """Where ids that were given earlier lead now: to an id of today, never to another redirect.

    An id whose items are in several groups leads to the one that holds most of them.
    """
    today = set(ids)
    found: dict[str, str] = {}
    for _, item, number in sorted(_claims(groups, before)):
        if item not in today:
            found.setdefault(item, ids[number])
    return found


def _claims(
    groups: Sequence[Sequence[Item]], before: Mapping[Key, str]
) -> list[tuple[tuple[int, Key], str, int]]:
    """For each group and former id: how many items it had, most first; the id; the group."""
    found = []
    for number, items in enumerate(groups):
        held: dict[str, list[Key]] = {}
        for x in items:
            if x.key in before:
                held.setdefault(before[x.key], []).append(x.key)
        found += [((-len(keys), min(keys)), item, number) for item, keys in held.items()]
    return found


def _fresh(items: Sequence[Item], taken: set[str]) -> str:
    mbids = sorted({mbid for x in items for mbid in x.mbids} - taken)
    named = mbids[0] if mbids else word(min((x.spelling.guest, x.key) for x in items)[1])
    while named in taken:
        named += "~"
    return named
