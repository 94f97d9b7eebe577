"""MLHD+ (27 billion listens of 583,000 users, MusicBrainz ids alone) -> listens.

One file a user, tab-separated: time, ids of the artists (commas between), release, recording. The
files are packed, and stand in tar archives. There are no names: an artist or track is called by
its id until another source names it. The set is for research; see MetaBrainz for its terms.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from undersong.catalogue import Origin
from undersong.importers.archives import TABLE_REMEDY, members, separated
from undersong.importers.listens.history import listen, listens_of
from undersong.importers.result import Failures, Listens

ORIGIN = Origin("MLHD+", "research; terms of MetaBrainz and McGill", "plays")
WANTED = r"\.(txt|tsv|csv)(\.(zst|gz))?$"
LATEST = 1 << 40  # seconds since 1970


def listens(path: Path, failures: Failures) -> Listens:
    """Read an archive, a folder of them or one user's file, block by block."""
    return listens_of(_rows(path, failures), origin=ORIGIN)


def _rows(path: Path, failures: Failures) -> Iterator[tuple[object, ...]]:
    lacking = "has no file of a user in it, which are <user>.txt.zst"
    for packed in members(path, WANTED, lacking=lacking):
        user = PurePosixPath(packed.name).name.split(".")[0]
        with packed.unpacked() as member:
            for number, values in separated(member, failures, mark="\t", width=4):
                try:
                    yield _row(user, values[0], values[1], values[3])
                except ValueError as error:
                    failures.add(member.name, number, str(error), remedy=TABLE_REMEDY)


def _row(user: str, when: str, artists: str, recording: str) -> tuple[object, ...]:
    seconds = int(when)
    if not 0 <= seconds < LATEST:
        raise ValueError(f"{when} is no time of a listen")
    ids = [x for x in artists.strip("{}").split(",") if x]
    return listen(
        user=user,
        artist=ids[0] if ids else None,
        artist_ids=" ".join(ids),
        title=recording or None,
        recording=recording or None,
        listened_at=seconds,
    )
