"""What a run answers with: its index, the answers computed when it was published, attributes."""

from collections.abc import Container
from dataclasses import replace

import polars as pl

from undersong.catalogue import ATTRIBUTES_FILE, Attributes, Kind, read_attributes
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.foldin import added
from undersong.ranking import context, ranker as ranker_file
from undersong.retrieval import approximate, precomputed
from undersong.retrieval.index import Index, Precomputed
from undersong.runs import Run

RANKER, EVIDENCE = "weights/ranking.safetensors", "evidence.safetensors"


def open_index(run: Run, kind: Kind, *, paper: bool = False) -> Index:
    """Open what a run answers with, and the answers that were computed when it was published.

    Items added since stand behind the trained ones; then nothing computed before holds any more.

    Parameters
    ----------
    paper : whether to answer by the cosine of E_G alone, as the paper does

    Raises
    ------
    DataError
        If the run holds no such items.
    ArtifactError
        If a file of the run is damaged.
    """
    if not run.has_embeddings(kind, "general"):
        raise DataError(f"{run.folder} holds no {kind}s; train on a catalogue that has them")
    embeddings = run.embeddings(kind, "general")
    learned = has_learned_order(run, kind)
    new = added.vectors(run.added(kind), "general")
    if learned and not paper:
        ranker = ranker_file.read(run.file(RANKER))
        ids = _ranked(run, kind, embedded=embeddings.index)
        if ids != embeddings.ids:  # else the vectors stay those that were mapped
            embeddings = Embeddings(ids, embeddings.align(ids)[0])
        known = context.read(run.file(EVIDENCE), embeddings.vectors)
        known = added.extend(run, kind, known)
        index = Index(added.join(embeddings, new), ranker, known)
    else:
        index = Index(added.join(embeddings, new))
    return index if new.ids else _with_files(index, run, kind, stored=not (paper and learned))


def open_graph(run: Run, kind: Kind) -> Index:
    """Open what a run answers with by the graph network behind GRM; who is linked is not set.

    Items added since have no relation, and of an item without one the network reads E_G alone.

    Raises
    ------
    DataError
        If the run trained none for such items.
    """
    if not run.has_embeddings(kind, "graph"):
        raise DataError(
            f"{run.folder} has no graph network for {kind}s; train with [graph] enabled = true in "
            "the settings, or leave graph out"
        )
    general, new = run.embeddings(kind, "general"), added.vectors(run.added(kind), "general")
    index = run.embeddings(kind, "graph")
    if new.ids:
        index = added.join(index, added.behind_graph(run.file(added.GRAPH), new))
    plain, _ = added.join(general, new).align(index.ids)
    return Index(index, unlinked_ask=Embeddings(index.ids, plain))


def open_embeddings(run: Run, kind: Kind) -> Embeddings:
    """Read E_G of all items that have one: the trained ones, then those added since."""
    return added.join(run.embeddings(kind, "general"), added.vectors(run.added(kind), "general"))


def has_lists(run: Run, kind: Kind) -> bool:
    """Whether answers were computed when the run was published."""
    return run.has(precomputed.file_of(kind))


def open_lists(run: Run, kind: Kind) -> tuple[tuple[str, ...], Precomputed | None]:
    """Return the ids of the index that ``open_index`` opens, and the answers computed of them.

    Nothing else is read: most questions need no more. Answers are None where none were computed;
    there are no ids where nothing but names is known.

    Raises
    ------
    ArtifactError
        If a file of the run is damaged.
    """
    if not run.has_embeddings(kind, "general"):
        return (), None
    ids = run.embedded(kind, "general")
    if has_learned_order(run, kind):
        ids = _ranked(run, kind, embedded=set(ids))
    new = added.vectors(run.added(kind), "general").ids
    return (*ids, *new), None if new else _lists(run, kind, n=len(ids))


def attributes_of(run: Run, kind: Kind, ids: tuple[str, ...]) -> Attributes | None:
    """Read what filters ask for of some items; None for a run from before there were filters."""
    if not run.has(ATTRIBUTES_FILE):
        return None
    attributes = read_attributes(run.file(ATTRIBUTES_FILE), kind)
    if len(run.added(kind)):
        attributes = Attributes(pl.concat([attributes.table, added.facts(run, kind)]))
    return attributes.of(ids)


def has_learned_order(run: Run, kind: Kind) -> bool:
    """Whether an order of the answers was learned for items of this kind."""
    return run.has(RANKER) and run.manifest["kind"] == kind


def _ranked(run: Run, kind: Kind, *, embedded: Container[str]) -> tuple[str, ...]:
    """Return what a learned order ranks: trained items with an E_G or with relations."""
    rows = run.trained_items(kind).select("id", "relations").iter_rows()
    return tuple(item for item, relations in rows if relations or item in embedded)


def _lists(run: Run, kind: Kind, *, n: int) -> Precomputed | None:
    file = precomputed.file_of(kind)
    return precomputed.read(run.file(file), n=n) if has_lists(run, kind) else None


def _with_files(index: Index, run: Run, kind: Kind, *, stored: bool) -> Index:
    """Add what was computed when the run was published: its answers, if ``stored``; its cells."""
    n = len(index.embeddings.ids)
    if stored:
        index = replace(index, lists=_lists(run, kind, n=n))
    cells = approximate.file_of(kind)
    if index.ranker is None and run.has(cells) and approximate.available():
        return replace(index, approximate=approximate.read(run.file(cells), n=n))
    return index
