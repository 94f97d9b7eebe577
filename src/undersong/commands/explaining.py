"""The command that says why: explain."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from undersong.commands.group import FOLDER, LONG_TAIL, PAPER, TRACKS, kind_of


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
    from undersong import runs, search
    from undersong.explaining import background, finding, wording

    kind = kind_of(tracks)
    opened = runs.read(run)
    known = background.read(opened, kind)
    index = search.open_index(opened, kind, paper=paper)
    first, second, why = finding.explain(
        index, known, opened.items(kind), asked=a, answered=b, long_tail=long_tail
    )
    for query, match in ((a, first), (b, second)):
        if match.others:
            click.echo(f"{query!r} may also be: {', '.join(match.others)}; ask by id", err=True)
    click.echo(json.dumps(asdict(why), ensure_ascii=False) if as_json else wording.text(why))
