"""The backbone's initial weights, and its position embedding at other sizes."""

import math

import pytest
import torch
from torch import nn

from models.liir import LIIR
from models.resnet import resize_embedding


def test_first_values():
    torch.manual_seed(0)
    backbone = LIIR().feature_extraction
    assert not backbone.pos_embed1.any()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == (0 if name.endswith("bn2") else 1)).all()
            assert not module.bias.any()
        elif isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)


def test_position_embedding_is_resized():
    embedding = torch.randn(1, 64, 128, 128)
    assert resize_embedding(embedding, 128, 128) is embedding
    assert resize_embedding(embedding, 240, 427).shape == (1, 64, 240, 427)
