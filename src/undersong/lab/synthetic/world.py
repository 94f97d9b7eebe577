"""The generated world -> a folder of audio files and tables, as a user's own data would be.

audio/a001/1.ogg          the tracks, real Ogg Vorbis files with title and artist
artists.csv               id, name, genre, region, popularity
tracks.csv                id, artist, title, path, popularity
plays.csv                 user, artist, plays
relations.csv             a, b, source
mapping.toml              which column is what, for `undersong import tables`
README.txt                a note that all of it is generated
demo.json                 settings of the world; written last, so it means: complete

Every artist is a point of a hidden taste space: style, personal sound, region, era, and a scene
that nobody writes down. Audio shows style and personal sound, metadata a noisy style and the
region, plays all of it for those who are played. Relations are drawn in the same space, so each
source holds a part of the truth and none holds all of it.
"""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
from numpy.typing import NDArray

from undersong.errors import ArtifactError, SettingsError
from undersong.io.files import read_json, replacing, write_json
from undersong.lab.synthetic import music
from undersong.lab.synthetic.music import (
    REGIONS,
    STYLES,
    Style,
    artist_names,
    blend,
    shift,
    track_titles,
)
from undersong.processors import usable_processors
from undersong.progress import Progress, silent

Matrix = NDArray[np.float64]

LONG_TAIL = 0.37  # share of artists without a relation, as in the paper
UNHEARD = 0.12  # share of artists whom nobody plays
PERSONAL, SCENE = 4, 3  # dimensions of the personal sound and of the scene
LISTENERS_PER_ARTIST = 1.7

# Where styles stand to each other: calm to wild, by hand to by machine.
PLACES = np.array(
    [(-1, 0.6), (0.7, 1), (0.3, 0.9), (0.9, 0.8), (-0.4, 0.3), (0, 0.3),
     (0.1, -0.8), (-0.4, -0.7), (-0.7, -0.8), (0.6, -0.4), (1, -0.2), (0.5, 0.5)]
)  # fmt: skip
# What each part of the taste space weighs in a listener's ear.
WEIGHTS = {"place": 1.2, "style": 0.6, "personal": 0.35, "region": 0.55, "era": 0.2, "scene": 0.2}
REACH = 0.75  # distance in the taste space at which the liking falls to e^-1/2


@dataclass(frozen=True)
class Artists:
    """All artists, one row each.

    ``first`` and ``second`` are rows of ``STYLES``, ``share`` in [0, 0.5) is the part of the
    second in the artist, ``popularity`` is the pull on listeners, 1 for the most popular.
    """

    names: list[str]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: Matrix
    personal: Matrix
    region: list[str]
    era: Matrix
    popularity: Matrix
    taste: Matrix

    def style(self, artist: int, generator: np.random.Generator) -> Style:
        """Return the style of one track of an artist: now and then from its second side."""
        first, second = STYLES[self.first[artist]], STYLES[self.second[artist]]
        share = float(self.share[artist])
        if generator.random() < share:
            first, second, share = second, first, 1 - share
        a, b, c, d = self.personal[artist]
        era = self.era[artist]
        return shift(
            blend(first, second, share),
            {
                "tempo": 0.06 * a,
                "kick_pitch": 0.2 * a,
                "cutoff": 0.35 * b + 0.15 * era,
                "rolloff": -0.15 * b,
                "decay": 0.35 * c,
                "hat_seconds": 0.4 * c,
                "lead_level": 0.4 * d,
                "drums": -0.3 * d,
                "hiss": -0.6 * era,
            },
        )


