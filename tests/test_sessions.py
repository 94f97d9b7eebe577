"""Co-listening in sessions: equal to a slow loop, whatever the blocks; skips, gaps, windows."""

from collections import defaultdict
from itertools import combinations_with_replacement

import numpy as np
import polars as pl
import pytest

from planted import small_world
from undersong import relations
from undersong.catalogue import tables
from undersong.errors import DataError
from undersong.models.interaction import InteractionSettings, related_by_listening
from undersong.relations import Task, colistening
from undersong.relations.colistening import SessionSettings, shared_sessions

IDS = tuple(f"a{x}" for x in range(17))


def write(folder, rows, *, parts=1):
    """Rows are (user, artist, listened_at, seconds, skipped); the item is the artist's number."""
    folder.mkdir()
    names = sorted({row[1] for row in rows})
    number = {name: x + 100 for x, name in enumerate(names)}
    schema = {
        "user": pl.String,
        "item": pl.UInt64,
        "listened_at": pl.Int64,
        "seconds": pl.Float64,
        "skipped": pl.Boolean,
        "plays": pl.Float64,
    }
    whole = [(user, number[name], when, long, skip, None) for user, name, when, long, skip in rows]
    for part in range(parts):
        table = pl.DataFrame(whole[part::parts], schema=schema, orient="row")
        table.write_parquet(folder / f"part-{part:06}.parquet")
    pl.DataFrame(
        {"item": list(number.values()), "artist_id": names, "track_id": names},
        schema_overrides={"item": pl.UInt64},
    ).write_parquet(folder / "items.parquet")
    return folder


def related(folder, *, top=0, ids=IDS, **settings):
    matrix = shared_sessions(folder, "artist", ids, settings=SessionSettings(**settings), top=top)
    assert matrix.shape == (len(ids), len(ids))
    assert (matrix != matrix.T).nnz == 0
    assert not matrix.diagonal().any()
    return {(a, b) for a, b in zip(*matrix.nonzero(), strict=True) if a < b}


def slow(rows, settings, *, top):
    """The same by plain loops, from the words of the docstring."""
    counts = defaultdict(int)
    for user in sorted({x[0] for x in rows}):
        mine = sorted((x for x in rows if x[0] == user), key=lambda x: (x[2], int(x[1][1:])))
        both = defaultdict(int)
        for window in windows(mine, settings):
            for pair in combinations_with_replacement(sorted(window), 2):
                both[pair] += 1
        for pair, number in both.items():
            counts[pair] += min(number, settings.contribution)
    kept = set()
    for item in range(len(IDS)):
        partners = sorted(partners_of(item, counts, settings.threshold))
        chosen = partners[:top] if top else partners
        kept |= {(min(item, x), max(item, x)) for _, x in chosen}
    return kept


def windows(mine, settings):
    """Sessions of one user's listens, in time, cut where they are too long."""
    found, end = [], None
    for _, name, when, seconds, skipped in mine:
        if end is None or when - end > settings.gap:
            found.append([])
        end = when + (seconds or 0)
        if not skipped and (seconds is None or seconds >= settings.shortest):
            found[-1].append(int(name[1:]))
    length = settings.longest
    return [set(x[i : i + length]) for x in found for i in range(0, len(x), length)]


def partners_of(item, counts, threshold):
    for (a, b), number in counts.items():
        if a != b and item in (a, b) and number >= threshold:
            other = b if a == item else a
            yield -number / np.sqrt(counts[other, other]), other


def random_listens(seed, *, users=9, listens=700):
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(listens):
        taste = generator.integers(3)
        item = min(taste * 5 + int(generator.integers(6)), len(IDS) - 1)
        rows.append(
            (
                f"u{generator.integers(users)}",
                IDS[item],
                int(generator.integers(60_000)),
                [None, 10.0, 31.0, 400.0][generator.integers(4)],
                [None, False, False, True][generator.integers(4)],
            )
        )
    return rows


