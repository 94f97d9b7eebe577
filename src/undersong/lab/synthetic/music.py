"""Styles of the generated world, one row of numbers each, and what is played of them: waveforms.

A track of a style takes a key, a progression, a mix and small changes of rhythm and tempo of its
own, so two tracks are never the same and the style is still plain to hear.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

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


RATE = 22050  # Hz
WAVE = 2048  # samples in the table of one period, a power of 2
HARMONICS = 40
FADE_SECONDS = 0.02
END_SECONDS = 0.4
BASS_REGISTER, CHORD_REGISTER, LEAD_REGISTER = 28, 48, 60  # MIDI numbers: E1, C3, C4

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Note:
    """One sound to place: when (s), how long (s), pitch (MIDI number), loudness 0 to 1."""

    start: float
    seconds: float
    pitch: int
    loudness: float


@dataclass(frozen=True)
class Score:
    """What a track plays, before it sounds."""

    key: int
    tempo: float
    drums: dict[str, list[tuple[float, float]]]
    bass: list[Note]
    chords: list[Note]
    lead: list[Note]


def render(style: Style, generator: np.random.Generator, *, seconds: float) -> Waveform:
    """Play one track of a style.

    Parameters
    ----------
    generator : decides key, progression, tempo, rhythm and mix of this track
    seconds : length, above 1

    Returns
    -------
    (seconds * RATE,) float32, peak between 0.5 and 0.85, silent at both ends
    """
    samples = round(seconds * RATE)
    score = compose(style, generator, seconds=seconds)
    mix = np.exp(generator.normal(0, 0.2, 4))
    pitched = (
        mix[0] * style.bass_level * _level(_voice(score.bass, style, samples, tone=_bass_tone))
        + mix[1] * style.chord_level * _level(_voice(score.chords, style, samples, tone=_tone))
        + mix[2] * style.lead_level * _level(_voice(score.lead, style, samples, tone=_tone))
    )
    if style.drive > 0.05:
        pitched = np.tanh(pitched * 6 * (1 + style.drive)) / 6
    pitched = _low_pass(pitched, style.cutoff)
    drums = _drums(score, style, generator, samples)
    sound = pitched + mix[3] * 0.35 * style.drums * drums
    sound = _reverberate(sound, style.reverb, generator)
    hiss = generator.standard_normal(samples, dtype=np.float32)
    sound = sound + 0.25 * style.hiss * hiss
    sound = _tilt(sound, generator.normal(0, 0.12))
    return _master(sound, peak=generator.uniform(0.5, 0.85))


def compose(style: Style, generator: np.random.Generator, *, seconds: float) -> Score:
    """Write down what one track plays."""
    key = int(generator.integers(12))
    tempo = style.tempo * float(np.exp(generator.normal(0, 0.025)))
    step = 60 / tempo / 4
    bars = int(np.ceil(seconds / (step * STEPS)))
    roots = style.progressions[int(generator.integers(len(style.progressions)))]
    scale = SCALES[style.scale]

    def starts(pattern: str, surprise: float) -> list[tuple[int, float, float]]:
        """Bar, time and loudness of each note of a pattern that varies a little."""
        return [
            (bar, (bar * STEPS + _swung(place, style.swing)) * step, loud)
            for bar, steps in enumerate(_vary(loudness(pattern), bars, surprise, generator))
            for place, loud in enumerate(steps)
            if loud > 0
        ]

    hits = {
        name: [(time, loud) for _, time, loud in starts(getattr(style, name), 0.05)]
        for name in ("kick", "snare", "hat")
    }
    bass = [
        Note(time, 3 * step, BASS_REGISTER + _pitch(key, scale, roots[bar % len(roots)]), loud)
        for bar, time, loud in starts(style.bass, 0.08)
    ]
    chords = [
        Note(time, _ring(style, step), CHORD_REGISTER + pitch, loud)
        for bar, time, loud in starts(style.chord, 0.06)
        for pitch in (_pitch(key, scale, roots[bar % len(roots)] + i) for i in style.intervals)
    ]
    register = LEAD_REGISTER + 12 * round(style.octave - 1)
    walk = _walk(generator)
    lead = [
        Note(time, 2.5 * step, register + _pitch(key, scale, walk(roots[bar % len(roots)])), loud)
        for bar, time, loud in starts(style.lead, 0.2)
    ]
    return Score(key, tempo, hits, bass, chords, lead)


def _vary(
    pattern: NDArray[np.float64], bars: int, surprise: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Repeat a pattern, leaving out some notes, adding few, none equally loud: (bars, 16)."""
    out = np.tile(pattern, (bars, 1)) * generator.uniform(0.85, 1, (bars, STEPS))
    out[generator.random(out.shape) < surprise] = 0
    added = (generator.random(out.shape) < surprise / 4) & (out == 0) & (pattern.max() > 0)
    out[added] = pattern.max() / 2
    return out


