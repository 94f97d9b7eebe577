"""One file of a user's rows, read as text, with the line or row by which the user finds each.

Text files are CSV: UTF-8 with or without a byte order mark, quotes doubled within quotes,
values parted by comma, semicolon or tab, plain or gzipped. Every value is read as text, so that
an id such as 007 stays as it is; numbers are made from it later.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from undersong.catalogue import LISTED, ROW, Fault, Issues, Sheet, empty_table, whole
from undersong.errors import nearest_known
from undersong.io.table_files import DAMAGE, SEPARATOR, SPACES, UNSEEN, delimiter_of

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")


def header(path: Path, *, file: str, delimiter: str = "") -> tuple[list[str], list[Issues]]:
    """Read the names of the columns, or say why the file cannot be read.

    Parameters
    ----------
    path : of the file
    file : what to call it in a fault
    delimiter : of a text file; "" takes the most frequent one of the header
    """
    if missing := missing_file(path, file=file):
        return [], missing
    if not path.name.lower().endswith(SUFFIXES):
        what = f"ends with none of {', '.join(SUFFIXES)}"
        return [], whole(file, what, sort="unknown type of file", remedy="save it as CSV")
    try:
        if path.suffix.lower() == ".parquet":
            return list(pl.read_parquet_schema(path)), []
        names = next(_records(path, delimiter or _delimiter(path)), (1, []))[1]
        if path.suffix.lower() == ".gz":
            _count_lines(path)  # which reads all of it, for a download may have ended early
    except (OSError, EOFError, zlib.error, *DAMAGE) as error:
        return [], _unreadable(file, error)
    if names is None:
        return [], _places(path, [], delimiter or _delimiter(path), file)[1]
    findings = _undecodable(path, file) if "\ufffd" in "".join(names) else []
    return names, findings or ([] if names else empty_table(file))


def _unreadable(file: str, error: BaseException) -> list[Issues]:
    what = f"cannot be read ({str(error).partition(chr(10))[0]})"
    return whole(file, what, sort="unreadable file", remedy="get or write it again")


def read_sheet(
    path: Path, columns: Mapping[str, str], *, file: str, delimiter: str = ""
) -> tuple[Sheet | None, list[Issues]]:
    """Read some columns of a file; the rows are None where a fault keeps it from being read.

    Parameters
    ----------
    path : of the file
    columns : the name each column is to have -> its name in the file
    file : what to call it in a fault
    delimiter : of a text file; "" takes the most frequent one of the header

    Returns
    -------
    The rows, and the faults. In a text file every value is text and an empty one null; in
    Parquet values are as they are.
    """
    names, findings = header(path, file=file, delimiter=delimiter)
    if findings:
        return None, findings
    for wanted in dict.fromkeys(columns.values()):
        if names.count(wanted) != 1:
            what = f"has {'two columns' if wanted in names else 'no column'} {wanted!r}"
            remedy = f"correct the mapping or the header; {nearest_known(wanted, names)}"
            findings += whole(file, what, sort="missing column", remedy=remedy)
    if findings:
        return None, findings
    needed = list(dict.fromkeys(columns.values()))
    if path.suffix.lower() == ".parquet":
        rows, findings = _read_parquet(path, needed, file)
    else:
        rows, findings = _read_text(path, needed, names, delimiter or _delimiter(path), file)
    if not findings and rows.is_empty():
        findings = empty_table(file)
    if findings:
        return None, findings
    text = [x for x in needed if rows.schema[x] == pl.String]
    unseen = pl.col(text).str.replace_all(UNSEEN, "").str.replace_all(SPACES, " ")
    rows = rows.with_columns(unseen) if text else rows
    return Sheet(file, rows.select(ROW, *(pl.col(y).alias(x) for x, y in columns.items()))), []


def missing_file(path: Path, *, file: str) -> list[Issues]:
    """Return a fault if ``path`` is no file, with the nearest one beside it."""
    if path.is_file():
        return []
    beside = sorted(x.name for x in path.parent.iterdir()) if path.parent.is_dir() else []
    remedy = f"correct `file` or where the data is; {nearest_known(path.name, beside[:20])}"
    return whole(file, f"is no file ({path})", sort="missing file", remedy=remedy)


def decimal_comma(path: Path, *, delimiter: str = "") -> bool:
    """Return whether 1,5 means 1.5 in a file: where a semicolon parts the values."""
    return path.suffix.lower() != ".parquet" and (delimiter or _delimiter(path)) == ";"


def _read_parquet(path: Path, needed: list[str], file: str) -> tuple[pl.DataFrame, list[Issues]]:
    try:
        return pl.read_parquet(path, columns=needed).with_row_index(ROW, offset=1), []
    except (OSError, *DAMAGE) as error:
        return pl.DataFrame(), _unreadable(file, error)


def _read_text(
    path: Path, needed: list[str], names: list[str], delimiter: str, file: str
) -> tuple[pl.DataFrame, list[Issues]]:
    """Read with polars, which is fast; line by line where it balks or rows are not lines."""
    # A row that ends early has no last value, so the last column shows that one may be short.
    wanted = list(dict.fromkeys([*needed, *names[-1:]]))
    try:
        above = bool(_separator(path))
        rows = pl.read_csv(
            path, columns=wanted, separator=delimiter, infer_schema=False, skip_lines=int(above)
        )
    except DAMAGE:
        return _read_slowly(path, names, delimiter, file)
    if rows[names[-1]].null_count() == 0 and _count_lines(path) == rows.height + 1 + above:
        rows = rows.with_row_index(ROW, offset=2 + above)
    else:
        places, findings = _places(path, names, delimiter, file)
        if findings:
            return pl.DataFrame(), findings
        rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))
        if len(places) != rows.height:
            return _read_slowly(path, names, delimiter, file)
        rows = rows.with_columns(pl.Series(ROW, places, dtype=pl.UInt32))
    text = pl.col(wanted)
    return rows.with_columns(pl.when(text != "").then(text)), []


def _read_slowly(
    path: Path, names: list[str], delimiter: str, file: str
) -> tuple[pl.DataFrame, list[Issues]]:
    """Read with the csv module: for faults, and for quotes that polars does not understand."""
    findings = _undecodable(path, file) or _places(path, names, delimiter, file)[1]
    if findings:
        return pl.DataFrame(), findings
    records = [x for x in _records(path, delimiter) if x[1]][1:]
    table = {
        name: pl.Series([(fields or [])[column] or None for _, fields in records], dtype=pl.String)
        for column, name in enumerate(names)
    }
    return pl.DataFrame({**table, ROW: pl.Series([x for x, _ in records], dtype=pl.UInt32)}), []


def _places(
    path: Path, names: list[str], delimiter: str, file: str
) -> tuple[list[int], list[Issues]]:
    """Return the line at which each row begins, and the rows with another number of values."""
    places: list[int] = []
    uneven: list[Fault] = []
    count = 0
    for line, fields in _records(path, delimiter):
        if fields is None:
            what = "a quote opens here that is not closed, or text follows a closing quote"
            remedy = 'write " within quotes as "", and close every quote'
            return [], [Issues("broken quotes", 1, (Fault(file, line, what, remedy),))]
        if not fields:
            continue
        places.append(line)
        if len(fields) != len(names):
            count += 1
            if count <= LISTED:
                what = f"has {len(fields)} values, but the header {len(names)}"
                remedy = f"quote a value that contains {delimiter!r}; write empty ones too"
                uneven.append(Fault(file, line, what, remedy))
    return places[1:], [Issues("uneven rows", count, tuple(uneven))] if count else []


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Read each record with the line it begins at; None in place of one with broken quotes."""
    with _open(path) as binary:
        lines = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        above = int(bool(_separator(path)))
        if above:
            lines.readline()
        line = 1 + above
        try:
            for fields in reader:
                yield line, fields
                line = reader.line_num + 1 + above
        except csv.Error:
            yield line, None


