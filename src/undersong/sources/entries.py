"""The entries of a JSON array, one by one, also of an array that is damaged somewhere."""

import json
import re
from collections.abc import Iterator
from typing import Any

from undersong.sources.archives import Member
from undersong.sources.failures import Failures

START = re.compile(r'\s*(?:\{.*?"scrobbles"\s*:\s*)?\[', re.S)
BETWEEN = re.compile(r"[\s,]*")
NEXT = re.compile(r"\}\s*,\s*(?=\{)")  # where to go on after an entry that is no JSON
REMEDY = "nothing is lost but this entry"


def entries(member: Member, failures: Failures) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give each object of an array, with its number from 1.

    The array is the whole file, or under the key ``scrobbles``.
    """
    text = member.whole().decode("utf-8-sig", "replace")
    start = START.match(text)
    if start is None:
        remedy = "ask the service for the export again"
        failures.add(member.name, None, "holds no JSON array of entries", remedy=remedy)
        return
    decode = json.JSONDecoder().raw_decode
    place, number = _after(BETWEEN, text, start.end()), 0
    while place < len(text) and text[place] != "]":
        number += 1
        try:
            entry, place = decode(text, place)
        except (ValueError, RecursionError) as error:
            failures.add(member.name, number, f"entry {number} is no JSON: {error}", remedy=REMEDY)
            again = NEXT.search(text, place)
            if again is None:
                return
            place = again.end()
            continue
        place = _after(BETWEEN, text, place)
        if isinstance(entry, dict):
            yield number, entry
        else:
            failures.add(member.name, number, f"entry {number} is no object", remedy=REMEDY)


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place
