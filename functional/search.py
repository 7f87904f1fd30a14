"""Long-range search: where in an old reference a query's window should be centred (docs/method.md §3)."""

import torch
from torch import Tensor

from functional.correlation import correlate, tile_logits
from functional.windows import Windows, displacements, from_subgrids, to_subgrids

SEARCH_GAP = 15  # references older than this many frames are searched
MAX_DILATION = 4


def search_dilation(gap: int) -> int | None:
    """The dilation with which a reference `gap` frames old is searched; None if it is recent enough not to be."""
    return min(MAX_DILATION, gap // SEARCH_GAP + 1) if gap > SEARCH_GAP else None


def expected_offset(query: Tensor, key: Tensor, radius: int, dilation: int, *, backend: str = "native") -> Tensor:
    """The soft-argmax of a dilated window of one reference, fractional.

    query, key: [B, C, H, W] -> [B, 2, H, W], (dx, dy) in cells. Cells outside the frame have logit 0 and count.
    """
    steps = dilation * displacements(radius, device=query.device, dtype=query.dtype)  # [P*P, 2]
    if backend != "native":
        weights = correlate(query, key, radius, dilation, backend=backend).softmax(1)
        return torch.einsum("bphw,pc->bchw", weights, steps)
    grids = to_subgrids(query, dilation)
    offset = grids.new_empty(grids.shape[0], 2, *grids.shape[-2:])
    for tile, logits in tile_logits(grids, to_subgrids(key, dilation), Windows(radius)):
        tile.write(offset, logits.softmax(-1) @ steps)
    return from_subgrids(offset, dilation, *query.shape[-2:])
