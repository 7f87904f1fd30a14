"""The windows of one reference frame as blocks of logits: centred on their queries, or shifted by offsets."""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from functional.correlation import correlate
from functional.scratch import Scratch
from functional.tiles import TILE, Buckets, Chunk, Tiles, axis_mask, block_masks


class Block(NamedTuple):
    """The logits of some queries for the block of cells that contains their windows, and the values of the block."""

    logits: Tensor  # [n, queries, h*w], -inf outside each query's window
    values: Tensor  # [n, K, h, w]
    rows: Tensor  # [queries], first row and column of each query's window in the block
    columns: Tensor


class Reading(NamedTuple):
    """The results of attention for each window: [B, channels, H, W], or [n, channels, queries] for one block."""

    log_sum: Tensor  # log Σ exp(logit) over the window, one channel
    mean: Tensor  # Σ softmax(logit) · value over the window, K channels
    peaks: Tensor | None = None  # with the prior: the two largest logits, 2 channels,
    peak_rows: Tensor | None = None  # and their rows and columns in the window
    peak_columns: Tensor | None = None


class Windows(Protocol):
    """The windows of all queries in one reference frame."""

    def blocks(self, scratch: Scratch) -> Iterator[Block]:
        """Yield all windows, some queries at a time."""

    def assemble(self, readings: list[Reading]) -> Reading:
        """Concatenate the readings of all blocks, in order, to maps of the frame."""


class CentredWindows:
    """Windows centred on their queries."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, tiles: Tiles, backend: str) -> None:
        """query, key: [B, C, H, W]; value: [B, K, H, W]; tiles: those of the query."""
        self.query, self.key, self.value = query, key, value
        self.tiles = tiles
        self.backend = backend

    def blocks(self, scratch: Scratch) -> Iterator[Block]:
        """Yield the windows of all tiles; one block contains those of one tile."""
        values = self.tiles.blocks(self.value)
        for chunk, logits in self._logits(scratch):
            logits += self.tiles.mask
            yield Block(logits, values[chunk].flatten(0, 1).movedim(-1, 1), *self.tiles.starts)

    def _logits(self, scratch: Scratch) -> Iterator[tuple[Chunk, Tensor]]:
        tiles = self.tiles
        if self.backend != "sampler":
            yield from tiles.products(self.key, scratch)
            return
        windows = tiles.cut(correlate(self.query, self.key, tiles.radius, backend=self.backend))
        for chunk in tiles.chunks():
            logits = windows[chunk].flatten(0, 1)  # [n, queries, P*P]
            block = logits.new_full((*logits.shape[:2], tiles.side**2), -math.inf)
            tiles.windows(block).copy_(logits.unflatten(2, (tiles.size, -1)).unflatten(1, (TILE, TILE)))
            yield chunk, block

    def assemble(self, readings: list[Reading]) -> Reading:
        """[n, channels, queries] each -> [B, channels, H, W]."""
        fields = zip(*readings, strict=True)
        return Reading._make(None if parts[0] is None else self.tiles.assemble(list(parts)) for parts in fields)


class ShiftedWindows:
    """Windows centred at query + offset and read bilinearly, zero outside the frame.

    The dot product is linear in the key: the logits of such a window are interpolated logits, and its mean value is
    interpolated from the mean values at its four integer shifts. No feature is interpolated (docs/method.md §3).
    """

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, offset: Tensor, radius: int) -> None:
        """query, key: [B, C, H, W]; value: [B, K, H, W]; offset: [B, 2, H, W], (dx, dy) in cells."""
        self.size = 2 * radius + 1
        self.buckets = Buckets(offset, radius)
        self.queries = self.buckets.sort(query)
        self.fractions = self.buckets.sort(offset - offset.detach().floor())
        self.key = self.buckets.pad(key).movedim(1, -1).contiguous()  # [B, H', W', C]
        padded = self.buckets.pad(value)
        upper, lower = padded[..., :-1, :], padded[..., 1:, :]
        self.corners = torch.cat((upper[..., :-1], upper[..., 1:], lower[..., :-1], lower[..., 1:]), 1)  # [B, 4*K, …]

    def blocks(self, scratch: Scratch) -> Iterator[Block]:
        """Yield the windows of all buckets; the values of a block are those of four integer shifts, 4·K channels."""
        along = axis_mask(self.size, like=self.queries)
        for chosen, sample, rows, columns, starts in self.buckets.blocks():
            block = scratch.copy("block", self.key[sample, rows, columns])  # [h + 1, w + 1, C]
            logits = _bilinear_logits(self.queries[chosen], block, self.fractions[chosen], scratch)
            for mask in block_masks(along, *starts, *logits.shape[1:]):
                logits += mask
            values = self.corners[sample, :, rows, columns][None, :, :-1, :-1]
            yield Block(logits.flatten(1)[None], values, *starts)

    def assemble(self, readings: list[Reading]) -> Reading:
        """[1, channels, queries] each -> [B, channels, H, W]; interpolates the means of the four integer shifts."""
        fields = zip(*readings, strict=True)
        merged = Reading._make(None if parts[0] is None else torch.cat(parts, 2)[0] for parts in fields)
        x, y = self.fractions.unbind(1)
        upper, lower = merged.mean.unflatten(0, (2, 2, -1))  # [2, K, N] each
        left, right = torch.lerp(upper, lower, y)
        merged = merged._replace(mean=torch.lerp(left, right, x))
        return Reading._make(None if part is None else self.buckets.unsort(part.mT) for part in merged)


def _bilinear_logits(queries: Tensor, block: Tensor, fractions: Tensor, scratch: Scratch) -> Tensor:
    """Interpolate logits at cells shifted by fractions (x, y) [N, 2]: [N, C], [h + 1, w + 1, C] -> [N, h, w]."""
    (height, width), count = block.shape[:2], len(queries)
    x, y = (fraction[:, None, None] for fraction in fractions.unbind(1))
    out = scratch("products", queries, count, height * width)
    whole = torch.matmul(queries, block.flatten(0, 1).mT, out=out).unflatten(1, (height, width))
    mixed = torch.lerp(whole[:, :-1], whole[:, 1:], y, out=scratch("mixed", queries, count, height - 1, width))
    out = scratch("logits", queries, count, height - 1, width - 1)
    return torch.lerp(mixed[..., :-1], mixed[..., 1:], x, out=out)
