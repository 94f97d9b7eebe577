"""Groups of items that are the same, as they grow, and who may never be in one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from undersong.identity.items import Item, Key


@dataclass
class Groups:
    """Every item in exactly one group; at first each in its own.

    Parameters
    ----------
    items : all of them, sorted by key
    apart : pairs of items that a person has said to be different
    """

    items: Sequence[Item]
    apart: Iterable[tuple[Key, Key]] = ()
    _members: list[list[int]] = field(init=False)
    _group: list[int] = field(init=False)
    _forbidden: dict[int, set[int]] = field(init=False)

    def __post_init__(self) -> None:
        self._members = [[row] for row in range(len(self.items))]
        self._group = list(range(len(self.items)))
        rows = {x.key: row for row, x in enumerate(self.items)}
        self._forbidden = {}
        for a, b in self.apart:
            if a in rows and b in rows:
                self._forbidden.setdefault(rows[a], set()).add(rows[b])
                self._forbidden.setdefault(rows[b], set()).add(rows[a])

    def of(self, row: int) -> int:
        """Number of the group of an item."""
        return self._group[row]

    def members(self, group: int) -> list[Item]:
        """Items of a group."""
        return [self.items[x] for x in self._members[group]]

    def rows(self, group: int) -> list[int]:
        """Rows of the items of a group."""
        return self._members[group]

    def may_join(self, one: int, other: int) -> bool:
        """Say whether nobody said that two groups hold different items."""
        theirs = set(self._members[other])
        return not any(self._forbidden.get(x, set()) & theirs for x in self._members[one])

    def join(self, one: int, other: int) -> None:
        """Make two groups one; the larger keeps its number, of equal ones the earlier."""
        if one == other:
            return
        sizes = (-len(self._members[one]), one), (-len(self._members[other]), other)
        kept, gone = (one, other) if sizes[0] < sizes[1] else (other, one)
        for row in self._members[gone]:
            self._group[row] = kept
        self._members[kept] = sorted(self._members[kept] + self._members[gone])
        self._members[gone] = []

    def all(self) -> list[list[Item]]:
        """All groups, in the order of their first items."""
        whole = sorted(x for x in self._members if x)
        return [[self.items[row] for row in rows] for rows in whole]
