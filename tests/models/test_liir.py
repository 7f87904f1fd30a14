"""The network's parameters: the reference's names, shapes and stages."""

import csv

import pytest
import torch

from models.liir import LIIR, TRAINING_ONLY
from tests.support.golden import FIXTURES

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
