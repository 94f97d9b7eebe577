"""The Qdrant export is read by the official client, from the file and through HTTP.

The server of these tests speaks HTTP; the client's own models judge each body, and its in-memory
engine holds the points and finds the neighbours.
"""

import json
import re
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner
from qdrant_client import QdrantClient, models

from exported import expected, make_run, nearest_five
from undersong.cli.main import cli
from undersong.errors import SettingsError, UndersongError
from undersong.export import rows, vector_databases
from undersong.export.rows import open_rows
from undersong.export.vector_databases import point, send, write_requests


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("home") / "run")


@pytest.fixture(autouse=True)
def small_requests(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 16)
    monkeypatch.setattr(vector_databases, "POINTS", 7)


@pytest.fixture
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the in-memory engine leaves out
        made = QdrantClient(":memory:")
    yield made
    made.close()


@pytest.fixture
def exported(run, tmp_path):
    write_requests(open_rows(run, "artist"), tmp_path / "a.jsonl")
    return tmp_path / "a.jsonl"


def load(client, exported, name="artists"):
    """What docs/export.md says to do with the file, by the client instead of curl."""
    about = json.loads(exported.with_name("a.jsonl.json").read_text())
    wanted = models.CreateCollection.model_validate(about["collection"])
    client.create_collection(name, vectors_config=wanted.vectors)
    with exported.open(encoding="utf-8") as lines:
        for line in lines:
            points = models.PointsList.model_validate_json(line).points
            client.upsert(name, points)


def test_each_line_is_a_request_of_a_few_points(exported, run):
    with exported.open(encoding="utf-8") as lines:
        sizes = [len(json.loads(line)["points"]) for line in lines]
    assert max(sizes) == 7
    assert sum(sizes) == len(expected(run))


def test_payload_and_vector_come_back(client, exported, run):
    load(client, exported)
    frame = open_rows(run, "artist").frame.collect()
    for wanted in frame.iter_rows(named=True):
        (got,) = client.retrieve("artists", [point("artist", wanted["id"])], with_vectors=True)
        # The in-memory engine, like the server, keeps vectors at length 1.
        assert got.vector == pytest.approx(wanted.pop("vector"), abs=1e-6)
        assert got.payload == wanted


def test_the_five_nearest_are_the_same(client, exported, run):
    load(client, exported)
    known = run.embeddings("artist", "general")
    for row in range(0, len(known.ids), 4):
        asked = point("artist", known.ids[row])
        found = client.query_points("artists", query=asked, limit=5).points
        assert [x.payload["id"] for x in found] == nearest_five(run, row)
        cosine = known.vectors[row] @ known.vectors[known.index[found[0].payload["id"]]]
        assert found[0].score == pytest.approx(float(cosine), abs=1e-5)


def test_the_long_tail_can_be_asked_for(client, exported, run):
    load(client, exported)
    only = models.FieldCondition(key="long_tail", match=models.MatchValue(value=True))
    vector = run.embeddings("artist", "general").vectors[0]
    found = client.query_points(
        "artists", query=vector, query_filter=models.Filter(must=[only]), limit=50
    ).points
    wanted = {x["id"] for x in expected(run) if x["relations"] == 0}
    assert {x.payload["id"] for x in found} == wanted
    assert 0 < len(wanted) < len(expected(run))


def test_a_point_keeps_its_id_and_kinds_do_not_meet():
    assert point("artist", "x") == point("artist", "x") == "fb5d11b4-785a-5c83-8542-5997efc2c684"
    assert len({point("artist", "x"), point("track", "x"), point("artist", "X")}) == 3


# Through HTTP


