"""Command for a listener: recommend."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from undersong.commands.answering import request_of, with_filters
from undersong.commands.group import FOLDER, TRACKS, kind_of


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
    from undersong import recommending, runs, search
    from undersong import seeds as played
    from undersong.catalogue import tables

    kind, request = kind_of(tracks), request_of(k, wishes)
    opened = runs.read(run)
    index = search.open_index(opened, kind, paper=True)
    names = search.Names(opened.items(kind))
    home = catalogue or _catalogue_of(opened.manifest)
    whole = tables.read(home) if home else None
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
    facts = search.facts_of(opened, kind, index)
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
