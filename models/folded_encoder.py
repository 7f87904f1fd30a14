"""The encoder for inference: BatchNorm, shortcut additions and ReLU are fused into the convolutions."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from models.liir import LIIR
from models.resnet import BasicBlock, resize_embedding


class FoldedEncoder(nn.Module):
    """A faster `LIIR.encode` in evaluation mode, equal up to rounding errors; without gradient."""

    def __init__(self, model: LIIR) -> None:
        super().__init__()
        backbone = model.feature_extraction
        self.stem = FoldedConvolution(backbone.conv1, backbone.bn1, relu=True)
        self.embedding = nn.Buffer(backbone.pos_embed1.detach().clone())
        stages = backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4
        self.blocks = nn.ModuleList(FoldedBlock(cast(BasicBlock, block)) for stage in stages for block in stage)
        self.head = FoldedConvolution(model.post_convolution, None, relu=False)
        self.requires_grad_(False).eval()
        self._resized: Tensor | None = None  # the position embedding on the last frame's grid

    @torch.inference_mode()
    def forward(self, frames: Tensor) -> Tensor:
        """Normalised Lab frames [B, 3, H, W] -> pixel features [B, 64, ⌈H/4⌉, ⌈W/4⌉].

        Computes in the dtype of its weights; the features of a bfloat16 encoder are returned in float32.
        """
        frames = frames.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        features = self.stem(frames)
        if self._resized is None or self._resized.shape[2:] != features.shape[2:]:
            resized = resize_embedding(self.embedding, *features.shape[2:])
            self._resized = resized.contiguous(memory_format=torch.channels_last)
        features += self._resized
        for block in self.blocks:
            features = block(features)
        features = self.head(features)
        return features.float() if features.dtype == torch.bfloat16 else features


class FoldedBlock(nn.Module):
    """A `BasicBlock` of folded convolutions, [B, C, H, W] -> [B, planes, H/stride, W/stride]."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.first = FoldedConvolution(block.conv1, block.bn1, relu=True)
        self.second = FoldedConvolution(block.conv2, block.bn2, relu=True)
        self.downsample = None if block.downsample is None else FoldedConvolution(*block.downsample, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x if self.downsample is None else self.downsample(x))


class FoldedConvolution(nn.Module):
    """A convolution with folded BatchNorm, optionally fused with a residual addition and ReLU."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, *, relu: bool) -> None:
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None  # always tracked in `ResNet18`
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            weight, bias = fuse_conv_bn_weights(weight, bias, *statistics)
        assert bias is not None and isinstance(convolution.padding, tuple)  # the head has a bias, folding creates one
        self.weight = nn.Buffer(weight.detach().clone(memory_format=torch.channels_last))
        self.bias = nn.Buffer(bias.detach().clone())
        self.stride, self.padding = list(convolution.stride), list(convolution.padding)
        self.relu = relu

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, C', H/stride, W/stride]; shortcut: a map of the output's shape, added before ReLU."""
        single = x.shape[2:].numel() == 1  # fused convolutions of 1×1 maps fail in PyTorch 2.6 … 2.11
        fused = _fused_convolution(x.dtype) if x.device.type == "cpu" and not single else None
        if fused is not None:
            geometry = self.weight, self.bias, self.padding, self.stride, [1, 1], 1
            activation = "relu" if self.relu else "none"
            if shortcut is None:
                return fused(x, *geometry, activation, [], "")
            return fused.binary(x, shortcut, *geometry, "add", 1.0, activation, [], "")
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if shortcut is not None:
            out += shortcut
        return out.relu_() if self.relu else out


def _fused_convolution(dtype: torch.dtype) -> Any:
    """Return oneDNN's fused convolution, an internal operator of PyTorch; None if it is not available."""
    if not torch.backends.mkldnn.is_available() or dtype not in (torch.float32, torch.bfloat16):
        return None
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
