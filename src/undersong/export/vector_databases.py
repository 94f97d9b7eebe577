"""Export to PostgreSQL, with pgvector or without, as a file for psql; and requests for Qdrant."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen
from uuid import NAMESPACE_URL, uuid5

import polars as pl

from undersong.catalogue import Kind
from undersong.errors import DataError, SettingsError, UndersongError
from undersong.export.rows import FORMAT, Rows, note, placing
from undersong.io.files import read_json
from undersong.progress import Progress, silent

Form = Literal["hnsw", "ivfflat", "exact", "plain"]

TABLE = re.compile(r"[a-z_][a-z0-9_]{0,40}")
INDEXED_WIDTH = 2000  # numbers of the longest vector that pgvector indexes
# What COPY gives a meaning. Text of PostgreSQL has no place for the character NUL.
COPY = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": "\N{REPLACEMENT CHARACTER}"}
IN_ARRAY = {"\\": r"\\", '"': r"\""}

HEAD = """\
-- {about}
-- Load it with: psql -f FILE DATABASE
-- The table is made aside and takes its place at the end, in one transaction.
\\set ON_ERROR_STOP on
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
{extension}
BEGIN;
DO $check$ BEGIN
  IF coalesce(obj_description(to_regclass('{table}'), 'pg_class'), '') NOT LIKE 'undersong %'
     AND to_regclass('{table}') IS NOT NULL THEN
    RAISE EXCEPTION 'undersong did not make the table {table} that is here; take another --table';
  END IF;
END $check$;
CREATE TABLE {table}_next (
  {columns}
);
COMMENT ON TABLE {table}_next IS '{about}';
COPY {table}_next FROM stdin;
"""
FOOT = """\
\\.
{index}
DROP TABLE IF EXISTS {table};
ALTER TABLE {table}_next RENAME TO {table};
COMMIT;
ANALYZE {table};

-- The ten items most similar to one, by cosine:
--   SELECT id, name, {cosine} AS cosine
--   FROM {table} WHERE id <> 'ID'
--   ORDER BY {order} LIMIT 10;
"""
ONE = "(SELECT embedding FROM {table} WHERE id = 'ID')"
COSINE = """\
CREATE OR REPLACE FUNCTION undersong_cosine(a real[], b real[]) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $cosine$
  SELECT sum(x::double precision * y) / nullif(sqrt(sum(x::double precision * x)
    * sum(y::double precision * y)), 0) FROM unnest(a, b) AS pair(x, y)
