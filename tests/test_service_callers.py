"""Who may call the service: bad connections do not keep others out, and browsers are no friends."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from spoken import ask, make_shelf, served, serving
from undersong.cli.main import cli
from undersong.errors import ArtifactError
from undersong.io.files import write_json
from undersong.runs import RunReader
from undersong.service import server
from undersong.service.app import make_app
from undersong.service.middleware import is_one_of, network, read_names, read_origins, tidy
from undersong.service.options import HEAD, ServiceSettings
from undersong.service.snapshot import open_answers

SIMILAR = "/api/items/artist/artist%203/similar?k=5"
PLAYER = "https://player.example"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return make_shelf(tmp_path_factory.mktemp("callers"))


def impatient(reader):
    """Serve it with the HTTP of the real service; gives the port."""
    return served(reader, http=server.Impatient, log_config=None)


def connect(port, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def reply_to(port, request):
    """What comes back for some bytes: all until the connection is closed, if that was asked for."""
    with connect(port) as client:
        client.sendall(request)
        reply = client.recv(4000)
        while b"Connection: close" in request and (more := client.recv(100_000)):
            reply += more
        return reply


def seconds_until_closed(client, *, dripping=b"", most=8.0):
    """Wait for the other side to close; None if it does not. Meanwhile send bytes one by one."""
    begin, client_end = time.monotonic(), time.monotonic() + most
    client.settimeout(0.05)
    while time.monotonic() < client_end:
        try:
            if dripping:
                client.sendall(dripping)
            if not client.recv(100_000):
                return time.monotonic() - begin
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - begin
    return None


@pytest.fixture(scope="module")
def strict(reader):
    """The service as the command starts it on loopback, with a name and a site that are let in."""
    words = ("--quiet", "--host-name", "music.example", "--cors", f"{PLAYER}/")
    with serving(reader.folder, *words) as (_, _, port):
        yield port


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:8765", 200), ("[::1]:80", 200), ("LOCALHOST.:9", 200)]
    + [("music.example", 200), ("Music.Example:443", 200), ("app.localhost", 200)]
    + [("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421)]
    + [("10.1.2.3", 421), ("", 421), ("localhost:", 421), ("a@localhost", 421), ("é.example", 421)],
)
def test_only_names_that_are_ours_are_answered(strict, host, status):
    for path in (SIMILAR, "/", "/media/track/x", "/openapi.json"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        head = reply_to(strict, request.encode("latin-1")).split(b"\r\n")[0]
        assert (head.startswith(b"HTTP/1.1 421 ")) is (status == 421), (path, head)
    text = reply_to(
        strict, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
    ).decode()
    assert ("--host-name" in text) is (status == 421)


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_a_request_without_a_host_or_with_two_is_refused(strict, hosts):
    text = reply_to(strict, b"GET /health HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n")
    assert text.startswith(b"HTTP/1.1 400 ")
    assert b"headers Host; send one" in text


def test_where_every_address_is_ours_names_are_not():
    every = read_names(["0.0.0.0"])
    assert is_one_of("192.168.1.9:8765", every)
    assert not is_one_of("evil.example", every)
    assert is_one_of("[fe80::1]:9", read_names(["::"]))
    assert not is_one_of("192.168.1.9", read_names(["192.168.1.8"]))
    assert is_one_of("nas.local:80", read_names(["NAS.local."]))


POSTS = ("/api/sounds-like", "/rest/ping.view", "/2.0/", "//api//sounds-like/")


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"Origin": "http://localhost:{port}"}, False),
        ({"Origin": "https://localhost:{port}", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": PLAYER, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://localhost:1"}, True),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
    ],
)
def test_pages_of_other_sites_neither_send_files_nor_play_media(strict, headers, foreign):
    sent = {k: v.format(port=strict) for k, v in headers.items()} | {"Host": f"localhost:{strict}"}
    for method, path in [*(("POST", x) for x in POSTS), ("GET", "/media/track/track%203")]:
        connection = http.client.HTTPConnection("127.0.0.1", strict, timeout=20)
        connection.request(method, path, headers=sent)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        assert (reply.status == 403) is foreign, (method, path, reply.status)
        assert (b"may not ask for this" in content) is foreign
    assert ask(strict, SIMILAR, **sent)[0] == 200, "what only reads is answered, and unreadable"


def test_only_pages_of_sites_that_are_named_may_read_replies(strict):
    def headers(origin, method="GET", path="/rest/ping.view?f=json", **more):
        connection = http.client.HTTPConnection("127.0.0.1", strict, timeout=20)
        connection.request(method, path, headers={"Origin": origin, **more})
        reply = connection.getresponse()
        reply.read()
        connection.close()
        return reply

    asking = {"Access-Control-Request-Method": "POST"}
    preflight = headers(PLAYER, "OPTIONS", **asking)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == PLAYER
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for path in ("/rest/ping.view", "/api/nothing", SIMILAR):
        assert headers(PLAYER, path=path).headers["access-control-allow-origin"] == PLAYER
        assert headers(PLAYER, path=path).headers["vary"] == "Origin"
    for origin in ("https://evil.example", "null", "http://player.example", PLAYER + ".evil"):
        assert headers(origin).headers["access-control-allow-origin"] is None
        other = headers(origin, "OPTIONS", **asking)
        assert (other.status, other.headers["access-control-allow-origin"]) == (405, None)


def test_without_the_option_no_site_is_named(reader):
    with TestClient(make_app(reader, ServiceSettings())) as client:
        asking = {"Origin": PLAYER, "Access-Control-Request-Method": "GET"}
        assert client.options("/rest/ping.view", headers=asking).status_code == 405
        assert "access-control-allow-origin" not in client.get("/health", headers=asking).headers


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--cors", "*"], "'*' is no origin; give --cors as in https://player.example"),
        (["--cors", "null"], "'null' is no origin"),
        (["--cors", "player.example"], "'player.example' is no origin"),
        (["--host-name", "https://music.example"], "'https://music.example' is no name of a host"),
        (["--host-name", "music.example:80"], "'music.example:80' is no name of a host"),
        (["--host-name", "*"], "'*' is no name of a host"),
    ],
)
def test_what_is_no_origin_or_name_is_one_line(reader, words, line):
    outcome = CliRunner().invoke(cli, ["serve", str(reader.folder), "--port", "0", *words])
    assert (outcome.exit_code, outcome.stderr.count("\n")) == (1, 1)
    assert line in outcome.stderr


def test_origins_are_read_as_browsers_send_them():
    named = ["HTTPS://Player.example:443/", "http://localhost:3000", "capacitor://localhost"]
    assert read_origins(named) == {
        "https://player.example",
        "http://localhost:3000",
        "capacitor://localhost",
    }


def test_slashes_too_many_are_passed_over_but_not_those_of_an_id(strict):
    for path in ("//rest/ping.view", "/rest/ping.view/", "/rest//ping.view", "///rest//ping//"):
        status, content = ask(strict, f"{path}?f=json")
        assert (status, json.loads(content)["subsonic-response"]["status"]) == (200, "ok"), path
    assert ask(strict, "//health/")[0] == 200
    assert tidy("//api/items/artist/a//b/") == "/api/items/artist/a//b/"
    assert (tidy("/"), tidy("//"), tidy("/2.0/")) == ("/", "/", "/2.0")


@pytest.mark.parametrize("dripping", [b"", b"x", b"\r\n"])
def test_a_byte_after_a_reply_keeps_no_connection(reader, monkeypatch, dripping):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with impatient(reader) as port, connect(port) as client:
        length = b"" if dripping == b"\r\n" else b"Content-Length: 60000\r\n"
        client.sendall(HEALTH + length + b"\r\n")
        assert client.recv(4000).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"x" if length else b"\r\n")
        assert seconds_until_closed(client, dripping=dripping) is not None


def test_a_head_that_drips_is_cut_off(reader, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.4)
    with impatient(reader) as port, connect(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: ")
        assert seconds_until_closed(client, dripping=b"x") is not None


@pytest.mark.parametrize("count", [1, 70])
def test_replies_that_nobody_reads_are_given_up(reader, monkeypatch, count):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.4)
    lost = threading.Event()
    kept = server.Impatient.connection_lost

    def connection_lost(self, exc):
        kept(self, exc)
        lost.set()

    monkeypatch.setattr(server.Impatient, "connection_lost", connection_lost)
    with impatient(reader) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall((b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n") * count)
        assert lost.wait(15), "the connection is held"


def test_a_head_has_so_many_bytes_and_not_one_more(reader):
    def request(size):
        rest = size - len(HEALTH) - len(b"X: \r\n")
        return HEALTH + b"X: " + b"y" * rest + b"\r\n\r\n"

    with impatient(reader) as port:
        assert reply_to(port, request(HEAD - 100)).startswith(b"HTTP/1.1 200 ")
        for size in (HEAD + 100, 40_000, 90_000):
            assert reply_to(port, request(size)).startswith(b"HTTP/1.1 400 "), size
        # The body of the same read is not of the head.
        body = b"Content-Length: 60000\r\n\r\n" + bytes(60_000)
        assert reply_to(port, HEALTH + body).startswith(b"HTTP/1.1 200 ")


def test_many_connections_of_one_address_keep_nobody_out(reader, monkeypatch):
    monkeypatch.setattr(server, "OF_ADDRESS", 12)
    with impatient(reader) as port, ExitStack() as stack:
        held = [stack.enter_context(connect(port, "127.0.0.2")) for _ in range(45)]
        for client in held[::2]:
            client.sendall(HEALTH)
        deadline = time.monotonic() + 10
        while _open(held) > 12 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _open(held) == 12
        for source in ("127.0.0.1", "127.0.0.2"):
            with connect(port, source) as client:
                client.sendall(HEALTH + b"\r\n")
                assert client.recv(4000).startswith(b"HTTP/1.1 200 ")


def test_connections_of_many_addresses_keep_nobody_out(reader, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 20)
    with impatient(reader) as port, ExitStack() as stack:
        held = [stack.enter_context(connect(port, f"127.0.1.{x + 1}")) for x in range(33)]
        with connect(port) as client:
            client.sendall(HEALTH + b"\r\n")
            assert client.recv(4000).startswith(b"HTTP/1.1 200 ")
        assert _open(held) < 20


def _open(clients):
    """How many connections the other side has not closed."""
    count = 0
    for client in clients:
        client.setblocking(False)
        try:
            count += client.recv(100) != b""
        except BlockingIOError:
            count += 1
        except OSError:
            continue
    return count


def test_addresses_of_version_6_count_by_the_network_that_one_client_has():
    assert network("2001:db8:0:1::5") == network("2001:db8:0:1:ffff::9")
    assert network("2001:db8:0:1::5") != network("2001:db8:0:2::5")
    assert network("::ffff:10.0.0.7") == "10.0.0.7"
    assert network("fe80::1%eth0") == network("fe80::2")
    assert (network("10.0.0.7"), network("testclient")) == ("10.0.0.7", "testclient")


def test_no_invented_address_gets_a_rate_of_its_own(reader):
    with serving(reader.folder, "--quiet", "--rate", "1") as (_, _, port):
        statuses = [ask(port, "/health", **{"X-Forwarded-For": f"10.0.0.{x}"})[0] for x in range(9)]
    assert statuses.count(429) >= 3


def test_the_scheme_of_a_proxy_is_believed(strict):
    query = "/2.0/?method=artist.getsimilar&artist=Artist%203&format=json"
    forwarded = {"X-Forwarded-Proto": "https", "Host": "music.example"}
    assert b"https://music.example/" in ask(strict, query, **forwarded)[1]


def test_a_hangup_stops_it_as_gracefully_as_sigterm(reader):
    usual = signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # tests under nohup hand on that it is ignored
    try:
        with serving(reader.folder, "--quiet") as (process, _, _):
            process.send_signal(signal.SIGHUP)
            assert process.wait(20) == 0
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_a_generation_that_arrives_after_its_pointer_is_used_once_it_is_whole(tmp_path):
    first, second = make_shelf(tmp_path / "a").folder, make_shelf(tmp_path / "b").folder
    reader = RunReader(first, opening=open_answers)
    write_json(first / "current.json", {"format": 1, "generation": "2"})
    with pytest.raises(ArtifactError, match="2/manifest.json is missing"):
        reader.refresh()
    assert not reader.refresh()
    arriving, whole = first / "generations" / "2", second / "generations" / "1"
    arriving.mkdir()
    files = sorted(x for x in whole.rglob("*") if x.is_file())
    for path in files[1:]:
        copy = arriving / path.relative_to(whole)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
        assert not reader.refresh(), "it still arrives"
    with pytest.raises(ArtifactError, match="generation 2 of"):
        reader.refresh()
    shutil.copy2(files[0], arriving / files[0].relative_to(whole))
    assert not reader.refresh()
    assert reader.refresh()
    assert reader.current.generation == 2
    assert not reader.refresh()


def test_uploads_are_counted_before_they_are_received(reader):
    """Two may come in; further ones are refused while these have sent their first bytes alone."""
    head = (
        b"POST /api/sounds-like HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    with served(reader) as port, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(port)).sendall(head)
        time.sleep(0.3)
        for _ in range(4):
            text = reply_to(port, head)
            assert text.startswith(b"HTTP/1.1 503 ")
            assert b"other files are being heard" in text
    with served(reader) as port:
        for _ in range(3):  # a client that leaves gives its turn back
            with connect(port) as client:
                client.sendall(head)
            time.sleep(0.2)
        with connect(port) as client:
            client.sendall(head)
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(10)


def test_a_disk_that_is_full_is_a_line(reader, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("undersong.service.routes.tempfile.TemporaryDirectory", full)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        reply = client.post("/api/sounds-like", files={"file": ("x.wav", b"x" * 99)})
    assert reply.status_code == 507
    assert "No space left on device" in reply.json()["error"]


BARE = """
import sys
EXTRAS = ("torch", "implicit", "soundfile", "soxr", "mutagen", "av", "matplotlib", "optuna",
          "faiss", "onnx", "onnxruntime", "onnxscript", "openTSNE", "anyascii", "msgspec",
          "zstandard", "ray")

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Bare())
from pathlib import Path
from starlette.testclient import TestClient
from undersong.runs import RunReader
from undersong.service.app import make_app
from undersong.service.options import ServiceSettings
from undersong.service.snapshot import open_answers

