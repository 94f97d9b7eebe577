"""Media servers for tests: Supysonic itself, and one that speaks Jellyfin's published schema."""

import json
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import soundfile
from mutagen.flac import FLAC

PASSWORD = "correct: horse/battery?&+"
SUPYSONIC = """
import sys, warnings
warnings.simplefilter("ignore")
from supysonic.config import DefaultConfig
from supysonic.web import create_application
from supysonic.managers.folder import FolderManager
from supysonic.managers.user import UserManager
from supysonic.scanner import Scanner
from supysonic.db import open_connection, close_connection
from werkzeug.serving import make_server
home, music, *users = sys.argv[1:]
config = DefaultConfig()
config.BASE = dict(config.BASE, database_uri=f"sqlite:///{home}/supysonic.db")
config.WEBAPP = dict(config.WEBAPP, cache_dir=home, mount_webui=False)
application = create_application(config)
open_connection()
for number, user in enumerate(users):
    name, _, password = user.partition(":")
    UserManager.add(name, password, admin=number == 0)
FolderManager.add("music", music)
scanner = Scanner()
scanner.queue_folder("music")
scanner.run()
close_connection()
server = make_server("127.0.0.1", 0, application)
print(server.server_port, flush=True)
server.serve_forever()
"""


def write_song(path, artist, number, *, genre="dream pop"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(24000) * (number + 5) / 90), 8000)
    tags = FLAC(path)
    about = {"artist": artist, "title": f"Song {number}", "album": f"Of {artist}", "genre": genre}
    tags.update(about | {"date": "1994", "tracknumber": str(number)})
    tags.save()


@contextmanager
def supysonic(home, music, users=(f"ann:{PASSWORD}",)):
    """Run the real server on a folder of music; yield its address."""
    home.mkdir()
    command = [sys.executable, "-c", SUPYSONIC, home, music, *users]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@contextmanager
def answering(answer, *, certificate=None):
    """Serve what ``answer`` makes of method, path, query, body, headers; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            place = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            query = {x.lower(): y[0] for x, y in parse_qs(place.query).items()}
            status, headers, content = answer(self.command, place.path, query, body, self.headers)
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # a client that does not trust it
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_json(content, status=200):
    return status, {"content-type": "application/json"}, json.dumps(content).encode()


class Jellyfin:
    """What a Jellyfin server keeps, and how it answers (its OpenAPI, 10.10); Emby's where asked.

    Parameters
    ----------
    songs : items as ``BaseItemDto`` without ``UserData``
    users : name -> password
    played : (user name, song id) -> ``UserItemDataDto``
    page : most items of a reply, whatever is asked
    """

    KEY = "an-api-key-of-32-characters-......"

    def __init__(self, songs, users, *, played=None, artists=(), page=1000, emby=False):
        self.songs, self.users, self.played = list(songs), users, played or {}
        self.artists, self.page, self.emby = list(artists), page, emby
        self.ids = {name: f"{number:032x}" for number, name in enumerate(users, start=171)}
        self.tokens, self.playlists, self.names, self.asked = {self.KEY: None}, {}, {}, []
        self.overstated, self.entries = 0, 0
        self.sounds = {}

    def __call__(self, method, path, query, body, headers):
        self.asked.append((method, path, query))
        content = {x.lower(): y for x, y in json.loads(body or b"{}").items()}
        if path.lower() == "/system/info/public":
            product = {} if self.emby else {"ProductName": "Jellyfin Server"}
            return as_json({"Id": "5e7", "ServerName": "home", "Version": "10.10.3", **product})
        if path == "/Users/AuthenticateByName":
            return self.enter(content)
        shown = headers.get("authorization", "").partition('Token="')[2].rstrip('"')
        token = headers.get("x-emby-token") if self.emby else shown
        if token not in self.tokens:
            return 401, {}, b""
        owner = self.tokens[token] or query.get("userid") or content.get("userid")
        head, *rest = path.strip("/").split("/")
        if head == "Users" and rest:  # the older form of the same
            owner, (head, *rest) = rest[0], rest[1:] or ["Me"]
        if head == "Playlists":
            return self.playlist(method, rest, query, content, owner)
        if head == "Items" and rest[1:] == ["Download"]:
            sound = self.sounds.get(rest[0])
            return (404, {}, b"") if sound is None else (200, {}, sound)
        if head == "Users":
            return as_json([{"Id": y, "Name": x} for x, y in self.ids.items()])
        return self.listed(self.artists if head == "Artists" else self.items(owner, query), query)

    def enter(self, content):
        name = content.get("username")
        if self.users.get(name) != content.get("pw"):
            return 401, {}, b"Error processing request."
        self.tokens[f"token-of-{name}"] = self.ids[name]
        user = {"Id": self.ids[name], "Name": name}
        about = {"User": user, "AccessToken": f"token-of-{name}", "ServerId": "5e7"}
        return as_json(about)

    def items(self, owner, query):
        if query.get("includeitemtypes") == "Playlist":
            return [
                {"Id": x, "Name": self.names[x]}
                for x, (of, _) in self.playlists.items()
                if of == owner
            ]
        named = query.get("ids")
        songs = [x for x in self.songs if named is None or x["Id"] in named.split(",")]
        name = next((x for x, y in self.ids.items() if y == owner), None)
        nothing = {"PlayCount": 0, "IsFavorite": False}
        return [x | {"UserData": self.played.get((name, x["Id"]), nothing)} for x in songs]

    def listed(self, items, query):
        start = int(query.get("startindex", 0))
        some = items[start : start + min(int(query.get("limit", len(items))), self.page)]
        return as_json(
            {"Items": some, "TotalRecordCount": len(items) + self.overstated, "StartIndex": start}
        )

    def playlist(self, method, rest, query, content, owner):
        ids = content.get("ids") or [x for x in query.get("ids", "").split(",") if x]
        if method == "POST" and not rest:
            made = f"{len(self.names) + 900:032x}"
            self.names[made] = content.get("name") or query["name"]
            self.playlists[made] = (owner, [])
            self.add(made, ids)
            return as_json({"Id": made})
        if rest[0] not in self.playlists:
            return 404, {}, b""
        kept = self.playlists[rest[0]][1]
        if method == "GET":
            return self.listed([{"Id": y, "PlaylistItemId": x} for x, y in kept], query)
        if rest[1:] == ["Items"] and method == "POST":
            self.add(rest[0], ids)
        elif rest[1:] == ["Items"]:
            gone = query["entryids"].split(",")
            kept[:] = [x for x in kept if x[0] not in gone]
        elif self.emby:
            return 404, {}, b""
        else:
            kept.clear()
            self.add(rest[0], ids)
        return 204, {}, b""

    def add(self, playlist, songs):
        for song in songs:
            self.entries += 1
            self.playlists[playlist][1].append((f"e{self.entries}", song))

    def contents(self, name):
        playlists = [y for x, (_, y) in self.playlists.items() if self.names[x] == name]
        return [[song for _, song in x] for x in playlists]
