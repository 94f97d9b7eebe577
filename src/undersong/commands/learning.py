"""Commands that learn: train, tune."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from undersong.commands.group import FILE, FOLDER, cluster
from undersong.errors import UndersongError

SAID = {"content": "sound or features", "interaction": "listeners"}  # sources, for a reader


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("run", type=FOLDER)
@click.option("--settings", type=FILE, help="A TOML file; docs/choices.md lists what it may say.")
@click.option("--fresh", is_flag=True, help="Begin anew, even if nothing changed.")
def train(catalogue: Path, run: Path, settings: Path | None, fresh: bool) -> None:
    """Learn all embeddings of CATALOGUE and publish them in the folder RUN.

    Interrupt it when you like: the same command goes on from the last checkpoint. When the
    catalogue and the settings are those of RUN already, there is nothing to do.

    \b
    Example:
        undersong train my/catalogue my/run
    """
    from undersong.cluster import workers
    from undersong.pipeline import train_run
    from undersong.run_settings import read_settings
    from undersong.stages.rehearsal import LARGEST
    from undersong.terminal import ProgressDisplay

    chosen = read_settings(settings)
    with cluster() as there, workers.together(), ProgressDisplay() as progress:
        if there:
            from undersong.cluster.training import train_there

            found, new = train_there(catalogue, run, settings=chosen, fresh=fresh)
        else:
            found, new = train_run(catalogue, run, settings=chosen, fresh=fresh, progress=progress)
        if workers.number():
            return  # the first process reports
    if failed := found.manifest["failed_files"]:
        listed = found.home / "failures.csv"
        click.echo(f"{failed} audio files could not be read: {listed} says why", err=True)
    spent = sum(found.manifest["seconds"].values())
    done = f"trained in {spent:.0f} s" if new else "is up to date"
    click.echo(f"{run}: generation {found.generation} {done}; {_judged(found.manifest)}")
    many = len(found.trained_items(found.manifest["kind"]))
    if many > LARGEST and chosen.ranking.folds:
        click.echo(
            f"answers are by cosine: no order is learned of more than {LARGEST:,} items, which "
            f"every question would have to look at (there are {many:,})"
        )


def _judged(manifest: Mapping[str, Any]) -> str:
    """How well validation was answered; or that there was no relation to learn from."""
    training = manifest["training"].get("general")
    if training is None:
        said = ", ".join(SAID.get(x, x) for x in manifest["sources"])
        return (
            f"no relation between {manifest['kind']}s is known, so answers compare what is known "
            f"of each ({said}), without a learned order or a confidence"
        )
    return f"validation NDCG@200 {training['best_score']:.3f} at step {training['best_step']}"


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("study", type=FOLDER)
@click.option("--settings", type=FILE, help="Where to begin: a TOML file; else the defaults.")
@click.option(
    "--stage",
    default="general",
    show_default=True,
    type=click.Choice(["general", "content", "interaction"]),
    help="Whose settings to search.",
)
@click.option(
    "--trials", "count", default=40, show_default=True, type=click.IntRange(1), help="In all."
)
@click.option(
    "--minutes", type=click.FloatRange(0), help="Begin no trial after so long; one at least."
)
@click.option("--only", default="", help="Settings or tables to search, such as loss.known,tail.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the search.")
@click.option("--confirm", is_flag=True, help="Train given and best with two other seeds too.")
def tune(
    catalogue: Path,
    study: Path,
    settings: Path | None,
    stage: str,
    count: int,
    minutes: float | None,
    only: str,
    seed: int,
    confirm: bool,
) -> None:
    """Search better settings of one stage for CATALOGUE, judged by its validation items alone.

    The first trial is what --settings gives, so the gain over it is known. Keeps everything in the
    folder STUDY: run it again to go on, with more --trials to go further. STUDY/best.toml is for
    `undersong train --settings`.

    \b
    Example:
        undersong tune my/catalogue my/study --trials 40 --confirm
    """
    try:
        from undersong.tuning import results
        from undersong.tuning import study as studies
    except ModuleNotFoundError as error:
        raise UndersongError(
            f"tuning needs {error.name}; install it with: pip install 'undersong[tune]'"
        ) from error
    from undersong.run_settings import read_settings
    from undersong.terminal import ProgressDisplay

    with ProgressDisplay() as progress:
        found = studies.tune(
            catalogue,
            study,
            settings=read_settings(settings),
            stage=stage,
            count=count,
            minutes=minutes,
            only=[x.strip() for x in only.split(",") if x.strip()],
            seed=seed,
            confirm=confirm,
            progress=progress,
        )
    click.echo(results.text(found, catalogue=catalogue, folder=study))
