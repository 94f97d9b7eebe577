"""How every model is trained: one loop, its batches, and several processes at once.

Every process runs the same program on the same data with the same seed, and so draws the same
batches. In a single process no function here does anything.

Step t draws its batch and its dropout from (seed, t) alone, so a run that was interrupted and
resumed takes the same steps as one that was not. Several processes train as one:
their gradients are averaged, and the first one validates and writes.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as group
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from undersong.errors import ArtifactError
from undersong.io.tensors import read_tensors, write_tensors
from undersong.progress import Progress, silent


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    The backend is NCCL with a GPU for each process of a machine, else gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world_size() > 1:
        yield
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    enough = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.is_available() and enough
    if gpus:
        torch.cuda.set_device(local_rank)
    # Its functions take the group that exists when they are loaded as a default. If the first
    # optimizer loaded them, the group would outlive its end, and its threads would now and then
    # abort the process.
    import_module("torch.distributed.nn")
    group.init_process_group("nccl" if gpus else "gloo")
    try:
        yield
    finally:
        group.destroy_process_group()


def world_size() -> int:
    """Return how many processes train together, 1 or more."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0; the first one writes and reports."""
    return group.get_rank() if world_size() > 1 else 0


def shard(n: int) -> slice:
    """Return the rows of a batch of n that this process embeds; sizes differ by 1 at most."""
    return slice(n * rank() // world_size(), n * (rank() + 1) // world_size())


def all_gather(rows: Tensor, n: int) -> Tensor:
    """Gather the rows of all processes, (len of ``shard(n)``, d) -> (n, d), in order.

    Each process computes the loss of the whole batch. The gradient of its own rows comes back
    times the number of processes, so that the mean of the weights' gradients over processes is
    that of one process with the whole batch.
    """
    if world_size() == 1:
        return rows
    return _AllGather.apply(rows, n)  # type: ignore[no-any-return,no-untyped-call]


class _AllGather(torch.autograd.Function):
    """Sum over processes of matrices that are zero except for their own rows."""

    @staticmethod
    def forward(context: Any, rows: Tensor, n: int) -> Tensor:
        context.shard = shard(n)
        batch = rows.new_zeros(n, rows.shape[1])
        batch[context.shard] = rows
        group.all_reduce(batch)
        return batch

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[context.shard] * world_size(), None


def average_gradients(model: nn.Module) -> None:
    """Average the gradients of all processes, in one message."""
    if world_size() == 1:
        return
    gradients = [x.grad for x in model.parameters() if x.grad is not None]
    flat = torch.cat([x.reshape(-1) for x in gradients])
    group.all_reduce(flat)
    flat /= world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


@torch.no_grad()
def same_state(model: nn.Module) -> None:
    """Copy the weights and running statistics of the first process to all."""
    if world_size() > 1:
        for value in model.state_dict().values():
            dense = value.contiguous()
            group.broadcast(dense, src=0)
            value.copy_(dense)


def broadcast(value: float) -> float:
    """Send a number of the first process to all, which wait for each other here."""
    if world_size() == 1:
        return value
    number = torch.tensor([value], dtype=torch.float64)
    number = number.cuda() if group.get_backend() == "nccl" else number
    group.broadcast(number, src=0)
    return float(number.item())


FORMAT = 1


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Parameters
    ----------
    steps : at most so many optimiser steps
    learning_rate : peak of AdamW's rate; linear warm-up, then a cosine down to 0
    weight_decay : AdamW's, on matrices only
    warmup : share of the steps, in [0, 1)
    validate_every : steps between two validations, which are also the checkpoints
    patience : validations without a better score before stopping early
    average : decay of the moving average of the weights that is kept as the model; 0 for none
    precision : "auto", "bfloat16" or "float32"
        "auto" takes bfloat16 where the hardware multiplies it faster (docs/choices.md).
    """

    steps: int = 600
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    validate_every: int = 50
    patience: int = 6
    average: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.patience) < 1:
            raise ValueError("steps, validate_every and patience must be 1 or more")
        if not (0 <= self.warmup < 1 and 0 <= self.average < 1):
            raise ValueError("warmup and average must be in [0, 1)")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0 and weight_decay not below 0")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ValueError(
                f"precision {self.precision!r} must be 'auto', 'bfloat16' or 'float32'"
            )


@dataclass
class History:
    """What a training run did.

    ``scores`` holds (step, validation score, mean training loss since the last validation).
    """

    steps: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    scores: list[tuple[int, float, float]] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Compute:
    """How to train: by which random draws, where, and who hears of it.

    Parameters
    ----------
    device : as PyTorch calls it, such as "cpu" or "cuda"
    work : folder of checkpoints; the same training that finds one there goes on with it
    """

    seed: int
    device: str
    work: Path
    progress: Progress = silent

    def inside(self, folder: str) -> "Compute":
        """Return the same with another folder of checkpoints, inside this one."""
        return replace(self, work=self.work / folder)


def mixed_precision(schedule: Schedule, device: str) -> AbstractContextManager[Any]:
    """Run the layers of a model in bfloat16 where that is faster; losses stay in float32."""
    kind = torch.device(device).type
    fast = torch.cuda.is_bf16_supported() if kind == "cuda" else _cpu_multiplies_bfloat16()
    wanted = schedule.precision == "bfloat16" or (schedule.precision == "auto" and fast)
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=wanted)


def _cpu_multiplies_bfloat16() -> bool:
    """Without AMX or AVX-512 BF16 instructions bfloat16 on a CPU is slower than float32."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def train(
    model: nn.Module,
    *,
    loss: Callable[[np.random.Generator], Tensor],
    validate: Callable[[nn.Module], float] | None,
    schedule: Schedule,
    seed: int,
    checkpoint: Path,
    lr_multipliers: Mapping[str, float] | None = None,
    stage: str = "train",
    progress: Progress = silent,
) -> History:
    """Train ``model`` in place and leave it with the weights that validated best.

    Parameters
    ----------
    model : on its device already
    loss : draws a batch from the generator and returns the loss of ``model`` on it
    validate : score of a model, higher is better; called with gradients off, in eval mode
        None where nothing can be judged: then all steps are taken and the last weights stay.
    checkpoint : file to resume from if it fits, written at every validation
    seed : of the batches and of dropout; initialise the model yourself
    lr_multipliers : factors on the learning rate, by the beginning of a parameter's name

    Raises
    ------
    ArtifactError
        If ``checkpoint`` is damaged or of another format, or the loss is no longer finite.
    """
    averaged = copy.deepcopy(model) if schedule.average else model
    optimizer = _adamw(model, schedule, lr_multipliers or {})
    best = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = _State(model, averaged, optimizer, best, History(), _fingerprint(model, schedule, seed))
    state.resume(checkpoint)
    history = state.history
    if broadcast(history.steps) != history.steps:
        raise ArtifactError(
            f"{checkpoint} stands at another step here than where the first process reads it; "
            "put the run in a folder that all of them share"
        )
    same_state(model)
    same_state(averaged)
    losses: list[float] = []
    if not history.finished:
        progress(stage, history.steps, schedule.steps)
    while not history.finished:
        step = history.steps
        for parameters in optimizer.param_groups:
            rate = schedule.learning_rate * parameters["lr_multiplier"]
            parameters["lr"] = rate * lr_factor(step, schedule)
        model.train()
        torch.manual_seed(_seed_of_dropout(seed, step))
        value = loss(np.random.default_rng([seed, step]))
        losses.append(value.item())
        _check_finite(losses[-1], f"{stage}: the loss is {losses[-1]} at step {step}", schedule)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if schedule.average:
            _move_average(averaged, model, min(schedule.average, (step + 1) / (step + 10)))
        history.steps += 1
        if history.steps % schedule.validate_every == 0 or history.steps == schedule.steps:
            state.validate(validate, float(np.mean(losses)), schedule)
            losses.clear()
            if rank() == 0:
                state.write(checkpoint)
        total = history.steps if history.finished else schedule.steps
        progress(stage, history.steps, total, _note(history, value.item()))
    model.load_state_dict(best)
    same_state(model)
    model.eval()
    return history


