"""Long-range search: offsets of the windows in old reference frames (docs/method.md §3)."""

import torch
from torch import Tensor

from functional.correlation import correlate
from functional.scratch import Scratch
from functional.tiles import TILE, Tiles, displacements, from_subgrids, to_subgrids

SEARCH_GAP = 15  # reference frames older than this many frames are searched
MAX_DILATION = 4


def search_dilation(gap: int) -> int | None:
    """Return the dilation of the search in a reference frame `gap` frames back; None if it is not searched."""
    return min(MAX_DILATION, gap // SEARCH_GAP + 1) if gap > SEARCH_GAP else None


def expected_offset(query: Tensor, key: Tensor, radius: int, dilation: int, *, backend: str = "native") -> Tensor:
    """Compute the soft-argmax over the dilated window of each query in one reference frame: a fractional offset.

    query, key: [B, C, H, W] -> [B, 2, H, W], (dx, dy) in cells. Cells outside the frame have logit 0 and are included.
    """
    if backend == "sampler":
        weights = correlate(query, key, radius, dilation, backend=backend).softmax(1)
        steps = dilation * displacements(radius, device=query.device, dtype=query.dtype)  # [P*P, 2]
        return torch.einsum("bphw,pc->bchw", weights, steps)
    queries = to_subgrids(query, dilation)
    tiles, scratch = Tiles(queries, radius), Scratch(query, key)
    cells, centres = (_positions(size).to(queries) for size in (tiles.side, TILE))
    parts = []
    for _, logits in tiles.products(to_subgrids(key, dilation), scratch):
        logits += tiles.mask
        weights = torch.softmax(logits, -1, out=scratch("weights", logits, *logits.shape))
        parts.append(cells @ weights.mT - centres)
    return dilation * from_subgrids(tiles.assemble(parts), dilation, *query.shape[-2:])


def _positions(size: int) -> Tensor:
    """Return (x, y) of the cells of a square relative to its centre, row-major: [2, size*size]."""
    steps = torch.arange(size) - (size - 1) / 2
    return torch.stack((steps.repeat(size), steps.repeat_interleave(size)))
