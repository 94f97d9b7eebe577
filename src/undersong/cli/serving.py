"""Commands that hand a run on: publish, rollback, report."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.cli.group import FILE, FOLDER, echo
from undersong.errors import needs


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("shelf", type=FOLDER)
def publish(run: Path, shelf: Path) -> None:
    """Copy RUN to SHELF, the folder that a service reads, and switch its readers to it.

    Checks every file of RUN, draws the map, and then replaces one pointer: readers see the old
    generation or the new one, never a mixture. The previous generation is kept for `undersong
    rollback`.

    \b
    Example:
        undersong publish my/run my/shelf
    """
    from undersong.cli.group import ProgressDisplay
    from undersong.pipeline.publish import publish as make, unlisted

    with ProgressDisplay() as progress:
        published, new = make(run, shelf, progress=progress)
    if published.manifest["report"] is None:
        echo(f"without a report: `undersong evaluate {run}` makes one", err=True)
    for kind in unlisted(published):
        echo(
            f"of so many {kind}s no answers are stored: each is computed when somebody asks",
            err=True,
        )
    echo(
        f"{shelf}: generation {published.generation} {'published' if new else 'is up to date'}, "
        f"content {published.content[:12]}"
    )


@click.command()
@click.argument("shelf", type=FOLDER)
def rollback(shelf: Path) -> None:
    """Switch the readers of SHELF back to the previous generation.

    \b
    Example:
        undersong rollback my/shelf
    """
    from undersong.pipeline.publish import roll_back

    published = roll_back(shelf)
    echo(f"{shelf}: back at generation {published.generation}, content {published.content[:12]}")


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("out", required=False, type=FILE)
@click.option("--catalogue", type=FOLDER, help="Catalogue, if moved since the training.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the samples."
)
def report(run: Path, out: Path | None, catalogue: Path | None, seed: int) -> None:
    """Write one HTML page about RUN: who is found, figures, sample answers, a model card.

    RUN must have been evaluated. The page, OUT or report.html in RUN, needs no network. If RUN is a
    shelf, the page also shows the map.

    \b
    Example:
        undersong report my/run my-report.html
    """
    from undersong import runs
    from undersong.cli.group import ProgressDisplay
    from undersong.report import html

    path = out or run / "report.html"
    opened = runs.read(run)
    with ProgressDisplay() as progress:
        size = html.write(opened, path, catalogue_folder=catalogue, seed=seed, progress=progress)
    echo(f"{path}: {size / 1e6:.1f} MB")


if TYPE_CHECKING:
    from undersong.runs import Run
    from undersong.service.snapshot import Snapshot


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any free port.",
)
@click.option("--host-name", "names", multiple=True, help="Host name that clients use; repeatable.")
@click.option(
    "--cors",
    "origins",
    metavar="ORIGIN",
    multiple=True,
    help="Site whose pages may read replies in a browser; repeatable.",
)
@click.option("--token-file", type=FILE, help="File of the secret token; made if missing.")
@click.option(
    "--rate",
    type=click.FloatRange(0),
    help="Requests per second and address; 0: no limit. Else 20, or 200 with --upstream.",
)
@click.option("--media", type=FOLDER, help="Catalogue whose audio files the page may play.")
@click.option(
    "--upstream",
    metavar="URL",
    help="Subsonic server that handles all other requests of players.",
)
@click.option("--certificate", type=FILE, help="For TLS: PEM file of certificates,")
@click.option("--key", type=FILE, help="and of the private key.")
@click.option("--quiet", is_flag=True, help="Do not log each request.")
def serve(
    folder: Path,
    host: str,
    port: int,
    names: tuple[str, ...],
    origins: tuple[str, ...],
    token_file: Path | None,
    rate: float | None,
    media: Path | None,
    upstream: str | None,
    certificate: Path | None,
    key: Path | None,
    quiet: bool,
) -> None:
    """Serve the page and the HTTP API from FOLDER, a shelf or a run.

    The first line names the address, the generation and the APIs. A newly published generation is
    used within two seconds. On SIGTERM or Ctrl-C running requests finish.

    Except on loopback, clients need a token, which is made at the first start, in a file that only
    you can read. Clients use an address of the machine, or a name given by --host or --host-name.

    \b
    Example:
        undersong serve my/shelf --port 8765
        undersong serve my/shelf --host-name music.example --cors https://player.example
    """
    # polars would keep what it frees, a sixth of all memory; it reads this when it is loaded.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    from undersong.runs import RunReader

    with needs("serve", "the service"):
        reader = RunReader(folder, opening=_open, readying=_warm)
        from undersong.service import app, middleware, server
        from undersong.service.options import PLAYER_RATE, RATE, ServiceSettings
    near = is_loopback(host)
    if token_file is None and not near:
        token_file = Path(click.get_app_dir("undersong")) / "token"
    token = middleware.read_token(token_file) if token_file else None
    usual = PLAYER_RATE if upstream else RATE
    rate = (0.0 if near else usual) if rate is None else rate
    made = app.make_app(
        reader,
        ServiceSettings(
            token,
            rate,
            media,
            quiet,
            hosts=middleware.read_names([host, *names]),
            origins=middleware.read_origins(origins),
            upstream=upstream,
        ),
        log=write_line,
    )
    scheme = "https" if certificate else "http"
    with server.bind(host, port) as listening:
        place = f"{scheme}://{address(host, listening.getsockname()[1])}"
        server.heed_signals()
        echo(app.first_line(reader.current, place))
        if token:
            echo(f"clients must show the token in {token_file}", err=True)
        server.run(made, listening, certificate=certificate, key=key)


def _open(run: "Run") -> "Snapshot":
    """Import what answers here, while other threads check the files of the generation."""
    from undersong.service.snapshot import open_answers

    return open_answers(run)


def _warm(answers: "Snapshot") -> None:
    from undersong.service.snapshot import warm

    warm(answers)


def write_line(text: str) -> None:
    """Write one line of the log; click.echo looks for colours in it, which takes far longer."""
    sys.stderr.write(f"{text}\n")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address(host: str, port: int) -> str:
    """Write host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
