"""Add new items to a published run, or take them away again; nothing is trained.

What is added belongs to one generation. Each block of items is written at once, under a lock, so
`kill -9` leaves the items before it or with it, and two commands at the same time lose nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import runs
from undersong.audio.decode import decode
from undersong.audio.logmel import Undecodable
from undersong.catalogue import KINDS, Kind
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.features import AUDIO
from undersong.foldin import new_items
from undersong.foldin.added import vectors
from undersong.foldin.drift import warnings
from undersong.foldin.embed import (
    DERIVED,
    FoldIn,
    Row,
    embed_pieces,
    heard_pieces,
    pieces_of,
    refresh,
)
from undersong.foldin.new_items import NewItem
from undersong.importers.music.scan import Failure
from undersong.runs import Run

BLOCK = 32  # items written at a time
LIKE = 3  # neighbours shown of an item that was added


@dataclass(frozen=True)
class Addition:
    """What became of one item; "trained" if the catalogue held it already."""

    what: Literal["added", "replaced", "unchanged", "trained"]
    kind: Kind
    id: str
    name: str
    about: str


Result = Addition | Failure


def add_entries(
    run: Run, entries: Iterable[str | Path | Mapping[str, Any]], *, kind: Kind
) -> tuple[Result, ...]:
    """Add audio files, tables and rows to a run (``undersong.model.Model.add``).

    Raises
    ------
    DataError
        For a mistake in a table or a row.
    """
    fold_in, files, new = FoldIn(run), list[Path](), list[NewItem | Failure]()
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, Mapping):
            where = f"entry {number}"
            new.append(new_items.of_row(entry, kind, fold_in.known, where=where))
        else:
            files.append(Path(entry))
    return tuple(add(fold_in, [*new, *new_items.of_paths(files, kind, fold_in.known)]))


def add(
    fold_in: FoldIn, items: Iterable[NewItem | Failure], *, workers: int = 1
) -> Iterator[Addition | Failure]:
    """Embed new items, add them to a run, and return what became of each.

    A track of an artist who is not in the run adds the artist, too. An item that was added before
    is left as it is, or replaced if anything about it, or its file, has changed.

    Parameters
    ----------
    workers : child processes that decode audio
    """
    rest = iter(items)
    while block := list(islice(rest, BLOCK)):
        yield from (x for x in block if isinstance(x, Failure))
        yield from _add_block(fold_in, [x for x in block if isinstance(x, NewItem)], workers)


def remove(fold_in: FoldIn, ids: Sequence[str]) -> int:
    """Take added items away, an artist with its added tracks; return how many.

    Raises
    ------
    UnknownItem
        If an id was not added; nothing is taken away then.
    """
    run = fold_in.run
    with runs.changing_added(run.folder):
        rows = runs.read_added(run.folder, run.generation).to_dicts()
        unknown = set(ids) - {x["id"] for x in rows}
        if unknown:
            item = min(unknown)
            near = nearest_known(item, [x["id"] for x in rows])
            raise UnknownItem(f"{item!r} was not added to {run.folder}; {near}")
        remaining = [x for x in rows if not {x["id"], x["artist"]} & set(ids)]
        affected: set[tuple[Kind, str]] = {
            ("artist", x["artist"]) for x in rows if x["id"] in ids and x["artist"]
        }
        remaining = refresh(_with_tracks(remaining), fold_in, affected)
        _write(run, remaining)
        return len(rows) - len(remaining)


def readd(fold_in: FoldIn, *, workers: int = 1) -> Iterator[Addition | Failure]:
    """Add what was added to earlier generations to the present one.

    What cannot be read any more stays with the earlier generation, so nothing is lost.
    """
    run = fold_in.run
    for generation in runs.added_generations(run.folder):
        if generation == run.generation:
            continue
        rows = runs.read_added(run.folder, generation)
        failed = []
        for row in rows.filter(pl.col("digest") != DERIVED).iter_rows(named=True):
            results = list(add(fold_in, [_new_item(row)], workers=workers))
            yield from results
            failed += [row["id"]] if any(isinstance(x, Failure) for x in results) else []
        with runs.changing_added(run.folder):
            now = runs.read_added(run.folder, generation)  # another one may have added to it
            again = set(rows["id"]) - set(failed)
            unread = now.filter([x not in again for x in now["id"]])
            if len(unread):
                runs.write_added(run.folder, generation, unread)
            else:
                runs.added_path(run.folder, generation).unlink(missing_ok=True)


def most_alike(fold_in: FoldIn, addition: Addition) -> tuple[str, ...]:
    """Names of the items nearest to one that was added now, by cosine of E_G, best first."""
    if addition.what not in ("added", "replaced") or addition.kind not in fold_in.general:
        return ()
    added = vectors(fold_in.run.added(addition.kind), "general")
    if addition.id not in added.index:
        return ()
    vector, trained = added.vectors[added.index[addition.id]], fold_in.general[addition.kind]
    cosines = np.concatenate([trained.vectors @ vector, added.vectors @ vector])
    cosines[len(trained.ids) + added.index[addition.id]] = -np.inf
    ids = (*trained.ids, *added.ids)
    best = [ids[x] for x in np.argsort(-cosines)[:LIKE] if np.isfinite(cosines[x])]
    names = fold_in.names[addition.kind]
    names = names | dict(fold_in.run.added(addition.kind).select("id", "name").rows())
    return tuple(names[x] for x in best)


def listed(run: Run) -> pl.DataFrame:
    """All that was added to the present generation: rows of ``undersong.runs.read_added``."""
    return pl.concat([run.added(kind) for kind in KINDS])


def due(run: Run) -> tuple[str, ...]:
    """Return why a retrain is due, one sentence a reason; nothing if it is not (``drift``)."""
    earlier = [x for x in runs.added_generations(run.folder) if x != run.generation]
    counts = {x: len(runs.read_added(run.folder, x)) for x in earlier}
    stale = [
        f"{count} items were added to generation {x}, before the last training; "
        f"`undersong add {run.folder} --again` adds those that the catalogue still lacks"
        for x, count in counts.items()
    ]
    trained: dict[Kind, int] = {kind: len(run.trained_items(kind)) for kind in KINDS}
    return (*warnings(listed(run), run.manifest, trained=trained), *stale)


def _add_block(
    fold_in: FoldIn, items: Sequence[NewItem], workers: int
) -> Iterator[Addition | Failure]:
    run = fold_in.run
    before = {(x["kind"], x["id"]): x["digest"] for x in listed(run).iter_rows(named=True)}
    pending = list[NewItem]()
    for item in items:
        if item.id in fold_in.trained[item.kind]:
            yield Addition("trained", item.kind, item.id, item.name, item.artist_name)
        elif before.get((item.kind, item.id)) == _digest(item):
            yield Addition("unchanged", item.kind, item.id, item.name, item.artist_name)
        else:
            pending.append(item)
    rows = list(_embed_content(fold_in, pending, workers)) if pending else []
    yield from (x for x in rows if isinstance(x, Failure))
    fresh = [x for x in rows if not isinstance(x, Failure)]
    if fresh:
        with runs.changing_added(run.folder):
            stored = _store(fold_in, fresh)
        yield from stored


def _embed_content(
    fold_in: FoldIn, items: Sequence[NewItem], workers: int
) -> Iterator[Row | Failure]:
    """Make a row of each item, with E_C where it has sound or a vector."""
    encoders = fold_in.encoders
    hears = AUDIO in encoders.sources or bool(encoders.ears)
    paths = [x.path for x in items if x.path and hears]
    ears = fold_in.ears if paths else ()
    sounds = decode(paths, workers=max(1, min(workers, len(paths))), ears=ears)
    for item in items:
        row, pieces = _row(item), dict[str, NDArray[np.floating]]()
        if item.path and hears:
            sound = next(sounds)
            if isinstance(sound, Undecodable):
                yield Failure(str(item.path), sound.reason, sound.remedy)
                continue
            pieces = heard_pieces(sound, ears)
        if item.vector:
            try:
                pieces |= pieces_of(item.vector, encoders)
            except DataError as error:
                reason, _, remedy = str(error).partition("; ")
                yield Failure(item.id, reason, remedy)
                continue
        if pieces:
            row["content"] = embed_pieces(pieces, encoders)
        yield row


def _store(fold_in: FoldIn, fresh: Sequence[Row]) -> list[Addition | Failure]:
    """Write rows into the file of the run, with the artists that they bring along."""
    run = fold_in.run
    old = runs.read_added(run.folder, run.generation).to_dicts()
    keys, paths = {_key(x) for x in fresh}, {x["path"] for x in fresh if x["path"]}
    gone = [x for x in old if _key(x) in keys or x["path"] in paths]
    remaining = [x for x in old if x not in gone]
    artists = _artists_of(
        fold_in, fresh, known={x["id"] for x in remaining if x["kind"] == "artist"}
    )
    left_behind: set[tuple[Kind, str]] = {("artist", x["artist"]) for x in gone if x["artist"]}
    rows = _with_tracks([*remaining, *artists, *fresh])
    rows = refresh(rows, fold_in, keys | {_key(x) for x in artists} | left_behind)
    empty = {_key(x) for x in rows if _key(x) in keys and _is_empty(x, run)}
    rows = _with_tracks([x for x in rows if _key(x) not in empty])
    _write(run, rows)
    results: list[Addition | Failure] = []
    for row in fresh:
        if _key(row) in empty:
            results.append(Failure(row["path"] or row["id"], *_why_empty(row, fold_in)))
    before = {_key(x) for x in gone} | {x["path"] for x in gone if x["path"]}
    for row in rows:
        if _key(row) in keys | {_key(x) for x in artists}:
            changed = _key(row) in before or row["path"] in before
            what: Literal["added", "replaced"] = "replaced" if changed else "added"
            results.append(Addition(what, row["kind"], row["id"], row["name"], row["about"]))
    return results


def _key(row: Row) -> tuple[Kind, str]:
    return row["kind"], row["id"]


def _is_empty(row: Row, run: Run) -> bool:
    """Whether an item that could have an E_G has none."""
    return row["general"] is None and run.has_embeddings(row["kind"], "general")


def _why_empty(row: Row, fold_in: FoldIn) -> tuple[str, str]:
    """Return why an item has no E_G, and what to do; often the run does not know a word of it."""
    known = fold_in.known.artists
    for name, value in (_new_item(row).fields or {}).items():
        word = value[0] if isinstance(value, list) else value
        if name in known.columns and isinstance(word, str):
            words = known[name].explode() if known[name].dtype == pl.List else known[name]
            near = nearest_known(word, words.drop_nulls().unique().sort())
            return f"no artist of the run has {name} {word!r}", near
    remedy = "give audio that the run hears, a vector, or metadata that its catalogue has"
    return "nothing is known of it but its name", remedy


def _artists_of(fold_in: FoldIn, fresh: Sequence[Row], *, known: set[str]) -> list[Row]:
    """Make rows of the artists of new tracks who are neither trained nor among ``known``."""
    present = known | fold_in.trained["artist"] | {x["id"] for x in fresh if x["kind"] == "artist"}
    names = {x["artist"]: x["about"] for x in fresh if x["kind"] == "track"}
    new = [NewItem("artist", x, name) for x, name in names.items() if x not in present]
    return [{**_row(x), "digest": DERIVED} for x in new]


def _with_tracks(rows: Sequence[Row]) -> list[Row]:
    """Leave out artists who came with tracks, and of whom no track is left."""
    whose = {x["artist"] for x in rows if x["kind"] == "track"}
    return [x for x in rows if x["digest"] != DERIVED or x["id"] in whose]


def _row(item: NewItem) -> Row:
    """The row of an item before it is embedded."""
    row: Row = dict.fromkeys(runs.ADDED_COLUMNS)
    return row | {
        "kind": item.kind,
        "id": item.id,
        "name": item.name,
        "about": item.artist_name,
        "artist": item.artist or None,
        "path": str(item.path) if item.path else None,
        "digest": _digest(item),
        "fields": json.dumps(item.fields or {}, ensure_ascii=False, sort_keys=True),
        "given": list(item.vector) or None,
        "said": 0,
        "unseen": 0,
        "added": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _new_item(row: Row) -> NewItem:
    """Return an added item as the user described it."""
    return NewItem(
        row["kind"],
        row["id"],
        row["name"],
        row["artist"] or "",
        row["about"] if row["kind"] == "track" else "",
        json.loads(row["fields"]),
        tuple(row["given"] or ()),
        Path(row["path"]) if row["path"] else None,
    )


def _digest(item: NewItem) -> str:
    """Digest of an item; a file that cannot be read has none, and is found out by the decoder."""
    try:
        return item.digest
    except OSError:
        return "unreadable"


def _write(run: Run, rows: Sequence[Row]) -> None:
    table = pl.DataFrame(rows, schema=runs.ADDED_COLUMNS)
    runs.write_added(run.folder, run.generation, table)