class Handler(BaseHTTPRequestHandler):
    """The part of Qdrant's REST API that an upload needs."""

    def do_GET(self):
        self.answer(b"")

    def do_PUT(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    do_POST = do_PUT

    def answer(self, body):
        state = self.server.state
        state.asked.append((self.command, self.path, self.headers.get("api-key")))
        code, result = state.reply(self.command, self.path.split("?")[0], body)
        content = json.dumps(result).encode() if not isinstance(result, bytes) else result
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class State:
    """What the server holds. ``fail_at`` breaks off that upsert; ``lose`` forgets points."""

    def __init__(self, client):
        self.client, self.asked, self.upserts = client, [], 0
        self.fail_at, self.lose, self.nonsense = None, False, False

    def reply(self, method, path, body):
        if self.nonsense:
            return 200, b"<html>welcome</html>"
        routes = {
            ("GET", r"/collections/([^/]+)/exists"): self.exists,
            ("PUT", r"/collections/([^/]+)"): self.create,
            ("PUT", r"/collections/([^/]+)/points"): self.upsert,
            ("POST", r"/collections/([^/]+)/points/count"): self.count,
            ("GET", r"/aliases"): self.aliases,
            ("POST", r"/collections/aliases"): self.move,
        }
        for (verb, pattern), route in routes.items():
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                return route(*match.groups(), body)
        return 404, {"status": {"error": f"no route {path}"}}

    def exists(self, name, _):
        return 200, {"result": {"exists": self.client.collection_exists(name)}}

    def create(self, name, body):
        wanted = models.CreateCollection.model_validate_json(body)
        return 200, {"result": self.client.create_collection(name, wanted.vectors)}

    def upsert(self, name, body):
        self.upserts += 1
        if self.upserts == self.fail_at:
            return 507, {"status": {"error": "no space left on disk"}}
        points = models.PointsList.model_validate_json(body).points
        self.client.upsert(name, points[:-1] if self.lose else points)
        return 200, {"result": {"operation_id": self.upserts, "status": "completed"}}

    def count(self, name, body):
        wanted = models.CountRequest.model_validate_json(body)
        assert wanted.exact
        return 200, {"result": {"count": self.client.count(name).count}}

    def aliases(self, _):
        return 200, {"result": self.client.get_aliases().model_dump()}

    def move(self, body):
        actions = models.ChangeAliasesOperation.model_validate_json(body).actions
        return 200, {"result": self.client.update_collection_aliases(actions)}


@pytest.fixture
def server(client):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.state = State(client)
        made.url = f"http://127.0.0.1:{made.server_address[1]}"
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_points_arrive_and_the_alias_answers(server, client, exported, run):
    name = send(exported, server.url + "/", alias="music")
    assert re.fullmatch(r"music-1-[0-9a-f]{12}", name)
    known = run.embeddings("artist", "general")
    asked = point("artist", known.ids[3])
    found = client.query_points("music", query=asked, limit=5).points
    assert [x.payload["id"] for x in found] == nearest_five(run, 3)
    assert client.count(name).count == len(known.ids)


def test_the_alias_moves_to_a_later_export(server, client, run, tmp_path):
    for kind in ("artist", "track"):
        write_requests(open_rows(run, kind), tmp_path / "a.jsonl")
        name = send(tmp_path / "a.jsonl", server.url, alias="music")
    (alias,) = client.get_aliases().aliases
    assert (alias.alias_name, alias.collection_name) == ("music", name)
    assert client.count("music").count == 19
    assert len(client.get_collections().collections) == 2


def test_a_transfer_that_broke_off_is_continued_and_the_alias_waits(server, client, exported, run):
    server.state.fail_at = 3
    with pytest.raises(UndersongError, match=r"PUT .*points.*507.*no space left on disk"):
        send(exported, server.url, alias="music")
    assert client.get_aliases().aliases == []
    send(exported, server.url, alias="music")
    assert client.count("music").count == len(expected(run))
    assert len(client.get_collections().collections) == 1


def test_points_that_got_lost_are_noticed(server, client, exported):
    server.state.lose = True
    with pytest.raises(UndersongError, match=r"counts 3\d points in .*, but 43 were sent"):
        send(exported, server.url, alias="music")
    assert client.get_aliases().aliases == []


def test_the_key_is_sent(server, exported, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    send(exported, server.url, alias="music")
    assert {key for _, _, key in server.state.asked} == {"secret"}


def test_a_server_that_is_not_qdrant_is_named(server, exported):
    server.state.nonsense = True
    with pytest.raises(UndersongError, match="does not answer as Qdrant does"):
        send(exported, server.url, alias="music")


def test_no_server_is_one_clear_error(server, exported):
    server.shutdown()
    server.server_close()
    with pytest.raises(UndersongError, match=r"no answer .*see that the server runs"):
        send(exported, server.url, alias="music")


@pytest.mark.parametrize("url", ["localhost:6333", "file:///etc/passwd", "http://", "qdrant"])
def test_an_address_that_is_none_is_refused(exported, url):
    with pytest.raises(SettingsError, match="is no address; write it as"):
        send(exported, url, alias="music")


def test_the_command_sends_what_it_wrote(server, client, run, tmp_path):
    words = ["export", "qdrant", run.folder, tmp_path / "t.jsonl", "--tracks", "--url", server.url]
    said = CliRunner().invoke(cli, [str(x) for x in words])
    assert said.exit_code == 0, said.output
    (alias,) = client.get_aliases().aliases
    assert alias.alias_name == "undersong_tracks"
    assert said.stdout.endswith(
        f"undersong_tracks at {server.url} is {alias.collection_name} now\n"
    )
    assert client.get_collection(alias.collection_name).config.params.vectors.size == 9
