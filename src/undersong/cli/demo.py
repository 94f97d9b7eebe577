"""Commands that generate what they show: demo, a small world; twin, a catalogue of any size."""

from pathlib import Path

import click

from undersong.cli.group import FOLDER


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
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.lab.synthetic.tour import tour

    with ProgressDisplay() as progress:
        tour(folder, seed=seed, artists=artists, say=click.echo, progress=progress)


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--artists", default=9_627, show_default=True, type=click.IntRange(100))
@click.option("--tracks", default=61_584, show_default=True, type=click.IntRange(0))
@click.option("--plays", default=6_800_000, show_default=True, type=click.IntRange(100))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def twin(out: Path, artists: int, tracks: int, plays: int, seed: int) -> None:
    """Generate a catalogue of the paper's shape at any size, to try speed and memory on.

    Without audio files. Artists belong to hidden taste groups, which plays, genres, descriptors
    and relations follow; popularity is as uneven as in real listening.

    \b
    Example:
        undersong twin my-twin --artists 100000 --tracks 640000 --plays 70000000
    """
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.lab.synthetic.twin import make_twin

    with ProgressDisplay() as progress:
        make_twin(out, artists=artists, tracks=tracks, plays=plays, seed=seed, progress=progress)
    click.echo(f"{artists:,} artists, {tracks:,} tracks, {plays:,} plays in {out}")
