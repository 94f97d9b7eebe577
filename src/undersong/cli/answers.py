"""Commands that answer what is similar: similar, neighbours, path."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from undersong.cli.group import (
    FILE,
    FOLDER,
    GRAPH,
    LONG_TAIL,
    PAPER,
    TRACKS,
    cluster,
    echo,
    kind_in,
)
from undersong.io.display import harmless_json

if TYPE_CHECKING:
    import polars as pl

    from undersong.catalogue import Kind
    from undersong.embeddings import Embeddings
    from undersong.model import Model
    from undersong.retrieval import Neighbours, Query

SHARE = click.FloatRange(0, 1)
FILTERS = (
    click.option("--genre", "genres", multiple=True, help="Only this genre; repeatable."),
    click.option("--all-genres", is_flag=True, help="Require every --genre, not only one."),
    click.option(
        "--region", "regions", multiple=True, help="Only this region or country; repeatable."
    ),
    click.option("--decade", help="Only these decades: 1970, 1960-1980, 1990- or -1950."),
    click.option("--library", type=FILE, help="Only the ids in this file."),
    click.option("--exclude", type=FILE, help="None of the ids in this file."),
    click.option(
        "--max-popularity",
        default=1.0,
        type=SHARE,
        help="Only the least popular, up to this share.",
    ),
    click.option("--pop-begin", default=0.0, type=SHARE, help="Popularity percentile from this,"),
    click.option("--pop-end", default=1.0, type=SHARE, help="up to this."),
    click.option("--per-artist", type=click.IntRange(1), help="At most this many of one artist."),
    click.option("--per-album", type=click.IntRange(1), help="At most this many of one album."),
)
DIVERSITY = click.option(
    "--diversity",
    default=0.0,
    type=SHARE,
    help="0: plain order. 1: answers as different as possible.",
)
ONLY_UNLINKED = click.option(
    "--only-unlinked", is_flag=True, help="Only items without a known link."
)


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options that make a query (``query_of``)."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


def query_of(k: int, options: dict[str, Any]) -> "Query":
    """Make the query that the options of ``with_filters`` describe."""
    from undersong.catalogue import read_ids
    from undersong.model import make_query

    decade_from, decade_to = decades_of(options.pop("decade"))
    for name in ("library", "exclude"):
        options[name] = read_ids(file) if (file := options[name]) else None
    options["exclude"] = options["exclude"] or ()
    return make_query(k=k, decade_from=decade_from, decade_to=decade_to, **options)


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
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "--described",
    multiple=True,
    metavar="WORDS",
    help='In place of QUERY: "genre=dub", "region=JM", "decade=1970", or a phrase.',
)
@click.option("-k", default=10, show_default=True, help="How many to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option(
    "--not", "unlike", multiple=True, help="Leave out what is nearer to this item; repeatable."
)
@click.option("--agree", multiple=True, type=FOLDER, help="Another run; list what both agree on.")
@with_filters
@ONLY_UNLINKED
@DIVERSITY
@PAPER
@GRAPH
@LONG_TAIL
@TRACKS
def similar(
    run: Path,
    queries: tuple[str, ...],
    described: tuple[str, ...],
    k: int,
    as_json: bool,
    unlike: tuple[str, ...],
    agree: tuple[Path, ...],
    tracks: bool,
    **options: Any,
) -> None:
    """List the K items most similar to QUERY, an id or a name, best first.

    The percentage is the chance that somebody who looked at both would list the pair; known links
    have 100 %. Accents, case and punctuation of a name do not matter. If several match, the best
    known is used and stderr lists the others. Filters keep the order.

    With several QUERY, answers that are high in the lists of several come first, each with the
    items it is near to. The percentage is then the mean.

    With --described the query is words: values of fields of the catalogue, or a phrase. The answers
    are ordered by the cosine of E_G.

    \b
    Example:
        undersong similar my/run "Clara Schumann" -k 5 --long-tail 0.5
        undersong similar my/run "Clara Schumann" --decade -1900 --max-popularity 0.5
        undersong similar my/run "Clara Schumann" "Amy Beach"
        undersong similar my/run --described "genre=romantic" --described "decade=1880"
    """
    from undersong.model import load

    if bool(queries) == bool(described):
        raise click.UsageError("give QUERY or --described")
    model, *others = [load(folder) for folder in (run, *agree)]
    kind, query = kind_in(model.run, tracks), query_of(k, options)
    if described:
        neighbours = model.described_as(*described, kind=kind, query=query)
        echo_neighbours(neighbours, as_json=as_json)
        return
    neighbours = model.similar(queries, kind=kind, unlike=unlike, agree=others, query=query)
    for name in queries:
        _name_others(model, name, kind)
    echo_neighbours(neighbours, as_json=as_json)


def echo_neighbours(neighbours: "Neighbours", *, as_json: bool) -> None:
    """Print answers as a table, or one JSON object a line with the note on stderr."""
    if not as_json:
        echo(str(neighbours))
        return
    for x in neighbours:
        item = x.item
        line = {"rank": x.rank, "item": item.id, "name": item.name, "about": item.about}
        line |= {"score": x.score, "confidence": x.confidence, "relations": item.relations}
        _echo_json(line | ({"seeds": x.seeds} if x.seeds else {}))
    if neighbours.note:
        echo(neighbours.note, err=True)


def _name_others(model: "Model", name: str, kind: "Kind") -> None:
    """Name on stderr what a name may also mean."""
    _, *others = model.find(name, kind=kind)
    if others:
        ids = ", ".join(x.id for x in others)
        echo(f"{name!r} may also be: {ids}; use an id", err=True)


def _echo_json(line: object) -> None:
    click.echo(harmless_json(json.dumps(line, ensure_ascii=False)))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--items", type=FILE, help="Only for the ids in this file; else for all items.")
@click.option(
    "--among",
    type=FILE,
    help="The only candidates, as in an evaluation: a file of ids. --library keeps the order "
    "among all items.",
)
@click.option("-k", default=200, show_default=True, help="Neighbours of each item.")
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@with_filters
@ONLY_UNLINKED
@DIVERSITY
@PAPER
@GRAPH
@LONG_TAIL
@TRACKS
def neighbours(
    run: Path,
    items: Path | None,
    among: Path | None,
    k: int,
    out: Path,
    tracks: bool,
    **options: Any,
) -> None:
    """Write the K nearest neighbours of many items as one table.

    The columns are item, rank (from 1), neighbour, score and confidence; with --paper or --graph
    score is the cosine and confidence is missing. A file of ids is text with one id per line, or a
    CSV or Parquet table with a column `id`.

    \b
    Example:
        undersong neighbours my/run -k 50 --out neighbours.parquet
    """
    from undersong.catalogue import read_ids, select
    from undersong.cli.group import ProgressDisplay
    from undersong.model import load
    from undersong.retrieval import search, write_neighbours

    query, opened = query_of(k, options), load(run)
    model = opened.of(kind_in(opened.run, tracks))
    index, attributes, query = model.searched(query)
    table = model.names.table
    selection = select(index.embeddings, table, read_ids(items) if items else None)
    if among:
        query = _closed(query, read_ids(among), index.embeddings, table)
    with cluster() as there, ProgressDisplay() as progress:
        if there:
            from undersong.cluster.jobs import retrieve_there as search
        written, note = write_neighbours(
            index,
            out,
            queries=selection.rows,
            query=query,
            attributes=attributes,
            search=search,
            progress=progress,
        )
    if selection.without:
        echo(f"left out {selection.without} items of which nothing but the name is known", err=True)
    if note:
        echo(note, err=True)
    echo(f"{out}: {written} rows, {len(selection.rows)} items")


def _closed(
    query: "Query", ids: list[str], embeddings: "Embeddings", table: "pl.DataFrame"
) -> "Query":
    """Let some items alone compete."""
    from undersong.catalogue import select
    from undersong.errors import DataError

    if query.library is not None:
        raise DataError("--among and --library both limit the answers; leave one out")
    select(embeddings, table, ids)  # refuses ids that nobody has
    return replace(query, library=frozenset(ids), closed=True)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("first")
@click.argument("last")
@click.option("--steps", type=click.IntRange(1), help="At most this many steps.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@TRACKS
def path(run: Path, first: str, last: str, steps: int | None, as_json: bool, tracks: bool) -> None:
    """List a chain of items from FIRST to LAST in which each step is near.

    Each step connects an item with one of its 20 nearest. The chain has the smallest sum of
    distances (1 - cosine).

    \b
    Example:
        undersong path my/run "Clara Schumann" "Amy Beach" --steps 6
    """
    from undersong.cli.group import ProgressDisplay
    from undersong.model import load

    with ProgressDisplay() as progress:
        model = load(run, progress=progress)
        way = model.path(first, last, kind=kind_in(model.run, tracks), steps=steps)
    if not as_json:
        echo(str(way))
        return
    for x in way:
        line = {"place": x.place, "item": x.item.id, "name": x.item.name, "about": x.item.about}
        _echo_json(line | {"similarity": x.similarity})
    if way.note:
        echo(way.note, err=True)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--details", is_flag=True, help="Also show the numbers that add up to the score.")
@PAPER
@LONG_TAIL
@TRACKS
def explain(
    run: Path,
    a: str,
    b: str,
    as_json: bool,
    details: bool,
    paper: bool,
    long_tail: float,
    tracks: bool,
) -> None:
    """Explain why B is similar to A, or not. A and B are ids or names.

    Shows how much each source speaks for or against the pair, what the two have in common, and what
    is not known. The most important source comes first. With --details the shares and the starting
    point add up to the score; "without it" is how the score would change if both lacked the source.

    \b
    Example:
        undersong explain my/run "Clara Schumann" "Fanny Hensel"
    """
    from undersong.model import load

    model = load(run)
    kind = kind_in(model.run, tracks)
    why = model.explain(a, b, kind=kind, long_tail=long_tail, paper=paper)
    for name in (a, b):
        _name_others(model, name, kind)
    if as_json:
        _echo_json(asdict(why))
    else:
        echo(f"{why}\n\n{why.details()}" if details else str(why))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--user", required=True, help="File of a listener's plays, or a user's id.")
@click.option(
    "--catalogue", type=FOLDER, help="Catalogue with the plays; else the one RUN was trained on."
)
@click.option("-k", default=20, show_default=True, help="How many to list.")
@click.option(
    "--tastes",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Split the plays into this many groups that take turns.",
)
@click.option(
    "--not", "unlike", multiple=True, help="Leave out what is nearer to this item; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@with_filters
@ONLY_UNLINKED
@TRACKS
def recommend(
    run: Path,
    user: str,
    catalogue: Path | None,
    k: int,
    tastes: int,
    unlike: tuple[str, ...],
    as_json: bool,
    tracks: bool,
    **options: Any,
) -> None:
    """List K items that a listener may like and does not play yet, with the reason for each.

    An item is near to what shares its listeners, and to what is near it in E_G.

    The file is a CSV or Parquet table with a column `id` or `name`, and optionally `plays`; or text
    with one id or name per line. A user's id is one from the plays that the run was trained on.

    \b
    Example:
        undersong recommend my/run --user plays.csv --max-popularity 0.5
    """
    from undersong.catalogue import read_catalogue
    from undersong.model import load
    from undersong.retrieval.recommend import read_seeds, seeds_of_user

    model, query = load(run), query_of(k, options)
    kind = kind_in(model.run, tracks)
    listens = read_catalogue(catalogue) if catalogue else model.catalogue
    names, file = model.of(kind).names, Path(user)
    seeds = read_seeds(file, names) if file.is_file() else seeds_of_user(listens, kind, user)
    if listens is None:
        echo(
            "the run's catalogue is not where it was, so who listens to what is not known; "
            "--catalogue says where it is",
            err=True,
        )
    if seeds.unknown:
        words = ", ".join(map(repr, seeds.unknown[:5]))
        echo(f"left out {len(seeds.unknown)} that nobody is called: {words}", err=True)
    neighbours = model.recommend(
        seeds, unlike=unlike, kind=kind, catalogue=listens, tastes=tastes, query=query
    )
    if not as_json:
        echo(str(neighbours))
        return
    for x in neighbours:
        item, (because,) = x.item, neighbours.near(x)
        line = {"rank": x.rank, "item": item.id, "name": item.name, "about": item.about}
        line |= {"score": x.score, "relations": item.relations, "taste": x.taste}
        _echo_json(line | {"because": because})
    if neighbours.note:
        echo(neighbours.note, err=True)
