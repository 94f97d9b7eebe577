"""What every command shares: how errors end it, options that mean the same, and how work shows.

Long work shows as a live bar for a person, as plain lines in a log file.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from undersong.errors import DataError, UndersongError, nearest_known, needs
from undersong.io.display import harmless, one_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from undersong.catalogue import Kind
    from undersong.runs import Run
    from undersong.servers.connection import Login

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PAPER = click.option("--paper", is_flag=True, help="Order by the cosine of E_G, as in the paper.")
GRAPH = click.option(
    "--graph", is_flag=True, help="Order by the graph network behind GRM, if RUN trained one."
)
LONG_TAIL = click.option(
    "--long-tail",
    default=0.0,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="1: ignore known links. -1: unlinked items last, as on most lists.",
)
REPLACING = click.option(
    "--replace", is_flag=True, help="Overwrite a catalogue of another command or a newer version."
)
LOGIN = click.option(
    "--login",
    type=FILE,
    help="File with NAME:PASSWORD or an API key; else the variable UNDERSONG_LOGIN.",
)
ALIASES_HELP = "Table of other names of artists: alias, name, id. docs/identity.md"
ALIASES = click.option("--aliases", type=FILE, help=ALIASES_HELP)
TRACKS = click.option("--tracks", is_flag=True, help="Tracks instead of artists.")


CLUSTERED = ("extract", "relations", "train", "embed", "neighbours")
CLUSTER = click.option(
    "--cluster",
    metavar="HOST:PORT",
    help=f"Run on this Ray cluster: {', '.join(CLUSTERED)}. docs/cluster.md",
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
        from undersong.cluster import tasks
    with tasks.joined(address):
        yield True


class Group(click.Group):
    """Print as one line, and exit 1, an UndersongError and what the system refuses.

    Anything else keeps its traceback. Alone, a group shows its commands, in sections if it has any.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.sections: dict[str, list[tuple[str, str]]] = {}

    def add_section(self, title: str, section: Mapping[click.Command, str]) -> None:
        """Add commands that help lists together, each with a line of its own."""
        for command in section:
            self.add_command(command)
        self.sections[title] = [(x.name or "", line) for x, line in section.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every command with one line; without sections, with its first sentence."""
        sections = self.sections or {
            "Commands": [
                (name, (command.help or "").partition("\n\n")[0])
                for name, command in sorted(self.commands.items())
            ]
        }
        for title, commands in sections.items():
            with formatter.section(title):
                formatter.write_dl(commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # that of completion
            echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except UndersongError as error:
            raise click.ClickException(harmless(str(error))) from error
        except BrokenPipeError:
            _discard_output()
            return None
        except _refused() as error:
            from undersong.io.files import refusal

            if sentence := refusal(error):
                _discard_output()
                raise click.ClickException(harmless(sentence)) from error
            raise


def _refused() -> tuple[type[Exception], ...]:
    """Return what is caught; polars and safetensors are imported where something was raised."""
    from undersong.io.files import REFUSED

    return REFUSED


def _discard_output() -> None:
    """Let go what standard output did not take; Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print a text; what is in it from files commands no terminal."""
    click.echo(harmless(str(text)), err=err, nl=nl)


def logins(path: Path | None) -> "tuple[Login, ...]":
    """Return who asks a media server: of a file, of the variable, or of who sits at the terminal.

    Raises
    ------
    DataError
        If nothing of these says who.
    """
    with needs("servers", "a media server"):
        from undersong.servers.connection import LOGIN as VARIABLE, Login, read_logins

    if known := read_logins(path):
        return known
    if not sys.stdin.isatty():
        raise DataError(
            "the server needs a login; give --login FILE, with a line NAME:PASSWORD, or "
            f"set {VARIABLE}"
        )
    user = click.prompt("User (none: an API key)", default="", show_default=False, err=True)
    secret = click.prompt("Password" if user else "API key", hide_input=True, err=True)
    return (Login(user, secret),)


def kind_in(run: "Run", tracks: bool) -> "Kind":
    """Return the kind of item that a command asks about: tracks, or what the run is about."""
    own: Kind = run.manifest["kind"]
    return "track" if tracks else own


def kind_of(tracks: bool) -> "Kind":
    """Return the kind of item that a command asks about."""
    return "track" if tracks else "artist"


SECONDS_BETWEEN_LINES = 15.0


class ProgressDisplay:
    """Shows progress on stderr; hand the object itself to library functions."""

    def __init__(self) -> None:
        # Imported when first needed: it would double the time that `--version` takes.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=12),  # leaves 28 columns of 80 for the note
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> "ProgressDisplay":
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bars.stop()
        sys.stderr.flush()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` steps of a stage are finished."""
        note = one_line(note)
        if self._live:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
            return
        now = time.monotonic()
        started, before = self._begun.setdefault(stage, (now, done))
        if done < total and now - self._printed.get(stage, started) < SECONDS_BETWEEN_LINES:
            return
        if self._printed.get(stage) == float("inf"):
            return
        self._printed[stage] = float("inf") if done >= total else now
        spent, remaining = now - started, ""
        if before < done < total:
            remaining = f", {spent / (done - before) * (total - done):.0f} s left"
        self._console.print(
            f"{stage}: {done} of {total}, {spent:.0f} s{remaining}  {note}".rstrip()
        )
