"""The training losses: pixel, region and inter-video reconstruction, and compactness (docs/method.md §6)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from functional.compactness import compactness_loss
from functional.correlation import correlate
from functional.reconstruction import Negatives, reconstruct, reconstruct_inter, reconstruction_loss
from models.liir import PairFeatures

PIXEL_RADIUS = 6
REGION_RADIUS = 3
REGION_WEIGHT = 0.5
COLOUR_CHANNELS = (1, 2)  # a and b of Lab; one of them is dropped and reconstructed
BOTTLENECK_SCALE = 3 / 2  # compensates for the dropped channel


def drop_channel(frames: Tensor, channel: int) -> Tensor:
    """Return Lab frames [B, 3, H, W] with one channel, to be reconstructed, set to 0 and the others scaled by 3/2."""
    mask = torch.ones(3, 1, 1, device=frames.device)
    mask[channel] = 0
    return frames * mask * BOTTLENECK_SCALE


def compute_losses(
    features: PairFeatures,
    reference: Tensor,
    target: Tensor,
    *,
    compact: bool,
    negatives: Negatives | None = None,
    backend: str = "native",
) -> dict[str, Tensor]:
    """Compute the losses "total", "pixel", "region", "compactness", as far as they apply, and reconstructions by name.

    "reconstruction" is that of the dropped channel [B, 1, H/4, W/4], "region_reconstruction" [B, 1, H/8, W/8].

    reference, target: the dropped channel of the unmodified frames, [B, 1, H, W].
    """
    weights = correlate(features.pixel_query, features.pixel_key, PIXEL_RADIUS, backend=backend).softmax(1)
    stride = reference.shape[-1] // weights.shape[-1]
    reconstruction = reconstruct(weights, reference[:, :, ::stride, ::stride])  # [B, 1, H/4, W/4]
    losses = {"pixel": reconstruction_loss(resize(reconstruction, target), target)}
    total = losses["pixel"]
    if features.region_query is not None:
        region = reconstruct_region(features, reference, negatives, backend=backend)
        losses["region"] = reconstruction_loss(region, resize(target, region))
        losses["region_reconstruction"] = region
        total = total + REGION_WEIGHT * losses["region"]
    if compact:
        losses["compactness"] = compactness_loss(weights)
        total = total + losses["compactness"]
    return {"total": total, **losses, "reconstruction": reconstruction}


def reconstruct_region(
    features: PairFeatures, reference: Tensor, negatives: Negatives | None, *, backend: str
) -> Tensor:
    """Reconstruct the dropped channel on the region grid, [B, 1, H/8, W/8]; negatives: added to the softmax."""
    query, key = features.region_query, features.region_key
    assert query is not None and key is not None  # present in a model with a region head
    colours = resize(reference, query)
    if negatives is None:
        return reconstruct(correlate(query, key, REGION_RADIUS, backend=backend).softmax(1), colours)
    return reconstruct_inter(
        query, key, colours, negatives, REGION_RADIUS, shifted_query=features.shifted_query, backend=backend
    )


def resize(colours: Tensor, like: Tensor) -> Tensor:
    """Resize colours [B, 1, H, W] bilinearly to the grid of another map [B, C, h, w]: [B, 1, h, w]."""
    return F.interpolate(colours, like.shape[-2:], mode="bilinear", align_corners=False)
