"""Jellyfin, and Emby, whose API differs in how the songs of a playlist are replaced."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import quote

from undersong import __version__
from undersong.errors import DataError
from undersong.servers.connection import (
    Artist,
    Connection,
    Login,
    Refused,
    Song,
    Value,
    fields,
    number,
    rows,
    text,
)

PAGE = 1_000  # items of one reply
IDS = 100  # of a query: they stand in the address
TICKS = 10_000_000  # a second; of songs beyond 27 hours the length is not known
CLIENT = (
    f'MediaBrowser Client="undersong", Device="undersong", DeviceId="undersong", '
    f'Version="{__version__}"'
)


class Jellyfin:
    """A server and who asks it.

    Parameters
    ----------
    connection : to it
    login : name and password, or an API key, which sees what all users have played

    Raises
    ------
    DataError
        If it is no such server, or refuses the login.
    """

    kind = "jellyfin"

    def __init__(self, connection: Connection, login: Login) -> None:
        self._connection, self.place = connection, connection.place
        about = connection.ask("GET", "System/Info/Public")
        if not fields(about).get("ServerName"):
            raise DataError(f"{self.place} is no Jellyfin or Emby server; is the address whole?")
        self._emby = "Jellyfin" not in str(about.get("ProductName"))
        self._authorise("" if login.user else login.secret)
        users = rows(self._enter(login) if login.user else connection.ask("GET", "Users"))
        self.users = {text(x.get("Id")): text(x.get("Name")) for x in users if text(x.get("Id"))}
        if not self.users:
            raise DataError(f"{self.place} names no user; log in as one, with NAME:PASSWORD")

    def close(self) -> None:
        """Close what is open to the server."""
        self._connection.close()

    def songs(self, user: str) -> Iterator[list[Song]]:
        """Read all songs page by page, as a user sees them.

        Raises
        ------
        DataError
            If there are fewer than the server says.
        """
        about = {"IncludeItemTypes": "Audio", "Fields": "Path,ProviderIds,Genres"}
        for page in self._pages("Items", user, whole=True, **about):
            yield [_song(x) for x in page]

    def artists(self, user: str) -> Iterator[list[Artist]]:
        """Read all artists page by page, as a user sees them."""
        for page in self._pages("Artists", user, Fields="ProviderIds"):
            yield [
                Artist(text(x["Id"]), _provided(x, "MusicBrainzArtist"), _used(x, "IsFavorite"))
                for x in page
            ]

    def fetch_sound(self, song: str, file: BinaryIO, *, largest: int) -> None:
        """Write the sound of a song into a file, as it lies on the server.

        Raises
        ------
        DataError
            If the server sends none, or more than ``largest`` bytes.
        """
        self._connection.fetch("GET", f"Items/{_part(song)}/Download", file, largest=largest)

    def known(self, songs: Sequence[str]) -> list[str]:
        """Return those songs that the server has, in their order."""
        there = {
            text(x["Id"])
            for ids in _some(songs)
            for page in self._pages("Items", next(iter(self.users)), Ids=ids)
            for x in page
        }
        return [x for x in songs if x in there]

    def playlists(self) -> dict[str, str]:
        """Read the user's playlists: name by id."""
        pages = self._pages("Items", self._owner, IncludeItemTypes="Playlist")
        return {text(x["Id"]): text(x.get("Name")) for page in pages for x in page}

    def playlist_songs(self, playlist: str) -> list[str]:
        """Read the songs of a playlist."""
        return [text(x["Id"]) for x in self._entries(playlist)]

    def create_playlist(self, name: str, songs: Sequence[str]) -> None:
        """Make a playlist."""
        about = {"Name": name, "UserId": self._owner, "MediaType": "Audio"}
        if not self._emby:
            self._connection.ask("POST", "Playlists", body=about | {"Ids": list(songs)})
            return
        first, *others = _some(songs)
        made = fields(self._connection.ask("POST", "Playlists", query=about | {"Ids": first}))
        for ids in others:
            self.add_songs(text(made.get("Id")), ids.split(","))

    def replace_songs(self, playlist: str, songs: Sequence[str]) -> None:
        """Replace the songs of a playlist, in one request where the server can do that.

        Elsewhere the new ones are added before the old ones go, so that it is never empty.
        """
        place = f"Playlists/{_part(playlist)}"
        old = [text(x.get("PlaylistItemId")) for x in self._entries(playlist)]
        try:
            self._connection.ask("POST", place, body={"Ids": list(songs)})
        except Refused as error:
            if error.code not in (404, 405):
                raise
            self.add_songs(playlist, songs)
            for ids in _some(old):
                self._connection.ask("DELETE", f"{place}/Items", query={"EntryIds": ids})

    def add_songs(self, playlist: str, songs: Sequence[str]) -> None:
        """Append songs to a playlist."""
        for ids in _some(songs):
            query = {"Ids": ids, "UserId": self._owner}
            self._connection.ask("POST", f"Playlists/{_part(playlist)}/Items", query=query)

    def _authorise(self, token: str) -> None:
        whole = f'{CLIENT}, Token="{token}"' if token else CLIENT
        # Jellyfin reads the first, Emby the others.
        self._connection.headers |= {"Authorization": whole, "X-Emby-Authorization": whole}
        self._connection.headers |= {"X-Emby-Token": token} if token else {}

    def _enter(self, login: Login) -> object:
        credentials = {"Username": login.user, "Pw": login.secret}
        try:
            reply = self._connection.ask("POST", "Users/AuthenticateByName", body=credentials)
        except Refused as error:
            if error.code not in (400, 401, 403):
                raise
            fault = f"{self.place} refuses {login.user!r}; see that name and password are right"
            raise Refused(fault, error.code) from error
        self._authorise(text(fields(reply).get("AccessToken")))
        return fields(reply).get("User")

    @property
    def _owner(self) -> str:
        """Id of the user whose playlists are meant."""
        if len(self.users) > 1:
            raise DataError(
                f"an API key of {self.place} is valid for {len(self.users)} users; log in as the "
                "one whose playlist it is, with NAME:PASSWORD"
            )
        return next(iter(self.users))

    def _entries(self, playlist: str) -> list[dict[str, Any]]:
        pages = self._pages(f"Playlists/{_part(playlist)}/Items", self._owner)
        return [x for page in pages for x in page]

    def _pages(
        self, path: str, user: str, *, whole: bool = False, **query: str
    ) -> Iterator[list[dict[str, Any]]]:
        """Read items page by page, each once.

        Raises
        ------
        DataError
            If these are no items; if there are fewer than the server says, and ``whole``.
        """
        own: dict[str, Value] = {
            "UserId": user,
            "Recursive": "true",
            "Limit": PAGE,
            "SortBy": "DateCreated,SortName",  # what comes meanwhile comes last
        }
        start, total, seen = 0, 0, set[str]()
        while True:
            reply = self._connection.ask("GET", path, query={**own, **query, "StartIndex": start})
            if not isinstance(reply, dict) or not isinstance(reply.get("Items"), list):
                raise DataError(f"{self.place} answers {path} with no list of items; update it")
            total = max(total, int(number(reply.get("TotalRecordCount"))))
            items = [x for x in rows(reply["Items"]) if text(x.get("Id"))]
            # Of a playlist the same song may stand twice, with entries of its own.
            keys = [text(x.get("PlaylistItemId")) or text(x["Id"]) for x in items]
            new = [x for x, key in zip(items, keys, strict=True) if key not in seen]
            seen.update(keys)
            if not new:
                break
            yield new
            start += len(reply["Items"])
        if whole and len(seen) < total:
            raise DataError(
                f"{self.place} says that it has {total:,} songs, and gives {len(seen):,}; nothing "
                "was written. Try again, or let it scan its library"
            )


