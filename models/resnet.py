"""The encoder: ResNet-18 at stride 4 with a learned absolute position embedding (docs/method.md §1)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS = 64
STAGES = ((64, 1), (128, 2), (256, 1), (256, 1))  # (planes, stride) of layer1 … layer4
POSITION_GRID = 128  # the stem's grid on a 256×256 training frame


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al., 2016)."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, planes, H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + shortcut)


class ResNet18(nn.Module):
    """Frames [B, 3, H, W] -> backbone features [B, 256, H/4, W/4], without pooling and classifier."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed1 = nn.Parameter(torch.zeros(1, STEM_CHANNELS, POSITION_GRID, POSITION_GRID))
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        planes = (STEM_CHANNELS, *(width for width, _ in STAGES))
        for i, (width, stride) in enumerate(STAGES, start=1):
            blocks = BasicBlock(planes[i - 1], width, stride), BasicBlock(width, width, 1)
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)

    def forward(self, frames: Tensor, position: Tensor | None = None) -> Tensor:
        """position: an embedding [1, 64, h, w] to add instead of the learned one."""
        x = self.relu(self.bn1(self.conv1(frames)))
        x = x + resize_embedding(self.pos_embed1 if position is None else position, *x.shape[2:])
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def resize_embedding(embedding: Tensor, height: int, width: int) -> Tensor:
    """A position embedding [1, C, h, w] on a grid of another size, [1, C, height, width]."""
    if embedding.shape[2:] == (height, width):
        return embedding
    return F.interpolate(embedding, (height, width), mode="bicubic", align_corners=False)
