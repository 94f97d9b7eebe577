"""Run folders: what one training left, whole, dated and hashed, and how readers open it."""

from undersong.runs.reader import FOREIGN, RunReader
from undersong.runs.run import (
    FORMAT,
    REMEDY,
    Run,
    check,
    numbers,
    point,
    publishing,
    read,
    read_generation,
)

__all__ = [
    "FOREIGN",
    "FORMAT",
    "REMEDY",
    "Run",
    "RunReader",
    "check",
    "numbers",
    "point",
    "publishing",
    "read",
    "read_generation",
]
