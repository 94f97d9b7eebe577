"""Products of float32 matrices in torch, as fast as the processor multiplies.

On a CPU torch multiplies float32 by MKL, which takes processors of other makers than its own for
lesser ones (``undersong.processors``). oneDNN, which torch has too, does not: twice as fast there.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from undersong.processors import underrated

FEWEST = 2**20  # multiplications that pay for the detour


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias``, (..., k), (m, k), (m,) -> (..., m), differentiable once."""
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    product: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], len(weight))


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b.T`` without a gradient, (n, k), (m, k) -> (n, m)."""
    return _onednn(a, b, None) if _by_onednn(a, b) else a @ b.T


class Linear(nn.Linear):
    """A linear layer by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis, (..., k) -> (..., m)."""
        return linear(x, self.weight, self.bias)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        underrated()
        and not torch.compiler.is_compiling()  # before any size is asked, which then may be any
        and x.numel() * len(weight) >= FEWEST
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class _Linear(torch.autograd.Function):
    """A linear layer whose three products oneDNN computes."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        upstream = upstream.contiguous()
        to_x = _onednn(upstream, weight.T, None) if context.needs_input_grad[0] else None
        # With the fewer rows first the long sum over all items stays in the cache.
        if len(weight) <= weight.shape[1]:
            to_weight = _onednn(upstream.T, x.T, None)
        else:
            to_weight = _onednn(x.T, upstream.T, None).T
        return to_x, to_weight, upstream.sum(dim=0) if context.needs_input_grad[2] else None
