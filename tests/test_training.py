"""The training script as its users run it, on small videos that the test makes."""

import json
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.liir import LIIR, TRAINING_ONLY
from training import load_pretrained
from utils.checkpoint import load_weights, read_state_dict

ROOT = Path(__file__).parents[1]
STAGE_1 = ["--semantic", "--compact", "--lr", "1e-3"]
STAGE_2 = ["--usemomen", "--compact", "--factor", "1", "--lr", "1e-4"]
SHORT = ["--bsize", "2", "--worker", "1", "--log_every", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Five videos of a bright square that moves over noise, and their index."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    rows = []
    for v in range(5):
        (root / f"v{v}").mkdir()
        background = cv2.resize(random.integers(0, 255, (8, 10, 3), np.uint8), (100, 80))
        for i in range(12):
            frame = background.copy()
            frame[20:40, 5 * i : 5 * i + 20] = random.integers(0, 255, 3)
            cv2.imwrite(str(root / f"v{v}" / f"{i:05d}.jpg"), frame)
        rows.append(f"v{v},0,12\n")
    (root / "videos.csv").write_text("".join(rows))
    return root


def command(videos: Path, savepath: Path, *options: object) -> list[str]:
    paths = ["--datapath", videos, "--csvpath", videos / "videos.csv", "--savepath", savepath]
    return [str(ROOT / "train.py"), *map(str, [*paths, *SHORT, *options])]


def train(*arguments, processes: int = 1) -> subprocess.CompletedProcess:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(2 // processes)}
    return subprocess.run([*launcher, *command(*arguments)], capture_output=True, text=True, env=environment)


def state(savepath: Path) -> dict:
    """Everything in last.pt, flat: name -> tensor or value."""
    flat = {}

    def visit(name: str, value) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{name}/{key}", inner)
        elif isinstance(value, list):
            for key, inner in enumerate(value):
                visit(f"{name}/{key}", inner)
        else:
            flat[name] = value

    visit("", torch.load(savepath / "last.pt", weights_only=True))
    return flat


def losses(savepath: Path) -> list[dict]:
    rows = [json.loads(line) for line in (savepath / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "pairs_per_second"} for row in rows]


def assert_equal_bits(first: Path, second: Path) -> None:
    ours, theirs = state(first), state(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        same = torch.equal if isinstance(value, torch.Tensor) else operator.eq
        assert same(value, theirs[name]), name
    assert losses(first) == losses(second)


@pytest.mark.soak
@pytest.mark.parametrize("recipe", [STAGE_1, STAGE_2], ids=["stage 1", "stage 2"])
def test_a_continued_training_is_an_undisturbed_one(recipe, videos, tmp_path):
    """Stopped in the middle of one epoch, and killed in another; to the bit."""
    assert train(videos, tmp_path / "whole", *recipe, "--steps", 6).returncode == 0
    parts = tmp_path / "parts"
    assert train(videos, parts, *recipe, "--steps", 2).returncode == 0
    process = subprocess.Popen([sys.executable, *command(videos, parts, *recipe, "--steps", 6, "--save_every", 1)])
    while len(losses(parts)) < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = train(videos, parts, *recipe, "--steps", 6)
    assert result.returncode == 0, result.stderr
    assert_equal_bits(parts, tmp_path / "whole")


@pytest.mark.soak
def test_asked_to_stop_it_saves(videos, tmp_path):
    process = subprocess.Popen(
        [sys.executable, *command(videos, tmp_path, *STAGE_1, "--steps", 50)], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "log.jsonl").exists() or not losses(tmp_path):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command continues" in errors
    assert state(tmp_path)["/position/steps"] == len(losses(tmp_path))


@pytest.mark.soak
def test_two_processes_see_what_one_sees(videos, tmp_path):
    pretrained = tmp_path / "first"
    assert train(videos, pretrained, "--semantic", "--steps", 1).returncode == 0
    # A small learning rate: Adam turns the rounding of a gradient near 0 into a step of that size.
    recipe = [*STAGE_2, "--lr", "1e-5", "--freeze_bn", "--steps", 5, "--pretrain", pretrained / "checkpoint_iter_1.pt"]
    for processes in (1, 2):
        result = train(videos, tmp_path / str(processes), *recipe, processes=processes)
        assert result.returncode == 0, result.stderr
    one, two = state(tmp_path / "1"), state(tmp_path / "2")
    assert one["/queue/videos"].tolist() == two["/queue/videos"].tolist()
    for name, value in one.items():
        if name.startswith(("/state_dict", "/queue/keys")) and value.is_floating_point():
            torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(losses(tmp_path / "1"), losses(tmp_path / "2"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_one_epoch_of_what_it_writes(videos, tmp_path):
    """The weights load for evaluation and for --pretrain, and the picture is there."""
    result = train(videos, tmp_path, "--epochs", 1, "--bsize", 6)
    assert result.returncode == 0, result.stderr
    assert "total" in result.stdout
    assert "left" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"last.pt", "checkpoint_epoch_1.pt", "log.jsonl"}
    assert list((tmp_path / "tensorboard").iterdir())
    assert cv2.imread(str(tmp_path / "pictures" / "epoch_1.png")).shape == (256, 4 * 256, 3)
    weights = read_state_dict(tmp_path / "checkpoint_epoch_1.pt")
    load_weights(LIIR(), weights, tmp_path, unused=TRAINING_ONLY)
    load_pretrained(LIIR(momentum=True), tmp_path / "checkpoint_epoch_1.pt")
    load_weights(LIIR(), read_state_dict(tmp_path / "last.pt"), tmp_path, unused=TRAINING_ONLY)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--bsize", "0"], "--bsize"),
        (["--bsize", "1000"], "--bsize 1000"),
        (["--epochs", "x"], "--epochs"),
        (["--pe_shuffle"], "--usemomen"),
        (["--pretrain", "none.pt"], "none.pt"),
        (["--resume", "none.pt"], "none.pt"),
        (["--csvpath", "none.csv"], "none.csv"),
        (["--savepath", "/proc/x"], "/proc/x"),
        (["--lr", "-1"], "--lr"),
    ],
)
def test_bad_options(videos, tmp_path, options, told):
    result = train(videos, tmp_path / "results", *options)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert told in result.stderr