$cosine$;
"""


def write_sql(
    rows: Rows,
    out: Path,
    *,
    form: Form = "hnsw",
    table: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> None:
    """Write a script for psql that makes a table of id, what is known, and embedding.

    Loaded again, a later export replaces the table in one step; a table that undersong did not
    make is refused there. In names the character NUL, which PostgreSQL cannot hold, becomes U+FFFD.

    Parameters
    ----------
    form : which index
        "hnsw" or "ivfflat" of pgvector by cosine, "exact" for pgvector without an index, or
        "plain" for a server without pgvector: real[] and a function undersong_cosine.
    table : its name, lower-case letters, digits and _; undersong_artists or undersong_tracks

    Raises
    ------
    SettingsError
        If the name of the table is none, or the vectors are too long for an index.
    DataError
        If an id holds NUL, or something foreign stands at ``out`` and not ``force``.
    """
    name = table or f"undersong_{rows.origin['kind']}s"
    _check(rows, form, name)
    about = rows.origin | {"target": "pgvector", "table": name, "index": form}
    with placing(out, about, force=force) as (temporary,), temporary.open("wb") as file:
        file.write(_head(rows, form, name).encode())
        for block in rows.blocks("sql", progress):
            _copy(block, file, brackets="{}" if form == "plain" else "[]")
        file.write(_foot(rows, form, name).encode())


def _check(rows: Rows, form: Form, table: str) -> None:
    if not TABLE.fullmatch(table):
        raise SettingsError(
            f"table {table!r} is no name for a table; take lower-case letters, digits and _, "
            "41 at most, such as undersong_artists"
        )
    if form in ("hnsw", "ivfflat") and rows.width > INDEXED_WIDTH:
        raise SettingsError(
            f"pgvector indexes vectors of {INDEXED_WIDTH} numbers at most, these have "
            f"{rows.width}; take --index exact"
        )


def _head(rows: Rows, form: Form, table: str) -> str:
    origin = rows.origin
    about = (
        f"undersong {origin['undersong']}: {origin['items']} {origin['kind']}s, "
        f"{origin['embedding']} embedding of generation {origin['generation']}, "
        f"content {origin['content']}"
    )
    columns = ["id text PRIMARY KEY"]
    columns += [f'"{name}" {_type(kind)}' for name, kind in rows.known().items()]
    columns += [f"embedding {'real[]' if form == 'plain' else f'vector({rows.width})'} NOT NULL"]
    return HEAD.format(
        about=about,
        table=table,
        columns=",\n  ".join(columns),
        extension=COSINE if form == "plain" else "CREATE EXTENSION IF NOT EXISTS vector;",
    )


def _foot(rows: Rows, form: Form, table: str) -> str:
    on = f"CREATE INDEX ON {table}_next USING {form} (embedding vector_cosine_ops)"
    # Lists as pgvector's documentation advises: a thousandth of the rows, the root above a million.
    lists = max(1, min(rows.count // 1000, round(rows.count**0.5)))
    indexes = {"hnsw": f"{on};", "ivfflat": f"{on} WITH (lists = {lists});"}
    query = ONE.format(table=table)
    if form == "plain":
        cosine, order = f"undersong_cosine(embedding, {query})", "cosine DESC"
    else:
        cosine, order = f"1 - (embedding <=> {query})", f"embedding <=> {query}"
    return FOOT.format(table=table, index=indexes.get(form, ""), cosine=cosine, order=order)


def _type(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List):
        return "text[]"
    if isinstance(kind, pl.Boolean):
        return "boolean"
    if kind.is_integer():
        return "bigint"
    return "double precision" if kind.is_float() else "text"


def _copy(block: pl.DataFrame, file: BinaryIO, *, brackets: str) -> None:
    """Write one line per item in the text format of COPY."""
    held = block.filter(pl.col("id").str.contains("\0", literal=True))["id"]
    if len(held):
        raise DataError(f"PostgreSQL cannot hold the id {held[0]!r}, which has a NUL; rename it")
    numbers = pl.col("vector").arr.to_list().list.eval(pl.element().cast(pl.String)).list.join(",")
    cells = [_cell(name, kind) for name, kind in block.drop("vector").schema.items()]
    cells.append(pl.concat_str(pl.lit(brackets[0]), numbers, pl.lit(brackets[1])).alias("vector"))
    block.select(cells).write_csv(
        file, separator="\t", include_header=False, quote_style="never", null_value=r"\N"
    )


def _cell(name: str, kind: pl.DataType) -> pl.Expr:
    cell = pl.col(name)
    if isinstance(kind, pl.List):
        quote = pl.lit('"')
        word = pl.concat_str(quote, pl.element().str.replace_many(IN_ARRAY), quote)
        words = cell.list.drop_nulls().list.eval(word).list.join(",")
        cell = pl.concat_str(pl.lit("{"), words, pl.lit("}"))
        return cell.str.replace_many(COPY).alias(name)
    return cell.str.replace_many(COPY) if kind == pl.String else cell


POINTS = 256  # of one request: 128 numbers each are half a megabyte; a server takes 32 MB


def write_requests(
    rows: Rows, out: Path, *, force: bool = False, progress: Progress = silent
) -> None:
    """Write a JSON Lines file of which each line is the body of one "upsert points" request.

    A point has the UUID of ``point``, the vector, and as payload the item's id and what is known
    of it. The note beside it says under ``collection`` which body makes the collection.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.

    Source: Qdrant REST API, PUT /collections/{name}/points.
    """
    about = rows.origin | {
        "target": "qdrant",
        "collection": {"vectors": {"size": rows.width, "distance": "Cosine"}},
    }
    with placing(out, about, force=force) as (temporary,), temporary.open("wb") as file:
        for block in rows.blocks("qdrant", progress):
            for body in _bodies(block, rows.origin["kind"]):
                file.write(body.encode() + b"\n")


def point(kind: Kind, item: str) -> str:
    """Id of an item's point, the same in every generation; Qdrant takes numbers and UUIDs only."""
    return str(uuid5(NAMESPACE_URL, f"undersong:{kind}:{item}"))


