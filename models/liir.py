"""The network: an encoder, a pixel head, a region head and its moving average (docs/method.md §1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.resnet import STAGES, ResNet18

PIXEL_CHANNELS = 64
REGION_CHANNELS = 128
TRAINING_ONLY = ("conv_semantic.", "conv_semantic_k.", "colorizer.")  # in checkpoints, not needed in evaluation


class PairFeatures(NamedTuple):
    """Features of a batch of pairs: keys of the reference frames, queries of the target frames."""

    pixel_key: Tensor  # [B, 64, H/4, W/4]
    pixel_query: Tensor
    region_key: Tensor | None = None  # [B, 128, H/8, W/8]; no gradient in stage 2
    region_query: Tensor | None = None
    shifted_query: Tensor | None = None  # region query with another position embedding


class LIIR(nn.Module):
    """The network; `semantic`: with a region head (stage 1); `momentum`: also with its moving average (stage 2).

    Parameter names are those of the released checkpoints.
    """

    def __init__(self, *, semantic: bool = False, momentum: bool = False) -> None:
        super().__init__()
        channels = STAGES[-1][0]
        self.feature_extraction = ResNet18()
        self.post_convolution = nn.Conv2d(channels, PIXEL_CHANNELS, 3, padding=1)
        if semantic or momentum:
            self.conv_semantic = nn.Conv2d(channels, REGION_CHANNELS, 3, stride=2, padding=1)
        if momentum:
            self.conv_semantic_k = nn.Conv2d(channels, REGION_CHANNELS, 3, stride=2, padding=1)
            self.conv_semantic_k.load_state_dict(self.conv_semantic.state_dict())
            self.conv_semantic_k.requires_grad_(False)

    @torch.no_grad()
    def update_key_head(self, momentum: float) -> None:
        """Update the key head as a moving average of the region head: k <- momentum · k + (1 - momentum) · q."""
        for key, query in zip(self.conv_semantic_k.parameters(), self.conv_semantic.parameters(), strict=True):
            key.mul_(momentum).add_(query, alpha=1 - momentum)

    def forward(self, reference: Tensor, target: Tensor, embedding: Tensor | None = None) -> PairFeatures:
        """Encode a batch of pairs, [B, 3, H, W] each.

        BatchNorm normalises reference and target separately, in two passes; the order affects its running statistics:
        as in the reference implementation, the reference frame comes first in stage 1, the target in stage 2.
        embedding: another position embedding [1, 64, h, w], to encode the target also with it, for the negatives.
        """
        momentum = hasattr(self, "conv_semantic_k")
        if momentum:
            target_features, reference_features = self.feature_extraction(target), self.feature_extraction(reference)
        else:
            reference_features, target_features = self.feature_extraction(reference), self.feature_extraction(target)
        pixels = self.post_convolution(reference_features), self.post_convolution(target_features)
        if not hasattr(self, "conv_semantic"):
            return PairFeatures(*pixels)
        query = self.conv_semantic(target_features)
        shifted = None if embedding is None else self.conv_semantic(self.feature_extraction(target, embedding))
        if momentum:
            with torch.no_grad():
                return PairFeatures(*pixels, self.conv_semantic_k(reference_features), query, shifted)
        return PairFeatures(*pixels, self.conv_semantic(reference_features), query, shifted)

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised Lab frames [B, 3, H, W] -> pixel features [B, 64, ⌈H/4⌉, ⌈W/4⌉]."""
        return self.post_convolution(self.feature_extraction(frames))
