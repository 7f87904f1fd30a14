"""Starting from the weights of another training, of any stage."""

from pathlib import Path

import pytest
import torch

from models.liir import LIIR
from training.pretrained import load_pretrained

STAGES = {"plain": {}, "stage 1": {"semantic": True}, "stage 2": {"momentum": True}}


@pytest.mark.parametrize("target", STAGES)
@pytest.mark.parametrize("source", STAGES)
def test_from_any_stage_to_any(source, target, tmp_path: Path):
    """The key head is never that of the file; heads that the file lacks keep their initial values."""
    torch.manual_seed(0)
    old, new = LIIR(**STAGES[source]), LIIR(**STAGES[target])
    if source == "stage 2":
        torch.nn.init.ones_(old.conv_semantic_k.weight)
    torch.save({"state_dict": old.state_dict()}, tmp_path / "old.pt")
    expected = {name: old.state_dict().get(name, value.clone()) for name, value in new.state_dict().items()}
    for name in ("weight", "bias"):
        if target == "stage 2":
            expected[f"conv_semantic_k.{name}"] = expected[f"conv_semantic.{name}"]
    load_pretrained(new, tmp_path / "old.pt")
    torch.testing.assert_close(new.state_dict(), expected, atol=0, rtol=0)


def test_a_prefix_of_a_wrapper_is_taken_off(tmp_path, capsys):
    old, new = LIIR(), LIIR()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in old.state_dict().items()}}, tmp_path / "old.pt"
    )
    load_pretrained(new, tmp_path / "old.pt")
    torch.testing.assert_close(new.state_dict(), old.state_dict(), atol=0, rtol=0)
    assert capsys.readouterr().err.count("warning: ") == 1
