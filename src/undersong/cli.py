"""Command line. A command reads files, calls one library function, writes one result."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong import __version__
from undersong.errors import UndersongError

if TYPE_CHECKING:
    from undersong.catalogue.tables import Kind

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PAPER = click.option(
    "--paper", is_flag=True, help="Answer by the cosine of E_G, as the paper does."
)
LONG_TAIL = click.option(
    "--long-tail",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="0: all evidence counts. 1: relations do not, so that unlinked items get their turn.",
)
TRACKS = click.option("--tracks", is_flag=True, help="Ask about tracks instead of artists.")


class _Group(click.Group):
    """Print an UndersongError as one line and exit 1. Anything else keeps its traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UndersongError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="undersong")
def cli() -> None:
    """Learn one embedding for every artist and track, and answer what is similar.

    Also for those that nobody has linked yet. Begin with `undersong demo`, or with your own
    tables: `undersong import tables`, `train`, `evaluate`, `similar`.
    """


def main() -> None:
    """Run the command line."""
    cli(prog_name="undersong")


@cli.group(name="import", cls=_Group)
def import_() -> None:
    """Make a catalogue from data that you have."""


@import_.command()
@click.argument("mapping", type=FILE)
@click.argument("catalogue", type=FOLDER)
@click.option("--data", type=FOLDER, help="Where the tables lie; else beside MAPPING.")
def tables(mapping: Path, catalogue: Path, data: Path | None) -> None:
    """Make CATALOGUE from CSV or Parquet tables; the TOML file MAPPING says which column is what.

    Refuses data with faults and lists them; nothing is written then.

    \b
    Example:
        undersong import tables examples/lieder.toml my/catalogue --data ../shared/data/lieder
    """
    from undersong.catalogue import tables as catalogue_tables
    from undersong.sources.tables import import_tables, text

    made, summary = import_tables(mapping, data=data)
    catalogue_tables.write(made, catalogue)
    click.echo(f"{text(summary)}\ncatalogue written to {catalogue}")


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--data", type=FOLDER, help="Where the tables of a mapping lie; else beside it.")
def check(path: Path, data: Path | None) -> None:
    """List every fault of a mapping's tables, or of a catalogue, with its place and remedy.

    \b
    Example:
        undersong check mapping.toml
    """
    from undersong.catalogue.check import check_catalogue
    from undersong.catalogue.faults import text
    from undersong.sources.tables import check_tables

    found = check_catalogue(path) if path.is_dir() else check_tables(path, data=data)
    click.echo(text(found))
    if found:
        raise SystemExit(1)


@cli.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--plot", type=FILE, help="Also draw it: a PNG or SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(catalogue: Path, plot: Path | None, as_json: bool) -> None:
    """Show what a catalogue knows: counts, coverage, relations, the long tail (figure 1).

    \b
    Example:
        undersong describe my/catalogue --plot figure-1.png
    """
    from undersong.catalogue import describe as description
    from undersong.catalogue import tables as catalogue_tables

    found = description.describe(catalogue_tables.read(catalogue))
    click.echo(json.dumps(asdict(found)) if as_json else description.text(found))
    if plot:
        description.plot(found, plot)
        click.echo(f"drawn in {plot}", err=True)


@cli.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("run", type=FOLDER)
@click.option("--settings", type=FILE, help="A TOML file; docs/choices.md lists what it may say.")
@click.option("--fresh", is_flag=True, help="Begin anew, even if nothing changed.")
def train(catalogue: Path, run: Path, settings: Path | None, fresh: bool) -> None:
    """Learn all embeddings of CATALOGUE and publish them in the folder RUN.

    Interrupt it when you like: the same command goes on from the last checkpoint. When the
    catalogue and the settings are those of RUN already, there is nothing to do.

    \b
    Example:
        undersong train my/catalogue my/run
    """
    from undersong.pipeline import read_settings, train_run
    from undersong.terminal import ProgressDisplay

    chosen = read_settings(settings)
    with ProgressDisplay() as progress:
        found, new = train_run(catalogue, run, settings=chosen, fresh=fresh, progress=progress)
    if failed := found.manifest["failed_files"]:
        listed = found.home / "failures.csv"
        click.echo(f"{failed} audio files could not be read: {listed} says why", err=True)
    training = found.manifest["training"]["general"]
    spent = sum(found.manifest["seconds"].values())
    click.echo(
        f"{run}: generation {found.generation} {'trained' if new else 'is up to date'}; validation "
        f"NDCG@200 {training['best_score']:.3f} at step {training['best_step']}, {spent:.0f} s"
    )


