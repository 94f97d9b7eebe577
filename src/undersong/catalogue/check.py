"""What is wrong with a user's rows: where, what was found, what to do.

Checks list every fault, not only the first. Faults of one sort in one file are kept together,
with their number and the first few of them, so that a million faults stay readable.

Each check takes typed rows and knows nothing of where they come from. An item without any
source is no fault: models answer for it with what they learned about missing sources.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from undersong.catalogue.schema import (
    CHANGED,
    FIELD_TYPES,
    ITEMS,
    KINDS,
    PLAYS,
    RELATIONS,
    REMEDY,
    ROLES,
    SPLITS,
    Field,
    Kind,
    changed,
    read_manifest,
)
from undersong.errors import DataError
from undersong.io.display import one_line, text_of
from undersong.io.files import replacing
from undersong.io.table_files import DAMAGE, write_csv
from undersong.progress import Progress, silent, watched

LISTED = 20
ROW = "(row)"
ROWS = (".parquet", ".npy", ".npz", ".safetensors", " frame")  # the others are of lines


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Parameters
    ----------
    file : as the user calls it
    row : line of a text file, where the header is line 1; row of a Parquet or array file,
        where the first is 1; None for a fault of the whole file
    what : what is wrong, with the value found
    remedy : what to do
    """

    file: str
    row: int | None
    what: str
    remedy: str


@dataclass(frozen=True)
class Issues:
    """All faults of one sort in one file: how many, and the first ``LISTED`` of them."""

    sort: str
    count: int
    first: tuple[Fault, ...]


@dataclass(frozen=True)
class Sheet:
    """Rows of one file; column ``ROW`` holds the number by which its user finds each row."""

    file: str
    rows: pl.DataFrame


def find_issues(
    sheet: Sheet, bad: pl.Expr, *, sort: str, what: Callable[[dict[str, Any]], str], remedy: str
) -> list[Issues]:
    """Make a fault of every row for which ``bad`` is true; ``what`` words it from the row."""
    rows = sheet.rows.filter(bad)
    if rows.is_empty():
        return []
    first = tuple(
        Fault(sheet.file, int(row[ROW]), what(row), remedy)
        for row in rows.head(LISTED).iter_rows(named=True)
    )
    return [Issues(sort, rows.height, first)]


def whole(file: str, what: str, *, sort: str, remedy: str) -> list[Issues]:
    """Make one fault of a whole file."""
    return [Issues(sort, 1, (Fault(file, None, what, remedy),))]


def shown(value: object) -> str:
    """Quote a value found, cut where it is too long to read."""
    text = one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def total(findings: Iterable[Issues]) -> int:
    """Count the faults."""
    return sum(x.count for x in findings)


def write_failures(path: Path, rows: pl.DataFrame) -> None:
    """Write what could not be used, so that no spreadsheet takes a file name for a formula.

    An empty table says: nothing was left out.
    """
    with replacing(path) as temporary:
        write_csv(rows.lazy(), temporary)


def place(fault: Fault) -> str:
    """Return where a fault is, as the programs say it that show such a file."""
    if fault.row is None:
        return fault.file
    return f"{fault.file} {'row' if fault.file.endswith(ROWS) else 'line'} {fault.row}"


def issues_text(findings: Sequence[Issues]) -> str:
    """List faults for the terminal, those of one sort together with their remedy."""
    lines = []
    for x in findings:
        lines.append(f"{x.first[0].file}: {x.sort}" + (f", {x.count:,} times" * (x.count > 1)))
        for fault in x.first:
            where = place(fault).removeprefix(fault.file).strip()
            lines.append(f"  {where}: {fault.what}" if where else f"  {fault.what}")
        if x.count > len(x.first):
            lines.append(f"  ... and {x.count - len(x.first):,} more")
        lines.append(f"  -> {x.first[0].remedy}")
    count = total(findings)
    lines.append(f"{count:,} fault{'s' * (count != 1)}" if count else "no fault found")
    return text_of(lines)


def refuse(findings: Sequence[Issues], *, remedy: str) -> None:
    """Raise if there is any fault.

    Raises
    ------
    DataError
        With the first fault of each of the first three sorts, and the number of all.
    """
    if not findings:
        return
    named = [x.first[0] for x in findings[:3]]
    message = "\n".join(f"{place(x)}: {x.what}; {x.remedy}" for x in named)
    count = total(findings)
    if count > len(named):
        message += f"\nand {count - len(named):,} more faults; {remedy}"
    raise DataError(message)


AT_ONCE = 2**22  # rows of plays that are read together: what is known is looked up anew for each