def _some(ids: Sequence[str]) -> list[str]:
    return [",".join(ids[x : x + IDS]) for x in range(0, len(ids), IDS)]


def _part(text: str) -> str:
    return quote(text, safe="")


def _provided(row: Mapping[str, Any], *names: str) -> str:
    ids = fields(row.get("ProviderIds"))
    return next((text(ids[x]) for x in names if text(ids.get(x))), "")


def _used(row: Mapping[str, Any], name: str) -> bool:
    return bool(fields(row.get("UserData")).get(name))


def _song(row: Mapping[str, Any]) -> Song:
    artists = rows(row.get("ArtistItems")) or rows(row.get("AlbumArtists"))
    genres = row.get("Genres")
    return Song(
        id=text(row["Id"]),
        path=text(row.get("Path")),
        title=text(row.get("Name")),
        album=text(row.get("Album")) or None,
        artists=tuple((text(x["Name"]), text(x.get("Id"))) for x in artists if text(x.get("Name"))),
        # Where both are known, the track is the one of a release.
        recording=_provided(row, "MusicBrainzRecording", "MusicBrainzTrack") or None,
        genres=tuple(map(text, genres if isinstance(genres, list) else ())),
        year=int(number(row.get("ProductionYear"))) or None,
        seconds=number(row.get("RunTimeTicks")) / TICKS or None,
        plays=int(number(fields(row.get("UserData")).get("PlayCount"))),
        starred=_used(row, "IsFavorite"),
    )
