"""Tiles of queries and the blocks of keys that contain their windows (docs/method.md §3).

Every operator needs, for each query position, a P×P window of another map: P = 2·radius + 1, row-major, zero outside
the frame. The windows of neighbouring queries overlap, so the queries of one tile are multiplied with the block of
keys that contains all their windows: a single matrix product instead of a gathered window for each query.

          block: TILE + 2·radius cells on a side (here TILE = 4, radius = 2)
        ┌─────────────────┐
        │ w w w w w . . . │
        │ w w w w w . . . │
        │ w w Q w w q . . │    Q  the first query of the tile
        │ w w w w w q . . │    w  its window, P×P cells around it
        │ w w w w w q . . │    q  the other queries of the tile (nine more lie under w)
        │ . . q q q q . . │    .  the rest of the block
        │ . . . . . . . . │
        │ . . . . . . . . │
        └─────────────────┘

Cells of the block that are not in a query's window get the logit -inf, so a softmax over the block is one over the
window, and a second matrix product with the block's values gives the weighted mean.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.scratch import Scratch, limit

TILE = 8  # queries on a side of a tile: small blocks, and enough queries for an efficient matrix product
TILES_AT_ONCE = {"cpu": 8, "cuda": 1024}  # few enough for a CPU's cache, many enough to fill a GPU
Chunk = tuple[int, slice, slice]  # tiles of one sample: batch index, rows and columns of tiles


class Tiles:
    """The queries of maps [B, C, H, W] in tiles, each with the block of another map that contains their windows.

    Tiles at the right and lower edge extend beyond the frame; `assemble` drops the results there.
    """

    def __init__(self, query: Tensor, radius: int) -> None:
        """query: [B, C, H, W]; radius: of the windows, in cells."""
        self.batch, _, self.height, self.width = query.shape
        self.radius = radius
        self.size = 2 * radius + 1  # of a window
        self.side = TILE + 2 * radius  # of a block
        self.rows, self.columns = math.ceil(self.height / TILE), math.ceil(self.width / TILE)
        self.at_once = limit(TILES_AT_ONCE, query.device)
        steps = torch.arange(TILE, device=query.device)
        self.starts = steps.repeat_interleave(TILE), steps.repeat(TILE)  # row, column of each window in its block
        along = axis_mask(TILE, self.size, like=query)
        # additive, [queries, cells]: 0 in the query's window, else -inf
        self.mask = (along[self.starts[0], :, None] + along[self.starts[1], None]).flatten(1)
        self.queries = self.cut(query)  # [B, rows, columns, queries, C]

    def cut(self, maps: Tensor) -> Tensor:
        """Cut maps into tiles, [B, C, H, W] -> [B, rows, columns, queries, C]."""
        padded = F.pad(maps, (0, self.columns * TILE - self.width, 0, self.rows * TILE - self.height))
        tiles = padded.unflatten(3, (self.columns, TILE)).unflatten(2, (self.rows, TILE))  # [B, C, rows, 8, columns, 8]
        return tiles.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)

    def blocks(self, maps: Tensor) -> Tensor:
        """Return the blocks of zero-padded maps [B, C, H, W], a view: [B, rows, columns, side, side, C]."""
        below, right = self.rows * TILE - self.height, self.columns * TILE - self.width
        padded = F.pad(maps, (self.radius, self.radius + right, self.radius, self.radius + below))
        return padded.unfold(2, self.side, TILE).unfold(3, self.side, TILE).permute(0, 2, 3, 4, 5, 1)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all tiles, a suitable number for the device at a time."""
        columns = math.ceil(self.columns / math.ceil(self.columns / self.at_once))
        rows = max(1, self.at_once // self.columns)
        for sample in range(self.batch):
            for top in range(0, self.rows, rows):
                for left in range(0, self.columns, columns):
                    yield sample, slice(top, top + rows), slice(left, left + columns)

    def products(self, keys: Tensor, scratch: Scratch) -> Iterator[tuple[Chunk, Tensor]]:
        """Yield the dot products of each tile's queries with all keys of its block, by chunk: [n, queries, cells].

        keys: [B, C, H, W].
        """
        blocks = self.blocks(keys.contiguous(memory_format=torch.channels_last))
        for chunk in self.chunks():
            cells = scratch.copy("block", blocks[chunk]).flatten(0, 1).flatten(1, 2)  # [n, cells, C]
            queries = self.queries[chunk].flatten(0, 1)
            yield chunk, scratch.matmul("products", queries, cells.mT)

    def windows(self, products: Tensor) -> Tensor:
        """Return the windows in blocks, a view: [n, queries, cells] -> [n, 8, 8, P, P]."""
        cells = products.shape[2]
        shape = len(products), TILE, TILE, self.size, self.size
        strides = products.shape[1] * cells, TILE * cells + self.side, cells + 1, self.side, 1
        return products.as_strided(shape, strides)

    def assemble(self, parts: list[Tensor]) -> Tensor:
        """Concatenate the results of all chunks, in order, [n, N, queries] each -> maps [B, N, H, W]."""
        tiles = torch.cat(parts).unflatten(0, (self.batch, self.rows, self.columns)).unflatten(-1, (TILE, TILE))
        maps = tiles.permute(0, 3, 1, 4, 2, 5)  # [B, N, rows, 8, columns, 8]
        return maps.flatten(4, 5).flatten(2, 3)[..., : self.height, : self.width]


def displacements(radius: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Return (dx, dy) of each cell of a window, row-major, [P*P, 2]."""
    steps = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((dx, dy), dim=-1).reshape(-1, 2)


def axis_mask(starts: int, size: int, *, like: Tensor) -> Tensor:
    """Additive mask along one axis of a block: 0 inside the window, -inf outside, [starts, starts + size - 1].

    The window has `size` cells and starts at cell 0 … starts - 1 of the block.
    """
    steps = torch.arange(starts + size - 1) - torch.arange(starts)[:, None]
    return torch.where((steps >= 0) & (steps < size), 0.0, -math.inf).to(like)


def pad_frame(maps: Tensor, padding: int) -> Tensor:
    """Pad maps [..., H, W] with zeros on all four sides."""
    return F.pad(maps, (padding,) * 4)


def to_subgrids(maps: Tensor, dilation: int) -> Tensor:
    """Split maps into d×d interleaved sub-grids, on which dilated windows are plain: -> [B*d*d, C, ⌈H/d⌉, ⌈W/d⌉]."""
    height, width = (math.ceil(size / dilation) for size in maps.shape[-2:])
    padded = F.pad(maps, (0, width * dilation - maps.shape[-1], 0, height * dilation - maps.shape[-2]))
    grids = padded.unflatten(3, (width, dilation)).unflatten(2, (height, dilation))  # [B, C, h, d, w, d]
    return grids.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)


def from_subgrids(grids: Tensor, dilation: int, height: int, width: int) -> Tensor:
    """Invert `to_subgrids` for a frame of height×width: -> [B, C, height, width]."""
    maps = grids.unflatten(0, (-1, dilation, dilation)).permute(0, 3, 4, 1, 5, 2)  # [B, C, h, d, w, d]
    return maps.flatten(4, 5).flatten(2, 3)[..., :height, :width]
