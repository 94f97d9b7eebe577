"""Media servers that people have: what is on them, who played what, and their playlists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from undersong.errors import DataError
from undersong.servers.connection import Connection, Login, Refused
from undersong.servers.jellyfin import Jellyfin
from undersong.servers.subsonic import Subsonic

Server: TypeAlias = Subsonic | Jellyfin
KINDS: dict[str, type[Subsonic] | type[Jellyfin]] = {"subsonic": Subsonic, "jellyfin": Jellyfin}


def open_server(url: str, login: Login, *, kind: str | None = None) -> Server:
    """Open a media server: ask who it is, and log in.

    Parameters
    ----------
    url : address, with the path that it is at, if any
    login : ``connection.read_logins``
    kind : "subsonic" or "jellyfin", which Emby is too; by default what the server answers to

    Raises
    ------
    DataError
        If it cannot be reached, is of another kind, or refuses the login.
    """
    connection = Connection(url)
    try:
        if kind is None:
            kind = "jellyfin" if _is_jellyfin(connection) else "subsonic"
        return KINDS[kind](connection, login)
    except BaseException:
        connection.close()
        raise


def _is_jellyfin(connection: Connection) -> bool:
    """Whether a server answers as Jellyfin does, and not to Subsonic's API too."""
    for path, name in (
        ("rest/ping.view?f=json", "subsonic-response"),
        ("System/Info/Public", "Id"),
    ):
        try:
            reply = connection.ask("GET", path)
        except Refused:
            continue
        except DataError:
            if name == "Id":
                return False
            continue
        if isinstance(reply, dict) and name in reply:
            return name == "Id"
    return False


Mode = Literal["replace", "append", "create"]
LONGEST = 10_000  # songs


@dataclass(frozen=True)
class WrittenPlaylist:
    """What became of a playlist.

    Parameters
    ----------
    made : whether there was none of this name
    songs : how many are in it now
    new : how many of these were not in it before
    unknown : ids that the server does not have; they were left out
    """

    made: bool
    songs: int
    new: int
    unknown: tuple[str, ...]


def write_playlist(
    server: Server, name: str, songs: Sequence[str], *, mode: Mode = "replace"
) -> WrittenPlaylist:
    """Write songs as the user's playlist of this name; each stands in it once.

    Where the playlist was deleted meanwhile, it is made anew.

    Parameters
    ----------
    server : ``undersong.servers.open_server``
    name : of the playlist; of several of that name the first is meant
    songs : the server's ids, in order
    mode : "replace" what is in it, "append" what is not in it yet, or "create" it, if there is none

    Raises
    ------
    DataError
        If there is nothing to write, the server knows none of the songs, or mode is "create" and
        there is such a playlist. Nothing is written then.
    """
    known = _known(server, name, list(dict.fromkeys(songs)))
    unknown = tuple(x for x in dict.fromkeys(songs) if x not in set(known))
    there = next((x for x, title in sorted(server.playlists().items()) if title == name), None)
    if there and mode == "create":
        raise DataError(f"{server.place} has a playlist {name!r}; replace it, or append to it")
    if there:
        try:
            new, count = _update(server, there, known, append=mode == "append")
            return WrittenPlaylist(False, count, new, unknown)
        except Refused:
            if there in server.playlists():
                raise
    server.create_playlist(name, known)
    return WrittenPlaylist(True, len(known), len(known), unknown)


def _update(
    server: Server, playlist: str, songs: Sequence[str], *, append: bool
) -> tuple[int, int]:
    """Append songs that are not in a playlist, or replace its songs; count new ones and all."""
    before = server.playlist_songs(playlist)
    new = [x for x in songs if x not in set(before)]
    if append and new:
        server.add_songs(playlist, new)
    elif not append and before != songs:
        server.replace_songs(playlist, songs)
    return len(new), len(before) + len(new) if append else len(songs)


def _known(server: Server, name: str, songs: Sequence[str]) -> list[str]:
    """Return those songs that the server has, after looking at all that is to be written."""
    if not name.strip() or not songs or len(songs) > LONGEST:
        raise DataError(
            f"a playlist {name!r} of {len(songs):,} songs cannot be written; it needs a name, and "
            f"1 to {LONGEST:,} songs"
        )
    known = server.known(songs)
    if not known:
        raise DataError(
            f"{server.place} has none of {len(songs):,} songs, such as {songs[0]!r}; import its "
            "library again, train, and ask again"
        )
    return known
