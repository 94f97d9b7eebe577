"""Commands that hand a run on: publish, rollback, report."""

from pathlib import Path

import click

from undersong.commands.group import FOLDER


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
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        found, new = make(run, shelf, progress=progress)
    if found.manifest["report"] is None:
        click.echo(f"without a report: `undersong evaluate {run}` makes one", err=True)
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
