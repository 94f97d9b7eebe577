"""Commands that listen: extract."""

from pathlib import Path

import click

from undersong.commands.group import FOLDER, cluster


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--out", type=FOLDER, help="Where the features go; else CATALOGUE/audio.")
@click.option("--keep-going", is_flag=True, help="Exit 0 even if some files failed.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that decode; else one a processor."
)
def extract(catalogue: Path, out: Path | None, keep_going: bool, workers: int | None) -> None:
    """Analyse the audio files of CATALOGUE once, for every training to come.

    Interrupt it when you like: the same command goes on. Later it analyses only what is new, has
    changed or had failed. failures.csv beside the features says what is wrong with each file that
    gave no sound, and what to do.

    \b
    Example:
        undersong extract my/catalogue
    """
    from undersong.audio import extract as extraction
    from undersong.catalogue import tables
    from undersong.terminal import ProgressDisplay

    folder = out or catalogue / tables.EXTRACTED
    with cluster() as there, ProgressDisplay() as progress:
        hear: extraction.Hear | None = None
        if there:
            from undersong.cluster.streaming import decode_there as hear
        found = extraction.extract(
            tables.read(catalogue), folder, workers=workers, hear=hear, progress=progress
        )
    click.echo(extraction.text(found, folder))
    if len(found.failed) and not keep_going:
        raise SystemExit(1)
