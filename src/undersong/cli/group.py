"""What every command shares: how errors end it, and options that mean the same everywhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.errors import UndersongError, nearest_known, needs

if TYPE_CHECKING:
    from undersong.catalogue import Kind

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PAPER = click.option(
    "--paper", is_flag=True, help="Answer by the cosine of E_G, as the paper does."
)
LONG_TAIL = click.option(
    "--long-tail",
    default=0.0,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="0: all evidence counts. 1: as if nobody were linked. -1: as lists do, which name hardly "
    "anybody whom nobody has linked.",
)
TRACKS = click.option("--tracks", is_flag=True, help="Ask about tracks instead of artists.")


CLUSTERED = ("extract", "relations", "train", "embed", "neighbours")
CLUSTER = click.option(
    "--cluster",
    metavar="HOST:PORT",
    help=f"Do it on this Ray cluster: {', '.join(CLUSTERED)}. docs/cluster.md",
)


def check_cluster(context: click.Context, address: str | None) -> None:
    """Refuse a cluster for what is done on one machine alone.

    Raises
    ------
    UndersongError
        If it is asked for by another command than those of ``CLUSTERED``.
    """
    command = context.invoked_subcommand or ""
    if address and command not in CLUSTERED:
        raise UndersongError(
            f"--cluster has no part in {command!r}; {nearest_known(command, CLUSTERED)}"
        )


@contextmanager
def cluster() -> Iterator[bool]:
    """Join the cluster that ``--cluster`` names; yield whether it names one.

    Raises
    ------
    UndersongError
        If ray is not installed, or nobody answers there.
    """
    address = click.get_current_context().find_root().params.get("cluster")
    if not address:
        yield False
        return
    with needs("cluster", "a cluster"):
        from undersong.cluster import connection
    with connection.joined(address):
        yield True


class Group(click.Group):
    """Print an UndersongError as one line and exit 1. Anything else keeps its traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UndersongError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None


def kind_of(tracks: bool) -> "Kind":
    """Return the kind of item that a command asks about."""
    return "track" if tracks else "artist"
