"""The songs of a playlist, in the order to hear them (``undersong.retrieval.playlists``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from undersong.answers.item_index import ItemIndex
from undersong.errors import DataError
from undersong.retrieval import Neighbour, Neighbours, Query, Rules, Songs, fill
from undersong.retrieval.seeds import Beginning


def compose_playlist(
    index: ItemIndex,
    begin: Beginning,
    *,
    by_path: bool,
    recommended: Callable[[Query], Neighbours] | None,
    songs_of: Callable[[Sequence[str]], Songs],
    rules: Rules,
    query: Query,
) -> Neighbours:
    """Return the songs of a playlist in the order to hear them; errors as ``Model.playlist``.

    Parameters
    ----------
    by_path : whether its ends are given, and the songs lie between
    recommended : what somebody may like, for a query; None where it begins with no plays
    songs_of : what rules need to know of some ids
    """
    query = replace(query, exclude=query.exclude | begin.gone)
    if begin.away:
        query = index.away_from(begin.away, list(begin.named), query)
    ends, parts = [index.names.get(x) for x in begin.ends], [begin.weights]
    if by_path:
        if len(ends) != 2 or query.k < 3:
            raise DataError("a path needs two different ends and a k of 3 or more")
        way = index.path(ends[0], ends[1])
        if not way:
            return Neighbours(tuple(ends), (), way.note, index.names.linked)
        parts = [dict.fromkeys(x, 1.0) for x in pairwise(way.ids)]
        query = replace(query, k=query.k - 2)

    def answers(wide: Query) -> list[Neighbours]:
        if recommended:
            return [recommended(wide)]
        share = replace(wide, k=-(-wide.k // len(parts)))
        return [
            begin.in_turns(
                index.agreed([index.names.get(y) for y in x], share, weights=x, seeds_too=True)
            )
            for x in parts
        ]

    songs, lacking = fill(
        answers,
        songs_of,
        query=query,
        rules=rules,
        before=[*begin.before, *begin.ends[:1]],
        most=len(index.ids),
    )
    first, last = ([Neighbour(0, x, 1.0) for x in some] for some in (ends[:1], ends[1:]))
    queries = tuple(dict.fromkeys(begin.named.values()))
    numbered = tuple(
        replace(
            x, rank=rank, seeds=begin.owners(x.seeds) if len(queries) > 1 and not by_path else ()
        )
        for rank, x in enumerate([*first, *songs, *last], start=1)
    )
    note = "; ".join(filter(None, (begin.note, lacking)))
    return Neighbours(queries, numbered, note, index.names.linked)
