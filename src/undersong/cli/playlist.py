"""The command that makes playlists, as files and on media servers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from undersong.cli.answers import echo_neighbours, query_of, with_filters
from undersong.cli.group import FILE, FOLDER, LOGIN, LONG_TAIL, echo, logins
from undersong.errors import DataError

if TYPE_CHECKING:
    from undersong.export.playlist_files import SongFile
    from undersong.model import Model


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--like", multiple=True, help="Artist or track, by id or name; repeatable.")
@click.option(
    "--not", "unlike", multiple=True, help="Leave out what is nearer to this item; repeatable."
)
@click.option("--user", help="File of a listener's plays, or a user's id.")
@click.option(
    "--tastes",
    default=1,
    type=click.IntRange(1),
    help="Split the plays of --user into groups that take turns.",
)
@click.option("--path", nargs=2, metavar="A B", help="Go from song A to song B.")
@click.option("--extend", type=FILE, help="Continue this M3U8 playlist.")
@click.option("-n", "k", default=50, show_default=True, help="Number of songs.")
@click.option("--minutes", type=float, help="Length in minutes, instead of -n.")
@click.option(
    "--apart", default=5, show_default=True, help="No artist twice within this many songs."
)
@click.option(
    "--smooth",
    default=0.5,
    show_default=True,
    help="How much nearness to the previous song counts.",
)
@click.option("--unlinked", default=0.0, help="At least this share by unlinked artists.")
@click.option("--never", type=FILE, help="Leave these out: a file of ids or names, or M3U8.")
@click.option("--seed", type=int, help="Another playlist for each number.")
@click.option("--artists", is_flag=True, help="List artists instead of tracks.")
@click.option("--title", default="undersong", show_default=True, help="Name of the playlist.")
@click.option("--out", type=FILE, help="File to write: .m3u8, .jspf or .xspf.")
@click.option("--to", "server", metavar="URL", help="Media server to write to.")
@LOGIN
@click.option("--append", is_flag=True, help="With --to: keep the songs in the playlist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@with_filters
@LONG_TAIL
def playlist(
    run: Path,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    user: str | None,
    tastes: int,
    path: tuple[str, str] | None,
    extend: Path | None,
    k: int,
    never: Path | None,
    artists: bool,
    title: str,
    out: Path | None,
    server: str | None,
    login: Path | None,
    append: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a playlist from artists, tracks or a listener's plays.

    Give --like, --extend or both, or --user, or --path. Each song is near these and near the
    previous song, also in tempo and mood if the catalogue has them. An artist counts as its five
    best-known tracks. The same command makes the same playlist; --out and --to replace the previous
    one.

    \b
    Example:
        undersong playlist my/run --like "Clara Schumann" --like "Amy Beach" --out songs.m3u8
        undersong playlist my/run --user plays.csv --minutes 60 --unlinked 0.3 --seed 7
    """
    from undersong.export.playlist_files import (
        check_form,
        read_m3u8,
        songs_of,
        with_ids,
        write_playlist,
    )
    from undersong.model import load
    from undersong.retrieval import Rules

    if out is not None:
        check_form(out)
    names = ("minutes", "apart", "smooth", "unlinked")
    rules = Rules(shuffle=options.pop("seed"), **{x: options.pop(x) for x in names})
    model = load(run)
    earlier = with_ids(read_m3u8(extend), model) if extend else []
    neighbours = model.playlist(
        like,
        unlike=unlike,
        plays=_plays(model, user) if user else None,
        path=path or None,
        after=[x.id or x.label or x.location for x in earlier],
        never=_never(model, never) if never else (),
        kind="artist" if artists else None,
        tastes=tastes,
        rules=rules,
        query=query_of(k, options),
    )
    if out is None and server is None:
        echo_neighbours(neighbours, as_json=as_json)
        return
    if not neighbours:
        raise DataError(f"there is no song for {out or server}: {neighbours.note}")
    songs = [*earlier, *songs_of(model, [x.item for x in neighbours])]
    if out is not None:
        lost = write_playlist(out, songs, title=title)
        echo(f"{out}: {len(songs) - len(lost)} songs, {len(neighbours)} of them new")
        if lost:
            echo(f"{len(lost)} left out, whose files are not known: {lost[0].label}", err=True)
    if server is not None:
        echo(_written(server, login, title, songs, append=append))
    if neighbours.note:
        echo(neighbours.note, err=True)


def _plays(model: "Model", user: str) -> dict[str, float]:
    """Read how often somebody plays what: of a file, or of a user of the run's catalogue."""
    from undersong.retrieval.recommend import read_plays, seeds_of_user

    if Path(user).is_file():
        return read_plays(Path(user))
    try:
        seeds = seeds_of_user(model.catalogue, "track", user)
    except DataError:
        seeds = seeds_of_user(model.catalogue, "artist", user)
    return dict(zip(seeds.ids, seeds.plays, strict=True))


def _never(model: "Model", path: Path) -> list[str]:
    """Read what is never to come: the songs of a playlist, or ids and names a line."""
    from undersong.catalogue import read_ids
    from undersong.export.playlist_files import FORMS, read_m3u8, with_ids

    if path.suffix.lower() not in FORMS:
        return read_ids(path)
    return [x.id or x.label or x.location for x in with_ids(read_m3u8(path), model)]


def _written(
    url: str, login: Path | None, title: str, songs: Sequence["SongFile"], *, append: bool
) -> str:
    """Write a playlist to a media server; say what became of it."""
    who, *_ = logins(login)
    from undersong import servers
    from undersong.servers import open_server

    server = open_server(url, who)
    try:
        mode: servers.Mode = "append" if append else "replace"
        written = servers.write_playlist(server, title, [x.id for x in songs if x.id], mode=mode)
    finally:
        server.close()
    made = "made" if written.made else "changed"
    unknown = f"; it lacks {len(written.unknown)}" if written.unknown else ""
    return f"{url}: {title!r} {made}, {written.songs} songs, {written.new} of them new{unknown}"