@pytest.mark.parametrize(
    ("seed", "top", "changes"),
    [
        (1, 0, {"threshold": 5}),
        (2, 3, {"threshold": 2, "contribution": 2}),
        (3, 4, {"gap": 300.0, "longest": 4, "threshold": 1}),
        (4, 2, {"shortest": 0.0, "longest": 7, "contribution": 1}),
    ],
)
def test_sessions_are_those_of_the_slow_loop(tmp_path, monkeypatch, seed, top, changes):
    rows = random_listens(seed)
    expected = slow(rows, SessionSettings(**changes), top=top)
    assert 5 < len(expected) < len(IDS) * (len(IDS) - 1) / 2
    folder = write(tmp_path / "listens", rows, parts=3)
    assert related(folder, top=top, **changes) == expected
    monkeypatch.setattr(colistening, "BLOCK", 90)
    monkeypatch.setattr(colistening, "ROWS", 5)
    assert related(folder, top=top, **changes) == expected


def test_a_pause_ends_a_session_and_a_long_piece_does_not(tmp_path):
    rows = [("u", "a1", 0, None, None), ("u", "a2", 1801, None, None)]
    assert related(write(tmp_path / "pause", rows), threshold=1) == set()
    rows[0] = ("u", "a1", 0, 2.0 + 60, None)
    assert related(write(tmp_path / "long", rows), threshold=1) == {(1, 2)}


def test_what_was_skipped_relates_nothing_but_keeps_the_session_alive(tmp_path):
    rows = [
        ("u", "a1", 0, None, False),
        ("u", "a2", 1500, None, True),
        ("u", "a3", 3000, 29.0, None),
        ("u", "a4", 4500, None, None),
    ]
    assert related(write(tmp_path / "skips", rows), threshold=1) == {(1, 4)}


def test_one_user_cannot_relate_two_items_alone(tmp_path):
    rows = [("u", f"a{1 + x % 2}", x * 5000 + x % 2, None, None) for x in range(40)]
    rows = [(u, i, (w // 10000) * 10000 + w % 2, s, k) for u, i, w, s, k in rows]
    folder = write(tmp_path / "listens", rows)
    assert related(folder, threshold=5, contribution=5) == {(1, 2)}
    assert related(folder, threshold=6, contribution=5) == set()


def test_items_that_are_not_asked_about_are_left_out(tmp_path):
    rows = [("u", f"a{x}", x, None, None) for x in range(4)]
    folder = write(tmp_path / "listens", rows)
    assert related(folder, ids=("a3", "zz", "a0"), threshold=1) == {(0, 2)}


def test_a_catalogue_without_listens_has_no_sessions(tmp_path):
    with pytest.raises(DataError, match="holds no listens, so there are no sessions"):
        shared_sessions(tmp_path, "artist", IDS, settings=SessionSettings(), top=3)


@pytest.mark.parametrize("wrong", [{"gap": 0.0}, {"shortest": -1.0}, {"contribution": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SessionSettings(**wrong)


def test_the_settings_choose_between_sessions_and_listeners(tmp_path):
    world = small_world(users=21)
    tables.write_catalogue(world, tmp_path)
    ids = world.ids("artist")
    rows = [(f"u{x}", ids[item], x, None, None) for x in range(3) for item in (0, 2)]
    write(tmp_path / "listens", rows)
    heard = np.array([0, 1, 2, 5])
    splits = np.full(len(ids), "train")
    task = Task(tables.read_catalogue(tmp_path), "artist", splits)
    plays = relations.listeners(task.catalogue, "artist")[:, heard]
    settings = InteractionSettings(sessions=True)
    found = related_by_listening(task, heard, plays, settings)
    assert sorted(zip(*found.nonzero(), strict=True)) == [(0, 2), (2, 0)]
    counted = related_by_listening(task, heard, plays, InteractionSettings())
    assert (counted != relations.shared_listeners(plays, threshold=1, top=20)).nnz == 0
    assert counted.nnz > 2
    with pytest.raises(DataError, match="in memory keeps no listens"):
        related_by_listening(Task(world, "artist", splits), heard, plays, settings)
