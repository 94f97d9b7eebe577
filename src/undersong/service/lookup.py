"""Whom a client means: by what was typed so far, by a whole name, by an id."""

import difflib

import numpy as np
import polars as pl

from undersong.catalogue import Kind, fold
from undersong.errors import UnknownItem
from undersong.service.snapshot import Item, ItemIndex, Snapshot

COMPARED = 3_000  # names, the best known of about the right length, that a mistyped one may mean


def suggest(answers: Snapshot, text: str, *, kind: Kind | None, limit: int) -> tuple[Item, ...]:
    """List items whose names a person may mean who has typed this much, of one kind or of any.

    First the very name, then names that begin with this as a whole word, then those that begin so,
    then those with a word that does, then those that hold it anywhere; artists before tracks, the
    best known first. Where nothing does, names that look like it.
    """
    among, asked = ([answers.of(kind)] if kind else list(answers.kinds.values())), fold(text)
    if not asked:
        return ()
    fits = [_fitting(items, asked, limit) for items in among]
    whole = [(group, at, place) for at, xs in enumerate(fits) for group, place in xs]
    found = sorted(whole, key=lambda x: x[:2])  # of equal ones the better known stays before
    if not found:
        found = [(0, at, x) for at, items in enumerate(among) for x in _alike(items, asked, limit)]
    return tuple(among[at].item(place) for _, at, place in found[:limit])


def _fitting(items: ItemIndex, asked: str, limit: int) -> list[tuple[int, int]]:
    """The first rows of names that fit, in order, each behind the number of its group."""
    names = items.folded
    group = (
        pl.when(names == asked)
        .then(0)
        .when(names.str.starts_with(f"{asked} "))
        .then(1)
        .when(names.str.starts_with(asked))
        .then(2)
        .when(names.str.contains(f" {asked}", literal=True))
        .then(3)
        .when(names.str.contains(asked, literal=True))
        .then(4)
    )
    ranked = pl.select(group.alias("group"), fame=pl.Series(items.fame)).with_row_index("row")
    found = ranked.drop_nulls().sort("group", "fame").head(limit)
    return list(found.select("group", "row").iter_rows())


def known(answers: Snapshot, kind: Kind, item_id: str) -> Item:
    """Give the item with an id.

    Raises
    ------
    UnknownItem
        If there is none, with those whose names are like it.
    """
    items = answers.of(kind)
    if item_id in items.place:
        return items.item(items.place[item_id])
    likely = suggest(answers, item_id, kind=kind, limit=3)
    named = ", ".join(f"{x.name!r} ({x.id})" for x in likely)
    hint = f"did you mean {named}?" if named else "search by name to find its id"
    raise UnknownItem(f"no {kind} has the id {item_id[:80]!r}; {hint}")


def by_name(answers: Snapshot, kind: Kind, name: str) -> tuple[Item, ...]:
    """List all items with a name, the best known first: spelt just so if any is, else folded."""
    items = answers.of(kind)
    places = items.by_folded.get(fold(name), [])
    exact = [x for x in places if items.table["name"][x] == name]
    return tuple(items.item(x) for x in sorted(exact or places, key=lambda x: items.fame[x]))


def by_mbid(answers: Snapshot, kind: Kind, mbid: str) -> tuple[Item, ...]:
    """List all items with a MusicBrainz id, as their field ``mbid`` says or as their own id."""
    items, asked = answers.of(kind), mbid.lower()
    places = items.by_mbid.get(asked, [])
    places = places or [items.place[x] for x in (mbid, asked) if x in items.place][:1]
    return tuple(items.item(x) for x in sorted(places, key=lambda x: items.fame[x]))


def _alike(items: ItemIndex, asked: str, limit: int) -> list[int]:
    """Rows of names that look like a mistyped one, among the best known of about its length."""
    lengths = items.folded.str.len_chars().to_numpy().astype(np.int64)
    rows = np.flatnonzero(np.abs(lengths - len(asked)) <= 2)
    rows = rows[np.argsort(items.fame[rows], kind="stable")][:COMPARED].tolist()
    names = {items.folded[row]: row for row in reversed(rows)}
    return [names[x] for x in difflib.get_close_matches(asked, names, n=limit, cutoff=0.7)]
