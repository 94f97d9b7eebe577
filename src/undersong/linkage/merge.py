"""Several catalogues -> one, and the table of the ids that each item has in them.

Nothing is lost and nothing counts twice: plays of merged items add up, relations follow their
items, and every item of every source is in ``identities``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import polars as pl

from undersong.catalogue import KINDS, PLAYS, RELATIONS, Catalogue, Kind, name_key
from undersong.errors import DataError
from undersong.importers.music.credits import NO_ALIASES, Aliases
from undersong.io.table_files import write_table
from undersong.linkage import items as values
from undersong.linkage.items import Key, LinkedItem, items_of
from undersong.linkage.matching import match
from undersong.linkage.records import (
    AMBIGUOUS,
    FORMER,
    IDENTITIES,
    MARK,
    Correction,
    items_alone,
    of_kind,
    word,
)
from undersong.progress import Progress, silent, watched

AT_ONCE = 2**21  # plays that are merged at a time


@dataclass(frozen=True)
class Merged:
    """One catalogue of several, the ids of its items in each, and ambiguous pairs.

    Parameters
    ----------
    catalogue : rows in the order of their ids
    identities, ambiguous : as ``undersong.linkage.records`` has them
    between_same : relations left out because both of their items are the same
    """

    catalogue: Catalogue
    identities: pl.DataFrame
    ambiguous: pl.DataFrame
    between_same: int


def merge(
    sources: Mapping[str, Catalogue],
    *,
    before: pl.DataFrame | None = None,
    corrections: Sequence[Correction] = (),
    conflicts: int = 2,
    same_users: bool = False,
    redirects: Mapping[str, str] = MappingProxyType({}),
    servers: Collection[str] = (),
    aliases: Aliases = NO_ALIASES,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> Merged:
    """Make one catalogue of several.

    Parameters
    ----------
    sources : name -> catalogue; their order does not matter
    before : identities of the last merge, so that ids stay
    corrections : by hand
    conflicts : see ``matching.match``
    same_users : whether a user's id means the same person in every source
        Otherwise users are "source:user", for most numbers of users mean nobody elsewhere.
    redirects : ids of MusicBrainz that were merged into others, with those
    servers : sources whose ids an item keeps, since players ask by them
    aliases : of artists, who have the name in every source then
    scratch : folder for plays, which are then read and merged ``AT_ONCE`` rows at a time
        The plays of what is returned lie there. Without it they are held in memory.

    Raises
    ------
    DataError
        If there is no source, one has no usable name, corrections contradict each other, or fields
        or features of one name are of two kinds.
    """
    _check_names(sources)
    plain = dict(sorted(sources.items()))
    sources = {name: _renamed(one, aliases) for name, one in plain.items()}
    known = _known(before)
    ids: dict[Kind, dict[Key, str]] = {}
    homes: dict[Key, str] = {}
    identities: list[tuple[str, ...]] = []
    ambiguous: list[tuple[str, ...]] = []
    for kind in KINDS:
        items = [
            x
            for name in watched(list(sources), progress, f"names of {kind}s")
            for x in items_of(name, sources[name], kind, homes, redirects)
        ]
        aliased = _aliased(plain, items, aliases) if kind == "artist" else []
        matching = match(
            items,
            same=[*of_kind(corrections, kind, "same"), *aliased],
            different=of_kind(corrections, kind, "different"),
            conflicts=conflicts,
            progress=progress,
        )
        earlier = known.get(kind, ({}, {}))
        new_ids = name_clusters(matching.clusters, earlier[0], servers=servers)
        pairs = zip(new_ids, matching.clusters, strict=True)
        ids[kind] = {x.key: item for item, cluster in pairs for x in cluster}
        homes = homes or ids[kind]
        identities += [(kind, *key, item) for key, item in ids[kind].items()]
        former = _redirects(matching.clusters, new_ids, *earlier)
        identities += [(kind, FORMER, old, now) for old, now in former.items()]
        names = {x.key: x.spelling.exact for x in items}
        ambiguous += [
            (kind, x.reason, word(x.a), word(x.b), names[x.a], names[x.b])
            for x in matching.ambiguous
        ]
    whole, between_same = _combine(
        sources, ids, same_users=same_users, scratch=scratch, progress=progress
    )
    return Merged(
        whole,
        pl.DataFrame(identities, schema=IDENTITIES, orient="row").sort(
            "kind", "source", "source_id"
        ),
        pl.DataFrame(ambiguous, schema=AMBIGUOUS, orient="row"),
        between_same,
    )


def _renamed(one: Catalogue, aliases: Aliases) -> Catalogue:
    if not aliases:
        return one
    credits = [aliases.get(name_key(x)) for x in one.names("artist")]
    names = pl.Series([x.name if x else None for x in credits], dtype=pl.String)
    return replace(one, artists=one.artists.with_columns(name=pl.coalesce(names, "name")))


def _aliased(
    sources: Mapping[str, Catalogue], items: Sequence[LinkedItem], aliases: Aliases
) -> list[tuple[Key, Key]]:
    """Pair each artist who is called by an alias with one who has the name, or the id."""
    called = {
        (source, item): credit
        for source, one in sources.items()
        for item, name in zip(one.ids("artist"), one.names("artist"), strict=True)
        if (credit := aliases.get(name_key(name)))
    }
    first: dict[str, Key] = {}
    for x in sorted(items, key=lambda x: (x.key in called, x.key)):
        for mark in {name_key(x.spelling.exact), *x.mbids} if called else ():
            first.setdefault(mark, x.key)
    return [(first.get(x.id) or first[name_key(x.name)], key) for key, x in called.items()]


def _check_names(sources: Mapping[str, Catalogue]) -> None:
    if not sources:
        raise DataError("no catalogue to merge; name one or more")
    for name in sources:
        if not name or {":", MARK} & set(name) or name == FORMER:
            raise DataError(
                f"a source cannot be called {name!r}: names have no colon or {MARK!r} and are not "
                f"{FORMER!r}; rename the folder of the catalogue"
            )


def _known(before: pl.DataFrame | None) -> dict[str, tuple[dict[Key, str], dict[str, str]]]:
    """Ids of the items of each kind at the last merge, and the redirects of then."""
    if before is None:
        return {}
    known = {}
    for kind in KINDS:
        own = before.filter(pl.col("kind") == kind)
        items = items_alone(own).select("source", "source_id", "id").rows()
        former = own.filter(pl.col("source") == FORMER).select("source_id", "id").rows()
        known[str(kind)] = {(source, item): now for source, item, now in items}, dict(former)
    return known


def _redirects(
    clusters: Sequence[Sequence[LinkedItem]],
    ids: Sequence[str],
    before: Mapping[Key, str],
    older: Mapping[str, str],
) -> dict[str, str]:
    """Lead every former id to one of today, never to another redirect.

    An id whose items are in several clusters leads to the one that holds most of them; one whose
    items are all gone leads on.
    """
    new: dict[str, str] = {}
    today = set(ids)
    for _, item, number in sorted(_claims(clusters, before)):
        if item not in today:
            new.setdefault(item, ids[number])
    led = {old: new.get(now, now) for old, now in older.items()}
    return {old: now for old, now in (led | new).items() if old not in today and now in today}


def _combine(
    sources: Mapping[str, Catalogue],
    ids: Mapping[Kind, Mapping[Key, str]],
    *,
    same_users: bool,
    scratch: Path | None,
    progress: Progress,
) -> tuple[Catalogue, int]:
    """Put all tables together under the new ids; also how many relations became none."""
    named = {
        kind: {name: {k[1]: now for k, now in known.items() if k[0] == name} for name in sources}
        for kind, known in ids.items()
    }
    relations = [pl.DataFrame(schema=RELATIONS)]
    for name, one in sources.items():
        for kind in KINDS:
            now = named[kind][name]
            pairs = one.relations.filter(pl.col("kind") == kind).with_columns(
                pl.col("a", "b").replace_strict(now, return_dtype=pl.String)
            )
            relations.append(
                pairs.with_columns(
                    pl.min_horizontal("a", "b").alias("a"), pl.max_horizontal("a", "b").alias("b")
                )
            )
    related = pl.concat(x.select(*RELATIONS) for x in relations)
    apart = related.filter(pl.col("a") != pl.col("b"))
    fields = values.fields_of(sources)
    return Catalogue(
        artists=values.items(sources, "artist", named, fields),
        tracks=values.items(sources, "track", named, fields),
        plays=_kept(_plays(sources, named, same_users=same_users, progress=progress), scratch),
        relations=apart.unique().sort(*RELATIONS),
        fields=fields,
        features=values.features(sources, named),
        audio_root=values.audio_root(sources),
        origins=tuple(dict.fromkeys(x for one in sources.values() for x in one.origins)),
    ), len(related) - len(apart)


def _plays(
    sources: Mapping[str, Catalogue],
    ids: Mapping[Kind, Mapping[str, Mapping[str, str]]],
    *,
    same_users: bool,
    progress: Progress,
) -> Iterator[pl.DataFrame]:
    """Yield the plays of all sources under the new ids, in the order of kind, user and item.

    Those of so many users at a time that there are about ``AT_ONCE``; each time the files are read
    again, of which a table in the order of its users is only read where these stand.
    """
    known = {name: pl.lit("" if same_users else f"{name}:") + pl.col("user") for name in sources}
    for kind in sorted(KINDS):
        items = {
            name: pl.col("item").replace_strict(
                pl.Series(now.keys(), dtype=pl.String), pl.Series(now.values(), dtype=pl.String)
            )
            for name, now in ids[kind].items()
        }
        users = pl.concat(
            one.played(kind)
            .group_by("user")
            .agg(rows=pl.len().cast(pl.Int64))
            .with_columns(now=known[name], source=pl.lit(name))
            .collect(engine="streaming")
            for name, one in sources.items()
        ).sort("now")
        block = (pl.col("rows").cum_sum() // AT_ONCE).alias("block")
        users = users.with_columns(block).with_columns(pl.col("block").min().over("now"))
        parts = users.partition_by("block", maintain_order=True)
        for some in watched(parts, progress, f"plays of {kind}s"):
            ends = some.group_by("source").agg(pl.min("user").alias("a"), pl.max("user").alias("b"))
            rows = pl.concat(
                sources[name]
                .played(kind)
                .filter(pl.col("user").is_between(pl.lit(first), pl.lit(last)))
                .select(user=known[name], item=items[name], plays="plays")
                for name, first, last in ends.sort("source").iter_rows()
            )
            added = rows.group_by("user", "item").agg(pl.col("plays").sort().sum())
            kinds = pl.lit(kind, dtype=pl.String).alias("kind")
            yield added.sort("user", "item").select(kinds, "user", "item", "plays").collect()


def _kept(blocks: Iterator[pl.DataFrame], scratch: Path | None) -> pl.LazyFrame:
    """Hold blocks of plays in memory, or in files of a folder."""
    blocks = chain([pl.DataFrame(schema=PLAYS)], blocks)
    if scratch is None:
        return pl.concat(blocks).lazy()
    paths = []
    for number, block in enumerate(blocks):
        paths.append(scratch / f"plays-{number}.parquet")
        write_table(paths[-1], block)
    return pl.scan_parquet(paths)


def name_clusters(
    clusters: Sequence[Sequence[LinkedItem]],
    before: Mapping[Key, str],
    *,
    servers: Collection[str] = (),
) -> list[str]:
    """Choose the id of each cluster, no two the same.

    A cluster with items of ``servers`` has the first id of those. Others keep the id that their
    items had (``before``): of several the one that most of them had, then the first. Where a
    cluster was split, the largest part keeps it. A new one has its MusicBrainz id, if it has one,
    or else is named after the first of its items, "lastfm:17355"; neither depends on the other
    clusters nor on the order of the sources.
    """
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for number, items in enumerate(clusters):
        theirs = [item for source, item in (x.key for x in items) if source in servers]
        if theirs and min(theirs) not in taken:
            ids[number] = min(theirs)
            taken.add(ids[number])
    for _, item, number in sorted(_claims(clusters, before)):
        if number not in ids and item not in taken:
            ids[number] = item
            taken.add(item)
    spoken = taken | set(before.values())  # an id that was another's is a redirect, never new
    for number, items in enumerate(clusters):
        if number not in ids:
            ids[number] = _fresh(items, spoken)
            spoken.add(ids[number])
    return [ids[number] for number in range(len(clusters))]


def _claims(
    clusters: Sequence[Sequence[LinkedItem]], before: Mapping[Key, str]
) -> list[tuple[tuple[int, Key], str, int]]:
    """For each cluster and former id: how many items it had, most first; the id; the cluster."""
    claims = []
    for number, items in enumerate(clusters):
        held: dict[str, list[Key]] = {}
        for x in items:
            if x.key in before:
                held.setdefault(before[x.key], []).append(x.key)
        claims += [((-len(keys), min(keys)), item, number) for item, keys in held.items()]
    return claims


def _fresh(items: Sequence[LinkedItem], taken: set[str]) -> str:
    mbids = sorted({mbid for x in items for mbid in x.mbids} - taken)
    named = mbids[0] if mbids else word(min((x.spelling.guest, x.key) for x in items)[1])
    while named in taken:
        named += "~"
    return named
