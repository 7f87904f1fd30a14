"""Long-range search: where in an old reference a query's window should be centred (docs/method.md §3)."""

import torch
from torch import Tensor

from functional.correlation import correlate
from functional.scratch import Scratch
from functional.windows import Windows, displacements, from_subgrids, pad_frame, tiles, to_subgrids

SEARCH_GAP = 15  # references older than this many frames are searched
MAX_DILATION = 4


def search_dilation(gap: int) -> int | None:
    """The dilation with which a reference `gap` frames old is searched; None if it is recent enough not to be."""
    return min(MAX_DILATION, gap // SEARCH_GAP + 1) if gap > SEARCH_GAP else None


def expected_offset(query: Tensor, key: Tensor, radius: int, dilation: int, *, backend: str = "native") -> Tensor:
    """The soft-argmax of a dilated window of one reference, fractional.

    query, key: [B, C, H, W] -> [B, 2, H, W], (dx, dy) in cells. Cells outside the frame have logit 0 and count.
    """
    if backend != "native":
        weights = correlate(query, key, radius, dilation, backend=backend).softmax(1)
        steps = dilation * displacements(radius, device=query.device, dtype=query.dtype)  # [P*P, 2]
        return torch.einsum("bphw,pc->bchw", weights, steps)
    queries, windows = to_subgrids(query, dilation), Windows(radius)
    keys = pad_frame(to_subgrids(key, dilation), radius).movedim(1, -1).contiguous()  # [B*d*d, H', W', C]
    offset = queries.new_empty(len(queries), 2, *queries.shape[-2:])
    scratch = Scratch(query, key)
    for tile in tiles(*queries.shape[-2:]):
        rows, columns = windows.area(tile)
        block = scratch.copy("block", keys[:, rows, columns])
        out = scratch("logits", keys, len(queries), tile.height * tile.width, block.shape[1] * block.shape[2])
        logits = torch.matmul(tile.rows(queries).contiguous(), block.flatten(1, 2).mT, out=out)
        logits += windows.place(tile, like=queries)[1].flatten(1)
        weights = torch.softmax(logits, -1, out=scratch("weights", logits, *logits.shape))
        cells, centres = (_positions(*size).to(queries) for size in (block.shape[1:3], (tile.height, tile.width)))
        tile.write(offset, weights @ cells - centres)
    return dilation * from_subgrids(offset, dilation, *query.shape[-2:])


def _positions(height: int, width: int) -> Tensor:
    """(x, y) of a rectangle's cells, row-major, seen from its middle: [height*width, 2]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x - (width - 1) / 2, y - (height - 1) / 2), -1).flatten(0, 1)
