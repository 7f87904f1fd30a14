"""The network's parameters: the names, shapes and first values of the reference."""

import copy
import csv
import math

import pytest
import torch
from torch import nn

from models import inference
from models.inference import InferenceEncoder
from models.liir import LIIR, TRAINING_ONLY
from models.resnet import resize_embedding
from tests.conftest import FIXTURES, golden_weights

STAGES = {
    "plain": {},
    "stage 1 semantic": {"semantic": True},
    "stage 2": {"momentum": True},
}


@pytest.mark.parametrize("stage", STAGES)
def test_names_and_shapes_are_the_references(stage):
    with (FIXTURES / "state_dict.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if stage in row["in"].split(", ")]
    expected = {row["name"]: row["shape"] for row in rows}
    state = LIIR(**STAGES[stage]).state_dict()
    assert {name: ",".join(map(str, value.shape)) or "scalar" for name, value in state.items()} == expected


def test_training_only_weights_are_what_evaluation_does_without():
    plain, full = LIIR().state_dict().keys(), LIIR(momentum=True).state_dict().keys()
    assert {name for name in full if not name.startswith(TRAINING_ONLY)} == plain


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


def test_key_head_starts_as_the_region_head_without_gradient():
    model = LIIR(momentum=True)
    assert torch.equal(model.conv_semantic.weight, model.conv_semantic_k.weight)
    assert not any(parameter.requires_grad for parameter in model.conv_semantic_k.parameters())
    assert all(parameter.requires_grad for parameter in model.conv_semantic.parameters())


@pytest.mark.parametrize("size", [(4, 4), (12, 20), (64, 36)])
def test_stride_is_four(size):
    features = InferenceEncoder(LIIR())(torch.zeros(2, 3, *size))
    assert features.shape == (2, 64, size[0] // 4, size[1] // 4)


@pytest.fixture
def model() -> LIIR:
    """In float64, in evaluation mode, its running statistics not those of a fresh network."""
    model = LIIR().eval().requires_grad_(False)
    model.load_state_dict(golden_weights(0.35))
    return model.double()


SIZES = [(16, 24), (256, 256), (32, 20)]  # they may change from frame to frame


def test_folded_for_inference_it_computes_the_same(model):
    encode = InferenceEncoder(model)
    for size in SIZES:
        frames = torch.rand(2, 3, *size, dtype=torch.float64) - 0.5
        torch.testing.assert_close(encode(frames), model.encode(frames), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("fused", [True, False])
def test_folded_for_inference_in_float32(fused, model, monkeypatch):
    """With oneDNN's fused convolutions, and where there are none; within the golden tensors' tolerance."""
    if not fused:
        monkeypatch.setattr(inference, "_fused_convolution", lambda _: None)
    elif inference._fused_convolution(torch.float32) is None:
        pytest.skip("this PyTorch has no fused convolutions")
    encode = InferenceEncoder(copy.deepcopy(model).float())
    for size in SIZES:
        frames = torch.rand(2, 3, *size) - 0.5
        torch.testing.assert_close(encode(frames).double(), model.encode(frames.double()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_folded_for_inference_in_bfloat16(fused, model, monkeypatch):
    """Three digits of float32's seven, and float32 features."""
    if not fused:
        monkeypatch.setattr(inference, "_fused_convolution", lambda _: None)
    encode = InferenceEncoder(copy.deepcopy(model).float()).to(torch.bfloat16)
    frames = torch.rand(2, 3, 16, 24) - 0.5
    features, expected = encode(frames), model.encode(frames.double()).float()
    assert features.dtype == torch.float32
    assert (features - expected).norm() / expected.norm() < 0.03


def test_position_embedding_is_resized():
    embedding = torch.randn(1, 64, 128, 128)
    assert resize_embedding(embedding, 128, 128) is embedding
    assert resize_embedding(embedding, 240, 427).shape == (1, 64, 240, 427)
