"""Commands that get models: pretrained ears, train, evaluate, and all of it again by a timer."""

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
from undersong.cli.group import FILE, FOLDER, Group, cluster, echo
from undersong.cli.playlist import playlist
from undersong.cli.serving import serve
from undersong.errors import SettingsError, nearest_known, needs
from undersong.settings import read_toml

if TYPE_CHECKING:
    from undersong.pipeline.refresh import Plan

SOURCE_NAMES = {"content": "sound or features", "interaction": "listeners"}  # sources, for a reader


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("run", type=FOLDER)
@click.option("--settings", type=FILE, help="TOML file; docs/choices.md lists all settings.")
@click.option("--fresh", is_flag=True, help="Train from the start, even if nothing changed.")
def train(catalogue: Path, run: Path, settings: Path | None, fresh: bool) -> None:
    """Learn all embeddings of CATALOGUE and publish them in the folder RUN.

    You can interrupt it; the same command continues from the last checkpoint. If neither the
    catalogue nor the settings have changed, there is nothing to do.

    \b
    Example:
        undersong train my/catalogue my/run
    """
    from undersong import training
    from undersong.cli.group import ProgressDisplay
    from undersong.pipeline.run_settings import read_settings
    from undersong.pipeline.train import train_run

    chosen = read_settings(settings)
    with cluster() as there, training.process_group(), ProgressDisplay() as progress:
        if there:
            from undersong.cluster.jobs import train_there

            latest, new = train_there(catalogue, run, settings=chosen, fresh=fresh)
        else:
            latest, new = train_run(catalogue, run, settings=chosen, fresh=fresh, progress=progress)
        if training.rank():
            return  # the first process reports
    if failed := latest.manifest["failed_files"]:
        listed = latest.home / "failures.csv"
        echo(f"{failed} audio files could not be read: {listed} says why", err=True)
    spent = sum(latest.manifest["seconds"].values())
    done = f"trained in {spent:.0f} s" if new else "is up to date"
    echo(f"{run}: generation {latest.generation} {done}; {_judged(latest.manifest)}")
    if network := latest.manifest.get("graph"):
        echo(
            "graph network: validation items find each other with NDCG@200 "
            f"{network['ndcg@200']:.3f}, by E_G alone {network['ndcg@200 of GRM']:.3f}; "
            "`undersong evaluate` shows what it does to items without links"
        )
    for source, choice in latest.manifest.get("hearing", {}).items():
        echo(heard(source, choice))


def heard(source: str, choice: Mapping[str, Any]) -> str:
    """How a source is heard, as it was learned or not, and what says so."""
    asked = choice["asked"]
    if choice["start"] is None:
        return (
            f"{source}: compared as it is, nothing learned: {asked:,} tracks of held-out artists "
            "have another of theirs or of a similar artist, too few to tell what learning gains"
        )
    used = "learned" if choice["learned"] else "compared as it is; learning did not surely help"
    return (
        f"{source}: {used}. {asked:,} tracks of held-out artists find others of theirs, or of a "
        f"similar artist, with mean average precision {choice['start']:.3f} without learning and "
        f"{choice['trained']:.3f} with it (1: all of them first)"
    )


def _judged(manifest: Mapping[str, Any]) -> str:
    """How well validation was answered; or that there was no relation to learn from."""
    training = manifest["training"].get("general")
    if training is None:
        sources = ", ".join(SOURCE_NAMES.get(x, x) for x in manifest["sources"])
        return (
            f"no relation between {manifest['kind']}s is known, so answers compare what is known "
            f"of each ({sources}), without a learned order or a confidence"
        )
    return f"validation NDCG@200 {training['best_score']:.3f} at step {training['best_step']}"


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--split",
    "split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "validation"]),
    help="Items to use as queries.",
)
@click.option("--catalogue", type=FOLDER, help="Catalogue, if moved since the training.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Evaluate by this CSV file of similar pairs (columns a, b).",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
def evaluate(
    run: Path, split: str, catalogue: Path | None, truth: Path | None, as_json: bool
) -> None:
    """Measure how good the answers of RUN are, with intervals, against random and baselines.

    Writes report.json and report.md into RUN. With --truth the answers are evaluated by links that
    the run never saw, such as a later list: what unlinked items find, and whether linked ones find
    them. That writes truth.json and truth.md.

    \b
    Example:
        undersong evaluate my/run
        undersong evaluate my/run --truth later.csv
    """
    from undersong import runs
    from undersong.cli.group import ProgressDisplay
    from undersong.evaluation.compare import compare, compare_truth
    from undersong.io.files import locked
    from undersong.report import formats

    opened = runs.read(run)
    with ProgressDisplay() as progress:
        if truth is None:
            report = compare(opened, split=split, catalogue_folder=catalogue, progress=progress)
            name, note = "report", ""
        else:
            report, note = compare_truth(
                opened, truth=truth, catalogue_folder=catalogue, progress=progress
            )
            name = "truth"
    with locked(run):
        formats.write(report, run, name=name)
    written = [run / f"{name}.{ending}" for ending in ("md", "json")]
    echo(written[1].read_text() if as_json else formats.render(report))
    if truth is None and not as_json:
        echo(formats.render_confidence(opened.manifest["ranking"]), nl=False)
    if note:
        echo(note, err=True)
    echo(f"written to {written[0]} and {written[1]}", err=True)


@click.group(cls=Group)
def ears() -> None:
    """Install, list or remove pretrained ears: networks that analyse audio.

    They are in the user's cache, or in the folder UNDERSONG_EARS. `undersong extract` and `train`
    use all installed ears. docs/ears.md
    """


@ears.command()
@click.argument("what", metavar="musicnn|CONTRACT")
@click.option("--wheel", type=FILE, help="The wheel of musicnn 0.1.0, if pip cannot fetch it.")
def install(what: str, wheel: Path | None) -> None:
    """Install MusiCNN, from its published wheel, or your own ears, from a TOML file.

    pip fetches the wheel; its sha256 is checked, its weights are read without TensorFlow, and it is
    deleted. A CONTRACT describes the input and output of the ONNX file next to it.

    \b
    Example:
        undersong ears install musicnn
        undersong ears install my-ears.toml
    """
    from undersong.audio.installation import install_ears, install_musicnn
    from undersong.errors import DataError

    if what != "musicnn" and not what.endswith(".toml"):
        raise DataError(f"{what!r} is neither musicnn nor the TOML file of a contract")
    installed = install_musicnn(wheel) if what == "musicnn" else install_ears(Path(what))
    about = installed.contract
    echo(f"{about.name} is installed: {installed.path}\n{about.licence}; {about.training}")


@ears.command(name="list")
def list_() -> None:
    """List installed ears, with sha256, licence and training data.

    \b
    Example:
        undersong ears list
    """
    from undersong.audio.ears import ears_folder, installed

    for each in (x.contract for x in installed()):
        echo(f"{each.name}  {each.digest[:16]}  {each.licence}; {each.training}")
    if not installed():
        echo(f"none in {ears_folder()}; `undersong ears install musicnn` adds some", err=True)


@ears.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the ears NAME; runs that use them then refuse new songs.

    \b
    Example:
        undersong ears remove musicnn
    """
    from undersong.audio.installation import remove_ears

    remove_ears(name)
    echo(f"{name} is removed")


PLAN_FILE = "undersong.toml"
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
        from undersong.pipeline.refresh import SHELF, refresh as run

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

    path = folder / PLAN_FILE
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

    path = folder / PLAN_FILE
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
