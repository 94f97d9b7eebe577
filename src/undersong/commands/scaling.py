"""Commands for what outgrows a machine: relations, embed."""

from pathlib import Path

import click

from undersong.commands.group import FILE, FOLDER, TRACKS, cluster, kind_of


@click.command()
@click.argument("catalogue", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(0), help="0: no limit.")
@click.option("--threshold", default=1, show_default=True, type=click.IntRange(1))
@TRACKS
def relations(catalogue: Path, out: Path, top: int, threshold: int, tracks: bool) -> None:
    """Write which items of CATALOGUE have many listeners in common (R_U).

    Each item is related to the TOP items with which it shares most listeners, THRESHOLD or more.
    The columns are a and b, and each pair stands once.

    \b
    Example:
        undersong relations my/catalogue --out shared.parquet
    """
    import polars as pl
    from scipy import sparse

    from undersong import relations as related
    from undersong.catalogue import tables
    from undersong.files import replacing

    kind, found = kind_of(tracks), tables.read(catalogue)
    plays = related.listeners(found, kind)
    with cluster() as there:
        if there:
            from undersong.cluster.connection import in_order

            pairs = related.shared_listeners(plays, threshold=threshold, top=top, each=in_order)
        else:
            pairs = related.shared_listeners(plays, threshold=threshold, top=top)
    once = sparse.triu(pairs).tocoo()
    ids = pl.Series(found.ids(kind), dtype=pl.String)
    with replacing(out) as temporary:
        pl.DataFrame({"a": ids[once.row], "b": ids[once.col]}).write_parquet(temporary)
    click.echo(f"{out}: {len(once.row)} pairs of {kind}s")


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("catalogue", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The Parquet file to write.")
@TRACKS
def embed(run: Path, catalogue: Path, out: Path, tracks: bool) -> None:
    """Write E_G of every item of CATALOGUE, as the trained RUN reads it.

    For a catalogue of which only a part was trained on. The columns are id and vector.

    \b
    Example:
        undersong embed my/run my/catalogue --tracks --out vectors.parquet
    """
    from undersong import runs
    from undersong.catalogue import tables
    from undersong.cluster.embedding import embed_catalogue
    from undersong.terminal import ProgressDisplay

    opened, found, kind = runs.read(run), tables.read(catalogue), kind_of(tracks)
    work = catalogue / tables.EXTRACTED
    with cluster() as there, ProgressDisplay() as progress:
        if there:
            from undersong.cluster.streaming import vectors_there

            vectors = embed_catalogue(
                opened, found, kind, work=work, each=vectors_there, progress=progress
            )
        else:
            vectors = embed_catalogue(opened, found, kind, work=work, progress=progress)
    vectors.write(out)
    click.echo(f"{out}: {len(vectors.ids)} {kind}s")
