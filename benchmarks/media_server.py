"""How fast, and in how much memory, a media server's library is imported.

    PYTHONPATH=src python benchmarks/media_server.py [SONGS [MILLISECONDS]]      default 100,000 20

A server of the benchmark's own speaks the API of Subsonic in a process of its own and takes so many
milliseconds for every page. The library is imported from nothing, and then again without changes;
printed are wall time, processor time and the peak of memory of each.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

ALBUM, PER_ARTIST, PAGE = 11, 23, 500


def song(number: int) -> dict[str, object]:
    """Make a song as Navidrome sends it."""
    artist = number // PER_ARTIST
    name = f"Artist number {artist}"
    return {
        "id": f"{number:022x}",
        "parent": f"{number // ALBUM:022x}",
        "isDir": False,
        "title": f"A song called {number}",
        "album": f"Album {number // ALBUM}",
        "artist": name,
        "artistId": f"a{artist:021x}",
        "albumId": f"{number // ALBUM:022x}",
        "track": number % ALBUM,
        "year": 1960 + number % 60,
        "genre": f"Genre {number % 90}",
        "size": 31_415_926,
        "contentType": "audio/flac",
        "suffix": "flac",
        "duration": 215,
        "path": f"{name}/Album {number // ALBUM}/{number} A song.flac",
        "bitRate": 950,
        "playCount": number % 7,
        "created": "2024-05-17T09:21:44Z",
        "type": "music",
        "musicBrainzId": f"{number:08x}-0000-4000-8000-{number:012x}",
        "isVideo": False,
        "genres": [{"name": f"Genre {number % 90}"}, {"name": f"Genre {artist % 400}"}],
        "artists": [{"id": f"a{artist:021x}", "name": name}],
        "displayArtist": name,
        "albumArtists": [{"id": f"a{artist:021x}", "name": name}],
        "replayGain": {},
    }


def serve(songs: int, milliseconds: float) -> None:
    """Answer until killed; the port is the first line."""
    artists = [
        {"id": f"a{x:021x}", "name": f"Artist number {x}", "albumCount": 2}
        for x in range(-(-songs // PER_ARTIST))
    ]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            start = int(form.get("songOffset", ["0"])[0])
            page = [song(x) for x in range(start, min(start + PAGE, songs))]
            content = {
                "search3": {"searchResult3": {"song": page} if page else {}},
                "getArtists": {"artists": {"index": [{"name": "A", "artist": artists}]}},
            }.get(self.path.rpartition("/")[2].removesuffix(".view"), {})
            reply = json.dumps({"subsonic-response": {"status": "ok", **content}}).encode()
            time.sleep(milliseconds / 1000)
            self.send_response(200)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def measure(url: str, folder: Path) -> str:
    """Import in a process of its own."""
    command = [sys.executable, "-m", "undersong", "import", "subsonic", url, str(folder)]
    started = time.monotonic()
    environment = {**os.environ, "UNDERSONG_LOGIN": "ann:secret"}
    done = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    text = done.stdout.read() if done.stdout else ""
    _, status, used = os.wait4(done.pid, 0)
    wall = time.monotonic() - started
    assert status == 0, text
    spent = used.ru_utime + used.ru_stime
    return f"{wall:.1f} s, {spent:.1f} s of processor time, {used.ru_maxrss / 1024:.0f} MB"


def main() -> None:
    """Run the server, and import twice."""
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), float(sys.argv[3]))
    songs, milliseconds = (*sys.argv[1:], *("100000", "20")[len(sys.argv) - 1 :])
    command = [sys.executable, __file__, "serve", songs, milliseconds]
    with (
        tempfile.TemporaryDirectory() as place,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for name in ("first import", "again, nothing changed"):
                print(f"{int(songs):,} songs, {name}: {measure(url, Path(place) / 'catalogue')}")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
