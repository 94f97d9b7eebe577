"""The quick starts do what they say: every block of them runs, on a small generated world."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.request import urlopen

import mutagen
import numpy as np
import polars as pl
import pytest
import soundfile
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.cli.main import cli

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
GENRES = {f"g{x}": name for x, name in enumerate(("jazz", "fado", "polka", "house", "gamelan"))}
COUNTRIES = {"x": "DE", "y": "PT"}
NAMED = ("Clara Schumann", "Fanny Hensel", "Franz Schubert", "Robert Schumann")
RATE = 8000


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("quick.toml").write_text(QUICK_SETTINGS)
    return tmp_path


def write_tables():
    """The planted world as the tables that the mappings of the pages name."""
    world = small_world()
    artists = world.artists.drop("split").with_columns(
        pl.col("genre").replace(GENRES),
        pl.col("country").replace(COUNTRIES),
        pl.col("judge").list.join("|"),
    )
    artists.write_csv("artists.csv")
    world.played("artist").collect().rename({"item": "artist"}).write_csv("plays.csv")
    world.relations.select("a", "b").write_csv("relations.csv")


def write_music(folder):
    """41 tagged songs of as many artists in two groups, a low and a high tone."""
    generator = np.random.default_rng(9)
    names = [*NAMED, *(f"Composer {x}" for x in range(37))]
    for number, name in enumerate(names):
        tone = np.sin(np.arange(3 * RATE) * (0.1, 0.6)[number % 2])
        sound = 0.3 * tone + 0.01 * generator.normal(size=3 * RATE)
        file = folder / f"{number}.flac"
        soundfile.write(file, sound, RATE)
        tags = mutagen.File(file)
        tags.update({"ARTIST": name, "TITLE": f"Song {number}", "GENRE": f"style {number % 2}"})
        tags.save()
    return [(a, b) for x, a in enumerate(names) for b in names[x + 2 : x + 9 : 2]]


def do(block):
    """Run the commands of a block; training is short, and serving has a test of its own."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)[1:]
        words = [os.path.expanduser(x) for x in words if x]
        if not words or words[0] == "serve":
            continue
        more = ["--settings", "quick.toml"] if words[0] == "train" else []
        done = CliRunner().invoke(cli, words + more, prog_name="undersong")
        assert done.exit_code == 0, f"{line}\n{done.output}"


def blocks(page, language="", *, file="quickstart-{}.md"):
    text = (DOCS / file.format(page)).read_text(encoding="utf-8")
    return [x[1] for x in BLOCK.findall(text) if x[0] == language]


def test_the_quick_start_of_a_music_folder_runs(place):
    (place / "Music").mkdir()
    pairs = write_music(place / "Music")
    written = blocks("music-folder", "csv")[0]
    Path("similar.csv").write_text(written + "".join(f"{a},{b}\n" for a, b in pairs))
    for block in blocks("music-folder"):
        do(block)
    assert (place / "my/shelf/current.json").exists()
    assert runs.read(place / "my/run").items("artist").height == 41
    known = {tuple(sorted(x)) for x in [*pairs, NAMED[:2], NAMED[2:]]}
    assert tables.read_catalogue(place / "my/catalogue").relations.height == len(known)


def test_the_quick_start_of_research_runs(place, capsys):
    write_tables()
    Path("mapping.toml").write_text(blocks("research", "toml")[0])
    for block in blocks("research"):
        do(block)
    assert pl.read_parquet("neighbours.parquet").height > 20 * 80
    capsys.readouterr()
    exec(blocks("research", "python")[0], {})
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_page_of_python_runs(place, capsys):
    write_tables()
    code = "\n".join(blocks("python", "python", file="{}.md"))
    for long, short in (
        ('"runs/mine")', '"runs/mine", "quick.toml")'),
        ('"runs/other", settings)', '"runs/other", quick | settings)'),
    ):
        assert code.count(f"us.train(catalogue, {long}") == 1
        code = code.replace(f"us.train(catalogue, {long}", f"us.train(catalogue, {short}")
    code = f"quick = {tomllib.loads(QUICK_SETTINGS)}\n{code}\nprint(*table.columns)"
    exec(code, {})
    printed = capsys.readouterr()
    assert printed.err == ""
    *neighbours, columns = printed.out.splitlines()
    assert len(neighbours) == 6
    assert columns.startswith("protocol slice method metric queries value low high difference ")
    assert runs.read(place / "runs/other").manifest["settings"]["general"]["out"] == 128


def test_the_quick_start_of_a_platform_runs_and_what_it_asks_is_answered(place):
    write_tables()
    Path("mapping.toml").write_text(blocks("platform", "toml")[0])
    for block in blocks("platform"):
        do(block)
    assert Path("neighbours.csv").exists()
    served = next(x for y in blocks("platform") for x in y.splitlines() if " serve " in x)
    asked = [x for y in blocks("platform", "sh") for x in re.findall(r"^curl '(.*)'$", y, re.M)]
    assert len(asked) == 5
    command = [sys.executable, "-m", *shlex.split(served), "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = re.search(r":(\d+): generation", process.stdout.readline())[1]
            for address in asked:
                with urlopen(address.replace("8765", port), timeout=20) as reply:
                    assert reply.status == 200
                    assert reply.read()
        finally:
            process.terminate()
    assert process.returncode == 0
