"""Styles of the generated world: tempo, rhythm, harmony and timbre, one row of numbers each."""

import math
import unicodedata
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

STEPS = 16  # sixteenth notes in a bar of four beats

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
}

PATTERNS = frozenset(("kick", "snare", "hat", "chord", "bass", "lead"))

# A number that must stay above 0 blends by the geometric mean, which the ear takes for half way
# between two tempos or two pitches.
_RATIOS = frozenset(
    ("tempo", "kick_pitch", "snare_pitch", "hat_seconds", "rolloff", "attack", "decay", "cutoff")
)


@dataclass(frozen=True)
class Style:
    """What makes tracks sound alike.

    Parameters
    ----------
    name : the genre people would call it
    tempo : beats a minute
    swing : delay of the off-beat eighth, as a share of an eighth, 0 (straight) to 1/3 (triplets)
    kick, snare, hat, chord, bass, lead : (16,) loudness 0 to 9 of each sixteenth, "." for none
        As text of one digit a step. A track leaves out and adds notes at random.
    drums, bass_level, lead_level, chord_level : loudness of each voice, 0 to 1
    kick_pitch, snare_pitch : Hz
    hat_seconds : decay time of the cymbals
    scale : a key of ``SCALES``
    progressions : chord roots as scale degrees, one a bar
    intervals : scale degrees above the root that sound in a chord
    rolloff : amplitude of harmonic h is h to the power of minus this; small is bright
    odd : share of even harmonics taken away, 1 leaves a square wave
    bell : depth of frequency modulation, 0 to about 2
    attack, decay : seconds of a chord's and a lead's envelope
    drive : distortion, 0 (clean) to about 8
    cutoff : Hz, of the low-pass filter behind all pitched voices
    octave : octaves of the lead above the chords
    hiss : loudness of background noise
    reverb : share of reverberation, 0 to 1
    """

    name: str
    tempo: float
    swing: float
    kick: str
    snare: str
    hat: str
    chord: str
    bass: str
    lead: str
    drums: float
    bass_level: float
    lead_level: float
    chord_level: float
    kick_pitch: float
    snare_pitch: float
    hat_seconds: float
    scale: str
    progressions: tuple[tuple[int, ...], ...]
    intervals: tuple[int, ...]
    rolloff: float
    odd: float
    bell: float
    attack: float
    decay: float
    drive: float
    cutoff: float
    octave: float
    hiss: float
    reverb: float