def _check_finite(loss: float, fault: str, schedule: Schedule) -> None:
    if not math.isfinite(loss):
        raise ArtifactError(
            f'{fault}; lower learning_rate ({schedule.learning_rate}) or take precision = "float32"'
        )


def _note(history: History, loss: float) -> str:
    """Return the best score, or the loss where nothing was judged yet."""
    scored = history.best_score > -math.inf
    return f"best {history.best_score:.4f}" if scored else f"loss {loss:.4f}"


def lr_factor(step: int, schedule: Schedule) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then a cosine to 0."""
    warm = schedule.warmup * schedule.steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(schedule.steps - warm, 1)))


def _seed_of_dropout(seed: int, step: int) -> int:
    """Seed of one step, another one in each process: they embed different rows."""
    here = [rank()] if rank() else []
    return int(np.random.SeedSequence([seed, step, *here]).generate_state(1)[0])


def _adamw(
    model: nn.Module, schedule: Schedule, lr_multipliers: Mapping[str, float]
) -> torch.optim.AdamW:
    """AdamW with a short memory (second beta .98), since runs are a few hundred steps."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        matches = (x for prefix, x in lr_multipliers.items() if name.startswith(prefix))
        multiplier = next(matches, 1.0)
        groups.setdefault((multiplier, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr_multiplier": multiplier,
                "weight_decay": schedule.weight_decay if matrix else 0.0,
            }
            for (multiplier, matrix), parameters in groups.items()
        ],
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
    )


