"""Commands that make a catalogue from what services and collections keep of listening."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from undersong.cli import group
from undersong.cli.group import ALIASES_HELP, FILE, FOLDER, LOGIN, REPLACING, echo, logins
from undersong.errors import needs

if TYPE_CHECKING:
    from undersong.importers.music.credits import Aliases
    from undersong.importers.result import Read

Reader: TypeAlias = "Callable[..., Read]"
USER = click.Option(["--user"], default="", help="Id of the user; else the name of the file.")
MUSIC = click.Option(["--music"], type=FOLDER, help="Folder of the files, if they have moved.")
CORE = click.Option(["--core"], is_flag=True, help="Leave out tags and genres, which are not CC0.")
ALIASES = click.Option(["--aliases"], type=FILE, help=ALIASES_HELP)
PATH = click.Path(exists=True, path_type=Path)


def imports(
    what: str, *options: click.Option, type: click.Path = PATH
) -> Callable[[Reader], click.Command]:
    """Make a command that imports ``what`` into a catalogue of a function that returns its reader.

    Parameters
    ----------
    what : name of the argument that is read
    options : passed on to the function by their names
    type : of the argument
    """

    def make(reader: Reader) -> click.Command:
        def run(catalogue: Path, replace: bool, **values: Any) -> None:
            path = values.pop(what)
            with needs("sources", "this import"):
                from undersong.importers.music.credits import read_aliases
                from undersong.importers.result import import_source, text

                if "aliases" in values:
                    values["aliases"] = read_aliases(values["aliases"])
                read = reader(**values)
            imported, failures = import_source(
                read, path, catalogue, source=reader.__name__, replace=replace
            )
            echo(f"{text(imported)}\ncatalogue written to {catalogue}")
            if failures.count:
                listed = catalogue / "failures.csv"
                echo(f"{failures.count:,} were left out: {listed} says why", err=True)

        arguments = [click.Argument([what], type=type), click.Argument(["catalogue"], type=FOLDER)]
        params = [*arguments, *options]
        command = click.Command(reader.__name__, callback=run, params=params, help=reader.__doc__)
        return REPLACING(command)

    return make


@imports("archive", ALIASES)
def listenbrainz(aliases: "Aliases") -> "Read":
    """Make CATALOGUE from a ListenBrainz dump or your own export.

    ARCHIVE is the .tar.zst (JSON or Spark), the .zip, or a folder either was unpacked to.

    \b
    Example:
        undersong import listenbrainz listenbrainz_ann.zip my/catalogue
    """
    from undersong.importers.listens.listenbrainz import listens

    return partial(listens, aliases=aliases)


@imports("history", USER, ALIASES)
def lastfm(user: str, aliases: "Aliases") -> "Read":
    """Make CATALOGUE from a Last.fm history, as one of many programs saved it.

    HISTORY is a file, or a folder or archive with one file per user: CSV of several shapes, JSON of
    lastfmstats and Maloja, Pano Scrobbler's JSON lines, .scrobbler.log, libre.fm, the sets 360K and
    1K.

    \b
    Example:
        undersong import lastfm scrobbles.csv my/catalogue --user ann
    """
    from undersong.importers.listens.lastfm import listens

    return partial(listens, user=user, aliases=aliases)


@imports("export", USER, ALIASES)
def spotify(user: str, aliases: "Aliases") -> "Read":
    """Make CATALOGUE from Spotify's extended streaming history.

    EXPORT is the zip from Spotify, or the folder it was unpacked to. Skipped streams and those
    below 30 seconds do not count.

    \b
    Example:
        undersong import spotify my_spotify_data.zip my/catalogue --user ann
    """
    from undersong.importers.listens.spotify import listens

    return partial(listens, user=user, aliases=aliases)


@imports("database", MUSIC, ALIASES, type=FILE)
def navidrome(music: Path | None, aliases: "Aliases") -> "Read":
    """Make CATALOGUE from the tracks and plays in Navidrome's DATABASE, which is only read.

    \b
    Example:
        undersong import navidrome /var/lib/navidrome/navidrome.db my/catalogue
    """
    from undersong.importers.players.navidrome import read

    return partial(read, music=music, aliases=aliases)


@imports("database", MUSIC, ALIASES, type=FILE)
def beets(music: Path | None, aliases: "Aliases") -> "Read":
    """Make CATALOGUE from the library DATABASE of beets, which is only read.

    \b
    Example:
        undersong import beets ~/.config/beets/library.db my/catalogue
    """
    from undersong.importers.players.beets import read

    return partial(read, music=music, aliases=aliases)


@imports("dump", CORE)
def musicbrainz(core: bool) -> "Read":
    """Make CATALOGUE from the artists of a MusicBrainz JSON dump.

    DUMP is artist.tar.xz, or the folder it was unpacked to; a table artist_gid_redirect in that
    folder lists merged ids.

    \b
    Example:
        undersong import musicbrainz artist.tar.xz my/catalogue
    """
    from undersong.importers.datasets.musicbrainz import read

    return partial(read, core=core)


@imports("archive")
def hetrec() -> "Read":
    """Make CATALOGUE from HetRec 2011's Last.fm-2k, the zip as it comes.

    \b
    Example:
        undersong import hetrec hetrec2011-lastfm-2k.zip my/catalogue
    """
    from undersong.importers.datasets.hetrec import read

    return read


@imports("data")
def olga() -> "Read":
    """Make CATALOGUE from OLGA: a folder or archive with artists.csv and relations.csv.

    \b
    Example:
        undersong import olga data/olga my/catalogue
    """
    from undersong.importers.datasets.olga import read

    return read


@imports("data")
def deezer() -> "Read":
    """Make CATALOGUE from Deezer's similar artists: deezer_graph.csv and deezer_features.csv.

    \b
    Example:
        undersong import deezer similar_artists_ranking/data my/catalogue
    """
    from undersong.importers.datasets.deezer import read

    return read


@imports("archive")
def mlhd() -> "Read":
    """Make CATALOGUE from MLHD+: one archive, a folder of them, or some users' files.

    \b
    Example:
        undersong import mlhd mlhdplus-complete-0.tar my/catalogue
    """
    from undersong.importers.datasets.mlhd import listens

    return listens


def server_import(kind: str, example: str, product: str) -> click.Command:
    """Make the command that imports from servers of one kind."""

    @click.command(kind)
    @click.argument("url")
    @click.argument("catalogue", type=FOLDER)
    @LOGIN
    @click.option(
        "--music",
        metavar="[PREFIX=]FOLDER",
        help="Folder of the files here, for server paths with this PREFIX.",
    )
    @click.option("--forget", is_flag=True, help="Remove songs that the server no longer has.")
    @group.ALIASES
    @REPLACING
    def run(
        url: str,
        catalogue: Path,
        *,
        login: Path | None,
        music: str | None,
        forget: bool,
        aliases: Path | None,
        replace: bool,
    ) -> None:
        with needs("servers", "this import"):
            from undersong.importers.music.credits import read_aliases
            from undersong.importers.players.media_server import Music, read
            from undersong.importers.result import import_source, text
            from undersong.servers import open_server
        from undersong.cli.group import ProgressDisplay

        prefix, _, folder = (music or "").rpartition("=")
        with ExitStack() as stack:
            servers = [
                stack.enter_context(closing(open_server(url, x, kind=kind))) for x in logins(login)
            ]
            reader = partial(
                read,
                folder=catalogue,
                music=Music(Path(folder), prefix) if folder else None,
                forget=forget,
                aliases=read_aliases(aliases),
                progress=stack.enter_context(ProgressDisplay()),
            )
            imported, failures = import_source(
                lambda _, failures: reader(servers, failures),
                servers[0].place,
                catalogue,
                source=kind,
                replace=replace,
            )
        echo(f"{text(imported)}\ncatalogue written to {catalogue}")
        if failures.count:
            listed = catalogue / "failures.csv"
            echo(f"{failures.count:,} were left out: {listed} says why", err=True)

    run.help = f"""Make CATALOGUE from the library of {product}, or bring it up to date.

    URL is the server's address. Reads its songs, artists and MusicBrainz ids, and what the users of
    --login have played and starred. Items keep the server's ids, so players can use them. Nothing
    on the server changes.

    \b
    Example:
        undersong import {kind} {example} my/catalogue --login login.txt
    """
    return run


BY = click.Option(["--by"], default="album", show_default=True, help="Field that names the group.")
MEMBERS = click.Option(["--members"], type=FILE, help="Table of group and track to use instead.")
LEAST = click.Option(
    ["--least"],
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Fewest tracks of a group.",
)


@imports("tracks", BY, MEMBERS, LEAST)
def groups(by: str, members: Path | None, least: int) -> "Read":
    """Make CATALOGUE of the albums of another one, of its labels, or of playlists.

    TRACKS is the folder of a catalogue with tracks. Each group takes the place of an artist, so all
    other commands work with albums.

    \b
    Example:
        undersong import groups my/catalogue my/albums --by album
    """
    from undersong.importers.groups import groups

    return partial(groups, by=by, members=members, least=least)


subsonic = server_import(
    "subsonic", "https://music.example", "Navidrome, gonic, LMS, Ampache or another Subsonic server"
)
jellyfin = server_import("jellyfin", "https://jellyfin.example", "a Jellyfin or Emby server")

COMMANDS = (
    *(listenbrainz, lastfm, spotify, navidrome, subsonic, jellyfin, beets, musicbrainz),
    *(hetrec, olga, deezer, mlhd, groups),
)
