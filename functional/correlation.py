"""Local correlation of two feature maps, with several backends (docs/method.md §3)."""

import importlib.util
import os

import torch
from torch import Tensor

from functional.scratch import Scratch
from functional.tiles import Tiles, from_subgrids, to_subgrids


def correlate(query: Tensor, key: Tensor, radius: int, dilation: int = 1, *, backend: str = "native") -> Tensor:
    """Compute the logits of each query's window: dot products with its keys, 0 for cells outside the frame.

    query, key: [B, C, H, W] -> [B, P*P, H, W], P = 2·radius + 1, row-major, cells `dilation` apart.
    """
    if query.shape != key.shape or query.ndim != 4:
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} must be one shape [B, C, H, W]")
    return _BACKENDS[backend](query, key, radius, dilation)


def _native(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    queries = to_subgrids(query, dilation)
    tiles = Tiles(queries, radius)
    products = tiles.products(to_subgrids(key, dilation), Scratch(query, key))
    parts = [tiles.windows(logits).flatten(3).flatten(1, 2).mT.contiguous() for _, logits in products]
    return from_subgrids(tiles.assemble(parts), dilation, *query.shape[-2:])


def _sampler(query: Tensor, key: Tensor, radius: int, dilation: int) -> Tensor:
    from spatial_correlation_sampler import spatial_correlation_sample  # optional: scripts/install_sampler.sh

    size = 2 * radius + 1
    logits = spatial_correlation_sample(
        query.contiguous(), key.contiguous(), patch_size=size, dilation_patch=dilation
    )  # [B, P, P, H, W]
    return logits.flatten(1, 2)


# The Triton kernels fuse correlation and attention (functional/triton_kernels.py); plain correlation is native.
_BACKENDS = {"native": _native, "sampler": _sampler, "triton": _native}
BACKENDS = tuple(_BACKENDS)


def require_backend(name: str, device: torch.device) -> None:
    """Raise ValueError, with reason and remedy, unless a backend can be used on a device."""
    if name == "sampler":
        try:
            import spatial_correlation_sampler  # noqa: F401
        except ImportError as error:
            raise ValueError(f"sampler: {error}; run scripts/install_sampler.sh or use native") from error
    if name == "triton" and importlib.util.find_spec("triton") is None:
        raise ValueError("triton: is not installed; pip install triton or use native")
    if name == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"triton: needs a CUDA device, not {device.type}; use native")
