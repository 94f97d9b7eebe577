"""Several processes that train one model: each embeds its share of a batch, all see the whole.

Every process runs the same program on the same data with the same seed, and so draws the same
batches. Without others each function here does nothing, and training is that of one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import torch.distributed as group
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    With a GPU for each process on a machine they talk by NCCL, else by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world_size() > 1:
        yield
        return
    place = int(os.environ.get("LOCAL_RANK", "0"))
    enough = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.is_available() and enough
    if gpus:
        torch.cuda.set_device(place)
    # Its functions keep, as a default, the group there is when they are loaded. Were that only once
    # the first optimizer needs them, the group would outlive its end, and its threads would now and
    # then abort the process.
    import_module("torch.distributed.nn")
    group.init_process_group("nccl" if gpus else "gloo")
    try:
        yield
    finally:
        group.destroy_process_group()


def world_size() -> int:
    """How many processes train together, 1 or more."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; the first one writes and reports."""
    return group.get_rank() if world_size() > 1 else 0


def shard(n: int) -> slice:
    """Rows of a batch of n that this process embeds; all shares are of one size, or one more."""
    here, all_of_them = rank(), world_size()
    return slice(n * here // all_of_them, n * (here + 1) // all_of_them)


def all_gather(part: Tensor, n: int) -> Tensor:
    """Put together what each process made of its ``own`` rows: (share, d) -> (n, d), in order.

    Each process computes the loss of the whole batch from it. The gradient comes back for its own
    rows, times the number of processes, so that the *mean* over processes of what reaches the
    weights is the gradient that one process with the whole batch would have.
    """
    if world_size() == 1:
        return part
    return _AllGather.apply(part, n)  # type: ignore[no-any-return,no-untyped-call]


class _AllGather(torch.autograd.Function):
    """A sum over processes of matrices that are zero but for each one's own rows."""

    @staticmethod
    def forward(context: Any, part: Tensor, n: int) -> Tensor:
        context.rows = shard(n)
        everything = part.new_zeros(n, part.shape[1])
        everything[context.rows] = part
        group.all_reduce(everything)
        return everything

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[context.rows] * world_size(), None


def average_gradients(model: nn.Module) -> None:
    """Give every process the mean of the gradients of all, in one message."""
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
    """Give every process the weights and running statistics of the first."""
    if world_size() > 1:
        for value in model.state_dict().values():
            here = value.contiguous()
            group.broadcast(here, src=0)
            value.copy_(here)


def broadcast(value: float) -> float:
    """Give every process the number that the first one has; they wait for each other here."""
    if world_size() == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64)
    told = told.cuda() if group.get_backend() == "nccl" else told
    group.broadcast(told, src=0)
    return float(told.item())