def _swung(place: int, swing: float) -> float:
    """Where a sixteenth falls when the off-beat eighth of each beat is late."""
    beat, inside = divmod(place, 4)
    late = 2 * (1 + swing)
    moved = inside * late / 2 if inside < 2 else late + (inside - 2) * (4 - late) / 2
    return 4 * beat + moved


def _pitch(key: int, scale: tuple[int, ...], degree: int) -> int:
    octave, place = divmod(degree, len(scale))
    return key + 12 * octave + scale[place]


def _ring(style: Style, step: float) -> float:
    """Seconds until a chord is damped."""
    return min(style.attack + 2.5 * style.decay, STEPS * step)


def _walk(generator: np.random.Generator) -> Callable[[int], int]:
    """Return a melody: mostly small steps, drawn back to the notes of the chord."""
    place = 0

    def next_degree(root: int) -> int:
        nonlocal place
        place = int(np.clip(place + generator.integers(-2, 3), -3, 6))
        return place + root if generator.random() < 0.3 else place

    return next_degree


def _voice(
    notes: Iterable[Note],
    style: Style,
    samples: int,
    *,
    tone: Callable[[Style, int, float], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Sound all notes of one voice; equal notes are computed once."""
    track = np.zeros(samples)
    known: dict[tuple[int, float], NDArray[np.float64]] = {}
    for note in notes:
        shot = known.get((note.pitch, note.seconds))
        if shot is None:
            shot = known[note.pitch, note.seconds] = tone(style, note.pitch, note.seconds)
        _place(track, shot, note.start, note.loudness)
    return track


def _place(
    track: NDArray[np.float64], shot: NDArray[np.float64], start: float, loud: float
) -> None:
    """Add a sound to a track, cut off where the track ends."""
    first = round(start * RATE)
    room = min(len(shot), len(track) - first)
    if room > 0:
        track[first : first + room] += loud * shot[:room]


def _tone(style: Style, pitch: int, seconds: float) -> NDArray[np.float64]:
    """Sound one note with the timbre of a style; harmonics above half the rate are left out."""
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = hertz * time
    if style.bell > 0.02:
        phase = phase + style.bell * 0.3 * np.sin(2 * np.pi * 3.5 * phase) * np.exp(-time / 0.3)
    table = _period(style, hertz)
    phase = phase * WAVE
    wave = table[phase.astype(np.int32) & (WAVE - 1)]
    wave += table[(phase * 1.004).astype(np.int32) & (WAVE - 1)]  # a second string, out of tune
    envelope = np.minimum(time / style.attack, 1) * np.exp(-time / style.decay)
    sound: NDArray[np.float64] = wave * envelope * np.minimum((seconds - time) / 0.01, 1)
    return sound


def _bass_tone(style: Style, pitch: int, seconds: float) -> NDArray[np.float64]:
    """Sound a bass note: a plucked tone, brighter where the style is."""
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * hertz * time)
    for harmonic in (2, 3, 4):
        wave += harmonic ** -(style.rolloff + 0.5) * np.sin(2 * np.pi * harmonic * hertz * time)
    envelope = np.minimum(time / 0.006, 1) * np.exp(-time / 0.4)
    sound: NDArray[np.float64] = wave * envelope * np.minimum((seconds - time) / 0.01, 1)
    return sound


def _period(style: Style, hertz: float) -> NDArray[np.float64]:
    """Compute one period of a note's waveform: (WAVE,)."""
    count = max(min(HARMONICS, int(0.45 * RATE / hertz)), 1)
    harmonics = np.arange(1.0, count + 1)
    spectrum = np.zeros(WAVE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = harmonics**-style.rolloff * -1j
    spectrum[2 : count + 1 : 2] *= 1 - min(max(style.odd, 0), 1)
    period: NDArray[np.float64] = fft.irfft(spectrum, WAVE) * WAVE / 2
    return period


def _drums(
    score: Score, style: Style, generator: np.random.Generator, samples: int
) -> NDArray[np.float64]:
    """Play kick, snare and hat."""
    time = np.arange(round(0.3 * RATE)) / RATE
    noise = generator.standard_normal(len(time))
    sweep = np.cumsum(style.kick_pitch * (1 + 4 * np.exp(-time / 0.03))) / RATE
    shots = {
        "kick": 1.2 * np.sin(2 * np.pi * sweep) * np.exp(-time / 0.09),
        "snare": np.sin(2 * np.pi * style.snare_pitch * time) * np.exp(-time / 0.06)
        + 0.5 * noise * np.exp(-time / 0.08),
        "hat": 0.35 * np.diff(noise, append=0) * np.exp(-time / style.hat_seconds),
    }
    fade = np.minimum((time[-1] - time) / 0.02, 1)
    track = np.zeros(samples)
    for name, hits in score.drums.items():
        for start, loud in hits:
            _place(track, shots[name] * fade, start, loud)
    return track


def _level(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring a voice to one root mean square, 0.08; silence stays silence."""
    power = float(np.sqrt(np.mean(sound**2)))
    return sound * (0.08 / power) if power > 0 else sound


def _low_pass(sound: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    sections = signal.butter(2, min(cutoff, 0.45 * RATE), fs=RATE, output="sos")
    filtered: NDArray[np.float64] = signal.sosfilt(sections, sound)
    return filtered


def _reverberate(
    sound: NDArray[np.float64], share: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Add a room: decaying noise, longer the more of it there is."""
    if share < 0.02:
        return sound
    seconds = 0.15 + 0.8 * share
    time = np.arange(round(2 * seconds * RATE)) / RATE
    room = generator.standard_normal(len(time)) * np.exp(-3 * time / seconds)
    room /= np.sqrt(np.sum(room**2))
    size = fft.next_fast_len(len(sound) + len(room), real=True)
    spectra = (fft.rfft(x.astype(np.float32), size) for x in (sound, room))
    wet = fft.irfft(next(spectra) * next(spectra), size)[: len(sound)]
    mixed: NDArray[np.float64] = (1 - 0.6 * share) * sound + share * wet
    return mixed


def _tilt(sound: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    """Colour a track as another microphone would: what similarity must not depend on."""
    return sound - amount * np.concatenate(([0.0], sound[:-1]))


def _master(sound: NDArray[np.float64], *, peak: float) -> Waveform:
    """Fade both ends and scale the loudest sample to ``peak``."""
    sound = sound - sound.mean()
    start, end = round(FADE_SECONDS * RATE), round(END_SECONDS * RATE)
    sound[:start] *= np.linspace(0, 1, start)
    sound[-end:] *= np.linspace(1, 0, end)
    master: Waveform = (sound * (peak / np.abs(sound).max())).astype(np.float32)
    return master