def make_artists(count: int, generator: np.random.Generator) -> Artists:
    """Draw ``count`` artists."""
    apart = np.linalg.norm(PLACES[:, None] - PLACES[None], axis=2)
    first = generator.choice(len(STYLES), count, p=_shares(len(STYLES), 0.35))
    near = np.exp(-apart / 0.4) * (apart > 0)
    second = np.array(
        [generator.choice(len(STYLES), p=near[style] / near[style].sum()) for style in first]
    )
    share = np.where(generator.random(count) < 0.35, generator.uniform(0.2, 0.5, count), 0.05)
    personal = generator.standard_normal((count, PERSONAL))
    region = _regions(first, generator)
    era = generator.standard_normal(count)
    popularity = generator.permutation(np.arange(1, count + 1) ** -1.0)
    mixture = np.zeros((count, len(STYLES)))
    mixture[np.arange(count), first] = 1 - share
    mixture[np.arange(count), second] += share
    angle = 2 * np.pi * np.array(region) / len(REGIONS)
    taste = np.hstack(
        [
            WEIGHTS["place"] * mixture @ PLACES,
            WEIGHTS["style"] * mixture,
            WEIGHTS["personal"] * personal,
            WEIGHTS["region"] * np.stack([np.cos(angle), np.sin(angle)], axis=1),
            WEIGHTS["era"] * era[:, None],
            WEIGHTS["scene"] * generator.standard_normal((count, SCENE)),
        ]
    )
    regions = [list(REGIONS)[x] for x in region]
    names = artist_names(regions, generator)
    return Artists(names, first, second, share, personal, regions, era, popularity, taste)


