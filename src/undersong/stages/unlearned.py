"""GRM where no relation is known: its sources side by side, as well as E_G can hold them (2.3)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from undersong import inputs
from undersong.inputs import Source
from undersong.models.general import GeneralModel

ITEMS = 20_000  # at most that say which directions matter


@torch.no_grad()
def stay_side_by_side(model: GeneralModel, sources: Sequence[Source], *, seed: int) -> None:
    """Make E_G the weighted sources side by side, in their principal axes; it learns nothing.

    Sources that are no wider together than E_G keep their cosines exactly. Of wider ones no linear
    map to so few numbers keeps the products of all pairs better (Eckart and Young 1936); the random
    map that GRM begins with keeps them worse. No label and no relation is read.

    Parameters
    ----------
    model : as it was made, with ``skip``; changed in place
    sources : what it reads of every item, each with the weight that counts
    """
    axes = _principal_axes(inputs.side_by_side(sources), model.settings.out, seed=seed)
    first = model.settings.width
    rows = np.split(axes, np.cumsum([x.width for x in sources])[:-1])
    for reader, source, own in zip(model.read, sources, rows, strict=True):
        beside = torch.zeros(source.width, model.settings.out)
        beside[:, : own.shape[1]] = torch.from_numpy(own) * source.weight
        reader.get_parameter("weight")[:, first:] = beside
    model.eval()


def _principal_axes(values: sparse.csr_matrix, most: int, *, seed: int) -> NDArray[np.float32]:
    """Directions in which n items differ most, (n, width) -> (width, at most ``most``)."""
    n, width = values.shape
    if width <= most:
        return np.eye(width, dtype=np.float32)
    if n > ITEMS:
        values = values[np.linspace(0, n - 1, ITEMS).astype(np.int64)]
    if min(values.shape) <= most + 1:  # few items: all directions that they have
        found = np.linalg.svd(values.toarray(), full_matrices=False)[2][:most]
    else:
        start = np.random.default_rng(seed).standard_normal(min(values.shape)).astype(np.float32)
        found = svds(values, k=most, return_singular_vectors="vh", v0=start)[2]
    return np.ascontiguousarray(found.T, dtype=np.float32)
