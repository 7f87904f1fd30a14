"""The windows of one reference frame as blocks of logits: centred on their queries, or shifted by offsets."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.buckets import BUCKET, Buckets
from functional.correlation import correlate
from functional.scratch import Scratch
from functional.tiles import TILE, Chunk, Tiles, axis_mask


class Block(NamedTuple):
    """The logits of some queries for the block of cells that contains their windows, and the values of the block."""

    logits: Tensor  # [n, queries, h*w], -inf outside each query's window
    values: Tensor  # [n, K, h, w]
    rows: Tensor  # [queries] or [n, queries], first row and column of each query's window in the block
    columns: Tensor


class Reading(NamedTuple):
    """The results of attention for each window: [B, channels, H, W], or [n, channels, queries] for one block."""

    log_sum: Tensor  # log Σ exp(logit) over the window, one channel
    mean: Tensor  # Σ softmax(logit) · value over the window, K channels
    peaks: Tensor | None = None  # with the prior: the two largest logits, 2 channels,
    peak_rows: Tensor | None = None  # and their rows and columns in the window
    peak_columns: Tensor | None = None

    def unflatten(self, frames: int) -> "Reading":
        """[frames * B, channels, H, W] -> [frames, B, channels, H, W]."""
        return Reading._make(None if part is None else part.unflatten(0, (frames, -1)) for part in self)


def merge(readings: Sequence[Reading], function: Callable[[list[Tensor]], Tensor]) -> Reading:
    """Merge readings field by field, by a function of the fields of all of them."""
    fields = zip(*readings, strict=True)
    return Reading._make(None if parts[0] is None else function(list(parts)) for parts in fields)


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
        return merge(readings, self.tiles.assemble)


class ShiftedWindows:
    """Windows centred at query + offset and read bilinearly, zero outside the frame.

    The dot product is linear in the key: the logits of such a window are interpolated logits, and its mean value is
    interpolated from the mean values at its four integer shifts. No feature is interpolated (docs/method.md §3).
    """

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, offset: Tensor, radius: int) -> None:
        """query, key: [B, C, H, W]; value: [B, K, H, W]; offset: [B, 2, H, W], (dx, dy) in cells."""
        self.buckets = buckets = Buckets(offset, radius)
        self.fraction = offset - offset.detach().floor()
        self.queries, self.fractions = buckets.take(query), buckets.take(self.fraction)
        along = axis_mask(BUCKET, 2 * radius + 1, like=query)
        self.row_mask, self.column_mask = (along[start] for start in buckets.starts.unbind(1))
        self.key = _cells(buckets.pad(key))
        upper = F.pad(buckets.pad(value), (0, 1, 0, 1))
        shifts = upper[..., :-1, :-1], upper[..., :-1, 1:], upper[..., 1:, :-1], upper[..., 1:, 1:]
        self.corners = _cells(torch.cat(shifts, 1))  # the values at four integer shifts, 4·K channels

    def blocks(self, scratch: Scratch) -> Iterator[Block]:
        """Yield the windows of all buckets; the values of a block are those of four integer shifts, 4·K channels."""
        side = self.buckets.side
        key_cells, value_cells = self.buckets.cells(side), self.buckets.cells(side - 1)
        for blocks, queries in self.buckets.groups:
            firsts, shape = self.buckets.firsts[blocks, None], (blocks.stop - blocks.start, -1)
            keys = _read(self.key, firsts + key_cells, scratch, "block")  # [n, side*side, C]
            whole = scratch.matmul("products", self.queries[queries].unflatten(0, shape), keys.mT)
            fractions = self.fractions[queries].unflatten(0, shape)
            logits = _interpolate(whole.unflatten(2, (side, side)), fractions, scratch)
            logits += self.row_mask[queries].unflatten(0, shape)[..., None]
            logits += self.column_mask[queries].unflatten(0, shape)[..., None, :]
            values = _read(self.corners, firsts + value_cells, scratch, "values")
            starts = self.buckets.starts[queries].unflatten(0, shape).unbind(2)
            yield Block(logits.flatten(2), values.mT.unflatten(2, logits.shape[2:]), *starts)

    def assemble(self, readings: list[Reading]) -> Reading:
        """[n, channels, queries] each -> [B, channels, H, W]; interpolates the means of the four integer shifts."""
        merged = merge(readings, self.buckets.restore)
        x, y = self.fraction.unbind(1)
        upper, lower = merged.mean.unflatten(0, (2, 2, -1))  # [2, K, B, H, W] each
        left, right = torch.lerp(upper, lower, y)
        return merge([merged._replace(mean=torch.lerp(left, right, x))], lambda parts: parts[0].movedim(0, 1))


def _cells(maps: Tensor) -> Tensor:
    """Flatten maps [B, C, H, W] to their cells [B*H*W, C], whose channels are contiguous in memory."""
    return maps.movedim(1, -1).contiguous().flatten(0, 2)


def _read(cells: Tensor, indices: Tensor, scratch: Scratch, name: str) -> Tensor:
    """Gather cells [N, C] by their indices [n, m] -> [n, m, C]."""
    out = scratch(name, cells, indices.numel(), cells.shape[1])
    return torch.index_select(cells, 0, indices.flatten(), out=out).unflatten(0, indices.shape)


def _interpolate(whole: Tensor, fractions: Tensor, scratch: Scratch) -> Tensor:
    """Interpolate logits [n, queries, h + 1, w + 1] at shifts by fractions (x, y) of a cell [n, queries, 2]."""
    blocks, queries, height, width = whole.shape
    x, y = fractions[..., None, None].unbind(2)
    out = scratch("mixed", whole, blocks, queries, height - 1, width)
    mixed = torch.lerp(whole[:, :, :-1], whole[:, :, 1:], y, out=out)
    out = scratch("logits", whole, blocks, queries, height - 1, width - 1)
    return torch.lerp(mixed[..., :-1], mixed[..., 1:], x, out=out)