@torch.no_grad()
def _move_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)
    for fixed, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
        fixed.copy_(buffer)


def _fingerprint(model: nn.Module, schedule: Schedule, seed: int) -> str:
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    return json.dumps({"schedule": asdict(schedule), "seed": seed, "shapes": shapes})


@dataclass
class _State:
    """Where training stands: all that a checkpoint holds.

    Only a checkpoint with the same ``fingerprint`` (shapes, schedule and seed) is taken up.
    """

    model: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    history: History
    fingerprint: str

    @torch.no_grad()
    def validate(
        self, validate: Callable[[nn.Module], float] | None, mean_loss: float, schedule: Schedule
    ) -> None:
        """Score the averaged weights, keep them if they are the best, and stop in time."""
        self.averaged.eval()
        history, first = self.history, rank() == 0
        score = -math.inf
        if validate is not None:
            score = broadcast(validate(self.averaged) if first else 0.0)
            history.scores.append((history.steps, score, mean_loss))
        if score > history.best_score or validate is None:
            history.best_step, history.best_score = history.steps, score
            for name, value in self.averaged.state_dict().items():
                self.best[name].copy_(value)
        waited = sum(step > history.best_step for step, _, _ in history.scores)
        history.finished = history.steps >= schedule.steps or waited >= schedule.patience

    def write(self, path: Path) -> None:
        """Write the checkpoint."""
        groups = {
            "best": self.best,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
        }
        for number, moments in self.optimizer.state_dict()["state"].items():
            groups[f"optimizer.{number}"] = moments
        tensors = {f"{x}.{name}": value for x in groups for name, value in groups[x].items()}
        about = {"outcome": json.dumps(asdict(self.history)), "fingerprint": self.fingerprint}
        write_tensors(path, tensors, version=FORMAT, about=about)

    def resume(self, path: Path) -> None:
        """Take up a checkpoint of the same model, schedule and seed, if there is one."""
        if not path.exists():
            return
        about, tensors = read_tensors(
            path,
            version=FORMAT,
            framework="pt",
            device=str(next(self.model.parameters()).device),
            hint="delete it to begin anew",
            fault="is damaged",
        )
        if about["fingerprint"] != self.fingerprint:
            return
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            groups.setdefault(part, {})[name] = value
        self.model.load_state_dict(groups["model"])
        self.averaged.load_state_dict(groups["averaged"])
        self.best.update(groups["best"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in groups.get("optimizer", {}).items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        values = json.loads(about["outcome"])
        scores = [(int(step), score, loss) for step, score, loss in values["scores"]]
        self.history = History(**{**values, "scores": scores})


def anchors_with_partners(
    generator: np.random.Generator,
    related: sparse.csr_matrix,
    *,
    anchors: int,
    partners: int,
    others: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Draw items that have relations, some related items of each, and some others.

    Parameters
    ----------
    related : (n, n) bool, symmetric
        Relations that training may see. Only items that have one are anchors, each as likely.
    anchors, partners : number of anchors, and of random related items drawn for each
        Where a partner was drawn already, one more item with relations takes its place, so that
        all batches are of one size: kernels are prepared, and memory taken, for each new size.
    others : rows to add as they are, such as a draw of the long tail; none with relations

    Returns
    -------
    (m,) rows, ascending, each once
        m is anchors * (1 + partners) + len(others), or all items with relations and the others.
    """
    degree = np.diff(related.indptr)
    linked = np.flatnonzero(degree)
    size = min(anchors * (1 + partners), len(linked))
    chosen = generator.choice(linked, size=min(anchors, len(linked)), replace=False)
    place = related.indptr[chosen, None] + (
        generator.random((len(chosen), partners)) * degree[chosen, None]
    ).astype(np.int64)
    rows = np.unique(np.concatenate([chosen, related.indices[place].ravel()]))
    left = np.setdiff1d(linked, rows, assume_unique=True)
    rows = np.concatenate([rows, generator.choice(left, size=size - len(rows), replace=False)])
    extra = np.empty(0, dtype=np.int64) if others is None else others
    return np.unique(np.concatenate([rows, extra]).astype(np.int64))