# fmt: off
STYLES: tuple[Style, ...] = (
    Style("ambient", 66, 0,
          "................", "................", "....1.......1...",
          "9...............", "5...............", "3.....3...3.....",
          .15, .35, .3, 1, 50, 180, .3, "lydian", ((0, 4), (0, 3), (5, 0)), (0, 2, 4, 6),
          1.9, .2, .2, .6, 4, 0, 1400, 1, .02, .7),
    Style("techno", 132, 0,
          "9...9...9...9...", "....3.......3...", "..8...8...8...8.",
          "..5..5....5..5..", "9.6.9.6.9.6.9.6.", "3..3..3...3..3..",
          1, .6, .25, .35, 48, 200, .05, "phrygian", ((0,), (0, 1), (0, 0, 6, 0)), (0, 2),
          .9, .1, .3, .005, .12, 2, 1800, 1, .01, .2),
    Style("house", 122, .06,
          "9...9...9...9...", "....8.......8...", "2.7.2.7.2.7.2.7.",
          "9..7..7...8..7..", "9.....7..9....6.", "....4..4....3...",
          .85, .6, .25, .7, 55, 230, .08, "dorian", ((0, 3), (0, 5, 3, 4), (1, 4)), (0, 2, 4, 6),
          1.3, .3, .1, .005, .25, .3, 3500, 1, .004, .25),
    Style("drum and bass", 172, 0,
          "9.........9.....", "....9.......9..4", "7.5.7.5.7.5.7.55",
          "9...............", "9.....9...7.....", "2.......2.......",
          1, .9, .2, .35, 60, 260, .04, "minor", ((0, 5), (0, 6, 5), (0, 3)), (0, 2, 4),
          1.1, 0, .1, .08, 1.2, 1.2, 2200, 1, .004, .3),
    Style("dub", 74, .12,
          "........9.......", "........9....2..", "..6...6...6...6.",
          "....9.......9...", "9..6..8...6.7...", "......3.......2.",
          .6, 1, .2, .6, 52, 210, .06, "dorian", ((0, 3), (0, 1), (0, 0, 6, 6)), (0, 2, 4),
          1.6, .4, 0, .004, .09, .3, 1500, 1, .012, .65),
    Style("hip hop", 90, .2,
          "9......5..9.....", "....9.......9...", "7.7.7.7.7.7.7.77",
          "9.....5.........", "9.....7...8.....", "..3..3....3.....",
          .9, .8, .2, .5, 58, 190, .05, "minor", ((0, 5), (0, 3), (1, 4, 0, 0)), (0, 2, 4, 6),
          1.8, .1, .5, .01, .6, .6, 1700, 1, .03, .1),
    Style("swing", 156, .333,
          "3...3...3...3...", "....4.......4..2", "9...9.8.9...9.8.",
          "....7.....6.....", "9...8...9...8...", "7..76.7.7...7.7.",
          .45, .75, .6, .4, 70, 330, .22, "mixolydian",
          ((1, 4, 0, 0), (0, 5, 1, 4), (0, 3, 0, 4)), (0, 2, 4, 6),
          1.15, .1, 0, .02, .35, .2, 4500, 1, .008, .25),
    Style("bossa nova", 128, 0,
          "6.....6.6.....6.", "5..5..5...5..5..", "3.3.3.3.3.3.3.3.",
          "9..7..7...7..7..", "9.....7.8.....7.", "4...4..4..4...4.",
          .3, .6, .4, .9, 65, 700, .03, "major", ((1, 4, 0, 0), (0, 1, 4, 0), (0, 5)), (0, 2, 4, 6),
          2, .05, 0, .006, .3, 0, 3000, 1, .003, .3),
    Style("folk", 104, .05,
          "................", "................", "......1.......1.",
          "9.5.7.557.5.7.55", "7.......6.......", "7...5.6.7...5...",
          .1, .4, .7, .9, 70, 300, .04, "major", ((0, 4, 5, 3), (0, 3, 0, 4), (0, 3, 4)), (0, 2, 4),
          1.35, .15, 0, .004, .45, 0, 5000, 1, .002, .15),
    Style("rock", 138, 0,
          "9.....7.9.9.....", "....9.......9...", "8.6.8.6.8.6.8.6.",
          "9.8.8.8.9.8.8.8.", "9.8.8.8.9.8.8.8.", "5.....5.5...5...",
          .9, .6, .35, .9, 75, 220, .18, "mixolydian",
          ((0, 3, 4, 3), (0, 6, 3, 0), (0, 4, 5, 3)), (0, 4, 7),
          .8, .1, 0, .004, .5, 4, 4200, 1, .004, .15),
    Style("metal", 184, 0,
          "9.9.999.9.9.999.", "....9.......9...", "8...8...8...8...",
          "9.9999.99.9999.9", "9.9999.99.9999.9", "6.66..6.6.66..66",
          1, .5, .3, 1, 80, 240, .3, "harmonic minor", ((0, 1), (0, 5, 6, 0), (0, 0, 1, 6)), (0, 4),
          .7, .1, .1, .003, .25, 8, 5500, 2, .004, .1),
    Style("chiptune", 150, 0,
          "6.......6.......", "....6.......6...", "4.4.4.4.4.4.4.4.",
          "7.7.7.7.7.7.7.7.", "8.8.8.8.8.8.8.8.", "9.99.99.9.9.99.9",
          .35, .5, .8, .4, 110, 500, .02, "pentatonic",
          ((0, 3, 4, 4), (0, 4, 3, 0), (0, 2, 3, 4)), (0, 2, 4),
          1, 1, 0, .002, .2, 0, 9000, 2, 0, 0),
)
# fmt: on


def blend(first: Style, second: Style, share: float) -> Style:
    """Move ``share`` of the way from one style to the other; share 0 to 1.

    Numbers and patterns blend. Scale, progressions and chord shape cannot: they and the name
    stay the first's.
    """
    changes: dict[str, float | str] = {}
    for field in fields(Style):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name in _RATIOS:
            changes[field.name] = math.exp((1 - share) * math.log(a) + share * math.log(b))
        elif field.name in PATTERNS:
            steps = np.rint(9 * ((1 - share) * loudness(a) + share * loudness(b)))
            changes[field.name] = "".join(str(int(x)) if x >= 1 else "." for x in steps)
        elif isinstance(a, int | float):
            changes[field.name] = (1 - share) * a + share * b
    return replace(first, **changes)  # type: ignore[arg-type]


