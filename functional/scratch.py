"""Memory for intermediate results: reused, and limited as suits the device."""

import math

import torch
from torch import Tensor


def limit(limits: dict[str, int], device: torch.device) -> int:
    """Return how many items to process at once: of `limits` that for CPUs, or that for CUDA, which fits any device."""
    return limits.get(device.type, limits["cuda"])


class Scratch:
    """Buffers that successive blocks reuse for large intermediate results, so that these stay in the CPU's cache.

    Writing to newly allocated memory takes longer than the arithmetic. If gradients are needed, nothing is reused,
    since autograd keeps the results.
    """

    def __init__(self, *inputs: Tensor) -> None:
        self.used = not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, like: Tensor, *shape: int) -> Tensor | None:
        """Return an `out=` argument of this shape, the same memory for the same name; None if gradients are needed."""
        if not self.used:
            return None
        count = math.prod(shape)
        if name not in self.buffers or len(self.buffers[name]) < count:
            self.buffers[name] = like.new_empty(count)
        return self.buffers[name][:count].view(shape)

    def copy(self, name: str, view: Tensor) -> Tensor:
        """Return a contiguous copy of a view."""
        out = self(name, view, *view.shape)
        return view.contiguous() if out is None else out.copy_(view)

    def matmul(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """Return the batched matrix product [n, a, b] @ [n, b, c]."""
        return torch.matmul(left, right, out=self(name, left, *left.shape[:2], right.shape[2]))
