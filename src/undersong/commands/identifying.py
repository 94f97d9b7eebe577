"""Commands about who is who: merge, identify."""

from pathlib import Path

import click

from undersong.commands.group import FOLDER, TRACKS, kind_of
from undersong.errors import UndersongError


@click.command()
@click.argument("folders", nargs=-1, type=FOLDER, metavar="CATALOGUE... OUT")
@click.option(
    "--conflicts",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="So many contradicting facts keep two of one name apart; 5: the name alone decides.",
)
@click.option("--same-users", is_flag=True, help="A user's id means one person in all of them.")
def merge(folders: tuple[Path, ...], conflicts: int, same_users: bool) -> None:
    """Make one catalogue OUT of several; the same artist or track of two becomes one.

    By MusicBrainz id, ISRC, then by name, unless region, genre and year contradict. Run it again
    with more catalogues or changed ones: ids stay, and so does what you corrected.

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
    try:
        from undersong.identity.folder import merge_folders, summary
    except ModuleNotFoundError as error:
        raise _lacking(error) from error

    merged = merge_folders(sources, out, conflicts=conflicts, same_users=same_users)
    click.echo(f"{summary(merged)}\ncatalogue written to {out}")


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("query", required=False)
@click.option("--same", nargs=2, metavar="A B", help="They are one; at the next merge.")
@click.option("--different", nargs=2, metavar="A B", help="They are two; at the next merge.")
@TRACKS
def identify(
    catalogue: Path,
    query: str | None,
    same: tuple[str, str] | None,
    different: tuple[str, str] | None,
    tracks: bool,
) -> None:
    """Show who QUERY is in each source of a merged CATALOGUE, or who is in doubt; and correct it.

    QUERY, A and B are ids of the catalogue, or source:id as listed; QUERY may be a name.

    \b
    Example:
        undersong identify my/merged "Nirvana"
        undersong identify my/merged --different library:nirvana listens:nirvana
    """
    try:
        from undersong.identity import folder
    except ModuleNotFoundError as error:
        raise _lacking(error) from error

    kind = kind_of(tracks)
    for verdict, pair in (("same", same), ("different", different)):
        if pair:
            said = folder.correct(catalogue, kind, verdict=verdict, a=pair[0], b=pair[1])
            a, b = (":".join(x) for x in (said.a, said.b))
            click.echo(f"{a} and {b} are {verdict} from the next `undersong merge` on")
    if query:
        for found in folder.identify(catalogue, kind, query):
            click.echo(folder.text(found))
    elif not same and not different:
        click.echo(folder.doubts_text(catalogue, kind))


def _lacking(error: ModuleNotFoundError) -> UndersongError:
    return UndersongError(
        f"merging needs {error.name}; install it with: pip install 'undersong[identity]'"
    )
