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
    playlist,
    serving,
)
from undersong.cli.group import CLUSTER, Group, check_cluster

SECTIONS: dict[str, dict[click.Command, str]] = {
    "Start": {
        lab.demo: "Try everything on generated artists, audio and listeners.",
        models.refresh: "Do it all: import, train, publish, serve; again by a timer.",
        catalogues.import_: "Make a catalogue from your music, listens or tables.",
        catalogues.check: "List the faults of tables or of a catalogue, with remedies.",
        catalogues.describe: "Show what a catalogue contains, and its long tail.",
    },
    "Learn": {
        clusters.extract: "Analyse the audio files of a catalogue, once.",
        models.ears: "Install pretrained networks that analyse audio better.",
        models.train: "Learn an embedding for every artist and track.",
        models.evaluate: "Measure how good the answers are, against baselines.",
        serving.report: "Write figures, examples and a model card as one page.",
    },
    "Ask": {
        answers.similar: "List what is most similar to an artist or track.",
        answers.explain: "Explain why two items are similar, or not.",
        answers.path: "List a chain of similar items from one to another.",
        answers.recommend: "List what a listener may like and does not play yet.",
        playlist.playlist: "Make a playlist, as a file or on a media server.",
        answers.neighbours: "Write the nearest neighbours of many items as one table.",
    },
    "Serve": {
        serving.publish: "Check a run, draw the map and switch the service to it.",
        serving.serve: "Serve the page and the HTTP API.",
        serving.rollback: "Return to the previous generation.",
        exports.export: "Write vectors and answers for other programs.",
    },
    "Grow": {
        foldin.add: "Add new tracks and artists to a run, without training.",
        catalogues.merge: "Make one catalogue of several.",
        catalogues.identify: "Show and correct who is who in a merged catalogue.",
    },
    "Research": {
        lab.reproduce: "Measure the tables, figures and claims of the paper.",
        lab.tune: "Search better settings on validation items.",
        lab.twin: "Generate a catalogue of any size, to test speed and memory.",
        clusters.relations: "Write which items share many listeners.",
        clusters.embed: "Write the embedding of every item of a catalogue.",
    },
}


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="undersong")
@CLUSTER
@click.pass_context
def cli(context: click.Context, cluster: str | None) -> None:
    """Find similar music, also among artists and tracks that nobody has linked yet.

    Start with `undersong demo`, or with your own music: `undersong refresh my/music --music ~/Music
    --serve`.
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
for title, section in SECTIONS.items():
    cli.add_section(title, section)