def check_catalogue(folder: Path, *, progress: Progress = silent) -> tuple[Issues, ...]:
    """List every fault of a written catalogue; plays are read ``AT_ONCE`` rows at a time.

    Raises
    ------
    ArtifactError
        If the folder is no catalogue, or has another format.
    """
    manifest = read_manifest(folder)
    home, fields = folder / manifest.tables, manifest.fields
    progress("check", 0, 1, "sums")
    if names := list(changed(home, manifest.sums)):  # what they say may be anything
        faults = [whole(x, CHANGED, sort="changed table", remedy=REMEDY) for x in names]
        return tuple(x for one in faults for x in one)
    root = Path(manifest.audio_root) if manifest.audio_root else None
    findings = role_faults(fields, file="catalogue.json")
    known: dict[str, pl.Series] = {}
    for kind in KINDS:
        own = [x for x in fields if x.kind == kind]
        columns = ITEMS[kind] | {x.name: FIELD_TYPES[x.type] for x in own}
        progress("check", 0, 1, f"{kind}s")
        sheet, broken = _written(home / f"{kind}s.parquet", columns)
        findings += broken
        if sheet is None:
            continue
        known[kind] = sheet.rows["id"]
        if kind == "artist" and sheet.rows.is_empty():
            findings += empty_table(sheet.file)
        findings += id_faults(sheet) + split_faults(sheet)
        for number in [x.name for x in own if x.type == "number"]:
            findings += number_faults(sheet, number)
        if kind == "track" and "artist" in known:
            findings += member_faults(sheet, "artist", known["artist"], kind="artist")
            findings += path_faults(sheet, root) + number_faults(sheet, "popularity")
    progress("check", 0, 1, "relations")
    findings += _written_relations(home, known)
    findings += _written_plays(home / "plays.parquet", known, progress=progress)
    progress("check", 0, 1, "features")
    findings += _written_features(home, known, manifest.features)
    progress("check", 1, 1)
    return tuple(findings)


def _written(path: Path, columns: Mapping[str, pl.DataType]) -> tuple[Sheet | None, list[Issues]]:
    """Read one table of a catalogue, or say why it cannot be read."""
    try:
        table = pl.read_parquet(path)
    except (OSError, *DAMAGE) as error:
        return None, _unreadable(path, error)
    if strange := _other_types(path, table.schema, columns):
        return None, strange
    return Sheet(path.name, table.with_row_index(ROW, offset=1)), []


def _unreadable(path: Path, error: BaseException) -> list[Issues]:
    what = f"cannot be read ({str(error).splitlines()[0]})"
    return whole(path.name, what, sort="unreadable table", remedy=REMEDY)


def _other_types(
    path: Path, schema: Mapping[str, pl.DataType], columns: Mapping[str, pl.DataType]
) -> list[Issues]:
    """Return the fault of the first column that has another type than it must, or none."""
    for name, want in columns.items():
        if schema.get(name) != want:
            what = f"column {name!r} is {schema.get(name)}, expected {want}"
            return whole(path.name, what, sort="another column type", remedy=REMEDY)
    return []


def _written_relations(home: Path, known: Mapping[str, pl.Series]) -> list[Issues]:
    relations, findings = _written(home / "relations.parquet", RELATIONS)
    for kind in KINDS:
        if relations is None or kind not in known:
            continue
        pairs = Sheet(relations.file, relations.rows.filter(pl.col("kind") == kind))
        for end in ("a", "b"):
            findings += member_faults(pairs, end, known[kind], kind=kind)
        findings += relation_faults(pairs) + order_faults(pairs)
    return findings


def _written_plays(
    path: Path, known: Mapping[str, pl.Series], *, progress: Progress
) -> list[Issues]:
    """List the faults of plays; no more rows are held than ``AT_ONCE`` and as many with a fault."""
    findings: dict[tuple[str, str], Issues] = {}
    doubtful, held = _doubtful_plays(known), pl.DataFrame(schema={ROW: pl.UInt32, **PLAYS})
    try:
        rows = pl.scan_parquet(path, glob=False)
        if strange := _other_types(path, rows.collect_schema(), PLAYS):
            return strange
        count = int(rows.select(pl.len()).collect().item())
        for start in watched(range(0, count, AT_ONCE), progress, "check, plays"):
            block = rows.slice(start, AT_ONCE).collect().with_row_index(ROW, offset=start + 1)
            held = pl.concat([held, block.filter(doubtful)])
            if len(held) >= AT_ONCE:
                _add(findings, path, held, known)
                held = held.clear()
        _add(findings, path, held, known)
    except (OSError, *DAMAGE) as error:
        return _unreadable(path, error)
    return [x for kind in known for (of, _), x in findings.items() if of == kind]


