"""Commands that answer what is similar: similar, neighbours."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from undersong.commands.group import FILE, FOLDER, LONG_TAIL, PAPER, TRACKS, kind_of


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("query")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many to list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@PAPER
@LONG_TAIL
@TRACKS
def similar(
    run: Path, query: str, k: int, as_json: bool, paper: bool, long_tail: float, tracks: bool
) -> None:
    """List the K items most similar to QUERY, an id or a name, best first.

    The percentage is the chance that a list of similar artists names the answer; known relations
    have 100 %. Accents, case and punctuation of a name do not matter. Where several fit, the best
    known is taken and stderr names the others.

    \b
    Example:
        undersong similar my/run "Clara Schumann" -k 5 --long-tail 0.5
    """
    from undersong import runs, search

    kind = kind_of(tracks)
    opened = runs.read(run)
    index = search.open_index(opened, kind, paper=paper, long_tail=long_tail)
    match, found = search.similar(index, opened.items(kind), query, k=k)
    if match.others:
        click.echo(f"{query!r} may also be: {', '.join(match.others)}; ask by id", err=True)
    if as_json:
        for one in found:
            click.echo(json.dumps(asdict(one), ensure_ascii=False))
        return
    click.echo(search.text(match, found))


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--items", type=FILE, help="Whose neighbours: a file of ids; else all items.")
@click.option("--among", type=FILE, help="Which items may be answers: a file of ids; else all.")
@click.option("-k", default=200, show_default=True, help="Neighbours of each item.")
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
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
) -> None:
    """Write the K nearest neighbours of many items as one table.

    The columns are item, rank (from 1), neighbour, score and confidence; with --paper score is the
    cosine and there is no confidence. A file of ids is plain text with one id a line, or a CSV or
    Parquet table with a column `id`.

    \b
    Example:
        undersong neighbours my/run -k 50 --out neighbours.parquet
    """
    from undersong import runs, search
    from undersong.terminal import ProgressDisplay

    opened = runs.read(run)
    table = opened.items(kind_of(tracks))
    index = search.open_index(opened, kind_of(tracks), paper=paper, long_tail=long_tail)
    embeddings = index.embeddings
    asked = search.select(embeddings, table, search.read_ids(items) if items else None)
    answers = search.select(embeddings, table, search.read_ids(among) if among else None)
    with ProgressDisplay() as progress:
        written = search.write_neighbours(
            index, out, queries=asked.rows, among=answers.rows, k=k, progress=progress
        )
    if asked.without or answers.without:
        lost = max(asked.without, answers.without)
        click.echo(f"left out {lost} items of which nothing but the name is known", err=True)
    click.echo(f"{out}: {written} rows, {len(asked.rows)} items, {len(answers.rows)} candidates")
