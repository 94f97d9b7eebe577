"""A generated catalogue of the paper's shape at any size, to measure speed and memory on (3.1).

Nothing in it is real. Every artist belongs to one hidden taste group, and plays, genres,
descriptors and relations all follow the groups, so that what is trained on it has something to
find. All numbers that the paper gives of its data hold exactly at the paper's size and in
proportion at any other. Memory is bounded by some numbers per artist, track and relation, and
one block of plays: those are written as they are drawn.

It shares nothing with the world of ``undersong demo``: that one compares all artists with each
other and plays their music, which a million artists could not, and each is drawn from its seed.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import embeddings
from undersong.catalogue import (
    PLAYS,
    RELATIONS,
    Field,
    Kind,
    Origin,
    importing,
    replacing_tables,
)
from undersong.errors import SettingsError
from undersong.io.files import replacing, writing
from undersong.progress import Progress, silent

Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]

# Section 3.1 of the paper, and figure 1 for the items without a relation.
ARTISTS, TRACKS, PLAYED = 9_627, 61_584, 6_800_000
RELATED: dict[Kind, int] = {"artist": 65_574, "track": 82_880}
OF: dict[Kind, int] = {"artist": ARTISTS, "track": TRACKS}
UNLINKED: dict[Kind, float] = {"artist": 0.3697, "track": 0.5306}

# Popularity is (rank + shift)^-steepness (Zipf and Mandelbrot). With these the first hundredth of
# the artists has about 30 % of all listeners, as in the Last.fm listening of HetRec 2011.
SHIFT, STEEPNESS = 0.005, 1.25  # shift as a share of the artists
ARTISTS_OF_A_USER = 50  # mean; log-normal with a standard deviation of 1
LOYALTY = (0.45, 0.2, 0.1)  # share of a user's artists from the first, second and third group
ARTISTS_OF_A_GROUP = 200
WITHIN = 0.9  # share of relations inside a taste group
GENRES, REGIONS = 21, 12
WIDTH = 12  # descriptors of a track
USERS_AT_ONCE, TRACKS_AT_ONCE = 4_096, 65_536
LEAST = 100  # artists; below that the relations of the paper's shape do not fit


@dataclass(frozen=True)
class TasteGroups:
    """Artists as they are drawn from, in the order of their taste groups.

    Parameters
    ----------
    group : (n,) int, ascending
    weight : (n,) popularity, sums to 1
    row : (n,) place of each in the tables, where the order tells nothing
    centre : (groups, WIDTH) descriptors around which those of a group lie
    """

    group: Rows
    weight: Numbers
    row: Rows
    centre: Numbers


def make_twin(
    folder: Path,
    *,
    artists: int = ARTISTS,
    tracks: int = TRACKS,
    plays: int = PLAYED,
    seed: int = 0,
    replace: bool = False,
    progress: Progress = silent,
) -> None:
    """Write a generated catalogue; the same sizes and seed give the same tables.

    Parameters
    ----------
    folder : becomes a catalogue, whole or not at all
    artists : at least 100; 65,574 / 9,627 relations each, 36.97 % without any
    tracks : 0, or at least 100; 82,880 / 61,584 relations each, 53.06 % without any
    plays : pairs of a user and an artist, at least 1 per artist; about 50 to a user, log-normal

    Raises
    ------
    SettingsError
        If a size is out of range.
    DataError
        If there is a catalogue that is no twin, and not ``replace``.
    """
    if artists < LEAST or 0 < tracks < LEAST or plays < artists:
        raise SettingsError(
            f"a twin of {artists} artists, {tracks} tracks and {plays} plays: give at least "
            f"{LEAST} artists, {LEAST} tracks or none, and as many plays as artists"
        )
    groups = _groups(np.random.default_rng([seed, 0]), artists)
    generator = np.random.default_rng([seed, 1])
    artist = np.sort(generator.choice(artists, tracks, p=_uneven(generator, artists)))
    features: tuple[tuple[str, Kind], ...] = (("descriptors", "track"),) if tracks else ()
    origin = Origin("undersong twin", "none needed", "everything; all of it is generated")
    with (
        importing(folder, "twin", replace=replace),
        replacing_tables(
            folder, fields=FIELDS, features=features, origins=(origin,), source="twin"
        ) as home,
    ):
        facts = _facts(np.random.default_rng([seed, 2]), groups)
        _write(home / "artists.parquet", iter([facts.with_columns(split=_no_words(artists))]))
        shuffled = np.random.default_rng([seed, 3]).permutation(tracks)
        _write(home / "tracks.parquet", _tracks(groups, artist, shuffled, facts=facts, seed=seed))
        if tracks:
            _write(
                home / "features" / "descriptors.track.parquet",
                _descriptors(groups, artist, shuffled, seed=seed),
                metadata=embeddings.METADATA,
            )
        _write(home / "relations.parquet", _relations(groups, artist, shuffled, seed=seed))
        _write(home / "plays.parquet", _plays(groups, plays, seed=seed, progress=progress))


FIELDS = tuple(
    field
    for kind in ("artist", "track")
    for field in (
        Field("genre", kind, "category", "genre"),
        Field("region", kind, "category", "region"),
        Field("popularity", kind, "number", "popularity"),
    )
)


def _groups(generator: np.random.Generator, n: int) -> TasteGroups:
    count = max(4, n // ARTISTS_OF_A_GROUP)
    group = np.sort(generator.choice(count, n, p=_uneven(generator, count, deviation=0.5)))
    weight = (1 + generator.permutation(n) + SHIFT * n) ** -STEEPNESS
    centre = generator.normal(size=(count, WIDTH))
    return TasteGroups(group, weight / weight.sum(), generator.permutation(n), centre)


def _uneven(generator: np.random.Generator, n: int, *, deviation: float = 1.0) -> Numbers:
    """Return n shares that sum to 1, log-normal."""
    share = generator.lognormal(0, deviation, n)
    return np.asarray(share / share.sum())


def _facts(generator: np.random.Generator, groups: TasteGroups) -> pl.DataFrame:
    """Names and metadata of artists, in the order of the table."""
    n, count = len(groups.group), len(groups.centre)
    place = np.argsort(groups.row)
    # The numbers of genres and of regions differ, so that neither tells the other.
    home = np.where(
        generator.random(n) < 0.7, groups.group % REGIONS, generator.integers(REGIONS, size=n)
    )
    genre = groups.group % min(GENRES, count)
    fame = np.log10(groups.weight) + generator.normal(0, 0.2, n)
    return pl.DataFrame(
        {
            "id": _ids("a", np.arange(n)),
            "name": _ids("Artist ", np.arange(n)),
            "genre": _some(_ids("genre ", genre[place]), generator.random(n) < 0.95),
            "region": _some(_ids("region ", home[place]), generator.random(n) < 0.9),
            "popularity": fame[place],
        }
    )


def _tracks(
    groups: TasteGroups, artist: Rows, shuffled: Rows, *, facts: pl.DataFrame, seed: int
) -> Iterator[pl.DataFrame]:
    """Tracks with the metadata of their artists, in blocks, ``shuffled`` out of their groups."""
    for number, start in enumerate(range(0, max(1, len(artist)), TRACKS_AT_ONCE)):
        generator = np.random.default_rng([seed, 4, number])
        own = groups.row[artist[shuffled[start : start + TRACKS_AT_ONCE]]]
        n, about = len(own), facts[own]
        yield pl.DataFrame(
            {
                "id": _ids("t", start + np.arange(n)),
                "artist": about["id"],
                "title": _ids("Track ", start + np.arange(n)),
                "path": _no_words(n),
                "popularity": about["popularity"].to_numpy() + generator.normal(0, 0.5, n),
                "split": _no_words(n),
                "genre": about["genre"],
                "region": about["region"],
            }
        )


def _descriptors(
    groups: TasteGroups, artist: Rows, shuffled: Rows, *, seed: int
) -> Iterator[pl.DataFrame]:
    """Features of tracks: those of the group, of the artist and of the track alone, in blocks."""
    person = np.random.default_rng([seed, 5]).normal(0, 0.7, (len(groups.group), WIDTH))
    for number, start in enumerate(range(0, len(artist), TRACKS_AT_ONCE)):
        generator = np.random.default_rng([seed, 6, number])
        own = artist[shuffled[start : start + TRACKS_AT_ONCE]]
        vectors = groups.centre[groups.group[own]] + person[own]
        vectors += generator.normal(0, 0.7, vectors.shape)
        yield pl.DataFrame(
            {
                "id": _ids("t", start + np.arange(len(own))),
                "vector": pl.Series(vectors.astype(np.float32), dtype=pl.Array(pl.Float32, WIDTH)),
            }
        )


def _relations(
    groups: TasteGroups, artist: Rows, shuffled: Rows, *, seed: int
) -> Iterator[pl.DataFrame]:
    """Relations of artists, then of tracks."""
    generator = np.random.default_rng([seed, 7])
    yield _pairs(generator, "artist", group=groups.group, weight=groups.weight, row=groups.row)
    if len(artist):
        generator = np.random.default_rng([seed, 8])
        weight = groups.weight[artist] * _uneven(generator, len(artist))
        yield _pairs(
            generator,
            "track",
            group=groups.group[artist],
            weight=weight,
            row=np.argsort(shuffled),
        )


def _pairs(
    generator: np.random.Generator, kind: Kind, *, group: Rows, weight: Numbers, row: Rows
) -> pl.DataFrame:
    """Draw as many relations as n items have in the paper; the long tail is mostly little known."""
    n = len(group)
    linked = round(n * (1 - UNLINKED[kind]))
    known = np.log(weight) + generator.gumbel(0, 1.5, n)
    chosen = np.sort(np.argpartition(known, n - linked)[n - linked :])
    a, b = _link(
        generator,
        group[chosen],
        np.sqrt(weight[chosen]),
        count=round(n * RELATED[kind] / OF[kind]),
    )
    first, second = row[chosen[a]], row[chosen[b]]
    letter = "a" if kind == "artist" else "t"
    columns = {
        "kind": pl.repeat(kind, len(a), eager=True),
        "a": _ids(letter, np.minimum(first, second)),
        "b": _ids(letter, np.maximum(first, second)),
        "source": pl.repeat("twin", len(a), eager=True),
    }
    return pl.DataFrame(columns, schema=RELATIONS)


def _link(
    generator: np.random.Generator, group: Rows, weight: Numbers, *, count: int
) -> tuple[Rows, Rows]:
    """Draw ``count`` different pairs so that every item has one, most within a group."""
    n = len(group)
    order = np.lexsort((generator.random(n), group))
    other = np.append(order[1::2], order[-2:-1] if n % 2 else [])
    keys = _key(order[::2], other.astype(np.int64), n)
    reach = np.append(0, np.cumsum(weight))
    border = reach[np.searchsorted(group, np.arange(group[-1] + 2))]
    while len(keys) < count:
        a = _draw(generator, reach, np.zeros(2 * (count - len(keys))), reach[-1])
        within = generator.random(len(a)) < WITHIN
        low = np.where(within, border[group[a]], 0)
        b = _draw(generator, reach, low, np.where(within, border[group[a] + 1], reach[-1]))
        fresh = np.setdiff1d(_key(a, b, n)[a != b], keys)
        keys = np.append(keys, generator.permutation(fresh)[: count - len(keys)])
    keys.sort()
    return keys // n, keys % n


def _key(a: Rows, b: Rows, n: int) -> Rows:
    """Write undirected pairs of n items as one number each."""
    return np.asarray(np.minimum(a, b) * n + np.maximum(a, b))


def _draw(
    generator: np.random.Generator, reach: Numbers, low: Numbers, high: Numbers | float
) -> Rows:
    """Draw one item for each (low, high) out of those whose weights, summed, lie between."""
    at = low + (high - low) * generator.random(len(low))
    return np.clip(np.searchsorted(reach, at, side="right") - 1, 0, len(reach) - 2)


def _plays(
    groups: TasteGroups, plays: int, *, seed: int, progress: Progress
) -> Iterator[pl.DataFrame]:
    """Plays of all users, a block of users at a time."""
    n = len(groups.group)
    wanted = _quotas(np.random.default_rng([seed, 9]), plays, artists=n)
    names, done = _ids("a", groups.row), 0
    for number, start in enumerate(range(0, len(wanted), USERS_AT_ONCE)):
        generator = np.random.default_rng([seed, 10, number])
        user, item = _heard(generator, groups, wanted[start : start + USERS_AT_ONCE])
        times = 1 + np.floor(generator.lognormal(1.5, 1.3, len(user)))
        columns = {
            "kind": pl.repeat("artist", len(user), eager=True),
            "user": _ids("u", start + user),
            "item": names[item],
            "plays": times,
        }
        yield pl.DataFrame(columns, schema=PLAYS)
        done += len(user)
        progress("plays", done, plays)


def _quotas(generator: np.random.Generator, plays: int, *, artists: int) -> Rows:
    """Return how many different artists each user plays: log-normal, ``plays`` in all."""
    most = artists // 4
    share = _uneven(generator, -(-plays // min(ARTISTS_OF_A_USER, artists // 10)))
    wanted = np.clip(np.rint(share * plays), 1, most).astype(np.int64)
    while lacking := plays - int(wanted.sum()):
        free = np.flatnonzero(wanted < most if lacking > 0 else wanted > 1)
        wanted[generator.permutation(free)[: abs(lacking)]] += np.sign(lacking)
    return wanted


def _heard(generator: np.random.Generator, groups: TasteGroups, wanted: Rows) -> tuple[Rows, Rows]:
    """Draw the different artists that some users play, from their taste groups and from all."""
    n, lacking = len(groups.group), wanted.copy()
    reach = np.append(0, np.cumsum(groups.weight))
    border = reach[np.searchsorted(groups.group, np.arange(len(groups.centre) + 1))]
    everywhere = np.zeros(len(LOYALTY) * len(wanted))
    taste = groups.group[_draw(generator, reach, everywhere, 1.0)].reshape(len(LOYALTY), -1)
    keys, whole = np.empty(0, dtype=np.int64), []
    while lacking.any():
        user = np.repeat(np.arange(len(wanted)), lacking)
        which = np.searchsorted(np.cumsum(LOYALTY), generator.random(len(user)))
        loyal = which < len(LOYALTY)
        group = taste[np.minimum(which, len(LOYALTY) - 1), user]
        low, high = np.where(loyal, border[group], 0), np.where(loyal, border[group + 1], 1)
        keys = np.union1d(keys, user * n + _draw(generator, reach, low, high))
        lacking = np.where(lacking > 0, wanted - np.bincount(keys // n, minlength=len(wanted)), 0)
        # Who has all is set aside, so that the few who play very much do not hold up the rest.
        open_ = lacking[keys // n] > 0
        whole.append(keys[~open_])
        keys = keys[open_]
    every = np.sort(np.concatenate([*whole, keys]))
    return every // n, every % n


def _ids(prefix: str, numbers: Rows) -> pl.Series:
    digits = pl.Series("", numbers, dtype=pl.Int64).cast(pl.String).str.zfill(8)
    return pl.select(pl.lit(prefix) + digits).to_series() if len(digits) else digits


def _some(words: pl.Series, known: NDArray[np.bool_]) -> pl.Series:
    """Leave out the words that are not known."""
    return pl.select(pl.when(pl.Series(known)).then(words)).to_series()


def _no_words(n: int) -> pl.Series:
    return pl.repeat(None, n, dtype=pl.String, eager=True)


def _write(
    path: Path, blocks: Iterator[pl.DataFrame], *, metadata: dict[str, str] | None = None
) -> None:
    """Write blocks as one table; each has a file of its own first, joined by streaming."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(path),
        tempfile.TemporaryDirectory(prefix=".blocks-", dir=path.parent) as parts,
    ):
        for number, block in enumerate(blocks):
            block.write_parquet(Path(parts) / f"{number:08}.parquet")
        with replacing(path) as temporary:
            pl.scan_parquet(Path(parts) / "*.parquet").sink_parquet(temporary, metadata=metadata)
