"""The hidden truth of the generated world: artists, who listens to whom, who is like whom.

Every artist is a point of a hidden taste space: style, personal sound, region, era, and a scene
that nobody writes down. Audio shows style and personal sound, metadata a noisy style and the
region, plays all of it for those who are played. Relations are drawn in the same space, so each
source holds a part of the truth and none holds all of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undersong.lab.synthetic.styles import REGIONS, STYLES, Style, artist_names, blend, shift

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
