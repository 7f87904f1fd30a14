"""Exporting a checkpoint in half precision, without the training state."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.liir import LIIR
from tests.support.checkpoints import write_checkpoint
from tests.support.repository import ROOT
from utils.checkpoint import load_weights, read_state_dict, sha256

SCRIPT = ROOT / "scripts" / "export_checkpoint.py"


def export(*paths: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, paths)], capture_output=True, text=True)


def test_it_holds_the_weights_in_half_precision_and_no_queue(tmp_path):
    model = LIIR(momentum=True)
    state = model.state_dict()
    queue = {"colorizer.queue": torch.zeros(2, 3)}
    write_checkpoint(tmp_path / "last.pt", {**state, **queue}, optimizer={"step": 3})
    result = export(tmp_path / "last.pt", tmp_path / "small.pt")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(sha256(tmp_path / "small.pt"))
    assert torch.load(tmp_path / "small.pt", weights_only=True).keys() == {"state_dict"}
    small = read_state_dict(tmp_path / "small.pt")
    load_weights(model, small, tmp_path)
    for name, value in state.items():
        expected = value.half() if value.is_floating_point() else value
        assert small[name].dtype == expected.dtype
        assert torch.equal(small[name], expected), name
    assert (tmp_path / "small.pt").stat().st_size <= 14.5e6


def test_names_are_exported_without_the_prefix_of_a_wrapper(tmp_path):
    state = {"module.layer.weight": torch.ones(1), "module.colorizer.queue": torch.zeros(2)}
    result = export(write_checkpoint(tmp_path / "wrapped.pt", state), tmp_path / "small.pt")
    assert (result.returncode, result.stderr.count("warning: ")) == (0, 1)
    assert read_state_dict(tmp_path / "small.pt").keys() == {"layer.weight"}


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold(value, tmp_path):
    write_checkpoint(tmp_path / "big.pt", {"layer.weight": torch.tensor([value])})
    result = export(tmp_path / "big.pt", tmp_path / "small.pt")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "layer.weight" in result.stderr
    assert not (tmp_path / "small.pt").exists()
