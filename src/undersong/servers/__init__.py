"""Media servers that people have: what is on them, who played what, and their playlists."""

from typing import TypeAlias

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
