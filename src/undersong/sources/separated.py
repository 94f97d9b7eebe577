"""Lines of values, of which each has as many as it should."""

import csv
from collections.abc import Iterator, Sequence

from undersong.sources.archives import Member
from undersong.sources.failures import Failures

REMEDY = "nothing is lost but this line"


def separated(
    member: Member,
    failures: Failures,
    *,
    mark: str,
    width: int,
    encoding: str = "utf-8",
    before: int = 0,
) -> Iterator[tuple[int, Sequence[str]]]:
    """Give the values of each line with its number from 1, headers too.

    Parameters
    ----------
    mark : between values; only commas may stand within quotes
    width : values a line; another line is left out
    before : lines that were read already
    """
    for number, line in member.lines(failures, before=before):
        text = line.decode(encoding, "replace").rstrip("\r\n")
        text = text.removeprefix("\ufeff") if number == 1 else text
        try:
            values = next(csv.reader([text])) if mark == "," else text.split(mark)
        except csv.Error as error:
            failures.add(member.name, number, str(error), remedy=REMEDY)
            continue
        if len(values) == width:
            yield number, values
        else:
            failures.add(
                member.name, number, f"has {len(values)} values, not {width}", remedy=REMEDY
            )
