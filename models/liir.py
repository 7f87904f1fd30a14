"""LIIR's parameters: one encoder, a pixel head, a region head and its moving average (docs/method.md §1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.resnet import STAGES, ResNet18

PIXEL_CHANNELS = 64
REGION_CHANNELS = 128
TRAINING_ONLY = ("conv_semantic.", "conv_semantic_k.", "colorizer.")  # what in a checkpoint evaluation does not need


class PairFeatures(NamedTuple):
    """Features of a batch of pairs: keys come from the reference frames, queries from the target frames."""

    pixel_key: Tensor  # [B, 64, H/4, W/4]
    pixel_query: Tensor
    region_key: Tensor | None = None  # [B, 128, H/8, W/8]; no gradient in stage 2
    region_query: Tensor | None = None
    shifted_query: Tensor | None = None  # the region query under another position embedding


class LIIR(nn.Module):
    """The network; stage 1 may have a region head (`semantic`), stage 2 also has its moving average (`momentum`).

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
        """Move the key head towards the region head: k <- momentum · k + (1 - momentum) · q."""
        for key, query in zip(self.conv_semantic_k.parameters(), self.conv_semantic.parameters(), strict=True):
            key.mul_(momentum).add_(query, alpha=1 - momentum)

    def forward(self, reference: Tensor, target: Tensor, position: Tensor | None = None) -> PairFeatures:
        """Features of a batch of pairs, [B, 3, H, W] each.

        Two passes, since BatchNorm's statistics are those of one frame of each pair; their order decides the running
        statistics. Reference: the target goes first in stage 2, the reference in stage 1.
        position: another position embedding, to compare the target with other videos by.
        """
        momentum = hasattr(self, "conv_semantic_k")
        if momentum:
            of_target, of_reference = self.feature_extraction(target), self.feature_extraction(reference)
        else:
            of_reference, of_target = self.feature_extraction(reference), self.feature_extraction(target)
        pixels = self.post_convolution(of_reference), self.post_convolution(of_target)
        if not hasattr(self, "conv_semantic"):
            return PairFeatures(*pixels)
        query = self.conv_semantic(of_target)
        shifted = None if position is None else self.conv_semantic(self.feature_extraction(target, position))
        if momentum:
            with torch.no_grad():
                return PairFeatures(*pixels, self.conv_semantic_k(of_reference), query, shifted)
        return PairFeatures(*pixels, self.conv_semantic(of_reference), query, shifted)

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised Lab frames [B, 3, H, W] -> pixel features [B, 64, H/4, W/4]; H and W are multiples of 4."""
        return self.post_convolution(self.feature_extraction(frames))
