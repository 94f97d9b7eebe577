"""Commands that train and judge a model: train, evaluate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from undersong.cli.group import FILE, FOLDER, cluster, echo

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
    from undersong.cli.group import ProgressDisplay
    from undersong.pipeline.run_settings import read_settings
    from undersong.pipeline.train import train_run
    from undersong.training import distributed

    chosen = read_settings(settings)
    with cluster() as there, distributed.process_group(), ProgressDisplay() as progress:
        if there:
            from undersong.cluster.jobs import train_there

            latest, new = train_there(catalogue, run, settings=chosen, fresh=fresh)
        else:
            latest, new = train_run(catalogue, run, settings=chosen, fresh=fresh, progress=progress)
        if distributed.rank():
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
    from undersong.report import report_files, terminal

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
        report_files.write(report, run, name=name)
    written = [run / f"{name}.{ending}" for ending in ("md", "json")]
    echo(written[1].read_text() if as_json else terminal.render(report))
    if truth is None and not as_json:
        echo(terminal.render_confidence(opened.manifest["ranking"]), nl=False)
    if note:
        echo(note, err=True)
    echo(f"written to {written[0]} and {written[1]}", err=True)
