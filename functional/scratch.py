"""Memory that is written to again and again."""

import math

import torch
from torch import Tensor


class Scratch:
    """Memory for the large intermediate results of one tile after the other: it stays in the processor's cache.

    Fresh memory would be cold each time, and writing to it takes longer than the arithmetic. Where a gradient is wanted
    there is no scratch memory: its results must outlive the tile.
    """

    def __init__(self, *inputs: Tensor) -> None:
        self.used = not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, like: Tensor, *shape: int) -> Tensor | None:
        """An `out` argument of this shape, the same memory for the same name; None for a result of its own."""
        if not self.used:
            return None
        count = math.prod(shape)
        if name not in self.buffers or len(self.buffers[name]) < count:
            self.buffers[name] = like.new_empty(count)
        return self.buffers[name][:count].view(shape)

    def copy(self, name: str, view: Tensor) -> Tensor:
        """A contiguous copy."""
        out = self(name, view, *view.shape)
        return view.contiguous() if out is None else out.copy_(view)
