"""What one client does on a cluster, for tests/test_cluster.py: answers here and there as JSON.

python tests/cluster_session.py ADDRESS RUN CATALOGUE
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

from undersong import relations, runs
from undersong.catalogue import tables
from undersong.cluster.jobs import retrieve_there
from undersong.cluster.tasks import in_order, joined, stream, vectors_there
from undersong.errors import DataError, UndersongError
from undersong.pipeline.inference import embed_catalogue
from undersong.retrieval.neighbours import search
from undersong.retrieval.query import Query
from undersong.retrieval.run_index import open_index


def die(number):
    os._exit(number + 1)


def refuse(items):
    raise DataError(f"row {items[1]} is empty")


def stumble(number):
    return 1 / number


def error_of(work):
    try:
        list(work())
    except UndersongError as error:
        return type(error).__name__, str(error)
    return "", "nothing failed"


def answers(blocks):
    found = list(blocks)
    return [np.concatenate([getattr(x, name) for x in found]) for name in ("neighbours", "scores")]


def session(run, catalogue):
    """Each fact: what is true of it."""
    found = tables.read_catalogue(catalogue)
    plays = relations.listeners(found, "artist")
    settings = {"threshold": 2, "top": 7, "block": 11}
    here = relations.shared_listeners(plays, **settings)
    there = relations.shared_listeners(plays, **settings, each=in_order)
    index = open_index(runs.read(run), "artist", paper=True)
    rows, request = np.arange(len(index.embeddings.ids)), Query(k=13)
    near = answers(search(index, rows, query=request))
    near_there = answers(retrieve_there(index, rows, query=request))
    opened, work = runs.read(run), catalogue / tables.EXTRACTED
    vectors = embed_catalogue(opened, found, "track", work=work)
    vectors_too = embed_catalogue(opened, found, "track", work=work, each=vectors_there)
    trained = opened.embeddings("track", "general")
    return {
        "relations": int(here.nnz),
        "relations differ": int((here != there).nnz),
        "neighbours": int(near[0].size),
        "neighbours differ": int((near[0] != near_there[0]).sum()),
        "scores differ by": float(np.abs(near[1] - near_there[1]).max()),
        "embedded": len(vectors.ids),
        "vectors differ by": float(np.abs(vectors.vectors - vectors_too.vectors).max()),
        "trained vectors differ by": float(np.abs(vectors.vectors - trained.vectors).max()),
        "same ids": vectors.ids == vectors_too.ids == trained.ids,
        "order": list(in_order(partial(pow, 3), range(9))),
        "a worker dies": error_of(lambda: in_order(die, range(2))),
        "a worker stumbles": error_of(lambda: in_order(stumble, [2, 0])),
        "a worker refuses": error_of(lambda: stream(refuse, [5, 7, 9], a_task=3)),
    }


if __name__ == "__main__":
    with joined(sys.argv[1]):
        print(json.dumps(session(Path(sys.argv[2]), Path(sys.argv[3]))))
