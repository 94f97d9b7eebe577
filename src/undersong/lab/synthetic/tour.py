"""The walk a new user takes: each step from files on disk to a page, each by its own command."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

from undersong.audio.ears import NONE
from undersong.catalogue import describe_catalogue, description_text, write_catalogue
from undersong.evaluation.compare import compare
from undersong.importers.tables.conversion import import_tables
from undersong.lab.synthetic.world import make_demo
from undersong.model import load
from undersong.pipeline.publish import publish
from undersong.pipeline.run_settings import Settings
from undersong.pipeline.train import train_run
from undersong.progress import Progress
from undersong.report import formats, layout
from undersong.runs import Run

DEFAULTS = Settings(content=replace(Settings().content, ears=NONE))
NEIGHBOURS = 8


def shelf_of(folder: Path) -> Path:
    """Return where a demo's published run lies."""
    return folder / "shelf"


def tour(
    folder: Path,
    *,
    seed: int,
    artists: int,
    say: Callable[[str], object],
    progress: Progress,
    settings: Settings | None = None,
) -> None:
    """Generate a world, import it, train, evaluate, ask about two artists, and publish.

    Each step is skipped where its result is there already. ``say`` shows a line to the user.
    Training takes the defaults unless ``settings`` says otherwise, without pretrained ears: the
    demo shows the same everywhere.
    """
    started = time.monotonic()
    data, catalogue_folder, run_folder = folder / "data", folder / "catalogue", folder / "run"
    shelf = shelf_of(folder)
    say(
        f"This demo is generated: {artists} artists who do not exist, their audio, their listeners "
        f"and relations,\nall made on this machine with seed {seed}. With your own files the same "
        "commands do the same.\n"
    )
    say(f"1. Make the music and the tables           -> {data}")
    make_demo(data, seed=seed, artists=artists, progress=progress)
    say(f"2. undersong import tables {data / 'mapping.toml'} {catalogue_folder}")
    catalogue, _ = import_tables(data / "mapping.toml")
    if not _holds(catalogue_folder, data):
        write_catalogue(catalogue, catalogue_folder, source="tables")
    say(f"3. undersong describe {catalogue_folder}\n")
    say(description_text(describe_catalogue(catalogue)))
    say(f"4. undersong train {catalogue_folder} {run_folder}")
    run, _ = train_run(
        catalogue_folder, run_folder, settings=settings or DEFAULTS, progress=progress
    )
    seconds = ", ".join(f"{name} {spent:.0f} s" for name, spent in run.manifest["seconds"].items())
    say(f"   trained in {seconds}")
    say(f"5. undersong evaluate {run_folder}\n")
    report = compare(run, split="test", progress=progress)
    formats.write(report, run_folder)
    for sentence in layout.summary(report):
        say("\n".join(wrap(sentence, 78, initial_indent="   ", subsequent_indent="   ")))
    say(f"   Every number, beside twelve baselines: {run_folder / 'report.md'}\n")
    known, tail = _examples(run)
    for number, (who, item) in enumerate((("a known", known), ("a long-tail", tail)), start=6):
        say(
            f'{number}. undersong similar {run_folder} "{item}" -k {NEIGHBOURS}    ({who} artist)\n'
        )
        say(_answer(run, item) + "\n")
    say(f"8. undersong publish {run_folder} {shelf}")
    publish(run_folder, shelf, progress=progress)
    say(
        f"\nAll of it took {time.monotonic() - started:.0f} s. Open its page, a map and a card for "
        f"every artist:\n\n   undersong serve {shelf}\n\nWith your own music:\n"
    )
    say("   undersong refresh my/music --music ~/Music --serve")
    say("\nFrom tables, listens or a media server: undersong import --help")


def _examples(run: Run) -> tuple[str, str]:
    """The best known test artist with relations, and a long-tail artist that some people know."""
    items = run.items("artist").sort("popularity", "id", descending=True, nulls_last=True)
    test = items.filter(items["part"] == "test")
    known = test.filter(test["relations"] > 0)["name"][0]
    tail = test.filter(test["relations"] == 0)["name"][0]
    return str(known), str(tail)


def _answer(run: Run, query: str) -> str:
    return str(load(run.folder).similar(query, kind="artist", k=NEIGHBOURS))


def _holds(catalogue_folder: Path, data: Path) -> bool:
    """Whether the catalogue is newer than the tables it was made of."""
    made = catalogue_folder / "catalogue.json"
    return made.exists() and made.stat().st_mtime >= (data / "demo.json").stat().st_mtime
