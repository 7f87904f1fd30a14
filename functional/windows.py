"""Windows of queries, some tiles at a time.

Every operator here needs, for each query position, a P×P window of another map (P = 2·radius + 1, row-major, zero
outside the frame). Windows of neighbouring queries overlap, so the queries of one small tile are multiplied with the
one block of keys that holds all their windows: a single matrix product. What lies in the block but not in a query's
window gets the logit -inf, so that a softmax over the block is one over the window, and a second matrix product reads
the block's values. No window is built.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.scratch import Scratch

TILE = 8  # queries on a side of a tile: few, for small blocks, but enough for the matrix product
TILES_AT_ONCE = {"cpu": 8, "cuda": 1024}  # few enough for a processor's cache, many enough for a GPU
BUCKET = 12  # cells on a side in which windows that lie anywhere start to share a block
QUERIES = 256  # at most, in such a block
Chunk = tuple[int, slice, slice]  # tiles of one sample: some rows and columns of tiles


class Tiles:
    """The queries of frames [B, _, H, W] cut into tiles, each with a block of another map, which holds their windows.

    At the right and lower edge tiles extend beyond the frame; `assemble` drops what they yield there.
    """

    def __init__(self, frames: Tensor, radius: int) -> None:
        self.batch, _, self.height, self.width = frames.shape
        self.radius = radius
        self.size = 2 * radius + 1  # of a window
        self.side = TILE + 2 * radius  # of a block
        self.rows, self.columns = math.ceil(self.height / TILE), math.ceil(self.width / TILE)
        self.at_once = TILES_AT_ONCE.get(frames.device.type, TILES_AT_ONCE["cuda"])
        steps = torch.arange(TILE, device=frames.device)
        self.starts = steps.repeat_interleave(TILE), steps.repeat(TILE)  # row, column of each window in its block
        by_row, by_column = mask(outside(self.size, like=frames), *self.starts, self.side, self.side)
        self.beyond = (by_row + by_column).flatten(1)  # [queries, cells]: -inf for cells that a window has not

    def queries(self, maps: Tensor) -> Tensor:
        """Maps [B, C, H, W] -> [B, rows, columns, queries, C]."""
        padded = F.pad(maps, (0, self.columns * TILE - self.width, 0, self.rows * TILE - self.height))
        tiles = padded.unflatten(3, (self.columns, TILE)).unflatten(2, (self.rows, TILE))  # [B, C, rows, 8, columns, 8]
        return tiles.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)

    def blocks(self, maps: Tensor) -> Tensor:
        """The blocks of maps [B, C, H, W] with zeros around, a view: [B, rows, columns, side, side, C]."""
        below, right = self.rows * TILE - self.height, self.columns * TILE - self.width
        padded = F.pad(maps, (self.radius, self.radius + right, self.radius, self.radius + below))
        return padded.unfold(2, self.side, TILE).unfold(3, self.side, TILE).permute(0, 2, 3, 4, 5, 1)

    def chunks(self) -> Iterator[Chunk]:
        """All tiles, as many at a time as serves the device."""
        columns = math.ceil(self.columns / math.ceil(self.columns / self.at_once))
        rows = max(1, self.at_once // self.columns)
        for sample in range(self.batch):
            for top in range(0, self.rows, rows):
                for left in range(0, self.columns, columns):
                    yield sample, slice(top, top + rows), slice(left, left + columns)

    def products(self, queries: Tensor, keys: Tensor, scratch: Scratch) -> Iterator[tuple[Chunk, Tensor]]:
        """Products of all queries of a tile with all keys of its block, chunk by chunk: [n, queries, cells].

        queries: as `queries` yields them; keys: maps [B, C, H, W].
        """
        blocks = self.blocks(keys.contiguous(memory_format=torch.channels_last))
        for chunk in self.chunks():
            cells = scratch.copy("block", blocks[chunk]).flatten(0, 1).flatten(1, 2)  # [n, cells, C]
            of_tiles = queries[chunk].flatten(0, 1)
            out = scratch("products", queries, *of_tiles.shape[:2], cells.shape[1])
            yield chunk, torch.matmul(of_tiles, cells.mT, out=out)

    def windows(self, products: Tensor) -> Tensor:
        """The windows in blocks, a view: [n, queries, cells] -> [n, 8, 8, P, P]."""
        of_query = products.shape[2]
        shape = len(products), TILE, TILE, self.size, self.size
        strides = products.shape[1] * of_query, TILE * of_query + self.side, of_query + 1, self.side, 1
        return products.as_strided(shape, strides)

    def assemble(self, parts: list[Tensor]) -> Tensor:
        """What was found for the queries of chunk after chunk, [n, N, queries] each -> maps [B, N, H, W]."""
        tiles = torch.cat(parts).unflatten(0, (self.batch, self.rows, self.columns)).unflatten(-1, (TILE, TILE))
        maps = tiles.permute(0, 3, 1, 4, 2, 5)  # [B, N, rows, 8, columns, 8]
        return maps.flatten(4, 5).flatten(2, 3)[..., : self.height, : self.width]


def displacements(radius: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """(dx, dy) of every cell of a window, row-major, [P*P, 2]."""
    steps = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((dx, dy), dim=-1).reshape(-1, 2)


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
        starts = [start.flatten() + self.margin for start in first_cells(offset, radius)]
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
        """The inverse, [B*H*W, C] -> [B, C, H, W]."""
        return rows[self.order.argsort()].unflatten(0, self.shape).movedim(-1, 1)

    def blocks(self) -> Iterator[tuple[slice, int, slice, slice, tuple[Tensor, Tensor]]]:
        """Which of the sorted queries share a block; its sample, rows and columns in the padded map; and the first row
        and column of each query's window in it."""
        lasts = [*self.firsts[1:], len(self.order)]
        for (sample, row, column), first, last in zip(self.places, self.firsts, lasts, strict=True):
            rows, columns = (slice(BUCKET * start, BUCKET * start + self.side) for start in (row, column))
            for begin in range(first, last, QUERIES):
                chosen = slice(begin, min(begin + QUERIES, last))
                yield chosen, sample, rows, columns, (self.starts[0][chosen], self.starts[1][chosen])


def first_cells(offset: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Row and column of the first cell of the windows centred at query + ⌊offset⌋, [B, 2, H, W] -> [B, H, W] each.

    Those that lie wholly outside the frame stay near it.
    """
    whole, (height, width) = offset.detach().floor().long(), offset.shape[-2:]
    rows, columns = (torch.arange(size, device=offset.device) for size in (height, width))
    return (
        (whole[:, 1] + rows[:, None]).clamp(-radius - 2, height + radius) - radius,
        (whole[:, 0] + columns).clamp(-radius - 2, width + radius) - radius,
    )


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
