"""Commands that answer what is similar: similar, neighbours, path."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from undersong.cli.group import FILE, FOLDER, LONG_TAIL, PAPER, TRACKS, cluster, kind_of

if TYPE_CHECKING:
    import polars as pl

    from undersong.embeddings import Embeddings
    from undersong.retrieval import Query

SHARE = click.FloatRange(0, 1)
FILTERS = (
    click.option("--genre", "genres", multiple=True, help="Of this genre; again for another."),
    click.option("--all-genres", is_flag=True, help="Of every --genre, not only of one."),
    click.option("--region", "regions", multiple=True, help="From here; again for another."),
    click.option("--decade", help="From these decades: 1970, 1960-1980, 1990- or -1950."),
    click.option("--library", type=FILE, help="Only these may be answers: a file of ids."),
    click.option("--exclude", type=FILE, help="These may not be answers: a file of ids."),
    click.option("--max-popularity", default=1.0, type=SHARE, help="No answer above this share."),
    click.option("--pop-begin", default=0.0, type=SHARE, help="Popularity from this share of all,"),
    click.option("--pop-end", default=1.0, type=SHARE, help="up to this share."),
    click.option("--per-artist", type=click.IntRange(1), help="At most so many of one artist."),
    click.option("--per-album", type=click.IntRange(1), help="At most so many of one album."),
)
DIVERSITY = click.option(
    "--diversity", default=0.0, type=SHARE, help="0: the order itself. 1: as unlike as can be."
)


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make a request (``request_of``)."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


def request_of(k: int, wishes: dict[str, Any]) -> "Query":
    """Make the request that the options of ``with_filters`` describe, with --paper."""
    from undersong.catalogue import read_ids
    from undersong.retrieval import Query

    given = dict(wishes)
    first, last = decades_of(given.pop("decade"))
    library, exclude = given.pop("library"), given.pop("exclude")
    genres, regions = given.pop("genres"), given.pop("regions")
    return Query(
        k=k,
        genres=frozenset(genres),
        regions=frozenset(regions),
        decade_from=first,
        decade_to=last,
        library=frozenset(read_ids(library)) if library else None,
        exclude=frozenset(read_ids(exclude)) if exclude else frozenset(),
        **given,
    )


def decades_of(text: str | None) -> tuple[int | None, int | None]:
    """Read "1970", "1960-1980", "1990-" or "-1950" as the first and the last decade."""
    from undersong.errors import DataError

    if text is None:
        return None, None
    first, dash, last = text.partition("-")
    years = [first.strip(), last.strip() if dash else first.strip()]
    if not any(years) or not all(x == "" or (x.isdecimal() and len(x) < 5) for x in years):
        raise DataError(f"--decade {text!r} is no decade; write 1970, 1960-1980, 1990- or -1950")
    low, high = (int(x) if x else None for x in years)
    return low, high


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("-k", default=10, show_default=True, help="How many to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--agree", multiple=True, type=FOLDER, help="Another run, to list what both agree on."
)
@with_filters
@DIVERSITY
@PAPER
@LONG_TAIL
@TRACKS
def similar(
    run: Path,
    queries: tuple[str, ...],
    k: int,
    as_json: bool,
    agree: tuple[Path, ...],
    paper: bool,
    long_tail: float,
    tracks: bool,
    **wishes: Any,
) -> None:
    """List the K items most similar to QUERY, an id or a name, best first.

    The percentage is the chance that a list of similar artists names the answer; known relations
    have 100 %. Accents, case and punctuation of a name do not matter. Where several fit, the best
    known is taken and stderr names the others. Filters keep the order and leave others out.

    Of several QUERY each lists its own answers; those that stand high in the lists of several
    come first, each with whom it is near to. The percentage is then the mean of those.

    \b
    Example:
        undersong similar my/run "Clara Schumann" -k 5 --long-tail 0.5
        undersong similar my/run "Clara Schumann" --decade -1900 --max-popularity 0.5
        undersong similar my/run "Clara Schumann" "Amy Beach"
    """
    from undersong import model, runs
    from undersong.catalogue import Names

    kind, request = kind_of(tracks), request_of(k, {"paper": paper, **wishes})
    opened = [runs.read(folder) for folder in (run, *agree)]
    indexes = [model.open_index(x, kind, paper=paper, long_tail=long_tail) for x in opened]
    facts = [model.facts_of(x, kind, index) for x, index in zip(opened, indexes, strict=True)]
    names = Names(opened[0].items(kind))
    if agree or len(queries) > 1:
        found = model.agreed(indexes, queries, names=names, request=request, facts=facts)
    else:
        found = model.similar(indexes[0], queries[0], names=names, request=request, facts=facts[0])
    for query, match in zip(queries, found.matches, strict=True):
        if match.others:
            click.echo(f"{query!r} may also be: {', '.join(match.others)}; ask by id", err=True)
    if not as_json:
        click.echo(model.text(found))
        return
    seeds = found.seeds or [()] * len(found.neighbours)
    for one, own in zip(found.neighbours, seeds, strict=True):
        line = {**asdict(one), **({"seeds": own} if own else {})}
        click.echo(json.dumps(line, ensure_ascii=False))
    if found.note:
        click.echo(found.note, err=True)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--items", type=FILE, help="Whose neighbours: a file of ids; else all items.")
@click.option(
    "--among",
    type=FILE,
    help="These alone compete, as the pool of an evaluation does: a file of ids. --library keeps "
    "the order among all items.",
)
@click.option("-k", default=200, show_default=True, help="Neighbours of each item.")
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@with_filters
@DIVERSITY
@PAPER
@LONG_TAIL
@TRACKS
def neighbours(
    run: Path,
    items: Path | None,
    among: Path | None,
    k: int,
    out: Path,
    paper: bool,
    long_tail: float,
    tracks: bool,
    **wishes: Any,
) -> None:
    """Write the K nearest neighbours of many items as one table.

    The columns are item, rank (from 1), neighbour, score and confidence; with --paper score is the
    cosine and there is no confidence. A file of ids is plain text with one id a line, or a CSV or
    Parquet table with a column `id`.

    \b
    Example:
        undersong neighbours my/run -k 50 --out neighbours.parquet
    """
    from undersong import model, runs
    from undersong.catalogue import read_ids, select
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.retrieval import search

    kind, request = kind_of(tracks), request_of(k, {"paper": paper, **wishes})
    opened = runs.read(run)
    index = model.open_index(opened, kind, paper=paper, long_tail=long_tail)
    facts = model.facts_of(opened, kind, index)
    table = opened.items(kind)
    asked = select(index.embeddings, table, read_ids(items) if items else None)
    if among:
        request = _closed(request, read_ids(among), index.embeddings, table)
    with cluster() as there, ProgressDisplay() as progress:
        ask = search
        if there:
            from undersong.cluster.jobs import retrieve_there as ask
        written, note = model.write_neighbours(
            index, out, queries=asked.rows, request=request, facts=facts, ask=ask, progress=progress
        )
    if asked.without:
        click.echo(
            f"left out {asked.without} items of which nothing but the name is known", err=True
        )
    if note:
        click.echo(note, err=True)
    click.echo(f"{out}: {written} rows, {len(asked.rows)} items")


def _closed(
    request: "Query", ids: list[str], embeddings: "Embeddings", table: "pl.DataFrame"
) -> "Query":
    """Let some items alone compete."""
    from undersong.catalogue import select
    from undersong.errors import DataError

    if request.library is not None:
        raise DataError("--among and --library both say who may be an answer; leave one out")
    select(embeddings, table, ids)  # refuses ids that nobody has
    return replace(request, library=frozenset(ids), closed=True)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("first")
@click.argument("last")
@click.option("--steps", type=click.IntRange(1), help="At most so many steps; else any number.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@TRACKS
def path(run: Path, first: str, last: str, steps: int | None, as_json: bool, tracks: bool) -> None:
    """List a chain of items from FIRST to LAST in which each step is near.

    Each step leads to one of the 20 items nearest to the last, or back from one to which it is
    near; of all such chains the one whose distances (1 - cosine) have the smallest sum.

    \b
    Example:
        undersong path my/run "Clara Schumann" "Amy Beach" --steps 6
    """
    from undersong import model, runs
    from undersong.catalogue import Names
    from undersong.cli.progress_line import ProgressDisplay

    kind = kind_of(tracks)
    opened = runs.read(run)
    index, names = model.open_index(opened, kind), Names(opened.items(kind))
    with ProgressDisplay() as progress:
        found = model.find_path(index, first, last, names=names, steps=steps, progress=progress)
    if not as_json:
        click.echo(model.path_text(found))
        return
    for one in found.steps:
        click.echo(json.dumps(asdict(one), ensure_ascii=False))
    if found.note:
        click.echo(found.note, err=True)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@PAPER
@LONG_TAIL
@TRACKS
def explain(
    run: Path, a: str, b: str, as_json: bool, paper: bool, long_tail: float, tracks: bool
) -> None:
    """Say why B is, or is not, an answer to A; both an id or a name.

    The shares of the sources and where every pair begins add up to the score. "Without it" is how
    the score would change if both items were silent there; the source whose absence would change
    it most stands first. Below, what the two have in common and what is not known.

    \b
    Example:
        undersong explain my/run "Clara Schumann" "Fanny Hensel"
    """
    from undersong import model, runs
    from undersong.explanation import data, reasons
    from undersong.explanation import explain as finding

    kind = kind_of(tracks)
    opened = runs.read(run)
    known = data.read(opened, kind)
    index = model.open_index(opened, kind, paper=paper)
    first, second, why = finding.explain(
        index, known, opened.items(kind), asked=a, answered=b, long_tail=long_tail
    )
    for query, match in ((a, first), (b, second)):
        if match.others:
            click.echo(f"{query!r} may also be: {', '.join(match.others)}; ask by id", err=True)
    click.echo(json.dumps(asdict(why), ensure_ascii=False) if as_json else reasons.text(why))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--user", required=True, help="A file of what somebody plays, or a user's id.")
@click.option("--catalogue", type=FOLDER, help="Where plays are; else the one that RUN is of.")
@click.option("-k", default=20, show_default=True, help="How many to list.")
@click.option(
    "--tastes",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Groups of what is played that take turns, such as 3; 1: all of it together.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@with_filters
@TRACKS
def recommend(
    run: Path,
    user: str,
    catalogue: Path | None,
    k: int,
    tastes: int,
    as_json: bool,
    tracks: bool,
    **wishes: Any,
) -> None:
    """List K items that a listener may like and does not play yet, and what each is near to.

    Near is what has listeners in common with it, and what E_G places beside it.

    The file is a CSV or Parquet table with a column `id` or `name`, and perhaps `plays`; or text
    with an id or a name a line. A user's id is one of the plays that the run was trained on.

    \b
    Example:
        undersong recommend my/run --user plays.csv --max-popularity 0.5
    """
    from undersong import model, runs
    from undersong.catalogue import Names, read_catalogue
    from undersong.retrieval import recommend as played
    from undersong.retrieval import recommend as recommending

    kind, request = kind_of(tracks), request_of(k, wishes)
    opened = runs.read(run)
    index = model.open_index(opened, kind, paper=True)
    names = Names(opened.items(kind))
    home = catalogue or _catalogue_of(opened.manifest)
    whole = read_catalogue(home) if home else None
    file = Path(user)
    if file.is_file():
        seeds = played.read_seeds(file, names)
    else:
        seeds = played.seeds_of_user(whole, kind, user)
    heard = None
    if whole is not None:
        heard = recommending.listeners_of(whole, kind, index.embeddings.ids)
    else:
        click.echo(
            "the run's catalogue is not where it was, so who listens to what is not known; "
            "--catalogue says where it is",
            err=True,
        )
    if seeds.unknown:
        listed = ", ".join(map(repr, seeds.unknown[:5]))
        click.echo(f"left out {len(seeds.unknown)} that nobody is called: {listed}", err=True)
    facts = model.facts_of(opened, kind, index)
    found = recommending.recommend(
        index, seeds, request=request, facts=facts, heard=heard, tastes=tastes
    )
    answers = recommending.named(found, index, names)
    if not as_json:
        click.echo(recommending.text(answers, found.note, linked=names.linked))
        return
    for one in answers:
        click.echo(json.dumps(asdict(one), ensure_ascii=False))
    if found.note:
        click.echo(found.note, err=True)


def _catalogue_of(manifest: dict[str, Any]) -> Path | None:
    """Folder of the catalogue that a run was trained on, if it is still there."""
    folder = manifest.get("catalogue_folder")
    return Path(folder) if folder and (Path(folder) / "catalogue.json").exists() else None