def loudness(pattern: str) -> NDArray[np.float64]:
    """Loudness 0 to 1 of each step of a pattern: (16,)."""
    return np.array([0.0 if step == "." else int(step) / 9 for step in pattern])


def shift(style: Style, amounts: dict[str, float]) -> Style:
    """Multiply some numbers of a style, each by e to the power of its amount."""
    return replace(style, **{k: getattr(style, k) * math.exp(v) for k, v in amounts.items()})


# Each region has syllables of its own, so a name hints at where an artist is from.
REGIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Norvaskia": (("sø", "brå", "hjal", "ulv", "eik", "tor", "vin"), ("mund", "vik", "dre", "løv")),
    "Calmerra": (("ma", "lé", "cori", "bel", "tiña", "ro", "alva"), ("rez", "sól", "dero", "nía")),
    "Ostravelle": (
        ("bri", "éto", "cha", "vau", "lou", "mé", "gar"),
        ("nelle", "çon", "dier", "ève"),
    ),
    "Kesztany": (("ő", "zsa", "kirá", "bol", "vesz", "tam", "er"), ("dög", "kút", "vár", "nesz")),
    "Tamboru": (("ki", "wa", "zo", "ndu", "amba", "le", "oyi"), ("weko", "luma", "sindi", "bari")),
    "Hazelmoor": (
        ("thorn", "wick", "ash", "pel", "dun", "merri", "ox"),
        ("combe", "low", "by", "stead"),
    ),
}

# fmt: off
_BAND = (
    "Lanterns", "Orchard", "Circuit", "Harbour", "Engines", "Parade", "Foxes", "Machine",
    "Weather", "Choir", "Signal", "Gardens", "Trio", "Assembly", "Clockwork", "Ghosts",
)
_COLOURS = (
    "Amber", "Silver", "Hollow", "Velvet", "Distant", "Crooked", "Paper", "Salt", "Quiet",
    "Golden", "Burning", "Frozen", "Little", "Electric", "Blue", "Wandering",
)
_THINGS = (
    "River", "Window", "Tide", "Letter", "Garden", "Mirror", "Road", "Engine", "Moth",
    "Season", "Staircase", "Shadow", "Island", "Morning", "Satellite", "Harvest",
)
# fmt: on


def artist_names(regions: list[str], generator: np.random.Generator) -> list[str]:
    """Make one name an artist, unlike all others even without accents and capitals."""
    names: list[str] = []
    taken: set[str] = set()
    for region in regions:
        name = _artist_name(region, generator)
        while plain(name) in taken:
            name = _artist_name(region, generator)
        taken.add(plain(name))
        names.append(name)
    return names


def track_titles(count: int, generator: np.random.Generator) -> list[str]:
    """Make different titles for the tracks of one artist; ``count`` up to some hundreds."""
    titles: list[str] = []
    while len(titles) < count:
        colour, thing, other = (_pick(x, generator) for x in (_COLOURS, _THINGS, _THINGS))
        forms = (f"{colour} {thing}", f"After the {thing}", f"{thing} and {other}")
        title = _pick(forms, generator)
        if title not in titles and thing != other:
            titles.append(title)
    return titles


def plain(name: str) -> str:
    """Take accents and capitals away."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(x for x in decomposed if not unicodedata.combining(x))


def _artist_name(region: str, generator: np.random.Generator) -> str:
    first, last = _word(region, generator), _word(region, generator)
    forms = (
        f"{first} {last}",
        f"{first} {last}",
        first,
        f"The {first} {_pick(_BAND, generator)}",
        f"{_pick(_COLOURS, generator)} {first}",
        f"{first} & {last}",
    )
    return _pick(forms, generator)


def _word(region: str, generator: np.random.Generator) -> str:
    beginnings, endings = REGIONS[region]
    middle = _pick(beginnings, generator) if generator.random() < 0.2 else ""
    return (_pick(beginnings, generator) + middle + _pick(endings, generator)).capitalize()


def _pick(words: tuple[str, ...], generator: np.random.Generator) -> str:
    return words[int(generator.integers(len(words)))]
