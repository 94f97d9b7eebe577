"""Several processes that train one model: each embeds its share of a batch, all see the whole.

Every process runs the same program on the same data with the same seed, and so draws the same
batches. In a single process no function here does anything.
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