def _doubtful_plays(known: Mapping[str, pl.Series]) -> pl.Expr:
    """Return which rows of plays ``play_faults`` and ``member_faults`` would name."""
    empty = [pl.col(x).is_null() | (pl.col(x) == "") for x in ("user", "item")]
    number = pl.col("plays").is_finite() & (pl.col("plays") >= 0)
    strange = [
        (pl.col("kind") == kind) & ~pl.col("item").is_in(ids.unique().implode())
        for kind, ids in known.items()
    ]
    return pl.any_horizontal(*empty, ~number.fill_null(value=False), *strange)


def _add(
    findings: dict[tuple[str, str], Issues],
    path: Path,
    rows: pl.DataFrame,
    known: Mapping[str, pl.Series],
) -> None:
    """Add the faults of some rows of plays, kind by kind, to those of the rows before."""
    for kind in KINDS:
        if kind not in known:
            continue
        played = Sheet(path.name, rows.filter(pl.col("kind") == kind))
        named = member_faults(played, "item", known[kind], kind=kind)
        for x in (*named, *play_faults(played)):
            before = findings.get((kind, x.sort), Issues(x.sort, 0, ()))
            first = (*before.first, *x.first)[:LISTED]
            findings[kind, x.sort] = Issues(x.sort, before.count + x.count, first)


def _written_features(
    home: Path, known: Mapping[str, pl.Series], features: Sequence[tuple[str, Kind]]
) -> list[Issues]:
    findings: list[Issues] = []
    widths: dict[tuple[str, Kind], int] = {}
    for name, kind in features:
        path = home / "features" / f"{name}.{kind}.parquet"
        try:
            shape = pl.read_parquet_schema(path).get("vector")
        except (OSError, *DAMAGE):
            shape = None
        width = shape.shape[0] if isinstance(shape, pl.Array) else 0
        sheet, broken = _written(path, {"id": pl.String(), "vector": pl.Array(pl.Float32, width)})
        findings += broken
        if sheet is not None and kind in known:
            widths[name, kind] = width
            findings += id_faults(sheet) + vector_faults(sheet)
            findings += member_faults(sheet, "id", known[kind], kind=kind)
    return findings + width_faults(widths, file="catalogue.json")


def empty_table(file: str) -> list[Issues]:
    """Return the fault of a table without a row."""
    return whole(
        file,
        "has no row below its header",
        sort="empty table",
        remedy="fill it, or take the table out of the mapping",
    )


def id_faults(sheet: Sheet) -> list[Issues]:
    """List ids that are empty or stand twice."""
    again = pl.col("id").is_duplicated() & ~pl.col("id").is_first_distinct()
    where = Sheet(
        sheet.file, sheet.rows.with_columns(pl.col(ROW).first().over("id").alias("(first)"))
    )
    return empty_faults(sheet, "id") + find_issues(
        where,
        again & pl.col("id").is_not_null() & (pl.col("id") != ""),
        sort="id given twice",
        what=lambda row: f"id {shown(row['id'])} stands in {row['(first)']} already",
        remedy="keep one of the rows, or give each its own id",
    )


def empty_faults(sheet: Sheet, column: str) -> list[Issues]:
    """List rows without a value where one is needed."""
    return find_issues(
        sheet,
        pl.col(column).is_null() | (pl.col(column).cast(pl.String) == ""),
        sort=f"empty {column}",
        what=lambda row: f"has no {column}",
        remedy=f"fill in the {column}, or remove the row",
    )


def member_faults(
    sheet: Sheet, column: str, known: pl.Series, *, kind: Kind, hint: str = ""
) -> list[Issues]:
    """List ids that are no item of ``kind``, each with the nearest known one.

    ``hint`` ends the remedy.
    """
    unknown = ~pl.col(column).is_in(known.unique().implode())
    return find_issues(
        sheet,
        unknown & pl.col(column).is_not_null() & (pl.col(column) != ""),
        sort=f"unknown {kind}",
        what=lambda row: f"{column} {shown(row[column])} is no {kind}{near(row[column], known)}",
        remedy=f"correct the id, add the {kind}, or remove the row{hint}",
    )


def near(word: str, known: pl.Series) -> str:
    """Guess which known id was meant, among those that begin or sound the same, as a question.

    Only ids equal but for case and spaces around, or alike in their first two letters and their
    length, are compared, so that a guess among a million ids stays cheap.
    """
    low = known.str.to_lowercase()
    length = known.str.len_chars().cast(pl.Int64)
    alike = low.str.starts_with(word[:2].lower()) & ((length - len(word)).abs() <= 3)
    same = low == word.strip().lower()
    guesses = list(known.filter(same).head(1)) or difflib.get_close_matches(
        word, list(known.filter(alike).head(2000)), n=1, cutoff=0.75
    )
    return f"; did you mean {shown(guesses[0])}?" if guesses else ""


