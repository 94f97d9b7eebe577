"""The service as a process, and its limits: the first line, stops, swaps, copies, bad clients."""

import asyncio
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from threadpoolctl import threadpool_info, threadpool_limits

from spoken import ARTISTS, TRACKS, ask, make_certificate, make_shelf, rename, served, serving
from undersong import runs
from undersong.cli.main import cli
from undersong.cli.serving import is_loopback
from undersong.errors import ArtifactError, DataError, install
from undersong.explanation import data
from undersong.io.files import sha256, write_json
from undersong.pipeline.publish import publish
from undersong.retrieval import precomputed, projection
from undersong.retrieval.run_index import open_index
from undersong.runs import RunReader
from undersong.service import middleware, page, server
from undersong.service.app import make_app
from undersong.service.middleware import Body, Rates
from undersong.service.options import BODY, UPLOAD, ServiceSettings
from undersong.service.snapshot import open_answers, warm

UPLOADING = (
    "POST /api/sounds-like HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n"
)
SIMILAR = "/api/items/artist/artist%203/similar?k=5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_shelf(tmp_path_factory.mktemp("running")).folder


@pytest.fixture(scope="module")
def running(folder):
    """A service that tests share: its process, first line and port."""
    with serving(folder, "--quiet") as found:
        yield found


def test_the_first_line_says_where_with_what_and_in_which_dialects(running):
    process, line, port = running
    assert line.startswith(f"undersong at http://127.0.0.1:{port}: generation 1, ")
    assert f"{ARTISTS} artists and {TRACKS} tracks; dialects: Last.fm, " in line
    assert line.count("\n") == 1
    assert ask(port, "/ready") == (200, b'{"status":"ready","generation":1}')
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


