"""Trained runs to add new items to: one that reads feature vectors, one that hears audio files."""

import dataclasses

import mutagen.flac
import numpy as np
import polars as pl
import soundfile

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.foldin.embed import FoldIn
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run

RATE = 22_050
HEARD = QUICK_SETTINGS.replace(
    "[content]\nwidth = 10\n", '[content]\nwidth = 10\ninput = "auto"\nartists = 6\ntracks = 1\n'
)


def train(folder, world, text):
    """Train a small run in a folder and open it."""
    tables.write_catalogue(world, folder / "catalogue")
    (folder / "quick.toml").write_text(text)
    run, _ = train_run(
        folder / "catalogue", folder / "run", settings=read_settings(folder / "quick.toml")
    )
    return run


def reading_run(folder):
    """Artists and tracks with 7 numbers a track, plays, genre, country and fame."""
    return train(folder, small_world(), QUICK_SETTINGS)


def hearing_run(folder, *, reads=False):
    """The same artists, of whom 21 have a track with a file, and perhaps 7 numbers a track."""
    world = small_world()
    music = folder / "music"
    music.mkdir()
    tracks = world.tracks.filter(pl.col("id").str.ends_with("-0")).head(21)
    names = [f"{item}.wav" for item in tracks["id"]]
    for number, name in enumerate(names):
        write_sound(music / name, seed=number)
    tracks = tracks.with_columns(pl.Series("path", names))
    features = world.features if reads else {}
    world = dataclasses.replace(world, tracks=tracks, features=features, audio_root=music)
    return train(folder, world, HEARD)


def write_sound(path, *, seed, seconds=4.6):
    """Write a few tones and some noise, different for every seed."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in generator.uniform(90, 4000, 5))
    soundfile.write(path, 0.1 * tones + 0.02 * generator.normal(size=len(time)), RATE)


def fresh(run, folder):
    """Give a run of its own to a test that adds to it: the same files, nothing added yet."""
    (folder / "generations").mkdir(parents=True)
    (folder / "generations" / run.generation).symlink_to(run.home, target_is_directory=True)
    (folder / "current.json").write_bytes((run.folder / "current.json").read_bytes())
    return FoldIn(runs.read(folder))


def tagged(path, seed, **tags):
    """Write a FLAC file with tags."""
    write_sound(path, seed=seed)
    file = mutagen.flac.FLAC(path)
    file.update({x: [y] for x, y in tags.items()})
    file.save()
    return path
