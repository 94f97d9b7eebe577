"""A music folder -> catalogue, again and again: only what is new or changed is read.

The tables are made of ``files.parquet`` alone (``scan``), which is written first. So an
import that is killed at any moment leaves the old catalogue, and loses half a minute of reading.

Pairs of artists or tracks that users know to be similar become its relations.
"""

import time
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from undersong.catalogue import (
    KINDS,
    RELATIONS,
    Catalogue,
    Kind,
    fold,
    importing,
    name_key,
    read_catalogue,
    recorded_source,
    refuse,
    whole,
    write_catalogue,
    write_failures,
)
from undersong.errors import DataError
from undersong.importers.music.credits import (
    NO_ALIASES,
    Aliases,
    PathNames,
    credits_of,
    path_names,
    renamed,
)
from undersong.importers.music.library import FILES, copies, keep, library
from undersong.importers.music.scan import (
    SUFFIXES,
    Failure,
    Scan,
    ScanComparison,
    ScannedFile,
    compare,
    read_files,
    scan_music,
    write_files,
)
from undersong.importers.music.tag_readers import tag_readers
from undersong.importers.music.tags import Tags, Unreadable
from undersong.importers.tables.spreadsheets import header, read_sheet
from undersong.processors import usable_processors
from undersong.progress import Progress, silent


@dataclass(frozen=True)
class KnownPairs:
    """Relations (kind, a, b, source), and how many pairs were not both in the catalogue.

    ``unknown`` has the names that are in no item, in the order of the file.
    """

    relations: pl.DataFrame
    left_out: int
    unknown: tuple[str, ...]


def known_pairs(path: Path, catalogue: Catalogue) -> KnownPairs:
    """Read pairs of two artists, or of two tracks, that a catalogue has.

    A pair of which it lacks one is left out, and so is one of an item with itself. Of several
    items of one name the one with the most tracks is meant, of tracks the first.

    Parameters
    ----------
    path : CSV or Parquet with a header; without a column ``source`` its name is the source

    Raises
    ------
    DataError
        If the file cannot be read, has fewer than two columns, or no pair that is known.
    """
    remedy = "give a header and two columns: who is similar to whom"
    names, issues = header(path, file=path.name)
    ends = [x for x in names if x != "source"][:2]
    if not issues and len(ends) < 2:
        issues = whole(path.name, f"has columns {names}", sort="one column", remedy=remedy)
    refuse(issues, remedy=remedy)
    columns = dict(zip("ab", ends, strict=True))
    if "source" in names:
        columns["source"] = "source"
    sheet, issues = read_sheet(path, columns, file=path.name)
    refuse(issues, remedy=remedy)
    rows = sheet.rows if sheet else pl.DataFrame(schema=RELATIONS)
    if "source" not in columns:
        rows = rows.with_columns(source=pl.lit(path.name.split(".")[0]))
    rows = rows.select(pl.col("a", "b", "source").cast(pl.String))
    return _resolve(rows, catalogue, file=path.name)


def _resolve(rows: pl.DataFrame, catalogue: Catalogue, *, file: str) -> KnownPairs:
    known = {kind: _known(catalogue, kind) for kind in KINDS}
    pairs, unknown = [], dict[str, None]()
    for a, b, source in rows.iter_rows():
        for kind in KINDS:
            one, other = (_find(known[kind], x) for x in (a, b))
            if one and other:
                pairs.append((kind, *sorted((one, other)), source))
                break
        else:
            lacking = (x for x in (a, b) if not any(_find(known[kind], x) for kind in KINDS))
            unknown |= dict.fromkeys(str(x) for x in lacking)
    if not pairs:
        named = ", ".join(map(repr, list(unknown)[:5]))
        raise DataError(
            f"{file} relates no two items of this music; it lacks {named}; "
            "give ids or names that `undersong similar` knows"
        )
    relations = pl.DataFrame(pairs, schema=RELATIONS, orient="row").filter(
        (pl.col("a") != pl.col("b")) & pl.col("source").is_not_null()
    )
    relations = relations.unique(maintain_order=True)
    return KnownPairs(relations, len(rows) - len(pairs), tuple(unknown))


