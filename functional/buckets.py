"""Buckets of shifted windows that share a block of keys (docs/method.md §3).

Windows whose first cells lie in the same BUCKET×BUCKET cells share a block, however much neighbouring offsets differ.
A device reads many blocks at once; then their queries are padded to one number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from functional.scratch import limit

BUCKET = 12
QUERIES = {"cpu": 256, "cuda": 64}  # at most, of one block; on a device few, so that the padding is small
BLOCKS_AT_ONCE = {"cpu": 1, "cuda": 512}  # one fits into a CPU's cache, many fill a GPU


class Group(NamedTuple):
    """Blocks that are read together."""

    blocks: slice
    queries: slice  # of the padded queries, the same number for each block


class Buckets:
    """Shifted windows of one reference frame, centred at query + ⌊offset⌋, grouped by their first cells.

    A block has one more row and column than its windows need, for bilinear interpolation.
    """

    def __init__(self, offset: Tensor, radius: int) -> None:
        """offset: [B, 2, H, W], (dx, dy) in cells; the caller handles the fractional parts."""
        batch, _, height, width = offset.shape
        self.shape = batch, height, width
        self.margin = 2 * radius + 2  # of zeros around a map, enough for windows completely outside
        self.side = BUCKET + 2 * radius + 1  # of a block
        self.width = width + 2 * self.margin + BUCKET  # of a padded map
        places = torch.cartesian_prod(*(torch.arange(n, device=offset.device) for n in (height, width)))
        starts = first_cells(places, offset.flip(1).flatten(2).mT, (height, width), radius).flatten(0, 1) + self.margin
        across, along = ((size + self.margin) // BUCKET + 1 for size in (width, height))  # number of buckets
        samples = torch.arange(batch, device=offset.device).repeat_interleave(height * width)
        buckets = (samples * along + starts[:, 0] // BUCKET) * across + starts[:, 1] // BUCKET
        counts = torch.zeros(batch * along * across, dtype=torch.int64, device=offset.device)
        counts.scatter_add_(0, buckets, torch.ones_like(buckets))
        at_once = limit(BLOCKS_AT_ONCE, offset.device)
        # A device waits here.
        pieces = _pieces(np.array(counts.tolist()), limit(QUERIES, offset.device), sort=at_once > 1)
        self.groups, padded, padded_places = _groups(pieces, at_once)
        rows, column = pieces.buckets // across, pieces.buckets % across
        sample, row = rows // along, rows % along
        height_padded = height + 2 * self.margin + BUCKET
        first_cell = ((sample * height_padded + row * BUCKET) * self.width + column * BUCKET).astype(np.int64)
        # The first cell of each block, in a flattened padded map.
        self.firsts = torch.from_numpy(first_cell).to(offset.device)
        order = buckets.argsort(stable=True)
        # The query in each padded place, and the padded place of each query.
        self.order = order[torch.from_numpy(padded).to(offset.device)]
        self.places = torch.from_numpy(padded_places).to(offset.device)[order.argsort()]
        self.starts = starts[self.order] % BUCKET  # [padded, 2]: row and column of the window in its block

    def pad(self, maps: Tensor) -> Tensor:
        """Pad maps [..., H, W] with zeros, so that every block lies inside."""
        return F.pad(maps, (self.margin, self.margin + BUCKET) * 2)

    def cells(self, side: int) -> Tensor:
        """Indices of the first side × side cells of a block in a flattened padded map, relative to its first cell."""
        steps = torch.arange(side, device=self.firsts.device)
        return (steps[:, None] * self.width + steps).flatten()

    def take(self, maps: Tensor) -> Tensor:
        """Order the queries by block, [B, C, H, W] -> [padded, C]."""
        return maps.movedim(1, -1).flatten(0, 2)[self.order]

    def restore(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the results of all groups, [blocks, C, queries] each, as maps [C, B, H, W]."""
        padded = torch.cat([part.movedim(1, 0).flatten(1) for part in parts], 1)
        return padded[:, self.places].unflatten(1, self.shape)


class _Pieces(NamedTuple):
    """Buckets, divided where they have more queries than one block may have; int64 [pieces] each."""

    buckets: np.ndarray
    firsts: np.ndarray  # the first query, in the order of the buckets
    counts: np.ndarray  # number of queries


def _pieces(counts: np.ndarray, most: int, *, sort: bool) -> _Pieces:
    """Divide buckets of so many queries into pieces of at most `most`; sort: largest pieces first."""
    numbers = -(-counts // most)  # of pieces of each bucket, 0 for an empty one
    buckets = np.repeat(np.arange(len(counts)), numbers)
    before = most * (np.arange(len(buckets)) - np.repeat(np.cumsum(numbers) - numbers, numbers))
    sizes = np.minimum(most, counts[buckets] - before)
    pieces = _Pieces(buckets, (np.cumsum(counts) - counts)[buckets] + before, sizes)
    order = np.argsort(-sizes, kind="stable") if sort else slice(None)
    return _Pieces(*(part[order] for part in pieces))


def _groups(pieces: _Pieces, at_once: int) -> tuple[list[Group], np.ndarray, np.ndarray]:
    """Return groups of pieces, the query in each padded place, and the padded place of each query (in bucket order)."""
    groups, padded, places, total = [], [], np.empty(pieces.counts.sum(), np.int64), 0
    for start in range(0, len(pieces.counts), at_once):
        blocks = slice(start, min(start + at_once, len(pieces.counts)))
        firsts, counts = pieces.firsts[blocks, None], pieces.counts[blocks, None]
        steps = np.arange(counts.max())
        queries = firsts + np.minimum(steps, counts - 1)  # the last one is repeated
        here = total + np.arange(queries.size).reshape(queries.shape)
        places[queries[steps < counts]] = here[steps < counts]
        groups.append(Group(blocks, slice(total, total + queries.size)))
        padded.append(queries.flatten())
        total += queries.size
    return groups, np.concatenate(padded), places


def first_cells(places: Tensor, offset: Tensor, size: tuple[int, int], radius: int) -> Tensor:
    """Return the first cells of windows centred at place + ⌊offset⌋; places, offset and result: (y, x) [..., 2].

    Windows completely outside the frame of `size` are clamped to positions just outside it, where they contain the
    same zeros.
    """
    centres = (places + offset.detach().floor().long()).unbind(-1)
    inside = [centre.clamp(-radius - 2, side + radius) for centre, side in zip(centres, size, strict=True)]
    return torch.stack(inside, -1) - radius
