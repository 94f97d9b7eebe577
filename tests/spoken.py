"""A catalogue with hostile names, and a real server of it for real clients; no training."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
import uvicorn

from undersong import runs
from undersong.catalogue import attributes
from undersong.embeddings import Embeddings
from undersong.io.files import sha256, write_json
from undersong.runs import RunReader
from undersong.service.app import make_app
from undersong.service.options import ServiceSettings
from undersong.service.snapshot import open_answers

ARTISTS, TRACKS, GROUPS, WIDTH = 23, 58, 4, 7
HOSTILE = {
    0: "AC/DC & <b>Friends</b>",
    4: "O\"Neill's ]]> 椎名林檎",
    8: "nul\0bell\a\ufffe",
    12: "Zoë",
}
NAMES = [HOSTILE.get(x, f"Artist {x}") for x in range(ARTISTS)]
TOKEN = "a-token-of-32-characters-or-so.."
NO_TORCH = """
import sys
from undersong.cli.main import main


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked", name=name)


sys.meta_path.insert(0, NoTorch())
sys.argv = ["undersong", *sys.argv[1:]]
main()
"""


def mbid(kind, number):
    """The MusicBrainz id of an artist or track; every third artist and fifth track has none."""
    start = {"artist": "aaaaaaaa", "track": "bbbbbbbb"}[kind]
    return f"{start}-0000-4000-8000-{number:012}"


def artist_of(track):
    """Number of a track's artist: the first six have three or more tracks, the last six none."""
    return track % (ARTISTS - 6)


def make_shelf(folder, *, tracks=True):
    """Artists 0, 4, 8, ... are alike, and so are their tracks; artist 21 has a name alone."""
    generator = np.random.default_rng(5)
    centre = 3 * np.eye(GROUPS, WIDTH)
    rows = [_artist(x) for x in range(ARTISTS)] + [_track(x) for x in range(TRACKS) if tracks]
    table = pl.DataFrame(rows, infer_schema_length=None)
    with runs.publishing(folder, {"kind": "artist", "settings": {"run": {"seed": 3}}}) as home:
        for kind in ("artist", "track")[: 1 + tracks]:
            ids = table.filter(kind=kind)["id"].to_list()
            group = [(x if kind == "artist" else artist_of(x)) % GROUPS for x in range(len(ids))]
            near = centre[group] + generator.normal(size=(len(ids), WIDTH)) / 3
            kept = [x for x in range(len(ids)) if kind == "track" or x != 21]
            vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
            known = Embeddings(tuple(ids[x] for x in kept), vectors[kept])
            known.write(home / "embeddings" / f"{kind}.general.parquet")
        items = table.select("kind", "id", "name", "about", "part", "relations", "popularity")
        items.write_parquet(home / "items.parquet")
        known = table.with_columns(percentile=pl.lit(0.5)).select(*attributes.COLUMNS)
        attributes.write_attributes(
            home / attributes.ATTRIBUTES_FILE, known.cast(pl.Schema(attributes.COLUMNS))
        )
    return RunReader(folder, opening=open_answers)


def _artist(x):
    return _row("artist", x, NAMES[x], "", x % 3 > 0) | {"artist": f"artist {x}", "album": None}


def _track(x):
    artist = artist_of(x)
    album = {"album": f"Album {artist}" if x % 7 else "Greatest Hits"}
    return (
        _row("track", x, f"Song {x} <&>", NAMES[artist], x % 5 > 0)
        | album
        | {"artist": f"artist {artist}"}
    )


def _row(kind, x, name, about, identified):
    return {
        "kind": kind,
        "id": f"{kind} {x}",
        "name": name,
        "about": about,
        "part": "train",
        "relations": x % 2,
        "popularity": float(100 - x) if x % 9 else None,
        "genres": [f"genre {x % GROUPS}"],
        "region": None,
        "decade": None,
        "mbid": mbid(kind, x) if identified else None,
    }


def rename(folder, name, other):
    """Change a name in a run, as if it had been trained so."""
    home = folder / "generations" / "1"
    table = pl.read_parquet(home / "items.parquet")
    table.with_columns(pl.col("name").replace({name: other})).write_parquet(home / "items.parquet")
    manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["items.parquet"] = sha256(home / "items.parquet")
    del manifest["sum"]  # it is edited on purpose
    write_json(home / "manifest.json", manifest)


@contextmanager
def serving(folder, *options):
    """A service of its own without torch; gives the process, its first line and its port."""
    command = [sys.executable, "-c", NO_TORCH, "serve", str(folder), "--port", "0", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, line, int(re.search(r":(\d+): generation", line)[1])
        finally:
            process.kill()


def ask(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


@contextmanager
def served(reader, *, token=None, certificate=None, upstream=None, **options):
    """Serve a shelf with uvicorn on any free port, in a thread; gives the port."""
    app = make_app(reader, ServiceSettings(token=token, upstream=upstream))
    files = {"ssl_certfile": certificate, "ssl_keyfile": certificate} if certificate else {}
    settings = {"log_level": "error"} | files | options
    server = uvicorn.Server(uvicorn.Config(app, port=0, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def make_certificate(folder, *names):
    """A key and a certificate for some names of hosts, signed by itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate for clients that speak only HTTPS")
    key, signed, both = folder / "key.pem", folder / "signed.pem", folder / "both.pem"
    alternatives = ",".join(f"DNS:{x}" for x in names)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=undersong test", "-keyout", key]
    command += ["-out", signed, "-addext", f"subjectAltName={alternatives}"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    both.write_text(signed.read_text() + key.read_text())
    return both


def by_other_python(script, *words, **environment):
    """Run a script with clients that cannot share our environment, and read what it prints."""
    python = os.environ.get("UNDERSONG_CLIENTS")
    if python is None:
        pytest.skip(
            "UNDERSONG_CLIENTS names no Python with troi, which pins an old mutagen, and "
            "py-opensonic: their real requests were not tried"
        )
    command = [python, "-c", script, *map(str, words)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
