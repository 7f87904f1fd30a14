"""What the README shows works as it stands there."""

import importlib
import re
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch

from encoders import add_features_options, load_features
from models.protocol import PROTOCOLS
from tests.builders import Outcome, evaluate, frame_pixels, mask_pixels, require_refusal, require_success, write_davis
from utils.options import ArgumentParser
from utils.visualize import VideoWriter

ROOT = Path(__file__).parents[1]


def snippet(heading: str) -> str:
    """The Python under a heading."""
    section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_use_it_in_your_own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with VideoWriter(tmp_path / "video.mp4") as video:
        for index in range(4):
            video.write(np.ascontiguousarray(frame_pixels(index)[..., ::-1]))
    code = snippet("Use it in your own code").replace('"video.mp4"', repr(str(tmp_path / "video.mp4")))
    names = {"first_mask": mask_pixels(0, (1, 2))}
    exec(code, names)
    assert names["objects"].propagator.frame == 4
    assert names["mask"].shape == names["first_mask"].shape
    assert set(np.unique(names["mask"])) <= {0, 1, 2}


def test_your_own_features(tmp_path, monkeypatch):
    """With random weights, since nothing is downloaded."""
    torchvision = pytest.importorskip("torchvision")
    (tmp_path / "features.py").write_text(snippet("Your own features").removeprefix("# features.py\n"))
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--encoder", "nowhere:function"], "--encoder nowhere:function"),
        (["--encoder", "tests.features:nothing"], "--encoder tests.features:nothing"),
        (["--encoder", "tests.features"], "module:function"),
        (["--encoder", "tests.features:nothing_to_call"], "None"),
        (["--encoder", "tests.features:other_stride"], "stride 8"),
        (["--encoder", "tests.features:pair_of_strides"], "(8, 8)"),
        (["--encoder", "tests.features:tokens"], "(1, 288, 17)"),
        (["--encoder", "tests.features:kinds", "--amp"], "--amp"),
        (["--encoder", "tests.features:kinds", "--compact"], "--protocol crw"),
        (["--encoder", "tests.features:kinds", "--protocol", "other"], "--protocol"),
    ],
)
def test_encoders_that_cannot_be_used(options, told, tmp_path):
    data = write_davis(tmp_path / "davis")
    require_refusal(evaluate(*options, "--datapath", data, "--savepath", tmp_path / "results"), told)


def test_a_changed_encoder_is_another_run(tmp_path, monkeypatch):
    """By its source, and by its weights; what it imports when it is called is found."""
    data = write_davis(tmp_path / "davis")
    monkeypatch.chdir(tmp_path)
    source = """
import torch
def make(device):
    import helper_of_mine
    torch.manual_seed(SEED)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8))
"""
    (tmp_path / "helper_of_mine.py").write_text("")
    command = "--encoder", "net_of_mine:make", "--datapath", data, "--savepath", tmp_path / "results"

    def run(seed: int, more: str = "") -> Outcome:
        (tmp_path / "net_of_mine.py").write_text(source.replace("SEED", str(seed)) + more)
        for name in ("net_of_mine", "helper_of_mine"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        with torch.random.fork_rng(devices=[]), patch.object(sys, "dont_write_bytecode", True):
            return evaluate(*command)

    require_success(run(0))
    require_success(run(0))
    require_refusal(run(1), "encoder_sha256")
    require_refusal(run(0, "# changed"), "encoder_sha256")


@pytest.mark.parametrize("protocol", ["liir", "crw", "dino"])
def test_liir_by_every_protocol(protocol, checkpoint):
    """Without --encoder it is LIIR's features, at their own stride, that are propagated so."""
    parser = ArgumentParser()
    add_features_options(parser)
    arguments = parser.parse_args(["--protocol", protocol, "--resume", str(checkpoint)])
    features = load_features(arguments, torch.device("cpu"))
    assert features.stride == 4
    assert features.propagation == PROTOCOLS[protocol][1]