app = make_app(RunReader(Path(sys.argv[1]), opening=open_answers), ServiceSettings())
item = "/api/items/artist/artist%203"
with TestClient(app, raise_server_exceptions=False) as client:
    replies = [client.post("/api/sounds-like", files={"file": ("x.wav", b"x")})]
    replies += [client.get(x) for x in (
        item, item + "/similar?diversity=.3", item + "/similar?also=artist%201",
        item + "/similar?genre=genre%201", item + "/similar?reasons=true", "/api/search?q=zo",
        "/api/explain?kind=artist&a=artist%201&b=artist%202", "/api/map?kind=artist",
        "/api/path?kind=artist&a=artist%201&b=artist%202", "/rest/getTopSongs?artist=zoe",
        "/openapi.json", "/metrics", "/api/regions?kind=track", "/api/report")]
print([x.status_code for x in replies], replies[0].text)
"""


def test_what_needs_an_extra_is_501_in_one_line_and_nothing_is_500(reader):
    done = subprocess.run(
        [sys.executable, "-c", BARE, reader.folder], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout[: done.stdout.index("]") + 1])
    assert statuses[0] == 501
    assert 500 not in statuses
    assert "pip install" in done.stdout or "learned the sound of no artist" in done.stdout


def test_a_package_that_is_missing_is_501_wherever_it_is_imported(reader, monkeypatch):
    def lacking(*_, **__):
        raise ModuleNotFoundError("No module named 'soxr'", name="soxr.more")

    monkeypatch.setattr("undersong.service.snapshot.Snapshot.explain", lacking)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        reply = client.get("/api/explain?kind=artist&a=artist%201&b=artist%202")
    assert reply.status_code == 501
    assert reply.json()["error"] == "this service is installed without soxr, which this needs"
