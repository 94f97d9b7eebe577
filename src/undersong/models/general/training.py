"""From E_C, E_U and metadata to E_G: the model that answers (sections 2.3 and 2.4)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from undersong import features, relations, settings as settings_file
from undersong.errors import DataError
from undersong.features import CONTENT, KNOWN_OF_EACH, Modality
from undersong.io.tensors import read_tensors, write_tensors
from undersong.losses import cosine, multi_relationship
from undersong.metrics import cold_ndcg
from undersong.models.general.network import GeneralModel, GeneralSettings
from undersong.progress import Progress, silent, watched
from undersong.relations import Task
from undersong.training import (
    Compute,
    History,
    all_gather,
    anchors_with_partners,
    mixed_precision,
    shard,
    train,
)

FORMAT = 1
BLOCK = 2048
INTERACTION = "interaction"


def train_general(
    task: Task,
    sources: Sequence[Modality],
    *,
    settings: GeneralSettings,
    compute: Compute,
    stage: str = "GRM",
) -> tuple[GeneralModel, History]:
    """Train GRM on R_A and R_P of the training items; stop by cold NDCG@200 of validation.

    Where every item is for training nothing can be judged, and the last weights are kept. A
    catalogue without any relation of this kind leaves nothing to learn from: then GRM stays the
    sources side by side, each by its weight, and the outcome has no step.

    Raises
    ------
    DataError
        If no source says anything, too few of the known relations are left to train on, or no
        validation item has one of them.
    """
    related = check_related(task)
    if not sources:
        raise DataError(
            f"nothing is known about the {task.kind}s that they could be compared by; give "
            "metadata fields, plays, features or audio files (`undersong import folder` reads tags "
            "and finds the files)"
        )
    torch.manual_seed(compute.seed)
    widths, starts = [x.width for x in sources], [x.weight for x in sources]
    if not any_related(task):
        # Sound and features keep their angles: principal axes of them lose much.
        dense = sum(x.width for x in sources if isinstance(x.values, np.ndarray))
        out = max(settings.out, min(sum(widths), dense + settings.out))
        plain = GeneralModel(widths, replace(settings, skip=True, out=out), weights=starts)
        stay_side_by_side(plain, sources, seed=compute.seed)
        return plain.to(compute.device), History()
    compute.progress(stage, 0, settings.training.steps)
    model = GeneralModel(widths, settings, weights=starts).to(compute.device)
    outcome = train(
        model,
        loss=_objective(model, sources, task, related, compute=compute),
        validate=_judge(task, sources, device=compute.device),
        schedule=settings.training,
        seed=compute.seed,
        checkpoint=compute.work / f"general.{task.kind}.safetensors",
        lr_multipliers={"read.": settings.pace},
        stage=stage,
        progress=compute.progress,
    )
    return model, outcome


def _objective(
    model: GeneralModel,
    sources: Sequence[Modality],
    task: Task,
    related: sparse.csr_matrix,
    *,
    compute: Compute,
) -> Callable[[np.random.Generator], Tensor]:
    """Equation 4 on a batch of training items, as a function of what draws the batch."""
    settings, codes, device = model.settings, task.codes, compute.device
    indirect = relations.at_one_remove(related, top=settings.indirect, progress=compute.progress)
    wider, weights = related + indirect, None
    if settings.reliability != relations.EQUAL:
        weights = relations.weighed(task, relations.reliability(task, settings.reliability))
        weights = (weights + indirect * weights.data.mean()).astype(np.float32).tocsr()
    unlinked = related.getnnz(axis=1) == 0
    tail = np.flatnonzero(task.within("train") & unlinked)

    def loss(generator: np.random.Generator) -> Tensor:
        rows = _batch(generator, related, tail, settings)
        missing = _hide(generator, missing_of(sources, rows), sources, settings)
        with mixed_precision(settings.training, device):
            own = shard(len(rows))
            embedded = model(*_tensors(sources, rows[own], missing[own], device))
        embedded = all_gather(embedded.float(), len(rows))
        pairs = _pairs(rows, wider, codes, unlinked, settings)
        if weights is not None:
            pairs["related"] = relations.block(weights, rows)
        masks = {name: torch.from_numpy(mask).to(device) for name, mask in pairs.items()}
        return multi_relationship(cosine(embedded), **masks, settings=settings.loss)

    return loss


def _judge(
    task: Task, sources: Sequence[Modality], *, device: str
) -> Callable[[nn.Module], float] | None:
    """Cold NDCG@200 of the validation items; None if all items train."""
    if task.within("train").all():
        return None
    rows, queries, truth = relations.among_some(*task.held_out)
    some = features.rows_of(sources, rows)
    return lambda model: cold_ndcg(embed(model, some, device=device), queries, truth)


def any_related(task: Task) -> bool:
    """Whether any relation of the items is known, to learn from or to be judged by."""
    return len(task.catalogue.pairs(task.kind)) > 0


def check_related(task: Task) -> sparse.csr_matrix:
    """Return the relations between training items; refuse hardly any, which would mislead GRM.

    Raises
    ------
    DataError
        If relations are known but fewer than two pairs are left to learn from.
    """
    related = task.related("train")
    if any_related(task) and related.nnz < 4:
        raise DataError(
            f"{related.nnz // 2} relation between training {task.kind}s: too few to learn from; "
            "give more similar pairs (a [[relations]] table in the mapping, or `undersong import "
            "folder --relations FILE`) or none at all, or a `split` column that leaves more to "
            "train on"
        )
    return related


@torch.no_grad()
def embed(
    model: nn.Module,
    sources: Sequence[Modality],
    *,
    device: str,
    progress: Progress = silent,
    stage: str = "E_G",
) -> NDArray[np.float32]:
    """Compute E_G of every item, in blocks and in float32, (n, out)."""
    n = len(sources[0].missing)
    vectors = np.empty((0, 0), dtype=np.float32)
    for start in watched(range(0, n, BLOCK), progress, stage):
        rows = np.arange(start, min(start + BLOCK, n))
        embedded = model(*_tensors(sources, rows, missing_of(sources, rows), device))
        if not start:  # the one place for all, where pieces to be joined would take two
            vectors = np.empty((n, embedded.shape[1]), dtype=np.float32)
        vectors[rows] = embedded.cpu().numpy()
    return vectors


def missing_of(sources: Sequence[Modality], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which sources are missing of some items, (len(rows), s)."""
    return np.stack([x.missing[rows] for x in sources], axis=1)


