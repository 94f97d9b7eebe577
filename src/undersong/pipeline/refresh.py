"""Every night: import, merge, extract, train if it is due, publish, write playlists.

    FOLDER/undersong.toml    what is done (``undersong.cli.models`` reads it)
    FOLDER/imports/NAME      a catalogue of each import
    FOLDER/catalogue         all of them merged, if there are several
    FOLDER/run, shelf        what was learned, and what a service reads
    FOLDER/shelf/refresh.json  what became of the last refresh, for a service to show
    FOLDER/refresh.log       what the commands printed

Every stage is a command of undersong, in a process of its own, that goes on where it was
interrupted. So nothing need be remembered between two refreshes.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from undersong import runs
from undersong.catalogue import (
    KINDS,
    Catalogue,
    Kind,
    fingerprint,
    read_catalogue,
)
from undersong.errors import UndersongError
from undersong.foldin.drift import SHARE
from undersong.io.display import one_line
from undersong.io.files import locked, write_json
from undersong.runs import Run
from undersong.sandbox import import_path

IMPORTS, MERGED, RUN, SHELF = "imports", "catalogue", "run", "shelf"
WRITTEN = "catalogue written to"  # a line that says less than the one before
LOG, STATUS = "refresh.log", "refresh.json"
FORMAT = 1
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a refresh does.

    Parameters
    ----------
    imports : name -> words after ``undersong import``; the catalogue is added
    merge, train : options of these commands
    extract : options of that; None where nothing is heard
    playlists : name -> options of ``undersong playlist``
    days : train again at the latest, if anything has changed
    hours : between two refreshes, as the timer has it
    """

    imports: Mapping[str, Sequence[str]]
    merge: Sequence[str] = ()
    extract: Sequence[str] | None = None
    train: Sequence[str] = ()
    playlists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    days: float = 7.0
    hours: float = 24.0


@dataclass
class Outcome:
    """What becomes of a refresh, as it goes on.

    Parameters
    ----------
    new : artists and tracks that were not in the catalogue before, by kind
    trained : why it was trained; empty if it was not
    failed : stage -> reason
    """

    new: dict[Kind, int] = field(default_factory=dict)
    trained: str = ""
    failed: dict[str, str] = field(default_factory=dict)


class StageFailed(UndersongError):
    """A command of a stage ended with an error."""


def refresh(folder: Path, plan: Plan, *, echo: Echo) -> Outcome:
    """Do everything that a plan names; what fails where the rest can go on is noted.

    Parameters
    ----------
    echo : takes one line a stage

    Raises
    ------
    ArtifactError
        If another refresh of the folder runs.
    StageFailed
        If the rest cannot go on. What was published before stays, and the status says why.
    """
    with locked(folder, wait=False):
        started, outcome = datetime.now(UTC), Outcome()
        try:
            with (folder / LOG).open("wb") as log:
                _Stages(folder, log, echo).do(plan, outcome)
        except UndersongError as error:
            outcome.failed.setdefault("refresh", one_line(str(error)))
            raise
        finally:
            _write_status(folder, outcome, started, hours=plan.hours)
    return outcome


