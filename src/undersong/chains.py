"""A chain from one item to another, found by their names, and how it is shown."""

from dataclasses import dataclass

import numpy as np

from undersong.names import Names
from undersong.progress import Progress, silent
from undersong.retrieval.nearest import Index
from undersong.retrieval.paths import Chain, chain, graph
from undersong.search import row_of


@dataclass(frozen=True)
class Step:
    """One item of a chain: its place from 1, what it is, and the cosine to the one before."""

    place: int
    item: str
    name: str
    about: str
    similarity: float | None


@dataclass(frozen=True)
class NamedChain:
    """Items from one to another; where there are none, ``note`` says why."""

    steps: tuple[Step, ...]
    note: str = ""


def find(
    index: Index,
    first: str,
    last: str,
    *,
    names: Names,
    steps: int | None = None,
    progress: Progress = silent,
) -> NamedChain:
    """Find the chain between two items, each an id or a name (``undersong.retrieval.paths``).

    Raises
    ------
    UnknownItem
        If no item fits a name.
    DataError
        If nothing but its name is known of one, or ``steps`` is less than 1.
    """
    start, end = names.find(first), names.find(last)
    ends = row_of(index, start), row_of(index, end)
    links = graph(index, progress=progress)
    found = chain(links, *ends, steps=steps)
    if found.rows:
        return NamedChain(_steps(index, found, names))
    longer = chain(links, *ends) if steps is not None else found
    return NamedChain((), _why_none(start.name, end.name, steps, longer))


def text(found: NamedChain) -> str:
    """Show a chain in the terminal: place, cosine to the one before, name, id."""
    lines = [
        f"{one.place:4}  {'' if one.similarity is None else f'{one.similarity:6.3f}':>6}  "
        f"{one.name} ({one.item})  {one.about}".rstrip()
        for one in found.steps
    ]
    return "\n".join(lines) or found.note


def _steps(index: Index, found: Chain, names: Names) -> tuple[Step, ...]:
    cosines = [None, *np.round(found.similarity, 4).tolist()]
    steps = []
    for place, (row, cosine) in enumerate(zip(found.rows, cosines, strict=True), start=1):
        item = index.embeddings.ids[row]
        name, about, _ = names.about(item)
        steps.append(Step(place, item, name, about, cosine))
    return tuple(steps)


def _why_none(start: str, end: str, steps: int | None, longer: Chain) -> str:
    if longer.rows:
        return (
            f"no chain of {steps} steps or fewer leads from {start!r} to {end!r}; the nearest way "
            f"has {len(longer.rows) - 1}"
        )
    return f"no chain leads from {start!r} to {end!r}: nothing near the one is near the other"