def _bodies(block: pl.DataFrame, kind: Kind) -> Iterator[str]:
    points = block.select(
        pl.Series("id", [point(kind, item) for item in block["id"]], dtype=pl.String),
        "vector",
        pl.struct(pl.exclude("vector")).alias("payload"),
    )
    for part in points.iter_slices(POINTS):
        lines = part.write_ndjson().rstrip("\n").split("\n")
        yield f'{{"points":[{",".join(lines)}]}}'


KEY = "QDRANT_API_KEY"
SECONDS = 60  # that one request may take


def send(out: Path, url: str, *, alias: str, progress: Progress = silent) -> str:
    """Send what ``write_requests`` wrote and return the name of the new collection.

    Readers ask the alias. It moves when every point has arrived, so they see all of the old
    points or all of the new. A transfer that broke off is continued by the same call; the old
    collection stays until somebody deletes it. The environment variable QDRANT_API_KEY, where
    set, is sent as the key.

    Raises
    ------
    SettingsError
        If ``url`` is no http or https address.
    UndersongError
        If the server cannot be reached, refuses, or counts other points than were sent.

    Source: Qdrant REST API: collections, points, aliases.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise SettingsError(f"{url!r} is no address; write it as http://localhost:6333")
    server = url.rstrip("/")
    about = read_json(note(out), version=FORMAT, hint="export again")
    name = f"{alias}-{about['generation']}-{about['files'][out.name]['sha256'][:12]}"
    collection = f"{server}/collections/{quote(name, safe='')}"
    if not _ask(f"{collection}/exists", "GET")["exists"]:
        _ask(collection, "PUT", about["collection"])
    done = 0
    with out.open("rb") as lines:
        for line in lines:
            _ask(f"{collection}/points?wait=true", "PUT", line)
            done = min(done + POINTS, about["items"])
            progress("qdrant upload", done, about["items"])
    count = _ask(f"{collection}/points/count", "POST", {"exact": True})["count"]
    if count != about["items"]:
        raise UndersongError(
            f"{server} counts {count} points in {name}, but {about['items']} were sent; delete the "
            "collection and send again"
        )
    _move(server, alias, name)
    return name


def _move(server: str, alias: str, name: str) -> None:
    """Let the alias name the new collection, in one step also where it named another."""
    known = [x["alias_name"] for x in _ask(f"{server}/aliases", "GET")["aliases"]]
    actions: list[dict[str, Any]] = [{"delete_alias": {"alias_name": alias}}]
    actions = actions if alias in known else []
    actions += [{"create_alias": {"collection_name": name, "alias_name": alias}}]
    _ask(f"{server}/collections/aliases", "POST", {"actions": actions})


def _ask(address: str, method: str, body: bytes | dict[str, Any] | None = None) -> Any:
    """Send one request and give the ``result`` of the reply."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": "application/json"}
    request = Request(address, data=content, headers=headers, method=method)
    if KEY in os.environ:
        # Not sent on to where a server may redirect to.
        request.add_unredirected_header("api-key", os.environ[KEY])
    try:
        with urlopen(request, timeout=SECONDS) as reply:
            return json.load(reply)["result"]
    except HTTPError as error:
        message = error.read(400).decode(errors="replace")
        raise UndersongError(
            f"{method} {address}: {error.code} {error.reason}: {message}"
        ) from error
    except OSError as error:
        raise UndersongError(
            f"{method} {address}: no answer ({error}); see that the server runs, then send again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UndersongError(f"{address} does not answer as Qdrant does ({error!r})") from error
