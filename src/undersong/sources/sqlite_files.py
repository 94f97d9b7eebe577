"""SQLite files of other programs, read and never written, also while the program runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undersong.errors import DataError

WAL = b"\x02"  # of the byte that says how a file is written to


@contextmanager
def reading(path: Path, *, program: str, tables: tuple[str, ...]) -> Iterator[sqlite3.Connection]:
    """Open a database for reading alone.

    Where changes wait in a write-ahead log, they are read too. Where there is no log nobody
    writes, and the file is opened so that none is made beside it.

    Parameters
    ----------
    program : whose it should be, for the message
    tables : that it must have

    Raises
    ------
    DataError
        If it is no SQLite file, is damaged or locked, or lacks a table.
    """
    remedy = f"give the database of {program}, with the files -wal and -shm beside it"
    try:
        with path.open("rb") as file:
            head = file.read(20)
        waiting = path.with_name(f"{path.name}-wal").exists()
        alone = head[18:19] == WAL and not waiting
        name = path.resolve().as_uri() + ("?mode=ro&immutable=1" if alone else "?mode=ro")
        connection = sqlite3.connect(name, uri=True)
        connection.text_factory = lambda x: x.decode("utf-8", "replace")
        try:
            lacking = [x for x in tables if not columns(connection, x)]
            if lacking:
                raise DataError(f"{path} has no table {lacking[0]}; {remedy}")
            yield connection
        finally:
            connection.close()
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        # SQLite's own message may quote damaged bytes.
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error


def columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Name the columns of a table; none where there is no such table."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return frozenset(x for (x,) in rows)


def select(connection: sqlite3.Connection, table: str, *names: str) -> sqlite3.Cursor:
    """Read columns of a table; what this version of the program lacks is null, or no row."""
    there = columns(connection, table)
    if not there:
        return connection.execute("SELECT 0 WHERE 0")
    wanted = (f'"{x}"' if x in there else "NULL" for x in names)
    return connection.execute(f'SELECT {", ".join(wanted)} FROM "{table}"')
