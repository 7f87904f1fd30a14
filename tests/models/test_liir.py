"""The network's parameters: the reference's names, shapes and stages."""

import csv

import pytest
import torch
from torch import nn

from models.liir import LIIR, TRAINING_ONLY
from tests.support.golden import FIXTURES
from tests.support.problems import normal

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


def test_key_head_starts_as_the_region_head_without_gradient():
    model = LIIR(momentum=True)
    assert torch.equal(model.conv_semantic.weight, model.conv_semantic_k.weight)
    assert not any(parameter.requires_grad for parameter in model.conv_semantic_k.parameters())
    assert all(parameter.requires_grad for parameter in model.conv_semantic.parameters())


def test_the_shifted_query_is_the_target_under_the_other_embedding():
    model = LIIR(momentum=True).eval()
    reference, target = normal(2, 1, 3, 32, 32, dtype=torch.float32)
    other = normal(1, 64, 8, 8, seed=1, dtype=torch.float32)
    shifted = model(reference, target, other).shifted_query
    model.feature_extraction.pos_embed1 = nn.Parameter(other)
    torch.testing.assert_close(shifted, model(reference, target).region_query)
