"""Groups of items that are the same, as they grow, and who may never be in one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from undersong.errors import DataError
from undersong.linkage.items import (
    Key,
    LinkedItem,
    evidence,
    likeness,
    main_artist,
    shared_words,
    spell,
    together,
)
from undersong.progress import Progress, silent

OFTEN = 4096  # names that are compared between two reports


class Clusters:
    """Every item in exactly one cluster; at first each in its own.

    Parameters
    ----------
    items : all of them, sorted by key
    apart : pairs of items that corrections keep different
    """

    def __init__(self, items: Sequence[LinkedItem], apart: Iterable[tuple[Key, Key]] = ()):
        self.items = items
        self._members = [[row] for row in range(len(items))]
        self._cluster = list(range(len(items)))
        rows = {x.key: row for row, x in enumerate(items)}
        self._forbidden: dict[int, set[int]] = {}
        for a, b in apart:
            if a in rows and b in rows:
                self._forbidden.setdefault(rows[a], set()).add(rows[b])
                self._forbidden.setdefault(rows[b], set()).add(rows[a])

    def of(self, row: int) -> int:
        """Number of the cluster of an item."""
        return self._cluster[row]

    def members(self, cluster: int) -> list[LinkedItem]:
        """Items of a cluster."""
        return [self.items[x] for x in self._members[cluster]]

    def rows(self, cluster: int) -> list[int]:
        """Rows of the items of a cluster."""
        return self._members[cluster]

    def may_join(self, one: int, other: int) -> bool:
        """Return whether no correction keeps two clusters apart."""
        theirs = set(self._members[other])
        return not any(self._forbidden.get(x, set()) & theirs for x in self._members[one])

    def join(self, one: int, other: int) -> None:
        """Make two clusters one; the larger keeps its number, of equal ones the earlier."""
        if one == other:
            return
        sizes = (-len(self._members[one]), one), (-len(self._members[other]), other)
        larger, gone = (one, other) if sizes[0] < sizes[1] else (other, one)
        for row in self._members[gone]:
            self._cluster[row] = larger
        self._members[larger] = sorted(self._members[larger] + self._members[gone])
        self._members[gone] = []

    def all(self) -> list[list[LinkedItem]]:
        """All clusters, in the order of their first items."""
        whole = sorted(x for x in self._members if x)
        return [[self.items[row] for row in rows] for rows in whole]


Score = tuple[int, int]


@dataclass(frozen=True)
class Matching:
    """Clusters of the same item, and pairs that a person may want to look at.

    ``ambiguous`` are items of one name that stay apart, and names that may be a collaboration of
    known artists.
    """

    clusters: Sequence[Sequence[LinkedItem]]
    ambiguous: Sequence["Ambiguity"]


@dataclass(frozen=True, order=True)
class Ambiguity:
    """Two items that may be the same and stay apart.

    Parameters
    ----------
    reason : "contradiction" of their facts, two MusicBrainz "ids", an "accent" that only one
        name has, "several" that it could be, or "together": the name of ``a`` is made of several,
        and one of them is that of ``b``
    a, b : the first items of their clusters
    """

    reason: str
    a: Key
    b: Key


def match(
    items: Iterable[LinkedItem],
    *,
    same: Iterable[tuple[Key, Key]] = (),
    different: Iterable[tuple[Key, Key]] = (),
    conflicts: int = 2,
    progress: Progress = silent,
) -> Matching:
    """Find which items are the same.

    Parameters
    ----------
    items : of all sources, of one kind
    same, different : corrections by hand, which go before everything else
    conflicts : so many contradicting facts more than agreeing ones keep two of one name apart
        Facts are region, genre and year, so 4 lets the name alone decide.

    Raises
    ------
    DataError
        If the corrections contradict each other.
    """
    ordered = sorted(items, key=lambda x: x.key)
    clusters = Clusters(ordered, different)
    _join_corrected(clusters, same)
    for marks in ("mbids", "codes"):
        _join_marks(clusters, marks)
    ambiguous: set[Ambiguity] = set()
    blocks = _blocks(ordered)
    shared = shared_words(ordered)
    for done, (_, block) in enumerate(sorted(blocks.items())):
        if done % OFTEN == 0:
            progress("who is who", done, len(blocks))
        if len(block) > 1:
            ambiguous |= _join_names(clusters, block, shared, conflicts)
    ambiguous |= _join_guests(clusters, blocks)
    progress("who is who", len(blocks), len(blocks))
    rows = {x.key: row for row, x in enumerate(ordered)}
    left = (x for x in ambiguous if clusters.of(rows[x.a]) != clusters.of(rows[x.b]))
    return Matching(clusters.all(), sorted(left))


def _join_corrected(clusters: Clusters, same: Iterable[tuple[Key, Key]]) -> None:
    rows = {x.key: row for row, x in enumerate(clusters.items)}
    for a, b in sorted(same):
        if a in rows and b in rows:
            one, other = clusters.of(rows[a]), clusters.of(rows[b])
            if not clusters.may_join(one, other):
                raise DataError(
                    f"{':'.join(a)} and {':'.join(b)} are corrected to be the same and, with "
                    "others that are the same, to be different; take one of the corrections out"
                )
            clusters.join(one, other)


def _join_marks(clusters: Clusters, marks: str) -> None:
    """Join what has an id in common. Recordings of two MusicBrainz ids are two, whatever ISRC."""
    first: dict[str, list[int]] = {}
    for row, item in enumerate(clusters.items):
        for mark in sorted(getattr(item, marks)):
            first.setdefault(mark, []).append(row)
    for _, (row, *others) in sorted(first.items()):
        for other in others:
            one, two = clusters.of(row), clusters.of(other)
            known = marks == "mbids" or not _of_two_ids(
                clusters.members(one), clusters.members(two)
            )
            if known and clusters.may_join(one, two):
                clusters.join(one, two)


def _of_two_ids(one: Sequence[LinkedItem], other: Sequence[LinkedItem]) -> bool:
    mine, theirs = (frozenset().union(*(x.mbids for x in items)) for items in (one, other))
    return bool(mine) and bool(theirs) and not mine & theirs


def _reason_apart(
    one: Sequence[LinkedItem],
    other: Sequence[LinkedItem],
    agreed: int,
    opposed: int,
    conflicts: int,
) -> str:
    """Return why two clusters of one name stay apart; empty if nothing keeps them."""
    if _of_two_ids(one, other):
        return "ids"
    if opposed - agreed >= conflicts:
        return "contradiction"
    return "accent" if agreed <= opposed and _differ_by_accents(one, other) else ""


def _differ_by_accents(one: Sequence[LinkedItem], other: Sequence[LinkedItem]) -> bool:
    """Return whether no name of two artists is the same with its accents."""
    pairs = ((a.spelling, b.spelling) for a in one for b in other)
    return not one[0].home and all(a.differs_by_accents(b) for a, b in pairs)


def _blocks(items: Sequence[LinkedItem]) -> dict[tuple[str, str], list[int]]:
    blocks: dict[tuple[str, str], list[int]] = {}
    for row, item in enumerate(items):
        for key in {item.spelling.key, item.spelling.turned} - {""}:
            blocks.setdefault((item.home, key), []).append(row)
    return blocks


def _join_names(
    clusters: Clusters,
    rows: Sequence[int],
    shared: Mapping[frozenset[str], frozenset[str]],
    conflicts: int,
) -> set[Ambiguity]:
    """Join clusters of one name, the surest first, as long as each is the other's only best one."""
    ambiguous: set[Ambiguity] = set()
    while True:
        here = {clusters.of(row) for row in rows}
        scores: dict[tuple[int, int], Score] = {}
        rivals: dict[int, list[int]] = {}
        for one, other in combinations(sorted(here), 2):
            mine, theirs = clusters.members(one), clusters.members(other)
            if {x.key[0] for x in mine} & {x.key[0] for x in theirs}:
                continue
            alike = any(a.spelling.may_be(b.spelling) for a in mine for b in theirs)
            if not alike or not clusters.may_join(one, other):
                continue
            agreed, opposed = evidence(mine, theirs, shared)
            if reason := _reason_apart(mine, theirs, agreed, opposed, conflicts):
                ambiguous.add(_ambiguity(reason, mine, theirs))
            else:
                scores[one, other] = (agreed - opposed, likeness(mine, theirs))
                rivals.setdefault(one, []).append(other)
                rivals.setdefault(other, []).append(one)
        sure = [pair for pair in scores if _only_best(clusters, pair, scores, rivals)]
        if not sure:
            return ambiguous | {
                _ambiguity("several", clusters.members(one), clusters.members(other))
                for one, other in scores
            }
        best = max(sure, key=lambda pair: (scores[pair], [-clusters.rows(x)[0] for x in pair]))
        clusters.join(*best)


