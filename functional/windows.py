"""Windows of queries, a tile at a time.

Every operator here needs, for each query position, a P×P window of another map (P = 2·radius + 1, row-major, zero
outside the frame). Windows of neighbouring queries overlap, so the queries of one small tile are multiplied with the
one block of keys that holds all their windows: a single matrix product. What lies in the block but not in a query's
window gets the logit -inf, so that a softmax over the block is one over the window, and a second matrix product reads
the block's values. No window is built.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 8  # queries on a side of a tile: few, for small blocks, but enough for the matrix product
BUCKET = 12  # cells on a side in which windows that lie anywhere start to share a block
QUERIES = 256  # at most, in such a block


@dataclass(frozen=True)
class Tile:
    """The queries in rows top … top + height - 1 and columns left … left + width - 1."""

    top: int
    left: int
    height: int
    width: int

    def of(self, maps: Tensor) -> Tensor:
        """The tile's part of a map, a view: [..., H, W] -> [..., height, width]."""
        return maps[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def rows(self, maps: Tensor) -> Tensor:
        """The tile's positions as rows, [B, C, H, W] -> [B, queries, C]."""
        return self.of(maps).flatten(2).transpose(1, 2)

    def write(self, maps: Tensor, rows: Tensor) -> None:
        """Rows [B, queries, C] into the tile's part of a map [B, C, H, W]."""
        self.of(maps).copy_(rows.transpose(1, 2).unflatten(2, (self.height, self.width)))


def tiles(height: int, width: int) -> Iterator[Tile]:
    """The tiles that cover a frame, row by row; those at its right and lower edge may be smaller."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield Tile(top, left, min(TILE, height - top), min(TILE, width - left))


def displacements(radius: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """(dx, dy) of every cell of a window, row-major, [P*P, 2]."""
    steps = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((dx, dy), dim=-1).reshape(-1, 2)


class Windows:
    """Windows centred on their queries, in maps with `radius` zeros around them."""

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self.size = 2 * radius + 1
        self._placed: dict[tuple[int, int], tuple[tuple[Tensor, Tensor], Tensor]] = {}

    def area(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of a tile's block."""
        bottom, right = tile.top + tile.height + 2 * self.radius, tile.left + tile.width + 2 * self.radius
        return slice(tile.top, bottom), slice(tile.left, right)

    def place(self, tile: Tile, *, like: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The first row and column of each query's window in the tile's block, [queries] each, and their `mask`."""
        if (tile.height, tile.width) not in self._placed:
            rows, columns = (torch.arange(count, device=like.device) for count in (tile.height, tile.width))
            starts = rows.repeat_interleave(tile.width), columns.repeat(tile.height)
            size = tile.height + 2 * self.radius, tile.width + 2 * self.radius
            self._placed[tile.height, tile.width] = starts, sum(mask(outside(self.size, like=like), *starts, *size))
        return self._placed[tile.height, tile.width]

    def extract(self, block: Tensor, tile: Tile) -> Tensor:
        """The windows in blocks of logits, a view: [N, queries, h, w] -> [N, height, width, P, P]."""
        _, queries, height, width = block.shape
        shape = len(block), tile.height, tile.width, self.size, self.size
        of_query = height * width
        return block.as_strided(shape, (queries * of_query, tile.width * of_query + width, of_query + 1, width, 1))

    def deposit(self, windows: Tensor, tile: Tile) -> Tensor:
        """Blocks of logits that hold these windows and -inf: [N, P*P, height, width] -> [N, queries, h, w]."""
        size = tile.height + 2 * self.radius, tile.width + 2 * self.radius
        block = windows.new_full((len(windows), tile.height * tile.width, *size), -math.inf)
        self.extract(block, tile).copy_(windows.unflatten(1, (self.size, -1)).permute(0, 3, 4, 1, 2))
        return block


class Buckets:
    """Windows of one reference that lie anywhere: centred at query + offset, for queries [B, H, W].

    Those that start in the same BUCKET×BUCKET cells share a block: blocks stay small however rough the offsets are.
    """

    def __init__(self, offset: Tensor, radius: int) -> None:
        """offset: [B, 2, H, W], (dx, dy) in cells; what is below a whole cell is left to the caller."""
        batch, _, height, width = offset.shape
        self.shape = batch, height, width
        self.margin = 2 * radius + 2  # zeros around a map: enough for a window that lies wholly outside
        self.side = BUCKET + 2 * radius + 1  # of a block, which also holds the neighbours one cell on
        own = torch.meshgrid(*(torch.arange(size, device=offset.device) for size in (height, width)), indexing="ij")
        whole = offset.detach().floor().long()
        starts = [
            (whole[:, axis] + cell).clamp(-radius - 2, size + radius).flatten() + self.margin - radius
            for axis, cell, size in ((1, own[0], height), (0, own[1], width))
        ]
        samples = torch.arange(batch, device=offset.device).repeat_interleave(height * width)
        rows, columns = (start // BUCKET for start in starts)
        row_of_buckets = samples * (height + 4 * self.margin) + rows
        self.order = (row_of_buckets * (width + 4 * self.margin) + columns).argsort(stable=True)
        places = torch.stack((samples, rows, columns), 1)[self.order]
        first = torch.ones(len(places), dtype=torch.bool, device=offset.device)
        first[1:] = (places[1:] != places[:-1]).any(1)
        self.firsts = first.nonzero()[:, 0].tolist()  # of each bucket, in this order
        self.places = places[first].tolist()
        self.starts = [start[self.order] % BUCKET for start in starts]

    def pad(self, maps: Tensor) -> Tensor:
        """Zeros around every frame of [..., H, W], so that every block lies inside."""
        return F.pad(maps, (self.margin, self.margin + BUCKET) * 2)

    def sort(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B*H*W, C], bucket by bucket."""
        return maps.movedim(1, -1).flatten(0, 2)[self.order]

    def unsort(self, rows: Tensor) -> Tensor:
        """The inverse, [B*H*W, C] -> [B, H, W, C]."""
        return rows[self.order.argsort()].unflatten(0, self.shape)

    def blocks(self) -> Iterator[tuple[slice, int, slice, slice, tuple[Tensor, Tensor]]]:
        """Which of the sorted queries share a block; its sample, rows and columns in the padded map; and the first row
        and column of each query's window in it."""
        lasts = [*self.firsts[1:], len(self.order)]
        for (sample, row, column), first, last in zip(self.places, self.firsts, lasts, strict=True):
            rows, columns = (slice(BUCKET * start, BUCKET * start + self.side) for start in (row, column))
            for begin in range(first, last, QUERIES):
                chosen = slice(begin, min(begin + QUERIES, last))
                yield chosen, sample, rows, columns, (self.starts[0][chosen], self.starts[1][chosen])


def outside(size: int, *, like: Tensor) -> Tensor:
    """What added to logits along one axis of a block leaves the window: [start of the window, cell], 0 or -inf.

    The window has `size` cells and starts at 0 … BUCKET - 1; BUCKET is no less than TILE.
    """
    steps = torch.arange(BUCKET + size - 1) - torch.arange(BUCKET)[:, None]
    return torch.where((steps >= 0) & (steps < size), 0.0, -math.inf).to(like)


def mask(outside: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What, added to the logits of blocks [N, height, width], leaves the windows that start at these rows and columns.

    In two parts, [N, height, 1] and [N, 1, width].
    """
    return outside[rows, :height, None], outside[columns, None, :width]


def pad_frame(maps: Tensor, padding: int) -> Tensor:
    """Zeros around every frame of [..., H, W]."""
    return F.pad(maps, (padding,) * 4)


def to_subgrids(maps: Tensor, dilation: int) -> Tensor:
    """Every dilation-th cell, [B, C, H, W] -> [B*d*d, C, ⌈H/d⌉, ⌈W/d⌉]: a dilated window is a plain one there."""
    height, width = (math.ceil(size / dilation) for size in maps.shape[-2:])
    padded = F.pad(maps, (0, width * dilation - maps.shape[-1], 0, height * dilation - maps.shape[-2]))
    grids = padded.unflatten(3, (width, dilation)).unflatten(2, (height, dilation))  # [B, C, h, d, w, d]
    return grids.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)


def from_subgrids(grids: Tensor, dilation: int, height: int, width: int) -> Tensor:
    """The inverse of `to_subgrids` for a frame of height×width."""
    maps = grids.unflatten(0, (-1, dilation, dilation)).permute(0, 3, 4, 1, 5, 2)  # [B, C, h, d, w, d]
    return maps.flatten(4, 5).flatten(2, 3)[..., :height, :width]