def _undecodable(path: Path, file: str) -> list[Issues]:
    remedy = f"if it is Latin-1: iconv -f latin1 -t utf-8 {path.name} > converted.csv"
    first: list[Fault] = []
    count = 0
    with _open(path) as binary:
        for number, line in enumerate(binary, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    remedy = f"iconv -f utf-16 -t utf-8 {path.name} > converted.csv"
                    return whole(file, "is UTF-16", sort="not UTF-8", remedy=remedy)
                count += 1
                if count <= LISTED:
                    near = line[max(error.start - 20, 0) : error.end + 20].decode("latin1").strip()
                    first.append(Fault(file, number, f"is not UTF-8 near {near!r}", remedy))
    return [Issues("not UTF-8", count, tuple(first))] if count else []


def _delimiter(path: Path) -> str:
    return delimiter_of(_first_line(path))


def _separator(path: Path) -> str:
    """Return the delimiter that a line ``sep=;`` above the header names; else ""."""
    named = SEPARATOR.match(_first_line(path))
    return named[1] if named else ""


def _first_line(path: Path) -> str:
    with _open(path) as binary:
        return binary.readline().decode("utf-8", errors="replace")


def _count_lines(path: Path) -> int:
    """Count lines, the last one with or without its end."""
    count, last = 0, b"\n"
    with _open(path) as binary:
        while block := binary.read(1 << 22):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))