def test_an_answer_is_computed_in_the_thread_of_its_request(monkeypatch):
    threads = []

    def look(self, sockets):
        threads.extend(x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas")

    monkeypatch.setattr(uvicorn.Server, "run", look)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with server.bind("127.0.0.1", 0) as listening, threadpool_limits(2, "blas"):
        server.run(Starlette(), listening)
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert set(threads) == {1}


def test_what_is_answered_from_lists_needs_no_index_and_no_sparse_matrices(tmp_path):
    run = runs.read(make_shelf(tmp_path).folder)
    precomputed.make_lists(open_index(run, "artist"), run.home, kind="artist", length=6)
    named = precomputed.file_of("artist")
    run.manifest["files"][named] = sha256(run.home / named)
    write_json(run.home / "manifest.json", run.manifest)
    program = (
        "import sys; from pathlib import Path; from undersong import runs\n"
        "from undersong.service import app, routes, server\n"
        "from undersong.service.snapshot import open_answers\n"
        "from undersong.retrieval.query import Query\n"
        "answers = open_answers(runs.read(Path(sys.argv[1])))\n"
        "print(len(answers.look_up('artist', 'artist 3', Query(k=5))))\n"
        "print('scipy.sparse' in sys.modules, 'index' in vars(answers.of('artist')))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["5", "False", "False"]


def test_two_copies_answer_alike_and_what_has_begun_ends_when_one_is_stopped(folder, running):
    paths = [f"/api/items/artist/artist%20{x}/similar?k=7&diversity=.3" for x in range(ARTISTS)]
    paths += ["/api/search?kind=track&q=song", "/api/path?kind=artist&a=artist%201&b=artist%202"]
    with serving(folder) as (process, _, port):
        assert [ask(port, x) for x in paths] == [ask(running[2], x) for x in paths]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(UPLOADING.encode() + b"Content-Length: 4\r\n\r\n")
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None, "it waits for the rest"
            client.sendall(b"late")
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")
        assert process.wait(20) == 0
        told = [json.loads(x) for x in process.stderr]
    assert {"event": "generation", "generation": 1} in told
    assert [x["status"] for x in told if "route" in x] == [*[200] * len(paths), 400]


def test_five_gigabytes_are_cut_off_at_the_limit_and_the_client_learns_why(running):
    port = running[2]
    piece = bytes(1 << 20)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(UPLOADING.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        client.setblocking(False)
        sent, reply, left = 0, b"", b""
        while sent < 5_000_000_000 and not reply:
            can_read, can_write, _ = select.select([client], [client], [], 20)
            if can_read:
                reply = client.recv(4000)
            elif can_write:
                left = left or b"%x\r\n%s\r\n" % (len(piece), piece)
                count = client.send(left)
                sent, left = sent + count, left[count:]
        client.setblocking(True)
        while not reply.endswith(b"}"):
            reply += client.recv(4000)
    assert UPLOAD < sent < 10 * UPLOAD
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"the body has more than 20,065,536 bytes; send less"' in reply


def test_an_announced_length_is_refused_before_anything_is_sent(running):
    with socket.create_connection(("127.0.0.1", running[2]), timeout=20) as client:
        client.sendall(UPLOADING.encode() + b"Content-Length: 5000000000\r\n\r\n")
        assert client.recv(4000).startswith(b"HTTP/1.1 413 ")
    connection = http.client.HTTPConnection("127.0.0.1", running[2], timeout=20)
    connection.request("POST", "/2.0/", body=b"x" * (BODY + 1))
    assert connection.getresponse().status == 413
    connection.close()
    assert ask(running[2], "/health")[0] == 200


def test_a_head_without_end_is_refused(running):
    with socket.create_connection(("127.0.0.1", running[2]), timeout=20) as client:
        client.sendall(b"GET /health HTTP/1.1\r\n")
        head = b"".join(b"X-%d: %s\r\n" % (x, b"y" * 1000) for x in range(20_000))
        with pytest.raises(ConnectionError):  # it was closed
            client.sendall(head)


def test_elsewhere_than_on_loopback_a_token_is_made_and_tls_is_spoken(folder, tmp_path):
    both = make_certificate(tmp_path, "localhost")
    words = ("--host", "0.0.0.0", "--certificate", str(both), "--key", str(both))
    trusted = ssl.create_default_context(cafile=both)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path / "home"))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
        with serving(folder, *words) as (process, line, port):
            assert line.startswith("undersong at https://0.0.0.0:")
            (secret,) = tmp_path.rglob("token")
            token = secret.read_text(encoding="ascii").strip()
            assert len(token) == 43
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
            found = []
            for headers in ({}, {"Authorization": f"Bearer {token}"}):
                client = http.client.HTTPSConnection("localhost", port, context=trusted, timeout=20)
                client.request("GET", SIMILAR, headers=headers)
                found.append(client.getresponse().status)
                client.close()
            assert found == [401, 200]
            process.send_signal(signal.SIGTERM)
            told = process.stderr.read()
            assert str(secret) in told
            assert token not in told


def test_too_many_requests_are_429_with_a_time_to_wait(folder):
    app = make_app(make_shelf(folder / "rated"), ServiceSettings(rate=1))
    with TestClient(app) as client:
        found = [client.get("/health") for _ in range(9)]
    assert [x.status_code for x in found] == [200] * 5 + [429] * 4
    assert found[-1].headers["retry-after"] == "1"
    assert "more than 1 requests a second" in found[-1].json()["error"]


def test_no_request_fails_in_five_swaps_under_load_nor_when_a_generation_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(projection, "lay_out", lambda vectors, **_: vectors[:, :2])
    runs = [make_shelf(tmp_path / str(x)).folder for x in range(2)]
    # The second differs in one name, so that no reply can be of the other generation unseen.
    rename(runs[1], "Artist 3", "Renamed")
    publish(runs[0], tmp_path / "shelf")
    done, seen, faults = threading.Event(), set(), []

    def load(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not done.is_set():
            connection.request("GET", SIMILAR)
            reply = connection.getresponse()
            content = json.loads(reply.read())
            name = "Renamed" if content["generation"] % 2 == 0 else "Artist 3"
            if reply.status != 200 or content["item"]["name"] != name:
                faults.append((reply.status, content))
            seen.add(content["generation"])
        connection.close()

    with serving(tmp_path / "shelf", "--quiet") as (process, _, port):
        clients = [threading.Thread(target=load, args=(port,)) for _ in range(3)]
        for client in clients:
            client.start()
        for turn in range(5):
            publish(runs[(turn + 1) % 2], tmp_path / "shelf")
            end = time.monotonic() + 20
            while turn + 2 not in seen and time.monotonic() < end:
                time.sleep(0.01)
        done.set()
        for client in clients:
            client.join()
        (tmp_path / "shelf" / "current.json").write_text('{"format": 1, "generation": "99"}')
        refused = next(
            x for x in (json.loads(line) for line in process.stderr) if x.get("event") == "refused"
        )
        assert ask(port, "/ready") == (200, b'{"status":"ready","generation":6}')
        assert b"undersong_refused_generations_total 1.0" in ask(port, "/metrics")[1]
    assert "99/manifest.json is missing" in refused["error"]
    assert faults == []
    assert seen == set(range(1, 7))


def test_what_reasons_are_told_from_may_be_foreign_and_the_rest_answers(tmp_path):
    folder, lines = make_shelf(tmp_path).folder, []
    home = folder / "generations" / "1"
    (home / "reasons").mkdir()
    manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
    for name in (data.ITEMS, data.WITHOUT):
        (home / name).write_bytes(b"no such file of ours")
        manifest["files"][name] = sha256(home / name)
    del manifest["sum"]  # it is edited on purpose
    write_json(home / "manifest.json", manifest)
    reader = RunReader(folder, opening=open_answers, readying=warm)
    with TestClient(make_app(reader, ServiceSettings(), log=lines.append)) as client:
        assert client.get(SIMILAR).status_code == 200
        assert client.get(f"{SIMILAR}&reasons=true").status_code == 503
        limit = time.monotonic() + 20
        while not any('"damaged"' in x for x in lines):
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert "reasons/items.parquet cannot be read" in next(x for x in lines if '"damaged"' in x)
    shutil.copytree(home, folder / "generations" / "2")
    write_json(folder / "current.json", {"format": 1, "generation": "2"})
    with pytest.raises(
        ArtifactError, match="generation 2 of .* is refused: .*items.parquet cannot be read"
    ):
        reader.refresh()
    assert reader.current.generation == 1


def test_a_file_is_hashed_once_and_again_when_it_was_replaced(tmp_path, monkeypatch):
    folder, hashed = make_shelf(tmp_path).folder, []
    monkeypatch.setattr("undersong.runs.check", lambda path, expected: hashed.append(path.name))
    run = runs.read(folder)
    with run.checking():
        pass
    open_answers(run)
    assert sorted(hashed) == sorted(Path(x).name for x in run.manifest["files"])
    os.utime(run.home / "items.parquet", (1, 1))
    run.items("artist")
    assert hashed[len(run.manifest["files"]) :] == ["items.parquet"]


def test_a_token_file_that_others_read_or_that_says_nothing_is_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text("x" * 20)
    path.chmod(0o644)
    with pytest.raises(DataError, match=r"others can read the token in .*chmod 600"):
        middleware.read_token(path)
    path.chmod(0o600)
    assert middleware.read_token(path) == "x" * 20
    path.write_text("short\n")
    with pytest.raises(DataError, match="a token of 5 characters; write 16 or more"):
        middleware.read_token(path)
    with pytest.raises(DataError, match="cannot be read or made"):
        middleware.read_token(path / "below")


def test_an_address_in_use_a_folder_that_is_none_and_a_bad_certificate_are_one_line_each(
    folder, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = CliRunner().invoke(cli, ["serve", str(folder), "--port", port])
    assert found.exit_code == 1
    assert re.fullmatch(r"Error: cannot listen at 127.0.0.1 port \d+: .*--port\n", found.stderr)
    found = CliRunner().invoke(cli, ["serve", str(tmp_path), "--port", "0"])
    assert "current.json is missing" in found.stderr
    (tmp_path / "c.pem").write_text("no certificate")
    words = ["--certificate", str(tmp_path / "c.pem"), "--key", str(tmp_path / "c.pem")]
    found = CliRunner().invoke(cli, ["serve", str(folder), "--port", "0", *words])
    assert "cannot be used for TLS" in found.stderr


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
    + [("0.0.0.0", False), ("192.168.1.2", False), ("::", False), ("music.example", False)],
)
def test_loopback_is_known(host, near):
    assert is_loopback(host) is near


def test_a_client_that_never_ends_its_head_is_cut_off(folder, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    again = make_shelf(folder / "again")
    with served(again, http=server.Impatient, log_config=None) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost:")
            began = time.monotonic()
            assert slow.recv(100) == b""
            assert 0.2 < time.monotonic() - began < 15
        with socket.create_connection(("127.0.0.1", port), timeout=20) as quick:
            for _ in range(2):
                quick.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert quick.recv(1000).startswith(b"HTTP/1.1 200 ")
                time.sleep(0.5)


def test_a_body_that_comes_too_slowly_is_408(monkeypatch):
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.05)

    async def never():
        await asyncio.sleep(60)

    with pytest.raises(HTTPException, match="did not arrive within 0.05 s") as refusal:
        asyncio.run(Body(never, never, most=10).receive())
    assert refusal.value.status_code == 408


def test_an_address_may_ask_at_its_rate_and_others_are_not_held_up():
    now = [0.0]
    rates = Rates(2.0, clock=lambda: now[0])
    assert [rates.allow("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert rates.allow("b")
    now[0] = 0.6
    assert [rates.allow("a") for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [rates.allow("a") for _ in range(11)] == [True] * 10 + [False]


def test_only_so_many_addresses_are_remembered(monkeypatch):
    monkeypatch.setattr(middleware, "ADDRESSES", 3)
    rates = Rates(0.5, clock=lambda: 0.0)
    for address in "abcd":
        rates.allow(address)
        rates.allow(address)
    assert rates.allow("a"), "it was forgotten"
    assert not rates.allow("d")


def test_any_address_of_the_page_is_the_page_and_no_path_leads_out_of_it(tmp_path, monkeypatch):
    (tmp_path / "web" / "parts").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text("<!doctype html>", encoding="utf-8")
    (tmp_path / "web" / "parts" / "map.js").write_text("export {}", encoding="utf-8")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    monkeypatch.setattr(page, "files", lambda package: tmp_path)
    with TestClient(make_app(make_shelf(tmp_path / "shelf"), ServiceSettings())) as client:
        browser = {"Accept": "text/html,*/*"}
        for path in ("/", "/artist/some/one", "/map"):
            found = client.get(path, headers=browser)
            assert (found.text, found.headers["content-type"]) == (
                "<!doctype html>",
                "text/html; charset=utf-8",
            )
        script = client.get("/parts/map.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        tag = {"If-None-Match": script.headers["etag"]}
        assert client.get("/parts/map.js", headers=tag).status_code == 304
        for path in ("/api/nothing", "/media/nothing/x"):
            assert client.get(path, headers=browser).json()["status"] in (400, 404)
        for path in ("/../secret", "/%2e%2e/secret", "/parts/../../secret", "//secret"):
            assert client.get(path).text != "secret"


def test_the_command_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [x for x in sys.modules if x.startswith("undersong.service")]:
        monkeypatch.delitem(sys.modules, name)
    import undersong.service

    for name in ("access", "app", "server"):
        monkeypatch.delattr(undersong.service, name, raising=False)
    found = CliRunner().invoke(cli, ["serve", str(folder)])
    assert found.exit_code == 1
    assert install("serve") in found.stderr
