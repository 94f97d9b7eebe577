"""The command that shows everything on a generated world: demo."""

from pathlib import Path

import click

from undersong.commands.group import FOLDER


@click.command()
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
