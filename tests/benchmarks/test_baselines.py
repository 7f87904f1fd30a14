"""Baselines without training: their masks are laid out as predictions and can be scored."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.baselines import METHODS, STRIDE, encode_colours
from tests.support.davis import evaluate, write_davis
from tests.support.images import mask_pixels, read_pixels
from tests.support.repository import ROOT

SCRIPT = ROOT / "benchmarks" / "baselines.py"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_masks_are_predictions(method, tmp_path):
    data, masks = write_davis(tmp_path / "davis", ("bear", "cow")), tmp_path / "masks"
    command = [sys.executable, str(SCRIPT), method, "--datapath", str(data), "--savepath", str(masks)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    first, later = (read_pixels(masks / "bear" / f"0000{index}.png") for index in (0, 2))
    assert np.array_equal(first, mask_pixels(0, tuple(np.unique(first)[1:])))
    if method == "copy":
        assert np.array_equal(first, later)
    assert set(np.unique(later)) <= set(np.unique(first))
    outcome = evaluate("--predictions", masks, "--datapath", data, "--savepath", tmp_path / "scores")
    assert outcome.code == 0, outcome.stderr


def test_a_colour_has_the_largest_product_with_itself():
    """Very small and very large values too, and in spite of rounding."""
    cells = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells[..., 0, 0], cells[..., 0, 1], cells[..., 0, 2] = 1, -1, 0
    features = encode_colours(cells.repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)).flatten(2)[0].T
    assert torch.equal((features @ features.T).argmax(1), torch.arange(len(features)))
