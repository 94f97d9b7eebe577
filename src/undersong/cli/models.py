"""Commands that learn: train, tune."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from undersong.cli.group import FILE, FOLDER, cluster
from undersong.errors import needs

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
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.pipeline.run_settings import read_settings
    from undersong.pipeline.train import train_run
    from undersong.ranking.crossfit import LARGEST
    from undersong.training import distributed

    chosen = read_settings(settings)
    with cluster() as there, distributed.process_group(), ProgressDisplay() as progress:
        if there:
            from undersong.cluster.jobs import train_there

            found, new = train_there(catalogue, run, settings=chosen, fresh=fresh)
        else:
            found, new = train_run(catalogue, run, settings=chosen, fresh=fresh, progress=progress)
        if distributed.rank():
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
    with needs("tune", "tuning"):
        from undersong.lab.tuning import study as studies
        from undersong.lab.tuning import trials_table
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.pipeline.run_settings import read_settings

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
    click.echo(trials_table.text(found, catalogue=catalogue, folder=study))


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--split",
    "part",
    default="test",
    show_default=True,
    type=click.Choice(["test", "validation"]),
    help="Whose items ask.",
)
@click.option("--catalogue", type=FOLDER, help="Else the one that RUN was trained on.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of similar pairs, columns a and b, that the run never saw: judge by these.",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
def evaluate(
    run: Path, part: str, catalogue: Path | None, truth: Path | None, as_json: bool
) -> None:
    """Say how good the answers of RUN are, with intervals, beside random and the baselines.

    Writes report.json and report.md into RUN. With --truth the answers are judged by relations
    that the run never saw, such as a later list's or another platform's: items that nobody had
    linked ask, and known ones should find them. That writes truth.json and truth.md.

    \b
    Example:
        undersong evaluate my/run
        undersong evaluate my/run --truth later.csv
    """
    from undersong import runs
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.evaluation.compare import compare, compare_truth
    from undersong.report import report_files, terminal

    opened = runs.read(run)
    with ProgressDisplay() as progress:
        if truth is None:
            report = compare(opened, part=part, catalogue_folder=catalogue, progress=progress)
            name, note = "report", ""
        else:
            report, note = compare_truth(
                opened, truth=truth, catalogue_folder=catalogue, progress=progress
            )
            name = "truth"
    report_files.write(report, run, name=name)
    written = [run / f"{name}.{ending}" for ending in ("md", "json")]
    click.echo(written[1].read_text() if as_json else terminal.render(report))
    if note:
        click.echo(note, err=True)
    click.echo(f"written to {written[0]} and {written[1]}", err=True)


@click.command()
@click.argument("out", type=FOLDER)
@click.option(
    "--data",
    "sets",
    help="Which sets, with commas between: A, B, T, lieder, olga.  [default: A,B,T; for ablations "
    "B]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Training seeds.  [default: 5; with --quick 2; for ablations 1]",
)
@click.option("--quick", is_flag=True, help="Short trainings, to see that it runs.")
@click.option("--ablations", is_flag=True, help="What each part of GRM is worth, in place of all.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Trainings side by side, 2 GB each or so.  [default: one a processor; on a GPU 1]",
)
@click.option(
    "--from",
    "data",
    default="../shared/data",
    show_default=True,
    type=FOLDER,
    help="Folder that holds multisource, lieder and olga.",
)
@click.option(
    "--examples",
    default="examples",
    show_default=True,
    type=FOLDER,
    help="Folder of the mappings and settings of the sets.",
)
@click.option(
    "--split",
    "part",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "test"]),
    help="Whose items ask; the test relations of these sets are sealed.",
)
def reproduce(
    out: Path,
    sets: str | None,
    seeds: int | None,
    quick: bool,
    ablations: bool,
    processes: int | None,
    data: Path,
    examples: Path,
    part: str,
) -> None:
    """Measure the paper: tables 1 and 2, figures 1 and 4, and what becomes of its claims.

    Everything lies in OUT. Interrupt it when you like: the same command goes on where it was.
    Writes reproduction.md, reproduction.json and the figures into OUT; with --ablations
    ablations.md and ablations.json.

    \b
    Example:
        undersong reproduce my-reproduction --data A,T --seeds 3
    """
    from undersong.cli.progress_line import ProgressDisplay
    from undersong.lab.reproduction import ablations as ablating
    from undersong.lab.reproduction import datasets as known_sets
    from undersong.lab.reproduction import pages
    from undersong.lab.reproduction.experiment import QUICK_SEEDS, SEEDS, Plan
    from undersong.lab.reproduction.experiment import reproduce as make
    from undersong.lab.reproduction.plan import usual_processes

    count = seeds or (1 if ablations else QUICK_SEEDS if quick else SEEDS)
    plan = Plan(
        out,
        data,
        examples,
        seeds=count,
        quick=quick,
        part=part,
        processes=processes or usual_processes(),
    )
    asked = known_sets.chosen(sets or ("B" if ablations else "A,B,T"))
    with ProgressDisplay() as progress:
        if ablations:
            rows = ablating.ablate(plan, asked, progress=progress)
        else:
            found = make(plan, asked, progress=progress)
    if ablations:
        written = pages.write_ablations(plan, rows)
        click.echo(pages.ablations_terminal(plan, rows))
    else:
        written = pages.write(plan, found)
        click.echo(pages.terminal(plan, found))
    click.echo(f"written to {', '.join(str(x) for x in written)}", err=True)
