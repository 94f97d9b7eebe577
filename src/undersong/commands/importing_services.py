"""Commands that make a catalogue from what services and collections keep of listening."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.commands.group import FILE, FOLDER
from undersong.errors import UndersongError

if TYPE_CHECKING:
    from undersong.sources.failures import Failures
    from undersong.sources.imported import Imported

USER = click.option("--user", default="", help="Whose it is; else the file's name says so.")
MUSIC = click.option("--music", type=FOLDER, help="Where the files lie, if not where it says.")
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

    with _extra():
        from undersong.sources.imported import import_listens
        from undersong.sources.listenbrainz import ORIGIN, listens

        found = import_listens(listens, archive, catalogue, origin=ORIGIN)
    _show(*found, catalogue)


@click.command()
@click.argument("history", type=PATH)
@click.argument("catalogue", type=FOLDER)
@USER
def lastfm(history: Path, catalogue: Path, user: str) -> None:
    """Make CATALOGUE from a Last.fm history, as one of many programs saved it.

    HISTORY is a file, or a folder or archive of them, one a user: CSV of several shapes, JSON of
    lastfmstats and Maloja, Pano Scrobbler's JSON lines, .scrobbler.log, libre.fm, the sets 360K
    and 1K.

    \b
    Example:
        undersong import lastfm scrobbles.csv my/catalogue --user ann
    """
    with _extra():
        from undersong.sources.imported import import_listens
        from undersong.sources.lastfm import ORIGIN, listens

        found = import_listens(partial(listens, user=user), history, catalogue, origin=ORIGIN)
    _show(*found, catalogue)


@click.command()
@click.argument("export", type=PATH)
@click.argument("catalogue", type=FOLDER)
@USER
def spotify(export: Path, catalogue: Path, user: str) -> None:
    """Make CATALOGUE from Spotify's extended streaming history.

    EXPORT is the zip that Spotify sends, or the folder it was unpacked to. Skipped streams and
    those below 30 seconds are no plays.

    \b
    Example:
        undersong import spotify my_spotify_data.zip my/catalogue --user ann
    """
    with _extra():
        from undersong.sources.imported import import_listens
        from undersong.sources.spotify import ORIGIN, listens

        found = import_listens(partial(listens, user=user), export, catalogue, origin=ORIGIN)
    _show(*found, catalogue)


@click.command()
@click.argument("database", type=FILE)
@click.argument("catalogue", type=FOLDER)
@MUSIC
def navidrome(database: Path, catalogue: Path, music: Path | None) -> None:
    """Make CATALOGUE from the tracks and plays in Navidrome's DATABASE, which is only read.

    \b
    Example:
        undersong import navidrome /var/lib/navidrome/navidrome.db my/catalogue
    """
    with _extra():
        from undersong.sources.imported import import_whole
        from undersong.sources.navidrome import read

        found = import_whole(partial(read, music=music), database, catalogue)
    _show(*found, catalogue)


@click.command()
@click.argument("database", type=FILE)
@click.argument("catalogue", type=FOLDER)
@MUSIC
def beets(database: Path, catalogue: Path, music: Path | None) -> None:
    """Make CATALOGUE from the library DATABASE of beets, which is only read.

    \b
    Example:
        undersong import beets ~/.config/beets/library.db my/catalogue
    """
    with _extra():
        from undersong.sources.beets import read
        from undersong.sources.imported import import_whole

        found = import_whole(partial(read, music=music), database, catalogue)
    _show(*found, catalogue)


@click.command()
@click.argument("dump", type=PATH)
@click.argument("catalogue", type=FOLDER)
@click.option("--core", is_flag=True, help="Leave out tags and genres, which are not CC0.")
def musicbrainz(dump: Path, catalogue: Path, core: bool) -> None:
    """Make CATALOGUE from the artists of a MusicBrainz JSON dump.

    DUMP is artist.tar.xz, or the folder it was unpacked to; a table artist_gid_redirect in that
    folder says which ids were merged.

    \b
    Example:
        undersong import musicbrainz artist.tar.xz my/catalogue
    """
    with _extra():
        from undersong.sources.imported import import_whole
        from undersong.sources.musicbrainz import read

        found = import_whole(partial(read, core=core), dump, catalogue)
    _show(*found, catalogue)


@click.command()
@click.argument("archive", type=PATH)
@click.argument("catalogue", type=FOLDER)
def mlhd(archive: Path, catalogue: Path) -> None:
    """Make CATALOGUE from MLHD+: one archive, a folder of them, or some users' files.

    \b
    Example:
        undersong import mlhd mlhdplus-complete-0.tar my/catalogue
    """
    with _extra():
        from undersong.sources.imported import import_listens
        from undersong.sources.mlhd import ORIGIN, listens

        found = import_listens(listens, archive, catalogue, origin=ORIGIN)
    _show(*found, catalogue)


@click.command()
@click.argument("archive", type=PATH)
@click.argument("catalogue", type=FOLDER)
def hetrec(archive: Path, catalogue: Path) -> None:
    """Make CATALOGUE from HetRec 2011's Last.fm-2k, the zip as it comes.

    \b
    Example:
        undersong import hetrec hetrec2011-lastfm-2k.zip my/catalogue
    """
    with _extra():
        from undersong.sources.hetrec import read
        from undersong.sources.imported import import_whole

        found = import_whole(read, archive, catalogue)
    _show(*found, catalogue)


@click.command()
@click.argument("data", type=PATH)
@click.argument("catalogue", type=FOLDER)
def olga(data: Path, catalogue: Path) -> None:
    """Make CATALOGUE from OLGA: a folder or archive with artists.csv and relations.csv.

    \b
    Example:
        undersong import olga data/olga my/catalogue
    """
    with _extra():
        from undersong.sources.imported import import_whole
        from undersong.sources.olga import read

        found = import_whole(read, data, catalogue)
    _show(*found, catalogue)


@click.command()
@click.argument("data", type=PATH)
@click.argument("catalogue", type=FOLDER)
def deezer(data: Path, catalogue: Path) -> None:
    """Make CATALOGUE from Deezer's similar artists: deezer_graph.csv and deezer_features.csv.

    \b
    Example:
        undersong import deezer similar_artists_ranking/data my/catalogue
    """
    with _extra():
        from undersong.sources.deezer import read
        from undersong.sources.imported import import_whole

        found = import_whole(read, data, catalogue)
    _show(*found, catalogue)


@contextmanager
def _extra() -> Iterator[None]:
    """Say how to install what an import lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UndersongError(
            f"this import needs {error.name}; install it with: pip install 'undersong[sources]'"
        ) from error


def _show(imported: "Imported", failures: "Failures", catalogue: Path) -> None:
    """Say what became of an import."""
    from undersong.sources.imported import text

    click.echo(f"{text(imported)}\ncatalogue written to {catalogue}")
    if failures.count:
        listed = catalogue / "failures.csv"
        click.echo(f"{failures.count:,} were left out: {listed} says why", err=True)


COMMANDS = (
    *(listenbrainz, lastfm, spotify, navidrome, beets, musicbrainz),
    *(hetrec, olga, deezer, mlhd),
)
