"""Local correlation of two feature maps, by one of several backends (docs/method.md §3)."""

from collections.abc import Iterator

from torch import Tensor

from functional.windows import ShiftedWindows, Tile, Windows, from_subgrids, pad_frame, tiles, to_subgrids


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1, *, backend: str = "native") -> Tensor:
    """Dot products of each query with the keys of its window: logits, 0 where the cell is outside the frame.

    query, key: [B, C, H, W] -> [B, P*P, H, W], P = 2·radius + 1, cells row-major and `dilation` apart.
    """
    if query.shape != key.shape or query.ndim != 4:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} must be one shape [B, C, H, W]")
    return _BACKENDS[backend](query, key, radius, dilation)


def _native(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    logits = window_logits(to_subgrids(query, dilation), to_subgrids(key, dilation), Windows(radius))
    return from_subgrids(logits, dilation, *query.shape[-2:])


def _sampler(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    from spatial_correlation_sampler import spatial_correlation_sample  # optional: scripts/install_sampler.sh

    size = 2 * radius + 1
    logits = spatial_correlation_sample(
        query.contiguous(), key.contiguous(), patch_size=size, dilation_patch=dilation
    )  # [B, P, P, H, W]
    return logits.flatten(1, 2)


_BACKENDS = {"native": _native, "sampler": _sampler}
BACKENDS = tuple(_BACKENDS)


def tile_logits(query: Tensor, key: Tensor, windows: Windows | ShiftedWindows) -> Iterator[tuple[Tile, Tensor]]:
    """The logits of one tile of queries after the other: query, key [B, C, H, W] -> [B, queries, P*P] each."""
    padded = pad_frame(key, windows.padding)[:, None]
    for tile in tiles(*query.shape[-2:]):
        block = tile.rows(query)[:, None] @ windows.block(padded, tile)  # [B, 1, queries, cells]
        yield tile, windows.extract(block, tile)[:, :, 0]


def window_logits(query: Tensor, key: Tensor, windows: Windows | ShiftedWindows) -> Tensor:
    """The logits of all windows of one reference: query, key [B, C, H, W] -> [B, P*P, H, W]."""
    logits = query.new_empty(query.shape[0], windows.size**2, *query.shape[-2:])
    for tile, rows in tile_logits(query, key, windows):
        tile.write(logits, rows)
    return logits
