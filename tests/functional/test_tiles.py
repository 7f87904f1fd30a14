"""Tiles partition a frame, and a tile's block holds the windows of its queries."""

import pytest
import torch

from functional.tiles import Tiles, displacements, from_subgrids, to_subgrids
from tests.support.problems import SIZES, normal


@pytest.mark.parametrize("size", [*SIZES, (21, 75)])
def test_tiles_cover_a_frame_once(size):
    maps = normal(2, 3, *size)
    tiles = Tiles(maps, radius=2)
    parts = [tiles.queries[chunk].flatten(0, 1).mT for chunk in tiles.chunks()]
    assert torch.equal(tiles.assemble(parts), maps)


def test_a_tile_s_block_holds_its_windows():
    maps = normal(2, 3, 21, 75)
    tiles = Tiles(maps, radius=2)
    block = tiles.blocks(maps)[1, 1, 2]  # of the tile whose first query is (8, 16), [side, side, C]
    assert torch.equal(block, maps[1, :, 6:18, 14:26].permute(1, 2, 0))


def test_displacements_are_row_major():
    rows = [[(-1, -1), (0, -1), (1, -1)], [(-1, 0), (0, 0), (1, 0)], [(-1, 1), (0, 1), (1, 1)]]
    assert torch.equal(displacements(1), torch.tensor(rows).flatten(0, 1))


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_subgrids(size, dilation):
    maps = normal(2, 3, *size)
    grids = to_subgrids(maps, dilation)
    assert torch.equal(grids[0, :, 0], maps[0, :, 0, ::dilation])
    assert torch.equal(from_subgrids(grids, dilation, *size), maps)
