"""Commands that bring new items into a trained run: add, and export onnx."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.cli.group import FOLDER, TRACKS, echo, kind_of
from undersong.errors import DataError, needs
from undersong.io.display import one_line

if TYPE_CHECKING:
    from undersong.catalogue import Field
    from undersong.foldin.add import Addition
    from undersong.foldin.embed import FoldIn
    from undersong.foldin.new_items import NewItem
    from undersong.importers.music.scan import Failure

FIELD = click.option(
    "--field", "fields", multiple=True, metavar="NAME=VALUE", help="Any field of the catalogue."
)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--artist", help="Name of a new artist, or of the artist of FILES.")
@click.option("--genre", help="Genres of the artist, separated by commas.")
@click.option("--country", help="Country of the artist, as the catalogue writes it.")
@click.option("--year", help="Year of the artist.")
@FIELD
@TRACKS
@click.option(
    "--list", "show", is_flag=True, help="List what was added, and whether to train again."
)
@click.option("--remove", "removed", multiple=True, metavar="ID", help="Remove an added item.")
@click.option(
    "--again", "repeat", is_flag=True, help="Add again what was added before the last training."
)
def add(
    run: Path,
    files: tuple[Path, ...],
    artist: str | None,
    genre: str | None,
    country: str | None,
    year: str | None,
    fields: tuple[str, ...],
    tracks: bool,
    show: bool,
    removed: tuple[str, ...],
    repeat: bool,
) -> None:
    """Add new tracks and artists to RUN, without training: audio FILES with tags, or tables.

    A table is CSV or Parquet (of artists; with --tracks of tracks), or TOML with [[artist]] and
    [[track]]. Added items have neighbours immediately; a service shows them after the next publish.
    If a file fails, the others are added, and the exit code is 1. docs/add.md

    \b
    Example:
        undersong add my/run song.mp3
        undersong add my/run --artist "New Band" --genre "jazz, bebop" --country DE --year 1990
    """
    from undersong import runs
    from undersong.foldin import add as adding
    from undersong.foldin.embed import FoldIn

    fold_in = FoldIn(runs.read(run))
    metadata = _metadata_of(
        fold_in.known.fields, {"genre": genre, "region": country, "year": year}, fields
    )
    failed = False
    if removed:
        echo(f"{adding.remove(fold_in, removed)} items removed from {run}")
    elif repeat:
        failed = _report(fold_in, adding.readd(fold_in))
    elif files or artist or metadata:
        failed = _report(
            fold_in, adding.add(fold_in, _new_items(fold_in, files, artist, metadata, tracks))
        )
    elif not show:
        raise DataError("nothing to add; give audio files, a table, or --artist NAME with --genre")
    _show_state(fold_in, listed=show)
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("run", type=FOLDER)
def onnx(run: Path) -> None:
    """Write the encoders of RUN as ONNX, so that `undersong add` needs no PyTorch.

    They stand beside the weights of the generation, in the folder onnx; docs/add.md describes them.

    \b
    Example:
        undersong export onnx my/run
    """
    from undersong import runs

    with needs("train,onnx", "exporting encoders"):
        from undersong.export.onnx import export
    echo(f"encoders written to {export(runs.read(run))}")


def _new_items(
    fold_in: "FoldIn",
    files: Sequence[Path],
    artist: str | None,
    metadata: dict[str, str],
    tracks: bool,
) -> "Iterator[NewItem | Failure]":
    """What one call describes: the artist by name first, then tables, then audio files."""
    from undersong.foldin import new_items

    audio = [x for x in files if x.suffix.lower() not in new_items.TABLES]
    if artist and (metadata or not audio):
        yield new_items.of_words(artist, metadata, fold_in.known)
    elif metadata:
        raise DataError(f"{', '.join(sorted(metadata))} is said of nobody; add --artist NAME")
    yield from new_items.of_paths(files, kind_of(tracks), fold_in.known, artist=artist)


def _metadata_of(
    known: "Sequence[Field]", roles: dict[str, str | None], fields: Sequence[str]
) -> dict[str, str]:
    """Metadata of the artist by field: each role goes to the field that the catalogue has for it.

    Raises
    ------
    DataError
        If the catalogue has no field for a role, or ``fields`` are not NAME=VALUE.
    """
    metadata = {}
    for role, value in roles.items():
        if value is None:
            continue
        name = next((x.name for x in known if x.kind == "artist" and x.role == role), None)
        if name is None:
            names = [x.name for x in known if x.kind == "artist"]
            instead = f"use --field with one of {', '.join(names)}" if names else "give audio files"
            raise DataError(
                f"the run's catalogue has no field of artists with the role {role!r}; {instead}"
            )
        metadata[name] = value
    for field in fields:
        name, equals, value = field.partition("=")
        if not (equals and value):
            raise DataError(f"--field {field!r} is not NAME=VALUE, such as --field mood=calm")
        metadata[name] = value
    return metadata


def _report(fold_in: "FoldIn", results: "Iterable[Addition | Failure]") -> bool:
    """Print what became of each item, then a summary; return whether one failed."""
    from undersong.foldin.add import most_alike
    from undersong.importers.music.scan import Failure

    counts: Counter[str] = Counter()
    for result in results:
        if isinstance(result, Failure):
            counts["failed"] += 1
            echo(f"{result.file}: {result.reason}; {result.remedy}", err=True)
            continue
        counts[result.what] += 1
        like = most_alike(fold_in, result)
        beside_it = f"  like {', '.join(like)}" if like else ""
        echo(one_line(f"{result.what:<9}  {result.kind:<6}  {result.id}  {result.name}{beside_it}"))
    summary = ", ".join(f"{count} {what}" for what, count in counts.items())
    echo(f"{fold_in.run.folder}: {summary or 'nothing to add'}")
    return counts["failed"] > 0


def _show_state(fold_in: "FoldIn", *, listed: bool) -> None:
    """List what was added, if wanted, and why a retrain is due."""
    from undersong.foldin import add as adding

    rows = adding.listed(fold_in.run)
    if listed and rows.is_empty():
        echo(f"nothing was added to generation {fold_in.run.generation} of {fold_in.run.folder}")
    for row in rows.iter_rows(named=True) if listed else ():
        origin = f"  {row['path']}" if row["path"] else ""
        echo(f"{row['added'][:10]}  {row['kind']:<6}  {row['id']}  {row['name']}{origin}")
    for reason in adding.due(fold_in.run):
        echo(f"train again: {reason}", err=True)
