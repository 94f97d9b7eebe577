"""Command line. A command reads files, calls one library function, writes one result."""

import io
import sys

import click

from undersong import __version__
from undersong.cli import (
    answers,
    catalogues,
    clusters,
    exports,
    foldin,
    imports,
    lab,
    models,
    serving,
)
from undersong.cli.group import CLUSTER, Group, check_cluster

COMMANDS = (
    catalogues.import_,
    catalogues.check,
    catalogues.describe,
    catalogues.merge,
    catalogues.identify,
    clusters.extract,
    models.train,
    lab.tune,
    foldin.add,
    models.evaluate,
    lab.reproduce,
    answers.similar,
    answers.neighbours,
    answers.path,
    answers.recommend,
    answers.explain,
    serving.publish,
    serving.rollback,
    serving.report,
    exports.export,
    serving.serve,
    lab.demo,
    lab.twin,
    clusters.relations,
    clusters.embed,
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="undersong")
@CLUSTER
@click.pass_context
def cli(context: click.Context, cluster: str | None) -> None:
    """Learn one embedding for every artist and track, and answer what is similar.

    Also for those that nobody has linked yet. Begin with `undersong demo`, or with your own
    tables: `undersong import tables`, `train`, `evaluate`, `similar`.
    """
    check_cluster(context, cluster)


def main() -> None:
    """Run the command line. What a terminal cannot encode is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="undersong")


exports.export.add_command(foldin.onnx)
for command in imports.COMMANDS:
    catalogues.import_.add_command(command)
for command in COMMANDS:
    cli.add_command(command)
