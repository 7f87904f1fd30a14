"""Reusable memory for intermediate results."""

import math

import torch
from torch import Tensor


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