def _known(catalogue: Catalogue, kind: Kind) -> dict[str, str]:
    """Return the id that each word means: ids before paths before names before their keys."""
    tracks = catalogue.tracks
    # The last of one name counts: of artists that with the most tracks, of tracks the first.
    pairs = list(zip(catalogue.ids(kind), catalogue.names(kind), strict=True))
    if kind == "artist":
        counts = dict(tracks["artist"].value_counts().iter_rows())
        pairs.sort(key=lambda x: counts.get(x[0], 0))
        paths: dict[str, str] = {}
    else:
        pairs.reverse()
        places = tracks.select("path", "id").drop_nulls().iter_rows()
        paths = {unicodedata.normalize("NFC", path): item for path, item in places}
    keyed = {name_key(name): item for item, name in pairs}
    return keyed | {name: item for item, name in pairs} | paths | {x: x for x, _ in pairs}


def _find(known: dict[str, str], word: str | None) -> str | None:
    if word is None:
        return None
    composed = unicodedata.normalize("NFC", word)
    return known.get(word) or known.get(composed) or known.get(name_key(word))


STAGE = "read tags"
FAILURES = dict.fromkeys(("file", "reason", "remedy"), pl.String())
BLOCK = 2_000  # files between two words on progress
SECONDS_BETWEEN_SAVES = 30.0


@dataclass(frozen=True)
class FolderSummary:
    """What became of a folder.

    Parameters
    ----------
    new, changed, removed, unchanged : files, compared with the last import
    unseen : files that cannot be seen now, of which what is known was kept
    reasons : file or folder -> why what is below cannot be seen
    endings : how many files were passed over for the end of their names
    left_out : files and folders listed in failures.csv
    guessed : files whose artist or title was taken from their path
    duplicates : files that are the recording of another
    albums : files that are an album each, as a cue sheet in or beside them says
    counts : of the catalogue, with what other imports brought, in words
    pairs : what became of the table of known pairs, if there is one
    """

    new: int
    changed: int
    removed: int
    unchanged: int
    unseen: int
    reasons: Mapping[str, str]
    endings: Counter[str]
    left_out: int
    guessed: int
    duplicates: int
    albums: int
    counts: str
    pairs: KnownPairs | None


