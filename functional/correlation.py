"""Local correlation of two feature maps, by one of several backends (docs/method.md §3)."""

from torch import Tensor

from functional.windows import Windows, from_subgrids, pad_frame, tiles, to_subgrids


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1, *, backend: str = "native") -> Tensor:
    """Dot products of each query with the keys of its window: logits, 0 where the cell is outside the frame.

    query, key: [B, C, H, W] -> [B, P*P, H, W], P = 2·radius + 1, cells row-major and `dilation` apart.
    """
    if query.shape != key.shape or query.ndim != 4:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} must be one shape [B, C, H, W]")
    return _BACKENDS[backend](query, key, radius, dilation)


def _native(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    queries, keys = to_subgrids(query, dilation), to_subgrids(key, dilation)
    windows = Windows(radius)
    padded = pad_frame(keys, radius)
    logits = queries.new_empty(len(queries), windows.size**2, *queries.shape[-2:])
    for tile in tiles(*queries.shape[-2:]):
        rows, columns = windows.area(tile)
        block = padded[..., rows, columns]
        products = (tile.rows(queries) @ block.flatten(2)).unflatten(2, block.shape[2:])
        tile.write(logits, windows.extract(products, tile).flatten(3).flatten(1, 2))
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
