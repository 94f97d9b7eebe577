"""The file of evidence: sources and relations of n items, kept with a run to order its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from safetensors.numpy import save_file

from undersong import arrays as arrays_file
from undersong.errors import ArtifactError
from undersong.evidence import Evidence
from undersong.files import replacing
from undersong.inputs import Source

FORMAT = 1


def write(path: Path, evidence: Evidence) -> None:
    """Write sources and relations of n items, and how crowded it is around each.

    Their vectors have a file of their own.
    """
    relations, sources = evidence.relations, evidence.sources
    arrays = {"relations.indptr": relations.indptr, "relations.indices": relations.indices}
    arrays["crowd"] = evidence.crowd
    about = []
    for number, source in enumerate(sources):
        values = source.values
        arrays[f"{number}.missing"] = source.missing
        if isinstance(values, np.ndarray):
            arrays[f"{number}.values"] = np.ascontiguousarray(values)
        else:
            parts = {"indptr": values.indptr, "indices": values.indices, "data": values.data}
            arrays |= {f"{number}.{name}": part for name, part in parts.items()}
        about.append({"name": source.name, "width": source.width, "weight": source.weight})
    with replacing(path) as temporary:
        save_file(arrays, temporary, {"format": str(FORMAT), "sources": json.dumps(about)})


def read(path: Path, vectors: NDArray[np.float32]) -> Evidence:
    """Read what ``write`` wrote, for items with these vectors.

    Raises
    ------
    ArtifactError
        If the file is absent, damaged or of another format, or of other items.
    """
    about, arrays = arrays_file.read(path, form=FORMAT)
    n = len(arrays["relations.indptr"]) - 1
    if n != len(vectors):
        raise ArtifactError(f"{path} is about {n} items, but {len(vectors)} have a vector")
    sources = [_source(arrays, number, x) for number, x in enumerate(json.loads(about["sources"]))]
    cells = (
        np.ones(len(arrays["relations.indices"]), dtype=bool),
        arrays["relations.indices"],
        arrays["relations.indptr"],
    )
    related = scipy.sparse.csr_matrix(cells, shape=(n, n))
    return Evidence(vectors, tuple(sources), related, arrays.get("crowd"))


def _source(arrays: dict[str, NDArray[Any]], number: int, about: dict[str, Any]) -> Source:
    missing = arrays[f"{number}.missing"].astype(bool)
    if f"{number}.values" in arrays:
        values: NDArray[np.float32] | scipy.sparse.csr_matrix = arrays[f"{number}.values"]
    else:
        cells = tuple(arrays[f"{number}.{name}"] for name in ("data", "indices", "indptr"))
        values = scipy.sparse.csr_matrix(cells, shape=(len(missing), about["width"]))
    return Source(about["name"], values, missing, about["weight"])
