"""Commands that hand a run on: publish, rollback, report."""

from pathlib import Path

import click

from undersong.commands.group import FILE, FOLDER


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("shelf", type=FOLDER)
def publish(run: Path, shelf: Path) -> None:
    """Publish RUN on SHELF, the folder that a service reads, and move its readers there at once.

    Checks every file of RUN, draws the map, and then replaces one pointer: readers have the old
    generation or the new one, never a mixture. The generation before is kept for
    `undersong rollback`.

    \b
    Example:
        undersong publish my/run my/shelf
    """
    from undersong.publishing import publish as make
    from undersong.publishing import unlisted
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        found, new = make(run, shelf, progress=progress)
    if found.manifest["report"] is None:
        click.echo(f"without a report: `undersong evaluate {run}` makes one", err=True)
    for kind in unlisted(found):
        click.echo(
            f"of so many {kind}s no answers are stored: each is computed when somebody asks",
            err=True,
        )
    click.echo(
        f"{shelf}: generation {found.generation} {'published' if new else 'is up to date'}, "
        f"content {found.content[:12]}"
    )


@click.command()
@click.argument("shelf", type=FOLDER)
def rollback(shelf: Path) -> None:
    """Move the readers of SHELF back to the generation before.

    \b
    Example:
        undersong rollback my/shelf
    """
    from undersong.publishing import roll_back

    found = roll_back(shelf)
    click.echo(f"{shelf}: back at generation {found.generation}, content {found.content[:12]}")


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("out", required=False, type=FILE)
@click.option("--catalogue", type=FOLDER, help="Else the one that RUN was trained on, if there.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the samples."
)
def report(run: Path, out: Path | None, catalogue: Path | None, seed: int) -> None:
    """Write one HTML page about RUN: figures, answers of some items, all methods, a model card.

    RUN must have been evaluated. The page, OUT or report.html in RUN, opens without a network. RUN
    may be a shelf, too; then it also shows the map.

    \b
    Example:
        undersong report my/run my-report.html
    """
    from undersong import runs
    from undersong.report import html
    from undersong.terminal import ProgressDisplay

    path = out or run / "report.html"
    opened = runs.read(run)
    with ProgressDisplay() as progress:
        size = html.write(opened, path, catalogue_folder=catalogue, seed=seed, progress=progress)
    click.echo(f"{path}: {size / 1e6:.1f} MB")
