"""Commands that say how good answers are: evaluate, reproduce."""

from pathlib import Path

import click

from undersong.commands.group import FOLDER


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
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
def evaluate(run: Path, part: str, catalogue: Path | None, as_json: bool) -> None:
    """Say how good the answers of RUN are, with intervals, beside random and the baselines.

    Writes report.json and report.md into RUN.

    \b
    Example:
        undersong evaluate my/run
    """
    from undersong import runs
    from undersong.evaluation.comparison import compare
    from undersong.report import files, terminal
    from undersong.terminal import ProgressDisplay

    opened = runs.read(run)
    with ProgressDisplay() as progress:
        report = compare(opened, part=part, catalogue_folder=catalogue, progress=progress)
    files.write(report, run)
    click.echo((run / "report.json").read_text() if as_json else terminal.render(report))
    click.echo(f"written to {run / 'report.md'} and {run / 'report.json'}", err=True)


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
    from undersong.experiments import ablating, ablation_page, page
    from undersong.experiments import sets as known_sets
    from undersong.experiments.plan import usual_processes
    from undersong.experiments.reproduction import QUICK_SEEDS, SEEDS, Plan
    from undersong.experiments.reproduction import reproduce as make
    from undersong.terminal import ProgressDisplay

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
        written = ablation_page.write(plan, rows)
        click.echo(ablation_page.terminal(plan, rows))
    else:
        written = page.write(plan, found)
        click.echo(page.terminal(plan, found))
    click.echo(f"written to {', '.join(str(x) for x in written)}", err=True)
