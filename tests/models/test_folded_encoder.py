"""The encoder with folded BatchNorm computes the features of the network."""

import copy

import pytest
import torch

from models import folded_encoder
from models.folded_encoder import FoldedEncoder
from models.liir import LIIR
from tests.support.golden import golden_weights


@pytest.mark.parametrize("size", [(4, 4), (12, 20), (64, 36)])
def test_stride_is_four(size):
    features = FoldedEncoder(LIIR())(torch.zeros(2, 3, *size))
    assert features.shape == (2, 64, size[0] // 4, size[1] // 4)


@pytest.fixture
def model() -> LIIR:
    """In float64 and evaluation mode, with running statistics that are not the initial ones."""
    model = LIIR().eval().requires_grad_(False)
    model.load_state_dict(golden_weights(0.35))
    return model.double()


SIZES = [(16, 24), (256, 256), (32, 20)]  # they may change from frame to frame


def test_folded_for_inference_it_computes_the_same(model):
    encode = FoldedEncoder(model)
    for size in SIZES:
        frames = torch.rand(2, 3, *size, dtype=torch.float64) - 0.5
        torch.testing.assert_close(encode(frames), model.encode(frames), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("fused", [True, False])
def test_folded_for_inference_in_float32(fused, model, monkeypatch):
    """With and without oneDNN's fused convolutions, within the golden tensors' tolerance."""
    if not fused:
        monkeypatch.setattr(folded_encoder, "_fused_convolution", lambda _: None)
    elif folded_encoder._fused_convolution(torch.float32) is None:
        pytest.skip("this PyTorch has no fused convolutions")
    encode = FoldedEncoder(copy.deepcopy(model).float())
    for size in SIZES:
        frames = torch.rand(2, 3, *size) - 0.5
        torch.testing.assert_close(encode(frames).double(), model.encode(frames.double()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_folded_for_inference_in_bfloat16(fused, model, monkeypatch):
    """Relative error below 3 %; features are float32."""
    if not fused:
        monkeypatch.setattr(folded_encoder, "_fused_convolution", lambda _: None)
    encode = FoldedEncoder(copy.deepcopy(model).float()).to(torch.bfloat16)
    frames = torch.rand(2, 3, 16, 24) - 0.5
    features, expected = encode(frames), model.encode(frames.double()).float()
    assert features.dtype == torch.float32
    assert (features - expected).norm() / expected.norm() < 0.03
