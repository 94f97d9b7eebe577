"""Command line. A command reads files, calls one library function, writes one result."""

import click

from undersong import __version__
from undersong.commands import (
    adding,
    answering,
    audio,
    explaining,
    exporting,
    identifying,
    importing,
    importing_services,
    learning,
    measuring,
    publishing,
    recommending,
    scaling,
    serving,
    showing,
)
from undersong.commands.group import CLUSTER, Group, check_cluster

COMMANDS = (
    importing.import_,
    importing.check,
    importing.describe,
    identifying.merge,
    identifying.identify,
    audio.extract,
    learning.train,
    learning.tune,
    adding.add,
    measuring.evaluate,
    measuring.reproduce,
    answering.similar,
    answering.neighbours,
    answering.path,
    recommending.recommend,
    explaining.explain,
    publishing.publish,
    publishing.rollback,
    publishing.report,
    exporting.export,
    serving.serve,
    showing.demo,
    showing.twin,
    scaling.relations,
    scaling.embed,
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
    """Run the command line."""
    cli(prog_name="undersong")


exporting.export.add_command(adding.onnx)
for command in importing_services.COMMANDS:
    importing.import_.add_command(command)
for command in COMMANDS:
    cli.add_command(command)
