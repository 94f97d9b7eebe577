"""Commands that make a catalogue and look at it: import, check, describe."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.cli.group import ALIASES, FILE, FOLDER, REPLACING, TRACKS, Group, echo, kind_of
from undersong.errors import needs
from undersong.io.display import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from undersong.catalogue import Kind
    from undersong.relations import RelationSource


@click.group(name="import", cls=Group)
def import_() -> None:
    """Make a catalogue from data that you have."""


@import_.command()
@click.argument("mapping", type=FILE)
@click.argument("catalogue", type=FOLDER)
@click.option("--data", type=FOLDER, help="Folder of the tables; else that of MAPPING.")
@REPLACING
def tables(mapping: Path, catalogue: Path, data: Path | None, replace: bool) -> None:
    """Make CATALOGUE from CSV or Parquet tables; the TOML file MAPPING says which column is what.

    Data with faults are refused, and the faults listed.

    \b
    Example:
        undersong import tables examples/lieder.toml my/catalogue --data ../shared/data/lieder
    """
    from undersong.catalogue import importing, write_catalogue
    from undersong.importers.tables.conversion import import_tables, text

    with importing(catalogue, "tables", replace=replace):
        made, summary = import_tables(mapping, data=data)
        write_catalogue(made, catalogue, source="tables")
    echo(f"{text(summary)}\ncatalogue written to {catalogue}")


@import_.command()
@click.argument("music", type=FOLDER)
@click.argument("catalogue", type=FOLDER)
@click.option("--relations", type=FILE, help="Table of similar pairs, two columns.")
@ALIASES
@click.option("--moved", is_flag=True, help="The music has moved to MUSIC: read all of it.")
@click.option("--forget", is_flag=True, help="Remove files that cannot be seen now.")
@REPLACING
def folder(
    music: Path,
    catalogue: Path,
    relations: Path | None,
    aliases: Path | None,
    *,
    moved: bool,
    forget: bool,
    replace: bool,
) -> None:
    """Make CATALOGUE from the tags of all audio files in the folder MUSIC, or bring it up to date.

    Run it again at any time: only new and changed files are read. CATALOGUE/failures.csv lists
    files that were left out, with reason and remedy. Files on a disk that is not mounted stay in
    the catalogue unless you use --forget.

    \b
    Example:
        undersong import folder ~/Music my/catalogue
    """
    with needs("audio", "reading tags"):
        from undersong.importers.music.credits import read_aliases
        from undersong.importers.music.folder import import_folder, text
    from undersong.cli.group import ProgressDisplay

    with ProgressDisplay() as progress:
        summary = import_folder(
            music,
            catalogue,
            relations=relations,
            aliases=read_aliases(aliases),
            moved=moved,
            forget=forget,
            replace=replace,
            progress=progress,
        )
    echo(f"{text(summary)}\ncatalogue written to {catalogue}")
    if summary.left_out:
        listed = catalogue / "failures.csv"
        echo(f"{summary.left_out:,} were left out: {listed} says why", err=True)


@import_.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("file", type=FILE)
@click.option("--ids", type=FILE, required=True, help="The ids of the rows: .txt, CSV or Parquet.")
@click.option("--name", default="", help="Name of the features; else that of FILE.")
def features(catalogue: Path, file: Path, ids: Path, name: str) -> None:
    """Add an array of numbers to CATALOGUE: FILE has a row for each track or artist of --ids.

    FILE is .npy, .npz or .safetensors, for example the embeddings of another program. The next
    training reads them like any other source; features of the same name are replaced.

    \b
    Example:
        undersong import features my/catalogue clap.npy --ids ids.txt
    """
    from undersong.importers.tables.conversion import import_features

    echo(f"{import_features(catalogue, file, ids=ids, name=name)}; train again to use them")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--data", type=FOLDER, help="Folder of the tables; else that of the mapping.")
def check(path: Path, data: Path | None) -> None:
    """List every fault of a mapping's tables, or of a catalogue, with its place and remedy.

    \b
    Example:
        undersong check mapping.toml
    """
    from undersong.catalogue import check_catalogue, issues_text as text
    from undersong.cli.group import ProgressDisplay
    from undersong.importers.tables.conversion import check_tables

    with ProgressDisplay() as progress:
        if path.is_dir():
            issues = check_catalogue(path, progress=progress)
        else:
            issues = check_tables(path, data=data)
    echo(text(issues))
    if issues:
        raise SystemExit(1)


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--plot", type=FILE, help="Also draw the long tail: a PNG or SVG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(catalogue: Path, plot: Path | None, as_json: bool) -> None:
    """Show what a catalogue contains: counts, coverage, links, the long tail (figure 1).

    Of several sources of links it shows how often the others confirm a link between artists that
    they know, and how reliable each looks by the metadata; docs/choices.md has the setting.

    \b
    Example:
        undersong describe my/catalogue --plot figure-1.png
    """
    from undersong.catalogue import (
        describe_catalogue,
        description_text,
        plot_relations,
        read_catalogue,
    )
    from undersong.relations import relation_sources

    known = read_catalogue(catalogue)
    description = describe_catalogue(known)
    sources = {x.kind: relation_sources(known, x.kind) for x in description.kinds}
    if as_json:
        compared = {kind: [asdict(x) for x in some] for kind, some in sources.items()}
        echo(json.dumps(asdict(description) | {"relation_sources": compared}))
    else:
        echo(description_text(description))
        for kind, some in sources.items():
            echo(sources_text(kind, some), nl=False)
    if plot:
        plot_relations(description, plot)
        echo(f"drawn in {plot}", err=True)


def sources_text(kind: "Kind", sources: "Sequence[RelationSource]") -> str:
    """Lay a comparison of the sources of links out for a terminal; nothing for one source."""
    lines = [
        f"\n{f'Sources of links between {kind}s':<36}{'pairs':>11}   confirmed   reliability\n"
    ]
    for x in sources:
        share = f"{100 * x.confirmed / x.both_known:.1f} %" if x.both_known else "-"
        name = one_line(x.name or "unnamed")[:32]
        lines.append(f"    {name:<32}{x.pairs:>11,}{share:>12}{x.reliability:>14.2f}\n")
    return "".join(lines) if sources else ""


@click.command()
@click.argument("folders", nargs=-1, type=FOLDER, metavar="CATALOGUE... OUT")
@click.option(
    "--conflicts",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Contradictions that keep two of one name apart; 5: only the name counts.",
)
@click.option(
    "--same-users", is_flag=True, help="The same user id is the same person in all catalogues."
)
@ALIASES
@REPLACING
def merge(
    folders: tuple[Path, ...],
    conflicts: int,
    same_users: bool,
    aliases: Path | None,
    replace: bool,
) -> None:
    """Make one catalogue OUT of several; the same artist or track in two becomes one.

    Items match by MusicBrainz id, by ISRC, then by name, unless region, genre and year contradict.
    Run it again with more catalogues or changed ones: ids and your corrections stay.

    \b
    Example:
        undersong merge my/library my/listens my/merged
    """
    from undersong.errors import DataError

    if len(folders) < 2:
        raise DataError(
            f"{len(folders)} folders are given; name the catalogues first and the result last"
        )
    *sources, out = folders
    from undersong.cli.group import ProgressDisplay

    with needs("identity", "merging"):
        from undersong.importers.music.credits import read_aliases
        from undersong.linkage.identify import merge_folders, summary

    with ProgressDisplay() as progress:
        merged = merge_folders(
            sources,
            out,
            conflicts=conflicts,
            same_users=same_users,
            aliases=read_aliases(aliases),
            replace=replace,
            progress=progress,
        )
    echo(f"{summary(merged)}\ncatalogue written to {out}")


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("query", required=False)
@click.option("--same", nargs=2, metavar="A B", help="Treat as one at the next merge.")
@click.option("--different", nargs=2, metavar="A B", help="Treat as two at the next merge.")
@click.option("--aliases", type=FILE, help="File to write probable aliases to, for editing.")
@TRACKS
def identify(
    catalogue: Path,
    query: str | None,
    same: tuple[str, str] | None,
    different: tuple[str, str] | None,
    aliases: Path | None,
    tracks: bool,
) -> None:
    """Show who QUERY is in each source of a merged CATALOGUE, or list doubtful cases; correct them.

    QUERY, A and B are ids of the catalogue, or source:id as listed; QUERY may be a name. --aliases
    works for any catalogue: it proposes a table for the option --aliases of imports and merge.

    \b
    Example:
        undersong identify my/merged "Nirvana"
        undersong identify my/merged --different library:nirvana listens:nirvana
        undersong identify my/catalogue --aliases aliases.csv
    """
    with needs("identity", "merging"):
        from undersong.linkage import identify as folder

    if aliases:
        count = folder.write_proposals(catalogue, aliases)
        echo(f"{count:,} names may be another artist's: {aliases}; take out what is wrong")
        return
    kind = kind_of(tracks)
    for verdict, pair in (("same", same), ("different", different)):
        if pair:
            correction = folder.correct(catalogue, kind, verdict=verdict, a=pair[0], b=pair[1])
            a, b = (":".join(x) for x in (correction.a, correction.b))
            echo(f"{a} and {b} are {verdict} from the next `undersong merge` on")
    if query:
        for identity in folder.identify(catalogue, kind, query):
            echo(folder.text(identity))
    elif not same and not different:
        echo(folder.ambiguous_text(catalogue, kind))
