"""Commands that work on a whole catalogue, on a cluster if there is one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.cli.group import FILE, FOLDER, LOGIN, TRACKS, cluster, echo, kind_of, logins
from undersong.errors import DataError, needs

if TYPE_CHECKING:
    from undersong.audio.extract import Fetch

SOME = 9  # tracks that a server is asked for before their sound is


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--out", type=FOLDER, help="Folder for the features; else CATALOGUE/audio.")
@click.option("--keep-going", is_flag=True, help="Exit 0 even if some files failed.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that decode; else one per processor."
)
@click.option(
    "--ears",
    default="auto",
    show_default=True,
    help="Pretrained ears to use: auto for all installed, none, or names.",
)
@click.option(
    "--words/--no-words",
    default=None,
    help="Use the words that ears guess as a field of tracks and artists, or not.",
)
@click.option("--server", metavar="URL", help="Fetch missing files from this media server.")
@LOGIN
@click.option(
    "--rate",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 100, min_open=True),
    help="Songs to fetch per second, at most.",
)
def extract(
    catalogue: Path,
    *,
    out: Path | None,
    keep_going: bool,
    workers: int | None,
    ears: str,
    words: bool | None,
    server: str | None,
    login: Path | None,
    rate: float,
) -> None:
    """Analyse the audio files of CATALOGUE once, for every training to come.

    Pretrained ears (`undersong ears`) run in the same pass. You can interrupt it; the same command
    continues. Later it analyses only new, changed and failed files. failures.csv in the folder of
    the features lists each file without sound, with reason and remedy.

    With --server, tracks without a file here are downloaded from a media server, one after the
    other; each is deleted after its analysis.

    \b
    Example:
        undersong extract my/catalogue
    """
    from undersong.audio import extract as extraction
    from undersong.audio.ears import choose_ears
    from undersong.catalogue import EXTRACTED, read_catalogue
    from undersong.cli.group import ProgressDisplay

    chosen = choose_ears(ears)
    if words and not chosen:
        raise DataError(
            "--words needs pretrained ears, and none are used; run `undersong ears install musicnn`"
        )
    folder = out or catalogue / EXTRACTED
    with cluster() as clustered, ProgressDisplay() as progress, ExitStack() as stack:
        known = read_catalogue(catalogue)
        fetch = None
        if server:
            some = known.ids("track")[:SOME]
            fetch = stack.enter_context(_sounds(server, login, rate=rate, some=some))
        decode_files: extraction.DecodeFiles | None = None
        if clustered:
            from undersong.cluster.tasks import decode_there as decode_files
        extracted = extraction.extract(
            known,
            folder,
            workers=workers,
            ears=chosen,
            words=words,
            decode_files=decode_files,
            fetch=fetch,
            progress=progress,
        )
    echo(extraction.text(extracted, folder))
    if len(extracted.failed) and not keep_going:
        raise SystemExit(1)


@contextmanager
def _sounds(url: str, login: Path | None, *, rate: float, some: Sequence[str]) -> "Iterator[Fetch]":
    """Open a media server for the sound of its songs.

    Raises
    ------
    DataError
        If it has none of ``some`` tracks.
    """
    with needs("servers", "a media server"):
        from undersong.importers.players.media_server import Sounds
        from undersong.servers import open_server
    with closing(open_server(url, logins(login)[0])) as server:
        if not server.known(some):
            raise DataError(
                f"{server.place} has none of the tracks, such as {some[0]!r}; import its library, "
                "whose ids they must have"
            )
        yield Sounds(server, rate=rate)


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(0), help="0: no limit.")
@click.option("--threshold", default=1, show_default=True, type=click.IntRange(1))
@TRACKS
def relations(catalogue: Path, out: Path, top: int, threshold: int, tracks: bool) -> None:
    """Write which items of CATALOGUE share many listeners (R_U).

    Each item is linked to the TOP items with which it shares most listeners, THRESHOLD or more. The
    columns are a and b, and each pair comes once.

    \b
    Example:
        undersong relations my/catalogue --out shared.parquet
    """
    import polars as pl
    from scipy import sparse

    from undersong import relations as related
    from undersong.catalogue import read_catalogue
    from undersong.cli.group import ProgressDisplay
    from undersong.io.table_files import write_table

    kind, known = kind_of(tracks), read_catalogue(catalogue)
    with cluster() as clustered, ProgressDisplay() as progress:
        plays = related.listeners(known, kind, progress=progress)
        shared = partial(related.shared_listeners, plays, threshold=threshold, top=top)
        if clustered:
            from undersong.cluster.tasks import in_order

            shared = partial(shared, each=in_order)
        pairs = shared(progress=progress)
    once = sparse.triu(pairs).tocoo()
    ids = pl.Series(known.ids(kind), dtype=pl.String)
    write_table(out, pl.DataFrame({"a": ids[once.row], "b": ids[once.col]}))
    echo(f"{out}: {len(once.row)} pairs of {kind}s")


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("catalogue", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@TRACKS
def embed(run: Path, catalogue: Path, out: Path, tracks: bool) -> None:
    """Write E_G of every item of CATALOGUE, as the trained RUN reads it.

    Use it if only a part of the catalogue was trained on. The columns are id and vector.

    \b
    Example:
        undersong embed my/run my/catalogue --tracks --out vectors.parquet
    """
    from undersong import runs
    from undersong.catalogue import EXTRACTED, read_catalogue
    from undersong.cli.group import ProgressDisplay
    from undersong.pipeline.inference import Each, embed_catalogue

    opened, known, kind = runs.read(run), read_catalogue(catalogue), kind_of(tracks)
    work = catalogue / EXTRACTED
    with cluster() as clustered, ProgressDisplay() as progress:
        each: Each = map
        if clustered:
            from undersong.cluster.tasks import vectors_there as each
        vectors = embed_catalogue(opened, known, kind, work=work, each=each, progress=progress)
    vectors.write(out)
    echo(f"{out}: {len(vectors.ids)} {kind}s")
