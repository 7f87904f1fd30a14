"""The reconstruction loss on held-out videos."""

import json

import cv2
import pytest
import torch
from torch.nn import functional as F

from functional.color import normalised_lab
from models.liir import LIIR
from scripts import measure_reconstruction
from scripts.measure_reconstruction import spread_pairs
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import run_script


def test_pairs_are_spread_over_the_videos(videos):
    index = measure_reconstruction.read_index(videos / "videos.csv")
    for gap in (2, 5, 8):
        pairs = spread_pairs(index, videos, gap, 3)
        assert len(pairs) == 3 * len(index)
        assert {int(pair.target.stem) - int(pair.reference.stem) for pair in pairs} == {gap}
        assert all(pair.reference.exists() and pair.target.exists() for pair in pairs)
    assert spread_pairs(index, videos, 12, 3) == []


def test_zero_features_have_the_loss_of_the_mean_colour(videos, tmp_path):
    """With zero features, every query gets the mean colour of its window, where cells outside count as 0."""
    model = LIIR()
    torch.nn.init.zeros_(model.post_convolution.weight)
    torch.nn.init.zeros_(model.post_convolution.bias)
    write_checkpoint(tmp_path / "flat.pt", model.state_dict())
    (tmp_path / "one.csv").write_text("v1,0,12\n")
    arguments = tmp_path / "flat.pt", "--datapath", videos, "--csvpath", tmp_path / "one.csv"
    outcome = run_script(measure_reconstruction, *arguments, "--pairs", 1, "--json", tmp_path / "loss.json")
    assert outcome.code == 0, outcome.stderr
    expected = []
    for gap in (2, 5, 8):
        reference, target = (
            normalised_lab(
                cv2.resize(cv2.imread(str(videos / "v1" / f"{i:05d}.jpg")) / 255, (256, 256)).astype("float32")
            )
            for i in (0, gap)
        )
        means = F.avg_pool2d(reference[None, 1:, ::4, ::4], 13, 1, 6)
        whole = F.interpolate(means, (256, 256), mode="bilinear", align_corners=False)
        expected.append(F.smooth_l1_loss(20 * whole, 20 * target[None, 1:]))
    (row,) = json.loads((tmp_path / "loss.json").read_text())["checkpoints"]
    assert row["steps"] is None
    assert row["loss"] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