@cli.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("study", type=FOLDER)
@click.option("--settings", type=FILE, help="Where to begin: a TOML file; else the defaults.")
@click.option(
    "--stage",
    default="general",
    show_default=True,
    type=click.Choice(["general", "content", "interaction"]),
    help="Whose settings to search.",
)
@click.option(
    "--trials", "count", default=40, show_default=True, type=click.IntRange(1), help="In all."
)
@click.option(
    "--minutes", type=click.FloatRange(0), help="Begin no trial after so long; one at least."
)
@click.option("--only", default="", help="Settings or tables to search, such as loss.known,tail.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the search.")
@click.option("--confirm", is_flag=True, help="Train given and best with two other seeds too.")
def tune(
    catalogue: Path,
    study: Path,
    settings: Path | None,
    stage: str,
    count: int,
    minutes: float | None,
    only: str,
    seed: int,
    confirm: bool,
) -> None:
    """Search better settings of one stage for CATALOGUE, judged by its validation items alone.

    The first trial is what --settings gives, so the gain over it is known. Keeps everything in the
    folder STUDY: run it again to go on, with more --trials to go further. STUDY/best.toml is for
    `undersong train --settings`.

    \b
    Example:
        undersong tune my/catalogue my/study --trials 40 --confirm
    """
    try:
        from undersong.tuning import results
        from undersong.tuning import study as studies
    except ModuleNotFoundError as error:
        raise UndersongError(
            f"tuning needs {error.name}; install it with: pip install 'undersong[tune]'"
        ) from error
    from undersong.pipeline import read_settings
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        found = studies.tune(
            catalogue,
            study,
            settings=read_settings(settings),
            stage=stage,
            count=count,
            minutes=minutes,
            only=[x.strip() for x in only.split(",") if x.strip()],
            seed=seed,
            confirm=confirm,
            progress=progress,
        )
    click.echo(results.text(found, catalogue=catalogue, folder=study))


