"""A style -> a waveform: drums, bass, chords and a lead, played step by step.

A track of a style takes a key, a progression, a mix and small changes of rhythm and tempo of its
own, so two tracks are never the same and the style is still plain to hear.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from undersong.lab.synthetic.styles import SCALES, STEPS, Style, loudness

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
