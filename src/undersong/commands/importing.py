"""Commands that make a catalogue and look at it: import, check, describe."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from undersong.commands.group import FILE, FOLDER, Group
from undersong.errors import UndersongError


@click.group(name="import", cls=Group)
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


@import_.command()
@click.argument("music", type=FOLDER)
@click.argument("catalogue", type=FOLDER)
@click.option("--relations", type=FILE, help="Who is similar to whom: a table of two columns.")
def folder(music: Path, catalogue: Path, relations: Path | None) -> None:
    """Make CATALOGUE from the tags of all audio files in the folder MUSIC, or bring it up to date.

    Run it again when you like: only new and changed files are read. What was left out stands in
    CATALOGUE/failures.csv, with the reason and what to do.

    \b
    Example:
        undersong import folder ~/Music my/catalogue
    """
    try:
        from undersong.sources.folder import import_folder, text
    except ModuleNotFoundError as error:
        raise UndersongError(
            f"reading tags needs {error.name}; install it with: pip install 'undersong[audio]'"
        ) from error
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        summary = import_folder(music, catalogue, relations=relations, progress=progress)
    click.echo(f"{text(summary)}\ncatalogue written to {catalogue}")
    if summary.left_out:
        listed = catalogue / "failures.csv"
        click.echo(f"{summary.left_out:,} were left out: {listed} says why", err=True)


@click.command()
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


@click.command()
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