def import_folder(
    music: Path,
    catalogue: Path,
    *,
    relations: Path | None = None,
    aliases: Aliases = NO_ALIASES,
    moved: bool = False,
    forget: bool = False,
    replace: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> FolderSummary:
    """Bring a catalogue up to date with a folder of music; the first time, make it.

    Parameters
    ----------
    music : searched with all folders below
    catalogue : folder; what other imports brought to it stays (``library.keep``)
    relations : table of pairs that are known to be similar (``known_pairs``)
        They take the place of earlier pairs from the same sources.
    aliases : of artists
    moved : whether the music of the catalogue lies in ``music`` now, wherever it lay before
        All of it is read again.
    forget : whether files that cannot be seen now are gone
        Else what is known of them stays (``scan.compare``).
    replace : whatever catalogue is there, as if nothing were (``catalogue.importing``)
    workers : processes that read tags; by default as many as there are processors

    Raises
    ------
    DataError
        If there is no audio file that can be read, or the catalogue was made from something
        else and not ``replace``. The catalogue is then as it was.
    """
    root = music.resolve()
    _check_name(root)
    ours = moved and recorded_source(catalogue) in ("", "folder")
    with importing(catalogue, "folder", replace=replace or ours):
        old = None if replace else _old(catalogue, root, moved=moved)
        before = read_files(catalogue, root, moved=moved or replace)
        return _import_folder(
            root,
            catalogue,
            old=old,
            before=before.clear() if replace else before,
            relations=relations,
            aliases=aliases,
            forget=forget,
            workers=workers,
            progress=progress,
        )


def _import_folder(
    root: Path,
    catalogue: Path,
    *,
    old: Catalogue | None,
    before: pl.DataFrame,
    relations: Path | None,
    aliases: Aliases,
    forget: bool,
    workers: int | None,
    progress: Progress,
) -> FolderSummary:
    scan = scan_music(root)
    compared = compare(scan, before)
    files, unread = _read(root, catalogue, before, compared, workers=workers, progress=progress)
    failing = [x.file for x in unread if not x.damaged]
    unseen = pl.concat([compared.unseen, before.filter(pl.col("path").is_in(failing))])
    if not forget:
        files = pl.concat([files, unseen]).sort("path")
    failures = sorted([*scan.failures, *unread], key=lambda x: x.file)
    named = renamed(files, aliases)
    plain = library(named)
    same = copies(named) if len(plain.tracks) < len(named) else []
    rows = [(x.file, x.reason, x.remedy) for x in failures]
    rows += [(x, f"a copy of {of}", "nothing, or remove one of them") for x, of in same]
    left_out = pl.DataFrame(rows, schema=FAILURES, orient="row")
    listed = bool(rows or old) or (catalogue / "failures.csv").exists()
    if files.is_empty():
        if listed:
            write_failures(catalogue / "failures.csv", left_out)
        raise DataError(_nothing(root, scan, failures, catalogue))
    write_files(catalogue, root, files)
    made = replace(keep(plain, old) if old else plain, audio_root=root)
    pairs = known_pairs(relations, made) if relations else None
    if pairs:
        sources = pairs.relations["source"].unique().implode()
        others = made.relations.filter(~pl.col("source").is_in(sources))
        made = replace(made, relations=pl.concat([others, pairs.relations]))
    write_catalogue(made, catalogue, source="folder")
    if listed:
        write_failures(catalogue / "failures.csv", left_out)
    known, read, unchanged = (set(x["path"]) for x in (before, files, compared.same))
    return FolderSummary(
        new=len(read - known),
        changed=len(read & known - unchanged - set(unseen["path"])),
        removed=len(known - read),
        unchanged=len(unchanged),
        unseen=0 if forget else len(unseen),
        reasons=compared.reasons,
        endings=scan.endings,
        left_out=len(failures),
        guessed=int(files["guessed"].sum()),
        duplicates=len(same),
        albums=int((files["cue"].fill_null(value=False) | _beside(files, scan.cues)).sum()),
        counts=made.counts_text(),
        pairs=pairs,
    )


def text(summary: FolderSummary) -> str:
    """Describe for the terminal what became of a folder."""
    s = summary
    lines = [
        f"{s.new:,} new, {s.changed:,} changed, {s.removed:,} removed, {s.unchanged:,} unchanged",
        s.counts,
    ]
    if s.duplicates:
        lines.append(
            f"{s.duplicates:,} files are the recording of another; one of each is kept, and "
            "failures.csv lists the others"
        )
    if s.albums:
        lines.append(
            f"{s.albums:,} files with a cue sheet are albums in one file, and one track each; "
            "split them to find their songs: shnsplit -f album.cue album.flac"
        )
    if s.guessed:
        lines.append(f"{s.guessed:,} files lack tags: artist or title is taken from the path")
    if s.unseen:
        places = _few([f"{path} ({reason})" for path, reason in s.reasons.items()])
        lines.append(
            f"{s.unseen:,} files cannot be seen now, and what is known of them stays"
            f"{': ' if places else ''}{places}; --forget drops them"
        )
    if s.endings:
        kinds = [f"{count:,} {ending or 'without'}" for ending, count in s.endings.most_common()]
        lines.append(f"passed over by the end of their names: {_few(kinds)}")
    if s.pairs and s.pairs.left_out:
        named = ", ".join(map(repr, s.pairs.unknown[:5]))
        lines.append(f"{s.pairs.left_out:,} known pairs left out: this music lacks {named}, ...")
    return "\n".join(lines)


def _beside(files: pl.DataFrame, cues: Collection[str]) -> pl.Series:
    """Return for each file whether a cue sheet of its name lies beside it."""
    stem = files["path"].str.replace(r"\.[^./]*$", "")
    return stem.is_in(sorted(cues)) | files["path"].is_in(sorted(cues))


def _few(texts: Sequence[str], *, most: int = 9) -> str:
    """Join the first texts, and count the others."""
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def _check_name(root: Path) -> None:
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of {str(root)!r} is not UTF-8; rename it") from error


def _old(catalogue: Path, root: Path, *, moved: bool) -> Catalogue | None:
    """Read the catalogue that is there, if any; what its files were must be known."""
    if not (catalogue / "catalogue.json").exists():
        return None
    if not (moved or (catalogue / "files.parquet").exists()):
        raise DataError(
            f"{catalogue} has no files.parquet, which says what music it was made from; import "
            f"{root} into another one, or, if it was made from this music, add --moved"
        )
    return read_catalogue(catalogue)


def _read(
    root: Path,
    catalogue: Path,
    before: pl.DataFrame,
    compared: ScanComparison,
    *,
    workers: int | None,
    progress: Progress,
) -> tuple[pl.DataFrame, list[Failure]]:
    """Read the tags of what is new or has changed, and join what is as it was."""
    files, pending = compared.same, compared.pending
    failures, saved = list[Failure](), time.monotonic()
    with tag_readers(min(workers or usable_processors(), len(pending)) or 1) as read:
        for start in range(0, len(pending), BLOCK):
            block = pending[start : start + BLOCK]
            progress(STAGE, start, len(pending), f"{len(failures)} failed" if failures else "")
            rows = []
            answers = read([root / x.path for x in block])
            for file, answer in zip(block, answers, strict=True):
                row = row_of(file, answer)
                if isinstance(row, Failure):
                    failures.append(row)
                else:
                    rows.append(row)
            files = pl.concat([files, pl.DataFrame(rows, schema=FILES)])
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                rest = before.join(files, on="path", how="anti")
                write_files(catalogue, root, pl.concat([files, rest]))
                saved = time.monotonic()
    if pending:
        progress(STAGE, len(pending), len(pending), f"{len(failures)} failed" if failures else "")
    return files.sort("path"), failures


def row_of(file: ScannedFile, tags: Tags | Unreadable) -> dict[str, object] | Failure:
    """Join what a file says of itself with what its path says where it is silent."""
    if isinstance(tags, Unreadable):
        return Failure(file.path, tags.reason, tags.remedy, damaged=tags.damaged)
    credits, names = credits_of(tags), path_names(file.path)
    if not credits and names.artist is None:
        remedy = "tag it, or put it in a folder Artist/Album"
        return Failure(file.path, "no artist in its tags or path", remedy)
    return {
        **vars(file),
        "artists": [x.name for x in credits] or [names.artist],
        "artist_ids": [x.id for x in credits] or [""],
        "title": _title(tags, names),
        "album": tags.album if credits else tags.album or names.album,
        "recording": tags.recording,
        "genres": list(tags.genres) or None,
        "year": tags.year,
        "country": tags.country,
        "release_country": tags.release_country,
        "compilation": tags.compilation,
        "seconds": tags.seconds,
        "cue": tags.cue,
        "guessed": not credits or tags.title is None,
    }


def _title(tags: Tags, names: PathNames) -> str:
    """Return the title; of several the one in the file's name, or else that name."""
    if len(tags.titles) < 2:
        return tags.title or names.title
    name = fold(names.title)
    inside = [x for x in tags.titles if fold(x) in name]
    telling = any(c.isalpha() for c in name)
    return max(inside, key=len) if inside else names.title if telling else tags.titles[0]


def _nothing(music: Path, scan: Scan, failures: Sequence[Failure], catalogue: Path) -> str:
    if failures:
        first = failures[0]
        return (
            f"no audio file in {music} could be read, of {len(scan.files):,}: {first.file} is "
            f"{first.reason}; {catalogue / 'failures.csv'} says what to do about each"
        )
    known = " ".join(SUFFIXES)
    return f"{music} has no audio file in it or below; what counts ends with one of {known}"