def _only_best(
    clusters: Clusters,
    pair: tuple[int, int],
    scores: Mapping[tuple[int, int], Score],
    rivals: Mapping[int, Sequence[int]],
) -> bool:
    """Return whether no other cluster of the sources of one is as good a match for the other."""
    for mine, theirs in (pair, pair[::-1]):
        sources = {x.key[0] for x in clusters.members(theirs)}
        for other in rivals[mine]:
            score = scores[min(mine, other), max(mine, other)]
            if other == theirs or score < scores[pair]:
                continue
            if sources & {x.key[0] for x in clusters.members(other)}:
                return False
    return True


def _join_guests(clusters: Clusters, blocks: Mapping[tuple[str, str], list[int]]) -> set[Ambiguity]:
    """Join "A feat. B" to A, if there is one A and the name has no id of its own.

    "A & B" may be a band. Where both are known and the whole has no id, that is a doubt.
    """
    ambiguous: set[Ambiguity] = set()
    for row, item in enumerate(clusters.items):
        if item.home or item.mbids:
            continue
        front = main_artist(item.spelling.exact)
        if front:
            known = _named(clusters, blocks, front)
            own = clusters.of(row)
            if len(known) == 1 and not any(x.mbids for x in clusters.members(own)):
                if clusters.may_join(own, known[0]):
                    clusters.join(own, known[0])
                continue
        parts = together(item.spelling.exact)
        owners = [_named(clusters, blocks, x) for x in parts]
        if parts and all(owners):
            here = clusters.members(clusters.of(row))
            ambiguous |= {
                _ambiguity("together", here, clusters.members(x))
                for owner in owners
                for x in owner
                if x != clusters.of(row)
            }
    return ambiguous


def _named(clusters: Clusters, blocks: Mapping[tuple[str, str], list[int]], name: str) -> list[int]:
    return sorted({clusters.of(row) for row in blocks.get(("", spell(name).key), ())})


def _ambiguity(reason: str, one: Sequence[LinkedItem], other: Sequence[LinkedItem]) -> Ambiguity:
    a, b = (min((x.spelling.guest, x.key) for x in items)[1] for items in (one, other))
    return Ambiguity(reason, a, b) if reason == "together" or a < b else Ambiguity(reason, b, a)
