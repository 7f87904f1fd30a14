"""Local correlation of two feature maps, by one of several backends (docs/method.md §3)."""

from torch import Tensor

from functional.scratch import Scratch
from functional.windows import Tiles, from_subgrids, to_subgrids


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1, *, backend: str = "native") -> Tensor:
    """Dot products of each query with the keys of its window: logits, 0 where the cell is outside the frame.

    query, key: [B, C, H, W] -> [B, P*P, H, W], P = 2·radius + 1, cells row-major and `dilation` apart.
    """
    if query.shape != key.shape or query.ndim != 4:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} must be one shape [B, C, H, W]")
    return _BACKENDS[backend](query, key, radius, dilation)


def _native(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    queries = to_subgrids(query, dilation)
    tiles = Tiles(queries, radius)
    products = tiles.products(tiles.queries(queries), to_subgrids(key, dilation), Scratch(query, key))
    parts = [tiles.windows(of_chunk).flatten(3).flatten(1, 2).mT.contiguous() for _, of_chunk in products]
    return from_subgrids(tiles.assemble(parts), dilation, *query.shape[-2:])


def _sampler(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    from spatial_correlation_sampler import spatial_correlation_sample  # optional: scripts/install_sampler.sh

    size = 2 * radius + 1
    logits = spatial_correlation_sample(
        query.contiguous(), key.contiguous(), patch_size=size, dilation_patch=dilation
    )  # [B, P, P, H, W]
    return logits.flatten(1, 2)


# Triton's kernels fuse the correlation with what follows it (functional/triton_kernels.py); where nothing does, it is
# the native one.
_BACKENDS = {"native": _native, "sampler": _sampler, "triton": _native}
BACKENDS = tuple(_BACKENDS)
