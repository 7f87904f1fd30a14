"""LIIR's parameters: one encoder, a pixel head, a region head and the region head's moving average (REFERENCE §1)."""

import torch
from torch import Tensor, nn

from models.resnet import STAGES, ResNet18

PIXEL_CHANNELS = 64
REGION_CHANNELS = 128
TRAINING_ONLY = ("conv_semantic.", "conv_semantic_k.", "colorizer.")  # what in a checkpoint evaluation does not need


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

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised Lab frames [B, 3, H, W] -> pixel features [B, 64, H/4, W/4]; H and W are multiples of 4."""
        return self.post_convolution(self.feature_extraction(frames))


def for_inference(model: LIIR, device: torch.device | str) -> LIIR:
    """The model on `device`, frozen, in evaluation mode and in the memory layout convolutions like best."""
    return model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)
