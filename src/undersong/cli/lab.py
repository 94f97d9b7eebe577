"""Commands that experiment: tune, reproduce; and that generate: demo, twin."""

from pathlib import Path

import click

from undersong.cli.group import FILE, FOLDER, REPLACING, echo
from undersong.errors import needs


@click.command()
@click.argument("folder", default="demo", type=FOLDER)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--artists", default=300, show_default=True, type=click.IntRange(20))
@click.option("--serve", "serving", is_flag=True, help="Then serve its page until Ctrl-C.")
@click.pass_context
def demo(context: click.Context, folder: Path, seed: int, artists: int, serving: bool) -> None:
    """Try everything on generated artists with audio files, listeners and known relations.

    Runs each step that your own data would need, from files on disk to a page, and shows its
    command. It takes about two minutes, and less when run again.

    \b
    Example:
        undersong demo my-demo
        undersong demo my-demo --serve
    """
    from undersong.cli.group import ProgressDisplay
    from undersong.cli.serving import serve
    from undersong.io.files import locked
    from undersong.lab.synthetic.tour import shelf_of, tour

    with locked(folder), ProgressDisplay() as progress:
        tour(folder, seed=seed, artists=artists, say=click.echo, progress=progress)
    if serving:
        context.invoke(serve, folder=shelf_of(folder), quiet=True)


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--artists", default=9_627, show_default=True, type=click.IntRange(100))
@click.option("--tracks", default=61_584, show_default=True, type=click.IntRange(0))
@click.option("--plays", default=6_800_000, show_default=True, type=click.IntRange(100))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@REPLACING
def twin(out: Path, artists: int, tracks: int, plays: int, seed: int, replace: bool) -> None:
    """Generate a catalogue of the paper's shape at any size, to test speed and memory.

    It has no audio files. Artists belong to hidden taste groups, which determine plays, genres,
    descriptors and links; popularity is as uneven as in real listening.

    \b
    Example:
        undersong twin my-twin --artists 100000 --tracks 640000 --plays 70000000
    """
    from undersong.cli.group import ProgressDisplay
    from undersong.lab.synthetic.twin import make_twin

    with ProgressDisplay() as progress:
        make_twin(
            out,
            artists=artists,
            tracks=tracks,
            plays=plays,
            seed=seed,
            replace=replace,
            progress=progress,
        )
    echo(f"{artists:,} artists, {tracks:,} tracks, {plays:,} plays in {out}")


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.argument("study", type=FOLDER)
@click.option("--settings", type=FILE, help="TOML file to start from; else the defaults.")
@click.option(
    "--stage",
    default="general",
    show_default=True,
    type=click.Choice(["general", "content", "interaction"]),
    help="Stage whose settings to search.",
)
@click.option(
    "--trials",
    "count",
    default=40,
    show_default=True,
    type=click.IntRange(1),
    help="Number of trials.",
)
@click.option("--minutes", type=click.FloatRange(0), help="Start no trial after this time.")
@click.option("--only", default="", help="Settings or tables to search, such as loss.known,tail.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the search."
)
@click.option(
    "--confirm", is_flag=True, help="Also train the first and the best with two other seeds."
)
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
    """Search better settings of one stage for CATALOGUE, on its validation items alone.

    The first trial is --settings, so the gain over it is known. Everything is in the folder STUDY:
    run it again to continue, with more --trials to go further. STUDY/best.toml is for `undersong
    train --settings`.

    \b
    Example:
        undersong tune my/catalogue my/study --trials 40 --confirm
    """
    with needs("tune", "tuning"):
        from undersong.lab.tuning.study import text, tune as search
    from undersong.cli.group import ProgressDisplay
    from undersong.pipeline.run_settings import read_settings

    with ProgressDisplay() as progress:
        tuned = search(
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
    echo(text(tuned, catalogue=catalogue, folder=study))


@click.command()
@click.argument("out", type=FOLDER)
@click.option(
    "--data",
    "sets",
    help="Sets, separated by commas: A, B, T, lieder, olga.  [default: A,B,T; for ablations B, for "
    "noise A,B]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Training seeds.  [default: 5; with --quick 2; for ablations 1, for noise 3]",
)
@click.option("--quick", is_flag=True, help="Short trainings, to see that it runs.")
@click.option("--ablations", is_flag=True, help="Only measure what each part of GRM contributes.")
@click.option("--noise", is_flag=True, help="Only measure what the prior does to false relations.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Trainings at a time, about 2 GB each.  [default: one per processor; on a GPU 1]",
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
    "split",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "test"]),
    help="Queries; the test relations of these sets are sealed.",
)
def reproduce(
    out: Path,
    sets: str | None,
    seeds: int | None,
    quick: bool,
    ablations: bool,
    noise: bool,
    processes: int | None,
    data: Path,
    examples: Path,
    split: str,
) -> None:
    """Reproduce the paper: tables 1 and 2, figures 1 and 4, and a verdict on each claim.

    You can interrupt it; the same command continues. Writes reproduction.md, reproduction.json and
    the figures into OUT; with --ablations ablations.md and ablations.json, with --noise noise.md,
    noise.json and its curves.

    \b
    Example:
        undersong reproduce my-reproduction --data A,T --seeds 3
    """
    from undersong.cli.group import ProgressDisplay
    from undersong.io.files import locked
    from undersong.lab.reproduction.ablations import ablate
    from undersong.lab.reproduction.datasets import named
    from undersong.lab.reproduction.experiment import Plan, reproduce as reproduce_paper
    from undersong.lab.reproduction.job_runner import usual_processes
    from undersong.lab.reproduction.noise import measure_noise
    from undersong.lab.reproduction.pages import (
        ablations_page,
        noise_page,
        reproduction_page,
        terminal,
        write,
    )

    if ablations and noise:
        raise click.UsageError("give --ablations or --noise, one at a time")
    measure, make_page, usual, usual_seeds = reproduce_paper, reproduction_page, "A,B,T", 5
    if ablations:
        measure, make_page, usual, usual_seeds = ablate, ablations_page, "B", 1
    if noise:
        measure, make_page, usual, usual_seeds = measure_noise, noise_page, "A,B", 3
    plan = Plan(
        out,
        data,
        examples,
        seeds=seeds or (min(usual_seeds, 2) if quick else usual_seeds),
        quick=quick,
        split=split,
        processes=processes or usual_processes(),
    )
    chosen = named(sets or usual)
    with locked(out), ProgressDisplay() as progress:
        results = measure(plan, chosen, progress=progress)
        page = make_page(plan, results)
        written = write(page)
    echo(terminal(page))
    echo(f"written to {', '.join(str(x) for x in written)}", err=True)