@cli.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--split",
    "part",
    default="test",
    show_default=True,
    type=click.Choice(["test", "validation"]),
    help="Whose items ask.",
)
@click.option("--catalogue", type=FOLDER, help="Else the one that RUN was trained on.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
def evaluate(run: Path, part: str, catalogue: Path | None, as_json: bool) -> None:
    """Say how good the answers of RUN are, with intervals, beside random and the baselines.

    Writes report.json and report.md into RUN.

    \b
    Example:
        undersong evaluate my/run
    """
    from undersong import runs
    from undersong.evaluation.comparison import compare
    from undersong.report import files, terminal
    from undersong.terminal import ProgressDisplay

    opened = runs.read(run)
    with ProgressDisplay() as progress:
        report = compare(opened, part=part, catalogue_folder=catalogue, progress=progress)
    files.write(report, run)
    click.echo((run / "report.json").read_text() if as_json else terminal.render(report))
    click.echo(f"written to {run / 'report.md'} and {run / 'report.json'}", err=True)


@cli.command()
@click.argument("run", type=FOLDER)
@click.argument("query")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@PAPER
@LONG_TAIL
@TRACKS
def similar(
    run: Path, query: str, k: int, as_json: bool, paper: bool, long_tail: float, tracks: bool
) -> None:
    """List the K items most similar to QUERY, an id or a name, best first.

    The percentage is the chance that a list of similar artists names the answer; known relations
    have 100 %. Accents, case and punctuation of a name do not matter. Where several fit, the best
    known is taken and stderr names the others.

    \b
    Example:
        undersong similar my/run "Clara Schumann" -k 5 --long-tail 0.5
    """
    from undersong import runs, search

    kind = _kind(tracks)
    opened = runs.read(run)
    index = search.open_index(opened, kind, paper=paper, long_tail=long_tail)
    match, found = search.similar(index, opened.items(kind), query, k=k)
    if match.others:
        click.echo(f"{query!r} may also be: {', '.join(match.others)}; ask by id", err=True)
    if as_json:
        for one in found:
            click.echo(json.dumps(asdict(one), ensure_ascii=False))
        return
    click.echo(search.text(match, found))


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--items", type=FILE, help="Whose neighbours: a file of ids; else all items.")
@click.option("--among", type=FILE, help="Which items may be answers: a file of ids; else all.")
@click.option("-k", default=200, show_default=True, help="Neighbours of each item.")
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@PAPER
@LONG_TAIL
@TRACKS
def neighbours(
    run: Path,
    items: Path | None,
    among: Path | None,
    k: int,
    out: Path,
    paper: bool,
    long_tail: float,
    tracks: bool,
) -> None:
    """Write the K nearest neighbours of many items as one table.

    The columns are item, rank (from 1), neighbour, score and confidence; with --paper score is the
    cosine and there is no confidence. A file of ids is plain text with one id a line, or a CSV or
    Parquet table with a column `id`.

    \b
    Example:
        undersong neighbours my/run -k 50 --out neighbours.parquet
    """
    from undersong import runs, search
    from undersong.terminal import ProgressDisplay

    opened = runs.read(run)
    table = opened.items(_kind(tracks))
    index = search.open_index(opened, _kind(tracks), paper=paper, long_tail=long_tail)
    embeddings = index.embeddings
    asked = search.select(embeddings, table, search.read_ids(items) if items else None)
    answers = search.select(embeddings, table, search.read_ids(among) if among else None)
    with ProgressDisplay() as progress:
        written = search.write_neighbours(
            index, out, queries=asked.rows, among=answers.rows, k=k, progress=progress
        )
    if asked.without or answers.without:
        lost = max(asked.without, answers.without)
        click.echo(f"left out {lost} items of which nothing but the name is known", err=True)
    click.echo(f"{out}: {written} rows, {len(asked.rows)} items, {len(answers.rows)} candidates")


@cli.command()
@click.argument("out", type=FOLDER)
@click.option(
    "--data",
    "sets",
    help="Which sets, with commas between: A, B, T, lieder, olga.  [default: A,B,T; for ablations "
    "B]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Training seeds.  [default: 5; with --quick 2; for ablations 1]",
)
@click.option("--quick", is_flag=True, help="Short trainings, to see that it runs.")
@click.option("--ablations", is_flag=True, help="What each part of GRM is worth, in place of all.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Trainings side by side, 2 GB each or so.  [default: one a processor; on a GPU 1]",
)
@click.option(
    "--from",
    "data",
    default="../shared/data",
    show_default=True,
    type=FOLDER,
    help="Folder that holds multisource, lieder and olga.",
)
@click.option(
    "--examples",
    default="examples",
    show_default=True,
    type=FOLDER,
    help="Folder of the mappings and settings of the sets.",
)
@click.option(
    "--split",
    "part",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "test"]),
    help="Whose items ask; the test relations of these sets are sealed.",
)
def reproduce(
    out: Path,
    sets: str | None,
    seeds: int | None,
    quick: bool,
    ablations: bool,
    processes: int | None,
    data: Path,
    examples: Path,
    part: str,
) -> None:
    """Measure the paper: tables 1 and 2, figures 1 and 4, and what becomes of its claims.

    Everything lies in OUT. Interrupt it when you like: the same command goes on where it was.
    Writes reproduction.md, reproduction.json and the figures into OUT; with --ablations
    ablations.md and ablations.json.

    \b
    Example:
        undersong reproduce my-reproduction --data A,T --seeds 3
    """
    from undersong.experiments import ablating, ablation_page, page
    from undersong.experiments import sets as known_sets
    from undersong.experiments.plan import usual_processes
    from undersong.experiments.reproduction import QUICK_SEEDS, SEEDS, Plan
    from undersong.experiments.reproduction import reproduce as make
    from undersong.terminal import ProgressDisplay

    count = seeds or (1 if ablations else QUICK_SEEDS if quick else SEEDS)
    plan = Plan(
        out,
        data,
        examples,
        seeds=count,
        quick=quick,
        part=part,
        processes=processes or usual_processes(),
    )
    asked = known_sets.chosen(sets or ("B" if ablations else "A,B,T"))
    with ProgressDisplay() as progress:
        if ablations:
            rows = ablating.ablate(plan, asked, progress=progress)
        else:
            found = make(plan, asked, progress=progress)
    if ablations:
        written = ablation_page.write(plan, rows)
        click.echo(ablation_page.terminal(plan, rows))
    else:
        written = page.write(plan, found)
        click.echo(page.terminal(plan, found))
    click.echo(f"written to {', '.join(str(x) for x in written)}", err=True)


@cli.command()
@click.argument("folder", default="demo", type=FOLDER)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--artists", default=300, show_default=True, type=click.IntRange(20))
def demo(folder: Path, seed: int, artists: int) -> None:
    """Try everything on a generated world of artists: audio files, listeners, known relations.

    Goes through each step that your own data would take, from files on disk, and says what it
    does. Takes a few minutes; run again, it is quick.

    \b
    Example:
        undersong demo my-demo
    """
    from undersong.demo.tour import tour
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        tour(folder, seed=seed, artists=artists, say=click.echo, progress=progress)


def _kind(tracks: bool) -> "Kind":
    return "track" if tracks else "artist"
