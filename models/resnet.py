"""The encoder: ResNet-18 at stride 4 with a learned absolute position embedding (docs/method.md §1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS = 64
STAGES = ((64, 1), (128, 2), (256, 1), (256, 1))  # (planes, stride) of layer1 … layer4
POSITION_GRID = 128  # the stem's grid on a 256×256 training frame


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al., 2016).

    torchvision's adds the shortcut in place; under autocast that rounds the float32 sums of layer1 to bfloat16.
    """

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
    """Frames [B, 3, H, W] -> backbone features [B, 256, H/4, W/4], without max-pooling and classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed1 = nn.Parameter(torch.zeros(1, STEM_CHANNELS, POSITION_GRID, POSITION_GRID))
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = make_layer(STEM_CHANNELS, *STAGES[0])
        self.layer2 = make_layer(STAGES[0][0], *STAGES[1])
        self.layer3 = make_layer(STAGES[1][0], *STAGES[2])
        self.layer4 = make_layer(STAGES[2][0], *STAGES[3])
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)

    def forward(self, frames: Tensor, embedding: Tensor | None = None) -> Tensor:
        """[B, 3, H, W] -> [B, 256, H/4, W/4]; embedding: replaces the learned position embedding, [1, 64, h, w]."""
        x = self.relu(self.bn1(self.conv1(frames)))
        x = x + resize_embedding(self.pos_embed1 if embedding is None else embedding, *x.shape[2:])
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def make_layer(inplanes: int, planes: int, stride: int) -> nn.Sequential:
    """Two blocks: [B, inplanes, H, W] -> [B, planes, H/stride, W/stride]."""
    return nn.Sequential(BasicBlock(inplanes, planes, stride), BasicBlock(planes, planes, 1))


def resize_embedding(embedding: Tensor, height: int, width: int) -> Tensor:
    """Resize a position embedding [1, C, h, w] to [1, C, height, width] by bicubic interpolation."""
    if embedding.shape[2:] == (height, width):
        return embedding
    return F.interpolate(embedding, (height, width), mode="bicubic", align_corners=False)