def split_faults(sheet: Sheet) -> list[Issues]:
    """List splits other than train, validation and test."""
    return find_issues(
        sheet,
        pl.col("split").is_not_null() & ~pl.col("split").is_in(SPLITS),
        sort="unknown split",
        what=lambda row: f"split {shown(row['split'])} is none of {', '.join(SPLITS)}",
        remedy="correct it, leave it empty, or say what it means under split_values",
    )


def number_faults(sheet: Sheet, column: str) -> list[Issues]:
    """List numbers that are infinite."""
    return find_issues(
        sheet,
        pl.col(column).is_infinite() | pl.col(column).is_nan(),
        sort=f"{column} not finite",
        what=lambda row: f"{column} is {row[column]}",
        remedy="leave the value empty where it is not known",
    )


def play_faults(sheet: Sheet) -> list[Issues]:
    """List plays without a user, or whose number is missing, negative or infinite."""
    return (
        empty_faults(sheet, "user")
        + empty_faults(sheet, "item")
        + empty_faults(sheet, "plays")
        + number_faults(sheet, "plays")
        + find_issues(
            sheet,
            pl.col("plays") < 0,
            sort="negative plays",
            what=lambda row: f"plays is {row['plays']:g}",
            remedy="plays count from 0 up; remove the row, or correct it",
        )
    )


def relation_faults(sheet: Sheet) -> list[Issues]:
    """List relations with an empty end or source, of an item to itself, or of one item only."""
    findings = [x for column in ("a", "b", "source") for x in empty_faults(sheet, column)]
    findings += find_issues(
        sheet,
        pl.col("a") == pl.col("b"),
        sort="relation of an item to itself",
        what=lambda row: f"{shown(row['a'])} is related to itself",
        remedy="remove the row",
    )
    named = pl.concat([sheet.rows["a"], sheet.rows["b"]]).drop_nulls()
    if named.n_unique() == 1:
        findings += whole(
            sheet.file,
            f"relates nothing but {shown(named[0])}",
            sort="relations of one item only",
            remedy="a relation joins two items; check which columns are a and b",
        )
    return findings


def order_faults(sheet: Sheet) -> list[Issues]:
    """List pairs of a written catalogue that are not a < b, or stand twice for one source."""
    return find_issues(
        sheet,
        (pl.col("a") > pl.col("b")) | ~pl.struct("a", "b", "source").is_first_distinct(),
        sort="pair out of order or twice",
        what=lambda row: f"{shown(row['a'])}, {shown(row['b'])} from {shown(row['source'])}",
        remedy=REMEDY,
    )


def path_faults(sheet: Sheet, root: Path | None) -> list[Issues]:
    """List audio files that do not exist; relative paths begin at ``root``."""
    home = root or Path()
    with_path = sheet.rows.filter(pl.col("path").is_not_null())
    absent = pl.Series(
        "(absent)", [not (home / x).is_file() for x in with_path["path"]], pl.Boolean
    )
    return find_issues(
        Sheet(sheet.file, with_path.with_columns(absent)),
        pl.col("(absent)"),
        sort="no such audio file",
        what=lambda row: f"path {shown(row['path'])} is no file in {home}",
        remedy="correct the path, say where paths begin with audio_root, or leave it empty",
    )


def vector_faults(sheet: Sheet) -> list[Issues]:
    """List vectors with a value that is no finite number; they are arrays of equal width."""
    finite = pl.col("vector").arr.to_list().list.eval(pl.element().is_finite()).list.all()
    return find_issues(
        sheet,
        ~finite.fill_null(value=False) | pl.col("vector").is_null(),
        sort="feature not finite",
        what=lambda row: f"vector of {shown(row['id'])} holds a value that is not finite",
        remedy="leave the item out, or compute its features again",
    )


def width_faults(widths: Mapping[tuple[str, Kind], int], *, file: str) -> list[Issues]:
    """List features whose artist and track vectors differ in width: they are one space."""
    return [
        x
        for (name, kind), width in widths.items()
        if kind == "artist" and widths.get((name, "track"), width) != width
        for x in whole(
            file,
            f"features {name!r}: {width} values an artist, {widths[name, 'track']} a track",
            sort="features of two widths",
            remedy="give both the same columns in the same order, or two names",
        )
    ]


def role_faults(fields: Sequence[Field], *, file: str) -> list[Issues]:
    """List roles that two fields of one kind hold."""
    findings: list[Issues] = []
    for kind in KINDS:
        for role in ROLES[1:]:
            holders = [x.name for x in fields if x.kind == kind and x.role == role]
            if len(holders) > 1:
                findings += whole(
                    file,
                    f"{' and '.join(holders)} both have the role {role!r} of {kind}s",
                    sort="role held twice",
                    remedy="a role is held by one field; take it from the others",
                )
    return findings
