"""Servers that speak the API of Subsonic: Navidrome, gonic, LMS, Ampache, Supysonic and others."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from undersong.errors import DataError
from undersong.io.display import one_line
from undersong.servers.connection import (
    Artist,
    Connection,
    Form,
    Login,
    Refused,
    Song,
    Value,
    fields,
    number,
    rows,
    text,
)

PAGE = 500  # songs or albums of one reply, the most that the API allows
VERSION = "1.16.1"
MISSING, NO_TOKENS = 10, 41
HTTP, NOT_FOUND = 100, 404  # from where on codes are those of HTTP
# What finds all songs, by OpenSubsonic, and by older Navidromes; by Subsonic itself nothing does.
EVERYTHING = ("", '""')
WRONG = (40, 42, 43, 44, 50)
SONGS, ALBUMS = ("searchResult3", "song"), ("albumList2", "album")


class Subsonic:
    """A server and who asks it.

    Parameters
    ----------
    connection : to it
    login : name and password, or an API key where the server has these

    Raises
    ------
    DataError
        If it is no such server, or refuses the login.
    """

    kind = "subsonic"

    def __init__(self, connection: Connection, login: Login) -> None:
        self._connection = connection
        self.place, self._login, self._salted = connection.place, login, True
        try:
            self.ask("ping")
        except Refused as error:
            # Servers that keep no password that can be hashed say so; older ones miss the other.
            if error.code not in (NO_TOKENS, MISSING) or not login.user:
                raise
            self._salted = False
            self.ask("ping")
        whose = {} if login.user else fields(self.ask("tokenInfo").get("tokenInfo"))
        self._user = login.user or text(whose.get("username")) or "the owner of the API key"
        self.users = {self._user: self._user}

    def ask(self, endpoint: str, /, **parameters: Value) -> dict[str, Any]:
        """Return the reply of an endpoint.

        Raises
        ------
        Refused
            With the code of Subsonic's error.
        DataError
            If that is no reply of Subsonic's.
        """
        form = {**self._common(), **parameters}
        reply = self._connection.ask("POST", f"rest/{endpoint}.view", form=form)
        content = fields(fields(reply).get("subsonic-response"))
        if not content:
            raise DataError(f"{self.place} is no Subsonic server; is the address whole?")
        if content.get("status") != "ok":
            raise self._refused(content.get("error"), endpoint)
        return content

    def close(self) -> None:
        """Close what is open to the server."""
        self._connection.close()

    def songs(self, user: str) -> Iterator[list[Song]]:
        """Read all songs, page by page.

        Raises
        ------
        DataError
            If the server gives the same page again and again.
        """
        for everything in EVERYTHING:
            seen: set[str] = set()
            search: dict[str, Value] = {"query": everything, "artistCount": 0, "albumCount": 0}
            search |= {"songCount": PAGE}
            while page := _listed(self.ask("search3", **search, songOffset=len(seen)), SONGS):
                before = len(seen)
                seen.update(text(x.get("id")) for x in page)
                if len(seen) == before:
                    raise DataError(f"{self.place} gives the same songs on every page; update it")
                yield [_song(x) for x in page if text(x.get("id")) and not x.get("isVideo")]
            if seen:
                return
        yield from self._songs_of_albums()

    def artists(self, user: str) -> Iterator[list[Artist]]:
        """Read all artists."""
        for index in _listed(self.ask("getArtists"), ("artists", "index")):
            yield [
                Artist(text(x.get("id")), text(x.get("musicBrainzId")), bool(x.get("starred")))
                for x in rows(index.get("artist"))
            ]

    def fetch_sound(self, song: str, file: BinaryIO, *, largest: int) -> None:
        """Write the sound of a song into a file, as it lies on the server.

        Raises
        ------
        DataError
            If the server sends none, or more than ``largest`` bytes.
        """
        form = {**self._common(), "id": song}
        kind = self._connection.fetch(
            "POST", "rest/download.view", file, form=form, largest=largest
        )
        if "json" in kind or "xml" in kind:  # the error that stands in place of the sound
            raise Refused(f"{self.place} sends no sound of {song!r}; may this user download?", -1)

    def known(self, songs: Sequence[str]) -> list[str]:
        """Return those songs that the server has, in their order."""
        return [x for x in songs if self._has(x)]

    def playlists(self) -> dict[str, str]:
        """Read the user's playlists: name by id."""
        listed = _listed(self.ask("getPlaylists"), ("playlists", "playlist"))
        own = (x for x in listed if x.get("owner", self._user) == self._user)
        return {text(x.get("id")): text(x.get("name")) for x in own}

    def playlist_songs(self, playlist: str) -> list[str]:
        """Read the songs of a playlist."""
        listed = _listed(self.ask("getPlaylist", id=playlist), ("playlist", "entry"))
        return [text(x.get("id")) for x in listed]

    def create_playlist(self, name: str, songs: Sequence[str]) -> None:
        """Make a playlist."""
        self.ask("createPlaylist", name=name, songId=list(songs))

    def replace_songs(self, playlist: str, songs: Sequence[str]) -> None:
        """Replace the songs of a playlist, in one request."""
        self.ask("createPlaylist", playlistId=playlist, songId=list(songs))

    def add_songs(self, playlist: str, songs: Sequence[str]) -> None:
        """Append songs to a playlist."""
        self.ask("updatePlaylist", playlistId=playlist, songIdToAdd=list(songs))

    def _has(self, song: str) -> bool:
        try:
            return bool(self.ask("getSong", id=song))
        except Refused as error:
            if error.code in WRONG or error.code >= HTTP and error.code != NOT_FOUND:
                raise
            return False  # 70, or what a server makes of an id of another kind

    def _common(self) -> Form:
        own: dict[str, str] = {"v": VERSION, "c": "undersong", "f": "json"}
        user, secret = self._login.user, self._login.secret
        if not user:
            return own | {"apiKey": secret}
        if not self._salted:
            return own | {"u": user, "p": f"enc:{secret.encode().hex()}"}
        salt = secrets.token_hex(8)
        token = hashlib.md5(f"{secret}{salt}".encode(), usedforsecurity=False).hexdigest()
        return own | {"u": user, "s": salt, "t": token}

    def _refused(self, error: object, name: str) -> Refused:
        about = fields(error)
        code = int(number(about.get("code")))
        message = one_line(text(about.get("message"))[:200]).rstrip(".")
        fault = f"{self.place} answers {name} with error {code} ({message}); look into its log"
        if code in WRONG:
            who = self._login.user or "the API key"
            right = "see that name and password are right"
            fault = f"{self.place} refuses {who!r} ({message}); {right}"
        return Refused(fault, code)

    def _songs_of_albums(self) -> Iterator[list[Song]]:
        seen: set[str] = set()
        page: dict[str, Value] = {"type": "alphabeticalByName", "size": PAGE}
        while albums := _listed(self.ask("getAlbumList2", **page, offset=len(seen)), ALBUMS):
            new = {text(x.get("id")) for x in albums} - seen
            if not new:
                raise DataError(f"{self.place} gives the same albums on every page; update it")
            for album in sorted(new):
                songs = _listed(self.ask("getAlbum", id=album), ("album", "song"))
                yield [_song(x) for x in songs if text(x.get("id"))]
            seen |= new


def _listed(reply: Mapping[str, Any], names: tuple[str, str]) -> list[dict[str, Any]]:
    """Return a list in a reply; one that is empty may not be there at all."""
    outer, inner = names
    return rows(fields(reply.get(outer)).get(inner))


def _song(row: Mapping[str, Any]) -> Song:
    artists = [(text(x.get("name")), text(x.get("id"))) for x in rows(row.get("artists"))]
    artists = artists or [(text(row.get("artist")), text(row.get("artistId")))]
    genres = [text(x.get("name")) for x in rows(row.get("genres"))]
    return Song(
        id=text(row.get("id")),
        path=text(row.get("path")),
        title=text(row.get("title")),
        album=text(row.get("album")) or None,
        artists=tuple(x for x in artists if x[0]),
        recording=text(row.get("musicBrainzId")) or None,
        genres=tuple(genres or [text(row.get("genre"))]),
        year=int(number(row.get("year"))) or None,
        seconds=number(row.get("duration")) or None,
        plays=int(number(row.get("playCount"))),
        starred=bool(row.get("starred")),
    )
