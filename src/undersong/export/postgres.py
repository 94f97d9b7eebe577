"""Export to PostgreSQL: one file for psql, with the extension pgvector or without."""

import re
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl

from undersong.errors import DataError, SettingsError
from undersong.export.rows import Rows, placing
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