@dataclass(frozen=True)
class _Stages:
    folder: Path
    log: BinaryIO
    echo: Echo

    def do(self, plan: Plan, outcome: Outcome) -> None:
        catalogue = MERGED if len(plan.imports) > 1 else f"{IMPORTS}/{next(iter(plan.imports))}"
        before = _ids(self.folder / catalogue)
        for name, words in plan.imports.items():
            own = f"{IMPORTS}/{name}"
            there = (self.folder / own / "catalogue.json").exists()
            kind, source, *options = words
            command = ["import", kind, source, own, *options]
            self.run(f"import {name}", command, outcome if there else None)
        if len(plan.imports) > 1:
            sources = [f"{IMPORTS}/{x}" for x in plan.imports]
            self.run("merge", ["merge", *sources, MERGED, *plan.merge])
        now = _ids(self.folder / catalogue)
        outcome.new = {kind: len(now[kind] - before[kind]) for kind in KINDS}
        if plan.extract is not None:
            self.run("extract", ["extract", catalogue, "--keep-going", *plan.extract])
        outcome.trained = self.reason(self.folder / catalogue, days=plan.days)
        if outcome.trained:
            self.echo(f"train: {outcome.trained}")
            self.run("train", ["train", catalogue, RUN, *plan.train])
        self.run("publish", ["publish", RUN, SHELF])
        for name, rules in plan.playlists.items():
            command = ["playlist", RUN, "--title", name, *rules]
            self.run(f"playlist {name}", command, outcome)

    def run(self, stage: str, words: Sequence[str], outcome: Outcome | None = None) -> None:
        """Run a command, and print its last line; with ``outcome`` an error is noted there."""
        started = time.monotonic()
        self.log.write(f"$ undersong {' '.join(words)}\n".encode())
        self.log.flush()
        place = self.log.tell()
        code = _run(words, self.folder, self.log)
        with (self.folder / LOG).open("rb") as file:
            file.seek(max(place, os.path.getsize(file.name) - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
        telling = (x for x in reversed(lines) if x.strip() and not x.startswith(WRITTEN))
        last = one_line(next(telling, "nothing printed")).strip()
        spent = time.monotonic() - started
        self.echo(f"{stage}: {spent:.0f} s, {'FAILED, ' if code else ''}{last}")
        if not code:
            return
        reason = last.removeprefix("Error: ")
        if outcome is None:
            raise StageFailed(f"{stage} ended with exit code {code}: {reason}")
        outcome.failed[stage] = reason

    def reason(self, catalogue: Path, *, days: float) -> str:
        """Return why training is due; what is new is added to the run where it is not."""
        if not (self.folder / RUN / "current.json").exists():
            return "for the first time"
        run = runs.read(self.folder / RUN)
        if run.manifest["catalogue"] == fingerprint(catalogue):
            return ""
        age = time.time() - (run.home / "items.parquet").stat().st_mtime
        if age > days * 86_400:
            return f"the run is {age / 86_400:.0f} days old, and something has changed"
        known = read_catalogue(catalogue)
        for kind in KINDS:
            trained = set(run.trained_items(kind)["id"])
            if (gone := len(trained - set(known.ids(kind)))) > SHARE * len(trained):
                return f"{gone:,} of {len(trained):,} {kind}s have gone"
        started = time.monotonic()
        count, reasons = add_new(run, known)
        if count:
            self.echo(f"add: {time.monotonic() - started:.0f} s, {count:,} new to the run")
        return reasons[0] if reasons else ""


def add_new(run: Run, catalogue: Catalogue) -> tuple[int, tuple[str, ...]]:
    """Add to a run what its catalogue has got since; count it, and say why to train again."""
    from undersong.foldin import add as adding
    from undersong.foldin.embed import FoldIn
    from undersong.foldin.new_items import NewItem, as_type

    fold_in = FoldIn(run)
    names = dict(zip(catalogue.ids("artist"), catalogue.names("artist"), strict=True))
    items = []
    for kind in KINDS:
        own = {x.name for x in catalogue.fields_of(kind)}
        fields = [x for x in fold_in.known.fields if x.kind == kind and x.name in own]
        new = catalogue.items(kind).filter(~pl.col("id").is_in(list(fold_in.known.ids(kind))))
        for row in new.iter_rows(named=True):
            words = {x.name: as_type(row[x.name], x) for x in fields}
            values = {name: value for name, value in words.items() if value is not None}
            path = row.get("path") and (catalogue.audio_root or Path()) / row["path"]
            artist = row.get("artist", "")
            name = row["name" if kind == "artist" else "title"] or row["id"]
            whose = names.get(artist, "")
            items.append(NewItem(kind, row["id"], name, artist, whose, values, path=path or None))
    results = list(adding.add(fold_in, items))
    new_ones = sum(getattr(x, "what", "") in ("added", "replaced") for x in results)
    return new_ones, adding.due(run)


def _run(words: Sequence[str], folder: Path, log: BinaryIO) -> int:
    """Run a command of undersong in a folder; it ends with this process."""
    # Nothing of the folder is run: it is on no path that modules are searched in.
    environment = {"PYTHONPATH": os.pathsep.join(import_path()), "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "undersong", *words],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                _show(line.decode("utf-8", "replace").strip())
            return process.wait()
        except BaseException:
            process.terminate()
            raise  # once it has ended
        finally:
            _show("")


def _show(line: str) -> None:
    """Show a person at a terminal the newest line of a stage, in place of the one before."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{one_line(line)[:width]}")
        sys.stderr.flush()


def _ids(catalogue: Path) -> dict[Kind, set[str]]:
    if not (catalogue / "catalogue.json").exists():
        return {kind: set() for kind in KINDS}
    known = read_catalogue(catalogue)
    return {kind: set(known.ids(kind)) for kind in KINDS}


def _write_status(folder: Path, outcome: Outcome, started: datetime, *, hours: float) -> None:
    """Write what became of a refresh beside what a service reads, if anything was published."""
    if not (folder / SHELF).is_dir():
        return
    about: dict[str, Any] = {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "next": (started + timedelta(hours=hours)).isoformat(timespec="seconds"),
    }
    write_json(folder / SHELF / STATUS, about | asdict(outcome))
