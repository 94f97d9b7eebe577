"""Commands that make a catalogue from what services and collections keep of listening."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.commands.group import FOLDER
from undersong.errors import UndersongError

if TYPE_CHECKING:
    from undersong.sources.failures import Failures
    from undersong.sources.imported import Imported

PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("archive", type=PATH)
@click.argument("catalogue", type=FOLDER)
def listenbrainz(archive: Path, catalogue: Path) -> None:
    """Make CATALOGUE from a ListenBrainz dump or your own export.

    ARCHIVE is the .tar.zst (JSON or Spark), the .zip, or a folder either was unpacked to.

    \b
    Example:
        undersong import listenbrainz listenbrainz_ann.zip my/catalogue
    """

    def read() -> "tuple[Imported, Failures]":
        from undersong.sources import listenbrainz as source
        from undersong.sources.imported import import_listens

        return import_listens(source.listens, archive, catalogue, origin=source.ORIGIN)

    _show(read, catalogue)


def _show(read: "Callable[[], tuple[Imported, Failures]]", catalogue: Path) -> None:
    """Run an import, and say what became of it."""
    from undersong.sources.imported import text

    try:
        imported, failures = read()
    except ModuleNotFoundError as error:
        raise UndersongError(
            f"this import needs {error.name}; install it with: pip install 'undersong[sources]'"
        ) from error
    click.echo(f"{text(imported)}\ncatalogue written to {catalogue}")
    if failures.count:
        listed = catalogue / "failures.csv"
        click.echo(f"{failures.count:,} were left out: {listed} says why", err=True)


COMMANDS = (listenbrainz,)