def save_general(model: GeneralModel, path: Path) -> None:
    """Write weights, sizes and settings as safetensors."""
    about = {
        "settings": json.dumps(asdict(model.settings)),
        "widths": json.dumps(model.sizes),
    }
    write_tensors(path, model.state_dict(), version=FORMAT, about=about)


def load_general(path: Path) -> GeneralModel:
    """Read what ``save_general`` wrote, ready to embed.

    Raises
    ------
    ArtifactError
        If the file is damaged or has another format.
    """
    about, tensors = read_tensors(path, version=FORMAT, framework="pt")
    table = json.loads(about["settings"])
    settings = cast(GeneralSettings, settings_file.build(GeneralSettings, table, f"{path}:"))
    model = GeneralModel(json.loads(about["widths"]), settings)
    model.fill = tensors.get("fill")
    model.load_state_dict(tensors)
    return model.eval()


def _batch(
    generator: np.random.Generator,
    related: sparse.csr_matrix,
    tail: NDArray[np.int64],
    settings: GeneralSettings,
) -> NDArray[np.int64]:
    return anchors_with_partners(
        generator,
        related,
        anchors=settings.anchors,
        partners=settings.partners,
        others=generator.choice(tail, size=min(settings.tail, len(tail)), replace=False),
    )


def _hide(
    generator: np.random.Generator,
    missing: NDArray[np.bool_],
    sources: Sequence[Modality],
    settings: GeneralSettings,
) -> NDArray[np.bool_]:
    """Modality dropout: hide some sources of each item, but never the last one it has."""
    chance = [
        settings.hide_interaction if x.name == INTERACTION else settings.hide_source
        for x in sources
    ]
    hidden = missing | (generator.random(missing.shape) < np.array(chance))
    bare = hidden.all(axis=1)
    hidden[bare] = missing[bare]
    return hidden


def _tensors(
    sources: Sequence[Modality], rows: NDArray[np.int64], missing: NDArray[np.bool_], device: str
) -> tuple[list[Tensor], Tensor]:
    values = [_tensor(x.values[rows]).to(device) for x in sources]
    return values, torch.from_numpy(missing).to(device)


