"""The Python code in the documents runs as it is printed there."""

import re
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch

from tests.support.commands import require_success
from tests.support.davis import evaluate, write_davis
from tests.support.images import frame_pixels, mask_pixels
from tests.support.repository import ROOT
from utils.video_writer import VideoWriter


def snippet(page: str, heading: str) -> str:
    """The Python under a heading of a page."""
    section = (ROOT / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_python_api(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with VideoWriter(tmp_path / "video.mp4") as video:
        for index in range(4):
            video.write(np.ascontiguousarray(frame_pixels(index)[..., ::-1]))
    code = snippet("README.md", "Python API").replace('"video.mp4"', repr(str(tmp_path / "video.mp4")))
    names = {"first_mask": mask_pixels(0, (1, 2))}
    exec(code, names)
    assert names["objects"].propagator.frame == 4
    assert names["mask"].shape == names["first_mask"].shape
    assert set(np.unique(names["mask"])) <= {0, 1, 2}


def test_your_own_features(tmp_path, monkeypatch):
    """With random weights, since nothing is downloaded."""
    torchvision = pytest.importorskip("torchvision")
    (tmp_path / "features.py").write_text(snippet("docs/own_features.md", "Example").removeprefix("# features.py\n"))
    monkeypatch.chdir(tmp_path)
    network = torchvision.models.resnet18
    data = write_davis(tmp_path / "davis")
    with patch.object(torchvision.models, "resnet18", lambda **_: network()), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outcome = evaluate(
            "--encoder",
            "features:imagenet",
            "--protocol",
            "crw",
            "--datapath",
            data,
            "--savepath",
            tmp_path / "results",
        )
    require_success(outcome)
    first = cv2.imread(str(tmp_path / "results" / "benchmark" / "bear" / "00000.png"))
    assert first.any()