def _regions(first: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw a region for each artist; some styles are at home in some regions."""
    home = generator.dirichlet(np.full(len(REGIONS), 0.8), len(STYLES))
    return np.array([generator.choice(len(REGIONS), p=home[style]) for style in first])


def _shares(count: int, exponent: float) -> Matrix:
    weights = np.arange(1.0, count + 1) ** -exponent
    shares: Matrix = weights / weights.sum()
    return shares


def make_plays(artists: Artists, generator: np.random.Generator) -> list[tuple[int, int, int]]:
    """Let listeners listen: (listener, artist, plays), all counted from 0.

    A listener draws artists without repetition by popularity times liking. Some of the least
    popular are on no platform, so nobody hears them.
    """
    count = len(artists.names)
    absent = _known(artists, generator) < UNHEARD * count
    listeners = round(LISTENERS_PER_ARTIST * count)
    plays = []
    for listener in range(listeners):
        around = artists.taste[generator.integers(count, size=2)]
        liking = _liking(artists.taste, around + generator.normal(0, 0.15, around.shape)).max(0)
        pull = 1.0 * np.log(artists.popularity) + np.log(liking + 1e-4)
        pull[absent] = -np.inf
        heard = min(int(np.exp(generator.normal(2.8, 0.6))) + 3, count // 3)
        chosen = np.argsort(-pull - generator.gumbel(size=count))[:heard]
        for artist in chosen:
            times = generator.lognormal(2 + 2 * liking[artist], 0.8)
            plays.append((listener, int(artist), max(round(times), 1)))
    return plays


def _known(artists: Artists, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rank artists by how well they are known, 0 the least: popularity and some luck."""
    count = len(artists.names)
    fame = np.log(artists.popularity) + generator.gumbel(scale=0.7, size=count)
    return np.argsort(np.argsort(fame))


def _liking(taste: Matrix, around: Matrix) -> Matrix:
    """Return how much each point likes each artist: (points, artists) in (0, 1]."""
    apart = ((taste[None] - around[:, None]) ** 2).sum(axis=2)
    liking: Matrix = np.exp(-apart / (2 * REACH**2))
    return liking


def make_relations(artists: Artists, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Draw who is said to be like whom: pairs a < b, sorted; 37 % of the artists are in none.

    People write about the better known first, and about what they know; each linked artist
    names a few and is named by others.
    """
    count = len(artists.names)
    linked = np.flatnonzero(_known(artists, generator) >= round(LONG_TAIL * count))
    taste, fame = artists.taste[linked], np.log(artists.popularity[linked])
    closeness = np.log(_liking(taste, taste)) + 0.15 * fame
    closeness += generator.gumbel(scale=0.2, size=closeness.shape)
    np.fill_diagonal(closeness, -np.inf)
    pairs = set()
    for row, artist in enumerate(linked):
        named = 2 + generator.poisson(2)
        for other in linked[np.argsort(-closeness[row])[:named]]:
            pairs.add((int(min(artist, other)), int(max(artist, other))))
    return sorted(pairs)


FORMAT = 1
TRACK_SECONDS = 8.0
LEAST_ARTISTS = 20
WRONG_GENRE, NO_GENRE, NO_REGION = 0.12, 0.12, 0.15  # shares of the artists
SOURCES = ("editors", "magazine")
BLOCK = music.RATE  # samples handed to the encoder at once: long blocks overrun its stack

README = """Everything in this folder was generated by `undersong demo` with seed {seed}.

{artists} artists, {tracks} tracks, listeners and relations: none of them exists. The music was
computed, not recorded. Make it again, the same, with

    undersong demo FOLDER --seed {seed}

Use it as you would use your own data: `undersong import tables FOLDER/mapping.toml CATALOGUE`.
"""
MAPPING = """# Which column of which table is what: a pattern for your own data.
# Made by `undersong demo`.

[artists]
file = "artists.csv"
id = "id"
name = "name"

[artists.fields.genre]
column = "genre"
type = "category"
role = "genre"

[artists.fields.region]
column = "region"
type = "category"
role = "region"

[artists.fields.popularity]
column = "popularity"
type = "number"
role = "popularity"

[tracks]
file = "tracks.csv"
id = "id"
artist = "artist"
title = "title"
path = "path"
popularity = "popularity"

[plays]
file = "plays.csv"
user = "user"
item = "artist"
plays = "plays"

[[relations]]
file = "relations.csv"
a = "a"
b = "b"
source_column = "source"
"""


def make_demo(folder: Path, *, seed: int, artists: int = 300, progress: Progress = silent) -> None:
    """Write a generated world: audio files, tables, and the mapping that imports them.

    The same seed gives the same tables and the same sound. A folder that is complete is left as
    it is; one that was interrupted is completed.

    Parameters
    ----------
    folder : made if absent; an existing one must be empty or hold the same world
    seed : 0 or more
    artists : 20 or more; each has 3 or 4 tracks of 8 seconds

    Raises
    ------
    SettingsError
        If ``seed`` or ``artists`` is too small.
    ArtifactError
        If the folder holds another world, or files that are none.
    """
    if artists < LEAST_ARTISTS or seed < 0:
        raise SettingsError(
            f"{artists} artists with seed {seed}: take {LEAST_ARTISTS} artists or more and a seed "
            "of 0 or more"
        )
    about = {"format": FORMAT, "seed": seed, "artists": artists, "seconds": TRACK_SECONDS}
    if _is_complete(folder, about):
        progress("demo music", 1, 1, "already there")
        return
    write_json(folder / "demo.partial.json", about)
    world = make_artists(artists, np.random.default_rng([seed, 0]))
    tracks = _track_table(world, np.random.default_rng([seed, 1]))
    _write_audio(folder, world, tracks, seed=seed, progress=progress)
    _write_text(folder / "tracks.csv", tracks.write_csv())
    makers = {"artists": _artist_table, "plays": _play_table, "relations": _relation_table}
    for stream, (name, make) in enumerate(makers.items(), start=2):
        table = make(world, np.random.default_rng([seed, stream]))
        _write_text(folder / f"{name}.csv", table.write_csv())
    _write_text(folder / "mapping.toml", MAPPING)
    readme = README.format(seed=seed, artists=artists, tracks=len(tracks))
    _write_text(folder / "README.txt", readme)
    (folder / "demo.partial.json").rename(folder / "demo.json")


def _is_complete(folder: Path, about: dict[str, int | float]) -> bool:
    """Whether the folder holds this world, whole; a folder of anything else is refused."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    hint = "choose another folder, or delete this one"
    complete = (folder / "demo.json").exists()
    marker = folder / ("demo.json" if complete else "demo.partial.json")
    recorded = read_json(marker, version=FORMAT, hint=hint)
    if recorded != about:
        raise ArtifactError(f"{folder} holds another demo ({recorded}, not {about}); {hint}")
    return complete


def _track_table(world: Artists, generator: np.random.Generator) -> pl.DataFrame:
    """Return 3 or 4 tracks an artist, the first the most popular by tendency."""
    rows = []
    for artist, pull in enumerate(_percent(world.popularity)):
        count = int(generator.integers(3, 5))
        for number, title in enumerate(track_titles(count, generator), start=1):
            popularity = pull * generator.uniform(0.6, 1) / number**0.3
            key = artist_id(artist)
            path = f"audio/{key}/{number}.ogg"
            rows.append((f"{key}-{number}", key, title, path, round(popularity, 1)))
    columns = ("id", "artist", "title", "path", "popularity")
    return pl.DataFrame(rows, schema=columns, orient="row")


def _artist_table(world: Artists, generator: np.random.Generator) -> pl.DataFrame:
    """Return the metadata of the artists: sometimes wrong, sometimes missing."""
    count = len(world.names)
    wrong = generator.random(count) < WRONG_GENRE
    styles = np.where(wrong, world.second, world.first)
    genres = [STYLES[x].name for x in styles]
    return pl.DataFrame(
        {
            "id": [artist_id(x) for x in range(count)],
            "name": world.names,
            "genre": _forget(genres, NO_GENRE, generator),
            "region": _forget(world.region, NO_REGION, generator),
            "popularity": [round(x, 1) for x in _percent(world.popularity)],
        }
    )


def _play_table(world: Artists, generator: np.random.Generator) -> pl.DataFrame:
    rows = [
        (f"listener-{listener + 1:03d}", artist_id(artist), times)
        for listener, artist, times in make_plays(world, generator)
    ]
    return pl.DataFrame(rows, schema=("user", "artist", "plays"), orient="row")


def _relation_table(world: Artists, generator: np.random.Generator) -> pl.DataFrame:
    """Return each pair from one source, some from both."""
    rows = []
    for a, b in make_relations(world, generator):
        either = generator.random()
        named = SOURCES if either < 0.2 else SOURCES[:1] if either < 0.7 else SOURCES[1:]
        rows += [(artist_id(a), artist_id(b), source) for source in named]
    return pl.DataFrame(rows, schema=("a", "b", "source"), orient="row")


def artist_id(artist: int) -> str:
    """Return the id of an artist by its number, counted from 1."""
    return f"a{artist + 1:03d}"


def _percent(popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Popularity as platforms print it: 0 to 100, even steps for equal ratios."""
    steps = np.log(popularity / popularity.min())
    percent: NDArray[np.float64] = 100 * steps / steps.max()
    return percent


def _forget(
    values: Iterable[str], share: float, generator: np.random.Generator
) -> list[str | None]:
    return [None if generator.random() < share else value for value in values]


def _write_audio(
    folder: Path, world: Artists, tracks: pl.DataFrame, *, seed: int, progress: Progress
) -> None:
    """Play and write every track that is not there yet, on all cores: the encoder frees Python."""
    artists = {artist_id(x): x for x in range(len(world.names))}
    rows = enumerate(tracks.select("artist", "title", "path").iter_rows())
    with ThreadPoolExecutor(usable_processors()) as pool:
        jobs = [
            pool.submit(
                _write_track,
                folder / path,
                world,
                artists[artist],
                title,
                np.random.default_rng([seed, 5, row]),
            )
            for row, (artist, title, path) in rows
            if not (folder / path).exists()
        ]
        try:
            for done, job in enumerate(as_completed(jobs), start=len(tracks) - len(jobs) + 1):
                job.result()
                progress("demo music", done, len(tracks))
        finally:
            pool.shutdown(cancel_futures=True)


def _write_track(
    path: Path, world: Artists, artist: int, title: str, generator: np.random.Generator
) -> None:
    style = world.style(artist, generator)
    sound = music.render(style, generator, seconds=TRACK_SECONDS)
    packed = io.BytesIO()  # of a full disk libsndfile says no more than "System error."
    with soundfile.SoundFile(
        packed, "w", samplerate=music.RATE, channels=1, format="OGG", subtype="VORBIS"
    ) as file:
        file.title, file.artist = title, world.names[artist]
        file.comment = "generated by undersong demo"
        for start in range(0, len(sound), BLOCK):
            file.write(sound[start : start + BLOCK])
    with replacing(path) as temporary:
        temporary.write_bytes(packed.getvalue())


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
