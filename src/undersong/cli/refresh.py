"""The command that a timer runs every night: refresh, and its file undersong.toml."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from undersong.cli.catalogues import import_, merge
from undersong.cli.clusters import extract
from undersong.cli.group import FOLDER, echo
from undersong.cli.models import train
from undersong.cli.playlists import playlist
from undersong.cli.serving import serve
from undersong.errors import SettingsError, nearest_known, needs
from undersong.settings import read_toml

if TYPE_CHECKING:
    from undersong.pipeline.refresh import Plan

FILE = "undersong.toml"
SECTIONS = ("refresh", "import", "merge", "extract", "train", "playlist")
REFRESH: dict[str, float] = {"days": 7.0, "hours": 24.0}
INCOMPLETE = 3


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--music", type=FOLDER, help="Write a plan for this folder of music first.")
@click.option("--serve", "serving", is_flag=True, help="Then serve the page until Ctrl-C.")
@click.pass_context
def refresh(context: click.Context, folder: Path, music: Path | None, serving: bool) -> None:
    """Import, merge, extract, train, publish and write playlists, as FOLDER/undersong.toml says.

    For a timer: one refresh runs at a time, and each step continues where it was interrupted. New
    items have neighbours immediately; it trains again when much has changed. If a server is off,
    its previous library is used. Exit codes: 0 all done, 1 not done, 3 published, but an import or
    playlist failed. docs/refresh.md explains the file.

    \b
    Example:
        undersong refresh my/music --music ~/Music --serve
        undersong refresh my/music
    """
    with needs("train", "refreshing"):
        from undersong.pipeline.refresh import SHELF
        from undersong.pipeline.refresh import refresh as run

    if music is not None:
        write_plan(folder, music)
    # By default SIGTERM would end this process alone, and not the command that it waits for.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    outcome = run(folder, read_plan(folder), echo=echo)
    artists, tracks = outcome.new["artist"], outcome.new["track"]
    echo(f"refreshed: {tracks:,} new songs, {artists:,} new artists")
    if outcome.failed:
        echo(f"failed: {', '.join(outcome.failed)}; {folder / 'refresh.log'} says why", err=True)
        if not serving:
            raise SystemExit(INCOMPLETE)
    if serving:
        context.invoke(serve, folder=folder / SHELF, quiet=True)


def write_plan(folder: Path, music: Path) -> None:
    """Write FOLDER/undersong.toml, which imports a folder of music and hears it.

    Raises
    ------
    SettingsError
        If the file is there and says anything else, or there is no such folder of music.
    """
    from undersong.io.files import replacing

    path = folder / FILE
    if not music.is_dir():
        raise SettingsError(f"{music} is no folder; name the one that holds your music")
    source = json.dumps(str(music.resolve()), ensure_ascii=False)
    text = f'[import.music]\nkind = "folder"\nfrom = {source}\n\n[extract]\n'
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise SettingsError(f"{path} exists and is another plan; change it, or leave --music out")


def read_plan(folder: Path) -> "Plan":
    """Read what is to be done of FOLDER/undersong.toml.

    Raises
    ------
    SettingsError
        For a mistake in the file, with its place and the nearest known word.
    """
    from undersong.pipeline.refresh import Plan

    path = folder / FILE
    tables = read_toml(path)
    _check_keys(tables, SECTIONS, where=str(path))
    sources = _tables(tables, "import", path)
    if not sources:
        raise SettingsError(f"{path} imports nothing; write [import.NAME] with kind and from")
    numbers = REFRESH | _numbers(tables, path)
    with _inside(folder):
        return Plan(
            imports={x: _import(x, table, path) for x, table in sources.items()},
            merge=_options(merge, tables.get("merge", {}), f"{path}: [merge]", ["a", "b", "out"]),
            extract=_options(extract, tables["extract"], f"{path}: [extract]", ["a"])
            if "extract" in tables
            else None,
            train=_options(train, tables.get("train", {}), f"{path}: [train]", ["a", "run"]),
            playlists={
                x: _options(playlist, table, f"{path}: [playlist.{x}]", ["run"])
                for x, table in _tables(tables, "playlist", path).items()
            },
            days=numbers["days"],
            hours=numbers["hours"],
        )


def _import(name: str, table: Mapping[str, Any], path: Path) -> list[str]:
    """Return the words of an import: kind, source, options."""
    where = f"{path}: [import.{name}]"
    if not name.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(f"{where} is no name of a folder; use letters, digits, - and _")
    for key in ("kind", "from"):
        if not isinstance(table.get(key), str):
            raise SettingsError(f'{where} lacks `{key}`; write kind = "folder", from = "/music"')
    kind, source, imports = table["kind"], table["from"], import_.commands
    if kind not in imports:
        raise SettingsError(f"{where} kind is {kind!r}; {nearest_known(kind, imports)}")
    rest = {key: value for key, value in table.items() if key not in ("kind", "from")}
    return [kind, source, *_options(imports[kind], rest, where, [source, "out"])]


def _options(command: click.Command, table: object, where: str, arguments: list[str]) -> list[str]:
    """Write a table as options of a command, after the command has looked at them."""
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where} is {table!r}, expected a table of options")
    known = {
        max(x.opts, key=len).lstrip("-"): x for x in command.params if isinstance(x, click.Option)
    }
    _check_keys(table, known, where=where)
    words: list[str] = []
    for key, value in table.items():
        option = max(known[key].opts, key=len)
        if isinstance(value, bool):
            words += [option] if value else []
        elif known[key].nargs > 1 and isinstance(value, list):
            words += [option, *map(str, value)]
        else:
            for each in value if isinstance(value, list) else [value]:
                words += [option, str(each)]
    try:
        with command.make_context(command.name, [*words, "--", *arguments]):
            return words
    except click.UsageError as error:
        raise SettingsError(f"{where}: {error.format_message()}") from error


def _check_keys(table: Mapping[str, Any], known: Iterable[str], *, where: str) -> None:
    for key in table:
        if key not in (names := list(known)):
            raise SettingsError(f"{where} has no {key!r}; {nearest_known(key, names)}")


def _tables(tables: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Mapping[str, Any]]:
    section = tables.get(name, {})
    if not isinstance(section, Mapping) or not all(
        isinstance(x, Mapping) for x in section.values()
    ):
        raise SettingsError(f"{path}: [{name}] has no name; write [{name}.NAME]")
    return section


def _numbers(tables: Mapping[str, Any], path: Path) -> dict[str, float]:
    section = tables.get("refresh", {})
    where = f"{path}: [refresh]"
    if not isinstance(section, Mapping):
        raise SettingsError(f"{where} is {section!r}, expected a table")
    _check_keys(section, REFRESH, where=where)
    for key, value in section.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise SettingsError(f"{where} {key} is {value!r}, expected a number above 0")
    return {key: float(value) for key, value in section.items()}


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Be in a folder, where the paths of its file begin."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
