"""Windows of queries, a tile at a time.

Every operator here needs, for each query position, a P×P window of another map (P = 2·radius + 1, row-major, zero
outside the frame). Windows of neighbouring queries overlap, so the queries of one small tile are multiplied with the
one block of keys that holds all their windows: a single matrix product, of which each query keeps its own window.

`Windows` and `ShiftedWindows` say where a query's window lies in its tile's block. Both do it twice, as a linear
map and its transpose: `extract` takes windows of logits out of blocks, `deposit` puts windows of weights into blocks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TILE_HEIGHT, TILE_WIDTH = 8, 16  # queries in a tile: small enough for the cache, large enough for the matrix product


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
    for top in range(0, height, TILE_HEIGHT):
        for left in range(0, width, TILE_WIDTH):
            yield Tile(top, left, min(TILE_HEIGHT, height - top), min(TILE_WIDTH, width - left))


def displacements(radius: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """(dx, dy) of every cell of a window, row-major, [P*P, 2]."""
    steps = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack((dx, dy), dim=-1).reshape(-1, 2)


class Windows:
    """Windows centred on their queries."""

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self.size = 2 * radius + 1
        self.padding = radius  # zeros around a map, so that every window lies inside it

    def block(self, padded: Tensor, tile: Tile) -> Tensor:
        """The part of a padded map [..., C, H, W] that holds the tile's windows, [..., C, cells]."""
        bottom, right = tile.top + tile.height + 2 * self.radius, tile.left + tile.width + 2 * self.radius
        return padded[..., tile.top : bottom, tile.left : right].flatten(-2)

    def _view(self, block: Tensor, tile: Tile) -> Tensor:
        """Each query's window in its own row of a block, as a view: [N, queries, cells] -> [N, height, width, P, P]."""
        width = tile.width + 2 * self.radius
        row = (tile.height + 2 * self.radius) * width
        shape = block.shape[0], tile.height, tile.width, self.size, self.size
        return block.as_strided(shape, (tile.height * tile.width * row, tile.width * row + width, row + 1, width, 1))

    def extract(self, block: Tensor, tile: Tile) -> Tensor:
        """Blocks of logits [B, T, queries, cells] -> the queries' windows [B, queries, T, P*P]."""
        batch, references, queries, _ = block.shape
        view = self._view(block.flatten(0, 1), tile).unflatten(0, (batch, references))
        return view.permute(0, 2, 3, 1, 4, 5).reshape(batch, queries, references, -1)

    def deposit(self, windows: Tensor, tile: Tile) -> Tensor:
        """Windows of weights [B, queries, T, P*P] -> blocks [B, T, queries, cells], zero elsewhere."""
        batch, queries, references, _ = windows.shape
        cells = (tile.height + 2 * self.radius) * (tile.width + 2 * self.radius)
        block = windows.new_zeros(batch * references, queries, cells)
        shape = batch, tile.height, tile.width, references, self.size, self.size
        self._view(block, tile).copy_(windows.reshape(shape).permute(0, 3, 1, 2, 4, 5).flatten(0, 1))
        return block.unflatten(0, (batch, references))


class ShiftedWindows:
    """Windows of one reference, centred at query + offset and read bilinearly (docs/method.md §3, long-range search).

    A dot product is linear in the key, so a bilinear window of logits is the bilinear mix of the (P+1)×(P+1) integer
    logits around ⌊query + offset⌋, and the same holds, transposed, for the weights: no feature is interpolated.

    offset: [B, 2, H, W], (dx, dy) in cells.
    """

    def __init__(self, radius: int, offset: Tensor) -> None:
        height, width = offset.shape[-2:]
        self.radius = radius
        self.size = 2 * radius + 1
        self.padding = 2 * radius + 2  # enough for a window that lies wholly outside; those further out are clamped
        whole = offset.detach().floor()
        self.fraction = offset - whole
        rows = torch.arange(height, device=offset.device).view(-1, 1)
        columns = torch.arange(width, device=offset.device)
        self.column = (whole[:, 0].long() + columns).clamp(-radius - 2, width + radius)  # ⌊query + offset⌋, [B, H, W]
        self.row = (whole[:, 1].long() + rows).clamp(-radius - 2, height + radius)
        self._boxes = self._bounding_boxes()

    def _bounding_boxes(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """(top, left, bottom, right) of each tile's block in the padded map; all in one transfer from the device."""
        boxes, corners = [], []
        for tile in tiles(*self.row.shape[-2:]):
            row, column = tile.of(self.row), tile.of(self.column)
            boxes.append(torch.stack((row.amin(), column.amin(), row.amax(), column.amax())))
            corners.append((tile.top, tile.left))
        low, high = self.padding - self.radius, self.padding + self.radius + 2
        extent = torch.tensor([low, low, high, high])
        return dict(zip(corners, map(tuple, (torch.stack(boxes).cpu() + extent).tolist()), strict=True))

    def block(self, padded: Tensor, tile: Tile) -> Tensor:
        """The part of a padded map [..., C, H, W] that holds the tile's windows, [..., C, cells]."""
        top, left, bottom, right = self._boxes[tile.top, tile.left]
        return padded[..., top:bottom, left:right].flatten(-2)

    def _cells(self, tile: Tile) -> Tensor:
        """Where each query's (P+1)×(P+1) integer window lies in the tile's block, [B, 1, queries, (P+1)*(P+1)]."""
        top, left, _, right = self._boxes[tile.top, tile.left]
        first_row = tile.of(self.row).flatten(1) + (self.padding - self.radius - top)
        first_column = tile.of(self.column).flatten(1) + (self.padding - self.radius - left)
        steps = torch.arange(self.size + 1, device=first_row.device)
        window = (steps.view(-1, 1) * (right - left) + steps).flatten()
        return ((first_row * (right - left) + first_column)[..., None] + window)[:, None]

    def _mix(self, tile: Tile) -> tuple[Tensor, Tensor]:
        """The bilinear fractions (x, y) of the tile's queries, [B, 1, queries, 1, 1] each."""
        x, y = tile.rows(self.fraction).unbind(-1)
        return x[:, None, :, None, None], y[:, None, :, None, None]

    def extract(self, block: Tensor, tile: Tile) -> Tensor:
        """Blocks of logits [B, 1, queries, cells] -> the queries' bilinear windows [B, queries, 1, P*P]."""
        whole = block.gather(-1, self._cells(tile)).unflatten(-1, (self.size + 1, self.size + 1))
        x, y = self._mix(tile)
        rows = torch.lerp(whole[..., :-1, :], whole[..., 1:, :], y)
        return torch.lerp(rows[..., :-1], rows[..., 1:], x).flatten(-2).transpose(1, 2)

    def deposit(self, windows: Tensor, tile: Tile) -> Tensor:
        """Windows of weights [B, queries, 1, P*P] -> blocks [B, 1, queries, cells], each weight on its four cells."""
        windows = windows.transpose(1, 2).unflatten(-1, (self.size, self.size))
        x, y = self._mix(tile)
        rows = F.pad(windows * (1 - x), (0, 1)) + F.pad(windows * x, (1, 0))
        whole = F.pad(rows * (1 - y), (0, 0, 0, 1)) + F.pad(rows * y, (0, 0, 1, 0))
        top, left, bottom, right = self._boxes[tile.top, tile.left]
        block = windows.new_zeros(*windows.shape[:3], (bottom - top) * (right - left))
        return block.scatter(-1, self._cells(tile), whole.flatten(-2))


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