def _tensor(values: NDArray[np.float32] | sparse.csr_matrix) -> Tensor:
    """Words stay sparse: an item has a few out of thousands."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    cells = values.tocoo()
    places = torch.from_numpy(np.stack([cells.row, cells.col]).astype(np.int64))
    data = torch.from_numpy(cells.data)
    return torch.sparse_coo_tensor(
        places, data, cells.shape, is_coalesced=True, check_invariants=False
    )


def _pairs(
    rows: NDArray[np.int64],
    related: sparse.csr_matrix,
    codes: NDArray[np.int32],
    unlinked: NDArray[np.bool_],
    settings: GeneralSettings,
) -> dict[str, NDArray[Any]]:
    """R_A, widened by items at one remove, and R_P among the items of a batch, (n, n) bool each.

    With ``graded`` R_P comes as weights in [0, 1].

    A pair without a relation is unrelated, unless one of the two has no relation at all: an
    unlinked item is unlabelled, and nobody can tell (decision 5).
    """
    positive = relations.block(related, rows)
    consistent, inconsistent = relations.meta_consistent(codes[rows])
    unrelated = ~positive
    if not settings.tail_is_negative:
        loose = unlinked[rows]
        unrelated &= ~(loose[:, None] | loose[None, :])
    masks: dict[str, NDArray[Any]] = {
        "related": positive,
        "unrelated": unrelated,
        "consistent": consistent,
        "inconsistent": inconsistent,
    }
    if settings.graded:
        agreement, known = relations.meta_agreement(codes[rows])
        weights = {"consistent": agreement * known, "inconsistent": (1 - agreement) * known}
        return masks | weights
    return masks


ITEMS = 20_000  # at most that say which directions matter
RIDGE = 3.0  # items; by so much a guess of a field is drawn to its mean


@torch.no_grad()
def stay_side_by_side(model: GeneralModel, sources: Sequence[Modality], *, seed: int) -> None:
    """Make E_G the weighted sources side by side, in their principal axes; it learns nothing.

    Sources that are no wider together than E_G keep their cosines exactly. Of wider ones no linear
    map to so few numbers keeps the products of all pairs better (Eckart and Young 1936); the random
    map that GRM begins with keeps them worse. No label and no relation is read.

    Parameters
    ----------
    model : as it was made, with ``skip``; changed in place
    sources : what it reads of every item, each with the weight that counts
    """
    axes = _principal_axes(features.side_by_side(sources), model.settings.out, seed=seed)
    first = model.settings.width
    rows = np.split(axes, np.cumsum([x.width for x in sources])[:-1])
    for reader, source, own in zip(model.read, sources, rows, strict=True):
        beside = torch.zeros(source.width, model.settings.out)
        beside[:, : own.shape[1]] = torch.from_numpy(own) * source.weight
        reader.get_parameter("weight")[:, first:] = beside
    model.fill = _guesses(model, sources)
    model.eval()


def _guesses(model: GeneralModel, sources: Sequence[Modality]) -> Tensor | None:
    """What each field would add to E_G where it misses, guessed from E_C by ridge regression.

    An item of which a field says nothing would else be far from all that have it, however alike
    they sound. None without E_C. What listening would add is not guessed.
    """
    heard = sources[0]
    if heard.name != CONTENT:
        return None
    content = np.asarray(heard.values, dtype=np.float64)
    fill = torch.zeros(len(sources), heard.width + 1, model.settings.out)
    for place, (reader, source) in enumerate(zip(model.read, sources, strict=True)):
        rows = np.flatnonzero(~heard.missing & ~source.missing)
        if source.name in KNOWN_OF_EACH or not len(rows):
            continue
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), ITEMS)).astype(np.int64)]
        weight = reader.get_parameter("weight")[:, model.settings.width :].numpy()
        added = np.asarray(source.values[some] @ weight, dtype=np.float64)
        known = content[some]
        square = known.T @ known + RIDGE * np.eye(heard.width)
        usual = added.mean(axis=0)
        fill[place, :-1] = torch.from_numpy(np.linalg.solve(square, known.T @ (added - usual)))
        fill[place, -1] = torch.from_numpy(usual)
    return fill


def _principal_axes(values: sparse.csr_matrix, most: int, *, seed: int) -> NDArray[np.float32]:
    """Directions in which n items differ most, (n, width) -> (width, at most ``most``)."""
    n, width = values.shape
    if width <= most:
        return np.eye(width, dtype=np.float32)
    if n > ITEMS:
        values = values[np.linspace(0, n - 1, ITEMS).astype(np.int64)]
    if min(values.shape) <= most + 1:  # few items: all directions that they have
        axes = np.linalg.svd(values.toarray(), full_matrices=False)[2][:most]
    else:
        start = np.random.default_rng(seed).standard_normal(min(values.shape)).astype(np.float32)
        axes = svds(values, k=most, return_singular_vectors="vh", v0=start)[2]
    return np.ascontiguousarray(axes.T, dtype=np.float32)
